//! Making a commit, as a member.

use openmls::group::{CommitMessageBundle, MlsGroup};
use openmls::messages::proposals::AppDataUpdateProposal;
use openmls::prelude::{KeyPackage, LeafNodeIndex, LeafNodeParameters, Proposal};
use openmls::treesync::RatchetTree;
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize;

use crate::app_data::{self, NewValues};
use crate::error::{self, Failure, Kind, Outcome};
use crate::key_packages::valid_key_package;
use crate::provider::Provider;
use crate::state::GroupState;
use crate::values::CommitBundle;
use crate::{members, rules};

/// What a commit is to contain.
pub struct CommitRequest {
    pub add: Vec<Vec<u8>>,
    pub remove: Vec<u32>,
    pub updates: NewValues,
    pub new_values: NewValues,
    pub aad: Vec<u8>,
}

pub fn update_proposals(updates: &NewValues) -> Vec<Proposal> {
    updates
        .iter()
        .map(|(component, payload)| {
            Proposal::AppDataUpdate(Box::new(AppDataUpdateProposal::update(
                *component,
                payload.clone(),
            )))
        })
        .collect()
}

/// Make a commit of our own and leave it pending.
pub fn commit(
    state: &mut GroupState,
    signer: &Signer,
    request: CommitRequest,
) -> Outcome<CommitBundle> {
    if state.group.pending_commit().is_some() {
        return Err(Failure::not_allowed("a commit is pending already"));
    }
    if !state.group.is_active() {
        return Err(Failure::not_allowed(
            "this client was removed from the group",
        ));
    }
    let GroupState { provider, group } = state;
    let mut key_packages: Vec<KeyPackage> = Vec::with_capacity(request.add.len());
    for data in &request.add {
        key_packages.push(valid_key_package(data, None)?);
    }
    let own = group.own_leaf_index();
    if request.remove.contains(&own.u32()) {
        return Err(Failure::not_allowed(
            "a commit cannot remove its committer; propose to leave instead",
        ));
    }
    let present: Vec<u32> = group.members().map(|member| member.index.u32()).collect();
    if let Some(leaf) = request.remove.iter().find(|leaf| !present.contains(leaf)) {
        return Err(Failure::new(
            Kind::InvalidProposal,
            format!("no member at leaf {leaf}"),
        ));
    }
    let before = group.export_ratchet_tree();
    let left_out = rules::impossible_removals(
        group.pending_proposals(),
        request.updates.keys().copied(),
        &members::app_data(group.extensions()),
    );
    let answered: Vec<AppDataUpdateProposal> =
        group
            .pending_proposals()
            .filter(|queued| !left_out.contains(queued.proposal_reference_ref().as_slice()))
            .filter_map(|queued| match queued.proposal() {
                Proposal::AppDataUpdate(update) => Some(update.as_ref().clone()),
                _ => None,
            })
            .chain(request.updates.iter().map(|(component, payload)| {
                AppDataUpdateProposal::update(*component, payload.clone())
            }))
            .collect();
    group.set_aad(request.aad);
    let mut stage = group
        .commit_builder()
        .force_self_update(true)
        .leaf_node_parameters(LeafNodeParameters::default())
        .propose_adds(key_packages)
        .propose_removals(request.remove.into_iter().map(LeafNodeIndex::new))
        .add_proposals(update_proposals(&request.updates))
        .load_psks(provider.storage())
        .map_err(Failure::invalid_commit)?
        .create_group_info(true);
    let changes = app_data::resolve(
        stage.app_data_dictionary_updater(),
        answered.iter(),
        request.new_values,
    )?;
    stage.with_app_data_dictionary_updates(changes);
    let bundle = stage
        .build(provider.rand(), provider.crypto(), signer, |proposal| {
            // RFC 9420 section 12.2: invalid is a list with "a Remove proposal that removes the
            // committer"; the same holds for the committer's own SelfRemove. Someone else commits those.
            members::removed_leaf(proposal) != Some(own.u32())
                && !left_out.contains(proposal.proposal_reference_ref().as_slice())
        })
        .map_err(error::from_create_commit)?
        .stage_commit(provider)
        .map_err(Failure::half_done)?;
    let finished = new_tree(provider, group, before).and_then(|tree| encode_bundle(bundle, tree));
    if finished.is_err() {
        group
            .clear_pending_commit(provider.storage())
            .map_err(Failure::half_done)?;
    }
    finished
}

/// The ratchet tree after the pending commit.
fn new_tree(provider: &Provider, group: &MlsGroup, before: RatchetTree) -> Outcome<Vec<u8>> {
    let staged = group
        .pending_commit()
        .ok_or_else(|| Failure::internal("the commit is not pending"))?;
    let tree = staged
        .export_ratchet_tree(provider.crypto(), before)
        .map_err(Failure::internal)?
        .ok_or_else(|| Failure::internal("an own commit without a tree"))?;
    Ok(tree.tls_serialize_detached()?)
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
