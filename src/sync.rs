//! Locks, waits, atomics and threads: the one place that names them, so that a build of the tests can use a scheduler that
//! explores interleavings in their place.

use std::sync::PoisonError;
use std::time::Duration;

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use std::thread::{self, ThreadId};

/// Locks, also after another thread panicked: every state guarded in this crate is valid between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification, at most `left` (`None`: without a bound). It may return early: check the state again.
pub(crate) fn wait<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>, left: Option<Duration>) -> MutexGuard<'a, T> {
    match left {
        None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(left) => changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0,
    }
}

/// Runs `body` on a thread of its own, which ends with it.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_string()).spawn(body).map(drop)
}

/// The thread that calls.
pub(crate) fn this_thread() -> ThreadId {
    thread::current().id()
}

/// Rests, without being woken.
pub(crate) fn sleep(length: Duration) {
    thread::sleep(length);
}
