//! Reading application data and extensions out of OpenMLS types, and predicting the tree after a commit.

use std::collections::BTreeMap;

use openmls::extensions::Extensions;
use openmls::group::{QueuedProposal, StagedCommit};
use openmls::prelude::{LeafNode, Proposal, Sender};
use tls_codec::{Serialize, VLBytes};

use crate::error::{Failure, Outcome};
use crate::lifetimes::Judging;
use crate::member::{Member, Roster};
use crate::proposals::ProposalInfo;
use crate::wire::{self, WireExtension};

pub fn app_data<T>(extensions: &Extensions<T>) -> BTreeMap<u16, Vec<u8>> {
    extensions
        .app_data_dictionary()
        .map(|extension| {
            extension
                .dictionary()
                .entries()
                .map(|entry| (entry.id(), entry.data().to_vec()))
                .collect()
        })
        .unwrap_or_default()
}

/// The extensions in their order.
pub fn extension_list<T>(extensions: &Extensions<T>) -> Outcome<Vec<WireExtension>> {
    wire::exact(&extensions.tls_serialize_detached()?)
}

/// The raw public key of a leaf.
pub fn encryption_key(leaf: &LeafNode) -> Outcome<Vec<u8>> {
    let encoded = leaf.encryption_key().tls_serialize_detached()?;
    Ok(wire::exact::<VLBytes>(&encoded)?.into())
}

pub fn member_index(sender: &Sender) -> Option<u32> {
    match sender {
        Sender::Member(leaf) => Some(leaf.u32()),
        _ => None,
    }
}

/// The leaf a proposal removes: the target of a Remove, the sender of a SelfRemove.
pub fn removed_leaf(proposal: &QueuedProposal) -> Option<u32> {
    match proposal.proposal() {
        Proposal::Remove(remove) => Some(remove.removed().u32()),
        Proposal::SelfRemove => member_index(proposal.sender()),
        _ => None,
    }
}

/// What a commit does to the membership.
pub struct Changes {
    pub committer: Member,
    pub added: Vec<Member>,
    pub removed: Vec<Member>,
    pub updated: Vec<Member>,
    /// Everyone in the new epoch.
    pub tree: Roster,
    /// In the order of the commit.
    pub proposals: Vec<ProposalInfo>,
    pub kinds: Vec<String>,
    pub references: Vec<Vec<u8>>,
}

/// The leftmost empty leaf, when leaves are only ever filled: it never moves to the left.
struct LeftmostFree(u32);

impl LeftmostFree {
    fn next(&mut self, tree: &Roster) -> u32 {
        while tree.contains_key(&self.0) {
            self.0 += 1;
        }
        self.0
    }
}

/// Replay a verified commit on the members.
///
/// The order is that of RFC 9420 section 12.3: updates, removes, then adds in the order of the commit, each into
/// "the leftmost empty leaf" (section 7.7). The leaf of an external joiner comes last (section 12.4.2).
pub fn changes(
    old: &Roster,
    staged: &StagedCommit,
    sender: &Sender,
    judging: &Judging<'_>,
) -> Outcome<Changes> {
    let mut tree = old.clone();
    let mut committer = member_index(sender).and_then(|leaf| tree.get(&leaf).cloned());
    let (mut added, mut removed, mut updated) = (Vec::new(), Vec::new(), Vec::new());
    for proposal in staged.queued_proposals() {
        if let (Proposal::Update(update), Some(leaf)) =
            (proposal.proposal(), member_index(proposal.sender()))
        {
            let member = Member::new(leaf, update.leaf_node(), Some(judging))?;
            tree.insert(leaf, member.clone())
                .ok_or_else(|| Failure::internal("a verified commit touches an empty leaf"))?;
            updated.push(member);
        }
    }
    for proposal in staged.queued_proposals() {
        if let Some(leaf) = removed_leaf(proposal) {
            removed.extend(tree.remove(&leaf));
        }
    }
    let mut free = LeftmostFree(0);
    for proposal in staged.queued_proposals() {
        if let Proposal::Add(add) = proposal.proposal() {
            let leaf = add.key_package().leaf_node();
            let member = Member::new(free.next(&tree), leaf, Some(judging))?;
            tree.insert(member.leaf_index, member.clone());
            added.push(member);
        }
    }
    if let Some(leaf_node) = staged.update_path_leaf_node() {
        match member_index(sender) {
            Some(leaf) => {
                let member = Member::new(leaf, leaf_node, Some(judging))?;
                let same = tree
                    .get(&leaf)
                    .is_some_and(|old| old.is_same_client(&member));
                if !same {
                    updated.push(member.clone());
                }
                tree.insert(leaf, member);
            }
            None => {
                let member = Member::new(free.next(&tree), leaf_node, Some(judging))?;
                tree.insert(member.leaf_index, member.clone());
                added.push(member.clone());
                committer = Some(member);
            }
        }
    }
    let proposals = staged
        .queued_proposals()
        .map(|proposal| ProposalInfo::of(proposal, Some(judging)))
        .collect::<Outcome<Vec<_>>>()?;
    Ok(Changes {
        committer: committer.ok_or_else(|| Failure::internal("a commit without committer"))?,
        added,
        removed,
        updated,
        tree,
        kinds: distinct_kinds(&proposals),
        references: proposals
            .iter()
            .filter_map(|proposal| proposal.reference.clone())
            .collect(),
        proposals,
    })
}

/// In the order in which they first occur.
fn distinct_kinds(proposals: &[ProposalInfo]) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for proposal in proposals {
        if !kinds.contains(&proposal.kind) {
            kinds.push(proposal.kind.clone());
        }
    }
    kinds
}
