//! The ways in which a peer can break the protocol, and the close code for each.

use std::fmt;

use super::frame::Opcode;
use crate::close_code::CloseCode;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Reserved bits, as in the frame's first byte, that no extension was negotiated for.
    ReservedBits {
        bits: u8,
        opcode: u8,
    },
    /// An opcode that RFC 6455 reserves.
    UnknownOpcode(u8),
    /// A server's frame with a mask.
    Masked,
    /// A client's frame without a mask.
    Unmasked,
    FragmentedControl(Opcode),
    /// A control frame with more than 125 bytes.
    LongControl(Opcode),
    /// A length whose top bit is set.
    HugeLength(u64),
    /// A length in more bytes than it needs.
    PaddedLength(u64),
    /// A continuation frame outside a message.
    StrayContinuation,
    /// A text or binary frame inside an unfinished message.
    Interleaved(Opcode),
    /// More fragments than the bytes in them justify.
    TooManyFragments {
        fragments: u64,
        bytes: u64,
    },
    /// `size` is what is known so far: the declared size, or one byte more than the limit.
    TooBig {
        size: u64,
        limit: u64,
    },
    /// A close frame of one byte.
    HalfCloseCode(u8),
    BadCloseCode(u16),
    BadCloseReason {
        byte: u8,
        at: usize,
    },
    /// Text with a broken character; `at` is the offset of its first byte from the message's start.
    NotUtf8 {
        byte: u8,
        at: u64,
    },
    /// Text that ends inside a character.
    CutCharacter,
    /// Compressed data that cannot be inflated. The inflater's own text is left out: it depends on how the data is cut.
    BadDeflate {
        after: u64,
    },
    /// A compressed message that ends inside a block.
    CutDeflate,
    /// More final blocks (RFC 7692 §7.2.3.4) than the bytes in them justify.
    TooManyFinalBlocks {
        blocks: u64,
        bytes: u64,
    },
}

impl Violation {
    /// The code of the close frame that answers it.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Violation::NotUtf8 { .. } | Violation::CutCharacter | Violation::BadCloseReason { .. } => {
                CloseCode::INVALID_PAYLOAD_DATA
            }
            Violation::TooBig { .. } => CloseCode::MESSAGE_TOO_BIG,
            Violation::TooManyFragments { .. } => CloseCode::POLICY_VIOLATION,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::ReservedBits { bits, opcode } => {
                write!(
                    f,
                    "a frame of opcode {opcode:#x} has reserved bits {bits:#04x} that nothing negotiated explains"
                )
            }
            Violation::UnknownOpcode(opcode) => write!(f, "a frame has the reserved opcode {opcode:#x}"),
            Violation::Masked => write!(f, "the server masked a frame"),
            Violation::Unmasked => write!(f, "the client sent a frame without a mask"),
            Violation::FragmentedControl(opcode) => write!(f, "a {opcode} frame is fragmented"),
            Violation::LongControl(opcode) => write!(f, "a {opcode} frame has more than 125 bytes"),
            Violation::HugeLength(length) => write!(f, "a frame declares the length {length:#x}, whose top bit is set"),
            Violation::PaddedLength(length) => {
                write!(f, "a frame declares the length {length} in more bytes than it needs")
            }
            Violation::StrayContinuation => write!(f, "a continuation frame came outside a message"),
            Violation::Interleaved(opcode) => write!(f, "a {opcode} frame came inside an unfinished message"),
            Violation::TooManyFragments { fragments, bytes } => {
                write!(f, "a message has {fragments} fragments in {bytes} bytes")
            }
            Violation::TooBig { size, limit } => {
                write!(f, "a message has at least {size} bytes, over the limit of {limit}: raise max_message_size")
            }
            Violation::HalfCloseCode(byte) => write!(f, "a close frame has half a code: one byte, {byte:#04x}"),
            Violation::BadCloseCode(code) => write!(f, "a close frame has the code {code}, which must not be sent"),
            Violation::BadCloseReason { byte, at } => {
                write!(f, "a close reason is not UTF-8: byte {byte:#04x} at offset {at}")
            }
            Violation::NotUtf8 { byte, at } => {
                write!(f, "a text message is not UTF-8: byte {byte:#04x} at offset {at}")
            }
            Violation::CutCharacter => write!(f, "a text message is not UTF-8: it ends inside a character"),
            Violation::BadDeflate { after } => {
                write!(f, "a compressed message cannot be inflated: it is broken behind byte {after} of what comes out")
            }
            Violation::CutDeflate => write!(f, "a compressed message ends inside a block"),
            Violation::TooManyFinalBlocks { blocks, bytes } => {
                write!(f, "a compressed message has {blocks} final blocks in {bytes} bytes")
            }
        }
    }
}
