//! Proposals of a member, for somebody to commit by reference (RFC 9420 section 12.1).

use openmls::group::{MlsGroup, Propose, QueuedProposal};
use openmls::messages::proposals::AppEphemeralProposal;
use openmls::prelude::{
    CredentialWithKey, Extensions, LeafNode, LeafNodeParameters, MlsMessageOut, Proposal,
    ProposalOrRefType,
};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize;

use crate::app_data::NewValues;
use crate::config;
use crate::context::ContextChange;
use crate::error::{Failure, Kind, Outcome};
use crate::key_packages::valid_key_package;
use crate::lifetimes::Validity;
use crate::processing::keep_proposal;
use crate::psk::{PskId, Psks};
use crate::state::GroupState;
use crate::{error, framing, reinit, wire};

/// What is proposed.
pub enum Request {
    Add(Vec<u8>, Validity),
    Remove(u32),
    /// New components of our leaf, or those it has; and what its credential is to be.
    Update(Option<NewValues>, CredentialWithKey),
    Psk(PskId, Psks),
    AppDataUpdate(u16, Option<Vec<u8>>),
    AppEphemeral(u16, Vec<u8>),
    Context(ContextChange),
    SelfRemove,
}

fn invalid(failure: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::InvalidProposal, failure)
}

/// Propose it: keep the proposal here and give the MLSMessage(PublicMessage).
pub fn propose(state: &mut GroupState, signer: &Signer, request: Request) -> Outcome<Vec<u8>> {
    refuse_unusable(state)?;
    let GroupState { provider, group } = state;
    let by_reference = ProposalOrRefType::Reference;
    let message: MlsMessageOut = match request {
        Request::Add(key_package, validity) => {
            let key_package = valid_key_package(&key_package, validity)?;
            if key_package.ciphersuite() != group.ciphersuite() {
                return Err(invalid("the key package is of another ciphersuite"));
            }
            group
                .propose_add_member(provider, signer, &key_package)
                .map_err(invalid)?
                .0
        }
        Request::Remove(leaf) => {
            group
                .propose(provider, signer, Propose::Remove(leaf), by_reference)
                .map_err(invalid)?
                .0
        }
        Request::Update(app_data, certified) => {
            let parameters = leaf_parameters(group, app_data, certified)?;
            group
                .propose_self_update(provider, signer, parameters)
                .map_err(Failure::not_allowed)?
                .0
        }
        Request::Psk(id, psks) => {
            let id = id.for_use(provider.rand(), group.ciphersuite(), group.group_id())?;
            if !psks.has(group, id.psk()) {
                return Err(Failure::not_allowed("an unknown pre-shared key"));
            }
            group
                .propose_pre_shared_key(provider, signer, id)
                .map_err(Failure::not_allowed)?
                .0
        }
        Request::AppDataUpdate(component_id, payload) => {
            let update = match payload {
                Some(update) => Propose::UpdateAppDataComponent {
                    component_id,
                    update,
                },
                None => Propose::RemoveAppDataComponent { component_id },
            };
            group
                .propose(provider, signer, update, by_reference)
                .map_err(Failure::not_allowed)?
                .0
        }
        Request::Context(change) => {
            let extensions = change
                .applied(group)?
                .ok_or_else(|| Failure::not_allowed("no change of an extension"))?;
            group
                .propose_group_context_extensions(provider, extensions, signer)
                .map_err(invalid)?
                .0
        }
        Request::SelfRemove => group
            .leave_group_via_self_remove(provider, signer)
            .map_err(Failure::not_allowed)?,
        Request::AppEphemeral(component_id, data) => {
            let proposal =
                Proposal::AppEphemeral(Box::new(AppEphemeralProposal::new(component_id, data)));
            return framed(state, signer, &proposal.tls_serialize_detached()?);
        }
    };
    Ok(message.tls_serialize_detached()?)
}

/// Propose what OpenMLS has no function for.
pub fn framed(state: &mut GroupState, signer: &Signer, proposal: &[u8]) -> Outcome<Vec<u8>> {
    let data = framing::member_proposal(state, signer, proposal)?;
    let GroupState { provider, group } = state;
    let message = wire::message(&data)?
        .try_into_protocol_message()
        .map_err(|_| Failure::internal("a proposal is no group message"))?;
    let current = group.epoch().as_u64();
    let processed = group
        .process_message(provider, message)
        .map_err(|failure| error::from_process(failure, current))?;
    match processed.into_content() {
        openmls::prelude::ProcessedMessageContent::ProposalMessage(proposal) => {
            keep_proposal(group, provider, *proposal)?;
            Ok(data)
        }
        _ => Err(Failure::internal("a proposal is no proposal")),
    }
}

/// Nothing is sent in a group that ended, or while a commit is pending.
pub fn refuse_unusable(state: &GroupState) -> Outcome<()> {
    reinit::refuse_ended(state)?;
    if state.group.pending_commit().is_some() {
        return Err(Failure::not_allowed("a commit is pending already"));
    }
    if !state.group.is_active() {
        return Err(Failure::not_allowed(
            "this client was removed from the group",
        ));
    }
    Ok(())
}

/// Our next leaf: as it is, or with other components in its `app_data_dictionary`; with the certificates that we have
/// now, if they were renewed.
pub fn leaf_parameters(
    group: &MlsGroup,
    app_data: Option<NewValues>,
    certified: CredentialWithKey,
) -> Outcome<LeafNodeParameters> {
    let leaf = group
        .own_leaf_node()
        .ok_or_else(|| Failure::internal("no own leaf"))?;
    let mut parameters = LeafNodeParameters::builder();
    if leaf.credential() != &certified.credential {
        parameters = parameters.with_credential_with_key(certified);
    }
    let Some(app_data) = app_data else {
        return Ok(parameters.build());
    };
    let mut extensions: Extensions<LeafNode> = leaf.extensions().clone();
    let dictionary = config::dictionary(app_data.clone());
    if app_data.is_empty() {
        extensions.remove(dictionary.extension_type());
    } else {
        extensions
            .add_or_replace(dictionary)
            .map_err(Failure::internal)?;
    }
    Ok(parameters.with_extensions(extensions).build())
}

/// Take all stored proposals out of the group, for `put_back`.
pub fn take_out(state: &mut GroupState) -> Outcome<Vec<QueuedProposal>> {
    let GroupState { provider, group } = state;
    let proposals = group.pending_proposals().cloned().collect();
    group
        .clear_pending_proposals(provider.storage())
        .map_err(Failure::internal)?;
    Ok(proposals)
}

/// Store exactly these proposals, in this order.
pub fn put_back(state: &mut GroupState, proposals: Vec<QueuedProposal>) -> Outcome<()> {
    let GroupState { provider, group } = state;
    group
        .clear_pending_proposals(provider.storage())
        .map_err(Failure::internal)?;
    for proposal in proposals {
        group
            .store_pending_proposal(provider.storage(), proposal)
            .map_err(Failure::internal)?;
    }
    Ok(())
}

/// Drop one stored proposal.
pub fn remove_pending(state: &mut GroupState, reference: &[u8]) -> Outcome<()> {
    let GroupState { provider, group } = state;
    let reference = group
        .pending_proposals()
        .map(|queued| queued.proposal_reference_ref())
        .find(|known| known.as_slice() == reference)
        .cloned()
        .ok_or_else(|| Failure::not_allowed("no such proposal"))?;
    group
        .remove_pending_proposal(provider.storage(), &reference)
        .map_err(Failure::internal)
}
