//! Resumption PSKs that tie a new group to an older one (RFC 9420 sections 8.6, 11.2 and 11.3).
//!
//! OpenMLS 0.9.2 knows such a PreSharedKeyID, but looks its secret up in the new group, which cannot have it, and
//! refuses to send it. So it is shown an external PSK in its place, whose ID is the genuine PreSharedKeyID, together
//! with this cryptography, which puts the genuine one back wherever it counts: into the PSKLabel that the key schedule
//! hashes, and into the GroupSecrets of a Welcome. Nothing is verified less, and every byte sent is as RFC 9420 says.

use std::sync::Mutex;

use openmls::schedule::psk::ResumptionPskUsage;
use openmls::schedule::{PreSharedKeyId, Psk};
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
    HpkeKeyPair, KemOutput, SignatureScheme,
};
use openmls_traits::OpenMlsProvider;
use tls_codec::{
    DeserializeBytes, SecretVLBytes, Serialize, TlsDeserializeBytes, TlsSerialize, TlsSize, VLBytes,
};
use zeroize::Zeroizing;

use crate::crypto::{answered_by, Crypto};
use crate::error::Outcome;
use crate::provider::Provider;
use crate::store::Store;
use crate::wire;

const PSK_LABEL: &[u8] = b"MLS 1.0 derived psk";
const WELCOME_LABEL: &[u8] = b"MLS 1.0 Welcome";

/// KDFLabel, RFC 9420 section 8.
#[derive(Debug, TlsDeserializeBytes, TlsSerialize, TlsSize)]
struct KdfLabel {
    length: u16,
    label: VLBytes,
    context: VLBytes,
}

/// GroupSecrets, RFC 9420 section 12.4.3.1.
#[derive(TlsDeserializeBytes, TlsSerialize, TlsSize)]
struct GroupSecrets {
    joiner_secret: SecretVLBytes,
    path_secret: Option<SecretVLBytes>,
    psks: Vec<PreSharedKeyId>,
}

impl std::fmt::Debug for GroupSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GroupSecrets")
    }
}

/// Whether the ID is one that OpenMLS cannot look up.
pub fn needs_bridging(id: &PreSharedKeyId) -> bool {
    matches!(id.psk(), Psk::Resumption(psk) if psk.usage() != ResumptionPskUsage::Application)
}

/// What stands in for `genuine`.
pub fn shown(genuine: &PreSharedKeyId) -> Outcome<PreSharedKeyId> {
    Ok(PreSharedKeyId::external(
        genuine.tls_serialize_detached()?,
        genuine.psk_nonce().to_vec(),
    ))
}

pub struct Bridging<'a> {
    crypto: BridgingCrypto,
    provider: &'a Provider,
}

pub struct BridgingCrypto {
    inner: Crypto,
    genuine: Mutex<Vec<PreSharedKeyId>>,
}

impl<'a> Bridging<'a> {
    /// Over the store of `provider`; `genuine` are the IDs that are shown as others, beside those found in a Welcome.
    pub fn new(provider: &'a Provider, genuine: Vec<PreSharedKeyId>) -> Self {
        Self {
            crypto: BridgingCrypto {
                inner: Crypto::default(),
                genuine: Mutex::new(genuine),
            },
            provider,
        }
    }

    pub fn genuine(&self) -> Vec<PreSharedKeyId> {
        self.crypto.known()
    }
}

impl OpenMlsProvider for Bridging<'_> {
    type CryptoProvider = BridgingCrypto;
    type RandProvider = Crypto;
    type StorageProvider = Store;

    fn storage(&self) -> &Store {
        self.provider.storage()
    }

    fn crypto(&self) -> &BridgingCrypto {
        &self.crypto
    }

    fn rand(&self) -> &Crypto {
        self.provider.rand()
    }
}

impl BridgingCrypto {
    fn known(&self) -> Vec<PreSharedKeyId> {
        self.genuine
            .lock()
            .map(|genuine| genuine.clone())
            .unwrap_or_default()
    }

    /// The genuine ID that `id` stands in for.
    fn genuine(&self, id: &PreSharedKeyId) -> Option<PreSharedKeyId> {
        self.known()
            .into_iter()
            .find(|genuine| shown(genuine).is_ok_and(|shown| shown == *id))
    }

    fn label(&self, info: &[u8]) -> Option<Vec<u8>> {
        let mut label: KdfLabel = wire::exact(info).ok()?;
        if label.label.as_slice() != PSK_LABEL {
            return None;
        }
        let (id, rest) = PreSharedKeyId::tls_deserialize_bytes(label.context.as_slice()).ok()?;
        let mut context = self.genuine(&id)?.tls_serialize_detached().ok()?;
        context.extend_from_slice(rest);
        label.context = context.into();
        label.tls_serialize_detached().ok()
    }

    /// The GroupSecrets with other IDs, if `info` says that it is them.
    fn secrets(
        info: &[u8],
        data: &[u8],
        other: impl Fn(PreSharedKeyId) -> Option<PreSharedKeyId>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (label, _) = VLBytes::tls_deserialize_bytes(info).ok()?;
        if label.as_slice() != WELCOME_LABEL {
            return None;
        }
        let mut secrets: GroupSecrets = wire::exact(data).ok()?;
        secrets.psks = secrets
            .psks
            .into_iter()
            .map(other)
            .collect::<Option<Vec<_>>>()?;
        secrets.tls_serialize_detached().ok().map(Zeroizing::new)
    }
}

impl OpenMlsCrypto for BridgingCrypto {
    fn hkdf_expand(
        &self,
        hash_type: HashType,
        prk: &[u8],
        info: &[u8],
        okm_len: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        let genuine = self.label(info);
        let info = genuine.as_deref().unwrap_or(info);
        self.inner.hkdf_expand(hash_type, prk, info, okm_len)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        aad: &[u8],
        ptxt: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        let genuine = Self::secrets(info, ptxt, |id| Some(self.genuine(&id).unwrap_or(id)));
        let ptxt = genuine.as_ref().map_or(ptxt, |genuine| genuine.as_slice());
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
        let opened = Zeroizing::new(self.inner.hpke_open(config, input, sk_r, info, aad)?);
        let replaced = Self::secrets(info, &opened, |id| {
            if !needs_bridging(&id) {
                return Some(id);
            }
            let shown = shown(&id).ok()?;
            self.genuine.lock().ok()?.push(id);
            Some(shown)
        });
        Ok(replaced.unwrap_or(opened).to_vec())
    }

    answered_by! { inner:
        hash hmac verify_signature supports supported_ciphersuites hkdf_extract aead_encrypt aead_decrypt
        signature_key_gen sign hpke_setup_sender_and_export hpke_setup_receiver_and_export
        derive_hpke_keypair
    }
}
