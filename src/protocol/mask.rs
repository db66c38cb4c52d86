//! Masking (RFC 6455 §5.3); unmasking is the same operation.

use crate::copy::COPY_CHUNK;

/// The four bytes that a payload is masked with. A word, because four bytes that are handed on one by one cost a stall of the
/// processor: 5 ns for each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u32);

impl From<[u8; 4]> for Mask {
    #[inline]
    fn from(bytes: [u8; 4]) -> Mask {
        Mask(u32::from_ne_bytes(bytes))
    }
}

impl Mask {
    #[inline]
    pub fn to_bytes(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The mask for bytes that start `by` bytes later.
    #[inline]
    pub fn rotate(self, by: usize) -> Mask {
        Mask(u32::from_le(self.0).rotate_right(8 * (by % 4) as u32).to_le())
    }

    /// Twice, in a word.
    #[inline]
    fn widen(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// Masks in place; `mask` must be rotated to the start of `bytes`. In words of 8 bytes, which the compiler vectorises best.
#[inline]
pub(crate) fn apply(bytes: &mut [u8], mask: Mask) {
    let wide = mask.widen();
    let mut words = bytes.chunks_exact_mut(WORD);
    for word in &mut words {
        let masked = (to_word(word) ^ wide).to_ne_bytes();
        word.copy_from_slice(&masked);
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= mask;
    }
}

/// Appends `payload` masked; `mask` must be rotated to its start. The length of a block is a multiple of 4, so every
/// block has the same rotation.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, payload: &[u8], mask: Mask) {
    out.reserve(payload.len());
    for block in payload.chunks(COPY_CHUNK) {
        let start = out.len();
        out.extend_from_slice(block);
        apply(&mut out[start..], mask);
    }
}

const WORD: usize = size_of::<u64>();

#[inline]
fn to_word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().expect("the chunks are words"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_start_and_cut_gives_what_the_rfc_says() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..200u8).collect();
        for length in 0..plain.len() {
            let expected: Vec<u8> = plain[..length].iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            let mut out = b"before".to_vec();
            append(&mut out, &plain[..length], mask.into());
            assert_eq!(out, [b"before", &expected[..]].concat());
            let cut = length / 3;
            let mut bytes = plain[..length].to_vec();
            apply(&mut bytes[..cut], mask.into());
            apply(&mut bytes[cut..], Mask::from(mask).rotate(cut));
            assert_eq!(bytes, expected);
        }
    }
}
