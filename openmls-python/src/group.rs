//! `Group`: one group of a client.

use std::sync::{Arc, Mutex};

use openmls::group::{CommitMessageBundle, MlsGroup, QueuedProposal, StagedCommit};
use openmls::messages::proposals::AppDataUpdateProposal;
use openmls::prelude::{
    KeyPackage, LeafNodeIndex, LeafNodeParameters, MlsMessageBodyOut, MlsMessageOut,
    ProcessedMessageContent, Proposal, Sender,
};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::OpenMlsProvider as _;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyTuple;
use tls_codec::Serialize;

use crate::app_data::{self, NewValues};
use crate::convert::component_map;
use crate::error::{self, Failure, Kind, Outcome};
use crate::guard::locked;
use crate::inspect::valid_key_package;
use crate::members::{self, member_index};
use crate::state::{ClientState, GroupState};
use crate::values::{short, AppDataUpdate, CommitBundle, Member, Processed};
use crate::{config, rules, wire};

/// What a commit is to contain.
struct CommitRequest {
    add: Vec<Vec<u8>>,
    remove: Vec<u32>,
    updates: NewValues,
    new_values: NewValues,
    aad: Vec<u8>,
}

pub fn update_proposals(updates: &NewValues) -> Vec<Proposal> {
    updates
        .iter()
        .map(|(component, payload)| {
            Proposal::AppDataUpdate(Box::new(AppDataUpdateProposal::update(
                *component,
                payload.clone(),
            )))
        })
        .collect()
}

fn commit(
    state: &mut GroupState,
    signer: &Signer,
    request: CommitRequest,
) -> Outcome<CommitBundle> {
    if state.group.pending_commit().is_some() {
        return Err(Failure::not_allowed("a commit is pending already"));
    }
    if !state.group.is_active() {
        return Err(Failure::not_allowed(
            "this client was removed from the group",
        ));
    }
    let GroupState { provider, group } = state;
    let mut key_packages: Vec<KeyPackage> = Vec::with_capacity(request.add.len());
    for data in &request.add {
        key_packages.push(valid_key_package(data)?);
    }
    let own = group.own_leaf_index();
    let present: Vec<u32> = group.members().map(|member| member.index.u32()).collect();
    if let Some(leaf) = request.remove.iter().find(|leaf| !present.contains(leaf)) {
        return Err(Failure::new(
            Kind::InvalidProposal,
            format!("no member at leaf {leaf}"),
        ));
    }
    let before = group.export_ratchet_tree();
    let left_out = rules::impossible_removals(
        group.pending_proposals(),
        request.updates.keys().copied(),
        &members::app_data(group.extensions()),
    );
    let answered: Vec<AppDataUpdateProposal> =
        group
            .pending_proposals()
            .filter(|queued| !left_out.contains(queued.proposal_reference_ref().as_slice()))
            .filter_map(|queued| match queued.proposal() {
                Proposal::AppDataUpdate(update) => Some(update.as_ref().clone()),
                _ => None,
            })
            .chain(request.updates.iter().map(|(component, payload)| {
                AppDataUpdateProposal::update(*component, payload.clone())
            }))
            .collect();
    group.set_aad(request.aad);
    let mut stage = group
        .commit_builder()
        .force_self_update(true)
        .leaf_node_parameters(LeafNodeParameters::default())
        .propose_adds(key_packages)
        .propose_removals(request.remove.into_iter().map(LeafNodeIndex::new))
        .add_proposals(update_proposals(&request.updates))
        .load_psks(provider.storage())
        .map_err(Failure::invalid_commit)?
        .create_group_info(true);
    let changes = app_data::resolve(
        stage.app_data_dictionary_updater(),
        answered.iter(),
        request.new_values,
    )?;
    stage.with_app_data_dictionary_updates(changes);
    let bundle = stage
        .build(provider.rand(), provider.crypto(), signer, |proposal| {
            // RFC 9420 section 12.2: invalid is a list with "a Remove proposal that removes the
            // committer"; the same holds for the committer's own SelfRemove. Someone else commits those.
            members::removed_leaf(proposal) != Some(own.u32())
                && !left_out.contains(proposal.proposal_reference_ref().as_slice())
        })
        .map_err(error::from_create_commit)?
        .stage_commit(provider)
        .map_err(Failure::internal)?;
    let staged = group
        .pending_commit()
        .ok_or_else(|| Failure::internal("the commit is not pending"))?;
    let tree = staged
        .export_ratchet_tree(provider.crypto(), before)
        .map_err(Failure::internal)?
        .ok_or_else(|| Failure::internal("an own commit without a tree"))?
        .tls_serialize_detached()?;
    encode_bundle(bundle, tree)
}

pub fn encode_bundle(bundle: CommitMessageBundle, ratchet_tree: Vec<u8>) -> Outcome<CommitBundle> {
    let welcome = bundle
        .to_welcome_msg()
        .map(|message| message.tls_serialize_detached())
        .transpose()?;
    let group_info = bundle
        .group_info()
        .ok_or_else(|| Failure::internal("a commit without GroupInfo"))?
        .tls_serialize_detached()?;
    Ok(CommitBundle {
        commit: bundle.commit().tls_serialize_detached()?,
        welcome,
        group_info,
        ratchet_tree,
    })
}

fn group_info(state: &GroupState, signer: &Signer) -> Outcome<(Vec<u8>, Vec<u8>)> {
    if !state.group.is_active() {
        return Err(Failure::not_allowed(
            "this client was removed from the group",
        ));
    }
    let message: MlsMessageOut = state
        .group
        .export_group_info(state.provider.crypto(), signer, false)
        .map_err(Failure::internal)?;
    let MlsMessageBodyOut::GroupInfo(info) = message.body() else {
        return Err(Failure::internal("not a GroupInfo"));
    };
    Ok((
        info.tls_serialize_detached()?,
        state.group.export_ratchet_tree().tls_serialize_detached()?,
    ))
}

/// Keep a verified proposal, once.
fn keep_proposal(state: &mut GroupState, proposal: QueuedProposal) -> Outcome<()> {
    let reference = proposal.proposal_reference_ref();
    let mut count = 0;
    for queued in state.group.pending_proposals() {
        if queued.proposal_reference_ref() == reference {
            return Ok(());
        }
        count += 1;
    }
    if count >= config::MAX_PENDING_PROPOSALS {
        return Err(Failure::not_allowed("too many proposals in this epoch"));
    }
    state
        .group
        .store_pending_proposal(state.provider.storage(), proposal)
        .map_err(Failure::internal)
}

fn committed(
    state: &mut GroupState,
    staged: StagedCommit,
    sender: &Sender,
    data: &[u8],
    mut result: Processed,
) -> Outcome<Processed> {
    let group = state.group.public_group();
    let changes = members::changes(Member::list(group.members())?, &staged, sender)?;
    let commit = wire::commit(data)?;
    let updates = app_data::of_commit(&commit, state.group.pending_proposals());
    rules::check(group, &staged, sender, &changes, &commit, &updates)?;
    result.kind = "commit";
    result.self_removed = staged.self_removed();
    result.epoch = staged.epoch().as_u64();
    result.sender_leaf = Some(changes.committer.leaf_index);
    result.sender_identity = changes.committer.identity;
    result.added = changes.added;
    result.removed = changes.removed;
    state
        .group
        .merge_staged_commit(&state.provider, staged)
        .map_err(Failure::internal)?;
    Ok(result)
}

fn process(state: &mut GroupState, data: &[u8], values: NewValues) -> Outcome<Processed> {
    let message = wire::message(data)?
        .try_into_protocol_message()
        .map_err(|_| Failure::malformed("not a group message"))?;
    if message.group_id() != state.group.group_id() {
        return Err(Failure::new(
            Kind::UnknownGroup,
            "a message of another group",
        ));
    }
    let current = state.epoch();
    if message.is_handshake_message() && message.epoch() != state.group.epoch() {
        return Err(Failure::wrong_epoch(
            current,
            format!(
                "the message is of epoch {}, the group in {current}",
                message.epoch()
            ),
        ));
    }
    let processed = state
        .group
        .process_message(&state.provider, message)
        .map_err(|failure| error::from_process(failure, current))?;
    let sender = processed.sender().clone();
    let mut result = Processed {
        epoch: processed.epoch().as_u64(),
        sender_leaf: member_index(&sender),
        sender_identity: processed.credential().serialized_content().to_vec(),
        aad: processed.aad().to_vec(),
        ..Processed::default()
    };
    let content = processed.into_content();
    let takes_values = matches!(content, ProcessedMessageContent::UnresolvedAppDataCommit(_));
    if !takes_values {
        app_data::refuse_rest(&values)?;
    }
    match content {
        ProcessedMessageContent::ApplicationMessage(message) => {
            result.kind = "application";
            result.plaintext = Some(message.into_bytes());
            Ok(result)
        }
        ProcessedMessageContent::ProposalMessage(proposal)
        | ProcessedMessageContent::ExternalJoinProposalMessage(proposal) => {
            result.kind = "proposal";
            result.proposal = Some(members::proposal_info(&proposal)?);
            keep_proposal(state, *proposal)?;
            Ok(result)
        }
        ProcessedMessageContent::StagedCommitMessage(staged) => {
            committed(state, *staged, &sender, data, result)
        }
        ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
            let changes = app_data::resolve_unresolved(
                state.group.app_data_dictionary_updater(),
                &unresolved,
                values,
            )?;
            let staged = state
                .group
                .stage_app_data_commit(&state.provider, *unresolved, changes)
                .map_err(|failure| error::from_stage(failure, current))?;
            committed(state, staged, &sender, data, result)
        }
        ProcessedMessageContent::OwnPendingCommit => Err(Failure::new(
            Kind::CannotDecrypt,
            "this is the pending commit of this client; merge it",
        )),
        ProcessedMessageContent::OwnPrivateMessage => Err(Failure::new(
            Kind::CannotDecrypt,
            "a client cannot decrypt its own message",
        )),
    }
}

fn merge_pending(client: &mut ClientState, group_id: &[u8]) -> Outcome<()> {
    let slot = client.slot(group_id)?;
    if let Some(joining) = slot.joining.take() {
        slot.current = Some(joining.state);
        return Ok(());
    }
    let (state, _) = client.current(group_id)?;
    if state.group.pending_commit().is_none() {
        return Err(Failure::not_allowed("no commit is pending"));
    }
    state.transact(|state| {
        state
            .group
            .merge_pending_commit(&state.provider)
            .map_err(Failure::internal)
    })
}

fn clear_pending(client: &mut ClientState, group_id: &[u8]) -> Outcome<()> {
    let slot = client.slot(group_id)?;
    if slot.joining.take().is_some() {
        if slot.current.is_none() {
            client.groups.remove(group_id);
        }
        return Ok(());
    }
    let (state, _) = client.current(group_id)?;
    state.transact(|state| {
        state
            .group
            .clear_pending_commit(state.provider.storage())
            .map_err(Failure::internal)
    })
}

#[pyclass(frozen, module = "openmls")]
pub struct Group {
    client: Arc<Mutex<ClientState>>,
    group_id: Vec<u8>,
}

impl Group {
    pub fn new(client: Arc<Mutex<ClientState>>, group_id: Vec<u8>) -> Self {
        Self { client, group_id }
    }

    fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&GroupState, &Signer) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        locked(py, &self.client, |client| {
            let (state, signer) = client.current(&self.group_id)?;
            work(state, signer)
        })
    }

    fn write<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut GroupState, &Signer) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        locked(py, &self.client, |client| {
            let (state, signer) = client.current(&self.group_id)?;
            state.transact(|state| work(state, signer))
        })
    }

    /// The group in use, or the one being joined; for properties that make sense for both.
    fn peek<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&MlsGroup, Option<u64>) -> T + Send,
    ) -> PyResult<T> {
        locked(py, &self.client, |client| {
            let slot = client.slot(&self.group_id)?;
            match (&slot.current, &slot.joining) {
                (Some(state), _) => Ok(work(&state.group, None)),
                (None, Some(joining)) => Ok(work(&joining.state.group, Some(joining.base_epoch))),
                (None, None) => Err(Failure::internal("an empty slot")),
            }
        })
    }
}

#[pymethods]
impl Group {
    #[getter]
    fn group_id(&self) -> &[u8] {
        &self.group_id
    }

    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        self.peek(py, |group, base| base.unwrap_or(group.epoch().as_u64()))
    }

    #[getter]
    fn own_leaf_index(&self, py: Python<'_>) -> PyResult<u32> {
        self.peek(py, |group, _| group.own_leaf_index().u32())
    }

    #[getter]
    fn is_active(&self, py: Python<'_>) -> PyResult<bool> {
        self.peek(py, |group, base| base.is_none() && group.is_active())
    }

    #[getter]
    fn has_pending_commit(&self, py: Python<'_>) -> PyResult<bool> {
        locked(py, &self.client, |client| {
            let slot = client.slot(&self.group_id)?;
            Ok(slot.joining.is_some()
                || slot
                    .current
                    .as_ref()
                    .is_some_and(|state| state.group.pending_commit().is_some()))
        })
    }

    #[getter]
    fn ciphersuite(&self, py: Python<'_>) -> PyResult<u16> {
        self.peek(py, |group, _| group.ciphersuite().into())
    }

    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let list = self.read(py, |state, _| Member::list(state.group.members()))?;
        PyTuple::new(py, list)
    }

    fn app_data(&self, py: Python<'_>) -> PyResult<NewValues> {
        self.read(py, |state, _| {
            Ok(members::app_data(state.group.extensions()))
        })
    }

    fn group_context(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |state, _| {
            Ok(state
                .group
                .public_group()
                .group_context()
                .tls_serialize_detached()?)
        })
    }

    fn group_info(&self, py: Python<'_>) -> PyResult<(Vec<u8>, Vec<u8>)> {
        self.read(py, group_info)
    }

    #[pyo3(signature = (*, add = Vec::new(), remove = Vec::new(), app_data_updates = None,
                        new_app_data = None, aad = &[][..]))]
    fn commit(
        &self,
        py: Python<'_>,
        add: Vec<PyBackedBytes>,
        remove: Vec<u32>,
        app_data_updates: Option<&Bound<'_, PyAny>>,
        new_app_data: Option<&Bound<'_, PyAny>>,
        aad: &[u8],
    ) -> PyResult<CommitBundle> {
        let request = CommitRequest {
            add: add.iter().map(|data| data.to_vec()).collect(),
            remove,
            updates: component_map(app_data_updates)?,
            new_values: component_map(new_app_data)?,
            aad: aad.to_vec(),
        };
        locked(py, &self.client, |client| {
            if client.slot(&self.group_id)?.joining.is_some() {
                return Err(Failure::not_allowed(
                    "an external commit is pending already",
                ));
            }
            let (state, signer) = client.current(&self.group_id)?;
            state.transact(|state| commit(state, signer, request))
        })
    }

    fn merge_pending_commit(&self, py: Python<'_>) -> PyResult<()> {
        locked(py, &self.client, |client| {
            merge_pending(client, &self.group_id)
        })
    }

    fn clear_pending_commit(&self, py: Python<'_>) -> PyResult<()> {
        locked(py, &self.client, |client| {
            clear_pending(client, &self.group_id)
        })
    }

    fn propose_remove(&self, py: Python<'_>, leaf_index: u32) -> PyResult<Vec<u8>> {
        self.write(py, |state, signer| {
            let (message, _) = state
                .group
                .propose_remove_member(&state.provider, signer, LeafNodeIndex::new(leaf_index))
                .map_err(|failure| Failure::new(Kind::InvalidProposal, failure))?;
            Ok(message.tls_serialize_detached()?)
        })
    }

    fn propose_self_remove(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.write(py, |state, signer| {
            let message = state
                .group
                .leave_group_via_self_remove(&state.provider, signer)
                .map_err(Failure::not_allowed)?;
            Ok(message.tls_serialize_detached()?)
        })
    }

    #[pyo3(signature = (plaintext, *, aad = &[][..]))]
    fn encrypt(&self, py: Python<'_>, plaintext: &[u8], aad: &[u8]) -> PyResult<Vec<u8>> {
        self.write(py, |state, signer| {
            state.group.set_aad(aad.to_vec());
            let message = state
                .group
                .create_message(&state.provider, signer, plaintext)
                .map_err(Failure::not_allowed)?;
            Ok(message.tls_serialize_detached()?)
        })
    }

    fn app_data_updates<'py>(
        &self,
        py: Python<'py>,
        message: &[u8],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let updates: Vec<AppDataUpdate> = self.read(py, |state, _| {
            let commit = wire::commit(message)?;
            Ok(app_data::of_commit(
                &commit,
                state.group.pending_proposals(),
            ))
        })?;
        PyTuple::new(py, updates)
    }

    fn pending_app_data_updates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let updates: Vec<AppDataUpdate> = self.read(py, |state, _| {
            Ok(state
                .group
                .pending_proposals()
                .filter_map(app_data::of_queued)
                .collect())
        })?;
        PyTuple::new(py, updates)
    }

    #[pyo3(signature = (message, *, new_app_data = None))]
    fn process(
        &self,
        py: Python<'_>,
        message: &[u8],
        new_app_data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Processed> {
        let values = component_map(new_app_data)?;
        self.write(py, |state, _| process(state, message, values))
    }

    #[pyo3(signature = (*, label, context, length))]
    fn export_secret(
        &self,
        py: Python<'_>,
        label: &str,
        context: &[u8],
        length: usize,
    ) -> PyResult<Vec<u8>> {
        self.read(py, |state, _| {
            state
                .group
                .export_secret(state.provider.crypto(), label, context, length)
                .map_err(Failure::not_allowed)
        })
    }

    fn __repr__(&self) -> String {
        format!("<Group {}>", short(&self.group_id))
    }
}
