//! Locks, waits, atomics, threads and the clock: the one place that names them, so that a build of the tests can put a
//! scheduler that explores interleavings in their place (`sync/explored.rs`, with `--cfg wsync_shuttle`).
//!
//! Of the standard library's, only what neither waits nor tells the time is named elsewhere: `Arc`, `Weak`, types of errors.

#[cfg(wsync_shuttle)]
#[allow(missing_docs)]
pub(crate) mod explored;

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(wsync_shuttle)]
pub(crate) use explored::{
    AtomicBool, AtomicU64, Condvar, Instant, JoinHandle, Mutex, MutexGuard, OnceLock, ThreadId, sleep, this_thread,
};
pub(crate) use std::sync::Arc;
/// Only connecting to an address uses it. That is not explored.
pub(crate) use std::sync::mpsc;
pub(crate) use std::{sync::atomic::Ordering, thread::Result as ThreadResult, time::SystemTime};
#[cfg(not(wsync_shuttle))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU64},
    sync::{Condvar, Mutex, MutexGuard, OnceLock},
    thread::{JoinHandle, ThreadId, sleep},
    time::Instant,
};

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

/// The time of the day. Where schedules are explored, that moves as the steady clock does.
pub(crate) fn wall_clock() -> SystemTime {
    #[cfg(wsync_shuttle)]
    return SystemTime::UNIX_EPOCH + explored::elapsed();
    #[cfg(test)]
    return SystemTime::now() + moved::wall_clock();
    #[cfg(not(any(wsync_shuttle, test)))]
    SystemTime::now()
}

/// Runs `body` on a thread of its own, which ends with it.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_sized(name, None, body)
}

/// The same, with a stack of so many bytes.
#[cfg_attr(wsync_shuttle, allow(unused_variables))]
pub(crate) fn spawn_sized<T: Send + 'static>(
    name: &str,
    stack_size: Option<usize>,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    #[cfg(wsync_shuttle)]
    return Ok(explored::spawn(name, body));
    #[cfg(test)]
    thread_limit::take()?;
    #[cfg(not(wsync_shuttle))]
    {
        let builder = std::thread::Builder::new().name(name.to_string());
        match stack_size {
            Some(bytes) => builder.stack_size(bytes).spawn(body),
            None => builder.spawn(body),
        }
    }
}

/// The thread that calls.
#[cfg(not(wsync_shuttle))]
pub(crate) fn this_thread() -> ThreadId {
    std::thread::current().id()
}

/// A bound of the usual size, or a small one where schedules are explored: there, few bytes have to reach it.
pub(crate) const fn bound(usual: usize, explored: usize) -> usize {
    if cfg!(wsync_shuttle) { explored } else { usual }
}

/// Lets tests move the wall clock, as a sleep of the machine does.
#[cfg(test)]
pub(crate) mod moved {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    static SECONDS: AtomicU64 = AtomicU64::new(0);

    pub fn wall_clock() -> Duration {
        Duration::from_secs(SECONDS.load(Ordering::SeqCst))
    }

    pub fn sleep_of_the_machine(length: Duration) {
        SECONDS.fetch_add(length.as_secs(), Ordering::SeqCst);
    }
}

/// Lets unit tests run out of threads.
#[cfg(test)]
pub(crate) mod thread_limit {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// Runs `body`, in which this thread can start so many threads.
    pub fn with<T>(threads: usize, body: impl FnOnce() -> T) -> T {
        LEFT.set(threads);
        let result = body();
        LEFT.set(usize::MAX);
        result
    }

    pub fn take() -> io::Result<()> {
        let left = LEFT.get().checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        LEFT.set(left);
        Ok(())
    }
}
