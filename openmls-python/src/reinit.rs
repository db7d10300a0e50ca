//! ReInit (RFC 9420 sections 11.2 and 12.1.5): the end of a group in favour of a successor.

use std::collections::BTreeMap;

use openmls::extensions::Extensions;
use openmls::group::{GroupContext, MlsGroup, StagedCommit};
use openmls::prelude::{Proposal, ProposalOrRefType, ProposalType, Propose};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::storage::{traits, Entity, Key, StorageProvider, CURRENT_VERSION};
use openmls_traits::OpenMlsProvider;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde::{Deserialize, Serialize};
use tls_codec::{Serialize as _, TlsDeserializeBytes, TlsSerialize, TlsSize, VLBytes};

use crate::aad::Aad;
use crate::committing::{build, Parts};
use crate::context::{self, RequiredCapabilities};
use crate::error::{Failure, Kind, Outcome};
use crate::proposing::{framed, put_back, refuse_unusable, take_out};
use crate::queued::queued_as;
use crate::state::GroupState;
use crate::store::Store;
use crate::values::{short, CommitBundle};
use crate::wire::{self, WireCommit};
use crate::{config, members};

/// ProtocolVersion mls10.
const MLS10: u16 = 1;

/// What comes after a ReInit proposal's type.
#[derive(Clone, Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
struct WireReInit {
    group_id: VLBytes,
    version: u16,
    ciphersuite: u16,
    extensions: VLBytes,
}

/// The parameters of the successor.
#[pyclass(frozen, module = "openmls")]
#[derive(Clone, Debug)]
pub struct ReInit {
    encoded: WireReInit,
    pub extensions: Extensions<GroupContext>,
}

impl ReInit {
    pub fn new(
        group_id: &[u8],
        ciphersuite: u16,
        extensions: Extensions<GroupContext>,
    ) -> Outcome<Self> {
        let list = extensions.tls_serialize_detached()?;
        let list: VLBytes = wire::exact(&list)?;
        Ok(Self {
            encoded: WireReInit {
                group_id: group_id.into(),
                version: MLS10,
                ciphersuite,
                extensions: list,
            },
            extensions,
        })
    }

    fn decode(data: &[u8]) -> Outcome<Self> {
        let encoded: WireReInit = wire::exact(data)?;
        let extensions = wire::exact(&encoded.extensions.tls_serialize_detached()?)?;
        Ok(Self {
            encoded,
            extensions,
        })
    }

    /// The parameters in a proposal, if it is one.
    fn of_proposal(proposal: &Proposal) -> Outcome<Option<Self>> {
        match proposal {
            Proposal::ReInit(reinit) => Self::decode(&reinit.tls_serialize_detached()?).map(Some),
            _ => Ok(None),
        }
    }

    fn proposal(&self) -> Outcome<Vec<u8>> {
        let mut data = u16::from(ProposalType::Reinit).tls_serialize_detached()?;
        self.encoded.tls_serialize(&mut data)?;
        Ok(data)
    }

    pub fn suite(&self) -> u16 {
        self.encoded.ciphersuite
    }

    pub fn successor(&self) -> &[u8] {
        self.encoded.group_id.as_slice()
    }
}

#[pymethods]
impl ReInit {
    #[getter]
    fn group_id(&self) -> &[u8] {
        self.successor()
    }
    #[getter]
    fn version(&self) -> u16 {
        self.encoded.version
    }
    #[getter]
    fn ciphersuite(&self) -> u16 {
        self.encoded.ciphersuite
    }
    #[getter]
    fn app_data(&self) -> BTreeMap<u16, Vec<u8>> {
        members::app_data(&self.extensions)
    }
    #[getter]
    fn external_senders<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, context::external_senders(&self.extensions)?)
    }
    #[getter]
    fn required_capabilities(&self) -> Option<RequiredCapabilities> {
        RequiredCapabilities::of(&self.extensions)
    }
    fn __repr__(&self) -> String {
        format!(
            "<ReInit {} ciphersuite={}>",
            short(self.successor()),
            self.suite()
        )
    }
}

/// Where a group that ended keeps the parameters of its successor, in its own store.
#[derive(Serialize)]
struct EndedKey(&'static str);
const ENDED: EndedKey = EndedKey("openmls-python: ended by this ReInit");

#[derive(Serialize, Deserialize)]
struct Ended(Vec<u8>);

impl Key<CURRENT_VERSION> for EndedKey {}
impl traits::PskId<CURRENT_VERSION> for EndedKey {}
impl Entity<CURRENT_VERSION> for Ended {}
impl traits::PskBundle<CURRENT_VERSION> for Ended {}

/// The parameters of the successor, if the group ended.
pub fn ended_by(state: &GroupState) -> Outcome<Option<ReInit>> {
    ended_in(state.provider.storage())
}

/// The same by the store of the group, which may be that of a delivery service.
pub fn ended_in(storage: &Store) -> Outcome<Option<ReInit>> {
    let ended: Option<Ended> = storage.psk(&ENDED).map_err(Failure::internal)?;
    ended.map(|ended| ReInit::decode(&ended.0)).transpose()
}

/// After the commit of a ReInit the group is closed, RFC 9420 section 11.2; what remains is to read what was sent in it
/// before.
pub fn refuse_ended(state: &GroupState) -> Outcome<()> {
    refuse_ended_in(state.provider.storage())
}

pub fn refuse_ended_in(storage: &Store) -> Outcome<()> {
    match ended_in(storage)? {
        None => Ok(()),
        Some(_) => Err(Failure::not_allowed(
            "the group was ended by a ReInit; go on in its successor",
        )),
    }
}

/// The ReInit that a commit takes, as a delivery service staged it.
pub fn in_staged(staged: &StagedCommit) -> Outcome<Option<ReInit>> {
    staged
        .queued_proposals()
        .find_map(|proposal| ReInit::of_proposal(proposal.proposal()).transpose())
        .transpose()
}

/// The ReInit that a commit takes, looked up among the stored proposals if it takes it by reference.
pub fn in_commit(group: &MlsGroup, staged: &StagedCommit) -> Outcome<Option<ReInit>> {
    for committed in staged.queued_proposals() {
        let stored = group
            .pending_proposals()
            .find(|known| known.proposal_reference_ref() == committed.proposal_reference_ref())
            .unwrap_or(committed);
        if let Some(reinit) = ReInit::of_proposal(stored.proposal())? {
            return Ok(Some(reinit));
        }
    }
    Ok(None)
}

/// Remember that the group ended with the commit just merged.
pub fn end(storage: &Store, reinit: &ReInit) -> Outcome<()> {
    storage
        .write_psk(&ENDED, &Ended(reinit.encoded.tls_serialize_detached()?))
        .map_err(Failure::internal)
}

/// RFC 9420 section 12.1.5: "A ReInit proposal is invalid if the version field is less than the version for the
/// current group."
pub fn check_version(proposal: &Proposal) -> Outcome<()> {
    match ReInit::of_proposal(proposal)? {
        Some(reinit) if reinit.encoded.version < MLS10 => Err(Failure::new(
            Kind::InvalidProposal,
            "a ReInit to an older version",
        )),
        _ => Ok(()),
    }
}

/// RFC 9420 section 12.2: invalid is a list with "a ReInit proposal together with any other proposal".
pub fn check(staged: &StagedCommit, commit: &WireCommit) -> Outcome<()> {
    for proposal in staged.queued_proposals() {
        check_version(proposal.proposal())?;
        if matches!(proposal.proposal(), Proposal::ReInit(_)) && commit.proposals.len() > 1 {
            return Err(Failure::new(
                Kind::InvalidProposal,
                "a ReInit together with another proposal",
            ));
        }
    }
    Ok(())
}

pub fn propose(state: &mut GroupState, signer: &Signer, reinit: &ReInit) -> Outcome<Vec<u8>> {
    refuse_unusable(state)?;
    if reinit.successor() == state.group.group_id().as_slice() {
        return Err(Failure::not_allowed(
            "a successor needs a group ID of its own",
        ));
    }
    config::ciphersuite(reinit.suite())?;
    framed(state, signer, &reinit.proposal()?)
}

/// Commit the stored ReInit proposal with this reference, alone.
///
/// OpenMLS drops ReInit proposals from what it commits. So a proposal that changes nothing, with the reference of the
/// ReInit, is stored in its place while it works. The commit holds the reference and nothing else of it.
pub fn commit(
    state: &mut GroupState,
    signer: &Signer,
    reference: &[u8],
    aad: Aad,
) -> Outcome<CommitBundle> {
    refuse_unusable(state)?;
    let stored = take_out(state)?;
    let chosen = stored
        .iter()
        .find(|queued| queued.proposal_reference_ref().as_slice() == reference)
        .filter(|queued| matches!(queued.proposal(), Proposal::ReInit(_)))
        .ok_or_else(|| Failure::not_allowed("no such ReInit proposal"))?
        .clone();
    let unchanged = unchanged(state, signer)?;
    let stand_in = queued_as(
        state.group.group_id(),
        chosen.proposal_reference_ref(),
        chosen.sender().clone(),
        unchanged,
    )?;
    put_back(state, vec![stand_in])?;
    aad.set(&mut state.group)?;
    let bundle = build(state, signer, Parts::default())?;
    put_back(state, stored)?;
    Ok(bundle)
}

/// A GroupContextExtensions proposal with the extensions that the group has.
fn unchanged(state: &mut GroupState, signer: &Signer) -> Outcome<Proposal> {
    let GroupState { provider, group } = state;
    let extensions = group.extensions().clone();
    group
        .propose(
            provider,
            signer,
            Propose::GroupContextExtensions(extensions),
            ProposalOrRefType::Proposal,
        )
        .map_err(Failure::not_allowed)?;
    let made = take_out(state)?;
    made.first()
        .map(|queued| queued.proposal().clone())
        .ok_or_else(|| Failure::internal("a proposal was not stored"))
}
