//! The data framing (RFC 6455 §5) and permessage-deflate (RFC 7692), without I/O.
//!
//! [`decoder`]: bytes → [`frame`] → [`mask`] → [`inflate`] → [`utf8`] → the caller's [`Sink`].
//! [`encoder`]: message → [`deflate`] → [`frame`] → [`mask`] → bytes.

mod decoder;
mod deflate;
mod encoder;
pub(crate) mod frame;
mod inflate;
pub(crate) mod mask;
mod utf8;
mod violation;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, WholeMessage};
pub use deflate::Preparation;
#[cfg(any(wsync_internals, fuzzing))]
pub use encoder::Encoding;
pub use encoder::{Fin, Fragment, FrameEncoder, MessageCompressor};
pub use frame::Opcode;
pub use mask::Mask;
pub use violation::Violation;

use crate::close_code::CloseCode;

/// Which side of the connection this is (RFC 6455 §1.2): the client masks what it sends, the server does not.
/// See the example of [`Upgraded`](crate::Upgraded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that connected.
    Client,
    /// The side that accepted.
    Server,
}

/// The type of a message's data (RFC 6455 §5.6). See the example of [`Message`](crate::Message).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

/// A complete message or control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// All of the message is in the sink.
    Message(MessageKind),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The peer's close frame; without a code it was empty.
    Close(Option<(CloseCode, String)>),
}

/// The parameters of permessage-deflate that both sides agreed on (RFC 7692 §7.1); windows are base-2 logarithms, 8 to
/// 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParameters {
    pub client_no_context_takeover: bool,
    pub server_no_context_takeover: bool,
    pub client_max_window_bits: u8,
    pub server_max_window_bits: u8,
}

/// Limits of one message. They are 64 bits wide on every machine: a message that is received in parts can be larger than
/// memory.
#[derive(Clone, Copy, Debug)]
pub struct DecoderLimits {
    /// In bytes, after inflation.
    pub max_message_size: u64,
    /// How many frames a message may have beyond one for every [`BYTES_PER_FRAGMENT`] of it. So the number of frames is not
    /// limited by itself: only tiny ones are, which cost more than they carry.
    pub max_fragments: u64,
}

/// The fragment size from which on a message may have any number of fragments: at 16 bytes half of the bytes on the wire or
/// more are payload.
pub const BYTES_PER_FRAGMENT: u64 = 16;

/// Takes the payload of messages as it is decoded.
pub trait Sink {
    /// A new message starts. `likely` is its size as far as it can be trusted: a small multiple of what has arrived.
    fn begin(&mut self, kind: MessageKind, likely: usize);
    /// Validated text, never cut inside a character.
    fn text(&mut self, chunk: &str);
    fn binary(&mut self, chunk: &[u8]);
    /// How many more bytes it takes now. At 0, payload stays in the input. Text may exceed it by up to 3 bytes, as
    /// characters are not cut.
    fn room(&self) -> usize {
        usize::MAX
    }
}
