//! Proposals of external senders that OpenMLS refuses: AppDataUpdate and ReInit.
//!
//! draft-ietf-mls-extensions, AppDataUpdate: "An AppDataUpdate proposal can be sent by an external sender." RFC 9420
//! section 12.1.8 lists "reinit" as well. OpenMLS takes only Add, Remove and GroupContextExtensions from one, so these
//! are verified here and stored as it would have stored them.

use openmls::ciphersuite::hash_ref::make_proposal_ref;
use openmls::framing::SafeAad;
use openmls::group::{GroupContext, PublicGroup, QueuedProposal};
use openmls::messages::proposals::{AppDataUpdateOperation, AppDataUpdateProposal};
use openmls::prelude::{Proposal, ProposalIn, ProposalType, Sender, SenderExtensionIndex};
use tls_codec::{DeserializeBytes, Serialize, VLBytes};

use crate::crypto::Crypto;
use crate::error::{Failure, Kind, Outcome};
use crate::labels;
use crate::members::app_data;
use crate::public_proposal::{self, PublicProposal};
use crate::queued::queued_as;
use crate::reinit;
use crate::wire::{public_content, WireSender, CONTENT_PROPOSAL};

/// The proposal in `data`, verified, if it is one of these of an external sender of `group`; None for any other
/// message, about which nothing is said here. Group and epoch of the message are for the caller to compare.
pub fn verified(group: &PublicGroup, data: &[u8]) -> Outcome<Option<QueuedProposal>> {
    let is_external = public_content(data).is_ok_and(|(content, _)| {
        matches!(content.sender, WireSender::External(_))
            && content.content_type == CONTENT_PROPOSAL
    });
    if !is_external {
        return Ok(None);
    }
    let message = public_proposal::decode(data)?;
    let proposal = match &message.proposal {
        ProposalIn::AppDataUpdate(update) => Proposal::AppDataUpdate(update.clone()),
        ProposalIn::ReInit(reinit) => Proposal::ReInit(reinit.clone()),
        _ => return Ok(None),
    };
    let context = group.group_context();
    let sender = verify(context, &message)?;
    if context.safe_aad_required() {
        SafeAad::tls_deserialize_bytes(message.content.authenticated_data.as_slice())
            .map_err(|_| Failure::not_allowed("the authenticated data holds no SafeAAD"))?;
    }
    match &proposal {
        Proposal::AppDataUpdate(update) => check_update(group, update)?,
        _ => reinit::check_version(&proposal)?,
    }
    let reference = make_proposal_ref(
        message.authenticated,
        group.ciphersuite(),
        &Crypto::default(),
    )
    .map_err(Failure::internal)?;
    let sender = Sender::External(SenderExtensionIndex::new(sender));
    queued_as(group.group_id(), &reference, sender, proposal).map(Some)
}

/// RFC 9420 section 6.1: the signature of an external sender is verified with "the signature key at the index
/// indicated by the sender_index in the external_senders group context extension".
pub fn verify(context: &GroupContext, message: &PublicProposal<'_>) -> Outcome<u32> {
    let WireSender::External(index) = message.content.sender else {
        return Err(Failure::not_allowed("not an external sender"));
    };
    let sender = context
        .extensions()
        .external_senders()
        .and_then(|senders| senders.get(usize::try_from(index).ok()?))
        .ok_or_else(|| Failure::not_allowed(format!("no external sender {index} in this group")))?
        .tls_serialize_detached()?;
    // ExternalSender: signature_key, credential
    let (signature_key, _) = VLBytes::tls_deserialize_bytes(&sender)?;
    labels::verify(
        context.ciphersuite(),
        signature_key.as_slice(),
        public_proposal::LABEL,
        message.signed,
        &message.signature,
    )?;
    Ok(index)
}

fn check_update(group: &PublicGroup, update: &AppDataUpdateProposal) -> Outcome<()> {
    let invalid = |text: String| Err(Failure::new(Kind::InvalidProposal, text));
    let component = update.component_id();
    // "An AppDataUpdate proposal is invalid if [...] it specifies the removal of state for a component_id that has
    // no state present."
    if matches!(update.operation(), AppDataUpdateOperation::Remove)
        && !app_data(group.group_context().extensions()).contains_key(&component)
    {
        return invalid(format!("component {component:#06x} has no state"));
    }
    // RFC 9420 section 12.2: a list is invalid with "a proposal with a non-default proposal type that is not
    // supported by some members of the group". Members commit every proposal they hold, so this one would stop them.
    for (index, leaf) in group.treesync().full_leaves() {
        if !leaf
            .capabilities()
            .proposals()
            .contains(&ProposalType::AppDataUpdate)
        {
            return invalid(format!(
                "the member at leaf {} does not support AppDataUpdate",
                index.u32()
            ));
        }
    }
    Ok(())
}
