//! The cryptography of the whole binding: RustCrypto, for the ciphersuites of [`config::SUPPORTED`].
//!
//! `openmls_rust_crypto` has the primitives of more ciphersuites than it admits to. What it says it supports is
//! replaced here by what this binding offers and tests; nothing else is.

use openmls_rust_crypto::{RandError, RustCrypto};
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
    HpkeKeyPair, KemOutput, SignatureScheme,
};
use tls_codec::SecretVLBytes;

use crate::config;

/// The named methods of `OpenMlsCrypto`, answered by a field. The caller has the types in scope.
macro_rules! answered_by {
    ($field:ident: $($method:ident)*) => {
        $($crate::crypto::answered_by!(@$method $field);)*
    };
    (@hash $field:ident) => {
        fn hash(&self, hash_type: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
            self.$field.hash(hash_type, data)
        }
    };
    (@hmac $field:ident) => {
        fn hmac(
            &self,
            hash_type: HashType,
            key: &[u8],
            message: &[u8],
        ) -> Result<SecretVLBytes, CryptoError> {
            self.$field.hmac(hash_type, key, message)
        }
    };
    (@verify_signature $field:ident) => {
        fn verify_signature(
            &self,
            alg: SignatureScheme,
            data: &[u8],
            pk: &[u8],
            signature: &[u8],
        ) -> Result<(), CryptoError> {
            self.$field.verify_signature(alg, data, pk, signature)
        }
    };
    (@supports $field:ident) => {
        fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
            self.$field.supports(ciphersuite)
        }
    };
    (@supported_ciphersuites $field:ident) => {
        fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
            self.$field.supported_ciphersuites()
        }
    };
    (@hkdf_extract $field:ident) => {
        fn hkdf_extract(
            &self,
            hash_type: HashType,
            salt: &[u8],
            ikm: &[u8],
        ) -> Result<SecretVLBytes, CryptoError> {
            self.$field.hkdf_extract(hash_type, salt, ikm)
        }
    };
    (@hkdf_expand $field:ident) => {
        fn hkdf_expand(
            &self,
            hash_type: HashType,
            prk: &[u8],
            info: &[u8],
            okm_len: usize,
        ) -> Result<SecretVLBytes, CryptoError> {
            self.$field.hkdf_expand(hash_type, prk, info, okm_len)
        }
    };
    (@aead_encrypt $field:ident) => {
        fn aead_encrypt(
            &self,
            alg: AeadType,
            key: &[u8],
            data: &[u8],
            nonce: &[u8],
            aad: &[u8],
        ) -> Result<Vec<u8>, CryptoError> {
            self.$field.aead_encrypt(alg, key, data, nonce, aad)
        }
    };
    (@aead_decrypt $field:ident) => {
        fn aead_decrypt(
            &self,
            alg: AeadType,
            key: &[u8],
            ct_tag: &[u8],
            nonce: &[u8],
            aad: &[u8],
        ) -> Result<Vec<u8>, CryptoError> {
            self.$field.aead_decrypt(alg, key, ct_tag, nonce, aad)
        }
    };
    (@signature_key_gen $field:ident) => {
        fn signature_key_gen(
            &self,
            alg: SignatureScheme,
        ) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
            self.$field.signature_key_gen(alg)
        }
    };
    (@sign $field:ident) => {
        fn sign(
            &self,
            alg: SignatureScheme,
            data: &[u8],
            key: &[u8],
        ) -> Result<Vec<u8>, CryptoError> {
            self.$field.sign(alg, data, key)
        }
    };
    (@hpke_seal $field:ident) => {
        fn hpke_seal(
            &self,
            config: HpkeConfig,
            pk_r: &[u8],
            info: &[u8],
            aad: &[u8],
            ptxt: &[u8],
        ) -> Result<HpkeCiphertext, CryptoError> {
            self.$field.hpke_seal(config, pk_r, info, aad, ptxt)
        }
    };
    (@hpke_open $field:ident) => {
        fn hpke_open(
            &self,
            config: HpkeConfig,
            input: &HpkeCiphertext,
            sk_r: &[u8],
            info: &[u8],
            aad: &[u8],
        ) -> Result<Vec<u8>, CryptoError> {
            self.$field.hpke_open(config, input, sk_r, info, aad)
        }
    };
    (@hpke_setup_sender_and_export $field:ident) => {
        fn hpke_setup_sender_and_export(
            &self,
            config: HpkeConfig,
            pk_r: &[u8],
            info: &[u8],
            exporter_context: &[u8],
            exporter_length: usize,
        ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
            self.$field.hpke_setup_sender_and_export(
                config,
                pk_r,
                info,
                exporter_context,
                exporter_length,
            )
        }
    };
    (@hpke_setup_receiver_and_export $field:ident) => {
        fn hpke_setup_receiver_and_export(
            &self,
            config: HpkeConfig,
            enc: &[u8],
            sk_r: &[u8],
            info: &[u8],
            exporter_context: &[u8],
            exporter_length: usize,
        ) -> Result<ExporterSecret, CryptoError> {
            self.$field.hpke_setup_receiver_and_export(
                config,
                enc,
                sk_r,
                info,
                exporter_context,
                exporter_length,
            )
        }
    };
    (@derive_hpke_keypair $field:ident) => {
        fn derive_hpke_keypair(
            &self,
            config: HpkeConfig,
            ikm: &[u8],
        ) -> Result<HpkeKeyPair, CryptoError> {
            self.$field.derive_hpke_keypair(config, ikm)
        }
    };
}
pub(crate) use answered_by;

#[derive(Debug, Default)]
pub struct Crypto {
    primitives: RustCrypto,
}

impl OpenMlsCrypto for Crypto {
    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        if config::SUPPORTED.contains(&ciphersuite) {
            Ok(())
        } else {
            Err(CryptoError::UnsupportedCiphersuite)
        }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        config::SUPPORTED.to_vec()
    }

    answered_by! { primitives:
        hash hmac verify_signature hkdf_extract hkdf_expand aead_encrypt aead_decrypt
        signature_key_gen sign hpke_seal hpke_open hpke_setup_sender_and_export
        hpke_setup_receiver_and_export derive_hpke_keypair
    }
}

impl OpenMlsRand for Crypto {
    type Error = RandError;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Self::Error> {
        self.primitives.random_array()
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, Self::Error> {
        self.primitives.random_vec(len)
    }
}
