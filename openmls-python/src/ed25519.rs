//! Ed25519 (RFC 8032) on plain messages: what a delivery service signs and checks beside MLS.
//!
//! `verify_strict` leaves nothing open of what RFC 8032 does: it refuses small-order keys and points, does not multiply
//! by the cofactor, and takes one encoding of each point.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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

/// So many signatures are checked by two threads: to start one takes as long as to check one or two.
const FEWEST_FOR_TWO: usize = 8;

#[pyfunction]
pub fn ed25519_verify_all(py: Python<'_>, signatures: Vec<Check>) -> PyResult<Vec<bool>> {
    detached(py, || {
        let next = AtomicUsize::new(0);
        let mut verdicts = vec![false; signatures.len()];
        thread::scope(|scope| {
            // Without a second thread, for whatever reason, this one checks them all.
            let helper = (signatures.len() >= FEWEST_FOR_TWO)
                .then(|| {
                    thread::Builder::new()
                        .spawn_scoped(scope, || right_ones(&signatures, &next))
                        .ok()
                })
                .flatten();
            let mut right = right_ones(&signatures, &next);
            if let Some(helper) = helper {
                right.extend(
                    helper
                        .join()
                        .unwrap_or_else(|payload| resume_unwind(payload)),
                );
            }
            for index in right {
                if let Some(verdict) = verdicts.get_mut(index) {
                    *verdict = true;
                }
            }
        });
        Ok(verdicts)
    })
}

/// Check signatures until none is left that nobody has begun; which of them are right.
fn right_ones(signatures: &[Check], next: &AtomicUsize) -> Vec<usize> {
    let mut keys = HashMap::new();
    let mut right = Vec::with_capacity(signatures.len());
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some((key, message, signature)) = signatures.get(index) else {
            return right;
        };
        let known = keys
            .entry(&key[..])
            .or_insert_with(|| VerifyingKey::try_from(&key[..]).ok());
        if known
            .as_ref()
            .is_some_and(|known| is_right(known, message, signature))
        {
            right.push(index);
        }
    }
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
