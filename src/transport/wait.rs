//! Reads and writes that wait a bounded time: the only code that bounds and ends waits for a stream.
//!
//! Sockets have two implementations of the same methods: `wait/unix.rs` waits by timeouts of the socket, `wait/windows.rs`
//! by polling a socket that never blocks. [`Socket`] adds the streams in memory.

#[cfg(not(windows))]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use super::memory::MemoryStream;
use super::stream::{Pollable, Stream, StreamKind, no_address};
#[cfg(not(windows))]
use unix::SystemSocket;
#[cfg(not(windows))]
pub(crate) use unix::WaitState;
#[cfg(windows)]
use windows::SystemSocket;
#[cfg(windows)]
pub(crate) use windows::WaitState;

/// A stream whose reads and writes wait at most as long as the caller allows. One thread may read while another writes.
pub(crate) enum Socket {
    System(SystemSocket),
    Memory(MemoryStream),
}

impl Socket {
    /// Takes over a stream that may have been in use: its mode and its timeouts do not matter.
    pub fn new(stream: Stream) -> io::Result<Socket> {
        let stream = match stream.into_kind() {
            StreamKind::System(stream) => stream,
            StreamKind::Memory(stream) => return Ok(Socket::Memory(stream)),
        };
        match stream.set_nodelay() {
            // macOS refuses every option of a socket of which both directions are shut down. What has come can be read.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok(Socket::System(SystemSocket::new(stream)?))
    }

    /// The socket for a poller; `None` in memory.
    pub fn pollable(&self) -> Option<Pollable<'_>> {
        match self {
            Socket::System(socket) => Some(socket.stream().pollable()),
            Socket::Memory(_) => None,
        }
    }

    /// Reads once, waiting at most `wait` (`None`: without a bound, zero: not at all). `Ok(0)` is the end of the stream, the
    /// kind `WouldBlock` the end of the wait, which may come early.
    pub fn read(&self, into: &mut [u8], wait: Option<Duration>, state: &mut WaitState) -> io::Result<usize> {
        match self {
            Socket::Memory(stream) => stream.read(into, wait),
            Socket::System(socket) => without_interrupts(socket.read(into, wait, state)),
        }
    }

    /// As [`read`](Socket::read), but leaves the bytes in the stream. TCP only.
    pub fn peek(&self, into: &mut [u8], wait: Option<Duration>, state: &mut WaitState) -> io::Result<usize> {
        match self {
            Socket::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
            Socket::System(socket) => without_interrupts(socket.peek(into, wait, state)),
        }
    }

    /// Writes once, waiting at most `wait`, and returns how many bytes were taken, which may be fewer than all; the kind
    /// `WouldBlock` says that it was none.
    pub fn write(&self, bytes: &[u8], wait: Option<Duration>, state: &mut WaitState) -> io::Result<usize> {
        match self {
            Socket::Memory(stream) => stream.write(bytes, wait),
            Socket::System(socket) => without_interrupts(socket.write(bytes, wait, state)),
        }
    }

    /// Ends the writing direction: the peer reads the end behind what was written.
    pub fn shutdown_write(&self) {
        match self {
            Socket::Memory(stream) => stream.shutdown(Shutdown::Write),
            Socket::System(socket) => socket.shutdown_write(),
        }
    }

    /// Ends both directions now; every blocked read and write returns.
    pub fn shutdown(&self) {
        match self {
            Socket::Memory(stream) => stream.shutdown(Shutdown::Both),
            Socket::System(socket) => socket.shutdown(),
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Memory(_) => Err(no_address("a stream in memory")),
            Socket::System(socket) => socket.stream().local_addr(),
        }
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Memory(_) => Err(no_address("a stream in memory")),
            Socket::System(socket) => socket.stream().peer_addr(),
        }
    }
}

/// After a signal (`Interrupted`) the caller tries again, as after a wait that ended early.
fn without_interrupts<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| if is_wait_over(&error) { io::ErrorKind::WouldBlock.into() } else { error })
}

/// Whether a call ended without a result, so that the caller tries again: by the end of its wait, or by a signal.
pub(super) fn is_wait_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
