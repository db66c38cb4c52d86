//! Taking over a stream on which somebody else did the opening handshake.

use std::fmt;
use std::time::Duration;

use super::unusable;
use crate::arguments::check_timeout;
use crate::compression::Compression;
use crate::connection::{Connection, ConnectionConfig};
use crate::error::Result;
use crate::handshake;
use crate::protocol::Role;
use crate::transport::{ReadState, Stream, Transport, WriteState};
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
    /// # fn run(stream: std::net::TcpStream) -> wsync::Result<()> {
    /// let ws = wsync::WebSocket::upgraded(stream, wsync::Role::Server).protocol("v1.chat").open()?;
    /// assert_eq!(ws.protocol(), Some("v1.chat"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn protocol(mut self, name: impl Into<String>) -> Upgraded {
        self.protocol = Some(name.into());
        self
    }

    /// The compression that was agreed (default: [`Compression::off`]): on with exactly the parameters of the answer.
    ///
    /// ```
    /// # fn run(stream: std::net::TcpStream) -> wsync::Result<()> {
    /// use wsync::{Compression, Role, WebSocket};
    ///
    /// // After the answer "permessage-deflate; server_no_context_takeover".
    /// let agreed = Compression::default().server_no_context_takeover(true);
    /// let ws = WebSocket::upgraded(stream, Role::Server).compression(agreed).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn compression(mut self, compression: Compression) -> Upgraded {
        self.compression = compression;
        self
    }

    /// What was read of the stream behind the handshake (default: nothing): the first frames.
    ///
    /// ```
    /// # fn run(stream: std::net::TcpStream, buffer: &[u8]) -> wsync::Result<()> {
    /// let ws = wsync::WebSocket::upgraded(stream, wsync::Role::Server).already_read(buffer).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn already_read(mut self, bytes: impl Into<Vec<u8>>) -> Upgraded {
        self.read = bytes.into();
        self
    }

    /// As [`ConnectOptions::send_timeout`](crate::ConnectOptions::send_timeout) (default: `None`).
    ///
    /// ```
    /// # fn run(stream: std::net::TcpStream) -> wsync::Result<()> {
    /// use std::time::Duration;
    /// let upgraded = wsync::WebSocket::upgraded(stream, wsync::Role::Server);
    /// let ws = upgraded.send_timeout(Duration::from_secs(5)).close_timeout(Duration::from_secs(1)).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Upgraded {
        self.bounds.send_timeout = timeout.into();
        self
    }

    /// As [`ConnectOptions::close_timeout`](crate::ConnectOptions::close_timeout) (default: 5 s).
    ///
    /// ```
    /// # fn run(stream: std::net::TcpStream) -> wsync::Result<()> {
    /// use std::time::Duration;
    /// let upgraded = wsync::WebSocket::upgraded(stream, wsync::Role::Server);
    /// let ws = upgraded.close_timeout(Duration::from_secs(1)).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Upgraded {
        self.bounds.close_timeout = timeout.into();
        self
    }

    /// As [`ConnectOptions::ping_interval`](crate::ConnectOptions::ping_interval) (default: `None`).
    ///
    /// ```
    /// # fn run(stream: std::net::TcpStream) -> wsync::Result<()> {
    /// use std::time::Duration;
    /// let upgraded = wsync::WebSocket::upgraded(stream, wsync::Role::Server);
    /// let ws = upgraded.ping_interval(Duration::from_secs(30)).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Upgraded {
        self.bounds.ping_interval = interval.into().filter(|interval| !interval.is_zero());
        self
    }

    /// As [`ConnectOptions::pong_timeout`](crate::ConnectOptions::pong_timeout) (default: `None`, as long as the interval).
    pub fn pong_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Upgraded {
        self.bounds.pong_timeout = timeout.into();
        self
    }

    /// As [`ConnectOptions::send_queue_limit`](crate::ConnectOptions::send_queue_limit) (default: 256 KiB).
    pub fn send_queue_limit(mut self, bytes: usize) -> Upgraded {
        self.bounds.send_queue_limit = bytes;
        self
    }

    /// As [`ConnectOptions::max_message_size`](crate::ConnectOptions::max_message_size) (default: 64 MiB).
    ///
    /// ```
    /// # fn run(stream: std::net::TcpStream) -> wsync::Result<()> {
    /// let upgraded = wsync::WebSocket::upgraded(stream, wsync::Role::Server);
    /// let ws = upgraded.max_message_size(1 << 20).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_message_size(mut self, bytes: usize) -> Upgraded {
        self.bounds.max_message_size = bytes;
        self
    }

    /// Makes the connection. Reads and writes nothing.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a subprotocol, compression or bound that cannot be;
    /// [`Io`](crate::ErrorKind::Io) for a stream that is not usable.
    ///
    /// ```
    /// # fn run(stream: std::net::TcpStream) -> wsync::Result<()> {
    /// let ws = wsync::WebSocket::upgraded(stream, wsync::Role::Server).max_message_size(1 << 20).open()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(self) -> Result<WebSocket> {
        let Upgraded { stream, role, protocol, compression, bounds, read } = self;
        compression.check(role)?;
        check_timeout("send_timeout", bounds.send_timeout)?;
        check_timeout("close_timeout", bounds.close_timeout)?;
        check_timeout("pong_timeout", bounds.pong_timeout)?;
        handshake::check_protocols(protocol.as_slice())?;
        let deflate = compression.parameters();
        let transport = Transport::plain(stream).map_err(unusable)?;
        let mut incoming = ReadState::default();
        incoming.plain.push(&read);
        let connection =
            Connection::new(transport, incoming, WriteState::default(), role, deflate, &compression, bounds);
        let extensions = deflate.as_ref().map(handshake::describe_extensions).unwrap_or_default();
        Ok(WebSocket::new(connection, HandshakeInfo { protocol, extensions, ..HandshakeInfo::default() }))
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
