//! The OpenMLS provider: RustCrypto and a store that is ours.

use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;

use crate::store::Store;

#[derive(Default)]
pub struct Provider {
    crypto: RustCrypto,
    storage: Store,
}

impl Provider {
    pub fn new(storage: Store) -> Self {
        Self {
            crypto: RustCrypto::default(),
            storage,
        }
    }

    pub fn into_storage(self) -> Store {
        self.storage
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
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
