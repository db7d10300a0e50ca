//! Beginning to track a group from a GroupInfo and its ratchet tree.

use openmls::group::PublicGroup as Tracked;
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize;

use crate::error::{self, Failure, Outcome};
use crate::provider::Provider;
use crate::public_group::{no_proposals, Public};
use crate::wire::{self, WireLeafSource, WireNode};

/// RFC 9420 section 7.3 recommends a check of the lifetime of every leaf that was never updated.
fn check_lifetimes(tree: &[u8], now: u64) -> Outcome<()> {
    for (index, node) in wire::tree_nodes(tree)?.iter().step_by(2).enumerate() {
        let Some(WireNode::Leaf(leaf)) = node else {
            continue;
        };
        if let WireLeafSource::KeyPackage(lifetime) = &leaf.source {
            if now < lifetime.not_before || now >= lifetime.not_after {
                return Err(Failure::invalid_commit(format!(
                    "leaf {index} is valid from {} to {}, not at {now}",
                    lifetime.not_before, lifetime.not_after
                )));
            }
        }
    }
    Ok(())
}

pub fn observe(
    group_info: &[u8],
    ratchet_tree: Option<&[u8]>,
    now: Option<u64>,
) -> Outcome<Public> {
    let info = wire::group_info(group_info)?;
    crate::config::ciphersuite(info.ciphersuite().into())?;
    let tree = match (info.extensions().ratchet_tree(), ratchet_tree) {
        (Some(extension), _) => extension.ratchet_tree().tls_serialize_detached()?,
        (None, Some(tree)) => tree.to_vec(),
        (None, None) => return Err(Failure::not_allowed("the ratchet tree is missing")),
    };
    if let Some(now) = now {
        check_lifetimes(&tree, now)?;
    }
    let provider = Provider::default();
    let (group, _) = Tracked::from_external(
        provider.crypto(),
        provider.storage(),
        wire::ratchet_tree(&tree)?,
        info,
        no_proposals(),
    )
    .map_err(error::from_external_creation)?;
    Ok(Public { provider, group })
}
