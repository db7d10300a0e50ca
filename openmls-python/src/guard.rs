//! The one door between Python and the cryptography: releases the GIL, takes the lock of the handle and
//! turns panics into the `Poisoned` exception.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, Once};

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

/// Run `work` on the state behind `mutex` without the GIL. A panic leaves the mutex poisoned: every later
/// call on the same handle raises `Poisoned`, because the state may be half changed.
pub fn locked<S: Send, T: Send>(
    py: Python<'_>,
    mutex: &Mutex<S>,
    work: impl FnOnce(&mut S) -> Outcome<T> + Send,
) -> PyResult<T> {
    Ok(py.detach(|| on_locked(mutex, work))?)
}

fn on_locked<S, T>(mutex: &Mutex<S>, work: impl FnOnce(&mut S) -> Outcome<T>) -> Outcome<T> {
    caught(|| {
        let mut state = mutex.lock().map_err(|_| {
            Failure::new(
                Kind::Poisoned,
                "an earlier call on this handle panicked; load it again from its last snapshot",
            )
        })?;
        work(&mut state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_failure_and_poisons_the_state_it_touched() {
        silence_panic_output();
        let state = Mutex::new(vec![1, 2]);
        let broken = on_locked(&state, |numbers: &mut Vec<i32>| {
            numbers.clear();
            Ok(numbers[7])
        });
        assert!(matches!(broken, Err(failure) if failure.kind == Kind::Poisoned));
        let after = on_locked(&state, |numbers| Ok(numbers.len()));
        assert!(matches!(after, Err(failure) if failure.kind == Kind::Poisoned));
    }

    #[test]
    fn a_failure_is_no_panic_and_leaves_the_state_usable() {
        let state = Mutex::new(0);
        let refused: Outcome<()> = on_locked(&state, |_| Err(Failure::not_allowed("no")));
        assert!(matches!(refused, Err(failure) if failure.kind == Kind::NotAllowed));
        assert!(on_locked(&state, |number| Ok(*number)).is_ok());
    }
}
