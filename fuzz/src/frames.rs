//! The decoder gives the same output however the bytes are cut and however little room the sink has.

use wsync::internals::{Decoder, DecoderLimits, FrameEvent, Sink, Violation, deflate_parameters};
use wsync::{Compression, MessageKind as Kind, Role};

use crate::Bytes;

pub fn frames(data: &[u8]) {
    check(data, None);
}

pub fn frames_deflate(data: &[u8]) {
    check(data, Some(()));
}

fn check(data: &[u8], deflate: Option<()>) {
    let mut data = Bytes(data);
    let flags = data.byte();
    let role = if flags & 1 == 0 { Role::Client } else { Role::Server };
    let deflate = deflate.and_then(|()| {
        let (windows, forget) = (data.byte(), flags & 8 != 0);
        let compression = Compression::default().client_no_context_takeover(forget).server_no_context_takeover(forget);
        let bits = 8 + windows % 8;
        deflate_parameters(&compression.client_max_window_bits(bits).server_max_window_bits(bits))
    });
    let limits = DecoderLimits {
        max_message_size: [0, 100, 5_000, 300_000][usize::from(flags >> 1 & 3)],
        max_fragments: if flags & 16 == 0 { 5 } else { 1000 },
    };
    let (steps, rooms) = (data.steps(), data.steps());
    let run =
        |steps: &[usize], rooms: &[usize]| read(Decoder::new(role, limits, deflate), data.0, steps, rooms, limits);
    let whole = run(&[usize::MAX], &[usize::MAX]);
    assert_eq!(run(&steps, &[usize::MAX]), whole, "cut into {steps:?}");
    assert_eq!(run(&[usize::MAX], &rooms), whole, "with room for {rooms:?}");
    assert_eq!(run(&steps, &rooms), whole, "cut into {steps:?} with room for {rooms:?}");
    let direct = read_directly(Decoder::new(role, limits, deflate), data.0, &steps);
    assert_eq!(direct, whole, "cut into {steps:?}, with direct reads");
}

/// A message with its payload, or any other event.
#[derive(Debug, PartialEq)]
pub enum Got {
    Message(Kind, Vec<u8>),
    Control(FrameEvent),
    Violation(Violation),
    /// The input ended.
    End {
        mid_message: bool,
    },
}

/// Reads `input` in chunks of `steps` with a sink that has room for `rooms` at a time.
pub fn read(mut decoder: Decoder, input: &[u8], steps: &[usize], rooms: &[usize], limits: DecoderLimits) -> Vec<Got> {
    let mut got = Vec::new();
    let mut sink = Kept { kind: None, bytes: Vec::new(), room: 0 };
    let mut rooms = rooms.iter().cycle();
    let mut steps = steps.iter().cycle();
    let mut rest = input;
    'input: loop {
        let (chunk, after) = rest.split_at(rest.len().min(*steps.next().unwrap()));
        let mut chunk = chunk.to_vec();
        let mut left = &mut chunk[..];
        loop {
            sink.room = *rooms.next().unwrap();
            let room = sink.room;
            let before = sink.bytes.len();
            let (taken, event) = decoder.next(left, &mut sink);
            assert!(taken <= left.len());
            assert!(
                sink.bytes.len() - before.min(sink.bytes.len()) <= room.saturating_add(3),
                "more than there was room"
            );
            assert!(sink.bytes.len() as u64 <= limits.max_message_size, "more than max_message_size");
            left = &mut left[taken..];
            match event {
                Ok(Some(FrameEvent::Message(kind))) => {
                    assert_eq!(sink.kind, Some(kind));
                    got.push(Got::Message(kind, std::mem::take(&mut sink.bytes)));
                }
                Ok(Some(event)) => {
                    let is_close = matches!(event, FrameEvent::Close(_));
                    got.push(Got::Control(event));
                    if is_close {
                        break 'input;
                    }
                }
                Ok(None) => {
                    if left.is_empty() && sink.room > 0 {
                        break;
                    }
                    assert!(sink.room < usize::MAX, "it stopped before the end of its input");
                }
                Err(violation) => {
                    assert!(left.is_empty(), "a violation takes everything");
                    assert!(!violation.to_string().is_empty());
                    got.push(Got::Violation(violation));
                    break 'input;
                }
            }
        }
        rest = after;
        if rest.is_empty() {
            got.push(Got::End { mid_message: decoder.is_mid_message() });
            return got;
        }
    }
    let mut more = *b"\x81\x02hi";
    assert_eq!(decoder.next(&mut more, &mut sink), (4, Ok(None)), "nothing comes after the end");
    got
}

/// Reads `input` in chunks of `steps`, by direct reads where they are possible.
fn read_directly(mut decoder: Decoder, input: &[u8], steps: &[usize]) -> Vec<Got> {
    let mut got = Vec::new();
    let mut sink = Kept { kind: None, bytes: Vec::new(), room: usize::MAX };
    let mut rest = input.to_vec();
    for &step in steps.iter().cycle() {
        sink.room = usize::MAX;
        let direct = decoder.direct_read_len().min(rest.len()).min(step);
        let event = if direct > 0 {
            let start = sink.bytes.len();
            sink.bytes.extend(rest.drain(..direct));
            Ok(decoder.finish_direct_read(&mut sink.bytes[start..]))
        } else {
            let most = rest.len().min(step);
            let (taken, event) = decoder.next(&mut rest[..most], &mut sink);
            rest.drain(..taken);
            event
        };
        match event {
            Ok(Some(FrameEvent::Message(kind))) => got.push(Got::Message(kind, std::mem::take(&mut sink.bytes))),
            Ok(Some(event)) => {
                let is_close = matches!(event, FrameEvent::Close(_));
                got.push(Got::Control(event));
                if is_close {
                    return got;
                }
            }
            Ok(None) => {}
            Err(violation) => {
                got.push(Got::Violation(violation));
                return got;
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    got.push(Got::End { mid_message: decoder.is_mid_message() });
    got
}

struct Kept {
    kind: Option<Kind>,
    bytes: Vec<u8>,
    room: usize,
}

impl Sink for Kept {
    fn begin(&mut self, kind: Kind, _: usize) {
        self.kind = Some(kind);
        self.bytes.clear();
    }

    fn text(&mut self, chunk: &str) {
        assert_eq!(self.kind, Some(Kind::Text));
        self.binary(chunk.as_bytes());
    }

    fn binary(&mut self, chunk: &[u8]) {
        self.room = self.room.saturating_sub(chunk.len());
        self.bytes.extend_from_slice(chunk);
    }

    fn room(&self) -> usize {
        self.room
    }
}
