//! The one door between Python and the cryptography: releases the GIL, takes the lock of the handle and
//! turns panics into the `Poisoned` exception.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, Once};

use pyo3::prelude::*;

use crate::error::{Failure, Kind, Outcome};

/// Panics surface as Python exceptions; printing them to standard error as well would let a peer's message
/// write into the operator's log.
pub fn silence_panic_output() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

fn poisoned(payload: &(dyn Any + Send)) -> Failure {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".to_owned());
    Failure::new(Kind::Poisoned, format!("panic: {text}"))
}

/// Run `work` and turn a panic into a failure. For code that owns all the state it touches.
pub fn caught<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(poisoned(payload.as_ref())))
}

/// Run stateless `work` without the GIL.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Outcome<T> + Send) -> PyResult<T> {
    Ok(py.detach(|| caught(work))?)
}

/// Run `work` on the state behind `mutex` without the GIL. `work` undoes what a panic leaves half done where it
/// can (see `GroupState::transact`); a panic that escapes it leaves the mutex poisoned, and every later call on
/// the handle raises `Poisoned`.
pub fn locked<S: Send, T: Send>(
    py: Python<'_>,
    mutex: &Mutex<S>,
    work: impl FnOnce(&mut S) -> Outcome<T> + Send,
) -> PyResult<T> {
    Ok(py.detach(|| caught(|| work(&mut *lock(mutex)?)))?)
}

/// The same for work that only looks: a panic in it concerns nobody else.
pub fn viewed<S: Send, T: Send>(
    py: Python<'_>,
    mutex: &Mutex<S>,
    work: impl FnOnce(&S) -> Outcome<T> + Send,
) -> PyResult<T> {
    Ok(py.detach(|| {
        let state = lock(mutex)?;
        caught(|| work(&state))
    })?)
}

fn lock<S>(mutex: &Mutex<S>) -> Outcome<MutexGuard<'_, S>> {
    mutex.lock().map_err(|_| {
        Failure::new(
            Kind::Poisoned,
            "an earlier call on this handle panicked; load it again from its last snapshot",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed<T>(state: &Mutex<Vec<i32>>, work: impl FnOnce(&mut Vec<i32>) -> T) -> Outcome<T> {
        caught(|| Ok(work(&mut *lock(state)?)))
    }

    #[test]
    fn a_panic_becomes_a_failure_and_poisons_the_state_it_touched() {
        silence_panic_output();
        let state = Mutex::new(vec![1, 2]);
        let broken = changed(&state, |numbers| {
            numbers.clear();
            numbers[7]
        });
        assert!(matches!(broken, Err(failure) if failure.kind == Kind::Poisoned));
        let after = changed(&state, |numbers| numbers.len());
        assert!(matches!(after, Err(failure) if failure.kind == Kind::Poisoned));
    }

    #[test]
    fn a_panic_of_one_who_only_looks_leaves_the_state_usable() {
        silence_panic_output();
        let state = Mutex::new(vec![1, 2]);
        let guard = lock(&state).ok();
        let broken = caught(|| Ok(guard.as_deref().map(|numbers| numbers[7])));
        assert!(matches!(broken, Err(failure) if failure.message.contains("out of bounds")));
        drop(guard);
        assert!(matches!(changed(&state, |numbers| numbers.len()), Ok(2)));
    }
}
