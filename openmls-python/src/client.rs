//! `Client`: a signature key, a credential, key packages and groups.

use std::sync::Arc;

use openmls::group::{GroupId, MlsGroup, StagedWelcome};
use openmls::prelude::{KeyPackage, Lifetime};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::OpenMlsProvider as _;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple};
use tls_codec::Serialize;

use crate::convert::component_map;
use crate::error::{self, Failure, Outcome};
use crate::group::Group;
use crate::guard::{caught, detached, locked, viewed};
use crate::join::{self, ExternalJoin};
use crate::keys::{self, SignatureKeyPair};
use crate::member::check_credential;
use crate::provider::Provider;
use crate::state::{unknown_group, ClientState, GroupState, Joining, Slot};
use crate::store::Store;
use crate::values::{short, CommitBundle};
use crate::{config, wire};

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

/// Take up a group whose store holds all of it.
fn enter(slot: &mut Slot, state: GroupState) -> Outcome<()> {
    if matches!(&slot.current, Some(present) if present.group.is_active()) {
        return Err(Failure::not_allowed("this client is already in the group"));
    }
    *slot = Slot {
        current: Some(state),
        joining: None,
    };
    Ok(())
}

fn create_group(
    client: &ClientState,
    group_id: &[u8],
    app_data: impl IntoIterator<Item = (u16, Vec<u8>)>,
    external_senders: Vec<(Vec<u8>, Vec<u8>)>,
    required_capabilities: bool,
    now: Option<u64>,
) -> Outcome<()> {
    let provider = Provider::default();
    let extensions = config::group_extensions(app_data, external_senders, required_capabilities)?;
    let group = MlsGroup::new_with_group_id(
        &provider,
        &client.signer,
        &config::create_config(client.suite, extensions, now),
        GroupId::from_slice(group_id),
        client.credential(),
    )
    .map_err(Failure::not_allowed)?;
    client.change_entry(group_id, |slot| {
        if !slot.is_empty() {
            return Err(Failure::not_allowed("this client is already in the group"));
        }
        enter(slot, GroupState { provider, group })
    })
}

fn join_welcome(
    client: &ClientState,
    key_packages: &mut Provider,
    welcome: &[u8],
    ratchet_tree: Option<&[u8]>,
) -> Outcome<Vec<u8>> {
    let welcome = wire::welcome(welcome)?;
    let tree = ratchet_tree.map(wire::ratchet_tree).transpose()?;
    // Joining consumes a key package and writes a group into the same store, so it works on a copy; the
    // two parts are separated afterwards and nothing is lost if it fails.
    let before = key_packages.storage().contents();
    let provider = Provider::new(Store::new(before.clone()));
    let mut builder = StagedWelcome::build_from_welcome(&provider, &config::join_config(), welcome)
        .map_err(error::from_welcome)?
        // A member whose key package expired since it was added is still a member.
        .skip_lifetime_validation();
    if let Some(tree) = tree {
        builder = builder.with_ratchet_tree(tree);
    }
    let announced = builder
        .processed_welcome()
        .own_key_package()
        .map(|key_package| key_package.leaf_node().clone());
    let staged = builder.build().map_err(error::from_welcome)?;
    // RFC 9420 section 12.4.3.1: "Identify a leaf whose LeafNode is identical to the one in the KeyPackage."
    // OpenMLS compares signature keys only.
    if announced.is_none() || announced.as_ref() != staged.own_leaf_node() {
        return Err(Failure::invalid_commit(
            "the tree does not hold the leaf of the key package",
        ));
    }
    for member in staged.members() {
        check_credential(&member.credential)?;
    }
    let group = staged.into_group(&provider).map_err(error::from_welcome)?;
    let group_id = group.group_id().to_vec();
    let (kept, moved) = provider.into_storage().into_contents().split(&before);
    let state = GroupState {
        provider: Provider::new(Store::new(moved)),
        group,
    };
    client.change_entry(&group_id, |slot| enter(slot, state))?;
    *key_packages = Provider::new(Store::new(kept));
    Ok(group_id)
}

fn key_package(
    client: &ClientState,
    key_packages: &Provider,
    now: u64,
    lifetime: u64,
    last_resort: bool,
) -> Outcome<Vec<u8>> {
    let not_after = now
        .checked_add(lifetime)
        .ok_or_else(|| Failure::not_allowed("the lifetime is too long"))?;
    let lifetime = Lifetime::init(now.saturating_sub(config::CLOCK_SKEW), not_after);
    if !lifetime.has_acceptable_range() {
        return Err(Failure::not_allowed("the lifetime is too long"));
    }
    let mut builder = KeyPackage::builder()
        .key_package_lifetime(lifetime)
        .leaf_node_capabilities(config::capabilities());
    if last_resort {
        builder = builder
            .key_package_extensions(config::last_resort_extensions()?)
            .mark_as_last_resort();
    }
    let bundle = builder
        .build(
            client.suite,
            key_packages,
            &client.signer,
            client.credential(),
        )
        .map_err(Failure::internal)?;
    Ok(bundle.key_package().tls_serialize_detached()?)
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
            Ok(Self::wrap(ClientState::new(
                suite,
                identity.to_vec(),
                signer,
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
    fn identity(&self) -> &[u8] {
        &self.inner.identity
    }

    #[getter]
    fn ciphersuite(&self) -> u16 {
        self.inner.suite.into()
    }

    #[getter]
    fn signature_key(&self) -> &[u8] {
        &self.signature_key
    }

    #[getter]
    fn credential(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        detached(py, || {
            Ok(self
                .inner
                .credential()
                .credential
                .tls_serialize_detached()?)
        })
    }

    #[pyo3(signature = (*, label, content))]
    fn sign_with_label(&self, py: Python<'_>, label: &str, content: &[u8]) -> PyResult<Vec<u8>> {
        detached(py, || {
            keys::sign_with_label(&self.inner.signer, label, content)
        })
    }

    #[pyo3(signature = (*, now, lifetime, last_resort = false))]
    fn key_package(
        &self,
        py: Python<'_>,
        now: u64,
        lifetime: u64,
        last_resort: bool,
    ) -> PyResult<Vec<u8>> {
        let client = &self.inner;
        locked(py, &client.key_packages, |key_packages| {
            key_package(client, key_packages, now, lifetime, last_resort)
        })
    }

    #[pyo3(signature = (*, group_id, app_data = None, external_senders = Vec::new(), required_capabilities = true,
                        now = None))]
    fn create_group(
        &self,
        py: Python<'_>,
        group_id: &[u8],
        app_data: Option<&Bound<'_, PyAny>>,
        external_senders: Vec<(PyBackedBytes, PyBackedBytes)>,
        required_capabilities: bool,
        now: Option<u64>,
    ) -> PyResult<Group> {
        let app_data = component_map(app_data)?;
        let senders = external_senders
            .iter()
            .map(|(key, identity)| (key.to_vec(), identity.to_vec()))
            .collect();
        detached(py, || {
            create_group(
                &self.inner,
                group_id,
                app_data,
                senders,
                required_capabilities,
                now,
            )
        })?;
        Ok(self.handle(group_id.to_vec()))
    }

    #[pyo3(signature = (*, welcome, ratchet_tree))]
    fn join_welcome(
        &self,
        py: Python<'_>,
        welcome: &[u8],
        ratchet_tree: Option<&[u8]>,
    ) -> PyResult<Group> {
        let client = &self.inner;
        let group_id = locked(py, &client.key_packages, |key_packages| {
            join_welcome(client, key_packages, welcome, ratchet_tree)
        })?;
        Ok(self.handle(group_id))
    }

    #[pyo3(signature = (*, group_info, ratchet_tree, replace_leaf = None, aad = &[][..], proposals = Vec::new(),
                        app_data_updates = None, new_app_data = None))]
    fn join_external(
        &self,
        py: Python<'_>,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        replace_leaf: Option<u32>,
        aad: &[u8],
        proposals: Vec<PyBackedBytes>,
        app_data_updates: Option<&Bound<'_, PyAny>>,
        new_app_data: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Group, CommitBundle)> {
        let request = ExternalJoin {
            group_info,
            ratchet_tree,
            replace_leaf,
            aad,
            proposals: proposals.iter().map(|message| message.to_vec()).collect(),
            app_data_updates: component_map(app_data_updates)?,
            new_app_data: component_map(new_app_data)?,
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
            String::from_utf8_lossy(&self.inner.identity),
            short(&self.signature_key)
        )
    }
}
