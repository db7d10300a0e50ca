//! Proposals as PublicMessages (RFC 9420 section 6), taken apart and made by hand. Nothing here verifies anything.

use openmls::framing::SafeAad;
use openmls::group::GroupContext;
use openmls::prelude::ProposalIn;
use tls_codec::{DeserializeBytes, Serialize, VLBytes};

use crate::error::{Failure, Outcome};
use crate::keys::{self, SignatureKeyPair};
use crate::wire::{public_content, WireContent, WireSender, CONTENT_PROPOSAL};

/// Label of the signature on a FramedContent, RFC 9420 section 6.1.
pub const LABEL: &str = "FramedContentTBS";
/// ProtocolVersion mls10 and WireFormat mls_public_message: the head of an MLSMessage and of its FramedContentTBS.
const HEAD: [u8; 4] = [0, 1, 0, 1];
/// Octets of ProtocolVersion.
const VERSION_LENGTH: usize = 2;

/// An MLSMessage(PublicMessage) that holds a proposal.
pub struct PublicProposal<'a> {
    pub content: WireContent,
    pub proposal: ProposalIn,
    /// FramedContentTBS of a sender outside of the group: "case external: case new_member_proposal: struct{};"
    pub signed: &'a [u8],
    pub signature: Vec<u8>,
    /// AuthenticatedContent: wire format, FramedContent, FramedContentAuthData.
    pub authenticated: &'a [u8],
}

pub fn decode(data: &[u8]) -> Outcome<PublicProposal<'_>> {
    let (content, body) = public_content(data)?;
    if content.content_type != CONTENT_PROPOSAL {
        return Err(Failure::malformed("not a proposal"));
    }
    let (proposal, rest) = ProposalIn::tls_deserialize_bytes(body)?;
    let signed = &data[..data.len() - rest.len()];
    let (signature, rest) = VLBytes::tls_deserialize_bytes(rest)?;
    let authenticated = &data[VERSION_LENGTH..data.len() - rest.len()];
    let rest = match content.sender {
        WireSender::Member(_) => VLBytes::tls_deserialize_bytes(rest)?.1,
        _ => rest,
    };
    if !rest.is_empty() {
        return Err(Failure::malformed(format!("{} trailing bytes", rest.len())));
    }
    Ok(PublicProposal {
        content,
        proposal,
        signed,
        signature: signature.into(),
        authenticated,
    })
}

/// A proposal of an external sender, signed. `proposal` is the Proposal struct.
pub fn external(
    context: &GroupContext,
    sender_index: u32,
    proposal: &[u8],
    signer: &SignatureKeyPair,
) -> Outcome<Vec<u8>> {
    // draft-ietf-mls-extensions, Safe AAD: with the component in the group, all authenticated data begins with a
    // SafeAAD struct.
    let authenticated_data = match context.safe_aad_required() {
        true => SafeAad::empty().tls_serialize_detached()?,
        false => Vec::new(),
    };
    let content = WireContent {
        group_id: context.group_id().as_slice().into(),
        epoch: context.epoch().as_u64(),
        sender: WireSender::External(sender_index),
        authenticated_data: authenticated_data.into(),
        content_type: CONTENT_PROPOSAL,
    };
    let mut message = HEAD.to_vec();
    message.extend_from_slice(&content.tls_serialize_detached()?);
    message.extend_from_slice(proposal);
    let signature: VLBytes = keys::sign_with_label(&signer.signer, LABEL, &message)?.into();
    message.extend_from_slice(&signature.tls_serialize_detached()?);
    Ok(message)
}
