//! What a reader's thread has to tell.

use std::fmt;
use std::time::Duration;

use crate::close_code::CloseCode;
use crate::error::Error;
use crate::message::Message;
use crate::websocket::WebSocket;

/// What happened to a connection that a thread of this crate receives from.
///
/// From [`spawn_reader`](WebSocket::spawn_reader) and [`WebSocket::events`] come messages and the end; a
/// [`Background`](crate::Background) connection has more to tell. The [`End`](Event::End) comes once, and nothing after
/// it.
///
/// ```
/// use wsync::{End, Event};
///
/// fn show(event: Event) {
///     match event {
///         Event::Open(ws) => println!("connected to {:?}", ws.peer_addr()),
///         Event::Message(message) => println!("{message:?}"),
///         Event::Reconnecting { cause, delay, .. } => println!("{cause}; again in {delay:?}"),
///         Event::End(End::Closed { code, reason }) => println!("closed with {code}: {reason}"),
///         Event::End(End::Failed(error)) => println!("lost: {error}"),
///         _ => {}
///     }
/// }
/// # show(Event::Message("hi".into()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection in the background is open, for the first time or again. The handle is for what it knows: the
    /// [`protocol`](WebSocket::protocol), the [`latency`](WebSocket::latency) and so on. Its `send` blocks, and its `recv`
    /// takes messages away from the events.
    Open(WebSocket),
    /// A message came.
    Message(Message),
    /// A connection in the background was lost or did not come about, and will be tried again.
    Reconnecting {
        /// How many attempts there have been since the last stable connection, with the one to come.
        attempt: u32,
        /// How long until that attempt.
        delay: Duration,
        /// Why it is needed.
        cause: End,
    },
    /// It is over: the last event.
    End(End),
}

/// How a connection ended.
///
/// ```
/// # use wsync::{CloseCode, End};
/// let end = End::Closed { code: CloseCode::NORMAL, reason: "bye".into() };
/// assert_eq!(end.to_string(), "closed with 1000 normal closure: bye");
/// ```
#[derive(Clone, Debug)]
pub enum End {
    /// Cleanly: the peer's close frame came, of its own accord or as the answer to ours.
    Closed {
        /// Its code; 1005 if it had none.
        code: CloseCode,
        /// Its reason, which may be empty.
        reason: String,
    },
    /// In any other way: the error is what [`recv`](WebSocket::recv) returns, or
    /// [`connect`](crate::ConnectOptions::connect). Of kind [`Closed`](crate::ErrorKind::Closed) when this side gave up: it
    /// was aborted, was closed before it was open, or a function of the program panicked.
    Failed(Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed { code, reason } if reason.is_empty() => write!(f, "closed with {code}"),
            End::Closed { code, reason } => write!(f, "closed with {code}: {}", reason.escape_debug()),
            End::Failed(error) => error.fmt(f),
        }
    }
}
