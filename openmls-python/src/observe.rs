//! Beginning to track a group from a GroupInfo and its ratchet tree.

use std::time::{SystemTime, UNIX_EPOCH};

use openmls::group::{ProposalStore, PublicGroup as Tracked};
use openmls::prelude::OpenMlsRand;
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize;

use crate::config;
use crate::error::{self, Failure, Outcome};
use crate::provider::Provider;
use crate::restoring::{find, Restoring};
use crate::tracked::Public;
use crate::values::Member;
use crate::wire::{self, LocatedNode, WireLeafSource, WireLifetime, WireNode};

/// Above every real time, so that a stand-in can never be a lifetime somebody chose.
const STAND_IN_NOT_AFTER: u64 = 1 << 62;

fn lifetime(node: &LocatedNode) -> Option<WireLifetime> {
    match &node.node {
        WireNode::Leaf(leaf) => match leaf.source {
            WireLeafSource::KeyPackage(lifetime) => Some(lifetime),
            _ => None,
        },
        WireNode::Parent(_) => None,
    }
}

fn covers(lifetime: WireLifetime, now: u64) -> bool {
    lifetime.not_before <= now && now < lifetime.not_after
}

/// RFC 9420 section 7.3 recommends a check of the lifetime of every leaf that was never updated.
fn check_lifetimes(nodes: &[LocatedNode], now: u64) -> Outcome<()> {
    for node in nodes {
        match lifetime(node) {
            Some(lifetime) if !covers(lifetime, now) => {
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
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(Failure::internal)?
        .as_secs();
    let stale: Vec<(usize, WireLifetime)> = nodes
        .iter()
        .filter_map(|node| lifetime(node).map(|lifetime| (node, lifetime)))
        .filter(|(_, lifetime)| !covers(*lifetime, clock))
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
        Public { provider, group }
    } else {
        observe_stale(group_info, &tree, &stale)?
    };
    Member::list(public.group.members())?;
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
/// `restoring`), and the genuine ones are put back into what it stored.
fn observe_stale(
    group_info: &[u8],
    tree: &[u8],
    stale: &[(usize, WireLifetime)],
) -> Outcome<Public> {
    let provider = Provider::default();
    let random: [u8; 4] = provider.rand().random_array().map_err(Failure::internal)?;
    let not_before = u64::from(u32::from_be_bytes(random) >> 2);
    let mut shown_tree = tree.to_vec();
    let mut pairs = Vec::with_capacity(stale.len());
    let mut texts = Vec::with_capacity(stale.len());
    for (number, (offset, genuine)) in (0..).zip(stale) {
        let stand_in = WireLifetime {
            not_before,
            not_after: STAND_IN_NOT_AFTER + number,
        };
        let shown = stand_in.tls_serialize_detached()?;
        shown_tree[*offset..offset + shown.len()].copy_from_slice(&shown);
        pairs.push((shown, genuine.tls_serialize_detached()?));
        texts.push((stored(stand_in), stored(*genuine)));
    }
    let crypto = Restoring::new(pairs, &[tree, group_info])?;
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
    let mut entries = provider.entries()?;
    for value in entries.values_mut() {
        put_back(value, &texts);
    }
    let public = Public::load(&group_id, Provider::from_entries(entries))?;
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

/// How OpenMLS stores a lifetime.
fn stored(lifetime: WireLifetime) -> Vec<u8> {
    format!(
        r#"{{"not_before":{},"not_after":{}}}"#,
        lifetime.not_before, lifetime.not_after
    )
    .into_bytes()
}

/// Replace each stand-in, which stand in the order of the tree.
fn put_back(value: &mut Vec<u8>, texts: &[(Vec<u8>, Vec<u8>)]) {
    let mut result = Vec::with_capacity(value.len());
    let mut rest = value.as_slice();
    for (shown, genuine) in texts {
        if let Some(at) = find(rest, shown) {
            result.extend_from_slice(&rest[..at]);
            result.extend_from_slice(genuine);
            rest = &rest[at + shown.len()..];
        }
    }
    result.extend_from_slice(rest);
    *value = result;
}
