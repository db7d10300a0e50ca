//! Where in a handshake message the lifetimes of added leaves stand. Nothing here verifies anything.

use openmls::prelude::ProposalIn;
use tls_codec::{DeserializeBytes, TlsDeserializeBytes, TlsSerialize, TlsSize, VLBytes};

use crate::error::Outcome;
use crate::wire::{
    public_content, WireLifetime, CONTENT_COMMIT, CONTENT_PROPOSAL, PROPOSAL_BY_VALUE,
};

/// Type of an Add proposal, RFC 9420 section 17.4.
const PROPOSAL_ADD: u16 = 1;
/// `leaf_node_source` of a leaf with a lifetime, RFC 9420 section 7.2.
const LEAF_SOURCE_KEY_PACKAGE: u8 = 1;

/// The lifetime of the leaf in an Add proposal, and where it begins in the message.
pub struct AddedLifetime {
    pub offset: usize,
    pub lifetime: WireLifetime,
}

/// The lifetimes of the leaves that an MLSMessage(PublicMessage) adds by value.
pub fn added_lifetimes(data: &[u8]) -> Outcome<Vec<AddedLifetime>> {
    let (content, body) = public_content(data)?;
    let mut found = Vec::new();
    let end = match content.content_type {
        CONTENT_PROPOSAL => {
            found.extend(added_lifetime(body)?);
            data.len()
        }
        CONTENT_COMMIT => {
            let (list, after) = VLBytes::tls_deserialize_bytes(body)?;
            let mut rest = list.as_slice();
            while let Some((kind, body)) = rest.split_first() {
                rest = if *kind == PROPOSAL_BY_VALUE {
                    found.extend(added_lifetime(body)?);
                    ProposalIn::tls_deserialize_bytes(body)?.1
                } else {
                    VLBytes::tls_deserialize_bytes(body)?.1
                };
            }
            data.len() - after.len()
        }
        _ => data.len(),
    };
    Ok(found
        .into_iter()
        .map(|(before_end, lifetime)| AddedLifetime {
            offset: end - before_end,
            lifetime,
        })
        .collect())
}

/// The lifetime in a Proposal that is an Add, and how far before the end of `proposal` it begins.
fn added_lifetime(proposal: &[u8]) -> Outcome<Option<(usize, WireLifetime)>> {
    let (kind, rest) = u16::tls_deserialize_bytes(proposal)?;
    if kind != PROPOSAL_ADD {
        return Ok(None);
    }
    Ok(key_package_lifetime(rest)?.map(|(offset, lifetime)| (rest.len() - offset, lifetime)))
}

/// Where in a KeyPackage the lifetime of its leaf begins, and the lifetime; None if the leaf has none.
pub fn key_package_lifetime(key_package: &[u8]) -> Outcome<Option<(usize, WireLifetime)>> {
    let (_, rest) = WireKeyPackageBegin::tls_deserialize_bytes(key_package)?;
    let (source, rest) = u8::tls_deserialize_bytes(rest)?;
    if source != LEAF_SOURCE_KEY_PACKAGE {
        return Ok(None);
    }
    let (lifetime, _) = WireLifetime::tls_deserialize_bytes(rest)?;
    Ok(Some((key_package.len() - rest.len(), lifetime)))
}

/// A KeyPackage up to the `leaf_node_source` of its leaf.
#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
struct WireKeyPackageBegin {
    version: u16,
    ciphersuite: u16,
    init_key: VLBytes,
    encryption_key: VLBytes,
    signature_key: VLBytes,
    credential_type: u16,
    credential_content: VLBytes,
    versions: VLBytes,
    ciphersuites: VLBytes,
    extensions_supported: VLBytes,
    proposals_supported: VLBytes,
    credentials_supported: VLBytes,
}
