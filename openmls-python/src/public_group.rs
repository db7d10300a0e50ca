//! `PublicGroup`: what a delivery service tracks of a group, without any secret.

use std::sync::atomic::{AtomicU64, Ordering};

use openmls::prelude::{ExternalProposal, LeafNodeIndex, SenderExtensionIndex};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use tls_codec::Serialize;

use crate::app_data::NewValues;
use crate::convert::component_map;
use crate::error::{Failure, Kind, Outcome};
use crate::guard::{caught, detached, locked, viewed, Handle};
use crate::keys::SignatureKeyPair;
use crate::provider::Provider;
use crate::staged::StagedCommit;
use crate::tracked::{verify_group_info, Public};
use crate::values::{short, Member, ProposalInfo};
use crate::{members, observe};

static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(1);

#[pyclass(frozen, module = "openmls")]
pub struct PublicGroup {
    inner: Handle<Public>,
    instance: u64,
}

impl PublicGroup {
    fn wrap(public: Public) -> Self {
        Self {
            inner: Handle::new(public),
            instance: NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed),
        }
    }
}

#[pymethods]
impl PublicGroup {
    #[staticmethod]
    #[pyo3(signature = (*, group_info, ratchet_tree, now = None))]
    fn observe(
        py: Python<'_>,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        now: Option<u64>,
    ) -> PyResult<Self> {
        detached(py, || {
            observe::observe(group_info, ratchet_tree, now).map(Self::wrap)
        })
    }

    #[staticmethod]
    fn load(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        detached(py, || {
            caught(|| Public::from_snapshot(data))
                .map(Self::wrap)
                .map_err(|failure| Failure::snapshot(failure.message))
        })
    }

    fn save<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let saved = viewed(py, &self.inner, |public| public.save())?;
        Ok(PyBytes::new(py, &saved))
    }

    #[getter]
    fn group_id(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |public| {
            Ok(public.group.group_id().to_vec())
        })
    }

    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        viewed(py, &self.inner, |public| Ok(public.epoch()))
    }

    #[getter]
    fn ciphersuite(&self, py: Python<'_>) -> PyResult<u16> {
        viewed(py, &self.inner, |public| {
            Ok(public.group.ciphersuite().into())
        })
    }

    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let list = viewed(py, &self.inner, |public| {
            Member::list(public.group.members())
        })?;
        PyTuple::new(py, list)
    }

    fn app_data(&self, py: Python<'_>) -> PyResult<NewValues> {
        viewed(py, &self.inner, |public| {
            Ok(members::app_data(public.group.group_context().extensions()))
        })
    }

    fn group_context(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |public| {
            Ok(public.group.group_context().tls_serialize_detached()?)
        })
    }

    fn export_ratchet_tree(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |public| {
            Ok(public
                .group
                .export_ratchet_tree()
                .tls_serialize_detached()?)
        })
    }

    fn proposals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let list = viewed(py, &self.inner, |public| {
            public
                .queued()?
                .iter()
                .map(members::proposal_info)
                .collect::<Outcome<Vec<_>>>()
        })?;
        PyTuple::new(py, list)
    }

    fn app_data_updates<'py>(
        &self,
        py: Python<'py>,
        message: &[u8],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let updates = viewed(py, &self.inner, |public| public.app_data_updates(message))?;
        PyTuple::new(py, updates)
    }

    #[pyo3(signature = (message, *, now = None))]
    fn stage_proposal(
        &self,
        py: Python<'_>,
        message: &[u8],
        now: Option<u64>,
    ) -> PyResult<ProposalInfo> {
        viewed(py, &self.inner, |public| {
            public.stage_proposal(message, now)
        })
    }

    #[pyo3(signature = (message, *, now = None))]
    fn add_proposal(
        &self,
        py: Python<'_>,
        message: &[u8],
        now: Option<u64>,
    ) -> PyResult<ProposalInfo> {
        locked(py, &self.inner, |public| public.add_proposal(message, now))
    }

    #[pyo3(signature = (message, *, new_app_data = None, now = None))]
    fn stage_commit(
        &self,
        py: Python<'_>,
        message: &[u8],
        new_app_data: Option<&Bound<'_, PyAny>>,
        now: Option<u64>,
    ) -> PyResult<StagedCommit> {
        let values = component_map(new_app_data)?;
        viewed(py, &self.inner, |public| {
            public.stage(message, values, now, self.instance)
        })
    }

    fn merge(&self, py: Python<'_>, staged: &StagedCommit) -> PyResult<()> {
        locked(py, &self.inner, |public| {
            public.merge(staged, self.instance)
        })
    }

    #[pyo3(signature = (*, staged, group_info))]
    fn verify_group_info(
        &self,
        py: Python<'_>,
        staged: &StagedCommit,
        group_info: &[u8],
    ) -> PyResult<()> {
        detached(py, || {
            if staged.origin.instance != self.instance {
                return Err(Failure::not_allowed(
                    "the commit was staged against another group",
                ));
            }
            verify_group_info(staged, group_info)
        })
    }

    #[pyo3(signature = (*, signer, sender_index, leaf_index))]
    fn propose_remove(
        &self,
        py: Python<'_>,
        signer: &SignatureKeyPair,
        sender_index: u32,
        leaf_index: u32,
    ) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |public| {
            let context = public.group.group_context();
            let message = ExternalProposal::new_remove::<Provider>(
                LeafNodeIndex::new(leaf_index),
                context.group_id().clone(),
                context.epoch(),
                &signer.signer,
                SenderExtensionIndex::new(sender_index),
            )
            .map_err(Failure::internal)?
            .tls_serialize_detached()?;
            // Refuses a signer that is not the listed sender, and a leaf that is empty.
            public.stage_proposal(&message, None)?;
            if public.group.leaf(LeafNodeIndex::new(leaf_index)).is_none() {
                return Err(Failure::new(
                    Kind::InvalidProposal,
                    format!("no member at leaf {leaf_index}"),
                ));
            }
            Ok(message)
        })
    }

    fn __repr__(&self) -> String {
        self.inner
            .glance(|public| {
                let id = short(public.group.group_id().as_slice());
                format!("<PublicGroup {id} epoch={}>", public.epoch())
            })
            .unwrap_or_else(|| "<PublicGroup>".to_owned())
    }
}
