//! Where OpenMLS keeps what it persists: one store for each group, one for a client's key packages.
//!
//! Values are postcard, so that a tree of thousands of leaves costs its own size to write and to read; a value that is
//! replaced or dropped is overwritten in memory. The group ID is no part of a key, because a store holds one group.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{Display, Formatter};
use std::sync::{Mutex, MutexGuard, PoisonError};

use openmls_traits::storage::{traits, StorageProvider, CURRENT_VERSION};
use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

const V: u16 = CURRENT_VERSION;

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
struct Shelf {
    contents: Contents,
    keeping_secrets: bool,
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

type Stored<T> = Result<T, StoreError>;

fn failed(error: impl Display) -> StoreError {
    StoreError(error.to_string())
}

/// Collects postcard; what it outgrows is overwritten.
struct Erasing(Zeroizing<Vec<u8>>);

impl Erasing {
    fn reserve(&mut self, more: usize) {
        let needed = self.0.len() + more;
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(2 * self.0.capacity()));
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            *self.0 = larger;
        }
    }
}

impl Flavor for Erasing {
    type Output = Value;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.reserve(1);
        self.0.push(byte);
        Ok(())
    }

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

fn encoded<T: Serialize + ?Sized>(value: &T, expected: usize) -> Stored<Value> {
    serialized(
        value,
        Zeroizing::new(Vec::with_capacity(expected + HEADROOM)),
    )
}

/// `value` after what is in `begin`.
pub fn serialized<T: Serialize + ?Sized>(value: &T, begin: Zeroizing<Vec<u8>>) -> Stored<Value> {
    postcard::serialize_with_flavor(value, Erasing(begin)).map_err(failed)
}

fn decoded<T: DeserializeOwned>(value: &[u8]) -> Stored<T> {
    postcard::from_bytes(value).map_err(failed)
}

/// How a key, such as the reference of a proposal, stands in a store.
pub fn key_bytes<K: Serialize>(key: &K) -> Stored<Vec<u8>> {
    postcard::to_stdvec(key).map_err(failed)
}

impl Store {
    pub fn new(contents: Contents) -> Self {
        Self(Mutex::new(Shelf {
            contents,
            ..Shelf::default()
        }))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of everything; without the message secrets if [`Store::lacks_secrets`].
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

    fn put<T: Serialize + ?Sized>(&self, table: Table, key: Vec<u8>, value: &T) -> Stored<()> {
        let mut shelf = self.shelf();
        let slot = shelf.contents.values.entry((table, key)).or_default();
        *slot = encoded(value, slot.0.len())?;
        Ok(())
    }

    fn get<T: DeserializeOwned>(&self, table: Table, key: Vec<u8>) -> Stored<Option<T>> {
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

    fn drop_value(&self, table: Table, key: Vec<u8>) {
        self.shelf().contents.values.remove(&(table, key));
    }
}

/// The one value of a table.
const ONLY: Vec<u8> = Vec::new();

/// Writer, reader and deleter of a value that a group has once.
macro_rules! once {
    ($table:ident, $type:ident, $write:ident, $read:ident, $delete:ident) => {
        fn $write<G: traits::GroupId<V>, T: traits::$type<V>>(&self, _: &G, it: &T) -> Stored<()> {
            self.put(Table::$table, ONLY, it)
        }

        fn $read<G: traits::GroupId<V>, T: traits::$type<V>>(&self, _: &G) -> Stored<Option<T>> {
            self.get(Table::$table, ONLY)
        }

        fn $delete<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
            self.drop_value(Table::$table, ONLY);
            Ok(())
        }
    };
}

/// Writer, reader and deleter of a value with a key of its own.
macro_rules! keyed {
    ($table:ident, $key:ident, $type:ident, $write:ident, $read:ident, $delete:ident) => {
        fn $write<K: traits::$key<V>, T: traits::$type<V>>(&self, key: &K, it: &T) -> Stored<()> {
            self.put(Table::$table, key_bytes(key)?, it)
        }

        keyed!(@read $table, $key, $type, $read);

        fn $delete<K: traits::$key<V>>(&self, key: &K) -> Stored<()> {
            self.drop_value(Table::$table, key_bytes(key)?);
            Ok(())
        }
    };
    // Two readers name the value's type before the key's.
    (@read $table:ident, EncryptionKey, $type:ident, $read:ident) => {
        fn $read<T: traits::$type<V>, K: traits::EncryptionKey<V>>(&self, key: &K) -> Stored<Option<T>> {
            self.get(Table::$table, key_bytes(key)?)
        }
    };
    (@read $table:ident, PskId, $type:ident, $read:ident) => {
        fn $read<T: traits::$type<V>, K: traits::PskId<V>>(&self, key: &K) -> Stored<Option<T>> {
            self.get(Table::$table, key_bytes(key)?)
        }
    };
    (@read $table:ident, $key:ident, $type:ident, $read:ident) => {
        fn $read<K: traits::$key<V>, T: traits::$type<V>>(&self, key: &K) -> Stored<Option<T>> {
            self.get(Table::$table, key_bytes(key)?)
        }
    };
}

impl StorageProvider<V> for Store {
    type Error = StoreError;

    once!(Tree, TreeSync, write_tree, tree, delete_tree);
    once!(
        GroupContext,
        GroupContext,
        write_context,
        group_context,
        delete_context
    );
    once!(
        InterimTranscriptHash,
        InterimTranscriptHash,
        write_interim_transcript_hash,
        interim_transcript_hash,
        delete_interim_transcript_hash
    );
    once!(
        ConfirmationTag,
        ConfirmationTag,
        write_confirmation_tag,
        confirmation_tag,
        delete_confirmation_tag
    );
    once!(
        ResumptionPsks,
        ResumptionPskStore,
        write_resumption_psk_store,
        resumption_psk_store,
        delete_all_resumption_psk_secrets
    );
    once!(
        OwnLeafIndex,
        LeafNodeIndex,
        write_own_leaf_index,
        own_leaf_index,
        delete_own_leaf_index
    );
    once!(
        EpochSecrets,
        GroupEpochSecrets,
        write_group_epoch_secrets,
        group_epoch_secrets,
        delete_group_epoch_secrets
    );
    keyed!(
        SignatureKeyPair,
        SignaturePublicKey,
        SignatureKeyPair,
        write_signature_key_pair,
        signature_key_pair,
        delete_signature_key_pair
    );
    keyed!(
        EncryptionKeyPair,
        EncryptionKey,
        HpkeKeyPair,
        write_encryption_key_pair,
        encryption_key_pair,
        delete_encryption_key_pair
    );
    keyed!(
        KeyPackage,
        HashReference,
        KeyPackage,
        write_key_package,
        key_package,
        delete_key_package
    );
    keyed!(Psk, PskId, PskBundle, write_psk, psk, delete_psk);

    // OpenMLS reads an older form of the configuration too, which only a format that says what it holds can tell apart.

    fn write_mls_join_config<G: traits::GroupId<V>, T: traits::MlsGroupJoinConfig<V>>(
        &self,
        _: &G,
        config: &T,
    ) -> Stored<()> {
        let json = serde_json::to_vec(config).map_err(failed)?;
        self.put(Table::JoinConfig, ONLY, serde_bytes::Bytes::new(&json))
    }

    fn mls_group_join_config<G: traits::GroupId<V>, T: traits::MlsGroupJoinConfig<V>>(
        &self,
        _: &G,
    ) -> Stored<Option<T>> {
        self.get::<serde_bytes::ByteBuf>(Table::JoinConfig, ONLY)?
            .map(|json| serde_json::from_slice(&json).map_err(failed))
            .transpose()
    }

    fn delete_group_config<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.drop_value(Table::JoinConfig, ONLY);
        Ok(())
    }

    fn write_group_state<T: traits::GroupState<V>, G: traits::GroupId<V>>(
        &self,
        _: &G,
        state: &T,
    ) -> Stored<()> {
        self.put(Table::GroupState, ONLY, state)
    }

    fn group_state<T: traits::GroupState<V>, G: traits::GroupId<V>>(
        &self,
        _: &G,
    ) -> Stored<Option<T>> {
        self.get(Table::GroupState, ONLY)
    }

    fn delete_group_state<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.drop_value(Table::GroupState, ONLY);
        Ok(())
    }

    fn write_message_secrets<G: traits::GroupId<V>, T: traits::MessageSecrets<V>>(
        &self,
        _: &G,
        secrets: &T,
    ) -> Stored<()> {
        let keeping = self.shelf().keeping_secrets;
        if keeping {
            self.put(Table::MessageSecrets, ONLY, secrets)
        } else {
            self.drop_value(Table::MessageSecrets, ONLY);
            Ok(())
        }
    }

    fn message_secrets<G: traits::GroupId<V>, T: traits::MessageSecrets<V>>(
        &self,
        _: &G,
    ) -> Stored<Option<T>> {
        self.get(Table::MessageSecrets, ONLY)
    }

    fn delete_message_secrets<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.drop_value(Table::MessageSecrets, ONLY);
        Ok(())
    }

    fn write_application_export_tree<G: traits::GroupId<V>, T: traits::ApplicationExportTree<V>>(
        &self,
        _: &G,
        tree: &T,
    ) -> Stored<()> {
        self.put(Table::ExportTree, ONLY, tree)
    }

    fn application_export_tree<G: traits::GroupId<V>, T: traits::ApplicationExportTree<V>>(
        &self,
        _: &G,
    ) -> Stored<Option<T>> {
        self.get(Table::ExportTree, ONLY)
    }

    fn delete_application_export_tree<
        G: traits::GroupId<V>,
        T: traits::ApplicationExportTree<V>,
    >(
        &self,
        _: &G,
    ) -> Stored<()> {
        self.drop_value(Table::ExportTree, ONLY);
        Ok(())
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<V>,
        E: traits::EpochKey<V>,
        T: traits::HpkeKeyPair<V>,
    >(
        &self,
        _: &G,
        epoch: &E,
        leaf_index: u32,
        key_pairs: &[T],
    ) -> Stored<()> {
        self.put(
            Table::EpochKeyPairs,
            key_bytes(&(epoch, leaf_index))?,
            key_pairs,
        )
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<V>,
        E: traits::EpochKey<V>,
        T: traits::HpkeKeyPair<V>,
    >(
        &self,
        _: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Stored<Vec<T>> {
        let found = self.get(Table::EpochKeyPairs, key_bytes(&(epoch, leaf_index))?)?;
        Ok(found.unwrap_or_default())
    }

    fn delete_encryption_epoch_key_pairs<G: traits::GroupId<V>, E: traits::EpochKey<V>>(
        &self,
        _: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Stored<()> {
        self.drop_value(Table::EpochKeyPairs, key_bytes(&(epoch, leaf_index))?);
        Ok(())
    }

    fn append_own_leaf_node<G: traits::GroupId<V>, T: traits::LeafNode<V>>(
        &self,
        _: &G,
        leaf_node: &T,
    ) -> Stored<()> {
        let value = encoded(leaf_node, 0)?;
        self.shelf().contents.own_leaf_nodes.push(value);
        Ok(())
    }

    fn own_leaf_nodes<G: traits::GroupId<V>, T: traits::LeafNode<V>>(
        &self,
        _: &G,
    ) -> Stored<Vec<T>> {
        self.shelf()
            .contents
            .own_leaf_nodes
            .iter()
            .map(|value| decoded(&value.0))
            .collect()
    }

    fn delete_own_leaf_nodes<G: traits::GroupId<V>>(&self, _: &G) -> Stored<()> {
        self.shelf().contents.own_leaf_nodes.clear();
        Ok(())
    }

    fn queue_proposal<
        G: traits::GroupId<V>,
        R: traits::ProposalRef<V>,
        T: traits::QueuedProposal<V>,
    >(
        &self,
        _: &G,
        reference: &R,
        proposal: &T,
    ) -> Stored<()> {
        let queued = Queued {
            reference: key_bytes(reference)?,
            proposal: encoded(proposal, 0)?,
        };
        self.shelf().contents.proposals.push_back(queued);
        Ok(())
    }

    fn queued_proposal_refs<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        _: &G,
    ) -> Stored<Vec<R>> {
        self.shelf()
            .contents
            .proposals
            .iter()
            .map(|queued| decoded(&queued.reference))
            .collect()
    }

    fn queued_proposals<
        G: traits::GroupId<V>,
        R: traits::ProposalRef<V>,
        T: traits::QueuedProposal<V>,
    >(
        &self,
        _: &G,
    ) -> Stored<Vec<(R, T)>> {
        self.shelf()
            .contents
            .proposals
            .iter()
            .map(|queued| Ok((decoded(&queued.reference)?, decoded(&queued.proposal.0)?)))
            .collect()
    }

    fn remove_proposal<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        _: &G,
        reference: &R,
    ) -> Stored<()> {
        let reference = key_bytes(reference)?;
        self.shelf()
            .contents
            .proposals
            .retain(|queued| queued.reference != reference);
        Ok(())
    }

    fn clear_proposal_queue<G: traits::GroupId<V>, R: traits::ProposalRef<V>>(
        &self,
        _: &G,
    ) -> Stored<()> {
        self.shelf().contents.proposals.clear();
        Ok(())
    }
}
