//! `Member`: a leaf of the tree, shared rather than copied. What is in it is encoded only when somebody asks.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use openmls::group::PublicGroup;
use openmls::prelude::{LeafNode, LeafNodeIndex, Lifetime};
use openmls::treesync::LeafNodeSource;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tls_codec::Serialize;

use crate::convert::{Certificates, ExtensionList};
use crate::error::Outcome;
use crate::lifetimes::Judging;
use crate::values::Capabilities;
use crate::{credential, members};

/// Leaf index to member.
pub type Roster = BTreeMap<u32, Member>;

#[pyclass(frozen, eq, hash, module = "openmls")]
#[derive(Clone)]
pub struct Member {
    pub leaf_index: u32,
    leaf: Arc<LeafNode>,
    /// Apart from `leaf`, which may hold a stand-in.
    lifetime: Option<(u64, u64)>,
}

impl Member {
    /// A leaf of a group, or one that `judging` has verified.
    pub fn new(leaf_index: u32, leaf: &LeafNode, judging: Option<&Judging<'_>>) -> Outcome<Self> {
        credential::check(leaf.credential())?;
        Ok(Self {
            leaf_index,
            lifetime: lifetime(leaf, judging),
            leaf: Arc::new(leaf.clone()),
        })
    }

    /// Everyone in a group. Who is in `known`, the members of an earlier epoch, with the very same leaf is shared, not
    /// copied again.
    pub fn roster(group: &PublicGroup, known: &Roster) -> Outcome<Roster> {
        group
            .treesync()
            .full_leaves()
            .map(|(index, leaf)| {
                let index = index.u32();
                let member = match known.get(&index) {
                    Some(member) if *member.leaf == *leaf => member.clone(),
                    _ => Self::new(index, leaf, None)?,
                };
                Ok((index, member))
            })
            .collect()
    }

    /// The member at a leaf, if there is one.
    pub fn at(group: &PublicGroup, leaf_index: u32) -> Outcome<Option<Self>> {
        group
            .leaf(LeafNodeIndex::new(leaf_index))
            .map(|leaf| Self::new(leaf_index, leaf, None))
            .transpose()
    }

    pub fn list(group: &PublicGroup) -> Outcome<Vec<Self>> {
        Ok(Self::roster(group, &Roster::new())?.into_values().collect())
    }

    pub fn identity(&self) -> &[u8] {
        credential::identity(self.leaf.credential())
    }

    /// The Credential struct.
    pub fn credential(&self) -> Outcome<Vec<u8>> {
        Ok(self.leaf.credential().tls_serialize_detached()?)
    }

    pub fn signature_key(&self) -> &[u8] {
        self.leaf.signature_key().as_slice()
    }

    /// Whether both stand for the same client: the credential and the signature key.
    pub fn is_same_client(&self, other: &Self) -> bool {
        self.leaf.credential() == other.leaf.credential()
            && self.leaf.signature_key() == other.leaf.signature_key()
    }
}

fn lifetime(leaf: &LeafNode, judging: Option<&Judging<'_>>) -> Option<(u64, u64)> {
    let LeafNodeSource::KeyPackage(shown) = leaf.leaf_node_source() else {
        return None;
    };
    let genuine: Lifetime = judging.map_or(*shown, |judging| judging.genuine(shown));
    Some((genuine.not_before(), genuine.not_after()))
}

// All of a leaf but the lifetime that it is shown with, which may be a stand-in. The signature is not enough: who makes an
// ECDSA key can make it so that one signature holds for two contents.
impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.leaf_index == other.leaf_index
            && self.lifetime == other.lifetime
            && self.is_same_client(other)
            && self.leaf.signature() == other.leaf.signature()
            && self.leaf.encryption_key() == other.leaf.encryption_key()
            && self.leaf.capabilities() == other.leaf.capabilities()
            && self.leaf.extensions() == other.leaf.extensions()
    }
}

impl Eq for Member {}

impl Hash for Member {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.leaf_index.hash(state);
        self.signature_key().hash(state);
        self.leaf.encryption_key().hash(state);
    }
}

#[pymethods]
impl Member {
    #[getter]
    fn leaf_index(&self) -> u32 {
        self.leaf_index
    }

    #[getter(identity)]
    fn py_identity(&self) -> &[u8] {
        self.identity()
    }

    #[getter(credential)]
    fn py_credential(&self) -> PyResult<Vec<u8>> {
        Ok(self.credential()?)
    }

    #[getter]
    fn certificates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let chain = credential::certificates(self.leaf.credential())?;
        (&Certificates(chain)).into_pyobject(py)
    }

    #[getter(signature_key)]
    fn py_signature_key(&self) -> &[u8] {
        self.signature_key()
    }

    #[getter]
    fn encryption_key(&self) -> PyResult<Vec<u8>> {
        Ok(members::encryption_key(&self.leaf)?)
    }

    #[getter]
    fn capabilities(&self) -> PyResult<Capabilities> {
        Ok(Capabilities::of(self.leaf.capabilities())?)
    }

    #[getter]
    fn extensions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        (&ExtensionList(members::extension_list(self.leaf.extensions())?)).into_pyobject(py)
    }

    #[getter]
    fn app_data(&self) -> BTreeMap<u16, Vec<u8>> {
        members::app_data(self.leaf.extensions())
    }

    #[getter]
    fn lifetime(&self) -> Option<(u64, u64)> {
        self.lifetime
    }

    fn __repr__(&self) -> String {
        format!(
            "<Member leaf_index={} identity={:?}>",
            self.leaf_index,
            String::from_utf8_lossy(self.identity())
        )
    }
}
