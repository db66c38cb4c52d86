//! The opening handshake's bytes over a transport, in either role: write all of it, read a head, read a body.

use std::io;

use crate::compression::Compression;
use crate::connection::{Connection, ConnectionConfig};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::Negotiated;
use crate::http::{Body, Head, HeadParser, StartLine};
use crate::protocol::Role;
use crate::transport::{ReadState, Received, Transport, WriteState};

pub(crate) struct Upgrade {
    transport: Transport,
    incoming: ReadState,
    wire: WriteState,
    /// Who is at the other end, for error texts.
    peer: String,
    role: Role,
    has_ended: bool,
}

impl Upgrade {
    pub fn new(transport: Transport, role: Role, peer: impl Into<String>) -> Upgrade {
        let (incoming, wire) = (ReadState::default(), WriteState::default());
        Upgrade { transport, incoming, wire, peer: peer.into(), role, has_ended: false }
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

    /// Reads a head; what is behind it stays in the buffer.
    pub fn read_head<S: StartLine>(&mut self, parser: &mut HeadParser<S>, deadline: &Deadline) -> Result<Head<S>> {
        loop {
            let (consumed, head) = parser.feed(self.incoming.plain.unread())?;
            self.incoming.plain.consume(consumed);
            if let Some(head) = head {
                return Ok(head);
            }
            if !self.read(deadline)? {
                let place = if parser.is_empty() { "before it sent anything of" } else { "in the middle of" };
                let text = format!("{} closed the connection {place} its side of the opening handshake", self.peer);
                // The source tells it from an answer that is wrong: another attempt may be worth it.
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(Error::caused(ErrorKind::Handshake, text + self.hint(), source));
            }
        }
    }

    /// Reads what can be had of a body; the status is what counts, so nothing here is an error.
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

    /// Whether the other side has ended its stream.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Ends this side, behind an answer that is no upgrade.
    pub fn end(mut self, deadline: &Deadline) {
        self.transport.shutdown_write(&mut self.wire, deadline.left());
    }

    /// The handshake is done: what is left in the buffer are the first frames.
    pub fn into_connection(
        self,
        negotiated: &Negotiated,
        compression: &Compression,
        bounds: ConnectionConfig,
    ) -> Connection {
        Connection::new(self.transport, self.incoming, self.wire, self.role, negotiated.deflate, compression, bounds)
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
                Ok(Received::Bytes) => return Ok(true),
                Ok(Received::End) => {
                    self.has_ended = true;
                    return Ok(false);
                }
                Ok(Received::Nothing | Received::Partial) => {}
                Ok(Received::TlsOutput) => self.write(&[], deadline)?,
                Err(error) => {
                    let doing = format!("waiting for {}'s side of the opening handshake{}", self.peer, self.hint());
                    return Err(Error::caused(ErrorKind::Io, doing, error));
                }
            }
        }
    }

    /// A hint for a stream that ends at once, which is what many TLS servers do with plain HTTP.
    fn hint(&self) -> &'static str {
        match self.role {
            Role::Client if !self.transport.is_tls() => " (does it expect TLS? wss:// is the scheme with it)",
            _ => "",
        }
    }
}
