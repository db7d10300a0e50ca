//! Cryptography that undoes a substitution before it looks.
//!
//! OpenMLS decides some things by looking at a leaf and offers no way to decide otherwise. Where the binding must,
//! it shows OpenMLS a tree or a message in which a few fields hold stand-ins, together with this provider, which
//! puts the genuine bytes back into everything that is hashed or authenticated or whose signature is checked. So
//! tree hash, parent hashes, transcript hashes, proposal references, membership tags and signatures are computed
//! over the genuine bytes, exactly as without the substitution.

use std::collections::HashMap;

use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
    HpkeKeyPair, KemOutput, SignatureScheme,
};
use tls_codec::SecretVLBytes;

use crate::crypto::{answered_by, Crypto};
use crate::error::{Failure, Outcome};

/// Stand-ins are recognised by their first bytes, which all of one substitution share.
const MARK_LENGTH: usize = 12;

pub struct Restoring {
    inner: Crypto,
    mark: [u8; MARK_LENGTH],
    length: usize,
    genuine: HashMap<Vec<u8>, Vec<u8>>,
}

impl Restoring {
    /// A substitution of `shown` for `genuine` bytes. None of the `originals` may hold anything that looks like
    /// a stand-in, so that putting the genuine bytes back is unambiguous.
    pub fn new(pairs: Vec<(Vec<u8>, Vec<u8>)>, originals: &[&[u8]]) -> Outcome<Self> {
        let (first, _) = pairs
            .first()
            .ok_or_else(|| Failure::internal("a substitution of nothing"))?;
        let length = first.len();
        let mark: [u8; MARK_LENGTH] = *first
            .first_chunk()
            .ok_or_else(|| Failure::internal("a stand-in is too short"))?;
        if pairs.iter().any(|(shown, genuine)| {
            !shown.starts_with(&mark) || shown.len() != length || genuine.len() != length
        }) {
            return Err(Failure::not_allowed("stand-ins of different lengths"));
        }
        if originals.iter().any(|data| find(data, &mark).is_some()) {
            return Err(Failure::not_allowed("the stand-in is in the group already"));
        }
        Ok(Self {
            inner: Crypto::default(),
            mark,
            length,
            genuine: pairs.into_iter().collect(),
        })
    }

    fn restore(&self, data: &[u8]) -> Vec<u8> {
        let mut restored = data.to_vec();
        let mut from = 0;
        while let Some(at) = find(&data[from..], &self.mark).map(|at| from + at) {
            let found = data.get(at..at + self.length);
            from = match found.and_then(|shown| self.genuine.get(shown)) {
                Some(genuine) => {
                    restored[at..at + self.length].copy_from_slice(genuine);
                    at + self.length
                }
                None => at + 1,
            };
        }
        restored
    }
}

/// Where `needle` begins in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

impl OpenMlsCrypto for Restoring {
    fn hash(&self, hash_type: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.hash(hash_type, &self.restore(data))
    }

    fn verify_signature(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        pk: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.inner
            .verify_signature(alg, &self.restore(data), &self.restore(pk), signature)
    }

    fn hmac(
        &self,
        hash_type: HashType,
        key: &[u8],
        message: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hmac(hash_type, key, &self.restore(message))
    }

    answered_by! { inner:
        supports supported_ciphersuites hkdf_extract hkdf_expand aead_encrypt aead_decrypt
        signature_key_gen sign hpke_seal hpke_open hpke_setup_sender_and_export
        hpke_setup_receiver_and_export derive_hpke_keypair
    }
}
