//! What can be sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::prepared::Prepared;
use crate::protocol::MessageKind;

/// A message to send: what [`WebSocket::send`](crate::WebSocket::send) and the other sending methods take, by `into`.
///
/// - Text: `&str`, `String`, `Cow<str>`, `Box<str>`, `Arc<str>`, and references to each of them.
/// - Binary: `&[u8]`, `&[u8; N]`, `Vec<u8>`, `&Vec<u8>`, `Cow<[u8]>`.
/// - A message: [`Message`], `&Message`, [`&Prepared`](Prepared).
///
/// Make an `Outgoing` yourself to send one message [`uncompressed`](Outgoing::uncompressed), or parts that become one message
/// without being copied together first.
///
/// ```
/// use wsync::{Message, MessageKind, Outgoing};
/// # let (ours, theirs) = wsync::Stream::pair();
/// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
/// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
///
/// let jpeg = vec![0xff, 0xd8, 0xff];
/// ws.send("text")?;
/// ws.send(Outgoing::text("text that is not to be compressed").uncompressed())?;
/// ws.send(Outgoing::binary(&jpeg).uncompressed())?;
/// ws.send(Outgoing::binary_parts(&[b"header", &jpeg]))?;
/// # for _ in 0..3 { peer.recv()?; }
/// # assert_eq!(peer.recv()?.map(|message| message.len()), Some(9));
///
/// let outgoing = Outgoing::text_parts(&["one ", "message"]);
/// assert_eq!(outgoing.kind(), MessageKind::Text);
/// assert_eq!(outgoing.into_message(), Message::from("one message"));
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a message is sent by WebSocket::send"]
pub struct Outgoing<'a> {
    kind: MessageKind,
    payload: Payload<'a>,
    may_compress: bool,
}

#[derive(Clone)]
enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Shared(Arc<str>),
    Parts(&'a [&'a [u8]]),
    TextParts(&'a [&'a str]),
    Prepared(&'a Prepared),
}

impl<'a> Outgoing<'a> {
    /// Text (RFC 6455 §5.6).
    /// See [the example](Outgoing).
    pub fn text(text: impl Into<Cow<'a, str>>) -> Outgoing<'a> {
        text.into().into()
    }

    /// Bytes.
    /// See [the example](Outgoing).
    pub fn binary(bytes: impl Into<Cow<'a, [u8]>>) -> Outgoing<'a> {
        bytes.into().into()
    }

    /// One binary message of these parts in their order, such as a header and a payload. Sending more than `isize::MAX` bytes is
    /// an error of kind [`InvalidInput`](crate::ErrorKind::InvalidInput).
    /// See [the example](Outgoing).
    pub fn binary_parts(parts: &'a [&'a [u8]]) -> Outgoing<'a> {
        Outgoing::new(MessageKind::Binary, Payload::Parts(parts))
    }

    /// One text message of these parts in their order, with the same bound.
    /// See [the example](Outgoing).
    pub fn text_parts(parts: &'a [&'a str]) -> Outgoing<'a> {
        Outgoing::new(MessageKind::Text, Payload::TextParts(parts))
    }

    /// The same message, sent without compression: for payload that is compressed already, or that mixes secrets with what an
    /// attacker chooses.
    /// See [the example](Outgoing).
    pub fn uncompressed(self) -> Outgoing<'a> {
        Outgoing { may_compress: false, ..self }
    }

    fn new(kind: MessageKind, payload: Payload<'a>) -> Outgoing<'a> {
        Outgoing { kind, payload, may_compress: true }
    }

    /// Text or binary.
    /// See [the example](Outgoing).
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Whether it may be compressed.
    #[inline]
    pub(crate) fn may_compress(&self) -> bool {
        self.may_compress
    }

    /// The [`Prepared`] that this is, if it may be compressed: otherwise it is sent like any other message.
    #[inline]
    pub(crate) fn prepared(&self) -> Option<&'a Prepared> {
        match self.payload {
            Payload::Prepared(prepared) if self.may_compress => Some(prepared),
            _ => None,
        }
    }

    /// Calls `take` with the parts of the payload, in their order.
    #[inline(always)]
    pub(crate) fn with_parts<T>(&self, take: impl FnOnce(&[&[u8]]) -> T) -> T {
        match &self.payload {
            Payload::Borrowed(bytes) => take(&[bytes]),
            Payload::Owned(bytes) => take(&[bytes]),
            Payload::Shared(text) => take(&[text.as_bytes()]),
            Payload::Parts(parts) => take(parts),
            Payload::TextParts(parts) => take(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>()),
            Payload::Prepared(prepared) => take(&[prepared.message().as_bytes()]),
        }
    }

    /// Bytes of the payload. An error where they are more than `isize::MAX`, which is possible in parts, as several may be
    /// the same memory.
    #[inline]
    pub(crate) fn total_len(parts: &[&[u8]]) -> Result<usize> {
        sum_of_lengths(parts.iter().map(|part| part.len()))
    }

    /// An owned [`Message`] with this payload.
    /// See [the example](Outgoing).
    pub fn into_message(self) -> Message {
        let bytes = match self.payload {
            Payload::Owned(bytes) => bytes,
            _ => self.with_parts(|parts| parts.concat()),
        };
        match self.kind {
            // Text is made only of text, so this does not fail.
            MessageKind::Text => Message::Text(String::from_utf8(bytes).unwrap_or_default()),
            MessageKind::Binary => Message::Binary(bytes),
        }
    }
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.with_parts(|parts| Outgoing::total_len(parts).unwrap_or(usize::MAX));
        f.debug_struct("Outgoing").field("kind", &self.kind).field("len", &len).finish_non_exhaustive()
    }
}

/// At most `isize::MAX`, as for everything that lies in memory: then no sum of two lengths overflows.
#[inline]
fn sum_of_lengths(mut lengths: impl Iterator<Item = usize>) -> Result<usize> {
    let sum = lengths.try_fold(0, usize::checked_add).filter(|sum| isize::try_from(*sum).is_ok());
    sum.ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("the message is larger than {} bytes", isize::MAX)))
}

/// Text that is borrowed.
macro_rules! from_borrowed_text {
    ($($type:ty),*) => {$(
        impl<'a> From<$type> for Outgoing<'a> {
            #[inline]
            fn from(text: $type) -> Outgoing<'a> {
                Outgoing::new(MessageKind::Text, Payload::Borrowed(text.as_bytes()))
            }
        }
    )*};
}

from_borrowed_text!(&'a str, &'a &'a str, &'a String, &'a Cow<'a, str>, &'a Box<str>, &'a Arc<str>);

impl From<String> for Outgoing<'_> {
    fn from(text: String) -> Self {
        Outgoing::new(MessageKind::Text, Payload::Owned(text.into_bytes()))
    }
}

impl From<Box<str>> for Outgoing<'_> {
    fn from(text: Box<str>) -> Self {
        String::from(text).into()
    }
}

impl From<Arc<str>> for Outgoing<'_> {
    fn from(text: Arc<str>) -> Self {
        Outgoing::new(MessageKind::Text, Payload::Shared(text))
    }
}

impl<'a> From<Cow<'a, str>> for Outgoing<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl<'a> From<&'a [u8]> for Outgoing<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Outgoing::new(MessageKind::Binary, Payload::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Outgoing<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<'a> From<&'a Vec<u8>> for Outgoing<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Vec<u8>> for Outgoing<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Outgoing::new(MessageKind::Binary, Payload::Owned(bytes))
    }
}

impl<'a> From<Cow<'a, [u8]>> for Outgoing<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) => bytes.into(),
            Cow::Owned(bytes) => bytes.into(),
        }
    }
}

impl From<Message> for Outgoing<'_> {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => text.into(),
            Message::Binary(bytes) => bytes.into(),
        }
    }
}

impl<'a> From<&'a Message> for Outgoing<'a> {
    fn from(message: &'a Message) -> Self {
        Outgoing::new(message.kind(), Payload::Borrowed(message.as_bytes()))
    }
}

impl<'a> From<&'a Prepared> for Outgoing<'a> {
    fn from(prepared: &'a Prepared) -> Self {
        Outgoing::new(prepared.message().kind(), Payload::Prepared(prepared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_can_be_sent_is_text_or_binary_as_it_should_be() {
        let (string, vec, boxed, arc) = (String::from("a"), vec![97], Box::<str>::from("a"), Arc::<str>::from("a"));
        let cow = Cow::Borrowed("a");
        let text = Message::Text("a".into());
        let texts: [Outgoing<'_>; 12] = [
            "a".into(),
            (&"a").into(),
            (&string).into(),
            string.clone().into(),
            (&cow).into(),
            cow.clone().into(),
            (&boxed).into(),
            boxed.clone().into(),
            (&arc).into(),
            arc.clone().into(),
            (&text).into(),
            Outgoing::text_parts(&["", "a"]),
        ];
        for outgoing in texts {
            assert_eq!(outgoing.into_message(), text);
        }
        let binary = Message::Binary(vec.clone());
        let prepared = Prepared::from(&binary);
        let binaries: [Outgoing<'_>; 8] = [
            b"a".into(),
            (&b"a"[..]).into(),
            (&vec).into(),
            vec.clone().into(),
            Cow::Borrowed(&vec[..]).into(),
            (&binary).into(),
            (&prepared).into(),
            Outgoing::binary_parts(&[b"a", b""]),
        ];
        for outgoing in binaries {
            assert_eq!(outgoing.into_message(), binary);
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_an_error() {
        let largest = isize::MAX as usize;
        for lengths in [vec![], vec![0, 0], vec![1, 2, 3], vec![largest], vec![largest - 1, 1]] {
            assert_eq!(sum_of_lengths(lengths.iter().copied()).ok(), Some(lengths.iter().sum()));
        }
        for lengths in [vec![largest, 1], vec![largest, largest], vec![largest, largest, 2], vec![usize::MAX; 3]] {
            let error = sum_of_lengths(lengths.iter().copied()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{lengths:?}: {error}");
        }
    }

    #[test]
    fn uncompressed_is_kept_and_debug_shows_no_payload() {
        let prepared = Prepared::new("secret");
        let outgoing = Outgoing::from(&prepared);
        assert!(outgoing.may_compress() && outgoing.prepared().is_some());
        let outgoing = outgoing.uncompressed();
        assert!(!outgoing.may_compress() && outgoing.prepared().is_none());
        assert_eq!(format!("{outgoing:?}"), "Outgoing { kind: Text, len: 6, .. }");
    }
}
