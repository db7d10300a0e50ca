//! AppDataUpdate proposals (draft-ietf-mls-extensions, section 4.7) between Python and OpenMLS.

use std::collections::{BTreeMap, BTreeSet};

use openmls::component::ComponentData;
use openmls::group::{
    AppDataDictionaryUpdater, AppDataUpdates, QueuedProposal, UnresolvedAppDataCommit,
};
use openmls::messages::proposals::{AppDataUpdateOperation, AppDataUpdateProposal};
use openmls::prelude::{Proposal, ProposalIn};

use crate::error::{Failure, Outcome};
use crate::members::member_index;
use crate::values::AppDataUpdate;
use crate::wire::{WireCommit, WireProposal, WireSender};

pub type NewValues = BTreeMap<u16, Vec<u8>>;

fn describe(proposal: &AppDataUpdateProposal, sender_leaf: Option<u32>) -> AppDataUpdate {
    let (operation, payload) = match proposal.operation() {
        AppDataUpdateOperation::Update(data) => ("update", data.as_slice().to_vec()),
        AppDataUpdateOperation::Remove => ("remove", Vec::new()),
    };
    AppDataUpdate {
        component_id: proposal.component_id(),
        operation,
        payload,
        sender_leaf,
    }
}

/// The update in a queued proposal, if it is one.
pub fn of_queued(proposal: &QueuedProposal) -> Option<AppDataUpdate> {
    match proposal.proposal() {
        Proposal::AppDataUpdate(update) => Some(describe(update, member_index(proposal.sender()))),
        _ => None,
    }
}

/// The updates a commit would apply, in the order of the commit; nothing is verified here.
///
/// References to proposals that are not in `queued` are skipped: staging such a commit fails anyway.
pub fn of_commit<'a>(
    commit: &WireCommit,
    queued: impl Iterator<Item = &'a QueuedProposal>,
) -> Vec<AppDataUpdate> {
    let known: BTreeMap<&[u8], &QueuedProposal> = queued
        .map(|proposal| (proposal.proposal_reference_ref().as_slice(), proposal))
        .collect();
    let committer = match commit.content.sender {
        WireSender::Member(leaf) => Some(leaf),
        _ => None,
    };
    commit
        .proposals
        .iter()
        .filter_map(|proposal| match proposal {
            WireProposal::Value(value) => match value.as_ref() {
                ProposalIn::AppDataUpdate(update) => Some(describe(update, committer)),
                _ => None,
            },
            WireProposal::Reference(reference) => known
                .get(reference.as_slice())
                .and_then(|queued| of_queued(queued)),
        })
        .collect()
}

/// Turn the values the caller computed into what OpenMLS wants, checking that they answer exactly the
/// updates at hand.
pub fn resolve<'a>(
    mut updater: AppDataDictionaryUpdater<'_>,
    proposals: impl Iterator<Item = &'a AppDataUpdateProposal>,
    mut values: NewValues,
) -> Outcome<Option<AppDataUpdates>> {
    let mut updated = BTreeSet::new();
    for proposal in proposals {
        match proposal.operation() {
            AppDataUpdateOperation::Update(_) => {
                updated.insert(proposal.component_id());
            }
            AppDataUpdateOperation::Remove => updater.remove(&proposal.component_id()),
        }
    }
    for component in updated {
        let value = values.remove(&component).ok_or_else(|| {
            Failure::not_allowed(format!(
                "new_app_data lacks component {component:#06x}, which the commit updates"
            ))
        })?;
        updater.set(ComponentData::from_parts(component, value.into()));
    }
    refuse_rest(&values)?;
    Ok(updater.changes())
}

pub fn refuse_rest(values: &NewValues) -> Outcome<()> {
    match values.keys().next() {
        None => Ok(()),
        Some(component) => Err(Failure::not_allowed(format!(
            "new_app_data has component {component:#06x}, which the commit does not update"
        ))),
    }
}

pub fn resolve_unresolved(
    updater: AppDataDictionaryUpdater<'_>,
    commit: &UnresolvedAppDataCommit,
    values: NewValues,
) -> Outcome<Option<AppDataUpdates>> {
    resolve(updater, commit.app_data_update_proposals(), values)
}
