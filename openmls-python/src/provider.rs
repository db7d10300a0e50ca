//! The OpenMLS provider: RustCrypto plus an in-memory store whose content can be taken out and put back.

use std::collections::{BTreeMap, HashMap};
use std::sync::RwLock;

use openmls_memory_storage::MemoryStorage;
use openmls_traits::OpenMlsProvider;

use crate::crypto::Crypto;
use crate::error::{Failure, Outcome};

/// Everything OpenMLS persisted, sorted so that equal states have equal snapshots.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
pub struct Provider {
    crypto: Crypto,
    storage: MemoryStorage,
}

impl Provider {
    pub fn from_entries(entries: Entries) -> Self {
        Self {
            crypto: Crypto::default(),
            storage: MemoryStorage {
                values: RwLock::new(entries.into_iter().collect()),
            },
        }
    }

    pub fn entries(&self) -> Outcome<Entries> {
        Ok(self
            .checkpoint()?
            .into_iter()
            .collect::<BTreeMap<Vec<u8>, Vec<u8>>>())
    }

    /// A copy of the whole store, to go back to if an operation fails half way.
    pub fn checkpoint(&self) -> Outcome<HashMap<Vec<u8>, Vec<u8>>> {
        Ok(self
            .storage
            .values
            .read()
            .map_err(|_| Failure::internal("storage lock"))?
            .clone())
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = Crypto;
    type RandProvider = Crypto;
    type StorageProvider = MemoryStorage;

    fn storage(&self) -> &Self::StorageProvider {
        &self.storage
    }

    fn crypto(&self) -> &Self::CryptoProvider {
        &self.crypto
    }

    fn rand(&self) -> &Self::RandProvider {
        &self.crypto
    }
}
