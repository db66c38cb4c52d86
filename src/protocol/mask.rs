//! Masking (RFC 6455 §5.3), which is its own inverse.

use crate::blocks::BLOCK;

/// Masks in place; `mask` is rotated to where `bytes` start.
#[inline]
pub(crate) fn apply(bytes: &mut [u8], mask: [u8; 4]) {
    let wide: [u8; 32] = std::array::from_fn(|i| mask[i % 4]);
    let mut chunks = bytes.chunks_exact_mut(wide.len());
    for chunk in &mut chunks {
        for (byte, mask) in chunk.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    let mut words = chunks.into_remainder().chunks_exact_mut(4);
    for word in &mut words {
        for (byte, mask) in word.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Appends `payload` masked; `mask` is rotated to where it starts. Blocks of a multiple of 4 bytes keep the rotation.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, payload: &[u8], mask: [u8; 4]) {
    out.reserve(payload.len());
    for block in payload.chunks(BLOCK) {
        let start = out.len();
        out.extend_from_slice(block);
        apply(&mut out[start..], mask);
    }
}

/// The mask for the byte that comes `by` bytes later.
#[inline]
pub(super) fn rotate(mask: [u8; 4], by: usize) -> [u8; 4] {
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
        let mut out = Vec::new();
        append(&mut out, &[7; 3 * BLOCK + 5], mask);
        assert!(out.iter().enumerate().all(|(i, byte)| byte ^ mask[i % 4] == 7));
    }
}
