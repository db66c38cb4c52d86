//! The data framing (RFC 6455 §5) and permessage-deflate (RFC 7692), without I/O.
//!
//! Decoder: bytes → [`frame`] → [`mask`] → [`inflate`] → [`utf8`] → the caller's [`Sink`]; [`decoder`] is the line.
//! Encoder: message → [`deflate`] → [`frame`] → [`mask`] → bytes; [`encoder`] is the line.

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

pub(crate) use {
    decoder::Decoder, deflate::Preparation, encoder::Encoder, encoder::Fragment, frame::Opcode, violation::Violation,
};

use crate::close_code::CloseCode;

/// Which side of the connection this is (RFC 6455 §1.2): the client masks what it sends, the server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that connected.
    Client,
    /// The side that accepted.
    Server,
}

/// What a message is made of (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

/// What came in, once it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FrameEvent {
    /// A message is complete: all of it is in the sink.
    Message(Kind),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The peer's close frame; without a code it was empty.
    Close(Option<(CloseCode, String)>),
}

/// The parameters of permessage-deflate that both sides agreed on (RFC 7692 §7.1); windows are base-2 logarithms, 8 to
/// 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeflateParameters {
    pub client_no_context_takeover: bool,
    pub server_no_context_takeover: bool,
    pub client_max_window_bits: u8,
    pub server_max_window_bits: u8,
}

/// What one peer may make this side do for one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecoderLimits {
    /// In bytes, after inflation.
    pub max_message_size: usize,
    /// Frames of one message.
    pub max_fragments: usize,
}

/// Where payload goes as it comes in.
pub(crate) trait Sink {
    /// A new message starts, of likely so many bytes; never many times as many as have come.
    fn begin(&mut self, kind: Kind, likely: usize);
    /// Text, already validated; never cut inside a character.
    fn text(&mut self, chunk: &str);
    fn binary(&mut self, chunk: &[u8]);
    /// How many more bytes it takes now. At 0, payload waits in the input. Text may go over by up to 3 bytes, as
    /// characters are not cut.
    fn room(&self) -> usize {
        usize::MAX
    }
}
