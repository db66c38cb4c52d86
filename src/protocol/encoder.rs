//! Messages to bytes: deflate, frame, mask.
//!
//! [`FrameEncoder`] has no state and needs no lock of its own. [`MessageCompressor`] has the compressor's history: its
//! frames must be sent in the order in which it made them.
//!
//! A mask is `Some` for a client's frames and `None` for a server's (RFC 6455 §5.1).

use super::deflate::{Deflater, Preparation};
use super::frame::{FIN, MAX_HEADER, Opcode, RSV1, append_header};
use super::{DeflateParameters, Mask, MessageKind, Role, mask};
use crate::copy;

/// Whether a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Compressed,
}

/// Whether a frame is the last one of its message: the bit FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fin {
    More,
    Last,
}

/// A part of a message, sent as a frame of its own.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    pub kind: MessageKind,
    pub first: bool,
    pub fin: Fin,
}

impl Fragment {
    /// The first byte of its frame.
    fn first_byte(self, encoding: Encoding) -> u8 {
        let fin = if self.fin == Fin::Last { FIN } else { 0 };
        match (self.first, encoding) {
            (false, _) => fin | Opcode::Continuation as u8,
            (true, Encoding::Plain) => fin | Opcode::from(self.kind) as u8,
            (true, Encoding::Compressed) => fin | RSV1 | Opcode::from(self.kind) as u8,
        }
    }
}

/// Encodes frames that need no compressor.
#[derive(Clone, Copy, Debug)]
pub struct FrameEncoder {
    role: Role,
}

impl FrameEncoder {
    /// `role` is our own.
    pub fn new(role: Role) -> FrameEncoder {
        FrameEncoder { role }
    }

    /// Appends a whole message as one frame.
    #[inline]
    pub fn message(self, out: &mut Vec<u8>, kind: MessageKind, payload: &[u8], mask: Option<Mask>) {
        self.frame(out, FIN | Opcode::from(kind) as u8, payload, mask);
    }

    /// Appends a whole message of several parts as one frame.
    pub fn message_parts(self, out: &mut Vec<u8>, kind: MessageKind, parts: &[&[u8]], mask: Option<Mask>) {
        let length = parts.iter().map(|part| part.len()).sum();
        out.reserve(MAX_HEADER + length);
        self.header(out, kind, length, mask);
        let mut position = 0;
        for part in parts {
            match mask {
                Some(mask) => mask::append(out, part, mask.rotate(position)),
                None => copy::append(out, part),
            }
            position += part.len();
        }
    }

    /// Appends a part of an uncompressed message. Control frames may go between the parts, other messages not.
    pub fn fragment(self, out: &mut Vec<u8>, part: Fragment, payload: &[u8], mask: Option<Mask>) {
        self.frame(out, part.first_byte(Encoding::Plain), payload, mask);
    }

    /// Appends a control frame; `payload` has at most 125 bytes.
    pub fn control(self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<Mask>) {
        debug_assert!(opcode.is_control() && payload.len() <= 125);
        self.frame(out, FIN | opcode as u8, payload, mask);
    }

    /// Appends only the header of an uncompressed message of `length` bytes; the caller appends the payload.
    pub fn header(self, out: &mut Vec<u8>, kind: MessageKind, length: usize, mask: Option<Mask>) {
        self.check_mask(mask);
        append_header(out, FIN | Opcode::from(kind) as u8, length, mask);
    }

    #[inline]
    fn frame(self, out: &mut Vec<u8>, first: u8, payload: &[u8], mask: Option<Mask>) {
        self.check_mask(mask);
        out.reserve(MAX_HEADER + payload.len());
        append_header(out, first, payload.len(), mask);
        match mask {
            Some(mask) => mask::append(out, payload, mask),
            None => copy::append(out, payload),
        }
    }

    #[inline]
    fn check_mask(self, mask: Option<Mask>) {
        debug_assert_eq!(mask.is_some(), self.role == Role::Client, "clients mask, servers do not");
    }
}

/// Encodes compressed messages.
#[derive(Debug)]
pub struct MessageCompressor {
    frames: FrameEncoder,
    deflater: Deflater,
    threshold: usize,
}

impl MessageCompressor {
    /// `role` is our own; messages under `threshold` bytes are not worth compressing. `None` where the window that was
    /// agreed on is one that the encoder cannot do (8): messages are then sent uncompressed, which is always allowed.
    pub fn new(role: Role, agreed: DeflateParameters, level: u8, threshold: usize) -> Option<MessageCompressor> {
        let deflater = Deflater::new(role, agreed, level)?;
        Some(MessageCompressor { frames: FrameEncoder::new(role), deflater, threshold })
    }

    /// The length from which messages are compressed.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Appends a whole message as one frame.
    pub fn message(&mut self, out: &mut Vec<u8>, kind: MessageKind, payload: &[u8], mask: Option<Mask>) {
        self.fragment(out, Fragment { kind, first: true, fin: Fin::Last }, payload, mask);
    }

    /// Appends a part of a message as a frame of its own. Control frames may go between the parts, other messages not.
    ///
    /// The payload's length is known only after compressing: it is compressed behind room for the longest header, then
    /// moved up to the real one.
    pub fn fragment(&mut self, out: &mut Vec<u8>, part: Fragment, payload: &[u8], mask: Option<Mask>) {
        self.frames.check_mask(mask);
        let start = out.len();
        let body = start + MAX_HEADER;
        out.resize(body, 0);
        self.deflater.append(out, payload, part.fin);
        if let Some(mask) = mask {
            mask::apply(&mut out[body..], mask);
        }
        let mut header = Vec::with_capacity(MAX_HEADER);
        append_header(&mut header, part.first_byte(Encoding::Compressed), out.len() - body, mask);
        out.copy_within(body.., start + header.len());
        out.truncate(out.len() - (MAX_HEADER - header.len()));
        out[start..start + header.len()].copy_from_slice(&header);
    }

    /// Begins a new history: the peer has not seen what was compressed.
    pub fn forget(&mut self) {
        self.deflater.forget();
    }

    /// The settings for a message of this length to be compressed apart and sent by
    /// [`prepared`](MessageCompressor::prepared); `None` where such a message is sent uncompressed.
    pub fn preparation(&self, length: usize) -> Option<Preparation> {
        (length >= self.threshold).then(|| self.deflater.preparation())
    }

    /// Appends a message that was compressed for several connections.
    pub fn prepared(&mut self, out: &mut Vec<u8>, kind: MessageKind, compressed: &[u8], mask: Option<Mask>) {
        self.frames.frame(out, FIN | RSV1 | Opcode::from(kind) as u8, compressed, mask);
        self.deflater.forget();
    }
}
