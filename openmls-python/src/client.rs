//! `Client`: a signature key, a credential, key packages and groups.

use std::sync::Arc;

use openmls::group::{GroupId, MlsGroup};
use openmls::prelude::{CredentialType, Extensions, GroupContext};
use openmls::schedule::psk::ResumptionPskUsage;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple};
use tls_codec::Serialize;

use crate::app_data::NewValues;
use crate::convert::{component_map, sender_list, Certificates};
use crate::error::{Failure, Outcome};
use crate::group::Group;
use crate::guard::{caught, detached, locked, viewed};
use crate::join::{self, ExternalJoin};
use crate::key_store::{self, NewKeyPackage};
use crate::keys::{self, SignatureKeyPair};
use crate::options::{self, Retention};
use crate::provider::Provider;
use crate::psk::PskId;
use crate::state::{unknown_group, ClientState, GroupState, Joining};
use crate::successor::{self, Successor};
use crate::values::{short, CommitBundle};
use crate::welcome::{self, WelcomePreview};
use crate::{config, credential, lifetimes};

#[pyclass(frozen, module = "openmls")]
pub struct Client {
    inner: Arc<ClientState>,
    signature_key: Vec<u8>,
}

impl Client {
    fn wrap(state: ClientState) -> Self {
        Self {
            signature_key: state.signer.to_public_vec(),
            inner: Arc::new(state),
        }
    }

    fn handle(&self, group_id: Vec<u8>) -> Group {
        Group::new(Arc::clone(&self.inner), group_id)
    }
}

/// What a new group is to be.
struct NewGroup {
    extensions: Extensions<GroupContext>,
    leaf_app_data: NewValues,
    retention: Retention,
    now: Option<u64>,
}

fn create_group(client: &ClientState, group_id: &[u8], request: NewGroup) -> Outcome<()> {
    let provider = Provider::default();
    let group = MlsGroup::new_with_group_id(
        &provider,
        &client.signer,
        &config::create_config(
            client.suite,
            request.extensions,
            config::leaf_extensions(request.leaf_app_data)?,
            request.retention,
            request.now,
        )?,
        GroupId::from_slice(group_id),
        client.certified_key(),
    )
    .map_err(Failure::not_allowed)?;
    client.change_entry(group_id, |slot| slot.begin(GroupState { provider, group }))
}

#[pymethods]
impl Client {
    #[staticmethod]
    #[pyo3(signature = (*, identity = None, certificates = None, ciphersuite = 1, signature_key = None,
                        maximum_lifetime = lifetimes::MAXIMUM_LIFETIME))]
    fn create(
        py: Python<'_>,
        identity: Option<&[u8]>,
        certificates: Option<Vec<PyBackedBytes>>,
        ciphersuite: u16,
        signature_key: Option<&SignatureKeyPair>,
        maximum_lifetime: u64,
    ) -> PyResult<Self> {
        detached(py, || {
            let suite = config::ciphersuite(ciphersuite)?;
            let certificates =
                certificates.map(|chain| chain.iter().map(|one| one.to_vec()).collect());
            let credential = credential::one_of(identity, certificates)?;
            let signer = match signature_key {
                None if credential.credential_type() == CredentialType::X509 => {
                    return Err(Failure::not_allowed(
                        "certificates are for a signature key that exists",
                    ))
                }
                None => keys::generate_signer(suite)?,
                Some(pair) if pair.suite.signature_algorithm() == suite.signature_algorithm() => {
                    pair.signer.clone()
                }
                Some(_) => {
                    return Err(Failure::not_allowed(
                        "the signature key belongs to another ciphersuite",
                    ))
                }
            };
            Ok(Self::wrap(ClientState::new(
                suite,
                credential,
                signer,
                maximum_lifetime,
            )))
        })
    }

    #[staticmethod]
    fn load(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        detached(py, || {
            // OpenMLS may panic on a store that was tampered with; there is no handle yet to be dropped.
            caught(|| ClientState::load(data))
                .map(Self::wrap)
                .map_err(|failure| Failure::snapshot(failure.message))
        })
    }

    fn save<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let saved = detached(py, || self.inner.save())?;
        Ok(PyBytes::new(py, &saved))
    }

    #[getter]
    fn identity<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, credential::identity(&self.inner.credential()))
    }

    #[getter]
    fn certificates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let chain = credential::certificates(&self.inner.credential())?;
        (&Certificates(chain)).into_pyobject(py)
    }

    #[getter]
    fn ciphersuite(&self) -> u16 {
        self.inner.suite.into()
    }

    #[getter]
    fn maximum_lifetime(&self) -> u64 {
        self.inner.maximum_lifetime
    }

    #[getter]
    fn signature_key(&self) -> &[u8] {
        &self.signature_key
    }

    #[getter]
    fn credential(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        detached(py, || {
            Ok(self.inner.credential().tls_serialize_detached()?)
        })
    }

    #[pyo3(signature = (*, certificates))]
    fn renew(&self, py: Python<'_>, certificates: Vec<PyBackedBytes>) -> PyResult<()> {
        detached(py, || {
            self.inner
                .renew(certificates.iter().map(|one| one.to_vec()).collect())
        })
    }

    #[pyo3(signature = (*, label, content))]
    fn sign_with_label(&self, py: Python<'_>, label: &str, content: &[u8]) -> PyResult<Vec<u8>> {
        detached(py, || {
            keys::sign_with_label(&self.inner.signer, label, content)
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
        locked(py, &self.inner.key_packages, |key_packages| {
            key_store::create(&self.inner, key_packages, request)
        })
    }

    #[pyo3(signature = (*, key_package, init_key, encryption_key))]
    fn import_key_package(
        &self,
        py: Python<'_>,
        key_package: &[u8],
        init_key: &[u8],
        encryption_key: &[u8],
    ) -> PyResult<Vec<u8>> {
        locked(py, &self.inner.key_packages, |key_packages| {
            key_store::import(
                &self.inner,
                key_packages,
                key_package,
                init_key,
                encryption_key,
            )
        })
    }

    fn key_package_references<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let references = viewed(py, &self.inner.key_packages, key_store::references)?;
        PyTuple::new(py, references)
    }

    fn forget_key_package(&self, py: Python<'_>, reference: &[u8]) -> PyResult<()> {
        locked(py, &self.inner.key_packages, |key_packages| {
            key_store::forget(key_packages, reference)
        })
    }

    fn add_psk(&self, py: Python<'_>, psk: &PskId, secret: &[u8]) -> PyResult<()> {
        locked(py, &self.inner.psks, |psks| psks.add(psk, secret))
    }

    fn remove_psk(&self, py: Python<'_>, psk: &PskId) -> PyResult<()> {
        locked(py, &self.inner.psks, |psks| psks.remove(psk))
    }

    fn psks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let ids = viewed(py, &self.inner.psks, |psks| Ok(psks.ids()))?;
        PyTuple::new(py, ids)
    }

    #[pyo3(signature = (*, group_id, app_data = None, external_senders = Vec::new(), required_capabilities = true,
                        leaf_app_data = None, now = None, past_epochs = options::PAST_EPOCHS,
                        out_of_order_tolerance = options::OUT_OF_ORDER_TOLERANCE,
                        maximum_forward_distance = options::MAXIMUM_FORWARD_DISTANCE))]
    fn create_group(
        &self,
        py: Python<'_>,
        group_id: &[u8],
        app_data: Option<&Bound<'_, PyAny>>,
        external_senders: Vec<(PyBackedBytes, PyBackedBytes)>,
        required_capabilities: bool,
        leaf_app_data: Option<&Bound<'_, PyAny>>,
        now: Option<u64>,
        past_epochs: u32,
        out_of_order_tolerance: u32,
        maximum_forward_distance: u32,
    ) -> PyResult<Group> {
        let request = NewGroup {
            extensions: config::group_extensions(
                component_map(app_data)?,
                sender_list(external_senders),
                required_capabilities.then_some(&self.inner.required_credentials()),
            )?,
            leaf_app_data: component_map(leaf_app_data)?,
            retention: Retention::new(
                past_epochs,
                out_of_order_tolerance,
                maximum_forward_distance,
            )?,
            now,
        };
        detached(py, || create_group(&self.inner, group_id, request))?;
        Ok(self.handle(group_id.to_vec()))
    }

    #[pyo3(signature = (group_id, *, add, former = None, leaf_app_data = None, now = None,
                        past_epochs = options::PAST_EPOCHS,
                        out_of_order_tolerance = options::OUT_OF_ORDER_TOLERANCE,
                        maximum_forward_distance = options::MAXIMUM_FORWARD_DISTANCE))]
    fn create_reinit(
        &self,
        py: Python<'_>,
        group_id: &[u8],
        add: Vec<PyBackedBytes>,
        former: Option<PyRef<'_, Self>>,
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
        let client = &self.inner;
        let former = former.as_ref().map_or(client, |former| &former.inner);
        let (successor, bundle) = detached(py, || {
            let reinit = successor::announced(client, former, group_id)?;
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
            Ok((
                successor,
                successor::create(client, former, group_id, request)?,
            ))
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
                Some(&self.inner.required_credentials()),
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
        let bundle = detached(py, || {
            successor::create(&self.inner, &self.inner, group_id, request)
        })?;
        Ok((self.handle(branch_id.to_vec()), bundle))
    }

    #[pyo3(signature = (*, welcome, ratchet_tree, former = None, past_epochs = options::PAST_EPOCHS,
                        out_of_order_tolerance = options::OUT_OF_ORDER_TOLERANCE,
                        maximum_forward_distance = options::MAXIMUM_FORWARD_DISTANCE))]
    fn join_welcome(
        &self,
        py: Python<'_>,
        welcome: &[u8],
        ratchet_tree: Option<&[u8]>,
        former: Option<PyRef<'_, Self>>,
        past_epochs: u32,
        out_of_order_tolerance: u32,
        maximum_forward_distance: u32,
    ) -> PyResult<Group> {
        let retention = Retention::new(
            past_epochs,
            out_of_order_tolerance,
            maximum_forward_distance,
        )?;
        let client = &self.inner;
        let former = former.as_ref().map_or(client, |former| &former.inner);
        let group_id = locked(py, &client.key_packages, |key_packages| {
            welcome::join(
                client,
                former,
                key_packages,
                welcome,
                ratchet_tree,
                retention,
            )
        })?;
        Ok(self.handle(group_id))
    }

    #[pyo3(signature = (*, welcome, ratchet_tree, former = None))]
    fn preview_welcome(
        &self,
        py: Python<'_>,
        welcome: &[u8],
        ratchet_tree: Option<&[u8]>,
        former: Option<PyRef<'_, Self>>,
    ) -> PyResult<WelcomePreview> {
        let client = &self.inner;
        let former = former.as_ref().map_or(client, |former| &former.inner);
        viewed(py, &client.key_packages, |key_packages| {
            welcome::preview(client, former, key_packages, welcome, ratchet_tree)
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
        let (group_id, bundle) = detached(py, || {
            let joined = join::external(&self.inner, &request)?;
            let group_id = joined.state.group.group_id().to_vec();
            self.inner.change_entry(&group_id, |slot| {
                slot.joining = Some(Joining {
                    base_epoch: joined.base_epoch,
                    state: joined.state,
                });
                Ok(())
            })?;
            Ok((group_id, joined.bundle))
        })?;
        Ok((self.handle(group_id), bundle))
    }

    fn group(&self, py: Python<'_>, group_id: &[u8]) -> PyResult<Group> {
        detached(py, || self.inner.slot(group_id).map(|_| ()))?;
        Ok(self.handle(group_id.to_vec()))
    }

    fn group_ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let ids: Vec<Vec<u8>> = viewed(py, &self.inner.groups, |groups| {
            Ok(groups.keys().cloned().collect())
        })?;
        PyTuple::new(py, ids)
    }

    fn forget_group(&self, py: Python<'_>, group_id: &[u8]) -> PyResult<()> {
        locked(py, &self.inner.groups, |groups| {
            groups
                .remove(group_id)
                .map(|_| ())
                .ok_or_else(unknown_group)
        })
    }

    fn __repr__(&self) -> String {
        format!(
            "<Client {:?} signature_key={}>",
            String::from_utf8_lossy(credential::identity(&self.inner.credential())),
            short(&self.signature_key)
        )
    }
}
