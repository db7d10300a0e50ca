//! Groups that go on from another one: the successor that a ReInit announced (RFC 9420 section 11.2) and subgroup
//! branching (section 11.3).

use std::collections::BTreeSet;

use openmls::ciphersuite::hash_ref::make_proposal_ref;
use openmls::group::{GroupEpoch, GroupId, Member, MlsGroup, StagedWelcome};
use openmls::messages::proposals::PreSharedKeyProposal;
use openmls::prelude::{Extensions, GroupContext, LeafNodeIndex, Proposal, ProposalType, Sender};
use openmls::schedule::psk::{ResumptionPsk, ResumptionPskUsage};
use openmls::schedule::{PreSharedKeyId, Psk};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::{Serialize, VLBytes};
use zeroize::Zeroizing;

use crate::app_data::NewValues;
use crate::bridging::{self, Bridging};
use crate::committing::{build_with, Parts};
use crate::error::{Failure, Outcome};
use crate::key_packages::valid_key_package;
use crate::options::Retention;
use crate::provider::Provider;
use crate::reinit::{self, ReInit};
use crate::state::{ClientState, GroupState};
use crate::values::CommitBundle;
use crate::{config, framing, psk, queued};

/// The epoch in which all others join, RFC 9420 sections 11.2 and 11.3: "The epoch in the Welcome message MUST be 1."
const FIRST_SHARED_EPOCH: u64 = 1;

/// What a new group is to be.
pub struct Successor {
    pub group_id: Vec<u8>,
    /// Those of the original group if None.
    pub extensions: Option<Extensions<GroupContext>>,
    pub usage: ResumptionPskUsage,
    pub add: Vec<Vec<u8>>,
    pub leaf_app_data: NewValues,
    pub retention: Retention,
    pub now: Option<u64>,
}

/// The parameters that the ReInit of a group of `former` announced, whose successor is to be one of `client`.
pub fn announced(client: &ClientState, former: &ClientState, group_id: &[u8]) -> Outcome<ReInit> {
    let reinit = former
        .view_group(group_id, reinit::ended_by)?
        .ok_or_else(|| Failure::not_allowed("the group was not ended by a ReInit"))?;
    if reinit.suite() != u16::from(client.suite) {
        return Err(Failure::not_allowed(
            "the successor uses another ciphersuite than this client",
        ));
    }
    Ok(reinit)
}

/// What a new group takes from the one that it goes on from.
struct Parent {
    psk: Psk,
    secret: Zeroizing<Vec<u8>>,
    extensions: Extensions<GroupContext>,
}

fn parent(state: &GroupState, usage: ResumptionPskUsage) -> Outcome<Parent> {
    let group = &state.group;
    if !group.is_active() {
        return Err(Failure::not_allowed(
            "this client was removed from the group",
        ));
    }
    if usage == ResumptionPskUsage::Branch {
        reinit::refuse_ended(state)?;
    }
    Ok(Parent {
        psk: Psk::Resumption(ResumptionPsk::new(
            usage,
            group.group_id().clone(),
            group.epoch(),
        )),
        secret: Zeroizing::new(group.resumption_psk_secret().as_slice().to_vec()),
        extensions: group.extensions().clone(),
    })
}

/// Create the group, add the others with a commit that names the resumption PSK of `parent_id`, a group of `former`, and
/// enter epoch 1.
pub fn create(
    client: &ClientState,
    former: &ClientState,
    parent_id: &[u8],
    request: Successor,
) -> Outcome<CommitBundle> {
    let parent = former.view_group(parent_id, |state| parent(state, request.usage))?;
    if request.add.is_empty() {
        return Err(Failure::not_allowed("nobody to go on with"));
    }
    let mut key_packages = Vec::with_capacity(request.add.len());
    for data in &request.add {
        key_packages.push(valid_key_package(data, client.validity(request.now))?);
    }
    let provider = Provider::default();
    let genuine = PreSharedKeyId::new(client.suite, provider.rand(), parent.psk)
        .map_err(Failure::internal)?;
    let group = MlsGroup::new_with_group_id(
        &provider,
        &client.signer,
        &config::create_config(
            client.suite,
            request.extensions.unwrap_or(parent.extensions),
            config::leaf_extensions(request.leaf_app_data)?,
            request.retention,
            request.now,
        )?,
        GroupId::from_slice(&request.group_id),
        client.certified_key(),
    )
    .map_err(Failure::not_allowed)?;
    let mut state = GroupState { provider, group };
    let shown = bridging::shown(&genuine)?;
    propose(&mut state, client, &genuine, &shown)?;
    shown
        .store(&state.provider, &parent.secret)
        .map_err(Failure::internal)?;
    let GroupState { provider, group } = &mut state;
    let bridging = Bridging::new(provider, vec![genuine]);
    let parts = Parts {
        key_packages,
        ..Parts::default()
    };
    let bundle = build_with(&bridging, group, &client.signer, parts)?;
    group
        .merge_pending_commit(&*provider)
        .map_err(Failure::internal)?;
    psk::take_back(&state.provider, &[shown])?;
    client.change_entry(&request.group_id, |slot| slot.begin(state))?;
    Ok(bundle)
}

/// Store a proposal of the PSK in the new group, for a commit by reference: the commit does not hold the ID itself.
fn propose(
    state: &mut GroupState,
    client: &ClientState,
    genuine: &PreSharedKeyId,
    shown: &PreSharedKeyId,
) -> Outcome<()> {
    let mut proposal = u16::from(ProposalType::PreSharedKey).tls_serialize_detached()?;
    genuine.tls_serialize(&mut proposal)?;
    let message = framing::member_proposal(state, &client.signer, &proposal)?;
    // RFC 9420 section 5.2: a ProposalRef is computed from the AuthenticatedContent, which is the MLSMessage without
    // the version in front and without the membership tag at the end.
    let tag_length = VLBytes::from(vec![0; client.suite.hash_length()])
        .tls_serialize_detached()?
        .len();
    let content = message
        .len()
        .checked_sub(tag_length)
        .and_then(|end| message.get(2..end))
        .ok_or_else(|| Failure::internal("a proposal is too short"))?;
    let reference = make_proposal_ref(content, client.suite, state.provider.crypto())
        .map_err(Failure::internal)?;
    let queued = queued::queued_as(
        state.group.group_id(),
        &reference,
        Sender::Member(LeafNodeIndex::new(0)),
        Proposal::PreSharedKey(Box::new(PreSharedKeyProposal::new(shown.clone()))),
    )?;
    state
        .group
        .store_pending_proposal(state.provider.storage(), queued)
        .map_err(Failure::internal)
}

/// Put the secret of a PSK that a Welcome names, of a group of `former`, into the store in which it is looked up.
pub fn lend(
    former: &ClientState,
    provider: &Provider,
    genuine: &PreSharedKeyId,
) -> Outcome<PreSharedKeyId> {
    let unknown = || Failure::not_allowed("the Welcome goes on from a group that is not here");
    let Psk::Resumption(psk) = genuine.psk() else {
        return Err(unknown());
    };
    let shown = bridging::shown(genuine)?;
    let slot = former
        .slot(psk.psk_group_id().as_slice())
        .map_err(|_| unknown())?;
    slot.view(|slot| {
        let secret = slot
            .current
            .as_ref()
            .and_then(|parent| parent.group.get_past_resumption_psk(psk.psk_epoch()))
            .ok_or_else(unknown)?;
        shown
            .store(provider, secret.as_slice())
            .map_err(Failure::internal)
    })?;
    Ok(shown)
}

/// Check a Welcome that goes on from a group of `former` against that group.
pub fn check(
    former: &ClientState,
    genuine: &[PreSharedKeyId],
    staged: &StagedWelcome,
) -> Outcome<()> {
    let psk = match genuine {
        [] => return Ok(()),
        [only] => only.psk(),
        _ => {
            return Err(Failure::invalid_commit(
                "a Welcome that goes on from several groups",
            ))
        }
    };
    let Psk::Resumption(psk) = psk else {
        return Err(Failure::internal("not a resumption PSK"));
    };
    former.view_group(psk.psk_group_id().as_slice(), |parent| {
        check_against(parent, psk, staged)
    })
}

fn check_against(parent: &GroupState, psk: &ResumptionPsk, staged: &StagedWelcome) -> Outcome<()> {
    let context = staged.group_context();
    if context.epoch() != GroupEpoch::from(FIRST_SHARED_EPOCH) {
        return Err(Failure::invalid_commit(
            "a group that goes on from another begins at epoch 1",
        ));
    }
    let identities = |members: &mut dyn Iterator<Item = Member>| -> BTreeSet<Vec<u8>> {
        members
            .map(|member| member.credential.serialized_content().to_vec())
            .collect()
    };
    let old = identities(&mut parent.group.members());
    let new = identities(&mut staged.members());
    // RFC 9420 section 11.3: "A new group can be formed from a subset of an existing group's members".
    if !new.is_subset(&old) {
        return Err(Failure::invalid_commit(
            "the new group has a member that the original one does not have",
        ));
    }
    // RFC 9420 section 11.2: "A group may be reinitialized by creating a new group with the same membership".
    if psk.usage() == ResumptionPskUsage::Reinit && old != new {
        return Err(Failure::invalid_commit(
            "the new group lacks a member of the original one",
        ));
    }
    match psk.usage() {
        ResumptionPskUsage::Reinit => check_reinit(parent, psk.psk_epoch(), context),
        _ if context.ciphersuite() != parent.group.ciphersuite() => Err(Failure::invalid_commit(
            "a branch has the ciphersuite of the original group",
        )),
        _ => Ok(()),
    }
}

/// RFC 9420 section 11.2: "The version, cipher_suite, group_id, and extensions fields of the GroupContext object in the
/// Welcome message MUST be the same as the corresponding fields in the ReInit proposal", and the epoch of the PSK is
/// "the epoch after the Commit covering the ReInit".
fn check_reinit(parent: &GroupState, epoch: GroupEpoch, context: &GroupContext) -> Outcome<()> {
    let reinit = reinit::ended_by(parent)?
        .ok_or_else(|| Failure::invalid_commit("the original group was not ended by a ReInit"))?;
    let as_announced = epoch == parent.group.epoch()
        && context.group_id().as_slice() == reinit.successor()
        && u16::from(context.ciphersuite()) == reinit.suite()
        && *context.extensions() == reinit.extensions;
    if as_announced {
        Ok(())
    } else {
        Err(Failure::invalid_commit(
            "the new group is not the one that the ReInit announced",
        ))
    }
}
