//! Joining by external commit (RFC 9420 section 12.4.3.2), also in place of a leaf whose keys are lost.

use openmls::group::{CommitBuilder, GroupId, Initial, MlsGroup};
use openmls::messages::proposals::{AppDataUpdateProposal, PreSharedKeyProposal};
use openmls::prelude::{LeafNodeParameters, MlsMessageBodyIn, PublicMessageIn};
use openmls::schedule::PreSharedKeyId;
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize;

use crate::aad::Aad;
use crate::app_data::{self, NewValues};
use crate::committing::encode_bundle;
use crate::error::{self, Failure, Kind, Outcome};
use crate::options::Retention;
use crate::provider::Provider;
use crate::psk::{self, PskId};
use crate::replace::Replacement;
use crate::state::{ClientState, GroupState};
use crate::values::CommitBundle;
use crate::{config, wire};

pub struct ExternalJoin<'a> {
    pub group_info: &'a [u8],
    pub ratchet_tree: Option<&'a [u8]>,
    pub replace_leaf: Option<u32>,
    pub aad: &'a [u8],
    /// SelfRemove proposals pending at the hub, to "include [...] in its external Commit by reference"
    /// (draft-ietf-mls-extensions, SelfRemove).
    pub proposals: Vec<Vec<u8>>,
    pub psks: Vec<PskId>,
    pub app_data_updates: NewValues,
    pub new_app_data: NewValues,
    pub leaf_app_data: NewValues,
    pub retention: Retention,
}

pub struct Joined {
    pub base_epoch: u64,
    pub state: GroupState,
    pub bundle: CommitBundle,
}

fn public_messages(messages: &[Vec<u8>]) -> Outcome<Vec<PublicMessageIn>> {
    messages
        .iter()
        .map(|data| match wire::message(data)?.extract() {
            MlsMessageBodyIn::PublicMessage(message) => Ok(message),
            _ => Err(Failure::malformed("a proposal must be a PublicMessage")),
        })
        .collect()
}

/// Verify the GroupInfo and the tree, and begin an external commit.
fn begin<'a, P>(
    provider: &'a P,
    client: &ClientState,
    group_info: &[u8],
    tree: &[u8],
    request: &ExternalJoin<'_>,
) -> Outcome<CommitBuilder<'a, Initial, MlsGroup>>
where
    P: openmls::storage::OpenMlsProvider,
{
    MlsGroup::external_commit_builder()
        .with_ratchet_tree(wire::ratchet_tree(tree)?)
        .with_config(config::join_config(request.retention))
        .with_aad(request.aad.to_vec())
        .with_proposals(public_messages(&request.proposals)?)
        // A member whose key package expired since it was added is still a member.
        .skip_lifetime_validation()
        .build_group(
            provider,
            wire::group_info(group_info)?,
            client.certified_key(),
        )
        .map_err(error::from_external_builder)
}

/// Join the group described by `group_info` with a commit of our own. `client` is not changed.
pub fn external(client: &ClientState, request: &ExternalJoin<'_>) -> Outcome<Joined> {
    let decoded = wire::group_info(request.group_info)?;
    if decoded.ciphersuite() != client.suite {
        return Err(Failure::not_allowed("the group uses another ciphersuite"));
    }
    let tree = match (decoded.extensions().ratchet_tree(), request.ratchet_tree) {
        (Some(extension), _) => extension.ratchet_tree().tls_serialize_detached()?,
        (None, Some(tree)) => tree.to_vec(),
        (None, None) => return Err(Failure::not_allowed("the ratchet tree is missing")),
    };
    let base_epoch = decoded.epoch().as_u64();
    let aad = Aad {
        plain: request.aad.to_vec(),
        ..Aad::default()
    };
    aad.check(decoded.group_context().safe_aad_required())?;
    let provider = Provider::default();
    let named = named_psks(client, &provider, decoded.group_id(), &request.psks)?;
    client.known_psks()?.lend(&provider, &named)?;
    // Everything received is verified here, whatever happens below.
    let honest = begin(&provider, client, request.group_info, &tree, request)?;
    let replacement = replacement(client, &tree, request)?;
    let mut builder = match &replacement {
        None => honest,
        Some(replacement) => {
            drop(honest);
            begin(
                replacement,
                client,
                &replacement.group_info,
                &replacement.ratchet_tree,
                request,
            )?
        }
    }
    .leaf_node_parameters(
        LeafNodeParameters::builder()
            .with_capabilities(config::capabilities())
            .with_extensions(config::leaf_extensions(request.leaf_app_data.clone())?)
            .build(),
    )
    .add_psk_proposals(named.iter().cloned().map(PreSharedKeyProposal::new));
    for (component, payload) in &request.app_data_updates {
        builder = builder.add_app_data_update_proposal(AppDataUpdateProposal::update(
            *component,
            payload.clone(),
        ));
    }
    let mut stage = builder
        .load_psks(provider.storage())
        .map_err(error::from_create_commit)?
        .create_group_info(true);
    let changes = app_data::resolve(
        stage.app_data_dictionary_updater(),
        stage.app_data_update_proposals(),
        request.new_app_data.clone(),
    )?;
    stage.with_app_data_dictionary_updates(changes);
    let (group, bundle) = stage
        .build(provider.rand(), provider.crypto(), &client.signer, |_| true)
        .map_err(error::from_create_commit)?
        .finalize(&provider)
        .map_err(error::from_external_finalize)?;
    psk::take_back(&provider, &named)?;
    let tree = group.export_ratchet_tree().tls_serialize_detached()?;
    let bundle = encode_bundle(bundle, tree)?;
    Ok(Joined {
        base_epoch,
        state: GroupState { provider, group },
        bundle,
    })
}

/// An external commit can name PSKs (RFC 9420 section 12.4.3.2), but who is not in the group has no resumption secrets
/// of it.
fn named_psks(
    client: &ClientState,
    provider: &Provider,
    group_id: &GroupId,
    psks: &[PskId],
) -> Outcome<Vec<PreSharedKeyId>> {
    let known = client.known_psks()?.ids();
    psks.iter()
        .map(|id| {
            if !known.contains(id) {
                return Err(Failure::not_allowed("an unknown pre-shared key"));
            }
            id.for_use(provider.rand(), client.suite, group_id)
        })
        .collect()
}

/// How to stand in for the leaf to be replaced, if its signature key is not ours.
fn replacement(
    client: &ClientState,
    tree: &[u8],
    request: &ExternalJoin<'_>,
) -> Outcome<Option<Replacement>> {
    let Some(leaf) = request.replace_leaf else {
        return Ok(None);
    };
    let nodes = wire::tree_nodes(tree)?;
    let own = client.signer.public();
    let mut replaced = None;
    for (index, node) in nodes.iter().step_by(2).enumerate() {
        let Some(wire::WireNode::Leaf(node)) = node else {
            continue;
        };
        if index as u64 == u64::from(leaf) {
            replaced = Some(node.signature_key.as_slice().to_vec());
        } else if node.signature_key.as_slice() == own {
            return Err(Failure::not_allowed(
                "this signature key belongs to another leaf than the one to replace",
            ));
        }
    }
    let replaced = replaced
        .ok_or_else(|| Failure::new(Kind::InvalidProposal, format!("no member at leaf {leaf}")))?;
    if replaced == own {
        // OpenMLS replaces a leaf with our own signature key by itself.
        return Ok(None);
    }
    Replacement::new(request.group_info, tree, leaf, own).map(Some)
}
