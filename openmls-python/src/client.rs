//! `Client`: a signature key, a credential, key packages and groups.

use std::sync::{Arc, Mutex};

use openmls::group::{GroupId, MlsGroup};
use openmls::schedule::psk::ResumptionPskUsage;
use openmls_basic_credential::SignatureKeyPair as Signer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyTuple;
use tls_codec::Serialize;

use crate::app_data::NewValues;
use crate::config;
use crate::convert::{component_map, sender_list};
use crate::error::{Failure, Kind, Outcome};
use crate::group::Group;
use crate::guard::{caught, detached, locked, viewed};
use crate::join::{self, ExternalJoin};
use crate::key_store::{self, NewKeyPackage};
use crate::keys::{self, SignatureKeyPair};
use crate::options::{self, Retention};
use crate::provider::Provider;
use crate::psk::{PskId, Psks};
use crate::state::{ClientState, GroupState, Joining, Slot};
use crate::successor::{self, Successor};
use crate::values::{short, CommitBundle};
use crate::welcome::{self, WelcomePreview};

#[pyclass(frozen, module = "openmls")]
pub struct Client {
    inner: Arc<Mutex<ClientState>>,
    identity: Vec<u8>,
    suite: u16,
    signature_key: Vec<u8>,
}

impl Client {
    fn wrap(state: ClientState) -> Self {
        Self {
            identity: state.identity.clone(),
            suite: state.suite.into(),
            signature_key: state.signer.to_public_vec(),
            inner: Arc::new(Mutex::new(state)),
        }
    }

    fn handle(&self, group_id: Vec<u8>) -> Group {
        Group::new(Arc::clone(&self.inner), group_id)
    }
}

fn create_group(
    client: &mut ClientState,
    group_id: &[u8],
    app_data: impl IntoIterator<Item = (u16, Vec<u8>)>,
    external_senders: Vec<(Vec<u8>, Vec<u8>)>,
    leaf_app_data: NewValues,
    retention: Retention,
    now: Option<u64>,
) -> Outcome<()> {
    if client.groups.contains_key(group_id) {
        return Err(Failure::not_allowed("this client is already in the group"));
    }
    let provider = Provider::default();
    let extensions = config::group_extensions(app_data, external_senders)?;
    let group = MlsGroup::new_with_group_id(
        &provider,
        &client.signer,
        &config::create_config(
            client.suite,
            extensions,
            config::leaf_extensions(leaf_app_data)?,
            retention,
            now,
        )?,
        GroupId::from_slice(group_id),
        client.credential(),
    )
    .map_err(Failure::not_allowed)?;
    client.groups.insert(
        group_id.to_vec(),
        Slot {
            current: Some(GroupState { provider, group }),
            joining: None,
        },
    );
    Ok(())
}

#[pymethods]
impl Client {
    #[staticmethod]
    #[pyo3(signature = (*, identity, ciphersuite = 1, signature_key = None))]
    fn create(
        py: Python<'_>,
        identity: &[u8],
        ciphersuite: u16,
        signature_key: Option<&SignatureKeyPair>,
    ) -> PyResult<Self> {
        detached(py, || {
            let suite = config::ciphersuite(ciphersuite)?;
            let signer = match signature_key {
                None => Signer::new(suite.signature_algorithm()).map_err(Failure::internal)?,
                Some(pair) if pair.suite.signature_algorithm() == suite.signature_algorithm() => {
                    pair.signer.clone()
                }
                Some(_) => {
                    return Err(Failure::not_allowed(
                        "the signature key belongs to another ciphersuite",
                    ))
                }
            };
            Ok(Self::wrap(ClientState {
                suite,
                identity: identity.to_vec(),
                signer,
                key_packages: Provider::default(),
                psks: Psks::default(),
                groups: Default::default(),
            }))
        })
    }

    #[staticmethod]
    fn load(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        detached(py, || {
            // OpenMLS may panic on a store that was tampered with; no handle exists yet to be poisoned.
            caught(|| ClientState::load(data))
                .map(Self::wrap)
                .map_err(|failure| Failure::snapshot(failure.message))
        })
    }

    fn save(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |client| client.save())
    }

    #[getter]
    fn identity(&self) -> &[u8] {
        &self.identity
    }

    #[getter]
    fn ciphersuite(&self) -> u16 {
        self.suite
    }

    #[getter]
    fn signature_key(&self) -> &[u8] {
        &self.signature_key
    }

    #[getter]
    fn credential(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |client| {
            Ok(client.credential().credential.tls_serialize_detached()?)
        })
    }

    #[pyo3(signature = (*, label, content))]
    fn sign_with_label(&self, py: Python<'_>, label: &str, content: &[u8]) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |client| {
            keys::sign_with_label(&client.signer, label, content)
        })
    }

    #[pyo3(signature = (*, now, lifetime, last_resort = false, app_data = None, leaf_app_data = None))]
    fn key_package(
        &self,
        py: Python<'_>,
        now: u64,
        lifetime: u64,
        last_resort: bool,
        app_data: Option<&Bound<'_, PyAny>>,
        leaf_app_data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<u8>> {
        let request = NewKeyPackage {
            now,
            lifetime,
            last_resort,
            app_data: component_map(app_data)?,
            leaf_app_data: component_map(leaf_app_data)?,
        };
        viewed(py, &self.inner, |client| key_store::create(client, request))
    }

    #[pyo3(signature = (*, key_package, init_key, encryption_key))]
    fn import_key_package(
        &self,
        py: Python<'_>,
        key_package: &[u8],
        init_key: &[u8],
        encryption_key: &[u8],
    ) -> PyResult<Vec<u8>> {
        viewed(py, &self.inner, |client| {
            key_store::import(client, key_package, init_key, encryption_key)
        })
    }

    fn key_package_references<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let references = viewed(py, &self.inner, |client| {
            key_store::references(&client.key_packages)
        })?;
        PyTuple::new(py, references)
    }

    fn forget_key_package(&self, py: Python<'_>, reference: &[u8]) -> PyResult<()> {
        viewed(py, &self.inner, |client| {
            key_store::forget(&client.key_packages, reference)
        })
    }

    fn add_psk(&self, py: Python<'_>, psk: &PskId, secret: &[u8]) -> PyResult<()> {
        locked(py, &self.inner, |client| client.psks.add(psk, secret))
    }

    fn remove_psk(&self, py: Python<'_>, psk: &PskId) -> PyResult<()> {
        locked(py, &self.inner, |client| client.psks.remove(psk))
    }

    fn psks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let ids = viewed(py, &self.inner, |client| Ok(client.psks.ids()))?;
        PyTuple::new(py, ids)
    }

    #[pyo3(signature = (*, group_id, app_data = None, external_senders = Vec::new(), leaf_app_data = None, now = None,
                        past_epochs = options::PAST_EPOCHS,
                        out_of_order_tolerance = options::OUT_OF_ORDER_TOLERANCE,
                        maximum_forward_distance = options::MAXIMUM_FORWARD_DISTANCE))]
    fn create_group(
        &self,
        py: Python<'_>,
        group_id: &[u8],
        app_data: Option<&Bound<'_, PyAny>>,
        external_senders: Vec<(PyBackedBytes, PyBackedBytes)>,
        leaf_app_data: Option<&Bound<'_, PyAny>>,
        now: Option<u64>,
        past_epochs: u32,
        out_of_order_tolerance: u32,
        maximum_forward_distance: u32,
    ) -> PyResult<Group> {
        let app_data = component_map(app_data)?;
        let leaf_app_data = component_map(leaf_app_data)?;
        let senders = sender_list(external_senders);
        let retention = Retention::new(
            past_epochs,
            out_of_order_tolerance,
            maximum_forward_distance,
        )?;
        locked(py, &self.inner, |client| {
            caught(|| {
                create_group(
                    client,
                    group_id,
                    app_data,
                    senders,
                    leaf_app_data,
                    retention,
                    now,
                )
            })
        })?;
        Ok(self.handle(group_id.to_vec()))
    }

    #[pyo3(signature = (group_id, *, add, leaf_app_data = None, now = None,
                        past_epochs = options::PAST_EPOCHS,
                        out_of_order_tolerance = options::OUT_OF_ORDER_TOLERANCE,
                        maximum_forward_distance = options::MAXIMUM_FORWARD_DISTANCE))]
    fn create_reinit(
        &self,
        py: Python<'_>,
        group_id: &[u8],
        add: Vec<PyBackedBytes>,
        leaf_app_data: Option<&Bound<'_, PyAny>>,
        now: Option<u64>,
        past_epochs: u32,
        out_of_order_tolerance: u32,
        maximum_forward_distance: u32,
    ) -> PyResult<(Group, CommitBundle)> {
        let retention = Retention::new(
            past_epochs,
            out_of_order_tolerance,
            maximum_forward_distance,
        )?;
        let leaf_app_data = component_map(leaf_app_data)?;
        let add = add.iter().map(|data| data.to_vec()).collect();
        let (successor, bundle) = locked(py, &self.inner, |client| {
            caught(|| {
                let reinit = successor::announced(client, group_id)?;
                let successor = reinit.successor().to_vec();
                let request = Successor {
                    group_id: successor.clone(),
                    extensions: Some(reinit.extensions),
                    usage: ResumptionPskUsage::Reinit,
                    add,
                    leaf_app_data,
                    retention,
                    now,
                };
                Ok((successor, successor::create(client, group_id, request)?))
            })
        })?;
        Ok((self.handle(successor), bundle))
    }

    #[pyo3(signature = (group_id, *, branch_id, add, app_data = None, external_senders = None,
                        leaf_app_data = None, now = None, past_epochs = options::PAST_EPOCHS,
                        out_of_order_tolerance = options::OUT_OF_ORDER_TOLERANCE,
                        maximum_forward_distance = options::MAXIMUM_FORWARD_DISTANCE))]
    fn create_branch(
        &self,
        py: Python<'_>,
        group_id: &[u8],
        branch_id: &[u8],
        add: Vec<PyBackedBytes>,
        app_data: Option<&Bound<'_, PyAny>>,
        external_senders: Option<Vec<(PyBackedBytes, PyBackedBytes)>>,
        leaf_app_data: Option<&Bound<'_, PyAny>>,
        now: Option<u64>,
        past_epochs: u32,
        out_of_order_tolerance: u32,
        maximum_forward_distance: u32,
    ) -> PyResult<(Group, CommitBundle)> {
        let extensions = match (app_data, external_senders) {
            (None, None) => None,
            (app_data, senders) => Some(config::group_extensions(
                component_map(app_data)?,
                sender_list(senders.unwrap_or_default()),
            )?),
        };
        let request = Successor {
            group_id: branch_id.to_vec(),
            extensions,
            usage: ResumptionPskUsage::Branch,
            add: add.iter().map(|data| data.to_vec()).collect(),
            leaf_app_data: component_map(leaf_app_data)?,
            retention: Retention::new(
                past_epochs,
                out_of_order_tolerance,
                maximum_forward_distance,
            )?,
            now,
        };
        let bundle = locked(py, &self.inner, |client| {
            caught(|| successor::create(client, group_id, request))
        })?;
        Ok((self.handle(branch_id.to_vec()), bundle))
    }

    #[pyo3(signature = (*, welcome, ratchet_tree, past_epochs = options::PAST_EPOCHS,
                        out_of_order_tolerance = options::OUT_OF_ORDER_TOLERANCE,
                        maximum_forward_distance = options::MAXIMUM_FORWARD_DISTANCE))]
    fn join_welcome(
        &self,
        py: Python<'_>,
        welcome: &[u8],
        ratchet_tree: Option<&[u8]>,
        past_epochs: u32,
        out_of_order_tolerance: u32,
        maximum_forward_distance: u32,
    ) -> PyResult<Group> {
        let retention = Retention::new(
            past_epochs,
            out_of_order_tolerance,
            maximum_forward_distance,
        )?;
        let group_id = locked(py, &self.inner, |client| {
            caught(|| welcome::join(client, welcome, ratchet_tree, retention))
        })?;
        Ok(self.handle(group_id))
    }

    #[pyo3(signature = (*, welcome, ratchet_tree))]
    fn preview_welcome(
        &self,
        py: Python<'_>,
        welcome: &[u8],
        ratchet_tree: Option<&[u8]>,
    ) -> PyResult<WelcomePreview> {
        viewed(py, &self.inner, |client| {
            welcome::preview(client, welcome, ratchet_tree)
        })
    }

    #[pyo3(signature = (*, group_info, ratchet_tree, replace_leaf = None, aad = &[][..], proposals = Vec::new(),
                        psks = Vec::new(), app_data_updates = None, new_app_data = None, leaf_app_data = None,
                        past_epochs = options::PAST_EPOCHS,
                        out_of_order_tolerance = options::OUT_OF_ORDER_TOLERANCE,
                        maximum_forward_distance = options::MAXIMUM_FORWARD_DISTANCE))]
    fn join_external(
        &self,
        py: Python<'_>,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        replace_leaf: Option<u32>,
        aad: &[u8],
        proposals: Vec<PyBackedBytes>,
        psks: Vec<Py<PskId>>,
        app_data_updates: Option<&Bound<'_, PyAny>>,
        new_app_data: Option<&Bound<'_, PyAny>>,
        leaf_app_data: Option<&Bound<'_, PyAny>>,
        past_epochs: u32,
        out_of_order_tolerance: u32,
        maximum_forward_distance: u32,
    ) -> PyResult<(Group, CommitBundle)> {
        let request = ExternalJoin {
            group_info,
            ratchet_tree,
            replace_leaf,
            aad,
            proposals: proposals.iter().map(|message| message.to_vec()).collect(),
            psks: psks.iter().map(|id| id.get().clone()).collect(),
            app_data_updates: component_map(app_data_updates)?,
            new_app_data: component_map(new_app_data)?,
            leaf_app_data: component_map(leaf_app_data)?,
            retention: Retention::new(
                past_epochs,
                out_of_order_tolerance,
                maximum_forward_distance,
            )?,
        };
        let (group_id, bundle) = locked(py, &self.inner, |client| {
            let joined = caught(|| join::external(client, &request))?;
            let group_id = joined.state.group.group_id().to_vec();
            client.groups.entry(group_id.clone()).or_default().joining = Some(Joining {
                base_epoch: joined.base_epoch,
                state: joined.state,
            });
            Ok((group_id, joined.bundle))
        })?;
        Ok((self.handle(group_id), bundle))
    }

    fn group(&self, py: Python<'_>, group_id: &[u8]) -> PyResult<Group> {
        locked(py, &self.inner, |client| client.slot(group_id).map(|_| ()))?;
        Ok(self.handle(group_id.to_vec()))
    }

    fn group_ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let ids: Vec<Vec<u8>> = locked(py, &self.inner, |client| {
            Ok(client.groups.keys().cloned().collect())
        })?;
        PyTuple::new(py, ids)
    }

    fn forget_group(&self, py: Python<'_>, group_id: &[u8]) -> PyResult<()> {
        locked(py, &self.inner, |client| {
            client
                .groups
                .remove(group_id)
                .map(|_| ())
                .ok_or_else(|| Failure::new(Kind::UnknownGroup, "this client has no such group"))
        })
    }

    fn __repr__(&self) -> String {
        format!(
            "<Client {:?} signature_key={}>",
            String::from_utf8_lossy(&self.identity),
            short(&self.signature_key)
        )
    }
}
