//! The one error type: what went wrong, at which stage, and how to fix it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::close_code::CloseCode;
use crate::http::{HeadError, Response};
use crate::protocol::Violation;

/// What the calls of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// [`kind`](Error::kind) is what a program decides by; the text is for people: it names the host, the stage, the header
/// or the offending value, and where there is one, the fix. It never shows credentials. `Debug` prints the same text
/// with the kind in front, so that `fn main() -> wsync::Result<()>` ends with a readable line.
///
/// An error is a cheap handle (one pointer) and can be cloned: [`recv`](crate::WebSocket::recv) returns the same one again
/// after a connection was lost.
///
/// ```
/// let error = wsync::WebSocket::connect("http://example.com/").unwrap_err();
/// assert_eq!(error.kind(), wsync::ErrorKind::Url);
/// assert!(error.to_string().contains("ws://"));
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    response: Option<Response>,
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The URL cannot be connected to: scheme, host, port or a fragment. Nothing was sent.
    Url,
    /// An option or argument is not usable: a header, a subprotocol, a close code, a ping over 125 bytes. Nothing was sent.
    Options,
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
    /// A bound of time was reached. After [`recv_timeout`](crate::WebSocket::recv_timeout) and
    /// [`try_recv`](crate::WebSocket::try_recv) the connection is still usable, and nothing is lost.
    Timeout,
    /// The peer broke the protocol; it was sent close code 1002 or 1008.
    Protocol,
    /// The peer sent text that is not UTF-8; it was sent close code 1007.
    Utf8,
    /// The peer sent a message over the limit; it was sent close code 1009.
    TooBig,
    /// This side has closed or aborted the connection, or its sending side has failed before.
    Closed,
    /// The connection was lost.
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner { kind, message: message.into(), source: None, response: None }))
    }

    /// An error with a cause, whose text becomes the end of this one's: most programs print only the outermost error.
    pub(crate) fn caused(
        kind: ErrorKind,
        message: impl fmt::Display,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let source = source.into();
        Error(Arc::new(Inner { kind, message: format!("{message}: {source}"), source: Some(source), response: None }))
    }

    pub(crate) fn rejected(kind: ErrorKind, message: impl Into<String>, response: Response) -> Error {
        Error(Arc::new(Inner { kind, message: message.into(), source: None, response: Some(response) }))
    }

    /// This error with text in front, and perhaps of another kind. Its response stays.
    pub(crate) fn in_context(self, kind: ErrorKind, context: impl fmt::Display) -> Error {
        let (message, response) = (format!("{context}: {self}"), self.0.response.clone());
        Error(Arc::new(Inner { kind, message, source: Some(Box::new(self)), response }))
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's (or proxy's) HTTP answer, for kind [`Rejected`](ErrorKind::Rejected) and where else one was read.
    pub fn response(&self) -> Option<&Response> {
        self.0.response.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// What the caller is told of a head that is not HTTP/1.1.
impl From<HeadError> for Error {
    fn from(error: HeadError) -> Error {
        let hint = match error {
            HeadError::Tls { sender: "client" } => ": accept it with TLS, or let it use ws://",
            HeadError::Tls { .. } => ": use wss://",
            HeadError::Malformed(_) => "",
        };
        Error::new(ErrorKind::Handshake, format!("{error}{hint}"))
    }
}

/// What the caller is told of a peer that broke the protocol; the peer is told [`Violation::close_code`].
impl From<Violation> for Error {
    fn from(violation: Violation) -> Error {
        let code = violation.close_code();
        let kind = match code {
            CloseCode::INVALID_PAYLOAD_DATA => ErrorKind::Utf8,
            CloseCode::MESSAGE_TOO_BIG => ErrorKind::TooBig,
            _ => ErrorKind::Protocol,
        };
        Error::new(kind, format!("the peer broke the protocol (answered with close code {code}): {violation}"))
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        let kind = match error.kind() {
            ErrorKind::Url | ErrorKind::Options => std::io::ErrorKind::InvalidInput,
            ErrorKind::Timeout => std::io::ErrorKind::TimedOut,
            ErrorKind::Closed => std::io::ErrorKind::NotConnected,
            ErrorKind::Protocol | ErrorKind::Utf8 | ErrorKind::TooBig | ErrorKind::Handshake => {
                std::io::ErrorKind::InvalidData
            }
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, error)
    }
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
        assert_eq!(error.source().unwrap().to_string(), "reset");
        assert_eq!(error.clone().kind(), ErrorKind::Connect);
        assert_eq!(std::io::Error::from(error.clone()).kind(), std::io::ErrorKind::Other);
        let outer = error.in_context(ErrorKind::Proxy, "through a proxy");
        assert_eq!(format!("{outer:?}"), "Proxy: through a proxy: cannot connect to example.com:80: reset");
        assert_eq!(outer.source().unwrap().to_string(), "cannot connect to example.com:80: reset");
    }
}
