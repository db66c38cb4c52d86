//! Vectors for the whole line, each fed whole, byte by byte and split at every position, to both roles; and round trips.

use proptest::prelude::*;

use super::*;
use crate::error::{Error, ErrorKind};

mod deflate;
mod frames;
mod round_trip;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMITS: DecoderLimits = DecoderLimits { max_message_size: 70_000, max_fragments: 100 };
const AGREED: DeflateParameters = DeflateParameters {
    client_no_context_takeover: false,
    server_no_context_takeover: false,
    client_max_window_bits: 15,
    server_max_window_bits: 15,
};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Out {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

fn text(text: &str) -> Out {
    Out::Text(text.into())
}

/// Collects a message; takes `portion` bytes at a time.
struct Collector {
    kind: MessageKind,
    bytes: Vec<u8>,
    portion: usize,
    left: usize,
}

impl Sink for Collector {
    fn begin(&mut self, kind: MessageKind, _: usize) {
        self.kind = kind;
        self.bytes.clear();
    }
    fn text(&mut self, chunk: &str) {
        assert_eq!(self.kind, MessageKind::Text);
        self.bytes.extend_from_slice(chunk.as_bytes());
        self.left = self.left.saturating_sub(chunk.len());
    }
    fn binary(&mut self, chunk: &[u8]) {
        assert_eq!(self.kind, MessageKind::Binary);
        assert!(chunk.len() <= self.left);
        self.bytes.extend_from_slice(chunk);
        self.left -= chunk.len();
    }
    fn room(&self) -> usize {
        self.left
    }
}

/// A decoder with what came out of it.
struct Reader {
    decoder: Decoder,
    sink: Collector,
    out: Vec<Out>,
    violation: Option<Violation>,
}

impl Reader {
    fn new(role: Role, limits: DecoderLimits, deflate: Option<DeflateParameters>, room: usize) -> Reader {
        let sink = Collector { kind: MessageKind::Binary, bytes: Vec::new(), portion: room, left: room };
        Reader { decoder: Decoder::new(role, limits, deflate), sink, out: Vec::new(), violation: None }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut input = bytes.to_vec();
        let mut start = 0;
        loop {
            let (taken, result) = self.decoder.next(&mut input[start..], &mut self.sink);
            start += taken;
            match result {
                Ok(None) if self.sink.left == 0 => self.sink.left = self.sink.portion,
                Ok(None) => break,
                Ok(Some(event)) => self.event(event),
                Err(violation) => assert_eq!(self.violation.replace(violation), None),
            }
        }
        assert_eq!(start, input.len(), "with room left, all is taken");
    }

    fn event(&mut self, event: FrameEvent) {
        assert_eq!(self.violation, None);
        self.out.push(match event {
            FrameEvent::Message(kind) => {
                assert_eq!(kind, self.sink.kind);
                let bytes = std::mem::take(&mut self.sink.bytes);
                match kind {
                    MessageKind::Text => Out::Text(String::from_utf8(bytes).unwrap()),
                    MessageKind::Binary => Out::Binary(bytes),
                }
            }
            FrameEvent::Ping(payload) => Out::Ping(payload),
            FrameEvent::Pong(payload) => Out::Pong(payload),
            FrameEvent::Close(reason) => Out::Close(reason.map(|(code, reason)| (code.into(), reason))),
        });
    }

    fn run(mut self, chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> (Vec<Out>, Option<Violation>) {
        for chunk in chunks {
            self.feed(chunk.as_ref());
        }
        (self.out, self.violation)
    }
}

/// Feeds a server's bytes to a client, and the same masked to a server, in all the ways: what came out.
fn feed(bytes: &[u8], limits: DecoderLimits, deflate: Option<DeflateParameters>) -> (Vec<Out>, Option<Violation>) {
    let both = deflate.map(|agreed| DeflateParameters {
        client_no_context_takeover: agreed.server_no_context_takeover,
        client_max_window_bits: agreed.server_max_window_bits,
        ..agreed
    });
    let client = feed_as(Role::Client, bytes, limits, deflate);
    let server = feed_as(Role::Server, &masked(bytes), limits, both);
    assert_eq!(client, server, "roles differ for {bytes:02x?}");
    client
}

fn feed_as(
    role: Role,
    bytes: &[u8],
    limits: DecoderLimits,
    deflate: Option<DeflateParameters>,
) -> (Vec<Out>, Option<Violation>) {
    let new = |room| Reader::new(role, limits, deflate, room);
    let whole = new(usize::MAX).run([bytes]);
    assert_eq!(new(usize::MAX).run(bytes.chunks(1)), whole, "byte by byte: {bytes:02x?}");
    for room in [1, 3, 7] {
        assert_eq!(new(room).run([bytes]), whole, "room {room}: {bytes:02x?}");
    }
    let step = 1 + bytes.len() / 200;
    for cut in (0..=bytes.len()).step_by(step) {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(new(usize::MAX).run([a, b]), whole, "cut at {cut}: {bytes:02x?}");
    }
    whole
}

/// What a client would have sent.
fn masked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [_, second, ..] = *bytes {
        let extended = [0, 2, 8][usize::from(second & 0x7f).saturating_sub(125)];
        if bytes.len() < 2 + extended {
            break;
        }
        let length = match extended {
            0 => usize::from(second),
            2 => usize::from(bytes[2]) << 8 | usize::from(bytes[3]),
            _ => u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize,
        };
        let (header, rest) = bytes.split_at(2 + extended);
        let (payload, rest) = rest.split_at(length.min(rest.len()));
        let start = out.len();
        out.extend_from_slice(header);
        out[start + 1] ^= 0x80;
        out.extend_from_slice(&MASK);
        mask::append(&mut out, payload, MASK.into());
        bytes = rest;
    }
    out.extend_from_slice(bytes);
    out
}

/// A server's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    super::frame::append_header(&mut out, first, payload.len(), None);
    out.extend_from_slice(payload);
    out
}

/// "81 02 68 69".
fn hex(digits: &str) -> Vec<u8> {
    digits.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// P, U, B or F.
fn letter(violation: &Violation) -> char {
    let error: Error = violation.clone().into();
    match (error.kind(), u16::from(violation.close_code())) {
        (ErrorKind::Protocol, 1002) => 'P',
        (ErrorKind::Utf8, 1007) => 'U',
        (ErrorKind::TooBig, 1009) => 'B',
        (ErrorKind::Protocol, 1008) => 'F',
        other => panic!("{other:?}"),
    }
}
