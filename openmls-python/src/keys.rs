//! Key pairs handed to Python: signature keys and HPKE keys.

use ed25519_dalek::SigningKey as Ed25519Key;
use openmls::prelude::{Ciphersuite, OpenMlsCrypto, OpenMlsRand, SignatureScheme};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::signatures::Signer as _;
use p256::ecdsa::SigningKey as P256Key;
use pyo3::prelude::*;
use tls_codec::{DeserializeBytes, SecretVLBytes, Serialize};
use zeroize::Zeroizing;

use crate::error::{Failure, Outcome};
use crate::guard::detached;
use crate::{config, labels};

/// HPKE input key material; as long as the output of the ciphersuites' hash.
const IKM_LENGTH: usize = 32;

/// A signer from a raw private key: 32 bytes, an Ed25519 seed or a P-256 scalar.
pub fn signer_from_private(suite: Ciphersuite, private: &[u8]) -> Outcome<Signer> {
    let scheme = suite.signature_algorithm();
    let public = match scheme {
        SignatureScheme::ED25519 => Ed25519Key::try_from(private)
            .map(|key| key.verifying_key().to_bytes().to_vec())
            .ok(),
        SignatureScheme::ECDSA_SECP256R1_SHA256 => P256Key::from_slice(private).ok().map(|key| {
            key.verifying_key()
                .to_encoded_point(false)
                .as_bytes()
                .to_vec()
        }),
        _ => None,
    }
    .ok_or_else(|| Failure::malformed("not a private key of this ciphersuite"))?;
    Ok(Signer::from_raw(scheme, private.to_vec(), public))
}

/// The raw private key of `signer`; its TLS form starts with it.
pub fn private_of(signer: &Signer) -> Outcome<Zeroizing<Vec<u8>>> {
    let encoded = Zeroizing::new(signer.tls_serialize_detached()?);
    let (private, _) = SecretVLBytes::tls_deserialize_bytes(encoded.as_slice())?;
    Ok(Zeroizing::new(private.as_slice().to_vec()))
}

pub fn sign_with_label(signer: &Signer, label: &str, content: &[u8]) -> Outcome<Vec<u8>> {
    signer
        .sign(&labels::labeled(label, content)?)
        .map_err(|_| Failure::internal("signing failed"))
}

#[pyclass(frozen, module = "openmls")]
pub struct SignatureKeyPair {
    pub suite: Ciphersuite,
    pub signer: Signer,
}

#[pymethods]
impl SignatureKeyPair {
    #[staticmethod]
    #[pyo3(signature = (*, ciphersuite = 1))]
    fn generate(py: Python<'_>, ciphersuite: u16) -> PyResult<Self> {
        detached(py, || {
            let suite = config::ciphersuite(ciphersuite)?;
            let signer = Signer::new(suite.signature_algorithm()).map_err(Failure::internal)?;
            Ok(Self { suite, signer })
        })
    }

    #[staticmethod]
    #[pyo3(signature = (data, *, ciphersuite = 1))]
    fn from_bytes(py: Python<'_>, data: &[u8], ciphersuite: u16) -> PyResult<Self> {
        detached(py, || {
            let suite = config::ciphersuite(ciphersuite)?;
            let signer = signer_from_private(suite, data)?;
            Ok(Self { suite, signer })
        })
    }

    fn to_bytes(&self) -> PyResult<Vec<u8>> {
        Ok(private_of(&self.signer)?.to_vec())
    }

    #[getter]
    fn ciphersuite(&self) -> u16 {
        self.suite.into()
    }

    #[getter]
    fn public_key(&self) -> Vec<u8> {
        self.signer.to_public_vec()
    }

    #[pyo3(signature = (*, label, content))]
    fn sign_with_label(&self, py: Python<'_>, label: &str, content: &[u8]) -> PyResult<Vec<u8>> {
        detached(py, || sign_with_label(&self.signer, label, content))
    }

    fn __repr__(&self) -> String {
        format!("<SignatureKeyPair ciphersuite={}>", self.ciphersuite())
    }
}

#[pyclass(frozen, module = "openmls")]
pub struct HpkeKeyPair {
    suite: Ciphersuite,
    pair: openmls_traits::types::HpkeKeyPair,
}

#[pymethods]
impl HpkeKeyPair {
    #[staticmethod]
    #[pyo3(signature = (*, ciphersuite = 1))]
    fn generate(py: Python<'_>, ciphersuite: u16) -> PyResult<Self> {
        detached(py, || {
            let suite = config::ciphersuite(ciphersuite)?;
            let crypto = RustCrypto::default();
            let ikm = Zeroizing::new(crypto.random_vec(IKM_LENGTH).map_err(Failure::internal)?);
            let pair = crypto
                .derive_hpke_keypair(suite.hpke_config(), &ikm)
                .map_err(Failure::internal)?;
            Ok(Self { suite, pair })
        })
    }

    #[getter]
    fn ciphersuite(&self) -> u16 {
        self.suite.into()
    }

    #[getter]
    fn public_key(&self) -> Vec<u8> {
        self.pair.public.clone()
    }

    #[pyo3(signature = (*, label, context, ciphertext))]
    fn decrypt_with_label(
        &self,
        py: Python<'_>,
        label: &str,
        context: &[u8],
        ciphertext: &[u8],
    ) -> PyResult<Vec<u8>> {
        detached(py, || {
            labels::decrypt(self.suite, &self.pair.private, label, context, ciphertext)
        })
    }

    fn __repr__(&self) -> String {
        format!("<HpkeKeyPair ciphersuite={}>", self.ciphersuite())
    }
}
