//! The one error type: what went wrong, at which stage, and how to fix it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::close_code::CloseCode;
use crate::http::{HeadError, Response};
use crate::protocol::Violation;

/// What the calls of this crate return. `main` may return it, too: an error is then printed in one line.
///
/// An [`Error`] becomes a [`std::io::Error`] by `?`, but not the reverse. So a function that also reads files or the terminal
/// returns a `std::io::Result` or a `Box<dyn std::error::Error>`.
///
/// ```no_run
/// fn main() -> wsync::Result<()> {
///     wsync::WebSocket::connect("wss://example.com/")?.send("hello")
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// [`kind`](Error::kind) is what a program decides by; the text is for people: it names the host, the stage, the header
/// or the offending value, and where there is one, the fix. It never shows credentials. `Debug` prints the same text
/// with the kind in front, so that `fn main() -> wsync::Result<()>` ends with a readable line.
///
/// An error is a cheap handle and can be cloned: [`recv`](crate::WebSocket::recv) returns the same one again after a
/// connection was lost.
///
/// ```
/// let error = wsync::WebSocket::connect("http://example.com/").unwrap_err();
/// assert_eq!(error.kind(), wsync::ErrorKind::Url);
/// assert!(error.to_string().contains("ws://"));
/// ```
///
/// `Display` has the whole text, the cause's included, and `source` is what lies behind that cause, as with
/// [`std::io::Error`]: a chain of sources shows nothing twice. [`get_ref`](Error::get_ref) is the cause itself.
#[derive(Clone)]
pub struct Error(Repr);

#[derive(Clone)]
enum Repr {
    Shared(Arc<Inner>),
    /// Nothing came in time. Made often, so it allocates nothing.
    NothingYet {
        kind: ErrorKind,
        bound: &'static str,
        micros: u64,
    },
}

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    response: Option<Response>,
}

/// What sort of failure an [`Error`] is. More may be added, so a `match` needs an arm for all others.
///
/// ```
/// use wsync::{ErrorKind, WebSocket};
///
/// let error = WebSocket::options().no_proxy().connect("ws://127.0.0.1:1/").unwrap_err(); // nobody listens there
/// let again = match error.kind() {
///     ErrorKind::Connect | ErrorKind::Resolve | ErrorKind::Timeout | ErrorKind::Io => true,
///     _ => false,
/// };
/// assert!(again, "{error}");
/// assert_eq!(error.kind().to_string(), "not connected");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The URL cannot be connected to: scheme, host, port or a fragment, or `wss` without the feature `native-tls`. Nothing was
    /// sent.
    Url,
    /// An option or argument is not usable: a header, a subprotocol, a close code, a ping over 125 bytes, a message of more than
    /// `isize::MAX` bytes in parts, or a call that would wait for its own thread. Nothing was sent; but where [`on_request`](crate::AcceptOptions::on_request) returns what cannot
    /// be sent, the client is answered with 500.
    InvalidInput,
    /// The host's name did not resolve to an address.
    Resolve,
    /// No TCP connection came about.
    Connect,
    /// The TLS handshake failed: the certificate, the host name, the versions, or the peer does not speak TLS.
    Tls,
    /// The proxy could not be reached, refused, or did not speak its protocol.
    Proxy,
    /// The server answered the upgrade with another status than 101; [`Error::response`] has it.
    Rejected,
    /// A redirect led nowhere: too many, to another scheme, or without a usable target.
    Redirect,
    /// The peer's side of the opening handshake is not what RFC 6455 §4 asks for.
    Handshake,
    /// This side refused the client's request, by [`AcceptOptions::on_request`](crate::AcceptOptions::on_request) or
    /// [`allowed_origins`](crate::AcceptOptions::allowed_origins); [`Error::response`] is what it sent.
    Refused,
    /// A bound of time was reached. From a receiving call it always means: nothing yet, and the connection is still usable.
    /// From `connect`, `accept`, `send` and `close` the text says which bound, and what was waited for.
    Timeout,
    /// The call was ended by a [`CancelToken`](crate::CancelToken).
    Cancelled,
    /// A function that the program has passed failed: [`Error::other`] makes such errors.
    Other,
    /// A call that never waits could do nothing now: [`try_recv`](crate::WebSocket::try_recv) found no message, or
    /// [`try_send`](crate::WebSocket::try_send) a full queue or a message that is being sent in parts. A later one may.
    WouldBlock,
    /// No pong came in time: the connection was dropped, and its close code is 1001 (see
    /// [`ping_interval`](crate::ConnectOptions::ping_interval)).
    Unresponsive,
    /// The peer broke the protocol; it was sent close code 1002 or 1008.
    Protocol,
    /// The peer sent text that is not UTF-8; it was sent close code 1007.
    Utf8,
    /// The peer sent a message over the limit; it was sent close code 1009.
    TooBig,
    /// This side has closed or aborted the connection, or its sending side has failed before.
    Closed,
    /// The connection was lost, and its close code is 1006. Also when the system gives no thread, no random bytes or no
    /// address.
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Repr::Shared(Arc::new(Inner { kind, message: message.into(), source: None, response: None })))
    }

    /// An error of the program's own, of kind [`Other`](ErrorKind::Other): for functions that it passes to this crate, such as
    /// [`before_connect`](crate::BackgroundOptions::before_connect).
    ///
    /// ```
    /// let error = wsync::Error::other("no token in the keyring");
    /// assert_eq!((error.kind(), error.to_string()), (wsync::ErrorKind::Other, "no token in the keyring".to_string()));
    /// ```
    pub fn other(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let source = error.into();
        let message = source.to_string();
        Error(Repr::Shared(Arc::new(Inner { kind: ErrorKind::Other, message, source: Some(source), response: None })))
    }

    /// An error with a cause, whose text becomes the end of this one's: most programs print only the outermost error.
    pub(crate) fn caused(
        kind: ErrorKind,
        message: impl fmt::Display,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let source = source.into();
        let message = format!("{message}: {source}");
        Error(Repr::Shared(Arc::new(Inner { kind, message, source: Some(source), response: None })))
    }

    pub(crate) fn with_response(kind: ErrorKind, message: impl Into<String>, response: Response) -> Error {
        Error(Repr::Shared(Arc::new(Inner { kind, message: message.into(), source: None, response: Some(response) })))
    }

    /// No message came within a bound. Allocates nothing.
    pub(crate) fn nothing_yet(kind: ErrorKind, bound: &'static str, length: Duration) -> Error {
        Error(Repr::NothingYet { kind, bound, micros: u64::try_from(length.as_micros()).unwrap_or(u64::MAX) })
    }

    /// This error with text in front, and perhaps of another kind. Its response stays.
    pub(crate) fn in_context(self, kind: ErrorKind, context: impl fmt::Display) -> Error {
        let (message, response) = (format!("{context}: {self}"), self.response().cloned());
        Error(Repr::Shared(Arc::new(Inner { kind, message, source: Some(Box::new(self)), response })))
    }

    fn inner(&self) -> Option<&Inner> {
        match &self.0 {
            Repr::Shared(inner) => Some(inner),
            Repr::NothingYet { .. } => None,
        }
    }

    /// What sort of failure this is.
    ///
    /// ```
    /// let error = wsync::WebSocket::connect("example.com").unwrap_err();
    /// assert_eq!(error.kind(), wsync::ErrorKind::Url);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            Repr::Shared(inner) => inner.kind,
            Repr::NothingYet { kind, .. } => *kind,
        }
    }

    /// Whether the kind is [`Timeout`](ErrorKind::Timeout): after a receiving call, that nothing came yet.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// match ws.recv_timeout(std::time::Duration::from_millis(10)) {
    ///     Err(error) if error.is_timeout() => println!("nothing yet"),
    ///     result => println!("{:?}", result?),
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// The server's (or proxy's) HTTP answer, for kind [`Rejected`](ErrorKind::Rejected) and where else one was read. Of a server,
    /// the answer that it sent in place of a 101.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # std::thread::spawn(move || {
    /// #     let full = |_: &wsync::Request| Err(wsync::Response::new(429).header("Retry-After", "60"));
    /// #     wsync::AcceptOptions::new().on_request(full).accept(theirs)
    /// # });
    /// let error = wsync::WebSocket::options().connect_over("ws://localhost/", ours).unwrap_err();
    /// if let Some(wait) = error.response().and_then(|response| response.header("Retry-After")) {
    ///     println!("again in {wait} s");
    /// }
    /// ```
    pub fn response(&self) -> Option<&Response> {
        self.inner()?.response.as_ref()
    }

    /// The status of that answer, such as 429.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # std::thread::spawn(move || {
    /// #     let full = |_: &wsync::Request| Err(wsync::Response::new(429).header("Retry-After", "60"));
    /// #     wsync::AcceptOptions::new().on_request(full).accept(theirs)
    /// # });
    /// let error = wsync::WebSocket::options().connect_over("ws://localhost/", ours).unwrap_err();
    /// assert_eq!(error.status(), Some(429));
    /// ```
    pub fn status(&self) -> Option<u16> {
        self.response().map(Response::status)
    }

    /// The cause, such as an [`std::io::Error`], if there is one. Its text is the end of this error's.
    ///
    /// ```
    /// let error = wsync::WebSocket::options().no_proxy().connect("ws://127.0.0.1:1/").unwrap_err(); // nobody listens there
    /// let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    /// assert_eq!(cause.map(|cause| cause.kind()), Some(std::io::ErrorKind::ConnectionRefused));
    /// ```
    pub fn get_ref(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.inner()?.source.as_deref()
    }
}

/// An error is not changed after it was made, so a panic leaves none half done.
impl std::panic::UnwindSafe for Error {}
impl std::panic::RefUnwindSafe for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Shared(inner) => f.write_str(&inner.message),
            Repr::NothingYet { kind: ErrorKind::WouldBlock, bound, .. } => write!(f, "no message is there ({bound})"),
            Repr::NothingYet { bound, micros, .. } => {
                write!(f, "no message came within {:?} ({bound})", Duration::from_micros(*micros))
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.get_ref()?.source()
    }
}

/// In words, such as "timeout".
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ErrorKind::Url => "invalid URL",
            ErrorKind::InvalidInput => "invalid input",
            ErrorKind::Resolve => "name not resolved",
            ErrorKind::Connect => "not connected",
            ErrorKind::Tls => "TLS failed",
            ErrorKind::Proxy => "proxy failed",
            ErrorKind::Rejected => "rejected by the server",
            ErrorKind::Redirect => "redirect not followed",
            ErrorKind::Handshake => "invalid opening handshake",
            ErrorKind::Refused => "refused by this side",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Other => "other error",
            ErrorKind::WouldBlock => "would block",
            ErrorKind::Unresponsive => "peer unresponsive",
            ErrorKind::Protocol => "protocol violation",
            ErrorKind::Utf8 => "invalid UTF-8",
            ErrorKind::TooBig => "message too big",
            ErrorKind::Closed => "closed",
            ErrorKind::Io => "connection lost",
        })
    }
}

// These two are `Into`, because the compiler lists what is `From` to a user whose `?` does not fit, and the types are private.

/// What the caller is told of a head that is not HTTP/1.1.
#[allow(clippy::from_over_into)]
impl Into<Error> for HeadError {
    fn into(self) -> Error {
        let hint = match self {
            HeadError::Tls { sender: "client" } => ": accept it with TLS, or let it use ws://",
            HeadError::Tls { .. } => ": use wss://",
            HeadError::Malformed(_) => "",
        };
        Error::new(ErrorKind::Handshake, format!("{self}{hint}"))
    }
}

/// What the caller is told of a peer that broke the protocol; the peer is told [`Violation::close_code`].
#[allow(clippy::from_over_into)]
impl Into<Error> for Violation {
    fn into(self) -> Error {
        let code = self.close_code();
        let kind = match code {
            CloseCode::INVALID_PAYLOAD_DATA => ErrorKind::Utf8,
            CloseCode::MESSAGE_TOO_BIG => ErrorKind::TooBig,
            _ => ErrorKind::Protocol,
        };
        Error::new(kind, format!("the peer broke the protocol (answered with close code {code}): {self}"))
    }
}

/// The kind is that of the first [`std::io::Error`] among the causes, or the nearest one.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        use std::io::ErrorKind as IoKind;
        let kind = io_cause(&error).unwrap_or(match error.kind() {
            ErrorKind::Url | ErrorKind::InvalidInput => IoKind::InvalidInput,
            ErrorKind::Timeout | ErrorKind::Unresponsive => IoKind::TimedOut,
            ErrorKind::WouldBlock => IoKind::WouldBlock,
            ErrorKind::Cancelled => IoKind::Interrupted,
            ErrorKind::Closed => IoKind::NotConnected,
            ErrorKind::Protocol | ErrorKind::Utf8 | ErrorKind::TooBig | ErrorKind::Handshake => IoKind::InvalidData,
            ErrorKind::Resolve => IoKind::NotFound,
            ErrorKind::Connect
            | ErrorKind::Tls
            | ErrorKind::Proxy
            | ErrorKind::Rejected
            | ErrorKind::Redirect
            | ErrorKind::Refused
            | ErrorKind::Other
            | ErrorKind::Io => IoKind::Other,
        });
        std::io::Error::new(kind, error)
    }
}

/// The kind of the first [`std::io::Error`] among the causes.
fn io_cause(error: &Error) -> Option<std::io::ErrorKind> {
    let mut cause = error.get_ref().map(|cause| cause as &(dyn StdError + 'static));
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        // `source` of an `Error` leaves out the cause itself.
        cause = match error.downcast_ref::<Error>() {
            Some(error) => error.get_ref().map(|cause| cause as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small_shared_and_readable() {
        assert!(size_of::<Error>() <= 32);
        let cause = std::io::Error::other("reset");
        let error = Error::caused(ErrorKind::Connect, "cannot connect to example.com:80", cause);
        assert_eq!(error.to_string(), "cannot connect to example.com:80: reset");
        assert_eq!(format!("{error:?}"), "Connect: cannot connect to example.com:80: reset");
        assert_eq!(error.get_ref().unwrap().to_string(), "reset");
        assert!(error.source().is_none(), "its text is in this error's");
        assert_eq!(error.clone().kind(), ErrorKind::Connect);
        assert_eq!(std::io::Error::from(error.clone()).kind(), std::io::ErrorKind::Other);
        let outer = error.in_context(ErrorKind::Proxy, "through a proxy");
        assert_eq!(format!("{outer:?}"), "Proxy: through a proxy: cannot connect to example.com:80: reset");
        assert_eq!(outer.get_ref().unwrap().to_string(), "cannot connect to example.com:80: reset");
    }

    /// They would be listed by the compiler's errors about `?`.
    #[test]
    fn no_private_type_is_from() {
        struct Probe<T>(std::marker::PhantomData<T>);
        trait Otherwise {
            const IS_FROM: bool = false;
        }
        impl<T> Otherwise for Probe<T> {}
        impl<T> Probe<T>
        where
            Error: From<T>,
        {
            const IS_FROM: bool = true;
        }
        let are = [Probe::<HeadError>::IS_FROM, Probe::<Violation>::IS_FROM, Probe::<Error>::IS_FROM];
        assert_eq!(are, [false, false, true]);
    }

    #[test]
    fn an_io_error_keeps_the_kind_of_the_cause() {
        use std::io::ErrorKind as IoKind;
        let caused = |kind: IoKind| Error::caused(ErrorKind::Io, "lost", std::io::Error::from(kind));
        assert_eq!(std::io::Error::from(caused(IoKind::ConnectionReset)).kind(), IoKind::ConnectionReset);
        let outer = caused(IoKind::ConnectionRefused).in_context(ErrorKind::Proxy, "through a proxy");
        assert_eq!(std::io::Error::from(outer).kind(), IoKind::ConnectionRefused);
        let foreign = String::from_utf8(vec![0xff]).unwrap_err();
        let without = Error::caused(ErrorKind::Timeout, "late", foreign);
        assert_eq!(std::io::Error::from(without).kind(), IoKind::TimedOut, "no cause is of the system");
        let kinds = [
            (ErrorKind::InvalidInput, IoKind::InvalidInput),
            (ErrorKind::Timeout, IoKind::TimedOut),
            (ErrorKind::WouldBlock, IoKind::WouldBlock),
            (ErrorKind::Cancelled, IoKind::Interrupted),
            (ErrorKind::Closed, IoKind::NotConnected),
            (ErrorKind::Utf8, IoKind::InvalidData),
            (ErrorKind::Resolve, IoKind::NotFound),
            (ErrorKind::Rejected, IoKind::Other),
        ];
        for (kind, expected) in kinds {
            assert_eq!(std::io::Error::from(Error::new(kind, "")).kind(), expected);
        }
    }

    #[test]
    fn a_kind_in_words() {
        let kinds = [
            (ErrorKind::Url, "invalid URL"),
            (ErrorKind::InvalidInput, "invalid input"),
            (ErrorKind::Resolve, "name not resolved"),
            (ErrorKind::Connect, "not connected"),
            (ErrorKind::Tls, "TLS failed"),
            (ErrorKind::Proxy, "proxy failed"),
            (ErrorKind::Rejected, "rejected by the server"),
            (ErrorKind::Redirect, "redirect not followed"),
            (ErrorKind::Handshake, "invalid opening handshake"),
            (ErrorKind::Refused, "refused by this side"),
            (ErrorKind::Timeout, "timeout"),
            (ErrorKind::Cancelled, "cancelled"),
            (ErrorKind::Other, "other error"),
            (ErrorKind::WouldBlock, "would block"),
            (ErrorKind::Unresponsive, "peer unresponsive"),
            (ErrorKind::Protocol, "protocol violation"),
            (ErrorKind::Utf8, "invalid UTF-8"),
            (ErrorKind::TooBig, "message too big"),
            (ErrorKind::Closed, "closed"),
            (ErrorKind::Io, "connection lost"),
        ];
        for (kind, words) in kinds {
            assert_eq!(kind.to_string(), words);
        }
    }

    #[test]
    fn nothing_yet_says_which_bound() {
        let error = Error::nothing_yet(ErrorKind::Timeout, "recv_timeout", Duration::from_millis(1500));
        assert_eq!(format!("{error:?}"), "Timeout: no message came within 1.5s (recv_timeout)");
        assert!(error.is_timeout() && error.response().is_none() && error.source().is_none());
        let error = Error::nothing_yet(ErrorKind::WouldBlock, "try_recv", Duration::ZERO);
        assert_eq!(error.to_string(), "no message is there (try_recv)");
    }
}
