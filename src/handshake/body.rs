//! The body of a rejection (RFC 9112 §6 and §7).

use super::head::Head;
use super::headers::Headers;

/// The most bytes of a body that are kept.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// The longest line between chunks.
const MAX_CHUNK_LINE: usize = 1024;

/// Reads a body from bytes in any portions. Nothing in it is an error: the rejection is what counts, and what does not
/// make sense ends the body.
pub(crate) struct Body {
    kept: Vec<u8>,
    rest: Rest,
}

/// What is still to come.
enum Rest {
    Nothing,
    /// That many bytes.
    Length(u64),
    UntilEnd,
    /// The line in front of a chunk's data, of which this came. Empty lines, like the one behind the last chunk, are skipped.
    ChunkLine(Vec<u8>),
    /// That many bytes of a chunk.
    Chunk(u64),
}

impl Body {
    /// The body that belongs to this head. It is done at once if the status or the headers say that there is none.
    pub fn of(head: &Head) -> Body {
        let rest = match head.start.status {
            100..200 | 204 | 304 => Rest::Nothing,
            _ => Rest::announced(&head.headers),
        };
        Body { kept: Vec::new(), rest }
    }

    /// Takes bytes, and says how many of them, and whether the body is done.
    pub fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            at += self.take(&input[at..]);
        }
        (at, self.is_done())
    }

    /// Whether nothing more is wanted: the body has ended, or as much as is kept has come.
    pub fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Nothing | Rest::Length(0)) || self.kept.len() == MAX_BODY
    }

    /// What came, whether it is all or not.
    pub fn finish(self) -> Vec<u8> {
        self.kept
    }

    fn take(&mut self, input: &[u8]) -> usize {
        match &mut self.rest {
            Rest::Nothing => 0,
            Rest::UntilEnd => keep(&mut self.kept, input, u64::MAX),
            Rest::Length(left) => {
                let count = keep(&mut self.kept, input, *left);
                *left -= count as u64;
                count
            }
            Rest::Chunk(left) => {
                let count = keep(&mut self.kept, input, *left);
                *left -= count as u64;
                if *left == 0 {
                    self.rest = Rest::ChunkLine(Vec::new());
                }
                count
            }
            Rest::ChunkLine(line) => {
                match input[0] {
                    b'\r' => {}
                    b'\n' if line.is_empty() => {}
                    b'\n' => self.rest = Rest::chunk(line),
                    byte if line.len() < MAX_CHUNK_LINE => line.push(byte),
                    _ => self.rest = Rest::Nothing,
                }
                1
            }
        }
    }
}

impl Rest {
    fn announced(headers: &Headers) -> Rest {
        if let Some(coding) = headers.tokens("Transfer-Encoding").last() {
            let is_chunked = coding.eq_ignore_ascii_case("chunked");
            return if is_chunked { Rest::ChunkLine(Vec::new()) } else { Rest::UntilEnd };
        }
        let mut lengths = headers.tokens("Content-Length");
        let Some(length) = lengths.next() else { return Rest::UntilEnd };
        number(length, 10).filter(|_| lengths.all(|other| other == length)).map_or(Rest::Nothing, Rest::Length)
    }

    /// What follows the line in front of a chunk: its data, or nothing behind the last one (its trailers do not matter).
    fn chunk(line: &[u8]) -> Rest {
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size.trim_ascii()).ok().and_then(|size| number(size, 16));
        size.filter(|&size| size > 0).map_or(Rest::Nothing, Rest::Chunk)
    }
}

/// Unlike `from_str_radix` alone it takes no sign.
fn number(digits: &str, radix: u32) -> Option<u64> {
    let is_number = digits.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| is_number)
}

/// Appends what fits into the cap and says how much that was.
fn keep(kept: &mut Vec<u8>, input: &[u8], left: u64) -> usize {
    let room = (MAX_BODY - kept.len()).min(input.len());
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(room);
    kept.extend_from_slice(&input[..count]);
    count
}
