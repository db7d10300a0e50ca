//! The one door between Python and the cryptography: releases the GIL, takes the lock of the handle and
//! turns panics into the `Poisoned` exception.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

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
    Failure::half_done(format!("panic: {text}"))
}

/// Run `work` and turn a panic into a failure.
pub fn caught<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(poisoned(payload.as_ref())))
}

/// State behind a lock of its own. If a change of it is left half done, it is dropped and every later call fails with
/// `Poisoned`; nothing else is touched.
pub struct Handle<S>(Mutex<Option<S>>);

impl<S: Default> Default for Handle<S> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S> Handle<S> {
    pub fn new(state: S) -> Self {
        Self(Mutex::new(Some(state)))
    }

    pub fn change<T>(&self, work: impl FnOnce(&mut S) -> Outcome<T>) -> Outcome<T> {
        self.lock().change(work)
    }

    /// Run work that only looks: a panic in it concerns nobody else.
    pub fn view<T>(&self, work: impl FnOnce(&S) -> Outcome<T>) -> Outcome<T> {
        let guard = self.lock();
        let state = guard.0.as_ref().ok_or_else(gone)?;
        caught(|| work(state))
    }

    /// Hold the lock over more than one call.
    pub fn lock(&self) -> Held<'_, S> {
        Held(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a representation may show without waiting for another thread.
    pub fn glance<T>(&self, look: impl FnOnce(&S) -> T) -> Option<T> {
        self.0.try_lock().ok()?.as_ref().map(look)
    }
}

pub struct Held<'a, S>(MutexGuard<'a, Option<S>>);

impl<S> Held<'_, S> {
    pub fn change<T>(&mut self, work: impl FnOnce(&mut S) -> Outcome<T>) -> Outcome<T> {
        let state = self.0.as_mut().ok_or_else(gone)?;
        let outcome = caught(|| work(state));
        if matches!(&outcome, Err(failure) if failure.half_done) {
            *self.0 = None;
        }
        outcome
    }

    pub fn get(&mut self) -> Outcome<&mut S> {
        self.0.as_mut().ok_or_else(gone)
    }
}

fn gone() -> Failure {
    Failure::new(
        Kind::Poisoned,
        "an earlier call on this handle was cut short; load it again from its last snapshot",
    )
}

/// Run stateless `work` without the GIL.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Outcome<T> + Send) -> PyResult<T> {
    Ok(py.detach(|| caught(work))?)
}

/// Run `work` on the state of `handle` without the GIL.
pub fn locked<S: Send, T: Send>(
    py: Python<'_>,
    handle: &Handle<S>,
    work: impl FnOnce(&mut S) -> Outcome<T> + Send,
) -> PyResult<T> {
    Ok(py.detach(|| handle.change(work))?)
}

/// The same for work that only looks.
pub fn viewed<S: Send, T: Send>(
    py: Python<'_>,
    handle: &Handle<S>,
    work: impl FnOnce(&S) -> Outcome<T> + Send,
) -> PyResult<T> {
    Ok(py.detach(|| handle.view(work))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T>(outcome: Outcome<T>) -> Option<Kind> {
        outcome.err().map(|failure| failure.kind)
    }

    #[test]
    fn a_panic_becomes_a_failure_and_drops_the_state_it_touched() {
        silence_panic_output();
        let handle = Handle::new(vec![1, 2]);
        let broken = handle.change(|numbers| {
            numbers.clear();
            Ok(numbers[7])
        });
        assert_eq!(kind(broken), Some(Kind::Poisoned));
        assert_eq!(
            kind(handle.change(|numbers| Ok(numbers.len()))),
            Some(Kind::Poisoned)
        );
        assert_eq!(
            kind(handle.view(|numbers| Ok(numbers.len()))),
            Some(Kind::Poisoned)
        );
    }

    #[test]
    fn a_panic_of_one_who_only_looks_leaves_the_state_usable() {
        silence_panic_output();
        let handle = Handle::new(vec![1, 2]);
        let broken = handle.view(|numbers| Ok(numbers[7]));
        assert!(matches!(broken, Err(failure) if failure.message.contains("out of bounds")));
        assert!(matches!(handle.view(|numbers| Ok(numbers.len())), Ok(2)));
    }

    #[test]
    fn an_error_leaves_the_state_usable_unless_something_is_half_done() {
        let handle = Handle::new(1);
        assert!(kind(handle.change(|_| Err::<(), _>(Failure::internal("odd")))).is_some());
        assert!(matches!(handle.view(|number| Ok(*number)), Ok(1)));
        assert!(kind(handle.change(|_| Err::<(), _>(Failure::half_done("torn")))).is_some());
        assert_eq!(
            kind(handle.view(|number| Ok(*number))),
            Some(Kind::Poisoned)
        );
    }
}
