//! Messages.

use std::fmt;

use crate::protocol::MessageKind;

/// A received (or owned) message (RFC 6455 §5.6).
///
/// ```
/// use wsync::{Message, MessageKind};
///
/// let message = Message::from("hi");
/// assert_eq!((message.kind(), message.is_text()), (MessageKind::Text, true));
/// assert_eq!((message.as_text(), message.as_bytes()), (Some("hi"), &b"hi"[..]));
/// assert_eq!((message.len(), message.is_empty()), (2, false));
/// assert_eq!(message.to_string(), "hi");
/// assert_eq!(message.into_text(), Ok("hi".to_string()));
///
/// let message = Message::from(b"\xff");
/// assert_eq!(message.as_text(), None);
/// assert_eq!(message.into_bytes(), [0xff]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Text; always valid UTF-8, which was checked while receiving.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// Text or binary.
    /// See [the example](Message).
    pub fn kind(&self) -> MessageKind {
        match self {
            Message::Text(_) => MessageKind::Text,
            Message::Binary(_) => MessageKind::Binary,
        }
    }

    /// Whether this is text.
    /// See [the example](Message).
    pub fn is_text(&self) -> bool {
        matches!(self, Message::Text(_))
    }

    /// The text, if it is text.
    /// See [the example](Message).
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// The payload's bytes, of either kind.
    /// See [the example](Message).
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The text, without a copy. See [the example](Message).
    ///
    /// # Errors
    /// The message itself, if it is binary.
    pub fn into_text(self) -> Result<String, Message> {
        match self {
            Message::Text(text) => Ok(text),
            Message::Binary(_) => Err(self),
        }
    }

    /// The payload's bytes, of either kind, without a copy.
    /// See [the example](Message).
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The payload's length in bytes.
    /// See [the example](Message).
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    /// See [the example](Message).
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::Text(text.into())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::Text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Message {
        Message::Binary(bytes.into())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::Binary(bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Message {
        Message::Binary(bytes.to_vec())
    }
}

impl From<&Message> for Message {
    fn from(message: &Message) -> Message {
        message.clone()
    }
}

impl From<&String> for Message {
    fn from(text: &String) -> Message {
        Message::Text(text.clone())
    }
}

impl From<&Vec<u8>> for Message {
    fn from(bytes: &Vec<u8>) -> Message {
        Message::Binary(bytes.clone())
    }
}

impl TryFrom<Message> for String {
    /// The message, which is binary.
    type Error = Message;

    fn try_from(message: Message) -> Result<String, Message> {
        message.into_text()
    }
}

impl From<Message> for Vec<u8> {
    fn from(message: Message) -> Vec<u8> {
        message.into_bytes()
    }
}

/// Text as it is; of a binary message, how long it is.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Text(text) => f.write_str(text),
            Message::Binary(bytes) => write!(f, "<{} bytes>", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_converts_to_what_it_is() {
        assert_eq!(String::try_from(Message::from("hi")), Ok("hi".to_string()));
        assert_eq!(Message::from(b"hi").into_text(), Err(Message::Binary(b"hi".to_vec())));
        assert_eq!(Vec::from(Message::from("hi")), b"hi");
        assert_eq!((Message::from("hi").as_text(), Message::from(b"hi").as_text()), (Some("hi"), None));
        assert_eq!(format!("{} {}", Message::from("hi"), Message::from(b"hi")), "hi <2 bytes>");
    }
}
