//! Masking (RFC 6455 §5.3); unmasking is the same operation.

use crate::copy::COPY_CHUNK;

/// Masks in place; `mask` must be rotated to the start of `bytes`. In words of 8 bytes, which the compiler vectorises best.
#[inline]
pub(crate) fn apply(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = widen(mask);
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
pub(crate) fn append(out: &mut Vec<u8>, payload: &[u8], mask: [u8; 4]) {
    out.reserve(payload.len());
    for block in payload.chunks(COPY_CHUNK) {
        let start = out.len();
        out.extend_from_slice(block);
        apply(&mut out[start..], mask);
    }
}

const WORD: usize = size_of::<u64>();

#[inline]
fn widen([a, b, c, d]: [u8; 4]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}

#[inline]
fn to_word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().expect("the chunks are words"))
}

/// The mask for bytes that start `by` bytes later.
#[inline]
pub(crate) fn rotate(mask: [u8; 4], by: usize) -> [u8; 4] {
    u32::from_le_bytes(mask).rotate_right(8 * (by % 4) as u32).to_le_bytes()
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
            append(&mut out, &plain[..length], mask);
            assert_eq!(out, [b"before", &expected[..]].concat());
            let cut = length / 3;
            let mut bytes = plain[..length].to_vec();
            apply(&mut bytes[..cut], mask);
            apply(&mut bytes[cut..], rotate(mask, cut));
            assert_eq!(bytes, expected);
        }
    }
}
