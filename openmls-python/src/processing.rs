//! Taking in a message, as a member.

use openmls::group::{MlsGroup, QueuedProposal, StagedCommit};
use openmls::prelude::{ContentType, ProcessedMessageContent, Sender};
use openmls_traits::OpenMlsProvider;
use tls_codec::Serialize;

use crate::app_data::{self, NewValues};
use crate::error::{self, Failure, Kind, Outcome};
use crate::lifetimes::{Judging, Validity};
use crate::member::Roster;
use crate::members::{self, member_index};
use crate::processed::{AppEphemeral, Processed};
use crate::psk::{self, Psks};
use crate::stand_ins::{Showing, StandIns};
use crate::state::GroupState;
use crate::store::Store;
use crate::values::{Member, ProposalInfo};
use crate::{aad, config, credential, external_proposals, reinit, rules, wire};

/// Keep a verified proposal, once.
pub fn keep_proposal(
    group: &mut MlsGroup,
    provider: &impl OpenMlsProvider<StorageProvider = Store>,
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
        .map_err(Failure::half_done)
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
    provider: &impl OpenMlsProvider<StorageProvider = Store>,
    staged: StagedCommit,
    sender: &Sender,
    incoming: &Incoming<'_>,
    mut result: Processed,
) -> Outcome<Processed> {
    let before = group.public_group();
    let members = Member::roster(before, &Roster::new())?;
    let changes = members::changes(&members, &staged, sender, &incoming.judging)?;
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
        let info = ProposalInfo::of(proposal, Some(&incoming.judging))?;
        result.proposals.push(info);
        ephemeral.extend(AppEphemeral::of(proposal));
    }
    result.kind = "commit";
    result.self_removed = staged.self_removed();
    result.epoch = staged.epoch().as_u64();
    result.sender_leaf = Some(changes.committer.leaf_index);
    result.sender_identity = changes.committer.identity().to_vec();
    result.sender_credential = changes.committer.credential()?;
    result.committer = Some(changes.committer);
    result.added = changes.added;
    result.removed = changes.removed;
    result.updated = changes.updated;
    result.app_ephemeral = ephemeral;
    result.app_data = Some(members::app_data(staged.group_context().extensions()));
    let reinit = reinit::in_commit(group, &staged)?;
    group
        .merge_staged_commit(provider, staged)
        .map_err(Failure::half_done)?;
    if let Some(reinit) = &reinit {
        reinit::end(provider.storage(), reinit)?;
    }
    Ok(result)
}

/// Decrypt or verify a message and do what it says; a failure changes nothing. Added leaves are held to
/// `validity`.
pub fn process(
    state: &mut GroupState,
    psks: &Psks,
    data: &[u8],
    values: NewValues,
    validity: Validity,
) -> Outcome<Processed> {
    let named = psk::of_commit(data, state.group.pending_proposals())?;
    if named.is_empty() {
        return judged(state, data, values, validity);
    }
    state.undoable(|state| {
        psks.lend(&state.provider, &named)?;
        let processed = judged(state, data, values, validity)?;
        psk::take_back(&state.provider, &named)?;
        Ok(processed)
    })
}

fn judged(
    state: &mut GroupState,
    data: &[u8],
    values: NewValues,
    validity: Validity,
) -> Outcome<Processed> {
    let ended = reinit::ended_by(state)?.is_some();
    let judging = Judging::new(data, validity, state.group.pending_proposals())?;
    let stand_ins = judging.stand_ins.clone();
    let incoming = Incoming {
        data,
        judging,
        values,
        ended,
    };
    match stand_ins {
        None => take_in(&mut state.group, &state.provider, incoming),
        Some(stand_ins) => {
            state.undoable(|state| take_in_with_stand_ins(state, incoming, &stand_ins))
        }
    }
}

fn take_in_with_stand_ins(
    state: &mut GroupState,
    incoming: Incoming<'_>,
    stand_ins: &StandIns,
) -> Outcome<Processed> {
    let referred = &incoming.judging.referred;
    if !referred.is_empty() {
        state.edit_store(|contents| stand_ins.show_stored(contents, referred))?;
    }
    let provider = Showing {
        crypto: stand_ins.crypto(&[incoming.data])?,
        rand: state.provider.rand(),
        storage: state.provider.storage(),
    };
    let processed = take_in(&mut state.group, &provider, incoming)?;
    state.edit_store(|contents| stand_ins.put_back(contents))?;
    let tree = state.group.export_ratchet_tree();
    stand_ins.refuse_left(&tree.tls_serialize_detached()?)?;
    Ok(processed)
}

/// Keep a proposal of an external sender that OpenMLS would refuse and that has been verified.
fn external_proposal(
    group: &mut MlsGroup,
    provider: &impl OpenMlsProvider<StorageProvider = Store>,
    proposal: QueuedProposal,
    incoming: &Incoming<'_>,
) -> Outcome<Processed> {
    app_data::refuse_rest(&incoming.values)?;
    let (content, _) = wire::public_content(incoming.data)?;
    let context = group.public_group().group_context();
    let (safe_aad, aad) = aad::split(context, content.authenticated_data.as_slice())?;
    let result = Processed {
        kind: "proposal",
        epoch: content.epoch,
        safe_aad,
        aad,
        proposal: Some(ProposalInfo::of(&proposal, None)?),
        ..Processed::default()
    };
    keep_proposal(group, provider, proposal)?;
    Ok(result)
}

fn take_in(
    group: &mut MlsGroup,
    provider: &impl OpenMlsProvider<StorageProvider = Store>,
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
    if message.content_type() != ContentType::Commit {
        app_data::refuse_rest(&incoming.values)?;
    }
    rules::check_sender(&message)?;
    if incoming.ended && message.epoch() == group.epoch() {
        return Err(Failure::not_allowed("the group was ended by a ReInit"));
    }
    if group.is_active() {
        if let Some(proposal) = external_proposals::verified(group.public_group(), incoming.data)? {
            return external_proposal(group, provider, proposal, &incoming);
        }
    }
    let processed = group
        .process_message(provider, message)
        .map_err(|failure| error::from_process(failure, current))?;
    let sender = processed.sender().clone();
    let mut result = Processed {
        epoch: processed.epoch().as_u64(),
        sender_leaf: member_index(&sender),
        sender_credential: processed.credential().tls_serialize_detached()?,
        sender_identity: credential::identity(processed.credential()).to_vec(),
        aad: processed.tail_aad().to_vec(),
        safe_aad: processed.safe_aad().map(aad::items),
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
            result.proposal = Some(ProposalInfo::of(&proposal, Some(&incoming.judging))?);
            psk::refuse_foreign(&proposal, group.group_id())?;
            result.app_ephemeral.extend(AppEphemeral::of(&proposal));
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
