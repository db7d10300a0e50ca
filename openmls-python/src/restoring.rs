//! Cryptography that undoes a substitution before it looks.
//!
//! OpenMLS decides some things by looking at a leaf and offers no way to decide otherwise. Where the binding must,
//! it shows OpenMLS a tree or a message in which a few fields hold stand-ins, together with this provider, which
//! puts the genuine bytes back into everything that is hashed or authenticated or whose signature is checked. So
//! tree hash, parent hashes, transcript hashes, proposal references, membership tags and signatures are computed
//! over the genuine bytes, exactly as without the substitution.

use std::collections::HashMap;

use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
    HpkeKeyPair, KemOutput, SignatureScheme,
};
use tls_codec::SecretVLBytes;

use crate::error::{Failure, Outcome};

/// Stand-ins are recognised by their first bytes, which all of one substitution share.
const MARK_LENGTH: usize = 12;

pub struct Restoring {
    inner: RustCrypto,
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
            inner: RustCrypto::default(),
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

    // The rest is passed through.

    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        self.inner.supports(ciphersuite)
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        self.inner.supported_ciphersuites()
    }

    fn hkdf_extract(
        &self,
        hash_type: HashType,
        salt: &[u8],
        ikm: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hkdf_extract(hash_type, salt, ikm)
    }

    fn hkdf_expand(
        &self,
        hash_type: HashType,
        prk: &[u8],
        info: &[u8],
        okm_len: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hkdf_expand(hash_type, prk, info, okm_len)
    }

    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.aead_encrypt(alg, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        ct_tag: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.aead_decrypt(alg, key, ct_tag, nonce, aad)
    }

    fn signature_key_gen(&self, alg: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        self.inner.signature_key_gen(alg)
    }

    fn sign(&self, alg: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.sign(alg, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        aad: &[u8],
        ptxt: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        self.inner.hpke_seal(config, pk_r, info, aad, ptxt)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        sk_r: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.hpke_open(config, input, sk_r, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        self.inner.hpke_setup_sender_and_export(
            config,
            pk_r,
            info,
            exporter_context,
            exporter_length,
        )
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        sk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        self.inner.hpke_setup_receiver_and_export(
            config,
            enc,
            sk_r,
            info,
            exporter_context,
            exporter_length,
        )
    }

    fn derive_hpke_keypair(
        &self,
        config: HpkeConfig,
        ikm: &[u8],
    ) -> Result<HpkeKeyPair, CryptoError> {
        self.inner.derive_hpke_keypair(config, ikm)
    }
}
