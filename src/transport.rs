//! Bytes in, bytes out: a socket, and TLS over it where asked for, as two halves that never wait for each other.
//!
//! The reading half ([`ReadState`]) and the writing half ([`WriteState`]) each have one owner at a time, whom the caller
//! chooses; this module holds no lock across a system call. With TLS both halves share the engine (`tls.rs`), which
//! works over memory: the reader blocks on the bare socket and locks the engine only to decrypt, the writer locks it only
//! to encrypt.

mod read_buffer;
mod stream;
mod tls;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use crate::sync::{Mutex, lock};
pub(crate) use read_buffer::ReadBuffer;
pub use stream::Stream;
pub(crate) use tls::{accept_tls, connect_tls};

/// How many bytes are encrypted before they are written.
const TLS_BATCH: usize = 64 * 1024;

pub(crate) struct Transport {
    socket: Stream,
    tls: Option<Mutex<tls::Engine>>,
    /// Held while the socket is made non-blocking for one call: the flag is one for both halves.
    not_waiting: Mutex<()>,
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// There are new bytes in [`ReadState::plain`], or where they were asked for directly.
    Bytes,
    /// The wait is over and nothing came.
    Nothing,
    /// Part of a TLS record came, which shows nothing yet.
    Partial,
    /// TLS has something of its own to say (a key update): call [`Transport::flush`] as the writer, then read on.
    TlsOutput,
    /// The peer has ended its side: FIN, or TLS's close_notify.
    End,
}

/// The reading half: received bytes, and what the reading of them needs.
#[derive(Default)]
pub(crate) struct ReadState {
    /// Plain bytes that nobody has consumed yet.
    pub plain: ReadBuffer,
    /// Encrypted bytes on their way from the socket to the engine.
    cipher: ReadBuffer,
    timeout: Option<Duration>,
}

/// The writing half: encrypted bytes that the socket has not taken yet.
#[derive(Default)]
pub(crate) struct WriteState {
    cipher: Vec<u8>,
    written: usize,
    timeout: Option<Duration>,
    sent: u64,
}

impl ReadState {
    /// Whether the room for bursts is worth giving back while nothing comes.
    pub fn is_large(&self) -> bool {
        self.plain.is_large() || self.cipher.is_large()
    }
}

impl WriteState {
    /// Gives back a large buffer that is spent.
    pub fn release(&mut self, kept: usize) {
        if self.is_empty() && self.cipher.capacity() > kept {
            self.cipher = Vec::new();
        }
    }

    /// How many bytes the socket has taken so far: whether the peer takes anything.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.cipher.len()
    }

    /// Plain bytes that were taken and stand in records of which the system has not all.
    pub fn unsent_plain(&self) -> usize {
        0
    }
}

impl Transport {
    pub fn plain(socket: Stream) -> io::Result<Transport> {
        // The stream may be the caller's: undo what would make "block" mean something else.
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        socket.set_nodelay()?;
        Ok(Transport { socket, tls: None, not_waiting: Mutex::new(()) })
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Reads once into `incoming.plain`, waiting at most `wait` (`None`: for ever, zero: not at all).
    pub fn read(&self, incoming: &mut ReadState, wait: Option<Duration>) -> io::Result<Received> {
        let Some(tls) = &self.tls else {
            return self.read_buffer(&mut incoming.plain, &mut incoming.timeout, wait);
        };
        // What the engine holds already comes first; then at most one read of the socket.
        if let Some(received) = lock(tls).decrypt(&mut incoming.cipher, &mut incoming.plain)? {
            return Ok(received);
        }
        match self.read_buffer(&mut incoming.cipher, &mut incoming.timeout, wait)? {
            Received::Bytes => {}
            Received::End => lock(tls).end(),
            other => return Ok(other),
        }
        Ok(lock(tls).decrypt(&mut incoming.cipher, &mut incoming.plain)?.unwrap_or(Received::Partial))
    }

    /// Whether [`read_directly`](Transport::read_directly) may be called.
    pub fn can_read_directly(&self, incoming: &ReadState) -> bool {
        self.tls.is_none() && incoming.plain.is_empty()
    }

    /// Reads once past `incoming.plain`, waiting at most `wait`; returns how many bytes it was, too.
    pub fn read_directly(
        &self,
        incoming: &mut ReadState,
        into: &mut [u8],
        wait: Duration,
    ) -> io::Result<(Received, usize)> {
        self.read_socket(into, &mut incoming.timeout, Some(wait))
    }

    /// Gives back what room the reading half has for bursts, while nothing comes.
    pub fn release(&self, incoming: &mut ReadState) {
        incoming.plain.release();
        incoming.cipher.release();
        if let Some(tls) = &self.tls {
            lock(tls).release();
        }
    }

    /// Writes some of `bytes`, waiting at most `wait`, and returns how many were taken; kind `WouldBlock` for none.
    /// With TLS, taken bytes may still be in `wire`, and go before anything else at the next call.
    pub fn write(&self, wire: &mut WriteState, bytes: &[u8], wait: Option<Duration>) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.write_socket(bytes, wire, wait);
        };
        if !wire.is_empty() {
            self.write_cipher(wire, wait)?;
            return Ok(0);
        }
        let taken = lock(tls).encrypt(&bytes[..bytes.len().min(TLS_BATCH)], &mut wire.cipher)?;
        match self.write_cipher(wire, wait) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => Ok(taken),
            done => done.map(|()| taken),
        }
    }

    /// Writes what TLS has left over or to say of its own.
    pub fn flush(&self, wire: &mut WriteState, wait: Option<Duration>) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        self.write_cipher(wire, wait)?;
        lock(tls).take_output(&mut wire.cipher);
        self.write_cipher(wire, wait)
    }

    /// Ends this side: close_notify with TLS, as far as `wait` goes, then FIN.
    pub fn shutdown_write(&self, wire: &mut WriteState, wait: Option<Duration>) {
        if let Some(tls) = &self.tls {
            lock(tls).close_notify();
            let _ = self.flush(wire, wait);
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Drops the connection now; every blocked read and write of it returns.
    pub fn shutdown(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn write_cipher(&self, wire: &mut WriteState, wait: Option<Duration>) -> io::Result<()> {
        if wire.written < wire.cipher.len() {
            let cipher = std::mem::take(&mut wire.cipher);
            let written = self.write_socket(&cipher[wire.written..], wire, wait);
            wire.cipher = cipher;
            wire.written += written?;
        }
        if !wire.is_empty() {
            // One wait at a time: the caller looks at its clock.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.cipher.clear();
        wire.written = 0;
        Ok(())
    }

    fn read_buffer(
        &self,
        buffer: &mut ReadBuffer,
        timeout: &mut Option<Duration>,
        wait: Option<Duration>,
    ) -> io::Result<Received> {
        let (received, count) = self.read_socket(buffer.room(), timeout, wait)?;
        buffer.filled(count);
        Ok(received)
    }

    fn read_socket(
        &self,
        into: &mut [u8],
        timeout: &mut Option<Duration>,
        wait: Option<Duration>,
    ) -> io::Result<(Received, usize)> {
        let read = match wait {
            // A timeout cannot be zero, and the shortest one is a tick of the kernel: 4 ms is a quarter of a frame.
            Some(Duration::ZERO) => self.without_waiting(|mut socket| socket.read(into)),
            _ => {
                if *timeout != wait {
                    self.socket.set_read_timeout(wait)?;
                    *timeout = wait;
                }
                (&self.socket).read(into)
            }
        };
        match read {
            Ok(0) => Ok((Received::End, 0)),
            Ok(count) => Ok((Received::Bytes, count)),
            Err(error) if is_wait_over(&error) => Ok((Received::Nothing, 0)),
            Err(error) => Err(error),
        }
    }

    fn write_socket(&self, bytes: &[u8], wire: &mut WriteState, wait: Option<Duration>) -> io::Result<usize> {
        let written = match wait {
            Some(Duration::ZERO) => self.without_waiting(|mut socket| socket.write(bytes)),
            _ => {
                if wire.timeout != wait {
                    self.socket.set_write_timeout(wait)?;
                    wire.timeout = wait;
                }
                (&self.socket).write(bytes)
            }
        };
        match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                wire.sent += count as u64;
                Ok(count)
            }
            Err(error) if is_wait_over(&error) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error),
        }
    }

    /// One call on the socket that does not wait. The other half shares the flag: a waiting call of its that starts just
    /// now may see `WouldBlock` early, so the callers look at their clock before they believe it.
    fn without_waiting<T>(&self, call: impl FnOnce(&Stream) -> io::Result<T>) -> io::Result<T> {
        let _guard = lock(&self.not_waiting);
        self.socket.set_nonblocking(true)?;
        let result = call(&self.socket);
        self.socket.set_nonblocking(false)?;
        result
    }
}

/// What a timeout looks like: `WouldBlock` on Unix, `TimedOut` on Windows, and a signal is no reason to fail.
fn is_wait_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
