//! The server's side of the opening handshake (RFC 6455 §4.2): TLS, request, answer, one straight line.

use std::sync::Arc;
use std::time::Duration;

use native_tls::TlsAcceptor;

use crate::client::options::check_timeout;
use crate::compression::{Compression, DeflateParameters};
use crate::connection::{Connection, ConnectionConfig};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::{self, HeadParser, Negotiated, Refusal, Request};
use crate::protocol::Role;
use crate::transport::{ReadState, Stream, Transport, WriteState, accept_tls};
use crate::upgrade::Upgrade;
use crate::websocket::{HandshakeInfo, WebSocket};

type ExtraHeaders = Vec<(String, String)>;

/// What a look at a request may do: add headers to the answer, or refuse.
type Inspect = dyn Fn(&Request) -> Result<ExtraHeaders, Refusal> + Send + Sync;

/// How to accept connections: refined by its setters, used by [`accept`](AcceptOptions::accept) for each stream, from any
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
    protocols: Vec<String>,
    compression: Compression,
    tls: Option<TlsAcceptor>,
    inspect: Option<Arc<Inspect>>,
    accept_timeout: Option<Duration>,
    bounds: ConnectionConfig,
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

    /// Looks at each request that is a correct upgrade, before it is answered: returns headers to add to the 101, or a
    /// [`Refusal`] to send instead (default: no look).
    pub fn inspect<F>(mut self, look: F) -> AcceptOptions
    where
        F: Fn(&Request) -> Result<Vec<(String, String)>, Refusal> + Send + Sync + 'static,
    {
        self.inspect = Some(Arc::new(look));
        self
    }

    /// The one bound over TLS, request and answer, however slowly the client sends (default: 30 s; `None`: no bound).
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

    /// As [`ConnectOptions::max_message_size`](crate::ConnectOptions::max_message_size) (default: 64 MiB).
    pub fn max_message_size(mut self, bytes: usize) -> AcceptOptions {
        self.bounds.max_message_size = bytes;
        self
    }

    /// Does the server's side of the opening handshake; blocks until the connection is open. A request that is not a
    /// correct upgrade is answered (400, 405, 426 …) and the stream closed.
    ///
    /// # Errors
    /// [`Options`](ErrorKind::Options) before any I/O; [`Handshake`](ErrorKind::Handshake) for a request that was refused,
    /// saying why; [`Tls`](ErrorKind::Tls); [`Timeout`](ErrorKind::Timeout) when `accept_timeout` ends;
    /// [`Io`](ErrorKind::Io) when the connection is lost meanwhile.
    pub fn accept(&self, stream: impl Into<Stream>) -> Result<WebSocket> {
        self.check()?;
        let stream = stream.into();
        let deadline = Deadline::after("accept_timeout", self.accept_timeout);
        let transport = match &self.tls {
            Some(acceptor) => accept_tls(acceptor, stream, &deadline)?,
            None => Transport::plain(stream).map_err(unusable)?,
        };
        let mut upgrade = Upgrade::new(transport, Role::Server, "the client");
        let (request, extra) = match self.read_request(&mut upgrade, &deadline) {
            Ok(accepted) => accepted,
            Err(Stop::Fail(error)) => return Err(error),
            Err(Stop::Refuse(refusal)) => {
                refusal.check()?;
                let text = format!("the request was refused with {}: {}", refusal.status(), refusal.reason());
                log::debug!("{text}");
                upgrade.write(&handshake::write_refusal(&refusal), &deadline)?;
                upgrade.end(&deadline);
                return Err(Error::new(ErrorKind::Handshake, text));
            }
        };
        let negotiated = handshake::accept(&request, &self.protocols, &self.compression);
        upgrade.write(&handshake::write_accept(&request, &negotiated, &extra), &deadline)?;
        log::debug!("accepted {} ({})", request.path(), negotiated.extensions);
        let connection = upgrade.into_connection(&negotiated, &self.compression, self.bounds.clone());
        let Negotiated { protocol, extensions, .. } = negotiated;
        Ok(WebSocket::new(
            connection,
            HandshakeInfo { protocol, extensions, request: Some(request), ..HandshakeInfo::default() },
        ))
    }

    /// The request, and the headers to add to its answer.
    fn read_request(&self, upgrade: &mut Upgrade, deadline: &Deadline) -> Result<(Request, ExtraHeaders), Stop> {
        let head = match upgrade.read_head(&mut HeadParser::request(), deadline) {
            // What is not HTTP gets an answer that says what is wrong with it, if there is still somebody to read it.
            Err(error) if error.kind() == ErrorKind::Handshake && !upgrade.has_ended() => {
                return Err(Refusal::new(400, error.to_string()).into());
            }
            read => read?,
        };
        let request = handshake::check_request(head)?;
        let extra = match &self.inspect {
            Some(look) => look(&request)?,
            None => Vec::new(),
        };
        for (name, value) in &extra {
            handshake::check_header(name, value)?;
        }
        Ok((request, extra))
    }

    /// Takes over a stream on which somebody else did the opening handshake, such as an HTTP server, with these options'
    /// bounds, and their compression as what was agreed: [`Compression::off`], or on with exactly the parameters of the
    /// answer. `read` is what was read of the stream behind the handshake: the first frames.
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
        self.compression.check(role)?;
        self.bounds.check()?;
        let protocol: Option<String> = protocol.map(Into::into);
        handshake::check_protocols(protocol.as_slice())?;
        let deflate = DeflateParameters::of(&self.compression);
        let transport = Transport::plain(stream.into()).map_err(unusable)?;
        let mut incoming = ReadState::default();
        incoming.plain.push(read);
        let connection = Connection::new(
            transport,
            incoming,
            WriteState::default(),
            role,
            deflate,
            &self.compression,
            self.bounds.clone(),
        );
        let extensions = deflate.as_ref().map(handshake::describe_extensions).unwrap_or_default();
        Ok(WebSocket::new(connection, HandshakeInfo { protocol, extensions, ..HandshakeInfo::default() }))
    }

    fn check(&self) -> Result<()> {
        handshake::check_protocols(&self.protocols)?;
        self.compression.check(Role::Server)?;
        check_timeout("accept_timeout", self.accept_timeout)?;
        self.bounds.check()
    }
}

/// Why no connection comes about.
enum Stop {
    /// The client is told.
    Refuse(Refusal),
    Fail(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refuse(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Fail(error)
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

fn unusable(error: std::io::Error) -> Error {
    Error::caused(ErrorKind::Io, "the stream is not usable", error)
}
