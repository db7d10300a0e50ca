//! The parts of RFC 9420 wire structs that OpenMLS keeps private: message prefixes, GroupInfo, leaf nodes.
//!
//! Decoding only; nothing here verifies anything.

use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::{KeyPackageIn, MlsMessageIn, ProposalIn, RatchetTreeIn, Welcome};
use tls_codec::{
    Deserialize, DeserializeBytes, Size, TlsDeserializeBytes, TlsSerialize, TlsSize, VLBytes,
};

use crate::error::{Failure, Outcome};

const VERSION_MLS10: [u8; 2] = [0, 1];
const WIRE_FORMAT_WELCOME: [u8; 2] = [0, 3];
const WIRE_FORMAT_GROUP_INFO: [u8; 2] = [0, 4];
const WIRE_FORMAT_KEY_PACKAGE: [u8; 2] = [0, 5];

/// Decode all of `data`; trailing bytes are refused.
pub fn exact<T: DeserializeBytes>(data: &[u8]) -> Outcome<T> {
    let (value, rest) = T::tls_deserialize_bytes(data)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(Failure::malformed(format!("{} trailing bytes", rest.len())))
    }
}

pub fn message(data: &[u8]) -> Outcome<MlsMessageIn> {
    let mut rest = data;
    let message = MlsMessageIn::tls_deserialize(&mut rest)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(Failure::malformed(format!("{} trailing bytes", rest.len())))
    }
}

/// The struct inside `data`, which is either the bare struct or an MLSMessage holding it.
///
/// The two cannot be confused: where an MLSMessage has its wire format (3, 4 or 5), a bare struct has a
/// ciphersuite (or a vector length) that this binding does not support.
fn unwrapped(data: &[u8], wire_format: [u8; 2]) -> &[u8] {
    match data {
        [v0, v1, w0, w1, rest @ ..] if [*v0, *v1] == VERSION_MLS10 && [*w0, *w1] == wire_format => {
            rest
        }
        _ => data,
    }
}

pub fn group_info_bytes(data: &[u8]) -> &[u8] {
    unwrapped(data, WIRE_FORMAT_GROUP_INFO)
}

pub fn group_info(data: &[u8]) -> Outcome<VerifiableGroupInfo> {
    exact(group_info_bytes(data))
}

pub fn key_package_bytes(data: &[u8]) -> &[u8] {
    unwrapped(data, WIRE_FORMAT_KEY_PACKAGE)
}

pub fn key_package(data: &[u8]) -> Outcome<KeyPackageIn> {
    exact(key_package_bytes(data))
}

pub fn welcome(data: &[u8]) -> Outcome<Welcome> {
    exact(unwrapped(data, WIRE_FORMAT_WELCOME))
}

pub fn ratchet_tree(data: &[u8]) -> Outcome<RatchetTreeIn> {
    exact(data)
}

#[derive(Clone, Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireExtension {
    pub kind: u16,
    pub data: VLBytes,
}

/// A ReInit proposal, RFC 9420 section 12.1.5.
#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireReInit {
    pub group_id: VLBytes,
    pub version: u16,
    pub ciphersuite: u16,
    pub extensions: Vec<WireExtension>,
}

/// A PreSharedKeyID, RFC 9420 section 8.4, as far as it matters here.
#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
#[repr(u8)]
pub enum WirePsk {
    #[tls_codec(discriminant = 1)]
    External(WireExternalPsk),
    Resumption(WireResumptionPsk),
    Application(WireApplicationPsk),
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireExternalPsk {
    pub psk_id: VLBytes,
    pub psk_nonce: VLBytes,
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireResumptionPsk {
    pub usage: u8,
    pub psk_group_id: VLBytes,
    pub psk_epoch: u64,
    pub psk_nonce: VLBytes,
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireApplicationPsk {
    pub component_id: u16,
    pub psk_id: VLBytes,
    pub psk_nonce: VLBytes,
}

impl WirePsk {
    pub fn external_id(self) -> Option<Vec<u8>> {
        match self {
            Self::External(psk) => Some(psk.psk_id.into()),
            _ => None,
        }
    }
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireGroupContext {
    pub version: u16,
    pub ciphersuite: u16,
    pub group_id: VLBytes,
    pub epoch: u64,
    pub tree_hash: VLBytes,
    pub confirmed_transcript_hash: VLBytes,
    pub extensions: VLBytes,
}

/// GroupInfo with the exact bytes that were signed.
pub struct WireGroupInfo {
    pub context: WireGroupContext,
    pub context_bytes: Vec<u8>,
    /// `Extension extensions<V>` with its length.
    pub extensions: Vec<u8>,
    pub confirmation_tag: Vec<u8>,
    pub signer: u32,
    pub signature: Vec<u8>,
    /// GroupInfoTBS: everything before the signature.
    pub signed_bytes: Vec<u8>,
}

pub fn wire_group_info(data: &[u8]) -> Outcome<WireGroupInfo> {
    let whole = group_info_bytes(data);
    let (context, rest) = WireGroupContext::tls_deserialize_bytes(whole)?;
    let context_bytes = whole[..whole.len() - rest.len()].to_vec();
    let (_, after) = VLBytes::tls_deserialize_bytes(rest)?;
    let extensions = rest[..rest.len() - after.len()].to_vec();
    let (confirmation_tag, rest) = VLBytes::tls_deserialize_bytes(after)?;
    let (signer, rest) = u32::tls_deserialize_bytes(rest)?;
    let signed_bytes = whole[..whole.len() - rest.len()].to_vec();
    let signature: VLBytes = exact(rest)?;
    Ok(WireGroupInfo {
        context,
        context_bytes,
        extensions,
        confirmation_tag: confirmation_tag.into(),
        signer,
        signature: signature.into(),
        signed_bytes,
    })
}

/// Who signed a PublicMessage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TlsDeserializeBytes, TlsSerialize, TlsSize)]
#[repr(u8)]
pub enum WireSender {
    #[tls_codec(discriminant = 1)]
    Member(u32),
    External(u32),
    NewMemberProposal,
    NewMemberCommit,
}

/// The FramedContent of a PublicMessage up to its content type.
#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireContent {
    pub group_id: VLBytes,
    pub epoch: u64,
    pub sender: WireSender,
    pub authenticated_data: VLBytes,
    pub content_type: u8,
}

pub const CONTENT_PROPOSAL: u8 = 2;
pub const CONTENT_COMMIT: u8 = 3;

/// ProposalOrRefType of a proposal in the commit itself.
pub const PROPOSAL_BY_VALUE: u8 = 1;

/// A proposal of a commit.
pub enum WireProposal {
    Value(Box<ProposalIn>),
    Reference(Vec<u8>),
}

/// The prefix of an MLSMessage(PublicMessage), and what follows it.
pub fn public_content(data: &[u8]) -> Outcome<(WireContent, &[u8])> {
    match data {
        [0, 1, 0, 1, rest @ ..] => Ok(WireContent::tls_deserialize_bytes(rest)?),
        _ => Err(Failure::malformed("not a PublicMessage")),
    }
}

/// The parts of an MLSMessage(PublicMessage(Commit)) that OpenMLS keeps to itself, unverified.
pub struct WireCommit {
    pub content: WireContent,
    /// In the order of the commit.
    pub proposals: Vec<WireProposal>,
    /// The public keys of the update path: the leaf's, then those of its ancestors.
    pub path_keys: Vec<Vec<u8>>,
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
struct WirePathNode {
    encryption_key: VLBytes,
    encrypted_path_secret: VLBytes,
}

pub fn commit(data: &[u8]) -> Outcome<WireCommit> {
    let (content, rest) = public_content(data)?;
    if content.content_type != CONTENT_COMMIT {
        return Err(Failure::malformed("not a commit"));
    }
    let (list, rest) = VLBytes::tls_deserialize_bytes(rest)?;
    let (has_path, rest) = u8::tls_deserialize_bytes(rest)?;
    let mut path_keys = Vec::new();
    if has_path == 1 {
        let (leaf, rest) = WireLeaf::tls_deserialize_bytes(rest)?;
        let (nodes, _) = Vec::<WirePathNode>::tls_deserialize_bytes(rest)?;
        path_keys.push(leaf.encryption_key.into());
        path_keys.extend(nodes.into_iter().map(|node| node.encryption_key.into()));
    }
    Ok(WireCommit {
        content,
        proposals: proposals(list.as_slice())?,
        path_keys,
    })
}

fn proposals(mut rest: &[u8]) -> Outcome<Vec<WireProposal>> {
    let mut proposals = Vec::new();
    while !rest.is_empty() {
        let (kind, body) = u8::tls_deserialize_bytes(rest)?;
        rest = match kind {
            PROPOSAL_BY_VALUE => {
                let (proposal, rest) = ProposalIn::tls_deserialize_bytes(body)?;
                proposals.push(WireProposal::Value(Box::new(proposal)));
                rest
            }
            2 => {
                let (reference, rest) = VLBytes::tls_deserialize_bytes(body)?;
                proposals.push(WireProposal::Reference(reference.into()));
                rest
            }
            other => {
                return Err(Failure::malformed(format!(
                    "unknown ProposalOrRef type {other}"
                )))
            }
        };
    }
    Ok(proposals)
}

/// A LeafNode of a ratchet tree.
#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireLeaf {
    pub encryption_key: VLBytes,
    pub signature_key: VLBytes,
    pub credential_type: u16,
    pub credential_content: VLBytes,
    pub versions: VLBytes,
    pub ciphersuites: VLBytes,
    pub extensions_supported: VLBytes,
    pub proposals_supported: VLBytes,
    pub credentials_supported: VLBytes,
    pub source: WireLeafSource,
    pub extensions: VLBytes,
    pub signature: VLBytes,
}

#[derive(Clone, Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
#[repr(u8)]
pub enum WireLeafSource {
    #[tls_codec(discriminant = 1)]
    KeyPackage(WireLifetime),
    Update,
    Commit(VLBytes),
}

/// In seconds since 1970.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, TlsDeserializeBytes, TlsSerialize, TlsSize,
)]
pub struct WireLifetime {
    pub not_before: u64,
    pub not_after: u64,
}

impl WireLifetime {
    /// Bounds as OpenMLS sees them.
    pub fn covers(self, time: u64) -> bool {
        self.not_before <= time && time < self.not_after
    }
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
pub struct WireParent {
    pub encryption_key: VLBytes,
    pub parent_hash: VLBytes,
    pub unmerged_leaves: VLBytes,
}

#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
#[repr(u8)]
pub enum WireNode {
    #[tls_codec(discriminant = 1)]
    Leaf(Box<WireLeaf>),
    Parent(WireParent),
}

/// The nodes of a `ratchet_tree` extension, leaves at even positions.
pub fn tree_nodes(data: &[u8]) -> Outcome<Vec<Option<WireNode>>> {
    exact(data)
}

/// A node that is not blank, its index in the array, and where its struct begins in the encoded tree, after
/// the presence and node type bytes.
pub struct LocatedNode {
    pub index: u64,
    pub offset: usize,
    pub node: WireNode,
}

pub fn located_nodes(data: &[u8]) -> Outcome<Vec<LocatedNode>> {
    let nodes = tree_nodes(data)?;
    let body: usize = nodes.iter().map(Size::tls_serialized_len).sum();
    // What precedes the nodes is the length of the vector.
    let mut offset = data.len().saturating_sub(body);
    let mut located = Vec::with_capacity(nodes.len());
    for (index, node) in (0..).zip(nodes) {
        let length = node.tls_serialized_len();
        if let Some(node) = node {
            located.push(LocatedNode {
                index,
                offset: offset + 2,
                node,
            });
        }
        offset += length;
    }
    Ok(located)
}
