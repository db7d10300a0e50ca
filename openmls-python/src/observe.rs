//! Beginning to track a group from a GroupInfo and its ratchet tree.

use openmls::group::{ProposalStore, PublicGroup as Tracked};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize;

use crate::error::{self, Failure, Outcome};
use crate::lifetimes::{self, clock};
use crate::provider::Provider;
use crate::restoring::find;
use crate::stand_ins::StandIns;
use crate::store::Store;
use crate::tracked::Public;
use crate::wire::{self, LocatedNode, WireLeafSource, WireLifetime, WireNode};
use crate::{config, credential};

fn lifetime(node: &LocatedNode) -> Option<WireLifetime> {
    match &node.node {
        WireNode::Leaf(leaf) => match leaf.source {
            WireLeafSource::KeyPackage(lifetime) => Some(lifetime),
            _ => None,
        },
        WireNode::Parent(_) => None,
    }
}

/// RFC 9420 section 7.3 recommends a check of the lifetime of every leaf that was never updated.
fn check_lifetimes(nodes: &[LocatedNode], now: u64) -> Outcome<()> {
    for node in nodes {
        match lifetime(node) {
            Some(lifetime) if !lifetime.covers(now) => {
                return Err(Failure::invalid_commit(format!(
                    "leaf {} is valid from {} to {}, not at {now}",
                    node.index / 2,
                    lifetime.not_before,
                    lifetime.not_after
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

pub fn observe(
    group_info: &[u8],
    ratchet_tree: Option<&[u8]>,
    now: Option<u64>,
    maximum_lifetime: u64,
) -> Outcome<Public> {
    let info = wire::group_info(group_info)?;
    config::ciphersuite(info.ciphersuite().into())?;
    let tree = match (info.extensions().ratchet_tree(), ratchet_tree) {
        (Some(extension), _) => extension.ratchet_tree().tls_serialize_detached()?,
        (None, Some(tree)) => tree.to_vec(),
        (None, None) => return Err(Failure::not_allowed("the ratchet tree is missing")),
    };
    let nodes = wire::located_nodes(&tree)?;
    if let Some(now) = now {
        check_lifetimes(&nodes, now)?;
    }
    let present = clock()?;
    let stale: Vec<(usize, WireLifetime)> = nodes
        .iter()
        .filter_map(|node| lifetime(node).map(|lifetime| (node, lifetime)))
        .filter(|(_, lifetime)| lifetimes::stale(lifetime, present))
        .map(|(node, lifetime)| (lifetime_offset(node), lifetime))
        .collect();
    let public = if stale.is_empty() {
        let provider = Provider::default();
        let (group, _) = Tracked::from_external(
            provider.crypto(),
            provider.storage(),
            wire::ratchet_tree(&tree)?,
            info,
            ProposalStore::new(),
        )
        .map_err(error::from_external_creation)?;
        Public {
            provider,
            group,
            maximum_lifetime,
        }
    } else {
        observe_stale(group_info, &tree, &stale, maximum_lifetime)?
    };
    for (_, leaf) in public.group.treesync().full_leaves() {
        credential::check(leaf.credential())?;
    }
    Ok(public)
}

/// LeafNode: encryption_key, signature_key, credential, capabilities, leaf_node_source (1), then the lifetime.
fn lifetime_offset(node: &LocatedNode) -> usize {
    use tls_codec::Size;
    let WireNode::Leaf(leaf) = &node.node else {
        return node.offset;
    };
    let after = leaf.extensions.tls_serialized_len() + leaf.signature.tls_serialized_len();
    node.offset + leaf.tls_serialized_len() - after - 16
}

/// A leaf that was added long ago and never updated has an expired lifetime and is a member all the same:
/// RFC 9420 section 7.3 only recommends the check, because old members would otherwise lock everybody out. OpenMLS
/// can skip it when a member joins but not here, so it is shown lifetimes that cover the present (see
/// `stand_ins`), and the genuine ones are put back into what it stored.
fn observe_stale(
    group_info: &[u8],
    tree: &[u8],
    stale: &[(usize, WireLifetime)],
    maximum_lifetime: u64,
) -> Outcome<Public> {
    let provider = Provider::default();
    let stand_ins = StandIns::new(stale.iter().map(|(_, genuine)| *genuine))?
        .ok_or_else(|| Failure::internal("nothing is stale"))?;
    let mut shown_tree = tree.to_vec();
    for (offset, genuine) in stale {
        stand_ins.show(&mut shown_tree, *offset, *genuine)?;
    }
    let crypto = stand_ins.crypto(&[tree, group_info])?;
    let mut shown_info = wire::group_info_bytes(group_info).to_vec();
    if let Some(at) = find(&shown_info, tree) {
        shown_info[at..at + tree.len()].copy_from_slice(&shown_tree);
    }
    let (shown, _) = Tracked::from_external(
        &crypto,
        provider.storage(),
        wire::ratchet_tree(&shown_tree)?,
        wire::group_info(&shown_info)?,
        ProposalStore::new(),
    )
    .map_err(error::from_external_creation)?;
    let group_id = shown.group_id().to_vec();
    drop(shown);
    let mut contents = provider.into_storage().into_contents();
    stand_ins.put_back(&mut contents)?;
    let public = Public::load(&group_id, Store::new(contents), maximum_lifetime)?;
    if public
        .group
        .export_ratchet_tree()
        .tls_serialize_detached()?
        != tree
    {
        return Err(Failure::internal("the genuine tree was not put back"));
    }
    Ok(public)
}
