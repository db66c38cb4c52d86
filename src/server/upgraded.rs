//! Taking over a stream on which somebody else did the opening handshake.

use std::fmt;
use std::time::Duration;

use super::unusable;
use crate::bounds::{self, bound_setters};
use crate::compression::Compression;
use crate::connection::{Connection, ConnectionConfig, HandshakeEnd};
use crate::error::Result;
use crate::handshake;
use crate::memory_limit::MemoryShare;
use crate::protocol::Role;
use crate::transport::{Stream, Transport};
use crate::websocket::{HandshakeInfo, WebSocket};

/// A stream on which the opening handshake was done elsewhere, such as by an HTTP server, and what is to be known about it.
/// Made by [`WebSocket::upgraded`]; [`open`](Upgraded::open) makes the connection.
///
/// ```
/// use wsync::{Message, Role, Stream, WebSocket};
///
/// let (ours, theirs) = Stream::pair();
/// let server = WebSocket::upgraded(theirs, Role::Server).protocol("v1.chat").open()?;
/// let client = WebSocket::upgraded(ours, Role::Client).protocol("v1.chat").open()?;
/// client.send("hello")?;
/// assert_eq!(server.recv()?, Some(Message::from("hello")));
/// # Ok::<(), wsync::Error>(())
/// ```
///
/// # Bounds
///
/// A time is a `Duration`, or `None` for no bound. Zero is refused as [`InvalidInput`](crate::ErrorKind::InvalidInput),
/// because nothing can keep it. Zero for [`ping_interval`](Upgraded::ping_interval) means the same as `None`: no pings.
///
/// ```
/// use std::time::Duration;
/// use wsync::{Role, Stream, WebSocket};
///
/// let (ours, theirs) = Stream::pair();
/// let ws = WebSocket::upgraded(theirs, Role::Server)
///     .send_timeout(Duration::from_secs(5))
///     .close_timeout(Duration::from_secs(1))
///     .ping_interval(Duration::from_secs(60))
///     .pong_timeout(Duration::from_secs(10))
///     .send_queue_limit(1 << 20)
///     .max_message_size(1 << 20)
///     .open()?;
/// # Ok::<(), wsync::Error>(())
/// ```
///
/// # HTTP servers that fit
///
/// The HTTP server must give the stream itself away, as a [`TcpStream`](std::net::TcpStream), a `UnixStream` or a [`Stream`]:
/// one thread waits in `recv` while others send, which one value that is reader and writer, such as a
/// `Box<dyn Read + Write>`, does not allow. The answer to the client is a 101 with `Upgrade: websocket`,
/// `Connection: Upgrade` and `Sec-WebSocket-Accept` with the [`accept_key`](crate::accept_key) of the request's
/// `Sec-WebSocket-Key`. Each of these was tried; `examples/upgraded` in the repository has the servers, and a client that
/// sends its first message without waiting for the answer:
///
/// | crate | fits | how |
/// |---|---|---|
/// | `httparse` 1.10 | yes | a loop of your own reads the request; what it has read beyond goes to [`already_read`](Upgraded::already_read) |
/// | `hyper` 1.12 | yes | `hyper::upgrade::on`, then `downcast` to `TokioIo<TcpStream>`; `into_inner().into_std()` is the stream, and `read_buf` goes to [`already_read`](Upgraded::already_read) |
/// | `touche` 0.0.15 | yes | `response.upgrade(…)` hands out a `Connection`; `downcast` gives the `TcpStream`. What touche has read beyond the request is lost. Clients that keep to RFC 6455 §4.1 do not notice: they send nothing before the 101 |
/// | `tiny_http` 0.12 | no | `Request::upgrade` answers and hands out a `Box<dyn ReadWrite + Send>`: it cannot be split, and the socket in it cannot be reached |
/// | `rouille` 3.6 | no | `Upgrade::build` gets the `Box<dyn ReadWrite + Send>` of tiny_http |
///
/// Beside a server that does not fit, listen on a port of your own and call [`WebSocket::accept`].
#[must_use = "it does nothing until `open` is called"]
pub struct Upgraded {
    stream: Stream,
    role: Role,
    protocol: Option<String>,
    compression: Compression,
    bounds: ConnectionConfig,
    read: Vec<u8>,
}

impl Upgraded {
    pub(super) fn new(stream: Stream, role: Role) -> Upgraded {
        let (compression, bounds) = (Compression::off(), ConnectionConfig::default());
        Upgraded { stream, role, protocol: None, compression, bounds, read: Vec::new() }
    }

    /// The subprotocol that was agreed (default: none).
    ///
    /// ```
    /// # let (stream, _) = wsync::Stream::pair();
    /// let ws = wsync::WebSocket::upgraded(stream, wsync::Role::Server).protocol("v1.chat").open()?;
    /// assert_eq!(ws.protocol(), Some("v1.chat"));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn protocol(mut self, name: impl Into<String>) -> Upgraded {
        self.protocol = Some(name.into());
        self
    }

    /// The compression that was agreed (default: [`Compression::off`]): on with exactly the parameters of the answer.
    ///
    /// ```
    /// use wsync::{Compression, Role, WebSocket};
    /// # let (stream, _) = wsync::Stream::pair();
    ///
    /// // After the answer "permessage-deflate; server_no_context_takeover".
    /// let agreed = Compression::default().server_no_context_takeover(true);
    /// let ws = WebSocket::upgraded(stream, Role::Server).compression(agreed).open()?;
    /// assert_eq!(ws.extensions(), "permessage-deflate; server_no_context_takeover");
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn compression(mut self, compression: Compression) -> Upgraded {
        self.compression = compression;
        self
    }

    /// What was read of the stream behind the handshake (default: nothing): the first frames.
    ///
    /// ```
    /// # let (stream, _) = wsync::Stream::pair();
    /// let frame = b"\x81\x85\0\0\0\0hello"; // from a client, read together with its request
    /// let ws = wsync::WebSocket::upgraded(stream, wsync::Role::Server).already_read(frame).open()?;
    /// assert_eq!(ws.recv()?.unwrap().as_text(), Some("hello"));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn already_read(mut self, bytes: impl Into<Vec<u8>>) -> Upgraded {
        self.read = bytes.into();
        self
    }

    bound_setters!();

    /// Makes the connection. Reads and writes nothing.
    ///
    /// ```
    /// # let (stream, _) = wsync::Stream::pair();
    /// let ws = wsync::WebSocket::upgraded(stream, wsync::Role::Server).max_message_size(1 << 20).open()?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a subprotocol, compression or bound that cannot be;
    /// [`Io`](crate::ErrorKind::Io) for a stream that is not usable.
    pub fn open(self) -> Result<WebSocket> {
        self.open_with(None)
    }

    /// The same, with a share of a server's memory.
    pub(crate) fn open_with(self, memory: Option<MemoryShare>) -> Result<WebSocket> {
        let Upgraded { stream, role, protocol, compression, bounds, read } = self;
        compression.check(role)?;
        bounds::check(&bounds)?;
        handshake::check_protocols(protocol.as_slice())?;
        let deflate = compression.parameters();
        let mut handshake = HandshakeEnd::of(Transport::plain(stream).map_err(unusable)?);
        handshake.incoming.plain.push(&read);
        handshake.memory = memory;
        let connection = Connection::new(handshake, role, deflate, &compression, bounds);
        let extensions = deflate.as_ref().map(handshake::describe_extensions).unwrap_or_default();
        let ws = WebSocket::new(connection, HandshakeInfo { protocol, extensions, ..HandshakeInfo::default() });
        ws.allow_eviction();
        Ok(ws)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded")
            .field("role", &self.role)
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}
