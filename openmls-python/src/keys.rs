//! Key pairs handed to Python: signature keys and HPKE keys.

use ed25519_dalek::SigningKey as Ed25519Key;
use hpke_rs_crypto::types::KemAlgorithm;
use hpke_rs_crypto::HpkeCrypto;
use hpke_rs_rust_crypto::HpkeRustCrypto;
use openmls::prelude::{Ciphersuite, OpenMlsCrypto, OpenMlsRand, SignatureScheme};
use openmls_basic_credential::SignatureKeyPair as Signer;
use openmls_traits::signatures::Signer as _;
use openmls_traits::types::HpkeKemType;
use p256::ecdsa::SigningKey as P256Key;
use p384::ecdsa::SigningKey as P384Key;
use p384::elliptic_curve::rand_core::OsRng;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tls_codec::{DeserializeBytes, SecretVLBytes, Serialize};
use zeroize::Zeroizing;

use crate::crypto::Crypto;
use crate::error::{Failure, Outcome};
use crate::guard::detached;
use crate::{config, labels};

const NOT_A_PRIVATE_KEY: &str = "not a private key of this ciphersuite";

/// Private keys for signatures and for HPKE are as long as the output of the hash, in every supported ciphersuite.
fn private_length(suite: Ciphersuite) -> usize {
    suite.hash_algorithm().size()
}

/// The elliptic curve crates take shorter scalars too, which cannot be used afterwards.
fn check_length(suite: Ciphersuite, private: &[u8]) -> Outcome<()> {
    if private.len() == private_length(suite) {
        Ok(())
    } else {
        Err(Failure::malformed(NOT_A_PRIVATE_KEY))
    }
}

/// A new signer.
pub fn generate_signer(suite: Ciphersuite) -> Outcome<Signer> {
    let scheme = suite.signature_algorithm();
    if scheme == SignatureScheme::ECDSA_SECP384R1_SHA384 {
        // `Signer::new` leaves a copy of a P-384 scalar behind in memory.
        let scalar = Zeroizing::new(P384Key::random(&mut OsRng).to_bytes());
        return signer_from_private(suite, &scalar);
    }
    Signer::new(scheme).map_err(Failure::internal)
}

/// A signer from a raw private key: an Ed25519 seed (32 bytes) or a scalar, big-endian, of P-256 (32 bytes) or
/// P-384 (48 bytes).
pub fn signer_from_private(suite: Ciphersuite, private: &[u8]) -> Outcome<Signer> {
    check_length(suite, private)?;
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
        SignatureScheme::ECDSA_SECP384R1_SHA384 => P384Key::from_slice(private).ok().map(|key| {
            key.verifying_key()
                .to_encoded_point(false)
                .as_bytes()
                .to_vec()
        }),
        _ => None,
    }
    .ok_or_else(|| Failure::malformed(NOT_A_PRIVATE_KEY))?;
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
            let signer = generate_signer(suite)?;
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

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &private_of(&self.signer)?))
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

/// The public key of a raw HPKE private key (see the stub for the encodings).
fn hpke_public(suite: Ciphersuite, private: &[u8]) -> Outcome<Vec<u8>> {
    check_length(suite, private)?;
    let public = match suite.hpke_kem_algorithm() {
        HpkeKemType::DhKem25519 => {
            HpkeRustCrypto::secret_to_public(KemAlgorithm::DhKem25519, private)
        }
        HpkeKemType::DhKemP256 => {
            HpkeRustCrypto::secret_to_public(KemAlgorithm::DhKemP256, private)
        }
        HpkeKemType::DhKemP384 => {
            HpkeRustCrypto::secret_to_public(KemAlgorithm::DhKemP384, private)
        }
        // draft-connolly-cfrg-xwing-kem-06 section 5.2: the decapsulation key is the seed of the key pair.
        HpkeKemType::XWingKemDraft6 => {
            HpkeRustCrypto::kem_key_gen_derand(KemAlgorithm::XWingDraft06, private)
                .map(|(public, _)| public)
        }
        other => return Err(Failure::internal(format!("{other:?} in use"))),
    };
    public.map_err(|_| Failure::malformed(NOT_A_PRIVATE_KEY))
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
            let crypto = Crypto::default();
            // RFC 9180 section 4: the input key material "SHOULD have at least Nsk bytes of entropy".
            let length = private_length(suite);
            let ikm = Zeroizing::new(crypto.random_vec(length).map_err(Failure::internal)?);
            let pair = crypto
                .derive_hpke_keypair(suite.hpke_config(), &ikm)
                .map_err(Failure::internal)?;
            Ok(Self { suite, pair })
        })
    }

    #[staticmethod]
    #[pyo3(signature = (data, *, ciphersuite = 1))]
    fn from_bytes(py: Python<'_>, data: &[u8], ciphersuite: u16) -> PyResult<Self> {
        detached(py, || {
            let suite = config::ciphersuite(ciphersuite)?;
            let pair = openmls_traits::types::HpkeKeyPair {
                public: hpke_public(suite, data)?,
                private: data.into(),
            };
            Ok(Self { suite, pair })
        })
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.pair.private)
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
