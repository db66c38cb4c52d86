//! UTF-8 in chunks that are cut anywhere (RFC 6455 §8.1).

use std::str::from_utf8;

/// An incremental validator. It fails at the first byte that no valid text has at its place, also inside an incomplete
/// character (`F4 90`, `ED A0`).
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The first bytes of an incomplete character.
    carry: [u8; 4],
    carried: u8,
}

/// The first byte of a broken character, and its offset from the start of the chunk: negative if in an earlier chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub byte: u8,
    pub at: isize,
}

impl Utf8 {
    /// Hands the complete characters to `take`, in order.
    #[inline]
    pub fn feed(&mut self, mut chunk: &[u8], mut take: impl FnMut(&str)) -> Result<(), Broken> {
        let mut skipped = 0;
        while self.carried > 0 {
            let Some((&byte, rest)) = chunk.split_first() else { return Ok(()) };
            let carried = usize::from(self.carried);
            self.carry[carried] = byte;
            match from_utf8(&self.carry[..=carried]) {
                Ok(character) => {
                    take(character);
                    self.carried = 0;
                }
                Err(error) if error.error_len().is_some() => {
                    return Err(Broken { byte: self.carry[0], at: skipped - carried as isize });
                }
                Err(_) => self.carried += 1,
            }
            skipped += 1;
            chunk = rest;
        }
        let (body, cut) = chunk.split_at(chunk.len() - cut_at_end(chunk));
        let broken = |at: usize| Broken { byte: chunk[at], at: skipped + at as isize };
        let text = from_utf8(body).map_err(|error| broken(error.valid_up_to()))?;
        if !text.is_empty() {
            take(text);
        }
        if !cut.is_empty() {
            match from_utf8(cut) {
                Err(error) if error.error_len().is_none() => {
                    self.carry[..cut.len()].copy_from_slice(cut);
                    self.carried = cut.len() as u8;
                }
                _ => return Err(broken(body.len())),
            }
        }
        Ok(())
    }

    /// Whether no character is incomplete.
    pub fn is_whole(&self) -> bool {
        self.carried == 0
    }
}

/// The number of bytes at the end that begin an incomplete character.
fn cut_at_end(chunk: &[u8]) -> usize {
    for (i, &byte) in chunk.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        return if length > i + 1 { i + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came out, and the error with its offset from the start, or else whether it ended whole.
    fn run(bytes: &[u8], cuts: &[usize]) -> (String, Result<bool, (u8, isize)>) {
        let (mut utf8, mut text, mut start) = (Utf8::default(), String::new(), 0);
        for &end in cuts.iter().chain([&bytes.len()]) {
            if let Err(broken) = utf8.feed(&bytes[start..end], |chunk| text.push_str(chunk)) {
                return (text, Err((broken.byte, start as isize + broken.at)));
            }
            start = end;
        }
        (text, Ok(utf8.is_whole()))
    }

    #[test]
    fn every_split_gives_what_std_says_of_the_whole() {
        let good = ["", "a", "κόσμε", "𐍈", "\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "ab€cd𐍈ef"];
        let bad: [&[u8]; 14] = [
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xc1\xbf", // overlong
            b"\xed\xa0\x80",
            b"x\xed\xbf\xbfy", // surrogates
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xff",
            b"\xfe", // beyond U+10FFFF
            b"a\x80b",
            b"\xe2\x82x",
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65",
            b"\xf0\x9f\xe2",
        ];
        let cut: [&[u8]; 4] = [b"\xce", b"a\xe2\x82", b"\xf0\x9d\x84", b"abc\xf4\x8f"];
        for bytes in good.iter().map(|text| text.as_bytes()).chain(bad).chain(cut) {
            let expected = match from_utf8(bytes) {
                Ok(_) => Ok(true),
                Err(error) if error.error_len().is_none() => Ok(false),
                Err(error) => Err((bytes[error.valid_up_to()], error.valid_up_to() as isize)),
            };
            for a in 0..=bytes.len() {
                for b in a..=bytes.len() {
                    let (text, end) = run(bytes, &[a, b]);
                    assert_eq!(end, expected, "{bytes:x?} cut at {a} and {b}");
                    assert!(bytes.starts_with(text.as_bytes()));
                    if end == Ok(true) {
                        assert_eq!(text.as_bytes(), bytes);
                    }
                }
            }
            let every: Vec<usize> = (0..bytes.len()).collect();
            assert_eq!(run(bytes, &every).1, expected);
        }
    }

    #[test]
    fn text_is_handed_on_in_one_piece() {
        let mut pieces = Vec::new();
        Utf8::default().feed("ab€cd".as_bytes(), |piece| pieces.push(piece.to_string())).unwrap();
        assert_eq!(pieces, ["ab€cd"]);
    }

    #[test]
    fn it_fails_before_the_character_is_complete() {
        for start in [&b"\xf4\x90"[..], b"\xed\xa0", b"\xf0\x80", b"\xe0\x9f", b"\xc0", b"\xf8"] {
            assert!(run(start, &[]).1.is_err(), "{start:x?}");
            assert!(run(start, &[1]).1.is_err(), "{start:x?}");
        }
    }
}
