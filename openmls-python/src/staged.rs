//! `StagedCommit`: a commit that was verified against a public group and not applied yet.

use std::collections::BTreeMap;
use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::members::Changes;
use crate::reinit::ReInit;
use crate::stand_ins::StandIns;
use crate::values::{AppDataUpdate, Member, ProposalInfo};

/// Where a commit was staged, so that it cannot be merged anywhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub instance: u64,
    pub epoch: u64,
}

#[pyclass(frozen, module = "openmls")]
pub struct StagedCommit {
    /// Taken out by `merge`.
    pub staged: Mutex<Option<openmls::group::StagedCommit>>,
    pub origin: Origin,
    /// What stands in for lifetimes in `staged`.
    pub stand_ins: Option<StandIns>,
    /// What it closes the group for.
    pub reinit: Option<ReInit>,
    pub changes: Changes,
    /// Stored proposals that it does not take.
    pub unused: Vec<ProposalInfo>,
    pub group_context: Vec<u8>,
    pub confirmation_tag: Vec<u8>,
    pub updates: Vec<AppDataUpdate>,
    #[pyo3(get)]
    pub epoch: u64,
    #[pyo3(get)]
    pub sender_leaf: Option<u32>,
    #[pyo3(get)]
    pub is_external: bool,
    #[pyo3(get)]
    pub authenticated_data: Vec<u8>,
    #[pyo3(get)]
    pub app_data: BTreeMap<u16, Vec<u8>>,
}

fn members<'py>(py: Python<'py>, list: &[Member]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, list.iter().cloned())
}

#[pymethods]
impl StagedCommit {
    #[getter]
    fn committer_identity(&self) -> &[u8] {
        self.changes.committer.identity()
    }

    #[getter]
    fn committer(&self) -> Member {
        self.changes.committer.clone()
    }

    #[getter]
    fn added<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        members(py, &self.changes.added)
    }

    #[getter]
    fn removed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        members(py, &self.changes.removed)
    }

    #[getter]
    fn updated<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        members(py, &self.changes.updated)
    }

    #[getter]
    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.changes.tree.values().cloned().collect::<Vec<_>>())
    }

    #[getter]
    fn group_context(&self) -> &[u8] {
        &self.group_context
    }

    #[getter]
    fn confirmation_tag(&self) -> &[u8] {
        &self.confirmation_tag
    }

    #[getter]
    fn app_data_updates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.updates.iter().cloned())
    }

    #[getter]
    fn proposals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.changes.proposals.iter().cloned())
    }

    #[getter]
    fn unused_proposals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.unused.iter().cloned())
    }

    #[getter]
    fn proposal_references<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.changes.references.iter().cloned())
    }

    #[getter]
    fn proposal_kinds<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.changes.kinds)
    }

    fn __repr__(&self) -> String {
        format!(
            "<StagedCommit epoch={} added={} removed={}>",
            self.epoch,
            self.changes.added.len(),
            self.changes.removed.len()
        )
    }
}
