//! `ProposalInfo`: a verified proposal with what it says.

use openmls::group::QueuedProposal;
use openmls::messages::proposals::AppDataUpdateOperation;
use openmls::prelude::{Proposal, ProposalOrRefType, ProposalType, Sender};
use pyo3::prelude::*;
use tls_codec::Serialize;

use crate::convert::ExtensionList;
use crate::error::{Failure, Outcome};
use crate::key_packages;
use crate::lifetimes::Judging;
use crate::member::Member;
use crate::members::{extension_list, member_index, removed_leaf};
use crate::values::short;
use crate::wire::{self, WirePsk, WireReInit};

/// Fields that the kind of the proposal has no use for are None.
#[pyclass(frozen, get_all, module = "openmls")]
#[derive(Clone, Default)]
pub struct ProposalInfo {
    pub kind: String,
    pub sender: &'static str,
    pub sender_leaf: Option<u32>,
    pub external_sender: Option<u32>,
    pub by_reference: bool,
    pub reference: Option<Vec<u8>>,
    pub removed_leaf: Option<u32>,
    pub key_package: Option<Vec<u8>>,
    pub key_package_reference: Option<Vec<u8>>,
    pub updated: Option<Member>,
    pub component_id: Option<u16>,
    pub operation: Option<&'static str>,
    pub payload: Option<Vec<u8>>,
    pub psk: Option<Vec<u8>>,
    pub psk_id: Option<Vec<u8>>,
    pub reinit_group_id: Option<Vec<u8>>,
    pub reinit_version: Option<u16>,
    pub reinit_ciphersuite: Option<u16>,
    pub extensions: Option<ExtensionList>,
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

fn external_index(sender: &Sender) -> Outcome<Option<u32>> {
    match sender {
        Sender::External(index) => Ok(Some(wire::exact(&index.tls_serialize_detached()?)?)),
        _ => Ok(None),
    }
}

fn sender_type(sender: &Sender) -> &'static str {
    match sender {
        Sender::Member(_) => "member",
        Sender::External(_) => "external",
        Sender::NewMemberProposal => "new_member_proposal",
        Sender::NewMemberCommit => "new_member_commit",
    }
}

impl ProposalInfo {
    /// Describe a verified proposal; `judging` knows what stands in it if it was not stored yet.
    pub fn of(queued: &QueuedProposal, judging: Option<&Judging<'_>>) -> Outcome<Self> {
        let sender = queued.sender();
        let by_reference = queued.proposal_or_ref_type() == ProposalOrRefType::Reference;
        let mut info = Self {
            kind: proposal_kind(queued.proposal().proposal_type()),
            sender: sender_type(sender),
            sender_leaf: member_index(sender),
            external_sender: external_index(sender)?,
            by_reference,
            // RFC 9420 section 5.2 defines it over the message that carries the proposal; one by value has none.
            reference: by_reference.then(|| queued.proposal_reference_ref().as_slice().to_vec()),
            removed_leaf: removed_leaf(queued),
            ..Self::default()
        };
        info.describe(queued, judging)?;
        Ok(info)
    }

    fn describe(&mut self, queued: &QueuedProposal, judging: Option<&Judging<'_>>) -> Outcome<()> {
        match queued.proposal() {
            Proposal::Add(add) => {
                let package = key_packages::genuine(add.key_package(), judging)?;
                self.key_package_reference = Some(key_packages::reference(&package)?);
                self.key_package = Some(package);
            }
            Proposal::Update(update) => {
                let leaf = self.sender_leaf.ok_or_else(|| {
                    Failure::internal("an Update of somebody who is not a member")
                })?;
                self.updated = Some(Member::new(leaf, update.leaf_node(), judging)?);
            }
            Proposal::AppDataUpdate(update) => {
                self.component_id = Some(update.component_id());
                (self.operation, self.payload) = match update.operation() {
                    AppDataUpdateOperation::Update(data) => {
                        (Some("update"), Some(data.as_slice().to_vec()))
                    }
                    AppDataUpdateOperation::Remove => (Some("remove"), None),
                };
            }
            Proposal::AppEphemeral(ephemeral) => {
                self.component_id = Some(ephemeral.component_id());
                self.payload = Some(ephemeral.data().to_vec());
            }
            Proposal::PreSharedKey(psk) => {
                let encoded = psk.tls_serialize_detached()?;
                self.psk_id = wire::exact::<WirePsk>(&encoded)?.external_id();
                self.psk = Some(encoded);
            }
            Proposal::GroupContextExtensions(change) => {
                self.extensions = Some(ExtensionList(extension_list(change.extensions())?));
            }
            Proposal::ReInit(reinit) => {
                let reinit: WireReInit = wire::exact(&reinit.tls_serialize_detached()?)?;
                self.reinit_group_id = Some(reinit.group_id.into());
                self.reinit_version = Some(reinit.version);
                self.reinit_ciphersuite = Some(reinit.ciphersuite);
                self.extensions = Some(ExtensionList(reinit.extensions));
            }
            Proposal::Custom(custom) => self.payload = Some(custom.payload().to_vec()),
            Proposal::Remove(_) | Proposal::SelfRemove | Proposal::ExternalInit(_) => {}
        }
        Ok(())
    }
}

#[pymethods]
impl ProposalInfo {
    fn __repr__(&self) -> String {
        match &self.reference {
            Some(reference) => format!("<ProposalInfo {} {}>", self.kind, short(reference)),
            None => format!("<ProposalInfo {}>", self.kind),
        }
    }
}
