//! Reads and writes that wait a bounded time: the only code that bounds and ends waits for a stream.
//!
//! On Unix a wait is a timeout of the socket (`SO_RCVTIMEO`, `SO_SNDTIMEO`), set only when it differs from the last one, and
//! [`Socket::shutdown`] wakes blocked calls. Windows guarantees neither (a call that timed out leaves its socket
//! indeterminate, and a shutdown wakes nobody): an implementation for it (a socket that never blocks, and `poll`) belongs
//! here, behind the same methods.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use super::memory::MemoryStream;
use super::stream::{Pollable, Stream, StreamKind, SystemStream, no_address};
use crate::sync::{Mutex, lock};

/// Longest wait of one call; some systems refuse timeouts above about 655 s. Callers with a longer bound look at their clock
/// and call again.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// A stream whose reads and writes wait at most as long as the caller allows. One thread may read while another writes.
pub(crate) enum Socket {
    System {
        stream: SystemStream,
        /// Held while the stream is non-blocking for one call: that flag is common to both directions.
        nonblocking: Mutex<()>,
    },
    Memory(MemoryStream),
}

/// The timeout that one direction of a socket is known to have: setting another one costs a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SocketTimeout {
    /// The next call sets it.
    #[default]
    Unknown,
    Set(Option<Duration>),
}

impl SocketTimeout {
    fn change(
        &mut self,
        wait: Option<Duration>,
        set: impl FnOnce(Option<Duration>) -> io::Result<()>,
    ) -> io::Result<()> {
        let wait = wait.map(|wait| wait.min(MAX_WAIT));
        if *self == SocketTimeout::Set(wait) {
            return Ok(());
        }
        match set(wait) {
            // macOS refuses every option of a socket of which both directions are shut down; such a socket cannot block.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                *self = SocketTimeout::Unknown;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                *self = SocketTimeout::Set(wait);
                Ok(())
            }
        }
    }
}

impl Socket {
    /// Takes over a stream that may have been in use: makes it blocking. Its timeouts are unknown.
    pub fn new(stream: Stream) -> io::Result<Socket> {
        let stream = match stream.into_kind() {
            StreamKind::System(stream) => stream,
            StreamKind::Memory(stream) => return Ok(Socket::Memory(stream)),
        };
        stream.set_nonblocking(false)?;
        stream.set_nodelay()?;
        Ok(Socket::System { stream, nonblocking: Mutex::new(()) })
    }

    /// The socket for a poller; `None` in memory.
    pub fn pollable(&self) -> Option<Pollable<'_>> {
        match self {
            Socket::System { stream, .. } => Some(stream.pollable()),
            Socket::Memory(_) => None,
        }
    }

    /// Reads once, waiting at most `wait` (`None`: without a bound, zero: not at all). `Ok(0)` is the end of the stream, the
    /// kind `WouldBlock` the end of the wait, which may come early.
    pub fn read(&self, into: &mut [u8], wait: Option<Duration>, timeout: &mut SocketTimeout) -> io::Result<usize> {
        match self {
            Socket::Memory(stream) => stream.read(into, wait),
            Socket::System { stream, .. } => {
                self.bounded(wait, || timeout.change(wait, |wait| stream.set_read_timeout(wait)), || stream.read(into))
            }
        }
    }

    /// As [`read`](Socket::read), but leaves the bytes in the stream. TCP only.
    pub fn peek(&self, into: &mut [u8], wait: Option<Duration>, timeout: &mut SocketTimeout) -> io::Result<usize> {
        match self {
            Socket::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
            Socket::System { stream, .. } => {
                self.bounded(wait, || timeout.change(wait, |wait| stream.set_read_timeout(wait)), || stream.peek(into))
            }
        }
    }

    /// Writes once, waiting at most `wait`, and returns how many bytes were taken: fewer than all when the wait ended first,
    /// and the kind `WouldBlock` for none.
    pub fn write(&self, bytes: &[u8], wait: Option<Duration>, timeout: &mut SocketTimeout) -> io::Result<usize> {
        match self {
            Socket::Memory(stream) => stream.write(bytes, wait),
            Socket::System { stream, .. } => self.bounded(
                wait,
                || timeout.change(wait, |wait| stream.set_write_timeout(wait)),
                || stream.write(bytes),
            ),
        }
    }

    /// Ends the writing direction: the peer reads the end behind what was written.
    pub fn shutdown_write(&self) {
        self.shut(Shutdown::Write);
    }

    /// Ends both directions now; every blocked read and write returns.
    pub fn shutdown(&self) {
        self.shut(Shutdown::Both);
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Memory(_) => Err(no_address("a stream in memory")),
            Socket::System { stream, .. } => stream.local_addr(),
        }
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Memory(_) => Err(no_address("a stream in memory")),
            Socket::System { stream, .. } => stream.peer_addr(),
        }
    }

    fn shut(&self, how: Shutdown) {
        match self {
            Socket::Memory(stream) => stream.shutdown(how),
            // It fails where that direction has ended already.
            Socket::System { stream, .. } => drop(stream.shutdown(how)),
        }
    }

    fn bounded<T>(
        &self,
        wait: Option<Duration>,
        set_timeout: impl FnOnce() -> io::Result<()>,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let result = match (wait, self) {
            // std rejects a zero timeout, and the shortest real one sleeps up to a tick of the kernel (4 ms).
            (Some(Duration::ZERO), Socket::System { stream, nonblocking }) => {
                without_waiting(stream, nonblocking, call)
            }
            _ => set_timeout().and_then(|()| call()),
        };
        result.map_err(|error| if is_wait_over(&error) { io::ErrorKind::WouldBlock.into() } else { error })
    }
}

/// One call that does not wait. A call of the other direction that begins at this moment may return `WouldBlock` before its
/// timeout: callers check their deadline and try again.
fn without_waiting<T>(
    stream: &SystemStream,
    nonblocking: &Mutex<()>,
    call: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let _guard = lock(nonblocking);
    stream.set_nonblocking(true)?;
    let result = call();
    stream.set_nonblocking(false)?;
    result
}

/// Whether a call ended without a result: by its timeout (`WouldBlock` on Unix, `TimedOut` on Windows), or by a signal, after
/// which the caller tries again.
pub(super) fn is_wait_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the system was asked to set.
    fn changes(waits: &[Option<Duration>], mut result: impl FnMut() -> io::Result<()>) -> Vec<Option<Duration>> {
        let mut timeout = SocketTimeout::default();
        let mut set = Vec::new();
        for wait in waits {
            let changed = timeout.change(*wait, |wait| {
                set.push(wait);
                result()
            });
            changed.unwrap();
        }
        set
    }

    #[test]
    fn a_timeout_is_set_only_when_it_changes_and_never_too_long() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(changes(&[None, None, second, second, None], || Ok(())), [None, second, None]);
        let long = [Some(Duration::MAX), Some(Duration::from_secs(86_400))];
        assert_eq!(changes(&long, || Ok(())), [Some(MAX_WAIT)]);
    }

    #[test]
    fn a_socket_that_takes_no_timeout_any_more_is_used_without() {
        let second = Some(Duration::from_secs(1));
        let refused = || Err(io::ErrorKind::InvalidInput.into());
        assert_eq!(changes(&[second, second], refused), [second, second]);
        let mut timeout = SocketTimeout::default();
        assert!(timeout.change(second, |_| Err(io::ErrorKind::NotConnected.into())).is_err());
    }
}
