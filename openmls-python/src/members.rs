//! Reading members, proposals and application data out of OpenMLS types, and predicting the tree after a commit.

use std::collections::BTreeMap;

use openmls::extensions::Extensions;
use openmls::group::{GroupContext, QueuedProposal, StagedCommit};
use openmls::prelude::{Proposal, ProposalOrRefType, ProposalType, Sender};
use tls_codec::Serialize;

use crate::error::{Failure, Outcome};
use crate::values::{Member, ProposalInfo};

pub fn app_data(extensions: &Extensions<GroupContext>) -> BTreeMap<u16, Vec<u8>> {
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

pub fn proposal_kind(kind: ProposalType) -> String {
    match kind {
        ProposalType::Add => "add".to_owned(),
        ProposalType::Update => "update".to_owned(),
        ProposalType::Remove => "remove".to_owned(),
        ProposalType::PreSharedKey => "psk".to_owned(),
        ProposalType::Reinit => "reinit".to_owned(),
        ProposalType::ExternalInit => "external_init".to_owned(),
        ProposalType::GroupContextExtensions => "group_context_extensions".to_owned(),
        ProposalType::SelfRemove => "self_remove".to_owned(),
        ProposalType::AppEphemeral => "app_ephemeral".to_owned(),
        ProposalType::AppDataUpdate => "app_data_update".to_owned(),
        ProposalType::Grease(number) | ProposalType::Custom(number) => {
            format!("custom_{number:04x}")
        }
    }
}

pub fn external_index(sender: &Sender) -> Outcome<Option<u32>> {
    match sender {
        Sender::External(index) => {
            let raw = index.tls_serialize_detached()?;
            let raw: [u8; 4] = raw
                .try_into()
                .map_err(|_| Failure::internal("sender index is not a uint32"))?;
            Ok(Some(u32::from_be_bytes(raw)))
        }
        _ => Ok(None),
    }
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

pub fn proposal_info(proposal: &QueuedProposal) -> Outcome<ProposalInfo> {
    Ok(ProposalInfo {
        reference: proposal.proposal_reference_ref().as_slice().to_vec(),
        kind: proposal_kind(proposal.proposal().proposal_type()),
        sender_leaf: member_index(proposal.sender()),
        external_sender: external_index(proposal.sender())?,
        removed_leaf: removed_leaf(proposal),
    })
}

/// What a commit does to the membership.
pub struct Changes {
    pub committer: Member,
    pub added: Vec<Member>,
    pub removed: Vec<Member>,
    pub updated: Vec<Member>,
    /// Leaf index to member in the new epoch.
    pub tree: BTreeMap<u32, Member>,
    pub kinds: Vec<String>,
    pub references: Vec<Vec<u8>>,
}

fn leftmost_free(tree: &BTreeMap<u32, Member>) -> u32 {
    let mut free = 0;
    while tree.contains_key(&free) {
        free += 1;
    }
    free
}

fn take(tree: &mut BTreeMap<u32, Member>, leaf: u32) -> Outcome<Member> {
    tree.remove(&leaf)
        .ok_or_else(|| Failure::internal("a verified commit touches an empty leaf"))
}

/// Replay a verified commit on the list of members.
///
/// The order is that of RFC 9420 section 12.3: updates, removes, then adds in the order of the commit, each into
/// "the leftmost empty leaf" (section 7.7). The leaf of an external joiner comes last (section 12.4.2).
pub fn changes(old: Vec<Member>, staged: &StagedCommit, sender: &Sender) -> Outcome<Changes> {
    let mut tree: BTreeMap<u32, Member> = old
        .into_iter()
        .map(|member| (member.leaf_index, member))
        .collect();
    let mut committer = member_index(sender).and_then(|leaf| tree.get(&leaf).cloned());
    let mut result = (Vec::new(), Vec::new(), Vec::new());
    let (added, removed, updated) = (&mut result.0, &mut result.1, &mut result.2);
    for proposal in staged.queued_proposals() {
        if let (Proposal::Update(update), Some(leaf)) =
            (proposal.proposal(), member_index(proposal.sender()))
        {
            let member = Member::from_leaf(leaf, update.leaf_node())?;
            take(&mut tree, leaf)?;
            tree.insert(leaf, member.clone());
            updated.push(member);
        }
    }
    for proposal in staged.queued_proposals() {
        if let Some(leaf) = removed_leaf(proposal) {
            removed.extend(tree.remove(&leaf));
        }
    }
    for proposal in staged.queued_proposals() {
        if let Proposal::Add(add) = proposal.proposal() {
            let leaf = leftmost_free(&tree);
            let member = Member::from_leaf(leaf, add.key_package().leaf_node())?;
            tree.insert(leaf, member.clone());
            added.push(member);
        }
    }
    if let Some(leaf_node) = staged.update_path_leaf_node() {
        match sender {
            Sender::Member(leaf) => {
                let member = Member::from_leaf(leaf.u32(), leaf_node)?;
                if tree.get(&leaf.u32()) != Some(&member) {
                    updated.push(member.clone());
                }
                tree.insert(leaf.u32(), member);
            }
            _ => {
                let member = Member::from_leaf(leftmost_free(&tree), leaf_node)?;
                tree.insert(member.leaf_index, member.clone());
                added.push(member.clone());
                committer = Some(member);
            }
        }
    }
    let mut kinds: Vec<String> = Vec::new();
    let mut references = Vec::new();
    for proposal in staged.queued_proposals() {
        let kind = proposal_kind(proposal.proposal().proposal_type());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
        if proposal.proposal_or_ref_type() == ProposalOrRefType::Reference {
            references.push(proposal.proposal_reference_ref().as_slice().to_vec());
        }
    }
    let (added, removed, updated) = result;
    Ok(Changes {
        committer: committer.ok_or_else(|| Failure::internal("a commit without committer"))?,
        added,
        removed,
        updated,
        tree,
        kinds,
        references,
    })
}
