//! Acting as an external sender (RFC 9420 section 12.1.8). Every proposal is checked against the group before it is
//! handed out.

use openmls::extensions::AnyObject;
use openmls::extensions::Extensions;
use openmls::group::GroupContext;
use openmls::messages::proposals::AppDataUpdateProposal;
use openmls::prelude::{LeafNodeIndex, ProposalIn, ProposalType};
use tls_codec::Serialize;

use crate::error::{Failure, Kind, Outcome};
use crate::keys::SignatureKeyPair;
use crate::requirements::Requirements;
use crate::tracked::Public;
use crate::values::Capabilities;
use crate::wire::{self, WireExtension, WireReInit};
use crate::{external_proposals, key_packages, members, public_proposal};

/// Proposal types, RFC 9420 section 17.4.
const ADD: u16 = 1;
const REMOVE: u16 = 3;
const REINIT: u16 = 5;
const GROUP_CONTEXT_EXTENSIONS: u16 = 7;
/// ProtocolVersion mls10.
const MLS10: u16 = 1;

fn invalid(text: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::InvalidProposal, text)
}

/// Who signs, and the group that is proposed to.
pub struct ExternalSender<'a> {
    pub public: &'a Public,
    pub signer: &'a SignatureKeyPair,
    pub index: u32,
}

impl ExternalSender<'_> {
    fn message(&self, kind: u16, body: &[u8]) -> Outcome<Vec<u8>> {
        self.signed([&kind.to_be_bytes(), body].concat().as_slice())
    }

    /// Sign a Proposal struct. Refuses a signer that is not the listed sender.
    fn signed(&self, proposal: &[u8]) -> Outcome<Vec<u8>> {
        let context = self.public.group.group_context();
        let message = public_proposal::external(context, self.index, proposal, self.signer)?;
        external_proposals::verify(context, &public_proposal::decode(&message)?)?;
        Ok(message)
    }

    pub fn add(&self, key_package: &[u8], now: Option<u64>) -> Outcome<Vec<u8>> {
        let data = wire::key_package_bytes(key_package);
        let package = key_packages::valid_key_package(data, now)?;
        let context = self.public.group.group_context();
        let required = context
            .extensions()
            .required_capabilities()
            .map(Requirements::of)
            .unwrap_or_default();
        let capabilities = Capabilities::of(package.leaf_node().capabilities())?;
        // RFC 9420 section 7.3: "Verify that the LeafNode is compatible with the group's parameters."
        if let Some(missing) = required.missing(&capabilities) {
            return Err(invalid(format!("the client does not support {missing}")));
        }
        let message = self.message(ADD, data)?;
        self.public.stage_proposal(&message, now)?;
        Ok(message)
    }

    pub fn remove(&self, leaf_index: u32) -> Outcome<Vec<u8>> {
        let message = self.message(REMOVE, &leaf_index.to_be_bytes())?;
        self.public.stage_proposal(&message, None)?;
        let leaf = LeafNodeIndex::new(leaf_index);
        if self.public.group.leaf(leaf).is_none() {
            return Err(invalid(format!("no member at leaf {leaf_index}")));
        }
        Ok(message)
    }

    /// Without a payload, the component is removed.
    pub fn app_data_update(&self, component: u16, payload: Option<Vec<u8>>) -> Outcome<Vec<u8>> {
        let proposal = match payload {
            Some(payload) => AppDataUpdateProposal::update(component, payload),
            None => AppDataUpdateProposal::remove(component),
        };
        let proposal = ProposalIn::AppDataUpdate(Box::new(proposal));
        let message = self.signed(&proposal.tls_serialize_detached()?)?;
        self.public.stage_proposal(&message, None)?;
        Ok(message)
    }

    pub fn group_context_extensions(&self, extensions: &[WireExtension]) -> Outcome<Vec<u8>> {
        let encoded = extensions.tls_serialize_detached()?;
        self.check_extensions(&group_context_extensions(&encoded)?)?;
        let message = self.message(GROUP_CONTEXT_EXTENSIONS, &encoded)?;
        self.public.stage_proposal(&message, None)?;
        Ok(message)
    }

    /// What would make every commit of this proposal invalid.
    fn check_extensions(&self, proposed: &Extensions<GroupContext>) -> Outcome<()> {
        let present = self.public.group.group_context().extensions();
        let updated_apart = [present, proposed].iter().any(|extensions| {
            extensions.required_capabilities().is_some_and(|required| {
                required
                    .proposal_types()
                    .contains(&ProposalType::AppDataUpdate)
            })
        });
        // draft-ietf-mls-extensions, AppDataUpdate: "a GroupContextExtensions proposal MUST NOT add, remove, or
        // modify the app_data_dictionary GroupContext extension."
        if updated_apart && present.app_data_dictionary() != proposed.app_data_dictionary() {
            return Err(invalid(
                "app_data_dictionary changes by AppDataUpdate only in this group",
            ));
        }
        let mut required = proposed
            .required_capabilities()
            .map(Requirements::of)
            .unwrap_or_default();
        // RFC 9420 section 12.1.7: invalid "if some members of the group do not support some of the GroupContext
        // extensions in extensions"
        required.extensions.extend(
            members::extension_list(proposed)?
                .iter()
                .map(|extension| extension.kind),
        );
        for (index, leaf) in self.public.group.treesync().full_leaves() {
            if let Some(missing) = required.missing(&Capabilities::of(leaf.capabilities())?) {
                return Err(invalid(format!(
                    "the member at leaf {} does not support {missing}",
                    index.u32()
                )));
            }
        }
        Ok(())
    }

    pub fn reinit(&self, reinit: &WireReInit) -> Outcome<Vec<u8>> {
        // RFC 9420 section 12.1.5: invalid "if the version field is less than the version of the current group."
        if reinit.version < MLS10 {
            return Err(invalid("the version is less than that of the group"));
        }
        group_context_extensions(&reinit.extensions.tls_serialize_detached()?)?;
        self.message(REINIT, &reinit.tls_serialize_detached()?)
    }
}

fn group_context_extensions(encoded: &[u8]) -> Outcome<Extensions<GroupContext>> {
    wire::exact::<Extensions<AnyObject>>(encoded)
        .map_err(|failure| invalid(failure.message))?
        .try_into()
        .map_err(invalid)
}
