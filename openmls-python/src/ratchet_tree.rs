//! Looking into an exported ratchet tree without a group. Nothing is verified here.

use openmls::prelude::{Ciphersuite, OpenMlsCrypto};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tls_codec::{Serialize, VLBytes};

use crate::config;
use crate::crypto::Crypto;
use crate::error::{Failure, Outcome};
use crate::guard::detached;
use crate::wire::{self, WireNode};

/// NodeType of TreeHashInput, RFC 9420 section 7.8.
const LEAF: u8 = 1;
const PARENT: u8 = 2;

#[pyclass(frozen, module = "openmls")]
pub struct RatchetTreeInfo {
    leaves: Vec<u32>,
    #[pyo3(get)]
    tree_hash: Vec<u8>,
}

#[pymethods]
impl RatchetTreeInfo {
    #[getter]
    fn leaves<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.leaves)
    }

    fn __repr__(&self) -> String {
        format!("<RatchetTreeInfo leaves={}>", self.leaves.len())
    }
}

#[pyfunction]
#[pyo3(signature = (data, *, ciphersuite))]
pub fn inspect_ratchet_tree(
    py: Python<'_>,
    data: &[u8],
    ciphersuite: u16,
) -> PyResult<RatchetTreeInfo> {
    detached(py, || info(data, config::ciphersuite(ciphersuite)?))
}

fn info(data: &[u8], suite: Ciphersuite) -> Outcome<RatchetTreeInfo> {
    let nodes = wire::tree_nodes(data)?;
    // RFC 9420 section 12.4.3.3: "If the tree has trailing blank nodes, they MUST be removed".
    if !matches!(nodes.last(), Some(Some(_))) {
        return Err(Failure::malformed("the last node of the tree is blank"));
    }
    let mut leaves = Vec::new();
    for (index, node) in (0_u32..).zip(&nodes) {
        match node {
            Some(WireNode::Leaf(_)) if index.is_multiple_of(2) => leaves.push(index / 2),
            Some(WireNode::Parent(_)) if !index.is_multiple_of(2) => {}
            None => {}
            _ => {
                return Err(Failure::malformed(format!(
                    "node {index} of the tree is of the wrong type"
                )))
            }
        }
    }
    let hasher = Hasher {
        nodes,
        suite,
        crypto: Crypto::default(),
    };
    Ok(RatchetTreeInfo {
        tree_hash: hasher.hash(hasher.root())?,
        leaves,
    })
}

struct Hasher {
    nodes: Vec<Option<WireNode>>,
    suite: Ciphersuite,
    crypto: Crypto,
}

impl Hasher {
    /// The index of the root: the tree has 2^(d+1) - 1 nodes, blank ones at its end are left out.
    fn root(&self) -> usize {
        (self.nodes.len() + 1).next_power_of_two() / 2 - 1
    }

    /// RFC 9420 section 7.8. The recursion is as deep as the tree.
    fn hash(&self, index: usize) -> Outcome<Vec<u8>> {
        let node = self.nodes.get(index).and_then(Option::as_ref);
        let mut input = Vec::new();
        if index.is_multiple_of(2) {
            // TreeHashInput: NodeType, LeafNodeHashInput: leaf_index, optional leaf_node
            input.push(LEAF);
            let leaf = u32::try_from(index / 2).map_err(Failure::malformed)?;
            input.extend_from_slice(&leaf.to_be_bytes());
        } else {
            // TreeHashInput: NodeType, ParentNodeHashInput: optional parent_node, left_hash, right_hash
            input.push(PARENT);
        }
        match node {
            None => input.push(0),
            Some(WireNode::Leaf(leaf)) => {
                input.push(1);
                input.extend_from_slice(&leaf.tls_serialize_detached()?);
            }
            Some(WireNode::Parent(parent)) => {
                input.push(1);
                input.extend_from_slice(&parent.tls_serialize_detached()?);
            }
        }
        if !index.is_multiple_of(2) {
            // Half the distance between the children of a node at this level.
            let step = 1 << ((index + 1).trailing_zeros() - 1);
            for child in [index - step, index + step] {
                let hash: VLBytes = self.hash(child)?.into();
                input.extend_from_slice(&hash.tls_serialize_detached()?);
            }
        }
        self.crypto
            .hash(self.suite.hash_algorithm(), &input)
            .map_err(Failure::internal)
    }
}
