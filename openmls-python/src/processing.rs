//! Taking in a message, as a member.

use openmls::group::{QueuedProposal, StagedCommit};
use openmls::prelude::{ProcessedMessageContent, Sender};
use openmls_traits::OpenMlsProvider as _;

use crate::app_data::{self, NewValues};
use crate::error::{self, Failure, Kind, Outcome};
use crate::members::{self, member_index};
use crate::state::GroupState;
use crate::values::{Member, Processed};
use crate::{config, rules, wire};

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

/// Decrypt or verify a message and do what it says; the caller rolls back what a failure leaves half done.
pub fn process(state: &mut GroupState, data: &[u8], values: NewValues) -> Outcome<Processed> {
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
