//! Frozen value classes returned to Python.

use std::collections::BTreeMap;

use openmls::prelude::{Credential, CredentialType, LeafNode};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tls_codec::Serialize;

use crate::error::{Failure, Outcome};

/// The first bytes of an opaque value, enough to tell two apart in a log line.
pub fn short(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[pyclass(frozen, eq, hash, get_all, module = "openmls")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub leaf_index: u32,
    pub identity: Vec<u8>,
    pub credential: Vec<u8>,
    pub signature_key: Vec<u8>,
}

impl Member {
    /// Only basic credentials have an identity. Taking the content of another type for one would let it pose
    /// as somebody.
    pub fn new(leaf_index: u32, credential: &Credential, signature_key: &[u8]) -> Outcome<Self> {
        if credential.credential_type() != CredentialType::Basic {
            return Err(Failure::invalid_commit(
                "only basic credentials are supported",
            ));
        }
        Ok(Self {
            leaf_index,
            identity: credential.serialized_content().to_vec(),
            credential: credential.tls_serialize_detached()?,
            signature_key: signature_key.to_vec(),
        })
    }

    pub fn from_leaf(leaf_index: u32, leaf: &LeafNode) -> Outcome<Self> {
        Self::new(
            leaf_index,
            leaf.credential(),
            leaf.signature_key().as_slice(),
        )
    }

    pub fn list(members: impl Iterator<Item = openmls::group::Member>) -> Outcome<Vec<Self>> {
        members
            .map(|member| {
                Self::new(
                    member.index.u32(),
                    &member.credential,
                    &member.signature_key,
                )
            })
            .collect()
    }
}

#[pymethods]
impl Member {
    fn __repr__(&self) -> String {
        format!(
            "<Member leaf_index={} identity={:?}>",
            self.leaf_index,
            String::from_utf8_lossy(&self.identity)
        )
    }
}

#[pyclass(frozen, eq, hash, get_all, module = "openmls")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppDataUpdate {
    pub component_id: u16,
    pub operation: &'static str,
    pub payload: Vec<u8>,
    pub sender_leaf: Option<u32>,
}

#[pymethods]
impl AppDataUpdate {
    fn __repr__(&self) -> String {
        format!(
            "<AppDataUpdate {} component_id={:#06x} bytes={}>",
            self.operation,
            self.component_id,
            self.payload.len()
        )
    }
}

#[pyclass(frozen, get_all, module = "openmls")]
pub struct MessageInfo {
    pub wire_format: &'static str,
    pub group_id: Option<Vec<u8>>,
    pub epoch: Option<u64>,
    pub content_type: Option<&'static str>,
    pub is_external_commit: bool,
    pub sender_leaf_index: Option<u32>,
    pub authenticated_data: Option<Vec<u8>>,
    pub ciphersuite: Option<u16>,
}

#[pymethods]
impl MessageInfo {
    fn __repr__(&self) -> String {
        format!(
            "<MessageInfo {} content_type={} epoch={}>",
            self.wire_format,
            self.content_type.unwrap_or("None"),
            self.epoch
                .map_or("None".to_owned(), |epoch| epoch.to_string())
        )
    }
}

#[pyclass(frozen, eq, module = "openmls")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub versions: Vec<u16>,
    pub ciphersuites: Vec<u16>,
    pub extensions: Vec<u16>,
    pub proposals: Vec<u16>,
    pub credentials: Vec<u16>,
}

#[pymethods]
impl Capabilities {
    #[getter]
    fn versions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.versions)
    }
    #[getter]
    fn ciphersuites<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.ciphersuites)
    }
    #[getter]
    fn extensions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.extensions)
    }
    #[getter]
    fn proposals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.proposals)
    }
    #[getter]
    fn credentials<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.credentials)
    }
    fn __repr__(&self) -> String {
        format!(
            "<Capabilities extensions={:?} proposals={:?}>",
            self.extensions, self.proposals
        )
    }
}

#[pyclass(frozen, get_all, module = "openmls")]
pub struct KeyPackageInfo {
    pub reference: Vec<u8>,
    pub ciphersuite: u16,
    pub identity: Vec<u8>,
    pub credential: Vec<u8>,
    pub signature_key: Vec<u8>,
    pub last_resort: bool,
    pub not_before: u64,
    pub not_after: u64,
    pub capabilities: Capabilities,
}

#[pymethods]
impl KeyPackageInfo {
    fn __repr__(&self) -> String {
        format!(
            "<KeyPackageInfo {} identity={:?}>",
            short(&self.reference),
            String::from_utf8_lossy(&self.identity)
        )
    }
}

#[pyclass(frozen, get_all, module = "openmls")]
pub struct GroupInfoDetails {
    pub group_id: Vec<u8>,
    pub epoch: u64,
    pub ciphersuite: u16,
    pub signer_leaf: u32,
    pub has_ratchet_tree: bool,
    pub has_external_pub: bool,
    pub confirmed_transcript_hash: Vec<u8>,
    pub tree_hash: Vec<u8>,
    pub confirmation_tag: Vec<u8>,
    pub group_context: Vec<u8>,
    pub app_data: BTreeMap<u16, Vec<u8>>,
}

#[pymethods]
impl GroupInfoDetails {
    fn __repr__(&self) -> String {
        format!(
            "<GroupInfoDetails {} epoch={}>",
            short(&self.group_id),
            self.epoch
        )
    }
}

#[pyclass(frozen, get_all, module = "openmls")]
pub struct CommitBundle {
    pub commit: Vec<u8>,
    pub welcome: Option<Vec<u8>>,
    pub group_info: Vec<u8>,
    pub ratchet_tree: Vec<u8>,
}

#[pymethods]
impl CommitBundle {
    fn __repr__(&self) -> String {
        format!(
            "<CommitBundle commit={} bytes welcome={}>",
            self.commit.len(),
            if self.welcome.is_some() { "yes" } else { "no" }
        )
    }
}

#[pyclass(frozen, get_all, module = "openmls")]
#[derive(Clone)]
pub struct ProposalInfo {
    pub reference: Vec<u8>,
    pub kind: String,
    pub sender_leaf: Option<u32>,
    pub external_sender: Option<u32>,
    pub removed_leaf: Option<u32>,
}

#[pymethods]
impl ProposalInfo {
    fn __repr__(&self) -> String {
        format!("<ProposalInfo {} {}>", self.kind, short(&self.reference))
    }
}
