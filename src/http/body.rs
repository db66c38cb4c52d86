//! The body of a response (RFC 9112 §6 and §7), as far as it is kept.

use super::head::Head;
use super::headers::Headers;

/// The most bytes of a body that are kept.
const MAX_BODY: usize = 64 * 1024;
/// The longest line between chunks.
const MAX_CHUNK_LINE: usize = 1024;
/// The most bytes of framing in a whole chunked body: lines in front of chunks and empty lines. It suffices for chunks of 2
/// bytes each up to the limit of the body.
const MAX_FRAMING: usize = 4 * MAX_BODY;

/// Reads a body from bytes in any portions. Nothing in it is an error, as the head is what counts: malformed framing ends
/// the body.
pub struct Body {
    kept: Vec<u8>,
    framing: usize,
    state: BodyState,
}

/// What comes next.
enum BodyState {
    Nothing,
    /// This many bytes.
    Length(u64),
    UntilEnd,
    /// The line in front of a chunk's data, as far as it has arrived. Empty lines, such as the one behind a chunk, are
    /// skipped.
    ChunkLine(Vec<u8>),
    /// This many bytes of a chunk.
    Chunk(u64),
}

impl Body {
    /// The body that belongs to this head. It is done at once if the status or the headers say that there is none.
    pub fn of(head: &Head) -> Body {
        let state = match head.start.status {
            100..200 | 204 | 304 => BodyState::Nothing,
            _ => BodyState::announced(&head.headers),
        };
        Body { kept: Vec::new(), framing: 0, state }
    }

    /// Takes bytes; returns how many, and whether the body is done.
    pub fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            at += self.take(&input[at..]);
        }
        (at, self.is_done())
    }

    /// Whether no more bytes are needed: the body has ended, or all that is kept of it has arrived.
    pub fn is_done(&self) -> bool {
        matches!(self.state, BodyState::Nothing | BodyState::Length(0)) || self.kept.len() == MAX_BODY
    }

    /// What has arrived of the body.
    pub fn finish(self) -> Vec<u8> {
        self.kept
    }

    fn take(&mut self, input: &[u8]) -> usize {
        match &mut self.state {
            BodyState::Nothing => 0,
            BodyState::UntilEnd => keep(&mut self.kept, input, u64::MAX),
            BodyState::Length(left) => {
                let count = keep(&mut self.kept, input, *left);
                *left -= count as u64;
                count
            }
            BodyState::Chunk(left) => {
                let count = keep(&mut self.kept, input, *left);
                *left -= count as u64;
                if *left == 0 {
                    self.state = BodyState::ChunkLine(Vec::new());
                }
                count
            }
            BodyState::ChunkLine(_) if self.framing == MAX_FRAMING => {
                self.state = BodyState::Nothing;
                0
            }
            BodyState::ChunkLine(line) => {
                self.framing += 1;
                match input[0] {
                    b'\r' => {}
                    b'\n' if line.is_empty() => {}
                    b'\n' => self.state = BodyState::chunk(line),
                    byte if line.len() < MAX_CHUNK_LINE => line.push(byte),
                    _ => self.state = BodyState::Nothing,
                }
                1
            }
        }
    }
}

impl BodyState {
    fn announced(headers: &Headers) -> BodyState {
        if let Some(coding) = headers.tokens("Transfer-Encoding").last() {
            let is_chunked = coding.eq_ignore_ascii_case("chunked");
            return if is_chunked { BodyState::ChunkLine(Vec::new()) } else { BodyState::UntilEnd };
        }
        let mut lengths = headers.tokens("Content-Length");
        let Some(length) = lengths.next() else { return BodyState::UntilEnd };
        number(length, 10)
            .filter(|_| lengths.all(|other| other == length))
            .map_or(BodyState::Nothing, BodyState::Length)
    }

    /// What follows the line in front of a chunk: its data, or nothing for the last chunk (trailers are left out).
    fn chunk(line: &[u8]) -> BodyState {
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size.trim_ascii()).ok().and_then(|size| number(size, 16));
        size.filter(|&size| size > 0).map_or(BodyState::Nothing, BodyState::Chunk)
    }
}

/// As `from_str_radix`, without a sign.
fn number(digits: &str, radix: u32) -> Option<u64> {
    let is_number = digits.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| is_number)
}

/// Appends what the limit allows, and returns how much that was.
fn keep(kept: &mut Vec<u8>, input: &[u8], left: u64) -> usize {
    let room = (MAX_BODY - kept.len()).min(input.len());
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(room);
    kept.extend_from_slice(&input[..count]);
    count
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::every_way;
    use super::super::{Head, HeadParser};
    use super::*;

    fn head(lines: &str) -> Head {
        let text = format!("HTTP/1.1 {}\r\n\r\n", lines.replace('|', "\r\n"));
        HeadParser::response().feed(text.as_bytes()).unwrap().1.unwrap()
    }

    /// What is kept, how much is left behind the body, and whether the body is done.
    fn read(lines: &str, input: &str) -> (String, usize, bool) {
        every_way(input.as_bytes(), |pieces| {
            let (mut body, mut taken) = (Body::of(&head(lines)), 0);
            for piece in pieces {
                let (count, done) = body.feed(piece);
                assert!(done || count == piece.len());
                taken += count;
            }
            let done = body.is_done();
            (String::from_utf8(body.finish()).unwrap(), input.len() - taken, done)
        })
    }

    #[test]
    fn bodies_of_every_framing() {
        let table = [
            ("204 x", "abc", ("", 3, true)),
            ("304 x|Content-Length: 3", "abc", ("", 3, true)),
            ("103 x|Transfer-Encoding: chunked", "abc", ("", 3, true)),
            ("400 x", "abc", ("abc", 0, false)),
            ("400 x|Content-Length: 0", "abc", ("", 3, true)),
            ("400 x|Content-Length: 2", "abc", ("ab", 1, true)),
            ("400 x|Content-Length: 2|content-length: 2, 2", "abc", ("ab", 1, true)),
            ("400 x|Content-Length: 9", "abc", ("abc", 0, false)),
            ("400 x|Content-Length: 18446744073709551615", "abc", ("abc", 0, false)),
            // Malformed framing ends the body.
            ("400 x|Content-Length: 18446744073709551616", "abc", ("", 3, true)),
            ("400 x|Content-Length: +2", "abc", ("", 3, true)),
            ("400 x|Content-Length: -2", "abc", ("", 3, true)),
            ("400 x|Content-Length: 2|Content-Length: 3", "abc", ("", 3, true)),
            ("400 x|Transfer-Encoding: gzip", "abc", ("abc", 0, false)),
            ("400 x|Transfer-Encoding: gzip, Chunked|Content-Length: 1", "2\r\nab\r\n0\r\n", ("ab", 0, true)),
            (
                "400 x|Transfer-Encoding: chunked",
                "3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
                ("abc0123456789", 2, true),
            ),
            ("400 x|Transfer-Encoding: chunked", "3 \nabc\n0\n", ("abc", 0, true)),
            ("400 x|Transfer-Encoding: chunked", "3\r\nab", ("ab", 0, false)),
            ("400 x|Transfer-Encoding: chunked", "3\r\nabcxy\r\nf", ("abc", 1, true)),
            ("400 x|Transfer-Encoding: chunked", "+3\r\nabc", ("", 3, true)),
            ("400 x|Transfer-Encoding: chunked", "10000000000000000\r\nabc", ("", 3, true)),
            ("400 x|Transfer-Encoding: chunked", ";x\r\nabc", ("", 3, true)),
        ];
        for (lines, input, (kept, left, done)) in table {
            assert_eq!(read(lines, input), (kept.to_owned(), left, done), "{lines}: {input:?}");
        }
    }

    #[test]
    fn no_more_than_the_cap_is_kept_and_then_it_is_done() {
        let endless = vec![b'x'; MAX_BODY + 1];
        for (lines, before) in [
            ("400 x", ""),
            ("400 x|Content-Length: 999999", ""),
            ("400 x|Transfer-Encoding: chunked", "fffffffffffffff\r\n"),
        ] {
            let mut body = Body::of(&head(lines));
            assert_eq!(body.feed(before.as_bytes()), (before.len(), false));
            assert_eq!(body.feed(&endless[..MAX_BODY - 1]), (MAX_BODY - 1, false));
            assert_eq!(body.feed(&endless), (1, true));
            assert_eq!(body.feed(&endless), (0, true));
            assert_eq!(body.finish().len(), 64 * 1024);
        }
        let mut body = Body::of(&head("400 x|Transfer-Encoding: chunked"));
        assert_eq!(body.feed(&[b'0'; MAX_CHUNK_LINE + 9]), (MAX_CHUNK_LINE + 1, true));
    }

    #[test]
    fn framing_is_bounded_over_the_whole_body() {
        let extension = [&b"1;"[..], &[b'x'; 1000], b"\r\na\r\n"].concat();
        for piece in [&b"\n"[..], b"\r\n", b"\r", b"1\r\na\r\n", b"1\na", &extension] {
            let mut body = Body::of(&head("400 x|Transfer-Encoding: chunked"));
            let input = piece.repeat(2 * (MAX_FRAMING + MAX_BODY) / piece.len());
            let (whole, done) = body.feed(&input);
            assert!(done && whole <= MAX_FRAMING + MAX_BODY, "{whole} of {:?}", piece.escape_ascii().to_string());
            let mut body = Body::of(&head("400 x|Transfer-Encoding: chunked"));
            let pieces: usize = input.chunks(7).map(|piece| body.feed(piece).0).sum();
            assert_eq!(pieces, whole);
        }
        let mut body = Body::of(&head("400 x|Transfer-Encoding: chunked"));
        body.feed(&b"2\r\nab\r\n".repeat(MAX_BODY));
        assert_eq!(body.finish().len(), MAX_BODY);
    }
}
