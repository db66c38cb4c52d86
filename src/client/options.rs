//! Options for connecting: values, their defaults and setters that can be chained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::cancel::{CancelToken, Cancellation};
use super::{Proxy, normalized_host};
use crate::arguments::check_timeout;
use crate::bounds::{self, bound_setters};
use crate::compression::Compression;
use crate::connection::ConnectionConfig;
use crate::error::Result;
use crate::handshake;
use crate::http::Response;
use crate::protocol::Role;
use crate::transport::{Stream, TlsClient};
use crate::websocket::WebSocket;
use crate::ws_url::Url;

/// How to connect: made by [`WebSocket::options`] and refined by its setters; call [`connect`](ConnectOptions::connect)
/// any number of times.
///
/// Nothing is checked before connecting: then an option that cannot be used is an
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) error that names it, before anything is sent.
///
/// ```
/// use std::time::Duration;
/// use wsync::WebSocket;
///
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let url = format!("ws://{}/", server.local_addr()?);
/// # std::thread::spawn(move || wsync::AcceptOptions::new().protocols(["v2.chat"]).accept(server.accept().unwrap().0)?.close(1000, ""));
/// let ws = WebSocket::options()
///     .protocols(["v2.chat", "v1.chat"])
///     .header("Origin", "https://example.com")
///     .connect_timeout(Duration::from_secs(5))
///     .connect(&url)?;
/// assert_eq!(ws.protocol(), Some("v2.chat"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Bounds
///
/// A time is a `Duration`, or `None` for no bound. Zero is refused as [`InvalidInput`](crate::ErrorKind::InvalidInput),
/// because nothing can keep it. Zero for [`ping_interval`](ConnectOptions::ping_interval) means the same as `None`: no pings.
///
/// ```
/// use std::time::Duration;
/// use wsync::WebSocket;
///
/// let options = WebSocket::options()
///     .connect_timeout(Duration::from_secs(10))
///     .send_timeout(Duration::from_secs(5))
///     .close_timeout(Duration::from_secs(1))
///     .ping_interval(Duration::from_secs(60))
///     .pong_timeout(Duration::from_secs(10))
///     .send_queue_limit(1 << 20)
///     .max_message_size(1 << 20);
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until `connect` is called"]
pub struct ConnectOptions {
    pub(crate) protocols: Vec<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) compression: Compression,
    pub(crate) tls: Option<TlsClient>,
    pub(crate) proxy: ProxyChoice,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) bounds: ConnectionConfig,
    pub(crate) user_agent: Option<String>,
    pub(crate) max_redirects: u32,
    pub(crate) follow: Option<Arc<Follow>>,
    pub(crate) resolve: Vec<(String, Vec<SocketAddr>)>,
    pub(crate) cancellation: Cancellation,
}

/// Whether to follow an answer's redirect to a URL.
type Follow = dyn Fn(&Response, &Url) -> bool + Send + Sync;

/// Which proxy a connection goes through.
#[derive(Clone, Debug)]
pub(crate) enum ProxyChoice {
    Environment,
    None,
    Fixed(Proxy),
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            protocols: Vec::new(),
            headers: Vec::new(),
            compression: Compression::default(),
            tls: None,
            proxy: ProxyChoice::Environment,
            connect_timeout: Some(Duration::from_secs(30)),
            bounds: ConnectionConfig::default(),
            user_agent: Some(concat!("wsync/", env!("CARGO_PKG_VERSION")).into()),
            max_redirects: 5,
            follow: None,
            resolve: Vec::new(),
            cancellation: Cancellation::default(),
        }
    }
}

impl ConnectOptions {
    /// The defaults, as each setter names them; the same as [`WebSocket::options`].
    ///
    /// ```
    /// let options = wsync::ConnectOptions::new();
    /// ```
    pub fn new() -> ConnectOptions {
        ConnectOptions::default()
    }

    /// The subprotocols to offer, the most wanted first (RFC 6455 §1.9; default: none). What the server chose is
    /// [`WebSocket::protocol`]; it may choose none.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().protocols(["v2.chat", "v1.chat"]);
    /// ```
    pub fn protocols<I>(mut self, names: I) -> ConnectOptions
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a header to the request, with the name's case as given; may be called again for the same name.
    ///
    /// What the handshake itself sets is ignored, with a line in the log: `Connection`, `Upgrade`,
    /// `Sec-WebSocket-Key`, `-Version`, `-Protocol` and `-Extensions`. A name or value that would add a line is an
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) error when connecting.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().header("Cookie", "a=1").header("Origin", "https://example.com");
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> ConnectOptions {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds headers, each as [`header`](ConnectOptions::header) does it.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().headers([("Origin", "https://example.com"), ("X-Client", "7")]);
    /// ```
    pub fn headers<N, V>(mut self, headers: impl IntoIterator<Item = (N, V)>) -> ConnectOptions
    where
        N: Into<String>,
        V: Into<String>,
    {
        self.headers.extend(headers.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Sets a header in place of all that have this name, in any case: for options that are used again with another token.
    ///
    /// ```
    /// let mut options = wsync::WebSocket::options().header("Authorization", "Bearer old");
    /// options.set_header("authorization", "Bearer new");
    /// ```
    pub fn set_header(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut ConnectOptions {
        let name = name.into();
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
        self.headers.push((name, value.into()));
        self
    }

    /// What compression to offer (default: [`Compression::default`], on).
    ///
    /// ```
    /// use wsync::{Compression, WebSocket};
    /// let options = WebSocket::options().compression(Compression::default().level(1));
    /// ```
    pub fn compression(mut self, compression: Compression) -> ConnectOptions {
        self.compression = compression;
        self
    }

    /// The TLS settings for `wss` (default: the system's roots, TLS 1.2 and newer): private roots, a client certificate,
    /// versions. Leave ALPN alone or offer only `http/1.1`: WebSocket does not run over HTTP/2 here.
    ///
    /// ```
    /// use wsync::native_tls::{Certificate, TlsConnector};
    ///
    /// # fn run(root: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    /// let connector = TlsConnector::builder().add_root_certificate(Certificate::from_pem(root)?).build()?;
    /// let ws = wsync::WebSocket::options().tls(connector).connect("wss://intranet.example/")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(mut self, tls: impl Into<TlsClient>) -> ConnectOptions {
        self.tls = Some(tls.into());
        self
    }

    /// The proxy to connect through (default: what the environment names, see [`Proxy`]).
    ///
    /// ```
    /// let options = wsync::WebSocket::options().proxy("socks5h://localhost:1080".parse()?);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn proxy(mut self, proxy: Proxy) -> ConnectOptions {
        self.proxy = ProxyChoice::Fixed(proxy);
        self
    }

    /// Connect without a proxy, whatever the environment says.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().no_proxy();
    /// ```
    pub fn no_proxy(mut self) -> ConnectOptions {
        self.proxy = ProxyChoice::None;
        self
    }

    /// The bound of resolving, TCP, proxy, TLS, the upgrade and all redirects together (default: 30 s; `None`: no bound).
    ///
    /// ```
    /// use std::time::Duration;
    /// let options = wsync::WebSocket::options().connect_timeout(Duration::from_secs(5));
    /// ```
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ConnectOptions {
        self.connect_timeout = timeout.into();
        self
    }

    bound_setters!();

    /// The `User-Agent` header (default: `wsync/` and the version). Empty: none is sent.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().user_agent("example/1.0");
    /// ```
    pub fn user_agent(mut self, name: impl Into<String>) -> ConnectOptions {
        self.user_agent = Some(name.into()).filter(|name| !name.is_empty());
        self
    }

    /// How many redirects are followed (default: 5). With 0 a redirect is [`Rejected`](crate::ErrorKind::Rejected) like any other
    /// answer.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().max_redirects(0);
    /// ```
    pub fn max_redirects(mut self, count: u32) -> ConnectOptions {
        self.max_redirects = count;
        self
    }

    /// Decides about each redirect: gets the answer and the URL that it leads to, and returns whether to follow it (default:
    /// yes). A redirect not followed is [`Rejected`](crate::ErrorKind::Rejected). One from `wss` to `ws` never gets this far, and
    /// headers with credentials are not sent to another scheme, host or port, whatever the hook says.
    ///
    /// ```
    /// use wsync::WebSocket;
    /// let options = WebSocket::options().on_redirect(|_answer, to| to.host() == "example.com");
    /// ```
    pub fn on_redirect<F>(mut self, follow: F) -> ConnectOptions
    where
        F: Fn(&Response, &Url) -> bool + Send + Sync + 'static,
    {
        self.follow = Some(Arc::new(follow));
        self
    }

    /// Connects to these addresses whenever `host` is the host, instead of resolving its name; the `Host` header and the
    /// name that TLS checks stay as they are. The port is taken from each address, unless it is 0. A proxy gets
    /// the URL's host.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().resolve("example.com", [([127, 0, 0, 1], 0).into()]);
    /// ```
    pub fn resolve(mut self, host: &str, addresses: impl Into<Vec<SocketAddr>>) -> ConnectOptions {
        self.resolve.push((normalized_host(host), addresses.into()));
        self
    }

    /// Lets another thread end the call of [`connect`](ConnectOptions::connect) or
    /// [`connect_over`](ConnectOptions::connect_over), by the token's [`cancel`](CancelToken::cancel). May be called again: each
    /// token ends it. [`CancelToken`] has an example.
    pub fn cancel_token(mut self, token: &CancelToken) -> ConnectOptions {
        self.cancellation.add(token.clone());
        self
    }

    /// Connects; blocks until the connection is open, at most [`connect_timeout`](ConnectOptions::connect_timeout). A
    /// [`cancel_token`](ConnectOptions::cancel_token) ends it early.
    ///
    /// # Errors
    /// By kind: [`Url`](crate::ErrorKind::Url) and [`InvalidInput`](crate::ErrorKind::InvalidInput) before anything is sent;
    /// [`Resolve`](crate::ErrorKind::Resolve), [`Connect`](crate::ErrorKind::Connect), [`Proxy`](crate::ErrorKind::Proxy),
    /// [`Tls`](crate::ErrorKind::Tls) for the stage that failed; [`Rejected`](crate::ErrorKind::Rejected) with
    /// [`Error::response`](crate::Error::response) for any status but 101; [`Redirect`](crate::ErrorKind::Redirect);
    /// [`Handshake`](crate::ErrorKind::Handshake) for an answer that RFC 6455 §4.1 forbids; [`Timeout`](crate::ErrorKind::Timeout) when
    /// `connect_timeout` ends; [`Cancelled`](crate::ErrorKind::Cancelled) by a token; [`Io`](crate::ErrorKind::Io) when the connection is lost meanwhile.
    ///
    /// ```no_run
    /// let options = wsync::WebSocket::options().protocols(["v1.chat"]);
    /// let ws = options.connect("wss://example.com/chat")?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn connect(&self, url: impl AsRef<str>) -> Result<WebSocket> {
        super::connect(self, url.as_ref())
    }

    /// Does the opening handshake, after TLS for `wss`, over a connected stream. No name is resolved, no proxy is used and no
    /// redirect is followed. A socket that is to have a local address, or options that the standard
    /// library does not set, can be made elsewhere and handed over here.
    ///
    /// ```
    /// let (ours, theirs) = wsync::Stream::pair(); // or a TcpStream
    /// # std::thread::spawn(move || wsync::WebSocket::accept(theirs));
    /// let ws = wsync::WebSocket::options().connect_over("ws://localhost/chat", ours)?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`connect`](ConnectOptions::connect).
    pub fn connect_over(&self, url: impl AsRef<str>, stream: impl Into<Stream>) -> Result<WebSocket> {
        super::connect_over(self, url.as_ref(), stream.into())
    }

    /// Refuses what cannot be sent, before any I/O.
    pub(crate) fn check(&self) -> Result<()> {
        handshake::check_protocols(&self.protocols)?;
        for (name, value) in &self.headers {
            handshake::check_header(name, value)?;
        }
        if let Some(name) = &self.user_agent {
            handshake::check_header("User-Agent", name)?;
        }
        self.compression.check(Role::Client)?;
        check_timeout("connect_timeout", self.connect_timeout)?;
        bounds::check(&self.bounds)
    }
}

/// A hook that panics leaves nothing of the options half done: they are only read while connecting.
impl std::panic::UnwindSafe for ConnectOptions {}
impl std::panic::RefUnwindSafe for ConnectOptions {}

impl std::fmt::Debug for ConnectOptions {
    /// Without header values: they hold cookies and tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ConnectOptions")
            .field("protocols", &self.protocols)
            .field("headers", &names)
            .field("compression", &self.compression)
            .field("proxy", &self.proxy)
            .field("connect_timeout", &self.connect_timeout)
            .field("bounds", &self.bounds)
            .field("max_redirects", &self.max_redirects)
            .finish_non_exhaustive()
    }
}
