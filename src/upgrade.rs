//! The opening handshake's bytes over a transport, in either role: write all of it, read a head, read a body.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::compression::Compression;
use crate::connection::{Connection, ConnectionConfig, HandshakeEnd};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::Negotiated;
use crate::http::{Body, Head, HeadParser, StartLine};
use crate::memory_limit::{Kind, MemoryShare};
use crate::protocol::Role;
use crate::transport::{ReadState, Received, Transport, WriteState};

/// A hint for a plain connection that ends at once, which is what many TLS servers do with plain HTTP.
pub(crate) const EXPECTS_TLS: &str = " (does it expect TLS? wss:// is the scheme with it)";

/// How much of a body that nobody wants is read, and for how long, before the connection is closed.
const MAX_BODY: usize = 256 * 1024;
const MAX_BODY_TIME: Duration = Duration::from_secs(1);

/// So much of a head does not count. A longer one counts that often: as bytes, and as the parsed lines.
const UNCOUNTED_HEAD: usize = 2 * 1024;
const HEAD_FACTOR: usize = 3;

pub(crate) struct Upgrade {
    transport: Transport,
    incoming: ReadState,
    wire: WriteState,
    /// The other side's name in error texts.
    peer: String,
    role: Role,
    has_ended: bool,
    /// Whether any byte has arrived.
    has_received: bool,
    /// Whether a body follows that is not read.
    has_body: bool,
    /// The end of the error's text if the other side ends the stream without a byte.
    silence_hint: &'static str,
    /// What this connection holds of its server's memory, where that has a limit.
    memory: Option<MemoryShare>,
}

impl Upgrade {
    pub fn new(transport: Transport, role: Role, peer: impl Into<String>) -> Upgrade {
        let (incoming, wire) = (ReadState::default(), WriteState::default());
        Upgrade {
            transport,
            incoming,
            wire,
            peer: peer.into(),
            role,
            has_ended: false,
            has_received: false,
            has_body: false,
            silence_hint: "",
            memory: None,
        }
    }

    /// Counts what the head takes.
    pub fn count_memory(&mut self, share: MemoryShare) {
        self.incoming.set_may_grow(false);
        self.memory = Some(share);
    }

    /// Sets the likely reason for the other side to end its stream without a byte.
    pub fn explain_silence(&mut self, hint: &'static str) {
        self.silence_hint = hint;
    }

    pub fn write(&mut self, mut bytes: &[u8], deadline: &Deadline) -> Result<()> {
        let doing = format!("sending the handshake to {}", self.peer);
        while !bytes.is_empty() {
            let left = deadline.check(&doing)?;
            match self.transport.write(&mut self.wire, bytes, left) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Error::caused(ErrorKind::Io, doing, error)),
            }
        }
        loop {
            let left = deadline.check(&doing)?;
            match self.transport.flush(&mut self.wire, left) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done.map_err(|error| Error::caused(ErrorKind::Io, doing, error)),
            }
        }
    }

    /// Reads a head; the bytes behind it stay in the buffer.
    pub fn read_head<S: StartLine>(&mut self, parser: &mut HeadParser<S>, deadline: &Deadline) -> Result<Head<S>> {
        loop {
            let (consumed, head) =
                parser.feed(self.incoming.plain.unread()).map_err(|error| -> Error { error.into() })?;
            self.incoming.plain.consume(consumed);
            self.hold_head(parser.taken())?;
            if let Some(head) = head {
                return Ok(head);
            }
            if !self.read(deadline)? {
                let place = if parser.is_empty() { "before it sent anything of" } else { "in the middle of" };
                let hint = if self.has_received { "" } else { self.silence_hint };
                let text =
                    format!("{} closed the connection {place} its side of the opening handshake{hint}", self.peer);
                // The source tells it from a wrong answer: here another attempt may succeed.
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(Error::caused(ErrorKind::Handshake, text, source));
            }
        }
    }

    /// The head stays for as long as the connection: the program can ask for it.
    fn hold_head(&self, length: usize) -> Result<()> {
        let Some(memory) = &self.memory else { return Ok(()) };
        if length <= UNCOUNTED_HEAD {
            return Ok(());
        }
        memory.hold(Kind::Head, HEAD_FACTOR * length).map_err(|_| {
            let text =
                "the server's connections hold as much as they may, and this handshake holds most (memory_limit)";
            Error::new(ErrorKind::TooBig, text)
        })
    }

    /// Reads as much of a body as arrives. Nothing here is an error, because the status is what counts.
    pub fn read_body(&mut self, mut body: Body, deadline: &Deadline) -> Vec<u8> {
        loop {
            let (consumed, is_done) = body.feed(self.incoming.plain.unread());
            self.incoming.plain.consume(consumed);
            if is_done || !matches!(self.read(deadline), Ok(true)) {
                break;
            }
        }
        body.finish()
    }

    /// The other side's address, where the stream has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.transport.peer_addr().ok()
    }

    /// Whether the other side has ended its stream.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The other side announces a body that is not read.
    pub fn expect_body(&mut self) {
        self.has_body = true;
    }

    /// Ends this side's stream after an answer that is not an upgrade. A body is read and thrown away, within bounds: bytes that
    /// nobody has read would turn the end into a reset, which may overtake the answer.
    pub fn end(mut self, deadline: &Deadline) {
        self.transport.shutdown_write(&mut self.wire, deadline.left());
        if !self.has_body {
            return;
        }
        let deadline = Deadline::after("body", Some(MAX_BODY_TIME)).or_earlier(Some(*deadline));
        let mut left = MAX_BODY;
        while left > 0 && !self.has_ended && self.read(&deadline).is_ok() {
            let unread = self.incoming.plain.unread().len();
            self.incoming.plain.consume(unread);
            left = left.saturating_sub(unread);
        }
    }

    /// The connection after the handshake. The bytes left in the buffer are its first frames.
    pub fn into_connection(
        self,
        negotiated: &Negotiated,
        compression: &Compression,
        bounds: ConnectionConfig,
    ) -> Connection {
        let Upgrade { transport, incoming, wire, memory, role, .. } = self;
        let handshake = HandshakeEnd { transport, incoming, wire, memory };
        Connection::new(handshake, role, negotiated.deflate, compression, bounds)
    }

    /// Reads once; false at the end of the stream.
    fn read(&mut self, deadline: &Deadline) -> Result<bool> {
        loop {
            let left = deadline.check(format_args!("waiting for {}'s side of the opening handshake", self.peer))?;
            let received = match self.transport.read(&mut self.incoming, left) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Received::End),
                received => received,
            };
            match received {
                Ok(Received::Bytes) => {
                    self.has_received = true;
                    return Ok(true);
                }
                Ok(Received::End) => {
                    self.has_ended = true;
                    return Ok(false);
                }
                Ok(Received::Nothing | Received::Partial) => {}
                Ok(Received::TlsOutput) => self.write(&[], deadline)?,
                Err(error) => {
                    return Err(self.read_failed(error));
                }
            }
        }
    }

    fn read_failed(&self, error: io::Error) -> Error {
        let doing = format!("waiting for {}'s side of the opening handshake", self.peer);
        if self.transport.is_tls() && is_from_tls(&error) {
            // With TLS 1.3 the server looks at the client's certificate after the client's handshake is done.
            let asks = error.to_string().contains("certificate required");
            let hint = if asks { " (it asks for a client certificate: ConnectOptions::tls)" } else { "" };
            return Error::caused(ErrorKind::Tls, format!("{doing}{hint}"), error);
        }
        // A reset before any byte: the server left part of the request unread.
        let is_plain_client = self.role == Role::Client && !self.transport.is_tls();
        let is_reset = error.kind() == io::ErrorKind::ConnectionReset;
        let hint = if is_plain_client && is_reset && !self.has_received { EXPECTS_TLS } else { "" };
        Error::caused(ErrorKind::Io, format!("{doing}{hint}"), error)
    }
}

/// Whether it is the TLS library that failed, and not the socket.
fn is_from_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none()
}
