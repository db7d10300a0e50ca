//! Stateless functions: look into messages, key packages, Welcomes and GroupInfos; labelled cryptography.

use openmls::prelude::{
    ContentType, CredentialType, KeyPackage, MlsMessageBodyIn, OpenMlsCrypto, ProtocolVersion,
    Sender,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tls_codec::Serialize;

use crate::crypto::Crypto;
use crate::error::{Failure, Kind, Outcome};
use crate::guard::detached;
use crate::values::{Capabilities, GroupInfoDetails, KeyPackageInfo, MessageInfo};
use crate::{config, labels, members, wire};

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

/// Decode a key package and check everything that does not depend on a group.
pub fn valid_key_package(data: &[u8]) -> Outcome<KeyPackage> {
    let invalid = |text: String| Failure::new(Kind::InvalidKeyPackage, text);
    let decoded = wire::key_package(data).map_err(|failure| invalid(failure.message))?;
    let key_package = decoded
        .validate(&Crypto::default(), ProtocolVersion::Mls10)
        .map_err(|error| invalid(error.to_string()))?;
    config::ciphersuite(key_package.ciphersuite().into())
        .map_err(|failure| invalid(failure.message))?;
    if key_package.leaf_node().credential().credential_type() != CredentialType::Basic {
        return Err(invalid("only basic credentials are supported".to_owned()));
    }
    // RFC 9420 section 7.2: "Applications MUST define a maximum total lifetime that is acceptable for a
    // LeafNode, and reject any LeafNode where the total lifetime is longer than this duration."
    if !key_package.life_time().has_acceptable_range() {
        return Err(invalid("the key package is valid for too long".to_owned()));
    }
    Ok(key_package)
}

fn key_package_info(data: &[u8], now: u64) -> Outcome<KeyPackageInfo> {
    let key_package = valid_key_package(data)?;
    let lifetime = key_package.life_time();
    // RFC 9420 section 7.2: "A client MUST NOT use the data in a LeafNode for any processing before
    // the not_before date, or after the not_after date."
    if now < lifetime.not_before() || now >= lifetime.not_after() {
        return Err(Failure::new(
            Kind::InvalidKeyPackage,
            format!(
                "the key package is valid from {} to {}, not at {now}",
                lifetime.not_before(),
                lifetime.not_after()
            ),
        ));
    }
    let leaf = key_package.leaf_node();
    let capabilities = leaf.capabilities();
    Ok(KeyPackageInfo {
        reference: key_package
            .hash_ref(&Crypto::default())
            .map_err(Failure::internal)?
            .as_slice()
            .to_vec(),
        ciphersuite: key_package.ciphersuite().into(),
        identity: leaf.credential().serialized_content().to_vec(),
        credential: leaf.credential().tls_serialize_detached()?,
        signature_key: leaf.signature_key().as_slice().to_vec(),
        last_resort: config::is_last_resort(&key_package),
        not_before: lifetime.not_before(),
        not_after: lifetime.not_after(),
        capabilities: Capabilities {
            versions: capabilities
                .versions()
                .iter()
                .map(|version| match version {
                    ProtocolVersion::Mls10 => 1,
                    ProtocolVersion::Other(number) => *number,
                })
                .collect(),
            ciphersuites: capabilities
                .ciphersuites()
                .iter()
                .map(|suite| wire::exact(&suite.tls_serialize_detached()?))
                .collect::<Outcome<_>>()?,
            extensions: capabilities
                .extensions()
                .iter()
                .map(|e| u16::from(*e))
                .collect(),
            proposals: capabilities
                .proposals()
                .iter()
                .map(|p| u16::from(*p))
                .collect(),
            credentials: capabilities
                .credentials()
                .iter()
                .map(|c| u16::from(*c))
                .collect(),
        },
    })
}

#[pyfunction]
#[pyo3(signature = (data, *, now))]
pub fn inspect_key_package(py: Python<'_>, data: &[u8], now: u64) -> PyResult<KeyPackageInfo> {
    detached(py, || key_package_info(data, now))
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
            group_context: raw.context_bytes,
            app_data: members::app_data(context.extensions()),
        })
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
