//! Copying in chunks.

/// Bytes per copy. A copy of 2 KiB or more becomes one machine instruction (`rep movsb`), which on some processors takes
/// up to twenty times as long where the destination is a few bytes ahead of the source modulo 4096, as it is behind a frame
/// header. Smaller copies cost no more in sum.
pub(crate) const COPY_CHUNK: usize = 1024;

/// The bytes in an allocation of exactly their size.
#[inline]
pub(crate) fn to_vec(bytes: &[u8]) -> Vec<u8> {
    if bytes.len() <= COPY_CHUNK {
        return bytes.to_vec();
    }
    let mut out = Vec::new();
    append(&mut out, bytes);
    out
}

/// Appends bytes. An empty vector gets an allocation of exactly their size.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    if out.capacity() == 0 {
        out.reserve_exact(bytes.len());
    } else {
        out.reserve(bytes.len());
    }
    for block in bytes.chunks(COPY_CHUNK) {
        out.extend_from_slice(block);
    }
}

/// Appends text.
#[inline]
pub(crate) fn append_text(out: &mut String, mut text: &str) {
    out.reserve(text.len());
    while text.len() > COPY_CHUNK {
        let mut end = COPY_CHUNK;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (block, rest) = text.split_at(end);
        out.push_str(block);
        text = rest;
    }
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_there_once() {
        for length in [0, 1, COPY_CHUNK - 1, COPY_CHUNK, COPY_CHUNK + 1, 5 * COPY_CHUNK + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut out = Vec::new();
            append(&mut out, &bytes);
            assert_eq!(out, bytes);
            append(&mut out, &bytes);
            assert_eq!(out, [&bytes[..], &bytes].concat());
            assert_eq!(to_vec(&bytes), bytes);
            let text: String = "añ€𐍈".chars().cycle().take(length).collect();
            let mut out = String::new();
            append_text(&mut out, &text);
            assert_eq!(out, text);
            append_text(&mut out, &text);
            assert_eq!(out, text.repeat(2));
        }
    }
}
