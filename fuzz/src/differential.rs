//! The same bytes to our decoder and to tungstenite's: both read the same, and both refuse the same.

use std::io::{Cursor, Read, Write};

use tungstenite::protocol::{CloseFrame, Role as TheirRole, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket, error::ProtocolError};

use wsync::internals::{Decoder, DecoderLimits, FrameEvent, Violation};
use wsync::{CloseCode, MessageKind as Kind, Role};

use crate::Bytes;
use crate::frames::{Got, read};

const LIMITS: DecoderLimits = DecoderLimits { max_message_size: 4096, max_fragments: u64::MAX };

pub fn tungstenite(data: &[u8]) {
    let mut data = Bytes(data);
    let (role, their_role) = match data.byte() & 1 {
        0 => (Role::Client, TheirRole::Client),
        _ => (Role::Server, TheirRole::Server),
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMITS.max_message_size as usize))
        .max_frame_size(Some(LIMITS.max_message_size as usize))
        .read_buffer_size(4096);
    let mut theirs = WebSocket::from_raw_socket(Incoming(Cursor::new(data.0)), their_role, Some(config));
    for ours in read(Decoder::new(role, LIMITS, None), data.0, &[usize::MAX], &[usize::MAX], LIMITS) {
        match (&ours, theirs.read()) {
            // tungstenite accepts what RFC 6455 forbids (§5.2, §7.4): a length in more bytes than it needs (of a control frame,
            // we refuse it as too long), and close codes that must not be sent.
            (
                Got::Violation(Violation::PaddedLength(_) | Violation::LongControl(_) | Violation::BadCloseCode(_)),
                _,
            ) => return,
            (Got::Violation(_), Err(_)) => {}
            (Got::End { .. }, Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {}
            (Got::Message(Kind::Text, ours), Ok(Message::Text(theirs))) if ours == theirs.as_bytes() => {}
            (Got::Message(Kind::Binary, ours), Ok(Message::Binary(theirs))) if ours == &theirs => {}
            (Got::Control(FrameEvent::Ping(ours)), Ok(Message::Ping(theirs))) if ours == &theirs => {}
            (Got::Control(FrameEvent::Pong(ours)), Ok(Message::Pong(theirs))) if ours == &theirs => {}
            (Got::Control(FrameEvent::Close(ours)), Ok(Message::Close(theirs))) if is_same(ours, &theirs) => {}
            (_, theirs) => panic!("ours: {ours:?}, theirs: {theirs:?}"),
        }
    }
}

fn is_same(ours: &Option<(CloseCode, String)>, theirs: &Option<CloseFrame>) -> bool {
    match (ours, theirs) {
        (None, None) => true,
        // Registered after RFC 6455; tungstenite does not know it.
        (Some((CloseCode::BAD_GATEWAY, _)), Some(_)) => true,
        (Some((code, reason)), Some(theirs)) => {
            u16::from(*code) == u16::from(theirs.code) && reason.as_str() == theirs.reason.as_str()
        }
        _ => false,
    }
}

/// A stream that ends and accepts any write.
struct Incoming<'a>(Cursor<&'a [u8]>);

impl Read for Incoming<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Incoming<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
