//! `PublicGroup`: what a delivery service tracks of a group, without any secret.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use openmls_traits::OpenMlsProvider as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use tls_codec::Serialize;

use crate::app_data::NewValues;
use crate::convert::{component_map, extension_map, ExtensionList};
use crate::error::{Failure, Outcome};
use crate::external_sender::ExternalSender;
use crate::guard::{caught, detached, locked, viewed, Handle};
use crate::keys::SignatureKeyPair;
use crate::member::Roster;
use crate::reinit::{self, ReInit};
use crate::staged::StagedCommit;
use crate::tracked::Public;
use crate::values::{short, Member, ProposalInfo};
use crate::wire::WireReInit;
use crate::{group_info, lifetimes, members, observe};

static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(1);

#[pyclass(frozen, module = "openmls")]
pub struct PublicGroup {
    inner: Handle<Public>,
    /// The members of an epoch, for all that is staged in it. A handle never sees two states of one epoch.
    roster: Mutex<Option<(u64, Arc<Roster>)>>,
    instance: u64,
}

impl PublicGroup {
    fn wrap(public: Public) -> Self {
        Self {
            inner: Handle::new(public),
            roster: Mutex::new(None),
            instance: NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn roster(&self, public: &Public) -> Outcome<Arc<Roster>> {
        let mut known = self
            .roster
            .lock()
            .map_err(|_| Failure::internal("roster lock"))?;
        let epoch = public.epoch();
        let before = match known.as_ref() {
            Some((of, roster)) if *of == epoch => return Ok(Arc::clone(roster)),
            Some((_, roster)) => Arc::clone(roster),
            None => Arc::default(),
        };
        let roster = Arc::new(Member::roster(&public.group, &before)?);
        *known = Some((epoch, Arc::clone(&roster)));
        Ok(roster)
    }

    fn check_origin(&self, staged: &StagedCommit) -> Outcome<()> {
        if staged.origin.instance == self.instance {
            return Ok(());
        }
        Err(Failure::not_allowed(
            "the commit was staged against another group",
        ))
    }

    fn propose(
        &self,
        py: Python<'_>,
        signer: &SignatureKeyPair,
        index: u32,
        make: impl FnOnce(&ExternalSender<'_>) -> Outcome<Vec<u8>> + Send,
    ) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |public| {
            make(&ExternalSender {
                public,
                signer,
                index,
            })
        })
    }
}

#[pymethods]
impl PublicGroup {
    #[staticmethod]
    #[pyo3(signature = (*, group_info, ratchet_tree, now = None, maximum_lifetime = lifetimes::MAXIMUM_LIFETIME))]
    fn observe(
        py: Python<'_>,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        now: Option<u64>,
        maximum_lifetime: u64,
    ) -> PyResult<Self> {
        detached(py, || {
            observe::observe(group_info, ratchet_tree, now, maximum_lifetime).map(Self::wrap)
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

    #[getter]
    fn maximum_lifetime(&self, py: Python<'_>) -> PyResult<u64> {
        viewed(py, &self.inner, |public| Ok(public.maximum_lifetime))
    }

    #[getter]
    fn reinit(&self, py: Python<'_>) -> PyResult<Option<ReInit>> {
        viewed(py, &self.inner, |public| {
            reinit::ended_in(public.provider.storage())
        })
    }

    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let roster = viewed(py, &self.inner, |public| self.roster(public))?;
        PyTuple::new(py, roster.values().cloned().collect::<Vec<_>>())
    }

    fn member(&self, py: Python<'_>, leaf_index: u32) -> PyResult<Option<Member>> {
        viewed(py, &self.inner, |public| {
            Member::at(&public.group, leaf_index)
        })
    }

    fn extensions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let list = viewed(py, &self.inner, |public| {
            members::extension_list(public.group.group_context().extensions())
        })?;
        (&ExtensionList(list)).into_pyobject(py)
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
                .map(|proposal| ProposalInfo::of(proposal, None))
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
            public.stage(message, values, now, self.instance, &*self.roster(public)?)
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
            self.check_origin(staged)?;
            group_info::verify(staged, group_info)
        })
    }

    #[pyo3(signature = (*, staged, extensions, signature))]
    fn rebuild_group_info(
        &self,
        py: Python<'_>,
        staged: &StagedCommit,
        extensions: &[u8],
        signature: &[u8],
    ) -> PyResult<Vec<u8>> {
        detached(py, || {
            self.check_origin(staged)?;
            group_info::rebuild(staged, extensions, signature)
        })
    }

    #[pyo3(signature = (*, signer, sender_index, key_package, now = None))]
    fn propose_add(
        &self,
        py: Python<'_>,
        signer: &SignatureKeyPair,
        sender_index: u32,
        key_package: &[u8],
        now: Option<u64>,
    ) -> PyResult<Vec<u8>> {
        self.propose(py, signer, sender_index, |sender| {
            sender.add(key_package, now)
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
        self.propose(py, signer, sender_index, |sender| sender.remove(leaf_index))
    }

    #[pyo3(signature = (*, signer, sender_index, component_id, payload))]
    fn propose_app_data_update(
        &self,
        py: Python<'_>,
        signer: &SignatureKeyPair,
        sender_index: u32,
        component_id: u16,
        payload: Option<Vec<u8>>,
    ) -> PyResult<Vec<u8>> {
        self.propose(py, signer, sender_index, |sender| {
            sender.app_data_update(component_id, payload)
        })
    }

    #[pyo3(signature = (*, signer, sender_index, extensions))]
    fn propose_group_context_extensions(
        &self,
        py: Python<'_>,
        signer: &SignatureKeyPair,
        sender_index: u32,
        extensions: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<u8>> {
        let extensions = extension_map(extensions)?;
        self.propose(py, signer, sender_index, |sender| {
            sender.group_context_extensions(&extensions)
        })
    }

    #[pyo3(signature = (*, signer, sender_index, group_id, ciphersuite, extensions, version = 1))]
    fn propose_reinit(
        &self,
        py: Python<'_>,
        signer: &SignatureKeyPair,
        sender_index: u32,
        group_id: &[u8],
        ciphersuite: u16,
        extensions: &Bound<'_, PyAny>,
        version: u16,
    ) -> PyResult<Vec<u8>> {
        let reinit = WireReInit {
            group_id: group_id.into(),
            version,
            ciphersuite,
            extensions: extension_map(extensions)?,
        };
        self.propose(py, signer, sender_index, |sender| sender.reinit(&reinit))
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
