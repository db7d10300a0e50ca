//! Frozen value classes returned to Python.

use std::collections::BTreeMap;

use openmls::prelude::ProtocolVersion;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tls_codec::Serialize;

use crate::error::Outcome;
pub use crate::member::Member;
pub use crate::proposals::ProposalInfo;
use crate::wire;

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

#[pyclass(frozen, eq, hash, module = "openmls")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities {
    pub versions: Vec<u16>,
    pub ciphersuites: Vec<u16>,
    pub extensions: Vec<u16>,
    pub proposals: Vec<u16>,
    pub credentials: Vec<u16>,
}

impl Capabilities {
    pub fn of(capabilities: &openmls::prelude::Capabilities) -> Outcome<Self> {
        Ok(Self {
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
                .map(|kind| u16::from(*kind))
                .collect(),
            proposals: capabilities
                .proposals()
                .iter()
                .map(|kind| u16::from(*kind))
                .collect(),
            credentials: capabilities
                .credentials()
                .iter()
                .map(|kind| u16::from(*kind))
                .collect(),
        })
    }
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
    pub extensions: Vec<u8>,
    pub signature: Vec<u8>,
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
