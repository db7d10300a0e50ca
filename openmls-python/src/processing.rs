//! Taking in a message, as a member.

use openmls::group::{MlsGroup, QueuedProposal, StagedCommit};
use openmls::prelude::{ProcessedMessageContent, Sender};
use openmls_memory_storage::MemoryStorage;
use openmls_traits::OpenMlsProvider;
use tls_codec::Serialize;

use crate::app_data::{self, NewValues};
use crate::error::{self, Failure, Kind, Outcome};
use crate::lifetimes::Judging;
use crate::members::{self, member_index};
use crate::processed::{AppEphemeral, Processed};
use crate::psk::{self, Psks};
use crate::stand_ins::Showing;
use crate::state::GroupState;
use crate::values::Member;
use crate::{config, reinit, rules, wire};

/// Keep a verified proposal, once.
pub fn keep_proposal(
    group: &mut MlsGroup,
    provider: &impl OpenMlsProvider<StorageProvider = MemoryStorage>,
    proposal: QueuedProposal,
) -> Outcome<()> {
    let reference = proposal.proposal_reference_ref();
    let mut count = 0;
    for queued in group.pending_proposals() {
        if queued.proposal_reference_ref() == reference {
            return Ok(());
        }
        count += 1;
    }
    if count >= config::MAX_PENDING_PROPOSALS {
        return Err(Failure::not_allowed("too many proposals in this epoch"));
    }
    group
        .store_pending_proposal(provider.storage(), proposal)
        .map_err(Failure::internal)
}

/// A message on its way in.
struct Incoming<'a> {
    data: &'a [u8],
    judging: Judging<'a>,
    values: NewValues,
    /// Whether a ReInit has closed the group.
    ended: bool,
}

fn committed(
    group: &mut MlsGroup,
    provider: &impl OpenMlsProvider<StorageProvider = MemoryStorage>,
    staged: StagedCommit,
    sender: &Sender,
    incoming: &Incoming<'_>,
    mut result: Processed,
) -> Outcome<Processed> {
    let before = group.public_group();
    let changes = members::changes(Member::list(before.members())?, &staged, sender)?;
    let commit = wire::commit(incoming.data)?;
    let updates = app_data::of_commit(&commit, group.pending_proposals());
    rules::check(
        before,
        &staged,
        sender,
        &changes,
        &commit,
        &updates,
        &incoming.judging,
    )?;
    let mut ephemeral = Vec::new();
    for proposal in staged.queued_proposals() {
        result.proposals.push(members::proposal_info(proposal)?);
        ephemeral.extend(AppEphemeral::of(proposal));
    }
    result.kind = "commit";
    result.self_removed = staged.self_removed();
    result.epoch = staged.epoch().as_u64();
    result.sender_leaf = Some(changes.committer.leaf_index);
    result.sender_identity = changes.committer.identity.clone();
    result.committer = Some(changes.committer);
    result.added = changes.added;
    result.removed = changes.removed;
    result.updated = changes.updated;
    result.app_ephemeral = ephemeral;
    result.app_data = Some(members::app_data(staged.group_context().extensions()));
    let reinit = reinit::in_commit(group, &staged)?;
    group
        .merge_staged_commit(provider, staged)
        .map_err(Failure::internal)?;
    if let Some(reinit) = &reinit {
        reinit::end(provider.storage(), reinit)?;
    }
    Ok(result)
}

/// Decrypt or verify a message and do what it says; the caller rolls back what a failure leaves half done. Added
/// leaves are judged by `now`, or by the system clock if that is None.
pub fn process(
    state: &mut GroupState,
    psks: &Psks,
    data: &[u8],
    values: NewValues,
    now: Option<u64>,
) -> Outcome<Processed> {
    let named = psk::of_commit(data, state.group.pending_proposals())?;
    psks.lend(&state.provider, &named)?;
    let processed = judged(state, data, values, now)?;
    psk::take_back(&state.provider, &named)?;
    Ok(processed)
}

fn judged(
    state: &mut GroupState,
    data: &[u8],
    values: NewValues,
    now: Option<u64>,
) -> Outcome<Processed> {
    let ended = reinit::ended_by(state)?.is_some();
    let judging = Judging::new(data, now, state.group.pending_proposals())?;
    let Some(stand_ins) = judging.stand_ins.clone() else {
        let incoming = Incoming {
            data,
            judging,
            values,
            ended,
        };
        return take_in(&mut state.group, &state.provider, incoming);
    };
    if judging.refers {
        state.edit_store(|entries| stand_ins.show_stored(entries))?;
    }
    let provider = Showing {
        crypto: stand_ins.crypto(&[data])?,
        rand: state.provider.rand(),
        storage: state.provider.storage(),
    };
    let incoming = Incoming {
        data,
        judging,
        values,
        ended,
    };
    let processed = take_in(&mut state.group, &provider, incoming)?;
    state.edit_store(|entries| stand_ins.put_back(entries))?;
    let tree = state.group.export_ratchet_tree();
    stand_ins.refuse_left(&tree.tls_serialize_detached()?)?;
    Ok(processed)
}

fn take_in(
    group: &mut MlsGroup,
    provider: &impl OpenMlsProvider<StorageProvider = MemoryStorage>,
    mut incoming: Incoming<'_>,
) -> Outcome<Processed> {
    let message = wire::message(&incoming.judging.message)?
        .try_into_protocol_message()
        .map_err(|_| Failure::malformed("not a group message"))?;
    if message.group_id() != group.group_id() {
        return Err(Failure::new(
            Kind::UnknownGroup,
            "a message of another group",
        ));
    }
    let current = group.epoch().as_u64();
    if message.is_handshake_message() && message.epoch() != group.epoch() {
        return Err(Failure::wrong_epoch(
            current,
            format!(
                "the message is of epoch {}, the group in {current}",
                message.epoch()
            ),
        ));
    }
    if incoming.ended && message.epoch() == group.epoch() {
        return Err(Failure::not_allowed("the group was ended by a ReInit"));
    }
    let processed = group
        .process_message(provider, message)
        .map_err(|failure| error::from_process(failure, current))?;
    let sender = processed.sender().clone();
    let mut result = Processed {
        epoch: processed.epoch().as_u64(),
        sender_leaf: member_index(&sender),
        sender_identity: processed.credential().serialized_content().to_vec(),
        aad: processed.tail_aad().to_vec(),
        safe_aad: processed.safe_aad().map(|framed| {
            framed
                .items()
                .iter()
                .map(|item| (item.component_id(), item.data().to_vec()))
                .collect()
        }),
        ..Processed::default()
    };
    let content = processed.into_content();
    let values = std::mem::take(&mut incoming.values);
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
            incoming.judging.check(&proposal)?;
            psk::refuse_foreign(&proposal, group.group_id())?;
            result.app_ephemeral.extend(AppEphemeral::of(&proposal));
            result.proposal = Some(members::proposal_info(&proposal)?);
            keep_proposal(group, provider, *proposal)?;
            Ok(result)
        }
        ProcessedMessageContent::StagedCommitMessage(staged) => {
            committed(group, provider, *staged, &sender, &incoming, result)
        }
        ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
            let changes = app_data::resolve_unresolved(
                group.app_data_dictionary_updater(),
                &unresolved,
                values,
            )?;
            let staged = group
                .stage_app_data_commit(provider, *unresolved, changes)
                .map_err(|failure| error::from_stage(failure, current))?;
            committed(group, provider, staged, &sender, &incoming, result)
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
