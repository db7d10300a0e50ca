//! `Group`: one group of a client.

use std::sync::Arc;

use openmls_traits::OpenMlsProvider as _;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyTuple;
use tls_codec::Serialize;

use crate::aad::Aad;
use crate::app_data::{self, NewValues};
use crate::committing::{commit, CommitRequest};
use crate::context::{self, ContextChange, RequiredCapabilities};
use crate::convert::{component_map, sender_list};
use crate::error::{Failure, Outcome};
use crate::guard::detached;
use crate::processed::Processed;
use crate::processing::process;
use crate::proposing::{self, Request};
use crate::psk::PskId;
use crate::reaching::{clear_pending, group_info, merge_pending};
use crate::reinit::{self, ReInit};
use crate::state::{ClientState, GroupState};
use crate::values::{short, AppDataUpdate, CommitBundle, Member, ProposalInfo};
use crate::{config, members, wire};

#[pyclass(frozen, module = "openmls")]
pub struct Group {
    pub(crate) client: Arc<ClientState>,
    pub(crate) group_id: Vec<u8>,
}

#[pymethods]
impl Group {
    #[getter]
    fn group_id(&self) -> &[u8] {
        &self.group_id
    }

    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        self.peek(py, |group, base| base.unwrap_or(group.epoch().as_u64()))
    }

    #[getter]
    fn own_leaf_index(&self, py: Python<'_>) -> PyResult<u32> {
        self.peek(py, |group, _| group.own_leaf_index().u32())
    }

    #[getter]
    fn is_active(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(
            self.peek(py, |group, base| base.is_none() && group.is_active())?
                && self.reinit(py)?.is_none(),
        )
    }

    #[getter]
    fn reinit(&self, py: Python<'_>) -> PyResult<Option<ReInit>> {
        self.read(py, reinit::ended_by)
    }

    #[getter]
    fn has_pending_commit(&self, py: Python<'_>) -> PyResult<bool> {
        detached(py, || {
            let slot = self.client.slot(&self.group_id)?;
            let pending = |state: &GroupState| state.group.pending_commit().is_some();
            slot.view(|slot| {
                Ok(slot.joining.is_some() || slot.current.as_ref().is_some_and(pending))
            })
        })
    }

    #[getter]
    fn ciphersuite(&self, py: Python<'_>) -> PyResult<u16> {
        self.peek(py, |group, _| group.ciphersuite().into())
    }

    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let list = self.read(py, |state| Member::list(state.group.public_group()))?;
        PyTuple::new(py, list)
    }

    fn app_data(&self, py: Python<'_>) -> PyResult<NewValues> {
        self.read(py, |state| Ok(members::app_data(state.group.extensions())))
    }

    fn group_context(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |state| {
            Ok(state
                .group
                .public_group()
                .group_context()
                .tls_serialize_detached()?)
        })
    }

    fn group_info(&self, py: Python<'_>) -> PyResult<(Vec<u8>, Vec<u8>)> {
        self.read(py, |state| group_info(state, &self.client.signer))
    }

    fn external_senders<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let senders = self.read(py, |state| {
            context::external_senders(state.group.extensions())
        })?;
        PyTuple::new(py, senders)
    }

    fn required_capabilities(&self, py: Python<'_>) -> PyResult<Option<RequiredCapabilities>> {
        self.read(py, |state| {
            Ok(RequiredCapabilities::of(state.group.extensions()))
        })
    }

    #[pyo3(signature = (*, add = Vec::new(), remove = Vec::new(), psks = Vec::new(), app_data_updates = None,
                        app_data_removals = Vec::new(), new_app_data = None, app_ephemeral = Vec::new(),
                        external_senders = None, required_capabilities = None, leaf_app_data = None, aad = &[][..],
                        safe_aad = None, pending = true, ratchet_tree_extension = false, now = None))]
    fn commit(
        &self,
        py: Python<'_>,
        add: Vec<PyBackedBytes>,
        remove: Vec<u32>,
        psks: Vec<Py<PskId>>,
        app_data_updates: Option<&Bound<'_, PyAny>>,
        app_data_removals: Vec<u16>,
        new_app_data: Option<&Bound<'_, PyAny>>,
        app_ephemeral: Vec<(u16, PyBackedBytes)>,
        external_senders: Option<Vec<(PyBackedBytes, PyBackedBytes)>>,
        required_capabilities: Option<&RequiredCapabilities>,
        leaf_app_data: Option<&Bound<'_, PyAny>>,
        aad: &[u8],
        safe_aad: Option<&Bound<'_, PyAny>>,
        pending: bool,
        ratchet_tree_extension: bool,
        now: Option<u64>,
    ) -> PyResult<CommitBundle> {
        let request = CommitRequest {
            add: add.iter().map(|data| data.to_vec()).collect(),
            remove,
            psks: psks.iter().map(|id| id.get().clone()).collect(),
            updates: component_map(app_data_updates)?,
            removals: app_data_removals,
            new_values: component_map(new_app_data)?,
            ephemeral: app_ephemeral
                .iter()
                .map(|(component, data)| (*component, data.to_vec()))
                .collect(),
            context: ContextChange {
                external_senders: external_senders.map(sender_list),
                required: required_capabilities.cloned(),
            },
            leaf_app_data: leaf_app_data
                .map(|data| component_map(Some(data)))
                .transpose()?,
            aad: Aad {
                plain: aad.to_vec(),
                safe: component_map(safe_aad)?,
            },
            certified: self.client.certified_key(),
            take_pending: pending,
            tree_inside: ratchet_tree_extension,
            validity: self.client.validity(now),
        };
        let known = self.client.known_psks()?;
        self.commits(py, |state, signer| commit(state, signer, &known, request))
    }

    #[pyo3(signature = (reference, *, aad = &[][..], safe_aad = None))]
    fn commit_reinit(
        &self,
        py: Python<'_>,
        reference: &[u8],
        aad: &[u8],
        safe_aad: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<CommitBundle> {
        let aad = Aad {
            plain: aad.to_vec(),
            safe: component_map(safe_aad)?,
        };
        self.commits(py, |state, signer| {
            reinit::commit(state, signer, reference, aad)
        })
    }

    fn merge_pending_commit(&self, py: Python<'_>) -> PyResult<()> {
        self.slot(py, merge_pending)
    }

    fn clear_pending_commit(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || {
            self.client.change_entry(&self.group_id, clear_pending)
        })
    }

    #[pyo3(signature = (key_package, *, now = None))]
    fn propose_add(
        &self,
        py: Python<'_>,
        key_package: &[u8],
        now: Option<u64>,
    ) -> PyResult<Vec<u8>> {
        self.propose(
            py,
            Request::Add(key_package.to_vec(), self.client.validity(now)),
        )
    }

    #[pyo3(signature = (*, leaf_app_data = None))]
    fn propose_update(
        &self,
        py: Python<'_>,
        leaf_app_data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<u8>> {
        let data = leaf_app_data
            .map(|data| component_map(Some(data)))
            .transpose()?;
        self.propose(py, Request::Update(data, self.client.certified_key()))
    }

    fn propose_remove(&self, py: Python<'_>, leaf_index: u32) -> PyResult<Vec<u8>> {
        self.propose(py, Request::Remove(leaf_index))
    }

    fn propose_self_remove(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.propose(py, Request::SelfRemove)
    }

    fn propose_psk(&self, py: Python<'_>, psk: &PskId) -> PyResult<Vec<u8>> {
        let known = self.client.known_psks()?;
        self.propose(py, Request::Psk(psk.clone(), known))
    }

    fn propose_app_data_update(
        &self,
        py: Python<'_>,
        component_id: u16,
        payload: Option<&[u8]>,
    ) -> PyResult<Vec<u8>> {
        let payload = payload.map(<[u8]>::to_vec);
        self.propose(py, Request::AppDataUpdate(component_id, payload))
    }

    fn propose_app_ephemeral(
        &self,
        py: Python<'_>,
        component_id: u16,
        data: &[u8],
    ) -> PyResult<Vec<u8>> {
        self.propose(py, Request::AppEphemeral(component_id, data.to_vec()))
    }

    #[pyo3(signature = (*, external_senders = None, required_capabilities = None))]
    fn propose_group_context_extensions(
        &self,
        py: Python<'_>,
        external_senders: Option<Vec<(PyBackedBytes, PyBackedBytes)>>,
        required_capabilities: Option<&RequiredCapabilities>,
    ) -> PyResult<Vec<u8>> {
        let change = ContextChange {
            external_senders: external_senders.map(sender_list),
            required: required_capabilities.cloned(),
        };
        self.propose(py, Request::Context(change))
    }

    #[pyo3(signature = (*, group_id, ciphersuite = None, app_data = None, external_senders = Vec::new()))]
    fn propose_reinit(
        &self,
        py: Python<'_>,
        group_id: &[u8],
        ciphersuite: Option<u16>,
        app_data: Option<&Bound<'_, PyAny>>,
        external_senders: Vec<(PyBackedBytes, PyBackedBytes)>,
    ) -> PyResult<Vec<u8>> {
        let app_data = component_map(app_data)?;
        let senders = sender_list(external_senders);
        let required = self.client.required_credentials();
        self.undoable(py, |state, signer| {
            let suite = ciphersuite.unwrap_or_else(|| state.group.ciphersuite().into());
            let extensions = config::group_extensions(app_data, senders, Some(&required))?;
            let reinit = ReInit::new(group_id, suite, extensions)?;
            reinit::propose(state, signer, &reinit)
        })
    }

    fn pending_proposals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let list = self.read(py, |state| {
            state
                .group
                .pending_proposals()
                .map(|queued| ProposalInfo::of(queued, None))
                .collect::<Outcome<Vec<_>>>()
        })?;
        PyTuple::new(py, list)
    }

    fn remove_pending_proposal(&self, py: Python<'_>, reference: &[u8]) -> PyResult<()> {
        self.write(py, |state, _| proposing::remove_pending(state, reference))
    }

    fn clear_pending_proposals(&self, py: Python<'_>) -> PyResult<()> {
        self.write(py, |state, _| proposing::take_out(state).map(|_| ()))
    }

    #[pyo3(signature = (plaintext, *, aad = &[][..], safe_aad = None))]
    fn encrypt(
        &self,
        py: Python<'_>,
        plaintext: &[u8],
        aad: &[u8],
        safe_aad: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<u8>> {
        let aad = Aad {
            plain: aad.to_vec(),
            safe: component_map(safe_aad)?,
        };
        self.write(py, |state, signer| {
            reinit::refuse_ended(state)?;
            aad.set(&mut state.group)?;
            let message = state
                .group
                .create_message(&state.provider, signer, plaintext)
                .map_err(Failure::not_allowed)?;
            Ok(message.tls_serialize_detached()?)
        })
    }

    fn app_data_updates<'py>(
        &self,
        py: Python<'py>,
        message: &[u8],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let updates: Vec<AppDataUpdate> = self.read(py, |state| {
            let commit = wire::commit(message)?;
            Ok(app_data::of_commit(
                &commit,
                state.group.pending_proposals(),
            ))
        })?;
        PyTuple::new(py, updates)
    }

    fn pending_app_data_updates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let updates: Vec<AppDataUpdate> = self.read(py, |state| {
            Ok(state
                .group
                .pending_proposals()
                .filter_map(app_data::of_queued)
                .collect())
        })?;
        PyTuple::new(py, updates)
    }

    #[pyo3(signature = (message, *, new_app_data = None, now = None))]
    fn process(
        &self,
        py: Python<'_>,
        message: &[u8],
        new_app_data: Option<&Bound<'_, PyAny>>,
        now: Option<u64>,
    ) -> PyResult<Processed> {
        let values = component_map(new_app_data)?;
        let known = self.client.known_psks()?;
        let validity = self.client.validity(now);
        self.write(py, |state, _| {
            process(state, &known, message, values, validity)
        })
    }

    #[pyo3(signature = (*, label, context, length))]
    fn export_secret(
        &self,
        py: Python<'_>,
        label: &str,
        context: &[u8],
        length: usize,
    ) -> PyResult<Vec<u8>> {
        self.read(py, |state| {
            state
                .group
                .export_secret(state.provider.crypto(), label, context, length)
                .map_err(Failure::not_allowed)
        })
    }

    fn safe_export_secret(&self, py: Python<'_>, component_id: u16) -> PyResult<Vec<u8>> {
        self.write(py, |state, _| {
            let GroupState { provider, group } = state;
            group
                .safe_export_secret(provider.crypto(), provider.storage(), component_id)
                .map_err(Failure::not_allowed)
        })
    }

    fn epoch_authenticator(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |state| {
            Ok(state.group.epoch_authenticator().as_slice().to_vec())
        })
    }

    fn __repr__(&self) -> String {
        format!("<Group {}>", short(&self.group_id))
    }
}
