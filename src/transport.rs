//! A connected byte stream, with TLS where asked for, as two halves that never wait for each other.
//!
//! The reading half ([`ReadState`]) and the writing half ([`WriteState`]) each have one owner at a time, whom the caller
//! chooses; this module holds no lock across a system call that can wait. With TLS both halves share the engine (`tls.rs`),
//! which works over memory: the reader waits for the bare socket and locks the engine only to decrypt, the writer locks it
//! only to encrypt.

// Some of this module is used only with TLS.
#![cfg_attr(not(feature = "native-tls"), allow(dead_code))]

mod deadline_stream;
mod memory;
mod read_buffer;
mod record_marks;
mod stream;
// The only place that knows of the feature, apart from the re-export of native_tls in lib.rs.
#[cfg_attr(not(feature = "native-tls"), path = "transport/no_tls.rs")]
mod tls;
mod wait;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::sync::{Mutex, lock};
pub(crate) use deadline_stream::DeadlineStream;
pub(crate) use read_buffer::ReadBuffer;
use record_marks::RecordMarks;
pub(crate) use stream::ShutdownHandle;
pub use stream::{Listener, Pollable, Stream};
pub use tls::{TlsClient, TlsServer};
use wait::{Socket, WaitState};

/// Plain bytes that are encrypted before the first of them is written.
const TLS_BATCH: usize = 64 * 1024;

pub(crate) struct Transport {
    socket: Socket,
    tls: Option<Mutex<tls::Engine>>,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// There are new bytes in [`ReadState::plain`], or where they were asked for directly.
    Bytes,
    /// The wait is over and nothing came.
    Nothing,
    /// Part of a TLS record came, and no plain bytes yet.
    Partial,
    /// TLS has output of its own (an answer to a key update): call [`Transport::flush`] as the writer, then read on.
    TlsOutput,
    /// The peer has ended its side: FIN, or TLS's close_notify.
    End,
}

/// The reading half: received bytes, and what reading needs.
#[derive(Default)]
pub(crate) struct ReadState {
    /// Plain bytes that nobody has consumed yet.
    pub plain: ReadBuffer,
    /// Encrypted bytes between the socket and the engine.
    cipher: ReadBuffer,
    waiting: WaitState,
    stays_small: bool,
}

/// The writing half: encrypted bytes that the socket has not taken yet.
#[derive(Default)]
pub(crate) struct WriteState {
    cipher: Vec<u8>,
    /// How much of `cipher` the socket has taken.
    written: usize,
    marks: RecordMarks,
    waiting: WaitState,
    sent: u64,
}

impl ReadState {
    /// Whether a buffer has grown by a burst and is worth freeing while nothing comes.
    pub fn is_large(&self) -> bool {
        self.plain.is_large() || self.cipher.is_large()
    }

    /// Whether larger buffers would save reads.
    pub fn wants_to_grow(&self) -> bool {
        self.plain.wants_to_grow() || self.cipher.wants_to_grow()
    }

    /// Whether the buffers may grow with the traffic (default: yes).
    pub fn set_may_grow(&mut self, may_grow: bool) {
        self.stays_small = !may_grow;
    }
}

impl WriteState {
    /// Frees a buffer larger than `kept` that is not in use.
    pub fn release(&mut self, kept: usize) {
        if self.is_empty() && self.cipher.capacity() > kept {
            self.cipher = Vec::new();
        }
    }

    /// How many bytes the socket has taken so far: whether the peer takes any.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn is_empty(&self) -> bool {
        self.written == self.cipher.len()
    }

    /// Of the plain bytes that [`Transport::write`] has returned as taken, how many are in TLS records that the socket has
    /// not taken completely: the peer cannot receive them if nothing more is written. Zero without TLS.
    pub fn unsent_plain(&self) -> usize {
        self.marks.unsent_plain(self.written)
    }

    fn clear(&mut self) {
        self.cipher.clear();
        self.marks.clear();
        self.written = 0;
    }
}

/// For unit tests of what is above, without TLS and a socket.
#[cfg(test)]
impl WriteState {
    /// Encrypted bytes as [`Transport::write`] leaves them: the length of each record, and of the plain bytes in it.
    pub fn of_records(records: &[(usize, usize)]) -> WriteState {
        let mut wire = WriteState::default();
        for (cipher, plain) in records {
            wire.cipher.resize(wire.cipher.len() + cipher, 0);
            wire.marks.push(wire.cipher.len(), *plain);
        }
        wire
    }

    /// The socket has taken so many of the encrypted bytes.
    pub fn set_taken(&mut self, written: usize) {
        self.written = written;
    }
}

/// Does the client's TLS handshake on `stream`.
pub(crate) fn connect_tls(
    client: &TlsClient,
    server_name: &str,
    stream: Stream,
    deadline: &Deadline,
) -> Result<Transport> {
    tls::connect(client, server_name, stream, deadline).map(Transport::with_tls)
}

/// Does the server's TLS handshake on `stream`.
pub(crate) fn accept_tls(server: &TlsServer, stream: Stream, deadline: &Deadline) -> Result<Transport> {
    tls::accept(server, stream, deadline).map(Transport::with_tls)
}

impl Transport {
    pub fn plain(stream: Stream) -> io::Result<Transport> {
        Ok(Transport { socket: Socket::new(stream)?, tls: None })
    }

    fn with_tls((socket, engine): (Socket, tls::Engine)) -> Transport {
        Transport { socket, tls: Some(Mutex::new(engine)) }
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub fn pollable(&self) -> Option<Pollable<'_>> {
        self.socket.pollable()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Reads once into `incoming.plain`, waiting at most `wait` (`None`: without a bound, zero: not at all). The wait may end
    /// early.
    pub fn read(&self, incoming: &mut ReadState, wait: Option<Duration>) -> io::Result<Received> {
        let ReadState { plain, cipher, waiting, stays_small } = incoming;
        let may_grow = !*stays_small;
        let Some(tls) = &self.tls else {
            return self.read_buffer(plain, may_grow, waiting, wait);
        };
        // What the engine holds already comes first; then at most one read of the socket.
        if let Some(received) = lock(tls).decrypt(cipher, plain)? {
            return Ok(received);
        }
        match self.read_buffer(cipher, may_grow, waiting, wait)? {
            Received::Bytes => {}
            Received::End => lock(tls).end(),
            other @ (Received::Nothing | Received::Partial | Received::TlsOutput) => return Ok(other),
        }
        Ok(lock(tls).decrypt(cipher, plain)?.unwrap_or(Received::Partial))
    }

    /// Whether [`read_directly`](Transport::read_directly) may be called.
    pub fn can_read_directly(&self, incoming: &ReadState) -> bool {
        self.tls.is_none() && incoming.plain.is_empty()
    }

    /// Reads once past `incoming.plain`, waiting at most `wait`; returns the number of bytes, too.
    pub fn read_directly(
        &self,
        incoming: &mut ReadState,
        into: &mut [u8],
        wait: Duration,
    ) -> io::Result<(Received, usize)> {
        self.read_socket(into, &mut incoming.waiting, Some(wait))
    }

    /// How many bytes the reading buffers have at most that have grown. With TLS there are three: for encrypted bytes, for those that
    /// the TLS library reads, and for plain ones.
    pub fn most_for_reading(&self) -> usize {
        if self.is_tls() { 3 * read_buffer::LARGEST } else { read_buffer::LARGEST }
    }

    /// Frees the reading buffers that bursts have grown, while nothing comes.
    pub fn release(&self, incoming: &mut ReadState) {
        incoming.plain.release();
        incoming.cipher.release();
        if let Some(tls) = &self.tls {
            lock(tls).release();
        }
    }

    /// Writes some of `bytes`, waiting at most `wait`, and returns how many were taken; kind `WouldBlock` for none. The wait
    /// may end early. With TLS, taken bytes may still be in `wire`, and go before anything else at the next call
    /// ([`WriteState::unsent_plain`]). After an error of any other kind, `bytes` were not taken and nothing more can be
    /// written.
    pub fn write(&self, wire: &mut WriteState, bytes: &[u8], wait: Option<Duration>) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return self.write_socket(bytes, wire, wait);
        };
        if !wire.is_empty() {
            self.write_cipher(wire, wait)?;
            return Ok(0);
        }
        let batch = &bytes[..bytes.len().min(TLS_BATCH)];
        let taken = lock(tls).encrypt(batch, &mut wire.cipher, &mut wire.marks)?;
        match self.write_cipher(wire, wait) {
            Ok(()) => Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match taken {
                0 => Err(error),
                taken => Ok(taken),
            },
            Err(error) => {
                // It was one write, so none of the bytes went out. None counts as taken, and none must go out later.
                wire.clear();
                Err(error)
            }
        }
    }

    /// Writes what is left of encrypted bytes and the output of TLS itself.
    pub fn flush(&self, wire: &mut WriteState, wait: Option<Duration>) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        self.write_cipher(wire, wait)?;
        lock(tls).take_output(&mut wire.cipher);
        self.write_cipher(wire, wait)
    }

    /// Ends this side: close_notify with TLS, as far as that can be written within `wait`, then FIN.
    pub fn shutdown_write(&self, wire: &mut WriteState, wait: Option<Duration>) {
        if let Some(tls) = &self.tls {
            lock(tls).close_notify();
            let _ = self.flush(wire, wait);
        }
        self.socket.shutdown_write();
    }

    /// Drops the connection now; every blocked read and write of it returns.
    pub fn shutdown(&self) {
        self.socket.shutdown();
    }

    /// Writes encrypted bytes once. Kind `WouldBlock` while some are left: the caller looks at its clock.
    fn write_cipher(&self, wire: &mut WriteState, wait: Option<Duration>) -> io::Result<()> {
        if !wire.is_empty() {
            let cipher = std::mem::take(&mut wire.cipher);
            let written = self.write_socket(&cipher[wire.written..], wire, wait);
            wire.cipher = cipher;
            wire.written += written?;
        }
        if !wire.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.clear();
        Ok(())
    }

    fn read_buffer(
        &self,
        buffer: &mut ReadBuffer,
        may_grow: bool,
        waiting: &mut WaitState,
        wait: Option<Duration>,
    ) -> io::Result<Received> {
        let (received, count) = self.read_socket(buffer.room(may_grow), waiting, wait)?;
        buffer.filled(count);
        Ok(received)
    }

    fn read_socket(
        &self,
        into: &mut [u8],
        waiting: &mut WaitState,
        wait: Option<Duration>,
    ) -> io::Result<(Received, usize)> {
        match self.socket.read(into, wait, waiting) {
            Ok(0) => Ok((Received::End, 0)),
            Ok(count) => Ok((Received::Bytes, count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((Received::Nothing, 0)),
            Err(error) => Err(error),
        }
    }

    fn write_socket(&self, bytes: &[u8], wire: &mut WriteState, wait: Option<Duration>) -> io::Result<usize> {
        match self.socket.write(bytes, wait, &mut wire.waiting)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => {
                wire.sent += count as u64;
                Ok(count)
            }
        }
    }
}
