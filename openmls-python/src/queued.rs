//! Queued proposals that OpenMLS would not make itself.
//!
//! Once such a proposal is in its store, OpenMLS handles it like any other. So it is put there in the form in which
//! OpenMLS stores proposals, and taken out as what OpenMLS reads.

use openmls::ciphersuite::hash_ref::ProposalRef;
use openmls::group::{GroupId, QueuedProposal};
use openmls::prelude::{Proposal, ProposalOrRefType, Sender};
use openmls_traits::storage::{traits, Entity, StorageProvider, CURRENT_VERSION};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Outcome};
use crate::store::Store;

/// How OpenMLS stores a proposal.
#[derive(Serialize, Deserialize)]
struct Stored {
    proposal: Proposal,
    proposal_reference: ProposalRef,
    sender: Sender,
    proposal_or_ref_type: ProposalOrRefType,
}

impl Entity<CURRENT_VERSION> for Stored {}
impl traits::QueuedProposal<CURRENT_VERSION> for Stored {}

/// `proposal` as if it had this reference and sender.
pub fn queued_as(
    group_id: &GroupId,
    reference: &ProposalRef,
    sender: Sender,
    proposal: Proposal,
) -> Outcome<QueuedProposal> {
    let scratch = Store::default();
    let stored = Stored {
        proposal,
        proposal_reference: reference.clone(),
        sender,
        proposal_or_ref_type: ProposalOrRefType::Reference,
    };
    scratch
        .queue_proposal(group_id, reference, &stored)
        .map_err(Failure::internal)?;
    let queued: Vec<(ProposalRef, QueuedProposal)> = scratch
        .queued_proposals(group_id)
        .map_err(Failure::internal)?;
    queued
        .into_iter()
        .map(|(_, queued)| queued)
        .next()
        .ok_or_else(|| Failure::internal("a proposal was not stored"))
}
