//! Ed25519 (RFC 8032) on plain messages: what a delivery service signs and checks beside MLS.
//!
//! `verify_strict` leaves nothing open of what RFC 8032 does: it refuses small-order keys and points, does not multiply
//! by the cofactor, and takes one encoding of each point.

use std::collections::HashMap;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::error::Failure;
use crate::guard::{caught, detached};

#[pyclass(frozen, module = "openmls")]
pub struct Ed25519Key(SigningKey);

#[pymethods]
impl Ed25519Key {
    #[staticmethod]
    fn from_seed(seed: &[u8]) -> PyResult<Self> {
        SigningKey::try_from(seed)
            .map(Self)
            .map_err(|_| Failure::malformed("an Ed25519 seed has 32 bytes").into())
    }

    #[getter]
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Keeps the GIL: to give it up and get it back takes longer than 25 microseconds when other threads run.
    fn sign(&self, message: &[u8]) -> PyResult<[u8; 64]> {
        Ok(caught(|| Ok(self.0.sign(message).to_bytes()))?)
    }

    fn __repr__(&self) -> &'static str {
        "<Ed25519Key>"
    }
}

type Check = (PyBackedBytes, PyBackedBytes, PyBackedBytes);

#[pyfunction]
pub fn ed25519_verify_all(py: Python<'_>, signatures: Vec<Check>) -> PyResult<Vec<bool>> {
    detached(py, || {
        let mut keys = HashMap::new();
        Ok(signatures
            .iter()
            .map(|(key, message, signature)| {
                let known = keys
                    .entry(&key[..])
                    .or_insert_with(|| VerifyingKey::try_from(&key[..]).ok());
                known
                    .as_ref()
                    .is_some_and(|known| is_right(known, message, signature))
            })
            .collect())
    })
}

#[pyfunction]
pub fn ed25519_verify(key: &[u8], message: &[u8], signature: &[u8]) -> PyResult<bool> {
    Ok(caught(|| {
        Ok(VerifyingKey::try_from(key).is_ok_and(|key| is_right(&key, message, signature)))
    })?)
}

fn is_right(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    Signature::from_slice(signature)
        .and_then(|signature| key.verify_strict(message, &signature))
        .is_ok()
}
