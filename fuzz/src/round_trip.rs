//! What one side encodes, the other decodes.

use wsync::internals::{
    Decoder, DecoderLimits, Fin, Fragment, FrameEncoder, FrameEvent, Mask, MessageCompressor, Opcode,
    deflate_parameters,
};
use wsync::{MessageKind as Kind, Role};

use crate::Bytes;
use crate::frames::{Got, read};

/// The most payload of one run.
const MAX_PAYLOAD: usize = 300_000;

pub fn round_trip(data: &[u8]) {
    let mut data = Bytes(data);
    let flags = data.byte();
    let role = if flags & 1 == 0 { Role::Client } else { Role::Server };
    let compression = data.compression(role);
    let agreed = deflate_parameters(&compression).filter(|_| flags & 2 == 0);
    let (steps, rooms) = (data.steps(), data.steps());
    let level = data.byte() % 10;
    let mut compressor = agreed.and_then(|agreed| MessageCompressor::new(role, agreed, level, 0));
    let frames = FrameEncoder::new(role);
    let (mut wire, mut sent) = (Vec::new(), Vec::new());
    let mut size = 0;
    while !data.0.is_empty() && size < MAX_PAYLOAD {
        let op = data.byte();
        let mask = [op, data.byte(), 0x5a, op ^ 0xff];
        let mask = (role == Role::Client).then(|| Mask::from(mask));
        let kind = if op & 1 == 0 { Kind::Binary } else { Kind::Text };
        let mut compressor = compressor.as_mut().filter(|_| op & 2 == 0);
        match op >> 2 & 3 {
            0 | 1 => {
                let payload = payload(&mut data, kind);
                size += payload.len();
                match &mut compressor {
                    Some(compressor) => compressor.message(&mut wire, kind, &payload, mask),
                    None => frames.message(&mut wire, kind, &payload, mask),
                }
                sent.push(Got::Message(kind, payload));
            }
            2 => {
                let opcode = if op & 1 == 0 { Opcode::Ping } else { Opcode::Pong };
                let payload = data.take(usize::from(op >> 4)).to_vec();
                frames.control(&mut wire, opcode, &payload, mask);
                let event = if op & 1 == 0 { FrameEvent::Ping(payload) } else { FrameEvent::Pong(payload) };
                sent.push(Got::Control(event));
            }
            _ => {
                let mut whole = Vec::new();
                let count = 1 + (op >> 4);
                for i in 0..=count {
                    let part = payload(&mut data, kind);
                    let fin = if i == count { Fin::Last } else { Fin::More };
                    let fragment = Fragment { kind, first: i == 0, fin };
                    match &mut compressor {
                        Some(compressor) => compressor.fragment(&mut wire, fragment, &part, mask),
                        None => frames.fragment(&mut wire, fragment, &part, mask),
                    }
                    whole.extend(part);
                    if op & 0x20 != 0 && i < count {
                        frames.control(&mut wire, Opcode::Ping, b"between", mask);
                        sent.push(Got::Control(FrameEvent::Ping(b"between".to_vec())));
                    }
                }
                size += whole.len();
                sent.push(Got::Message(kind, whole));
            }
        }
    }
    sent.push(Got::End { mid_message: false });
    let limits = DecoderLimits { max_message_size: u64::MAX, max_fragments: 17 };
    let peer = if role == Role::Client { Role::Server } else { Role::Client };
    assert_eq!(read(Decoder::new(peer, limits, agreed), &wire, &steps, &rooms, limits), sent);
}

/// A part of the input, repeated: it compresses well and can be larger than the input.
fn payload(data: &mut Bytes, kind: Kind) -> Vec<u8> {
    let (length, times) = (data.byte(), data.byte());
    let stretch = data.take(length.into());
    let payload = stretch.repeat(if times < 250 { times / 64 } else { times }.into());
    match kind {
        Kind::Binary => payload,
        Kind::Text => String::from_utf8_lossy(&payload).into_owned().into_bytes(),
    }
}
