//! Options for accepting: values, their defaults and setters that can be chained.

use std::sync::Arc;
use std::time::Duration;

use native_tls::TlsAcceptor;

use super::ExtraHeaders;
use crate::arguments::check_timeout;
use crate::compression::Compression;
use crate::connection::ConnectionConfig;
use crate::error::Result;
use crate::handshake::{self, Refusal};
use crate::http::Request;
use crate::protocol::Role;
use crate::transport::Stream;
use crate::websocket::WebSocket;

/// The program's decision about a request: headers to add to the answer, or a refusal.
pub(super) type Inspect = dyn Fn(&Request) -> Result<ExtraHeaders, Refusal> + Send + Sync;

/// How to accept connections: refined by its setters; call [`accept`](AcceptOptions::accept) for each stream, from any
/// thread.
///
/// ```no_run
/// use wsync::{AcceptOptions, Refusal};
///
/// let options = AcceptOptions::new().protocols(["v2.chat"]).inspect(|request| match request.header("origin") {
///     Some("https://example.com") => Ok(vec![]),
///     _ => Err(Refusal::new(403, "this origin may not connect")),
/// });
/// for stream in std::net::TcpListener::bind("127.0.0.1:9001")?.incoming() {
///     let (options, stream) = (options.clone(), stream?);
///     std::thread::spawn(move || options.accept(stream)?.send("welcome"));
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct AcceptOptions {
    pub(super) protocols: Vec<String>,
    pub(super) compression: Compression,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) inspect: Option<Arc<Inspect>>,
    pub(super) accept_timeout: Option<Duration>,
    pub(super) bounds: ConnectionConfig,
}

impl Default for AcceptOptions {
    fn default() -> AcceptOptions {
        AcceptOptions {
            protocols: Vec::new(),
            compression: Compression::default(),
            tls: None,
            inspect: None,
            accept_timeout: Some(Duration::from_secs(30)),
            bounds: ConnectionConfig::default(),
        }
    }
}

impl AcceptOptions {
    /// The defaults, as each setter names them.
    pub fn new() -> AcceptOptions {
        AcceptOptions::default()
    }

    /// The subprotocols that this server speaks, the most wanted first; the first one that the client offers is chosen
    /// (RFC 6455 §4.2.2; default: none).
    pub fn protocols<I>(mut self, names: I) -> AcceptOptions
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// What compression to agree to (default: [`Compression::default`], on).
    pub fn compression(mut self, compression: Compression) -> AcceptOptions {
        self.compression = compression;
        self
    }

    /// Does a TLS handshake first, for `wss` (default: none).
    pub fn tls(mut self, acceptor: TlsAcceptor) -> AcceptOptions {
        self.tls = Some(acceptor);
        self
    }

    /// Decides about each request that is a correct upgrade, before it is answered: returns headers to add to the 101, or a
    /// [`Refusal`] to send instead (default: accepts all).
    pub fn inspect<F>(mut self, look: F) -> AcceptOptions
    where
        F: Fn(&Request) -> Result<Vec<(String, String)>, Refusal> + Send + Sync + 'static,
    {
        self.inspect = Some(Arc::new(look));
        self
    }

    /// The bound of TLS, request and answer together (default: 30 s; `None`: no bound).
    pub fn accept_timeout(mut self, timeout: Option<Duration>) -> AcceptOptions {
        self.accept_timeout = timeout;
        self
    }

    /// As [`ConnectOptions::send_timeout`](crate::ConnectOptions::send_timeout) (default: `None`).
    pub fn send_timeout(mut self, timeout: Option<Duration>) -> AcceptOptions {
        self.bounds.send_timeout = timeout;
        self
    }

    /// As [`ConnectOptions::close_timeout`](crate::ConnectOptions::close_timeout) (default: 5 s).
    pub fn close_timeout(mut self, timeout: Option<Duration>) -> AcceptOptions {
        self.bounds.close_timeout = timeout;
        self
    }

    /// As [`ConnectOptions::ping_interval`](crate::ConnectOptions::ping_interval) (default: `None`).
    pub fn ping_interval(mut self, interval: Option<Duration>) -> AcceptOptions {
        self.bounds.ping_interval = interval;
        self
    }

    /// As [`ConnectOptions::send_queue_limit`](crate::ConnectOptions::send_queue_limit) (default: 256 KiB).
    pub fn send_queue_limit(mut self, bytes: usize) -> AcceptOptions {
        self.bounds.send_queue_limit = bytes;
        self
    }

    /// As [`ConnectOptions::pong_timeout`](crate::ConnectOptions::pong_timeout) (default: `None`, as long as the interval).
    pub fn pong_timeout(mut self, timeout: Option<Duration>) -> AcceptOptions {
        self.bounds.pong_timeout = timeout;
        self
    }

    /// As [`ConnectOptions::max_message_size`](crate::ConnectOptions::max_message_size) (default: 64 MiB).
    pub fn max_message_size(mut self, bytes: usize) -> AcceptOptions {
        self.bounds.max_message_size = bytes;
        self
    }

    /// Does the server's side of the opening handshake; blocks until the connection is open. A request that is not a
    /// correct upgrade is answered (400, 405, 426 …) and the stream closed.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) before any I/O; [`Handshake`](crate::ErrorKind::Handshake) for a request that was refused,
    /// saying why; [`Tls`](crate::ErrorKind::Tls); [`Timeout`](crate::ErrorKind::Timeout) when `accept_timeout` ends;
    /// [`Io`](crate::ErrorKind::Io) when the connection is lost meanwhile.
    pub fn accept(&self, stream: impl Into<Stream>) -> Result<WebSocket> {
        super::accept(self, stream.into())
    }

    /// Takes over a stream after an opening handshake that was done elsewhere, such as by an HTTP server, with these options'
    /// bounds. Their compression must be what was agreed: [`Compression::off`], or on with exactly the parameters of the
    /// answer. `read` are the bytes that were read of the stream behind the handshake: the first frames.
    ///
    /// ```no_run
    /// # fn upgraded(stream: std::net::TcpStream, read: Vec<u8>) -> wsync::Result<()> {
    /// use wsync::{AcceptOptions, Compression, Role};
    ///
    /// let options = AcceptOptions::new().compression(Compression::off()).max_message_size(1 << 20);
    /// let ws = options.from_upgraded(stream, Role::Server, Some("v1.chat"), &read)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`WebSocket::from_upgraded`].
    pub fn from_upgraded(
        &self,
        stream: impl Into<Stream>,
        role: Role,
        protocol: Option<&str>,
        read: &[u8],
    ) -> Result<WebSocket> {
        super::from_upgraded(self, stream.into(), role, protocol, read)
    }

    /// Refuses what cannot be used, before any I/O.
    pub(super) fn check(&self) -> Result<()> {
        handshake::check_protocols(&self.protocols)?;
        self.compression.check(Role::Server)?;
        check_timeout("accept_timeout", self.accept_timeout)?;
        self.check_bounds()
    }

    pub(super) fn check_bounds(&self) -> Result<()> {
        check_timeout("send_timeout", self.bounds.send_timeout)?;
        check_timeout("close_timeout", self.bounds.close_timeout)?;
        check_timeout("ping_interval", self.bounds.ping_interval)?;
        check_timeout("pong_timeout", self.bounds.pong_timeout)
    }
}

impl std::fmt::Debug for AcceptOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcceptOptions")
            .field("protocols", &self.protocols)
            .field("compression", &self.compression)
            .field("tls", &self.tls.is_some())
            .field("accept_timeout", &self.accept_timeout)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}
