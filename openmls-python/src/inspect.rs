//! Stateless functions: look into messages, Welcomes and GroupInfos; labelled cryptography.

use openmls::prelude::{ContentType, MlsMessageBodyIn, OpenMlsCrypto, Sender};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tls_codec::Serialize;

use crate::crypto::Crypto;
use crate::error::{Failure, Outcome};
use crate::guard::detached;
use crate::values::{GroupInfoDetails, MessageInfo};
use crate::{config, labels, members, public_proposal, wire};

/// Label of a ProposalRef, RFC 9420 section 5.2.
const PROPOSAL_LABEL: &str = "MLS 1.0 Proposal Reference";

fn content_type(kind: ContentType) -> &'static str {
    match kind {
        ContentType::Application => "application",
        ContentType::Proposal => "proposal",
        ContentType::Commit => "commit",
    }
}

fn message_info(data: &[u8]) -> Outcome<MessageInfo> {
    let mut info = MessageInfo {
        wire_format: "",
        group_id: None,
        epoch: None,
        content_type: None,
        is_external_commit: false,
        sender_leaf_index: None,
        authenticated_data: None,
        ciphersuite: None,
    };
    match wire::message(data)?.extract() {
        MlsMessageBodyIn::PublicMessage(message) => {
            let (content, _) = wire::public_content(data)?;
            info.wire_format = "public_message";
            info.group_id = Some(content.group_id.into());
            info.epoch = Some(content.epoch);
            info.content_type = Some(content_type(message.content_type()));
            info.is_external_commit = matches!(message.sender(), Sender::NewMemberCommit);
            info.authenticated_data = Some(content.authenticated_data.into());
            if let Sender::Member(leaf) = message.sender() {
                info.sender_leaf_index = Some(leaf.u32());
            }
        }
        MlsMessageBodyIn::PrivateMessage(message) => {
            info.wire_format = "private_message";
            info.group_id = Some(message.group_id().to_vec());
            info.epoch = Some(message.epoch().as_u64());
            info.content_type = Some(content_type(message.content_type()));
            info.authenticated_data = Some(message.aad().to_vec());
        }
        MlsMessageBodyIn::Welcome(welcome) => {
            info.wire_format = "welcome";
            info.ciphersuite = Some(welcome.ciphersuite().into());
        }
        MlsMessageBodyIn::GroupInfo(group_info) => {
            info.wire_format = "group_info";
            info.group_id = Some(group_info.group_id().to_vec());
            info.epoch = Some(group_info.epoch().as_u64());
            info.ciphersuite = Some(group_info.ciphersuite().into());
        }
        MlsMessageBodyIn::KeyPackage(_) => {
            // MLSMessage header (4), then KeyPackage: version (2), cipher_suite (2).
            info.wire_format = "key_package";
            info.ciphersuite = data
                .get(6..8)
                .map(|raw| u16::from_be_bytes([raw[0], raw[1]]));
        }
    }
    Ok(info)
}

#[pyfunction]
pub fn inspect_message(py: Python<'_>, data: &[u8]) -> PyResult<MessageInfo> {
    detached(py, || message_info(data))
}

#[pyfunction]
pub fn reencode(py: Python<'_>, data: &[u8]) -> PyResult<Vec<u8>> {
    detached(py, || Ok(wire::message(data)?.tls_serialize_detached()?))
}

#[pyfunction]
pub fn welcome_references<'py>(py: Python<'py>, welcome: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
    let references = detached(py, || {
        Ok(wire::welcome(welcome)?
            .secrets()
            .iter()
            .map(|secret| secret.new_member().as_slice().to_vec())
            .collect::<Vec<_>>())
    })?;
    PyTuple::new(py, references)
}

#[pyfunction]
pub fn group_info_details(py: Python<'_>, group_info: &[u8]) -> PyResult<GroupInfoDetails> {
    detached(py, || {
        let decoded = wire::group_info(group_info)?;
        let raw = wire::wire_group_info(group_info)?;
        let context = decoded.group_context();
        Ok(GroupInfoDetails {
            group_id: context.group_id().to_vec(),
            epoch: context.epoch().as_u64(),
            ciphersuite: context.ciphersuite().into(),
            signer_leaf: raw.signer,
            has_ratchet_tree: decoded.extensions().ratchet_tree().is_some(),
            has_external_pub: decoded.extensions().external_pub().is_some(),
            confirmed_transcript_hash: context.confirmed_transcript_hash().to_vec(),
            tree_hash: context.tree_hash().to_vec(),
            confirmation_tag: raw.confirmation_tag,
            extensions: raw.extensions,
            signature: raw.signature,
            group_context: raw.context_bytes,
            app_data: members::app_data(context.extensions()),
        })
    })
}

#[pyfunction]
#[pyo3(signature = (message, *, ciphersuite))]
pub fn proposal_reference(py: Python<'_>, message: &[u8], ciphersuite: u16) -> PyResult<Vec<u8>> {
    detached(py, || {
        labels::ref_hash(
            config::ciphersuite(ciphersuite)?,
            PROPOSAL_LABEL,
            public_proposal::decode(message)?.authenticated,
        )
    })
}

#[pyfunction]
pub fn hash(py: Python<'_>, ciphersuite: u16, data: &[u8]) -> PyResult<Vec<u8>> {
    detached(py, || {
        Crypto::default()
            .hash(config::ciphersuite(ciphersuite)?.hash_algorithm(), data)
            .map_err(Failure::internal)
    })
}

#[pyfunction]
#[pyo3(signature = (*, ciphersuite, public_key, label, content, signature))]
pub fn verify_with_label(
    py: Python<'_>,
    ciphersuite: u16,
    public_key: &[u8],
    label: &str,
    content: &[u8],
    signature: &[u8],
) -> PyResult<()> {
    detached(py, || {
        labels::verify(
            config::ciphersuite(ciphersuite)?,
            public_key,
            label,
            content,
            signature,
        )
    })
}

#[pyfunction]
#[pyo3(signature = (*, ciphersuite, public_key, label, context, plaintext))]
pub fn encrypt_with_label(
    py: Python<'_>,
    ciphersuite: u16,
    public_key: &[u8],
    label: &str,
    context: &[u8],
    plaintext: &[u8],
) -> PyResult<Vec<u8>> {
    detached(py, || {
        labels::encrypt(
            config::ciphersuite(ciphersuite)?,
            public_key,
            label,
            context,
            plaintext,
        )
    })
}
