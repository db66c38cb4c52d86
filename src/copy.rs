//! Copying in blocks.

/// How much is copied in one go. Copies from 2 KiB on become one machine instruction (`rep movsb`), which takes up to
/// twenty times as long on some processors where source and destination are a little apart modulo 4096, as they are behind a
/// header. Below that nothing is lost by it.
pub(crate) const COPY_CHUNK: usize = 1024;

/// Appends bytes; an allocation of their own is of just their size.
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
            let text: String = "añ€𐍈".chars().cycle().take(length).collect();
            let mut out = String::new();
            append_text(&mut out, &text);
            assert_eq!(out, text);
            append_text(&mut out, &text);
            assert_eq!(out, text.repeat(2));
        }
    }
}
