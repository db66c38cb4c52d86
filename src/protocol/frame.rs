//! Frame headers (RFC 6455 §5.2): reading and writing.

use std::fmt;

use super::{Mask, MessageKind, Role, Violation};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

pub(super) const FIN: u8 = 0x80;
/// On the first frame of a message: it is compressed (RFC 7692 §6).
pub(super) const RSV1: u8 = 0x40;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// The longest header: two bytes, a 64-bit length and a mask.
pub(super) const MAX_HEADER: usize = 14;

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

impl From<MessageKind> for Opcode {
    fn from(kind: MessageKind) -> Opcode {
        match kind {
            MessageKind::Text => Opcode::Text,
            MessageKind::Binary => Opcode::Binary,
        }
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Opcode::Continuation => "continuation",
            Opcode::Text => "text",
            Opcode::Binary => "binary",
            Opcode::Close => "close",
            Opcode::Ping => "ping",
            Opcode::Pong => "pong",
        })
    }
}

/// The meaning of the bit RSV1 on a message's first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rsv1 {
    /// None: no extension was negotiated.
    Reserved,
    /// The message is compressed (RFC 7692 §6).
    Compressed,
}

/// A decoded header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub opcode: Opcode,
    pub fin: bool,
    pub compressed: bool,
    pub mask: Option<Mask>,
    pub length: u64,
    /// Bytes of the header itself.
    pub size: usize,
}

impl Header {
    /// Reads the header at the front of `bytes`; `None` if it is not complete. Each byte is checked in order, so that the
    /// violation does not depend on how many bytes have arrived. `role` is our own.
    #[inline]
    pub fn read(bytes: &[u8], role: Role, rsv1: Rsv1) -> Result<Option<Header>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let Some(opcode) = Opcode::from_bits(first & 0x0f) else { return Err(Violation::UnknownOpcode(first & 0x0f)) };
        let fin = first & FIN != 0;
        let reserved = first & RESERVED;
        let compressed =
            reserved == RSV1 && rsv1 == Rsv1::Compressed && matches!(opcode, Opcode::Text | Opcode::Binary);
        if reserved != 0 && !compressed {
            return Err(Violation::ReservedBits { bits: reserved, opcode: opcode as u8 });
        }
        let masked = second & MASKED != 0;
        if masked != (role == Role::Server) {
            return Err(if masked { Violation::Masked } else { Violation::Unmasked });
        }
        let short = second & 0x7f;
        if opcode.is_control() {
            if !fin {
                return Err(Violation::FragmentedControl(opcode));
            }
            if short > 125 {
                return Err(Violation::LongControl(opcode));
            }
        }
        let (length, rest) = match short {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u16::from_be_bytes(*length).into(), rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*length), rest)
            }
            _ => (short.into(), rest),
        };
        if length >> 63 != 0 {
            return Err(Violation::HugeLength(length));
        }
        if (short == 126 && length < 126) || (short == 127 && length <= u16::MAX.into()) {
            return Err(Violation::PaddedLength(length));
        }
        let (mask, rest) = match masked {
            false => (None, rest),
            true => {
                let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (Some(Mask::from(*mask)), rest)
            }
        };
        Ok(Some(Header { opcode, fin, compressed, mask, length, size: bytes.len() - rest.len() }))
    }
}

/// Appends a header; `first` is its first byte: the opcode and the bits above it.
#[inline]
pub(super) fn append_header(out: &mut Vec<u8>, first: u8, length: usize, mask: Option<Mask>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    match length {
        0..=125 => out.extend_from_slice(&[first, masked | length as u8]),
        126..=0xffff => {
            let [a, b] = (length as u16).to_be_bytes();
            out.extend_from_slice(&[first, masked | 126, a, b]);
        }
        _ => {
            out.extend_from_slice(&[first, masked | 127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask.to_bytes());
    }
}
