//! The events that a thread that receives passes to the program.

use std::fmt;
use std::time::Duration;

use crate::close_code::CloseCode;
use crate::error::Error;
use crate::message::Message;
use crate::websocket::WebSocket;

/// What happened on a connection from which a thread of this crate receives.
///
/// [`spawn_reader`](WebSocket::spawn_reader) and [`WebSocket::events`] produce messages and the end; a
/// [`Background`](crate::Background) connection produces all of them. The [`End`](Event::End) comes once, as the last event.
///
/// ```
/// use wsync::{ConnectionEnd, Event};
///
/// fn show(event: Event) {
///     match event {
///         Event::Open(ws) => println!("connected to {:?}", ws.peer_addr()),
///         Event::Message(message) => println!("{message:?}"),
///         Event::Reconnecting { cause, delay, .. } => println!("{cause}; again in {delay:?}"),
///         Event::End(ConnectionEnd::Closed { code, reason }) => println!("closed with {code}: {reason}"),
///         Event::End(ConnectionEnd::Failed(error)) => println!("lost: {error}"),
///         _ => {}
///     }
/// }
/// # show(Event::Message("hi".into()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection in the background is open, for the first time or again. Use the handle to ask for the
    /// [`protocol`](WebSocket::protocol), the [`latency`](WebSocket::latency) and so on. Its `send` blocks, and messages that
    /// its `recv` returns do not become events.
    Open(WebSocket),
    /// A message came.
    Message(Message),
    /// A connection in the background was lost or could not be made, and will be tried again.
    #[non_exhaustive]
    Reconnecting {
        /// The number of the coming attempt since the last stable connection, from 1.
        attempt: u32,
        /// How long until that attempt.
        delay: Duration,
        /// Why.
        cause: ConnectionEnd,
    },
    /// The connection has ended for good: the last event.
    End(ConnectionEnd),
}

/// How a connection ended.
///
/// ```
/// # use wsync::{CloseCode, ConnectionEnd};
/// let end = ConnectionEnd::Closed { code: CloseCode::NORMAL, reason: "bye".into() };
/// assert_eq!(end.to_string(), "closed with 1000 normal closure: bye");
/// ```
#[derive(Clone, Debug)]
pub enum ConnectionEnd {
    /// Cleanly: the peer's close frame came, unasked or as the answer to ours.
    Closed {
        /// The code in it; 1005 if there was none.
        code: CloseCode,
        /// The reason in it, which may be empty.
        reason: String,
    },
    /// In any other way: the error is what [`recv`](WebSocket::recv) returns, or
    /// [`connect`](crate::ConnectOptions::connect), or that of a hook of the program. Of kind
    /// [`Closed`](crate::ErrorKind::Closed) when this side ended it: by an abort, by
    /// [`reconnect_now`](crate::Background::reconnect_now), by a close before it was open, or because a function of the program
    /// panicked.
    Failed(Error),
}

impl ConnectionEnd {
    /// Of a connection whose peer has closed.
    pub(super) fn of_closed(ws: &WebSocket) -> ConnectionEnd {
        let code = ws.close_code().unwrap_or(CloseCode::NO_STATUS_RECEIVED);
        ConnectionEnd::Closed { code, reason: ws.close_reason().unwrap_or_default().to_string() }
    }

    /// The error, unless the peer closed cleanly.
    ///
    /// ```
    /// # fn run(end: wsync::ConnectionEnd) {
    /// if end.error().and_then(wsync::Error::status) == Some(401) {
    ///     println!("log in again");
    /// }
    /// # }
    /// ```
    pub fn error(&self) -> Option<&Error> {
        match self {
            ConnectionEnd::Failed(error) => Some(error),
            ConnectionEnd::Closed { .. } => None,
        }
    }
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionEnd::Closed { code, reason } if reason.is_empty() => write!(f, "closed with {code}"),
            ConnectionEnd::Closed { code, reason } => write!(f, "closed with {code}: {}", reason.escape_debug()),
            ConnectionEnd::Failed(error) => error.fmt(f),
        }
    }
}
