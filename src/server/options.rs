//! Options for accepting: values, their defaults and setters that can be chained.

use std::sync::Arc;
use std::time::Duration;

use super::acceptance::Acceptance;
use crate::arguments::check_timeout;
use crate::bounds::{self, bound_setters};
use crate::compression::Compression;
use crate::connection::ConnectionConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake;
use crate::http::{Request, Response, ResponseBuilder, clip};
use crate::protocol::Role;
use crate::transport::{Stream, TlsServer};
use crate::websocket::WebSocket;

/// The program's decision about a request.
type OnRequest = dyn Fn(&Request) -> Result<Acceptance, ResponseBuilder> + Send + Sync;
/// The program's answer to a request that asks for no WebSocket.
type OnHttp = dyn Fn(&Request) -> ResponseBuilder + Send + Sync;

/// The TLS settings for the next client.
#[derive(Clone)]
pub(super) enum ServerTls {
    Same(TlsServer),
    /// Asked for each client.
    Current(Arc<dyn Fn() -> TlsServer + Send + Sync>),
}

impl ServerTls {
    pub fn current(&self) -> TlsServer {
        match self {
            ServerTls::Same(tls) => tls.clone(),
            ServerTls::Current(current) => current(),
        }
    }
}

/// How to accept connections: refined by its setters; call [`accept`](AcceptOptions::accept) for each stream, from any
/// thread.
///
/// ```no_run
/// use wsync::{AcceptOptions, Acceptance, Response};
///
/// let options = AcceptOptions::new().protocols(["v2.chat"]).on_request(|request| match request.header("origin") {
///     Some("https://example.com") => Ok(Acceptance::new()),
///     _ => Err(Response::new(403).body("this origin may not connect")),
/// });
/// for stream in std::net::TcpListener::bind("127.0.0.1:9001")?.incoming() {
///     let (options, stream) = (options.clone(), stream?);
///     std::thread::spawn(move || options.accept(stream)?.send("welcome"));
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Bounds
///
/// A time is a `Duration`, or `None` for no bound. Zero is refused as [`InvalidInput`](crate::ErrorKind::InvalidInput),
/// because nothing can keep it. Zero for [`ping_interval`](AcceptOptions::ping_interval) means the same as `None`: no pings.
///
/// ```
/// use std::time::Duration;
/// use wsync::AcceptOptions;
///
/// let options = AcceptOptions::new()
///     .accept_timeout(Duration::from_secs(10))
///     .send_timeout(Duration::from_secs(5))
///     .close_timeout(Duration::from_secs(1))
///     .ping_interval(Duration::from_secs(60))
///     .pong_timeout(Duration::from_secs(10))
///     .send_queue_limit(1 << 20)
///     .max_message_size(1 << 20);
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until `accept` is called"]
pub struct AcceptOptions {
    pub(super) protocols: Vec<String>,
    pub(super) compression: Compression,
    pub(super) tls: Option<ServerTls>,
    on_request: Option<Arc<OnRequest>>,
    on_http: Option<Arc<OnHttp>>,
    /// The origins of pages that may connect; `None` for all.
    allowed_origins: Option<Vec<String>>,
    pub(super) accept_timeout: Option<Duration>,
    pub(super) bounds: ConnectionConfig,
}

impl Default for AcceptOptions {
    fn default() -> AcceptOptions {
        AcceptOptions {
            protocols: Vec::new(),
            compression: Compression::default(),
            tls: None,
            on_request: None,
            on_http: None,
            allowed_origins: None,
            accept_timeout: Some(Duration::from_secs(30)),
            bounds: ConnectionConfig::default(),
        }
    }
}

impl AcceptOptions {
    /// The defaults, as each setter names them.
    ///
    /// ```
    /// let options = wsync::AcceptOptions::new();
    /// ```
    pub fn new() -> AcceptOptions {
        AcceptOptions::default()
    }

    /// The subprotocols that this server speaks, the most wanted first; the first one that the client offers is chosen
    /// (RFC 6455 §4.2.2; default: none).
    ///
    /// ```
    /// let options = wsync::AcceptOptions::new().protocols(["v2.chat", "v1.chat"]);
    /// ```
    pub fn protocols<I>(mut self, names: I) -> AcceptOptions
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// What compression to agree to (default: [`Compression::default`], on).
    ///
    /// ```
    /// use wsync::{AcceptOptions, Compression};
    /// let options = AcceptOptions::new().compression(Compression::off());
    /// ```
    pub fn compression(mut self, compression: Compression) -> AcceptOptions {
        self.compression = compression;
        self
    }

    /// Does a TLS handshake first, for `wss` (default: none).
    ///
    /// ```
    /// # fn run(identity: wsync::native_tls::Identity) -> Result<(), Box<dyn std::error::Error>> {
    /// let options = wsync::AcceptOptions::new().tls(wsync::native_tls::TlsAcceptor::new(identity)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(mut self, tls: impl Into<TlsServer>) -> AcceptOptions {
        self.tls = Some(ServerTls::Same(tls.into()));
        self
    }

    /// As [`tls`](AcceptOptions::tls), with what `current` returns for each client: for certificates that are replaced while the
    /// server runs. `current` runs on the thread that accepts, with no lock held, and for every client: it should return
    /// something that was made before; a clone costs nothing. Connections that are open keep what they began with. If `current` panics,
    /// the client is dropped, and the panic goes on to the caller of `accept`.
    ///
    /// ```no_run
    /// use std::sync::{Arc, Mutex};
    /// use wsync::native_tls::{Identity, TlsAcceptor};
    ///
    /// fn load() -> Result<TlsAcceptor, Box<dyn std::error::Error>> {
    ///     let identity = Identity::from_pkcs8(&std::fs::read("cert.pem")?, &std::fs::read("key.pem")?)?;
    ///     Ok(TlsAcceptor::new(identity)?)
    /// }
    ///
    /// let current = Arc::new(Mutex::new(load()?));
    /// let shared = Arc::clone(&current);
    /// let options = wsync::AcceptOptions::new().tls_with(move || shared.lock().unwrap().clone());
    /// // Later, for example at SIGHUP or once a day:
    /// *current.lock().unwrap() = load()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tls_with<T: Into<TlsServer>>(mut self, current: impl Fn() -> T + Send + Sync + 'static) -> AcceptOptions {
        self.tls = Some(ServerTls::Current(Arc::new(move || current().into())));
        self
    }

    /// Decides about each request that is a correct upgrade, before it is answered (default: accepts all): with an
    /// [`Acceptance`], which may add to the 101, or with a [`Response`] to send instead. After a refusal, accepting ends with
    /// an error of kind [`Refused`](crate::ErrorKind::Refused), and [`Error::response`](crate::Error::response) is what was
    /// sent.
    ///
    /// What cannot be sent is answered with 500: a header with a line end, a subprotocol that the client does not offer, a
    /// status out of 200 to 599, a body with 204, 205 or 304. Accepting then ends with an error of kind
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) that says which.
    ///
    /// The hook runs on the thread that calls [`accept`](AcceptOptions::accept), with no lock held. The time that it takes counts
    /// for [`accept_timeout`](AcceptOptions::accept_timeout), which cannot interrupt it. If it panics, the client is answered
    /// with 500, the connection is closed, and the panic goes on to the caller of `accept`.
    ///
    /// ```
    /// use wsync::{AcceptOptions, Acceptance, Response};
    ///
    /// let options = AcceptOptions::new().on_request(|request| match (request.path(), request.cookie("session")) {
    ///     ("/chat", Some(session)) => Ok(Acceptance::new().data(session.to_string())),
    ///     ("/chat", None) => Err(Response::new(401).body("log in first")),
    ///     _ => Err(Response::new(404)),
    /// });
    /// ```
    pub fn on_request<F>(mut self, decide: F) -> AcceptOptions
    where
        F: Fn(&Request) -> Result<Acceptance, ResponseBuilder> + Send + Sync + 'static,
    {
        self.on_request = Some(Arc::new(decide));
        self
    }

    /// Answers requests that ask for no WebSocket, on the same port, with or without TLS (default: 426): a health check, a page
    /// that connects back. The [`Request`] has any method; its body is not read, and the connection closes behind the response.
    /// For HEAD the response's body is left out, and its length stays.
    ///
    /// After such an answer accepting ends with an error of kind [`Handshake`](crate::ErrorKind::Handshake), of which
    /// [`Error::response`](crate::Error::response) is what was sent; a [`Server`](crate::Server) counts it and goes on. The hook runs
    /// as [`on_request`](AcceptOptions::on_request) does, and what cannot be sent is answered with 500 as there.
    ///
    /// ```
    /// use wsync::{AcceptOptions, Response};
    ///
    /// let options = AcceptOptions::new().on_http(|request| match (request.method(), request.path()) {
    ///     ("GET" | "HEAD", "/health") => Response::new(200).body("ok"),
    ///     ("GET" | "HEAD", "/") => Response::new(200).header("Content-Type", "text/html").body("<h1>Hello</h1>"),
    ///     _ => Response::new(404),
    /// });
    /// ```
    pub fn on_http<F>(mut self, answer: F) -> AcceptOptions
    where
        F: Fn(&Request) -> ResponseBuilder + Send + Sync + 'static,
    {
        self.on_http = Some(Arc::new(answer));
        self
    }

    /// The pages that may connect, by their origins such as `https://example.com` (RFC 6454 §7, RFC 6455 §10.2; default: all).
    /// A browser sends the origin of the page with each upgrade, and its cookies with that: without this, any site's page can
    /// act for a user who is logged in. Another origin is refused with 403. A request without `Origin` passes: it is no
    /// browser's. Scheme, host and port must be the same, in upper or lower case. What no browser sends, such as `example.com`
    /// without a scheme or `https://example.com/` with a path, is refused as [`InvalidInput`](crate::ErrorKind::InvalidInput) when
    /// accepting. The origin is checked before [`on_request`](AcceptOptions::on_request), and not for
    /// [`on_http`](AcceptOptions::on_http).
    ///
    /// ```
    /// let options = wsync::AcceptOptions::new().allowed_origins(["https://example.com", "http://localhost:8080"]);
    /// ```
    pub fn allowed_origins<I>(mut self, origins: I) -> AcceptOptions
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.allowed_origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    /// The bound of TLS, request and answer together (default: 30 s; `None`: no bound).
    ///
    /// ```
    /// use std::time::Duration;
    /// let options = wsync::AcceptOptions::new().accept_timeout(Duration::from_secs(5));
    /// ```
    pub fn accept_timeout(mut self, timeout: impl Into<Option<Duration>>) -> AcceptOptions {
        self.accept_timeout = timeout.into();
        self
    }

    bound_setters!();

    /// Does the server's side of the opening handshake (RFC 6455 §4.2); blocks until the connection is open, at most
    /// [`accept_timeout`](AcceptOptions::accept_timeout). A request that is not a correct upgrade is answered (400, 405, 426 …)
    /// and the stream closed.
    ///
    /// ```
    /// let (ours, theirs) = wsync::Stream::pair(); // or the TcpStream of a listener
    /// # std::thread::spawn(move || wsync::WebSocket::options().connect_over("ws://localhost/", theirs));
    /// let ws = wsync::AcceptOptions::new().max_message_size(1 << 20).accept(ours)?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) before any I/O, or when what `on_request` returns cannot be sent;
    /// [`Handshake`](crate::ErrorKind::Handshake) for a request that is not a correct upgrade, saying why;
    /// [`Refused`](crate::ErrorKind::Refused) for one that `on_request` or `allowed_origins` refused;
    /// [`Tls`](crate::ErrorKind::Tls) when the TLS handshake fails; [`Timeout`](crate::ErrorKind::Timeout) when
    /// `accept_timeout` ends; [`Io`](crate::ErrorKind::Io) when the connection is lost meanwhile.
    pub fn accept(&self, stream: impl Into<Stream>) -> Result<WebSocket> {
        super::accept(self, stream.into())
    }

    /// Refuses what cannot be used, before any I/O.
    pub(super) fn check(&self) -> Result<()> {
        handshake::check_protocols(&self.protocols)?;
        self.compression.check(Role::Server)?;
        self.allowed_origins.iter().flatten().try_for_each(|origin| check_origin(origin))?;
        check_timeout("accept_timeout", self.accept_timeout)?;
        bounds::check(&self.bounds)
    }

    /// The program's decision about a request.
    pub(super) fn decide(&self, request: &Request) -> Result<Acceptance, Response> {
        if let Some(origin) = self.refused_origin(request) {
            let text = format!("pages of the origin {} may not connect (allowed_origins)", clip(origin));
            return Err(Response::new(403).body(text).into());
        }
        match &self.on_request {
            Some(decide) => decide(request).map_err(Response::from),
            None => Ok(Acceptance::new()),
        }
    }
}

impl AcceptOptions {
    /// The program's answer to a request that asks for no WebSocket; `None` if it gives none.
    pub(super) fn answer(&self, request: &Request) -> Option<Response> {
        self.on_http.as_ref().map(|answer| answer(request).into())
    }

    pub(super) fn has_answers(&self) -> bool {
        self.on_http.is_some()
    }

    /// The origin of the request that is not allowed, if there is one.
    fn refused_origin<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let allowed = self.allowed_origins.as_ref()?;
        let is_allowed = |origin: &str| allowed.iter().any(|other| other.eq_ignore_ascii_case(origin));
        request.header_all("Origin").find(|origin| !is_allowed(origin))
    }
}

/// Refuses what no browser sends as an origin (RFC 6454 §7.1): it would keep every page out.
fn check_origin(origin: &str) -> Result<()> {
    let has_host = |(scheme, host): (&str, &str)| {
        !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', '@', ' '])
    };
    if origin == "null" || origin.split_once("://").is_some_and(has_host) {
        return Ok(());
    }
    let text =
        format!("{} is no origin (allowed_origins): write it as https://example.com, without a path", clip(origin));
    Err(Error::new(ErrorKind::InvalidInput, text))
}

/// A hook that panics leaves nothing of the options half done: they are only read while accepting.
impl std::panic::UnwindSafe for AcceptOptions {}
impl std::panic::RefUnwindSafe for AcceptOptions {}

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
