//! `PublicGroup`: what a delivery service tracks of a group, without any secret.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use openmls::group::{GroupId, ProposalStore, PublicGroup as Tracked, QueuedProposal};
use openmls::prelude::{
    ExternalProposal, LeafNodeIndex, MlsMessageBodyIn, ProcessedMessageContent, ProtocolMessage,
    SenderExtensionIndex,
};
use openmls_traits::OpenMlsProvider as _;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tls_codec::{Serialize, VLBytes};

use crate::app_data::{self, NewValues};
use crate::convert::component_map;
use crate::error::{self, Failure, Kind, Outcome};
use crate::guard::{caught, detached, locked};
use crate::keys::SignatureKeyPair;
use crate::members::{self, member_index};
use crate::provider::Provider;
use crate::snapshot::{self, Holds, PublicGroupSnapshot};
use crate::staged::{Origin, StagedCommit};
use crate::values::{short, AppDataUpdate, Member, ProposalInfo};
use crate::{config, labels, observe, rules, wire};

/// Label of the GroupInfo signature, RFC 9420 section 12.4.3.
const GROUP_INFO_LABEL: &str = "GroupInfoTBS";

pub struct Public {
    pub provider: Provider,
    pub group: Tracked,
}

impl Public {
    pub fn load(group_id: &[u8], provider: Provider) -> Outcome<Self> {
        let group = Tracked::load(provider.storage(), &GroupId::from_slice(group_id))
            .map_err(Failure::snapshot)?
            .ok_or_else(|| Failure::snapshot("the group is missing from its own state"))?;
        Ok(Self { provider, group })
    }

    fn from_snapshot(data: &[u8]) -> Outcome<Self> {
        let body: PublicGroupSnapshot = snapshot::decode(Holds::PublicGroup, data)?;
        let provider = Provider::from_entries(snapshot::from_list(body.entries)?);
        Self::load(body.group_id.as_slice(), provider)
    }

    fn save(&self) -> Outcome<Vec<u8>> {
        let body = PublicGroupSnapshot {
            group_id: self.group.group_id().as_slice().into(),
            entries: snapshot::to_list(self.provider.entries()?),
        };
        snapshot::encode(Holds::PublicGroup, &body)
    }

    fn epoch(&self) -> u64 {
        self.group.group_context().epoch().as_u64()
    }

    fn queued(&self) -> Outcome<Vec<QueuedProposal>> {
        Ok(self
            .group
            .queued_proposals(self.provider.storage())
            .map_err(Failure::internal)?
            .into_iter()
            .map(|(_, proposal)| proposal)
            .collect())
    }

    fn protocol_message(&self, data: &[u8]) -> Outcome<ProtocolMessage> {
        let message = match wire::message(data)?.extract() {
            MlsMessageBodyIn::PublicMessage(message) => message,
            MlsMessageBodyIn::PrivateMessage(_) => {
                return Err(Failure::not_allowed(
                    "a delivery service cannot read private messages",
                ))
            }
            _ => return Err(Failure::malformed("not a group message")),
        };
        if message.group_id() != self.group.group_id() {
            return Err(Failure::new(
                Kind::UnknownGroup,
                "a message of another group",
            ));
        }
        let current = self.epoch();
        if message.epoch().as_u64() != current {
            return Err(Failure::wrong_epoch(
                current,
                format!(
                    "the message is of epoch {}, the group in {current}",
                    message.epoch()
                ),
            ));
        }
        Ok(ProtocolMessage::from(message))
    }

    fn verified_proposal(&self, data: &[u8]) -> Outcome<QueuedProposal> {
        let message = self.protocol_message(data)?;
        let content = self
            .group
            .process_message(self.provider.crypto(), message)
            .map_err(|failure| error::from_public_process(failure, self.epoch()))?
            .into_content();
        match content {
            ProcessedMessageContent::ProposalMessage(proposal)
            | ProcessedMessageContent::ExternalJoinProposalMessage(proposal) => Ok(*proposal),
            _ => Err(Failure::not_allowed("not a proposal")),
        }
    }

    fn add_proposal(&mut self, data: &[u8]) -> Outcome<ProposalInfo> {
        let proposal = self.verified_proposal(data)?;
        let info = members::proposal_info(&proposal)?;
        let queued = self.queued()?;
        if queued
            .iter()
            .any(|known| known.proposal_reference_ref() == proposal.proposal_reference_ref())
        {
            return Ok(info);
        }
        if queued.len() >= config::MAX_PENDING_PROPOSALS {
            return Err(Failure::not_allowed("too many proposals in this epoch"));
        }
        self.group
            .add_proposal(self.provider.storage(), proposal)
            .map_err(Failure::internal)?;
        Ok(info)
    }

    fn app_data_updates(&self, data: &[u8]) -> Outcome<Vec<AppDataUpdate>> {
        let commit = wire::commit(data)?;
        Ok(app_data::of_commit(&commit, self.queued()?.iter()))
    }

    fn stage(&self, data: &[u8], values: NewValues, instance: u64) -> Outcome<StagedCommit> {
        let epoch = self.epoch();
        let message = self.protocol_message(data)?;
        let confirmation_tag = match &message {
            ProtocolMessage::PublicMessage(message) => message
                .confirmation_tag()
                .map(|tag| tag.tls_serialize_detached())
                .transpose()?
                .map(|encoded| wire::exact::<VLBytes>(&encoded))
                .transpose()?
                .map(Vec::<u8>::from),
            ProtocolMessage::PrivateMessage(_) => None,
        };
        let commit = wire::commit(data)?;
        let updates = app_data::of_commit(&commit, self.queued()?.iter());
        let processed = self
            .group
            .process_message(self.provider.crypto(), message)
            .map_err(|failure| error::from_public_process(failure, epoch))?;
        let sender = processed.sender().clone();
        let staged = match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => {
                app_data::refuse_rest(&values)?;
                *staged
            }
            ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
                let changes = app_data::resolve_unresolved(
                    self.group.app_data_dictionary_updater(),
                    &unresolved,
                    values,
                )?;
                self.group
                    .stage_app_data_commit(self.provider.crypto(), *unresolved, changes)
                    .map_err(|failure| error::from_stage(failure, epoch))?
            }
            _ => return Err(Failure::not_allowed("not a commit")),
        };
        let changes = members::changes(Member::list(self.group.members())?, &staged, &sender)?;
        rules::check(&self.group, &staged, &sender, &changes, &commit, &updates)?;
        let context = staged.group_context();
        Ok(StagedCommit {
            origin: Origin { instance, epoch },
            group_context: context.tls_serialize_detached()?,
            confirmation_tag: confirmation_tag
                .ok_or_else(|| Failure::internal("a verified commit without confirmation tag"))?,
            updates,
            epoch: context.epoch().as_u64(),
            sender_leaf: member_index(&sender),
            is_external: member_index(&sender).is_none(),
            authenticated_data: commit.content.authenticated_data.into(),
            app_data: members::app_data(context.extensions()),
            changes,
            staged: Mutex::new(Some(staged)),
        })
    }

    fn merge(&mut self, staged: &StagedCommit, instance: u64) -> Outcome<()> {
        let here = Origin {
            instance,
            epoch: self.epoch(),
        };
        if staged.origin != here {
            return Err(Failure::not_allowed(
                "the commit was staged against another group or epoch",
            ));
        }
        let commit = staged
            .staged
            .lock()
            .map_err(|_| Failure::internal("staged commit lock"))?
            .take()
            .ok_or_else(|| Failure::not_allowed("the commit was merged already"))?;
        self.group
            .merge_commit(self.provider.storage(), commit)
            .map_err(Failure::internal)
    }
}

/// Check a GroupInfo of the new epoch against the commit that leads there.
fn verify_group_info(staged: &StagedCommit, data: &[u8]) -> Outcome<()> {
    // OpenMLS' decoder is the stricter one: it also knows which extensions may stand in a GroupInfo.
    let decoded = wire::group_info(data)?;
    let info = wire::wire_group_info(data)?;
    if info.context.epoch != staged.epoch {
        return Err(Failure::wrong_epoch(
            staged.origin.epoch,
            format!(
                "the GroupInfo is of epoch {}, not {}",
                info.context.epoch, staged.epoch
            ),
        ));
    }
    if info.context_bytes != staged.group_context {
        return Err(Failure::invalid_commit(
            "the GroupInfo does not describe the group after the commit",
        ));
    }
    if info.confirmation_tag != staged.confirmation_tag {
        return Err(Failure::invalid_commit(
            "the GroupInfo does not carry the confirmation tag of the commit",
        ));
    }
    let signer = staged
        .changes
        .tree
        .get(&info.signer)
        .ok_or_else(|| Failure::invalid_commit("the GroupInfo is signed by an empty leaf"))?;
    labels::verify(
        decoded.ciphersuite(),
        &signer.signature_key,
        GROUP_INFO_LABEL,
        &info.signed_bytes,
        &info.signature,
    )
}

static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(1);

#[pyclass(frozen, module = "openmls")]
pub struct PublicGroup {
    inner: Mutex<Public>,
    instance: u64,
}

impl PublicGroup {
    fn wrap(public: Public) -> Self {
        Self {
            inner: Mutex::new(public),
            instance: NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed),
        }
    }
}

#[pymethods]
impl PublicGroup {
    #[staticmethod]
    #[pyo3(signature = (*, group_info, ratchet_tree, now = None))]
    fn observe(
        py: Python<'_>,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        now: Option<u64>,
    ) -> PyResult<Self> {
        detached(py, || {
            observe::observe(group_info, ratchet_tree, now).map(Self::wrap)
        })
    }

    #[staticmethod]
    fn load(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        detached(py, || {
            caught(|| Public::from_snapshot(data))
                .map(Self::wrap)
                .map_err(|failure| Failure::snapshot(failure.message))
        })
    }

    fn save(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        locked(py, &self.inner, |public| public.save())
    }

    #[getter]
    fn group_id(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        locked(py, &self.inner, |public| {
            Ok(public.group.group_id().to_vec())
        })
    }

    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        locked(py, &self.inner, |public| Ok(public.epoch()))
    }

    #[getter]
    fn ciphersuite(&self, py: Python<'_>) -> PyResult<u16> {
        locked(py, &self.inner, |public| {
            Ok(public.group.ciphersuite().into())
        })
    }

    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let list = locked(py, &self.inner, |public| {
            Member::list(public.group.members())
        })?;
        PyTuple::new(py, list)
    }

    fn app_data(&self, py: Python<'_>) -> PyResult<NewValues> {
        locked(py, &self.inner, |public| {
            Ok(members::app_data(public.group.group_context().extensions()))
        })
    }

    fn group_context(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        locked(py, &self.inner, |public| {
            Ok(public.group.group_context().tls_serialize_detached()?)
        })
    }

    fn export_ratchet_tree(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        locked(py, &self.inner, |public| {
            Ok(public
                .group
                .export_ratchet_tree()
                .tls_serialize_detached()?)
        })
    }

    fn proposals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let list = locked(py, &self.inner, |public| {
            public
                .queued()?
                .iter()
                .map(members::proposal_info)
                .collect::<Outcome<Vec<_>>>()
        })?;
        PyTuple::new(py, list)
    }

    fn app_data_updates<'py>(
        &self,
        py: Python<'py>,
        message: &[u8],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let updates = locked(py, &self.inner, |public| public.app_data_updates(message))?;
        PyTuple::new(py, updates)
    }

    fn stage_proposal(&self, py: Python<'_>, message: &[u8]) -> PyResult<ProposalInfo> {
        locked(py, &self.inner, |public| {
            members::proposal_info(&public.verified_proposal(message)?)
        })
    }

    fn add_proposal(&self, py: Python<'_>, message: &[u8]) -> PyResult<ProposalInfo> {
        locked(py, &self.inner, |public| public.add_proposal(message))
    }

    #[pyo3(signature = (message, *, new_app_data = None))]
    fn stage_commit(
        &self,
        py: Python<'_>,
        message: &[u8],
        new_app_data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<StagedCommit> {
        let values = component_map(new_app_data)?;
        locked(py, &self.inner, |public| {
            public.stage(message, values, self.instance)
        })
    }

    fn merge(&self, py: Python<'_>, staged: &StagedCommit) -> PyResult<()> {
        locked(py, &self.inner, |public| {
            public.merge(staged, self.instance)
        })
    }

    #[pyo3(signature = (*, staged, group_info))]
    fn verify_group_info(
        &self,
        py: Python<'_>,
        staged: &StagedCommit,
        group_info: &[u8],
    ) -> PyResult<()> {
        detached(py, || {
            if staged.origin.instance != self.instance {
                return Err(Failure::not_allowed(
                    "the commit was staged against another group",
                ));
            }
            verify_group_info(staged, group_info)
        })
    }

    #[pyo3(signature = (*, signer, sender_index, leaf_index))]
    fn propose_remove(
        &self,
        py: Python<'_>,
        signer: &SignatureKeyPair,
        sender_index: u32,
        leaf_index: u32,
    ) -> PyResult<Vec<u8>> {
        locked(py, &self.inner, |public| {
            let context = public.group.group_context();
            let message = ExternalProposal::new_remove::<Provider>(
                LeafNodeIndex::new(leaf_index),
                context.group_id().clone(),
                context.epoch(),
                &signer.signer,
                SenderExtensionIndex::new(sender_index),
            )
            .map_err(Failure::internal)?
            .tls_serialize_detached()?;
            // Refuses a signer that is not the listed sender, and a leaf that is empty.
            let proposal = public.verified_proposal(&message)?;
            if public.group.leaf(LeafNodeIndex::new(leaf_index)).is_none() {
                return Err(Failure::new(
                    Kind::InvalidProposal,
                    format!("no member at leaf {leaf_index}"),
                ));
            }
            drop(proposal);
            Ok(message)
        })
    }

    fn __repr__(&self) -> String {
        match self.inner.try_lock() {
            Ok(public) => format!(
                "<PublicGroup {} epoch={}>",
                short(public.group.group_id().as_slice()),
                public.epoch()
            ),
            Err(_) => "<PublicGroup>".to_owned(),
        }
    }
}

/// An empty proposal store, for OpenMLS functions that want one.
pub fn no_proposals() -> ProposalStore {
    ProposalStore::new()
}
