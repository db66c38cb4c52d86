//! How much memory connections use. All tests share one counting allocator, so they run one at a time (see [`turn`]).

#[allow(dead_code, unused_imports)] // the helpers of the other binary, of which this one uses a part
#[path = "../it/support/mod.rs"]
mod support;

#[cfg(target_os = "linux")] // the peers use TLS
mod buffers;
mod hostile_peers;
mod memory_limit;

use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KB: usize = 1024;

/// Held by each test while it measures.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
