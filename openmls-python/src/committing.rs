//! Making a commit, as a member.
//!
//! OpenMLS takes the proposals of a commit from the stored ones and from its builder. The stored ones are arranged for
//! it here: only those that are to be committed, in an order that it accepts. Pre-shared keys must all be among them,
//! because OpenMLS 0.9.2 mixes those of its builder in front of the stored ones, while everybody else follows the order
//! of the commit. Afterwards exactly the proposals are stored that were before.

use openmls::group::{CommitMessageBundle, MlsGroup, Propose, QueuedProposal};
use openmls::messages::proposals::{AppDataUpdateProposal, AppEphemeralProposal};
use openmls::prelude::{
    CredentialWithKey, KeyPackage, LeafNodeIndex, LeafNodeParameters, Proposal, ProposalOrRefType,
};
use openmls::schedule::{PreSharedKeyId, Psk};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::OpenMlsProvider;
use tls_codec::Serialize;

use crate::aad::Aad;
use crate::app_data::{self, NewValues};
use crate::context::ContextChange;
use crate::error::{self, Failure, Kind, Outcome};
use crate::key_packages::valid_key_package;
use crate::lifetimes::Validity;
use crate::proposing::{leaf_parameters, put_back, refuse_unusable, take_out};
use crate::psk::{self, PskId, Psks};
use crate::state::GroupState;
use crate::store::Store;
use crate::values::CommitBundle;
use crate::{members, rules};

/// What a commit is to contain.
pub struct CommitRequest {
    pub add: Vec<Vec<u8>>,
    pub remove: Vec<u32>,
    pub psks: Vec<PskId>,
    pub updates: NewValues,
    pub removals: Vec<u16>,
    pub new_values: NewValues,
    pub ephemeral: Vec<(u16, Vec<u8>)>,
    pub context: ContextChange,
    pub leaf_app_data: Option<NewValues>,
    /// What the credential of our leaf is to be.
    pub certified: CredentialWithKey,
    pub aad: Aad,
    /// Whether the stored proposals are committed as well.
    pub take_pending: bool,
    pub tree_inside: bool,
    /// What the lifetimes of `add` are held to.
    pub validity: Validity,
}

/// What goes into the builder, beside the stored proposals.
#[derive(Default)]
pub struct Parts {
    pub key_packages: Vec<KeyPackage>,
    pub remove: Vec<u32>,
    pub proposals: Vec<Proposal>,
    pub leaf: LeafNodeParameters,
    pub new_values: NewValues,
    pub tree_inside: bool,
}

pub fn update_proposals(updates: &NewValues) -> impl Iterator<Item = Proposal> + '_ {
    updates.iter().map(|(component, payload)| {
        Proposal::AppDataUpdate(Box::new(AppDataUpdateProposal::update(
            *component,
            payload.clone(),
        )))
    })
}

/// Make a commit of our own and leave it pending. The caller undoes what a failure leaves half done.
pub fn commit(
    state: &mut GroupState,
    signer: &Signer,
    psks: &Psks,
    request: CommitRequest,
) -> Outcome<CommitBundle> {
    refuse_unusable(state)?;
    let mut key_packages: Vec<KeyPackage> = Vec::with_capacity(request.add.len());
    for data in &request.add {
        key_packages.push(valid_key_package(data, request.validity)?);
    }
    check_values(state, &request)?;
    let stored = take_out(state)?;
    arrange(state, signer, psks, &stored, &request)?;
    let named = named_psks(state)?;
    refuse_resumption_in_welcome(state, &key_packages, &named)?;
    psks.lend(&state.provider, &named)?;
    let removals = request.removals.iter().map(|component| {
        Proposal::AppDataUpdate(Box::new(AppDataUpdateProposal::remove(*component)))
    });
    let ephemeral = request.ephemeral.into_iter().map(|(component, data)| {
        Proposal::AppEphemeral(Box::new(AppEphemeralProposal::new(component, data)))
    });
    let parts = Parts {
        key_packages,
        remove: request.remove,
        proposals: ephemeral
            .chain(update_proposals(&request.updates))
            .chain(removals)
            .collect(),
        leaf: leaf_parameters(&state.group, request.leaf_app_data, request.certified)?,
        new_values: request.new_values,
        tree_inside: request.tree_inside,
    };
    request.aad.set(&mut state.group)?;
    let bundle = build(state, signer, parts)?;
    psk::take_back(&state.provider, &named)?;
    put_back(state, stored)?;
    Ok(bundle)
}

fn check_values(state: &GroupState, request: &CommitRequest) -> Outcome<()> {
    if request.remove.contains(&state.group.own_leaf_index().u32()) {
        return Err(Failure::not_allowed(
            "a commit cannot remove its committer; propose to leave instead",
        ));
    }
    let invalid = |message: String| Err(Failure::new(Kind::InvalidProposal, message));
    for leaf in &request.remove {
        if state
            .group
            .public_group()
            .leaf(LeafNodeIndex::new(*leaf))
            .is_none()
        {
            return invalid(format!("no member at leaf {leaf}"));
        }
    }
    let present = members::app_data(state.group.extensions());
    for (index, component) in request.removals.iter().enumerate() {
        if request.removals[..index].contains(component) {
            return invalid(format!("component {component:#06x} removed twice"));
        }
        if !present.contains_key(component) {
            return invalid(format!("component {component:#06x} has no state to remove"));
        }
        if request.updates.contains_key(component) {
            return invalid(format!("component {component:#06x} updated and removed"));
        }
    }
    for (index, ephemeral) in request.ephemeral.iter().enumerate() {
        // Equal proposals count once in OpenMLS, for who sends as for who receives them.
        if request.ephemeral[..index].contains(ephemeral) {
            return invalid("the same ephemeral data twice".to_owned());
        }
    }
    Ok(())
}

/// Store what is to be committed beside the proposals of the builder, in the order of the commit.
fn arrange(
    state: &mut GroupState,
    signer: &Signer,
    psks: &Psks,
    stored: &[QueuedProposal],
    request: &CommitRequest,
) -> Outcome<()> {
    // draft-ietf-mls-extensions, AppDataUpdate: a GroupContextExtensions proposal "can be followed by zero or more
    // AppDataUpdate proposals".
    let GroupState { provider, group } = state;
    if let Some(extensions) = request.context.applied(group)? {
        group
            .propose(
                provider,
                signer,
                Propose::GroupContextExtensions(extensions),
                ProposalOrRefType::Proposal,
            )
            .map_err(|failure| Failure::new(Kind::InvalidProposal, failure))?;
    }
    if request.take_pending {
        let changed = request.updates.keys().chain(&request.removals).copied();
        let left_out = rules::impossible_removals(
            stored.iter(),
            changed,
            &members::app_data(group.extensions()),
        );
        for proposal in stored {
            let reference = proposal.proposal_reference_ref().as_slice();
            if left_out.contains(reference)
                || contradicts(proposal, request)
                || !can_commit(state, psks, proposal)?
            {
                continue;
            }
            let GroupState { provider, group } = state;
            group
                .store_pending_proposal(provider.storage(), proposal.clone())
                .map_err(Failure::internal)?;
        }
    }
    let GroupState { provider, group } = state;
    for id in &request.psks {
        let id = id.for_use(provider.rand(), group.ciphersuite(), group.group_id())?;
        if !psks.has(group, id.psk()) {
            return Err(Failure::not_allowed("an unknown pre-shared key"));
        }
        group
            .propose_pre_shared_key_by_value(provider, signer, id)
            .map_err(Failure::not_allowed)?;
    }
    Ok(())
}

/// Whether a stored proposal updates a component that we remove.
fn contradicts(proposal: &QueuedProposal, request: &CommitRequest) -> bool {
    app_data::of_queued(proposal)
        .is_some_and(|update| request.removals.contains(&update.component_id))
}

/// Whether we can commit a stored proposal; others may.
fn can_commit(state: &GroupState, psks: &Psks, proposal: &QueuedProposal) -> Outcome<bool> {
    // RFC 9420 section 12.2: invalid is a list with "a Remove proposal that removes the committer"; the same holds for
    // the committer's own SelfRemove. Someone else commits those.
    if members::removed_leaf(proposal) == Some(state.group.own_leaf_index().u32()) {
        return Ok(false);
    }
    if let Some(id) = psk::of_proposal(proposal.proposal())? {
        return Ok(psks.has(&state.group, id.psk()));
    }
    // RFC 9420 section 12.2: invalid is a list with "a ReInit proposal together with any other proposal".
    Ok(!matches!(proposal.proposal(), Proposal::ReInit(_)))
}

fn named_psks(state: &GroupState) -> Outcome<Vec<PreSharedKeyId>> {
    let mut named = Vec::new();
    for proposal in state.group.pending_proposals() {
        named.extend(psk::of_proposal(proposal.proposal())?);
    }
    Ok(named)
}

/// Who joins does not have the resumption secrets of the group's past, and OpenMLS refuses such a Welcome even from who
/// does.
fn refuse_resumption_in_welcome(
    state: &GroupState,
    key_packages: &[KeyPackage],
    named: &[PreSharedKeyId],
) -> Outcome<()> {
    let adds = !key_packages.is_empty()
        || state
            .group
            .pending_proposals()
            .any(|queued| matches!(queued.proposal(), Proposal::Add(_)));
    if adds
        && named
            .iter()
            .any(|id| matches!(id.psk(), Psk::Resumption(_)))
    {
        return Err(Failure::not_allowed(
            "a commit with a resumption PSK cannot add members",
        ));
    }
    Ok(())
}

/// Commit the stored proposals and `parts`, always with an update path.
pub fn build(state: &mut GroupState, signer: &Signer, parts: Parts) -> Outcome<CommitBundle> {
    let GroupState { provider, group } = state;
    build_with(provider, group, signer, parts)
}

/// The same with another provider than the group's own.
pub fn build_with(
    provider: &impl OpenMlsProvider<StorageProvider = Store>,
    group: &mut MlsGroup,
    signer: &Signer,
    parts: Parts,
) -> Outcome<CommitBundle> {
    let before = group.export_ratchet_tree();
    let answered: Vec<AppDataUpdateProposal> = group
        .pending_proposals()
        .map(QueuedProposal::proposal)
        .chain(&parts.proposals)
        .filter_map(|proposal| match proposal {
            Proposal::AppDataUpdate(update) => Some(update.as_ref().clone()),
            _ => None,
        })
        .collect();
    let mut stage = group
        .commit_builder()
        .force_self_update(true)
        .leaf_node_parameters(parts.leaf)
        .propose_adds(parts.key_packages)
        .propose_removals(parts.remove.into_iter().map(LeafNodeIndex::new))
        .add_proposals(parts.proposals)
        .load_psks(provider.storage())
        .map_err(error::from_create_commit)?
        .create_group_info(true)
        .use_ratchet_tree_extension(parts.tree_inside);
    let changes = app_data::resolve(
        stage.app_data_dictionary_updater(),
        answered.iter(),
        parts.new_values,
    )?;
    stage.with_app_data_dictionary_updates(changes);
    let bundle = stage
        .build(provider.rand(), provider.crypto(), signer, |_| true)
        .map_err(error::from_create_commit)?
        .stage_commit(provider)
        .map_err(Failure::half_done)?;
    let staged = group
        .pending_commit()
        .ok_or_else(|| Failure::internal("the commit is not pending"))?;
    let tree = staged
        .export_ratchet_tree(provider.crypto(), before)
        .map_err(Failure::internal)?
        .ok_or_else(|| Failure::internal("an own commit without a tree"))?
        .tls_serialize_detached()?;
    encode_bundle(bundle, tree)
}

pub fn encode_bundle(bundle: CommitMessageBundle, ratchet_tree: Vec<u8>) -> Outcome<CommitBundle> {
    let welcome = bundle
        .to_welcome_msg()
        .map(|message| message.tls_serialize_detached())
        .transpose()?;
    let group_info = bundle
        .group_info()
        .ok_or_else(|| Failure::internal("a commit without GroupInfo"))?
        .tls_serialize_detached()?;
    Ok(CommitBundle {
        commit: bundle.commit().tls_serialize_detached()?,
        welcome,
        group_info,
        ratchet_tree,
    })
}
