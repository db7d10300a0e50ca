//! The OpenMLS provider: cryptography and a store that is ours.

use crate::crypto::Crypto;
use openmls_traits::OpenMlsProvider;

use crate::store::Store;

#[derive(Default)]
pub struct Provider {
    crypto: Crypto,
    storage: Store,
}

impl Provider {
    pub fn new(storage: Store) -> Self {
        Self {
            crypto: Crypto::default(),
            storage,
        }
    }

    pub fn into_storage(self) -> Store {
        self.storage
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = Crypto;
    type RandProvider = Crypto;
    type StorageProvider = Store;

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
