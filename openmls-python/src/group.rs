//! `Group`: one group of a client.

use std::sync::Arc;

use openmls::group::MlsGroup;
use openmls::prelude::{LeafNodeIndex, MlsMessageBodyOut, MlsMessageOut};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::OpenMlsProvider as _;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyTuple;
use tls_codec::Serialize;

use crate::app_data::{self, NewValues};
use crate::committing::{commit, CommitRequest};
use crate::convert::component_map;
use crate::error::{Failure, Kind, Outcome};
use crate::guard::detached;
use crate::processing::process;
use crate::state::{unknown_group, ClientState, GroupState, Slot};
use crate::values::{short, AppDataUpdate, CommitBundle, Member, Processed};
use crate::{members, wire};

fn group_info(state: &GroupState, signer: &Signer) -> Outcome<(Vec<u8>, Vec<u8>)> {
    if !state.group.is_active() {
        return Err(Failure::not_allowed(
            "this client was removed from the group",
        ));
    }
    let message: MlsMessageOut = state
        .group
        .export_group_info(state.provider.crypto(), signer, false)
        .map_err(Failure::internal)?;
    let MlsMessageBodyOut::GroupInfo(info) = message.body() else {
        return Err(Failure::internal("not a GroupInfo"));
    };
    Ok((
        info.tls_serialize_detached()?,
        state.group.export_ratchet_tree().tls_serialize_detached()?,
    ))
}

fn merge_pending(slot: &mut Slot) -> Outcome<()> {
    if let Some(joining) = slot.joining.take() {
        slot.current = Some(joining.state);
        return Ok(());
    }
    let GroupState { provider, group } = slot.current()?;
    if group.pending_commit().is_none() {
        return Err(Failure::not_allowed("no commit is pending"));
    }
    group
        .merge_pending_commit(provider)
        .map_err(Failure::half_done)
}

fn clear_pending(slot: &mut Slot) -> Outcome<()> {
    if slot.joining.take().is_some() {
        return Ok(());
    }
    let GroupState { provider, group } = slot.current()?;
    group
        .clear_pending_commit(provider.storage())
        .map_err(Failure::half_done)
}

#[pyclass(frozen, module = "openmls")]
pub struct Group {
    client: Arc<ClientState>,
    group_id: Vec<u8>,
}

impl Group {
    pub fn new(client: Arc<ClientState>, group_id: Vec<u8>) -> Self {
        Self { client, group_id }
    }

    fn slot<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Slot) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        detached(py, || self.client.change_group(&self.group_id, work))
    }

    fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&GroupState, &Signer) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let slot = self.client.slot(&self.group_id)?;
            slot.view(|slot| work(slot.in_use()?, &self.client.signer))
        })
    }

    fn write<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut GroupState, &Signer) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        self.slot(py, |slot| work(slot.current()?, &self.client.signer))
    }

    /// The group in use, or the one being joined; for properties that make sense for both.
    fn peek<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&MlsGroup, Option<u64>) -> T + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let slot = self.client.slot(&self.group_id)?;
            slot.view(|slot| match (&slot.current, &slot.joining) {
                (Some(state), _) => Ok(work(&state.group, None)),
                (None, Some(joining)) => Ok(work(&joining.state.group, Some(joining.base_epoch))),
                (None, None) => Err(unknown_group()),
            })
        })
    }
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
        self.peek(py, |group, base| base.is_none() && group.is_active())
    }

    #[getter]
    fn has_pending_commit(&self, py: Python<'_>) -> PyResult<bool> {
        self.slot(py, |slot| {
            let pending = |state: &GroupState| state.group.pending_commit().is_some();
            Ok(slot.joining.is_some() || slot.current.as_ref().is_some_and(pending))
        })
    }

    #[getter]
    fn ciphersuite(&self, py: Python<'_>) -> PyResult<u16> {
        self.peek(py, |group, _| group.ciphersuite().into())
    }

    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let list = self.read(py, |state, _| Member::list(state.group.public_group()))?;
        PyTuple::new(py, list)
    }

    fn app_data(&self, py: Python<'_>) -> PyResult<NewValues> {
        self.read(py, |state, _| {
            Ok(members::app_data(state.group.extensions()))
        })
    }

    fn group_context(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |state, _| {
            Ok(state
                .group
                .public_group()
                .group_context()
                .tls_serialize_detached()?)
        })
    }

    fn group_info(&self, py: Python<'_>) -> PyResult<(Vec<u8>, Vec<u8>)> {
        self.read(py, group_info)
    }

    #[pyo3(signature = (*, add = Vec::new(), remove = Vec::new(), app_data_updates = None,
                        new_app_data = None, aad = &[][..]))]
    fn commit(
        &self,
        py: Python<'_>,
        add: Vec<PyBackedBytes>,
        remove: Vec<u32>,
        app_data_updates: Option<&Bound<'_, PyAny>>,
        new_app_data: Option<&Bound<'_, PyAny>>,
        aad: &[u8],
    ) -> PyResult<CommitBundle> {
        let request = CommitRequest {
            add: add.iter().map(|data| data.to_vec()).collect(),
            remove,
            updates: component_map(app_data_updates)?,
            new_values: component_map(new_app_data)?,
            aad: aad.to_vec(),
        };
        self.slot(py, |slot| {
            if slot.joining.is_some() {
                return Err(Failure::not_allowed(
                    "an external commit is pending already",
                ));
            }
            commit(slot.current()?, &self.client.signer, request)
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

    fn propose_remove(&self, py: Python<'_>, leaf_index: u32) -> PyResult<Vec<u8>> {
        self.write(py, |state, signer| {
            let (message, _) = state
                .group
                .propose_remove_member(&state.provider, signer, LeafNodeIndex::new(leaf_index))
                .map_err(|failure| Failure::new(Kind::InvalidProposal, failure))?;
            Ok(message.tls_serialize_detached()?)
        })
    }

    fn propose_self_remove(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.write(py, |state, signer| {
            let message = state
                .group
                .leave_group_via_self_remove(&state.provider, signer)
                .map_err(Failure::not_allowed)?;
            Ok(message.tls_serialize_detached()?)
        })
    }

    #[pyo3(signature = (plaintext, *, aad = &[][..]))]
    fn encrypt(&self, py: Python<'_>, plaintext: &[u8], aad: &[u8]) -> PyResult<Vec<u8>> {
        self.write(py, |state, signer| {
            state.group.set_aad(aad.to_vec());
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
        let updates: Vec<AppDataUpdate> = self.read(py, |state, _| {
            let commit = wire::commit(message)?;
            Ok(app_data::of_commit(
                &commit,
                state.group.pending_proposals(),
            ))
        })?;
        PyTuple::new(py, updates)
    }

    fn pending_app_data_updates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let updates: Vec<AppDataUpdate> = self.read(py, |state, _| {
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
        self.write(py, |state, _| process(state, message, values, now))
    }

    #[pyo3(signature = (*, label, context, length))]
    fn export_secret(
        &self,
        py: Python<'_>,
        label: &str,
        context: &[u8],
        length: usize,
    ) -> PyResult<Vec<u8>> {
        self.read(py, |state, _| {
            state
                .group
                .export_secret(state.provider.crypto(), label, context, length)
                .map_err(Failure::not_allowed)
        })
    }

    fn __repr__(&self) -> String {
        format!("<Group {}>", short(&self.group_id))
    }
}
