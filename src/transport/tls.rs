//! native-tls over an in-memory pipe, so that one thread can wait for the socket while another encrypts.
//!
//! During the TLS handshake the pipe leads straight to the socket (over memory the alert of a failed certificate check
//! would be lost); afterwards it is memory. What is easy to get wrong, each seen or read in a backend's source:
//! - `Ok(0)` means close_notify or a bare FIN; whether the pipe handed out its own end tells which.
//! - The first error is kept: after a bad record a backend may go on with `Ok(0)`.
//! - A write may need to read (TLS 1.2 renegotiation, SChannel). The pipe answers `WouldBlock` inside a write, and the
//!   bytes that a read must consume first go to a bounded stash, which the reader drains.
//! - `WouldBlock` although the pipe was not empty is fatal: waiting for the socket could last for ever.

use std::io::{self, Read, Write};
use std::sync::Mutex;

use native_tls::{HandshakeError, TlsAcceptor, TlsConnector, TlsStream};

use super::{ReadBuffer, Received, Stream, Transport, is_wait_over};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// Room for a whole record, so that no plain bytes are left inside the engine, where no poll of the socket shows them.
const RECORD: usize = 16 * 1024;
/// How many plain bytes a writer may have to take in before its own can go out.
const MOST_STASHED: usize = 256 * 1024;
/// How much TLS may have to say of its own while nobody can write it.
const MOST_OUTPUT: usize = 256 * 1024;

/// Does the client's TLS handshake on `socket`.
pub(crate) fn connect_tls(
    connector: &TlsConnector,
    server_name: &str,
    socket: Stream,
    deadline: &Deadline,
) -> Result<Transport> {
    let doing = format!("TLS handshake with {server_name}");
    handshake(socket, deadline, &doing, hint, |pipe| connector.connect(server_name, pipe))
}

/// Does the server's TLS handshake on `socket`.
pub(crate) fn accept_tls(acceptor: &TlsAcceptor, socket: Stream, deadline: &Deadline) -> Result<Transport> {
    handshake(socket, deadline, "TLS handshake with the client", |_| "", |pipe| acceptor.accept(pipe))
}

fn handshake(
    socket: Stream,
    deadline: &Deadline,
    doing: &str,
    hint: impl FnOnce(&str) -> &'static str,
    shake: impl FnOnce(Pipe) -> std::result::Result<TlsStream<Pipe>, HandshakeError<Pipe>>,
) -> Result<Transport> {
    let failed = |error: io::Error| Error::caused(ErrorKind::Io, doing, error);
    let mut transport = Transport::plain(socket).map_err(failed)?;
    let direct = Direct { socket: transport.socket.try_clone().map_err(failed)?, deadline: *deadline };
    match shake(Pipe { direct: Some(direct), ..Pipe::default() }) {
        Ok(mut stream) => {
            stream.get_mut().direct = None;
            transport.socket.set_read_timeout(None).map_err(failed)?;
            transport.socket.set_write_timeout(None).map_err(failed)?;
            transport.tls = Some(Mutex::new(Engine { stream, stash: Vec::new(), failure: None, announced: 0 }));
            Ok(transport)
        }
        Err(HandshakeError::WouldBlock(_)) => Err(deadline.error(doing)),
        Err(HandshakeError::Failure(_)) if deadline.is_over() => Err(deadline.error(doing)),
        Err(HandshakeError::Failure(error)) => {
            let hint = hint(&error.to_string());
            Err(Error::caused(ErrorKind::Tls, format!("{doing} failed{hint}"), error))
        }
    }
}

/// A hint for the failures that people who connect meet most.
fn hint(error: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if has(&["wrong version number", "packet length too long", "http request", "unexpected EOF"]) {
        " (does the server speak TLS on this port? ws:// is the scheme without)"
    } else if has(&["self-signed", "self signed", "unable to get local issuer"]) {
        " (the certificate's root is not trusted: add it to a TlsConnector and pass that with ConnectOptions::tls)"
    } else {
        ""
    }
}

pub(super) struct Engine {
    stream: TlsStream<Pipe>,
    /// Plain bytes that a write had to take in.
    stash: Vec<u8>,
    failure: Option<(io::ErrorKind, String)>,
    /// How much of the pipe's output the reader has been told of: once is enough, it has to read on.
    announced: usize,
}

impl Engine {
    /// Takes the encrypted bytes, and decrypts until `plain` is filled well or the pipe is empty. `None`: it needs more
    /// from the socket.
    pub fn decrypt(&mut self, cipher: &mut ReadBuffer, plain: &mut ReadBuffer) -> io::Result<Option<Received>> {
        if !cipher.is_empty() {
            // The pipe is empty whenever the reader went to the socket, so its spent buffer goes back for the next read.
            std::mem::swap(&mut self.stream.get_mut().inbound, cipher);
        }
        if !self.stash.is_empty() {
            plain.push(&self.stash);
            self.stash = Vec::new();
            return Ok(Some(Received::Bytes));
        }
        self.check()?;
        let mut received = None;
        loop {
            plain.reserve(RECORD);
            match self.read(plain) {
                Ok(Some(0)) if received.is_none() => {
                    if self.stream.get_ref().end_seen {
                        let text = "TLS ended without close_notify";
                        return Err(self.fail(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
                    }
                    return Ok(Some(Received::End));
                }
                Ok(Some(count @ 1..)) => {
                    plain.filled(count);
                    received = Some(Received::Bytes);
                    if !self.stream.get_ref().inbound.is_empty() {
                        continue;
                    }
                }
                // An error or the end behind good bytes: they come first, and the next call finds it again.
                Err(_) if received.is_some() => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            break;
        }
        let output = self.stream.get_ref().outbound.len();
        if received.is_none() && output > self.announced {
            if output > MOST_OUTPUT {
                return Err(self.fail(io::Error::other("the peer makes TLS answer and does not take the answers")));
            }
            self.announced = output;
            return Ok(Some(Received::TlsOutput));
        }
        Ok(received)
    }

    /// `None` when the pipe is empty.
    fn read(&mut self, plain: &mut ReadBuffer) -> io::Result<Option<usize>> {
        self.stream.get_mut().starved = false;
        match self.stream.read(plain.room()) {
            Err(error) if is_wait_over(&error) => {
                if self.stream.get_ref().starved {
                    return Ok(None);
                }
                Err(self.fail(io::Error::other("the TLS library stopped in the middle of its input")))
            }
            Err(error) => Err(self.fail(error)),
            Ok(count) => Ok(Some(count)),
        }
    }

    /// Gives back what the pipe has for bursts, either way.
    pub fn release(&mut self) {
        let pipe = self.stream.get_mut();
        pipe.inbound.release();
        if pipe.outbound.is_empty() {
            pipe.outbound = Vec::new();
        }
    }

    /// The socket has ended.
    pub fn end(&mut self) {
        self.stream.get_mut().end = true;
    }

    /// Encrypts `bytes` behind whatever TLS had to say before; returns how many were taken.
    pub fn encrypt(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        self.check()?;
        let mut taken = 0;
        while taken < bytes.len() {
            self.stream.get_mut().in_write = true;
            let written = self.stream.write(&bytes[taken..]);
            self.stream.get_mut().in_write = false;
            match written {
                Ok(0) => return Err(self.fail(io::ErrorKind::WriteZero.into())),
                Ok(count) => taken += count,
                Err(error) if is_wait_over(&error) => {
                    // It wants input first; if there is none yet, what it has to say goes out, and the caller comes again.
                    if !self.read_for_write()? {
                        break;
                    }
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.take_output(out);
        if taken == 0 && out.is_empty() && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    /// Reads into the stash on behalf of a write; says whether anything moved.
    fn read_for_write(&mut self) -> io::Result<bool> {
        if self.stash.len() >= MOST_STASHED || self.stream.get_ref().inbound.is_empty() {
            return Ok(false);
        }
        let mut plain = ReadBuffer::default();
        plain.reserve(RECORD);
        let before = self.stream.get_mut().inbound.unread().len();
        if let Some(count @ 1..) = self.read(&mut plain)? {
            plain.filled(count);
            self.stash.extend_from_slice(plain.unread());
        }
        Ok(self.stream.get_mut().inbound.unread().len() < before)
    }

    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        self.announced = 0;
        let outbound = &mut self.stream.get_mut().outbound;
        if out.is_empty() {
            std::mem::swap(out, outbound);
        } else {
            out.append(outbound);
        }
    }

    pub fn close_notify(&mut self) {
        // Its error says that the peer's close_notify is not there yet, which nobody waits for.
        if self.failure.is_none() {
            let _ = self.stream.shutdown();
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failure.get_or_insert_with(|| (error.kind(), error.to_string()));
        error
    }
}

/// The stream that TLS reads from and writes to.
#[derive(Default)]
struct Pipe {
    /// Straight to the socket, until the TLS handshake is done.
    direct: Option<Direct>,
    inbound: ReadBuffer,
    outbound: Vec<u8>,
    /// The socket has ended, and TLS has been told so.
    end: bool,
    end_seen: bool,
    /// TLS was told that there is nothing to read.
    starved: bool,
    in_write: bool,
}

#[derive(Debug)]
struct Direct {
    socket: Stream,
    deadline: Deadline,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(direct) = &mut self.direct {
            return direct.again_after_signals(|direct| {
                direct.socket.set_read_timeout(direct.left()?)?;
                (&direct.socket).read(into)
            });
        }
        if self.inbound.is_empty() || self.in_write {
            if self.end && !self.in_write {
                self.end_seen = true;
                return Ok(0);
            }
            self.starved = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let unread = self.inbound.unread();
        let count = unread.len().min(into.len());
        into[..count].copy_from_slice(&unread[..count]);
        self.inbound.consume(count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(direct) = &mut self.direct {
            return direct.again_after_signals(|direct| {
                direct.socket.set_write_timeout(direct.left()?)?;
                (&direct.socket).write(bytes)
            });
        }
        self.outbound.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Direct {
    /// A socket with a timeout is interrupted by signals, which not every backend takes for a reason to try again.
    fn again_after_signals(&self, mut call: impl FnMut(&Direct) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match call(self) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn left(&self) -> io::Result<Option<std::time::Duration>> {
        match self.deadline.left() {
            Some(left) if left.is_zero() => Err(io::ErrorKind::WouldBlock.into()),
            left => Ok(left),
        }
    }
}
