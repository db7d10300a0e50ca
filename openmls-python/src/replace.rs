//! Rejoining without the old signature key.
//!
//! RFC 9420 section 12.4.3.2 allows an external commit "at most one Remove proposal, with which the joiner
//! removes an old version of themselves". OpenMLS adds that Remove by itself, but only when the old leaf has the
//! joiner's signature key, and offers no way to ask for another one. A client that lost its state has a new key.
//!
//! So OpenMLS is shown our public key in the one leaf that its Remove will blank (see `restoring` for why nothing
//! is verified less). The caller has verified the genuine tree before, and the shown leaf does not survive into
//! the new epoch, which is computed with the ordinary provider.

use crate::crypto::Crypto;
use openmls_traits::OpenMlsProvider;
use tls_codec::Size;

use crate::error::{Failure, Outcome};
use crate::restoring::{find, Restoring};
use crate::store::Store;
use crate::wire::{self, WireNode};

pub struct Replacement {
    crypto: Restoring,
    rand: Crypto,
    storage: Store,
    pub group_info: Vec<u8>,
    pub ratchet_tree: Vec<u8>,
}

impl Replacement {
    /// Show `ours` as the signature key of `leaf`.
    pub fn new(group_info: &[u8], tree: &[u8], leaf: u32, ours: &[u8]) -> Outcome<Self> {
        let nodes = wire::located_nodes(tree)?;
        let node = nodes
            .iter()
            .find(|node| node.index == 2 * u64::from(leaf))
            .ok_or_else(|| Failure::malformed("the leaf is empty"))?;
        let WireNode::Leaf(found) = &node.node else {
            return Err(Failure::malformed("the leaf is not a leaf"));
        };
        let genuine = found.signature_key.as_slice().to_vec();
        let crypto = Restoring::new(vec![(ours.to_vec(), genuine)], &[tree, group_info])?;
        // LeafNode: encryption_key<V>, signature_key<V>: the raw key is the end of the latter.
        let end = node.offset
            + found.encryption_key.tls_serialized_len()
            + found.signature_key.tls_serialized_len();
        let mut ratchet_tree = tree.to_vec();
        ratchet_tree[end - ours.len()..end].copy_from_slice(ours);
        let mut info = wire::group_info_bytes(group_info).to_vec();
        if let Some(at) = find(&info, tree) {
            info[at..at + tree.len()].copy_from_slice(&ratchet_tree);
        }
        Ok(Self {
            crypto,
            rand: Crypto::default(),
            storage: Store::default(),
            group_info: info,
            ratchet_tree,
        })
    }
}

impl OpenMlsProvider for Replacement {
    type CryptoProvider = Restoring;
    type RandProvider = Crypto;
    type StorageProvider = Store;

    fn storage(&self) -> &Store {
        &self.storage
    }

    fn crypto(&self) -> &Restoring {
        &self.crypto
    }

    fn rand(&self) -> &Crypto {
        &self.rand
    }
}
