//! Where OpenMLS keeps what it persists: one store for each group, one for a client's key packages.
//!
//! Values are postcard, so that a tree of thousands of leaves costs its own size to write and to read; a value that is
//! replaced or dropped is overwritten in memory. The group ID is no part of a key, because a store holds one group.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{Display, Formatter};
use std::sync::{Mutex, MutexGuard, PoisonError};

use openmls_traits::storage::CURRENT_VERSION;
use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

pub const V: u16 = CURRENT_VERSION;

/// A serialized value, overwritten when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Value(pub Zeroizing<Vec<u8>>);

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl Serialize for Store {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shelf().contents.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Store {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Contents::deserialize(deserializer).map(Self::new)
    }
}

/// What a value is. The order is that of snapshots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Table {
    JoinConfig,
    Tree,
    GroupContext,
    InterimTranscriptHash,
    ConfirmationTag,
    GroupState,
    MessageSecrets,
    ResumptionPsks,
    OwnLeafIndex,
    EpochSecrets,
    EpochKeyPairs,
    ExportTree,
    SignatureKeyPair,
    EncryptionKeyPair,
    KeyPackage,
    Psk,
}

/// A queued proposal and its reference, both serialized.
#[derive(Clone, Serialize, Deserialize)]
pub struct Queued {
    #[serde(with = "serde_bytes")]
    pub reference: Vec<u8>,
    pub proposal: Value,
}

/// Everything in a store. Sorted, so that equal states have equal snapshots.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Contents {
    pub values: BTreeMap<(Table, Vec<u8>), Value>,
    /// Oldest first.
    pub proposals: VecDeque<Queued>,
    pub own_leaf_nodes: Vec<Value>,
}

impl Contents {
    /// What `before` holds already, as it is now, and what is new.
    pub fn split(self, before: &Self) -> (Self, Self) {
        let (kept, new) = self
            .values
            .into_iter()
            .partition(|(key, _)| before.values.contains_key(key));
        let kept = Self {
            values: kept,
            ..Self::default()
        };
        let new = Self {
            values: new,
            proposals: self.proposals,
            own_leaf_nodes: self.own_leaf_nodes,
        };
        (kept, new)
    }
}

#[derive(Default)]
pub struct Shelf {
    pub contents: Contents,
    pub keeping_secrets: bool,
    pub leaving_tree: bool,
}

/// The storage provider. It can only fail to encode or decode; the lock is never held over anything that panics.
#[derive(Default)]
pub struct Store(Mutex<Shelf>);

#[derive(Debug)]
pub struct StoreError(String);

impl Display for StoreError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "storage: {}", self.0)
    }
}

impl std::error::Error for StoreError {}

pub type Stored<T> = Result<T, StoreError>;

pub fn failed(error: impl Display) -> StoreError {
    StoreError(error.to_string())
}

/// Collects postcard; what it outgrows is overwritten.
struct Erasing(Zeroizing<Vec<u8>>);

impl Erasing {
    /// OpenMLS encodes keys byte for byte, so this is asked for each byte of a tree.
    #[inline]
    fn reserve(&mut self, more: usize) {
        if more > self.0.capacity() - self.0.len() {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let needed = self.0.len() + more;
        let mut larger = Vec::with_capacity(needed.max(2 * self.0.capacity()));
        larger.extend_from_slice(&self.0);
        self.0.zeroize();
        *self.0 = larger;
    }
}

impl Flavor for Erasing {
    type Output = Value;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.reserve(1);
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Value> {
        Ok(Value(self.0))
    }
}

/// Values are about as long as what they replace; this much longer costs no second buffer.
const HEADROOM: usize = 256;

pub fn encoded<T: Serialize + ?Sized>(value: &T, expected: usize) -> Stored<Value> {
    serialized(
        value,
        Zeroizing::new(Vec::with_capacity(expected + HEADROOM)),
    )
}

/// `value` after what is in `begin`.
pub fn serialized<T: Serialize + ?Sized>(value: &T, begin: Zeroizing<Vec<u8>>) -> Stored<Value> {
    postcard::serialize_with_flavor(value, Erasing(begin)).map_err(failed)
}

pub fn decoded<T: DeserializeOwned>(value: &[u8]) -> Stored<T> {
    postcard::from_bytes(value).map_err(failed)
}

/// How a key, such as the reference of a proposal, stands in a store.
pub fn key_bytes<K: Serialize>(key: &K) -> Stored<Vec<u8>> {
    postcard::to_stdvec(key).map_err(failed)
}

/// The key of a value that a group has once.
pub const ONLY: Vec<u8> = Vec::new();

impl Store {
    pub fn new(contents: Contents) -> Self {
        Self(Mutex::new(Shelf {
            contents,
            ..Shelf::default()
        }))
    }

    pub fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of everything; without the message secrets if [`Store::lacks_secrets`], and without the tree if
    /// [`Store::lacks_tree`].
    pub fn contents(&self) -> Contents {
        self.shelf().contents.clone()
    }

    pub fn into_contents(self) -> Contents {
        self.0
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .contents
    }

    /// OpenMLS writes the secrets of all members for each message it encrypts or decrypts, though it keeps them in
    /// memory as well. They are only taken in while `work` runs, which has to make OpenMLS write them.
    pub fn keeping_secrets<T>(&self, work: impl FnOnce() -> T) -> T {
        self.shelf().keeping_secrets = true;
        let result = work();
        self.shelf().keeping_secrets = false;
        result
    }

    /// Whether the message secrets are in memory only.
    pub fn lacks_secrets(&self) -> bool {
        let secrets = (Table::MessageSecrets, ONLY);
        !self.shelf().contents.values.contains_key(&secrets)
    }

    /// OpenMLS writes the whole tree of a public group with each commit, though it keeps it in memory as well. What it
    /// writes while `work` runs is not taken in, and what was there before is dropped.
    pub fn leaving_tree<T>(&self, work: impl FnOnce() -> T) -> T {
        self.shelf().leaving_tree = true;
        let result = work();
        self.shelf().leaving_tree = false;
        result
    }

    /// Whether the tree is in memory only.
    pub fn lacks_tree(&self) -> bool {
        let tree = (Table::Tree, ONLY);
        !self.shelf().contents.values.contains_key(&tree)
    }

    pub fn put<T: Serialize + ?Sized>(&self, table: Table, key: Vec<u8>, value: &T) -> Stored<()> {
        let mut shelf = self.shelf();
        let slot = shelf.contents.values.entry((table, key)).or_default();
        *slot = encoded(value, slot.0.len())?;
        Ok(())
    }

    pub fn get<T: DeserializeOwned>(&self, table: Table, key: Vec<u8>) -> Stored<Option<T>> {
        self.shelf()
            .contents
            .values
            .get(&(table, key))
            .map(|value| decoded(&value.0))
            .transpose()
    }

    /// The keys of a table.
    pub fn keys<K: DeserializeOwned>(&self, table: Table) -> Stored<Vec<K>> {
        self.shelf()
            .contents
            .values
            .keys()
            .filter(|(of, _)| *of == table)
            .map(|(_, key)| decoded(key))
            .collect()
    }

    pub fn drop_value(&self, table: Table, key: Vec<u8>) {
        self.shelf().contents.values.remove(&(table, key));
    }
}
