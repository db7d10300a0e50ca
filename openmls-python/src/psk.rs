//! Pre-shared keys (RFC 9420 section 8.4, draft-ietf-mls-extensions section 4.5).
//!
//! The secrets are kept with the client, not with its groups. OpenMLS looks for them in the store of a group, so those
//! that a message names are lent to it while it works and taken back afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use openmls::group::{GroupEpoch, MlsGroup, QueuedProposal};
use openmls::messages::proposals::PreSharedKeyProposal;
use openmls::prelude::{Ciphersuite, GroupId, Proposal, ProposalIn};
use openmls::schedule::psk::{ApplicationPsk, ResumptionPsk, ResumptionPskUsage};
use openmls::schedule::{ExternalPsk, PreSharedKeyId, Psk};
use openmls::storage::OpenMlsProvider;
use openmls_traits::storage::StorageProvider as _;
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};
use tls_codec::{DeserializeBytes, Serialize as _};
use zeroize::Zeroizing;

use crate::error::{Failure, Kind, Outcome};
use crate::store::Value;
use crate::values::short;
use crate::wire::{self, WireProposal};

/// Secrets a client keeps at most; a member that had no bound could be talked into growing without end.
const MAX_PSKS: usize = 1024;
/// Bytes of a `psk_id` or of a secret at most. Both are opaque; this is far beyond any key or name.
const MAX_LENGTH: usize = 4096;

/// Which pre-shared key, without the nonce that makes each use of it different.
#[pyclass(frozen, eq, hash, ord, module = "openmls")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PskId {
    which: Which,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Which {
    External(Vec<u8>),
    Application(u16, Vec<u8>),
    /// Of the group in which it is used.
    Resumption(u64),
}

impl PskId {
    fn of(psk: &Psk) -> Self {
        let which = match psk {
            Psk::External(external) => Which::External(external.psk_id().to_vec()),
            Psk::Application(psk) => Which::Application(psk.component_id(), psk.psk_id().to_vec()),
            Psk::Resumption(psk) => Which::Resumption(psk.psk_epoch().as_u64()),
        };
        Self { which }
    }

    /// The PreSharedKeyID for one use in a group.
    pub fn for_use(
        &self,
        rand: &impl openmls_traits::random::OpenMlsRand,
        suite: Ciphersuite,
        group_id: &GroupId,
    ) -> Outcome<PreSharedKeyId> {
        let psk = match &self.which {
            Which::External(psk_id) => Psk::External(ExternalPsk::new(psk_id.clone())),
            Which::Application(component, psk_id) => {
                Psk::Application(ApplicationPsk::new(*component, psk_id.clone().into()))
            }
            Which::Resumption(epoch) => Psk::Resumption(ResumptionPsk::new(
                ResumptionPskUsage::Application,
                group_id.clone(),
                GroupEpoch::from(*epoch),
            )),
        };
        PreSharedKeyId::new(suite, rand, psk).map_err(Failure::internal)
    }
}

#[pymethods]
impl PskId {
    #[staticmethod]
    fn external(psk_id: &[u8]) -> Self {
        Self {
            which: Which::External(psk_id.to_vec()),
        }
    }

    #[staticmethod]
    fn application(component_id: u16, psk_id: &[u8]) -> Self {
        Self {
            which: Which::Application(component_id, psk_id.to_vec()),
        }
    }

    #[staticmethod]
    fn resumption(epoch: u64) -> Self {
        Self {
            which: Which::Resumption(epoch),
        }
    }

    #[getter]
    fn kind(&self) -> &'static str {
        match self.which {
            Which::External(_) => "external",
            Which::Application(..) => "application",
            Which::Resumption(_) => "resumption",
        }
    }

    #[getter]
    fn psk_id(&self) -> Option<&[u8]> {
        match &self.which {
            Which::External(psk_id) | Which::Application(_, psk_id) => Some(psk_id),
            Which::Resumption(_) => None,
        }
    }

    #[getter]
    fn component_id(&self) -> Option<u16> {
        match self.which {
            Which::Application(component, _) => Some(component),
            _ => None,
        }
    }

    #[getter]
    fn epoch(&self) -> Option<u64> {
        match self.which {
            Which::Resumption(epoch) => Some(epoch),
            _ => None,
        }
    }

    fn __repr__(&self) -> String {
        match &self.which {
            Which::External(psk_id) => format!("<PskId external {}>", short(psk_id)),
            Which::Application(component, psk_id) => {
                format!("<PskId application {component:#06x} {}>", short(psk_id))
            }
            Which::Resumption(epoch) => format!("<PskId resumption epoch={epoch}>"),
        }
    }
}

/// The secrets of a client. A copy shows them as they were when it was made.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Psks(Arc<BTreeMap<PskId, Value>>);

impl Psks {
    pub fn add(&mut self, id: &PskId, secret: &[u8]) -> Outcome<()> {
        let length = match &id.which {
            Which::External(psk_id) | Which::Application(_, psk_id) => psk_id.len(),
            Which::Resumption(_) => {
                return Err(Failure::not_allowed(
                    "resumption secrets come from the group itself",
                ))
            }
        };
        if length > MAX_LENGTH || secret.len() > MAX_LENGTH {
            return Err(Failure::not_allowed(format!(
                "a pre-shared key and its ID have at most {MAX_LENGTH} bytes"
            )));
        }
        if self.0.len() >= MAX_PSKS && !self.0.contains_key(id) {
            return Err(Failure::not_allowed("too many pre-shared keys"));
        }
        Arc::make_mut(&mut self.0).insert(id.clone(), Value(Zeroizing::new(secret.to_vec())));
        Ok(())
    }

    pub fn remove(&mut self, id: &PskId) -> Outcome<()> {
        match Arc::make_mut(&mut self.0).remove(id) {
            Some(_) => Ok(()),
            None => Err(Failure::not_allowed("no such pre-shared key")),
        }
    }

    pub fn ids(&self) -> Vec<PskId> {
        self.0.keys().cloned().collect()
    }

    /// Whether a proposal in `group` names a key that is known here.
    pub fn has(&self, group: &MlsGroup, psk: &Psk) -> bool {
        match psk {
            Psk::Resumption(psk) => {
                psk.psk_group_id() == group.group_id()
                    && group.get_past_resumption_psk(psk.psk_epoch()).is_some()
            }
            _ => self.0.contains_key(&PskId::of(psk)),
        }
    }

    /// Put the secrets of `named` that are known here into the store, for OpenMLS to find.
    pub fn lend(&self, provider: &impl OpenMlsProvider, named: &[PreSharedKeyId]) -> Outcome<()> {
        for id in named {
            if let Some(secret) = self.0.get(&PskId::of(id.psk())) {
                id.store(provider, &secret.0).map_err(Failure::internal)?;
            }
        }
        Ok(())
    }

    /// Put all secrets into the store of a client that does not know yet which ones a Welcome names.
    pub fn lend_all(&self, provider: &impl OpenMlsProvider) -> Outcome<Vec<PreSharedKeyId>> {
        let named = self
            .0
            .keys()
            .filter_map(|id| match &id.which {
                Which::External(psk_id) => {
                    Some(PreSharedKeyId::external(psk_id.clone(), Vec::new()))
                }
                Which::Application(component, psk_id) => Some(PreSharedKeyId::application(
                    *component,
                    psk_id.clone(),
                    Vec::new(),
                )),
                Which::Resumption(_) => None,
            })
            .collect::<Vec<_>>();
        self.lend(provider, &named)?;
        Ok(named)
    }
}

/// Take back what was lent.
pub fn take_back(provider: &impl OpenMlsProvider, named: &[PreSharedKeyId]) -> Outcome<()> {
    for id in named {
        provider
            .storage()
            .delete_psk(id.psk())
            .map_err(Failure::internal)?;
    }
    Ok(())
}

/// The PreSharedKeyID in a proposal.
pub fn of_proposal(proposal: &Proposal) -> Outcome<Option<PreSharedKeyId>> {
    match proposal {
        Proposal::PreSharedKey(proposal) => decoded(proposal).map(Some),
        _ => Ok(None),
    }
}

fn decoded(proposal: &PreSharedKeyProposal) -> Outcome<PreSharedKeyId> {
    let encoded = proposal.tls_serialize_detached()?;
    Ok(PreSharedKeyId::tls_deserialize_exact_bytes(&encoded)?)
}

/// The keys that a commit names, by value or by reference. What is no commit names none.
pub fn of_commit<'a>(
    data: &[u8],
    queued: impl Iterator<Item = &'a QueuedProposal>,
) -> Outcome<Vec<PreSharedKeyId>> {
    let Ok(commit) = wire::commit(data) else {
        return Ok(Vec::new());
    };
    let known: BTreeMap<&[u8], &QueuedProposal> = queued
        .map(|proposal| (proposal.proposal_reference_ref().as_slice(), proposal))
        .collect();
    let mut named = Vec::new();
    for proposal in &commit.proposals {
        match proposal {
            WireProposal::Value(value) => {
                if let ProposalIn::PreSharedKey(psk) = value.as_ref() {
                    named.push(decoded(psk)?);
                }
            }
            WireProposal::Reference(reference) => {
                if let Some(queued) = known.get(reference.as_slice()) {
                    named.extend(of_proposal(queued.proposal())?);
                }
            }
        }
    }
    Ok(named)
}

/// OpenMLS looks resumption secrets up by epoch alone, whatever group the ID names (RFC 9420 section 8.6). Everybody
/// would agree on a secret that is not the one named.
pub fn refuse_foreign(proposal: &QueuedProposal, group_id: &GroupId) -> Outcome<()> {
    match of_proposal(proposal.proposal())?
        .as_ref()
        .map(PreSharedKeyId::psk)
    {
        Some(Psk::Resumption(psk)) if psk.psk_group_id() != group_id => Err(Failure::new(
            Kind::InvalidProposal,
            "a resumption PSK of another group",
        )),
        _ => Ok(()),
    }
}
