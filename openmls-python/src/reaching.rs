//! How a `Group`, which is a handle, reaches the group it stands for: to look, to change it, to commit.

use std::sync::Arc;

use openmls::group::MlsGroup;
use openmls::prelude::{MlsMessageBodyOut, MlsMessageOut};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::OpenMlsProvider as _;
use pyo3::prelude::*;
use tls_codec::Serialize;

use crate::error::{Failure, Outcome};
use crate::group::Group;
use crate::guard::detached;
use crate::proposing::{self, Request};
use crate::reinit;
use crate::state::{unknown_group, ClientState, GroupState, Slot};

impl Group {
    pub fn new(client: Arc<ClientState>, group_id: Vec<u8>) -> Self {
        Self { client, group_id }
    }

    pub(crate) fn slot<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Slot) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        detached(py, || self.client.change_group(&self.group_id, work))
    }

    pub(crate) fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&GroupState) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        detached(py, || self.client.view_group(&self.group_id, work))
    }

    pub(crate) fn write<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut GroupState, &Signer) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        self.slot(py, |slot| work(slot.current()?, &self.client.signer))
    }

    /// The same for work of many steps, all of which are undone if one fails.
    pub(crate) fn undoable<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut GroupState, &Signer) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        self.write(py, |state, signer| {
            state.undoable(|state| work(state, signer))
        })
    }

    /// The same for a commit, which must be the only one that is pending.
    pub(crate) fn commits<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut GroupState, &Signer) -> Outcome<T> + Send,
    ) -> PyResult<T> {
        self.slot(py, |slot| {
            if slot.joining.is_some() {
                return Err(Failure::not_allowed(
                    "an external commit is pending already",
                ));
            }
            let signer = &self.client.signer;
            slot.current()?.undoable(|state| work(state, signer))
        })
    }

    pub(crate) fn propose(&self, py: Python<'_>, request: Request) -> PyResult<Vec<u8>> {
        self.undoable(py, |state, signer| {
            proposing::propose(state, signer, request)
        })
    }

    /// The group in use, or the one being joined; for properties that make sense for both.
    pub(crate) fn peek<T: Send>(
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

pub fn group_info(state: &GroupState, signer: &Signer) -> Outcome<(Vec<u8>, Vec<u8>)> {
    reinit::refuse_ended(state)?;
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

pub fn merge_pending(slot: &mut Slot) -> Outcome<()> {
    if let Some(joining) = slot.joining.take() {
        slot.current = Some(joining.state);
        return Ok(());
    }
    let GroupState { provider, group } = slot.current()?;
    let staged = group
        .pending_commit()
        .ok_or_else(|| Failure::not_allowed("no commit is pending"))?;
    let reinit = reinit::in_commit(group, staged)?;
    group
        .merge_pending_commit(provider)
        .map_err(Failure::half_done)?;
    match &reinit {
        Some(reinit) => reinit::end(provider.storage(), reinit),
        None => Ok(()),
    }
}

pub fn clear_pending(slot: &mut Slot) -> Outcome<()> {
    if slot.joining.take().is_some() {
        return Ok(());
    }
    let GroupState { provider, group } = slot.current()?;
    group
        .clear_pending_commit(provider.storage())
        .map_err(Failure::half_done)
}
