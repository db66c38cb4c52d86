//! Messages to bytes: deflate, frame, mask.

use super::deflate::{Deflater, Preparation};
use super::frame::{FIN, MAX_HEADER, Opcode, RSV1, append_header};
use super::{DeflateParameters, Kind, Role, mask};
use crate::copy;

/// The sending side of a connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    role: Role,
    deflater: Option<Deflater>,
    threshold: usize,
    /// Whether the message that is being sent in fragments is compressed.
    compressing: bool,
}

/// Where a fragment stands in its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    pub kind: Kind,
    pub first: bool,
    pub fin: bool,
    /// Looked at in the first fragment only.
    pub compress: bool,
}

impl Encoder {
    /// `role` is our own; messages under `threshold` bytes go uncompressed.
    pub fn new(role: Role, deflate: Option<DeflateParameters>, level: u8, threshold: usize) -> Encoder {
        let deflater = deflate.and_then(|agreed| Deflater::new(role, agreed, level));
        Encoder { role, deflater, threshold, compressing: false }
    }

    /// The length from which on messages are compressed; `None` where none is.
    pub fn compresses_from(&self) -> Option<usize> {
        self.deflater.as_ref().map(|_| self.threshold)
    }

    /// Appends a whole message as one frame. `compress` has no effect where compression was not agreed on. A server
    /// ignores `mask`, here and below.
    #[inline]
    pub fn message(&mut self, out: &mut Vec<u8>, kind: Kind, payload: &[u8], compress: bool, mask: [u8; 4]) {
        let first = FIN | Opcode::from(kind) as u8;
        match &mut self.deflater {
            Some(deflater) if compress => compressed_frame(deflater, out, first | RSV1, payload, self.role.mask(mask)),
            _ => frame(out, first, payload, self.role.mask(mask)),
        }
    }

    /// What a message must be compressed with to be sent by [`prepared`](Encoder::prepared); `None` where messages of
    /// this length go uncompressed.
    pub fn preparation(&self, length: usize) -> Option<Preparation> {
        self.deflater.as_ref().filter(|_| length >= self.threshold).map(Deflater::preparation)
    }

    /// Appends a message that was compressed for several connections.
    pub fn prepared(&mut self, out: &mut Vec<u8>, kind: Kind, compressed: &[u8], mask: [u8; 4]) {
        frame(out, FIN | RSV1 | Opcode::from(kind) as u8, compressed, self.role.mask(mask));
        if let Some(deflater) = &mut self.deflater {
            deflater.forget();
        }
    }

    /// Appends a part of a message as a frame of its own. Control frames may go between the parts, other messages not.
    pub fn fragment(&mut self, out: &mut Vec<u8>, part: Fragment, payload: &[u8], mask: [u8; 4]) {
        let mut first = if part.fin { FIN } else { 0 };
        if part.first {
            self.compressing = part.compress && self.deflater.is_some();
            first |= Opcode::from(part.kind) as u8 | if self.compressing { RSV1 } else { 0 };
        }
        match &mut self.deflater {
            Some(deflater) if self.compressing => {
                compressed_frame(deflater, out, first, payload, self.role.mask(mask));
            }
            _ => frame(out, first, payload, self.role.mask(mask)),
        }
    }

    /// Appends a control frame; `payload` has at most 125 bytes.
    pub fn control(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
        debug_assert!(opcode.is_control() && payload.len() <= 125);
        frame(out, FIN | opcode as u8, payload, self.role.mask(mask));
    }

    /// Appends the header alone of an uncompressed message of `length` bytes, which the caller appends.
    pub fn header(&self, out: &mut Vec<u8>, kind: Kind, length: usize, mask: [u8; 4]) {
        append_header(out, FIN | Opcode::from(kind) as u8, length, self.role.mask(mask));
    }
}

impl Role {
    fn mask(self, mask: [u8; 4]) -> Option<[u8; 4]> {
        match self {
            Role::Client => Some(mask),
            Role::Server => None,
        }
    }
}

#[inline]
fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    out.reserve(MAX_HEADER + payload.len());
    append_header(out, first, payload.len(), mask);
    match mask {
        Some(mask) => mask::append(out, payload, mask),
        None => copy::append(out, payload),
    }
}

/// How long the payload gets is known only afterwards: it is compressed behind room for the longest header, and then
/// moved up against the real one.
fn compressed_frame(deflater: &mut Deflater, out: &mut Vec<u8>, first: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let start = out.len();
    let body = start + MAX_HEADER;
    out.resize(body, 0);
    deflater.append(out, payload, first & FIN != 0);
    if let Some(mask) = mask {
        mask::apply(&mut out[body..], mask);
    }
    let mut header = Vec::with_capacity(MAX_HEADER);
    append_header(&mut header, first, out.len() - body, mask);
    out.copy_within(body.., start + header.len());
    out.truncate(out.len() - (MAX_HEADER - header.len()));
    out[start..start + header.len()].copy_from_slice(&header);
}
