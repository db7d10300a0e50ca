//! What a member found in a message.

use std::collections::BTreeMap;

use openmls::group::QueuedProposal;
use openmls::prelude::Proposal;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::members::member_index;
use crate::values::{Member, ProposalInfo};

/// An AppEphemeral proposal (draft-ietf-mls-extensions section 4.8).
#[pyclass(frozen, eq, hash, get_all, module = "openmls")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppEphemeral {
    pub component_id: u16,
    pub data: Vec<u8>,
    pub sender_leaf: Option<u32>,
}

impl AppEphemeral {
    pub fn of(proposal: &QueuedProposal) -> Option<Self> {
        match proposal.proposal() {
            Proposal::AppEphemeral(ephemeral) => Some(Self {
                component_id: ephemeral.component_id(),
                data: ephemeral.data().to_vec(),
                sender_leaf: member_index(proposal.sender()),
            }),
            _ => None,
        }
    }
}

#[pymethods]
impl AppEphemeral {
    fn __repr__(&self) -> String {
        format!(
            "<AppEphemeral component_id={:#06x} bytes={}>",
            self.component_id,
            self.data.len()
        )
    }
}

#[pyclass(frozen, module = "openmls")]
#[derive(Default)]
pub struct Processed {
    #[pyo3(get)]
    pub kind: &'static str,
    #[pyo3(get)]
    pub epoch: u64,
    #[pyo3(get)]
    pub sender_leaf: Option<u32>,
    #[pyo3(get)]
    pub sender_identity: Vec<u8>,
    #[pyo3(get)]
    pub sender_credential: Vec<u8>,
    #[pyo3(get)]
    pub aad: Vec<u8>,
    #[pyo3(get)]
    pub safe_aad: Option<BTreeMap<u16, Vec<u8>>>,
    #[pyo3(get)]
    pub plaintext: Option<Vec<u8>>,
    #[pyo3(get)]
    pub self_removed: bool,
    #[pyo3(get)]
    pub app_data: Option<BTreeMap<u16, Vec<u8>>>,
    pub committer: Option<Member>,
    pub added: Vec<Member>,
    pub removed: Vec<Member>,
    pub updated: Vec<Member>,
    pub proposal: Option<ProposalInfo>,
    pub proposals: Vec<ProposalInfo>,
    pub app_ephemeral: Vec<AppEphemeral>,
}

#[pymethods]
impl Processed {
    #[getter]
    fn committer(&self) -> Option<Member> {
        self.committer.clone()
    }
    #[getter]
    fn added<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.added.iter().cloned())
    }
    #[getter]
    fn removed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.removed.iter().cloned())
    }
    #[getter]
    fn updated<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.updated.iter().cloned())
    }
    #[getter]
    fn proposal(&self) -> Option<ProposalInfo> {
        self.proposal.clone()
    }
    #[getter]
    fn proposals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.proposals.iter().cloned())
    }
    #[getter]
    fn app_ephemeral<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.app_ephemeral.iter().cloned())
    }
    fn __repr__(&self) -> String {
        format!("<Processed {} epoch={}>", self.kind, self.epoch)
    }
}
