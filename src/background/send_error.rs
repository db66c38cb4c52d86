//! A message that was not taken.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::message::Message;

/// A message that [`Background::send`](crate::Background::send) did not take, and why. By `?` it becomes an [`Error`], and the
/// message is dropped.
///
/// ```
/// use wsync::{Background, Message};
///
/// let chat = Background::options().send_capacity(1).connect("ws://127.0.0.1:1/", || {})?;
/// chat.send("the first waits for a connection")?;
/// let error = chat.send("no room").unwrap_err();
/// assert_eq!(error.kind(), wsync::ErrorKind::WouldBlock);
/// assert_eq!(error.into_message(), Message::from("no room"));
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Clone)]
pub struct SendError(Box<Refused>);

#[derive(Clone)]
struct Refused {
    message: Message,
    error: Error,
}

impl SendError {
    pub(super) fn new(message: Message, kind: ErrorKind, text: &str) -> SendError {
        SendError(Box::new(Refused { message, error: Error::new(kind, text) }))
    }

    /// [`WouldBlock`](ErrorKind::WouldBlock) when the queue is full, [`Closed`](ErrorKind::Closed) after a close or the end. See
    /// [the example](SendError).
    pub fn kind(&self) -> ErrorKind {
        self.0.error.kind()
    }

    /// The message. See [the example](SendError).
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// The message, to be sent later or kept. See [the example](SendError).
    pub fn into_message(self) -> Message {
        self.0.message
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Error {
        error.0.error
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.error.fmt(f)
    }
}

/// Without the message, which may be large.
impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendError").field(&self.0.error).finish()
    }
}

impl std::error::Error for SendError {}
