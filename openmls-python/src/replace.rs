//! Rejoining without the old signature key.
//!
//! RFC 9420 section 12.4.3.2 lets an external commit carry one Remove, "with which the joiner removes an old
//! version of themselves". OpenMLS adds that Remove by itself, but only when the old leaf has the joiner's
//! signature key, and offers no way to ask for another one. A client that lost its state has a new key.
//!
//! So OpenMLS is shown the tree with our public key in the one leaf that its Remove will blank. Nothing is
//! verified less for that: this provider puts the genuine key back into every byte string before it is hashed
//! or its signature is checked, so tree hash, parent hashes, leaf signature and GroupInfo signature are those
//! of the genuine tree. The caller has also verified the genuine tree before. The shown leaf does not survive
//! into the new epoch, which is computed with the ordinary provider.

use openmls_memory_storage::MemoryStorage;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
    HpkeKeyPair, KemOutput, SignatureScheme,
};
use openmls_traits::OpenMlsProvider;
use tls_codec::{DeserializeBytes, SecretVLBytes, Size};

use crate::error::{Failure, Outcome};
use crate::wire::{self, WireNode};

pub struct Replacement {
    crypto: Restoring,
    rand: RustCrypto,
    storage: MemoryStorage,
    leaf: u32,
}

/// Cryptography over the genuine bytes.
pub struct Restoring {
    inner: RustCrypto,
    genuine: Vec<u8>,
    shown: Vec<u8>,
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

impl Replacement {
    pub fn new(leaf: u32, genuine: Vec<u8>, shown: Vec<u8>) -> Self {
        Self {
            crypto: Restoring {
                inner: RustCrypto::default(),
                genuine,
                shown,
            },
            rand: RustCrypto::default(),
            storage: MemoryStorage::default(),
            leaf,
        }
    }

    /// The GroupInfo and the tree with our key in the replaced leaf.
    pub fn shown(&self, group_info: &[u8], tree: &[u8]) -> Outcome<(Vec<u8>, Vec<u8>)> {
        let (genuine, shown) = (&self.crypto.genuine, &self.crypto.shown);
        if genuine.len() != shown.len() {
            return Err(Failure::not_allowed("signature keys of different lengths"));
        }
        // Putting the key back must be unambiguous.
        if find(tree, shown).is_some() || find(group_info, shown).is_some() {
            return Err(Failure::not_allowed(
                "this signature key is in the group already",
            ));
        }
        let start = key_offset(tree, self.leaf)?;
        let end = start + genuine.len();
        if tree.get(start..end) != Some(genuine.as_slice()) {
            return Err(Failure::internal(
                "the signature key is not where it should be",
            ));
        }
        let mut shown_tree = tree.to_vec();
        shown_tree[start..end].copy_from_slice(shown);
        let mut shown_info = wire::group_info_bytes(group_info).to_vec();
        if let Some(at) = find(&shown_info, tree) {
            shown_info[at..at + tree.len()].copy_from_slice(&shown_tree);
        }
        Ok((shown_info, shown_tree))
    }
}

/// Where the signature key of `leaf` begins in an encoded ratchet tree.
fn key_offset(tree: &[u8], leaf: u32) -> Outcome<usize> {
    let nodes = wire::tree_nodes(tree)?;
    let body: usize = nodes.iter().map(Size::tls_serialized_len).sum();
    let mut offset = tree
        .len()
        .checked_sub(body)
        .ok_or_else(|| Failure::malformed("ratchet tree"))?;
    for (index, node) in nodes.iter().enumerate() {
        if index as u64 == 2 * u64::from(leaf) {
            let Some(WireNode::Leaf(node)) = node else {
                return Err(Failure::malformed("the leaf is empty"));
            };
            // optional<Node>: presence (1), node_type (1), encryption_key<V>, signature_key<V>
            let key = offset + 2 + node.encryption_key.tls_serialized_len();
            let (_, rest) = tls_codec::VLBytes::tls_deserialize_bytes(&tree[key..])?;
            return Ok(tree.len() - rest.len() - node.signature_key.as_slice().len());
        }
        offset += node.tls_serialized_len();
    }
    Err(Failure::malformed("the leaf is outside the tree"))
}

impl Restoring {
    fn restore(&self, data: &[u8]) -> Vec<u8> {
        let mut genuine = data.to_vec();
        while let Some(at) = find(&genuine, &self.shown) {
            genuine[at..at + self.shown.len()].copy_from_slice(&self.genuine);
        }
        genuine
    }
}

impl OpenMlsProvider for Replacement {
    type CryptoProvider = Restoring;
    type RandProvider = RustCrypto;
    type StorageProvider = MemoryStorage;

    fn storage(&self) -> &MemoryStorage {
        &self.storage
    }

    fn crypto(&self) -> &Restoring {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.rand
    }
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

    fn hmac(
        &self,
        hash_type: HashType,
        key: &[u8],
        message: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hmac(hash_type, key, message)
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
