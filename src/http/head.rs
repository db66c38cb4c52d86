//! Heads of requests and responses (RFC 9112 §2 to §5), parsed incrementally.

use std::{fmt, mem};

use super::headers::{Headers, clip, is_tchar, is_token, trim};

type Result<T, E = HeadError> = std::result::Result<T, E>;

/// The most bytes that a head may have, its empty line included. There is no other limit for a line.
const MAX_HEAD: usize = 64 * 1024;
/// The most header lines that a head may have.
const MAX_HEADERS: usize = 128;

/// Why bytes cannot become a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The first byte is that of a TLS record; `sender` is the side that sent it.
    Tls {
        sender: &'static str,
    },
    Malformed(String),
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeadError::Tls { sender } => write!(f, "the {sender} speaks TLS where plain HTTP was expected"),
            HeadError::Malformed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for HeadError {}

/// A whole head. Without a parameter it is a response's.
pub struct Head<S = StatusLine> {
    pub start: S,
    pub headers: Headers,
}

/// `GET /path?query HTTP/1.1`
pub struct RequestLine {
    pub method: String,
    pub target: String,
    /// The 1 of `HTTP/1.1`.
    pub minor: u8,
}

/// `HTTP/1.1 101 Switching Protocols`; the reason may be missing.
pub struct StatusLine {
    pub minor: u8,
    pub status: u16,
    pub reason: String,
}

/// Whether another head follows this one (RFC 9110 §15.2): 100, 102, 103 and so on, but not 101.
pub fn is_informational(head: &Head) -> bool {
    head.start.status < 200 && head.start.status != 101
}

/// Reads a head from bytes in any portions; each byte is looked at once.
///
/// A head is refused at its first wrong byte. A line may end with a bare LF (RFC 9112 §2.2), a bare
/// CR or a NUL is refused, folded lines are joined with one space, values that are not UTF-8 are read as Latin-1. Empty
/// lines before a request line are skipped, up to a few (RFC 9112 §2.2); none may come before a status line.
///
/// After a head the parser starts again, but the limit counts on: all informational responses together have 64 KiB.
pub struct HeadParser<S = StatusLine> {
    taken: usize,
    /// Empty lines before the start line.
    skipped: usize,
    line: Vec<u8>,
    state: LineState,
    /// A CR came: only a LF may follow.
    cr: bool,
    start: Option<S>,
    headers: Headers,
}

/// The part of a line that the next byte belongs to.
enum LineState {
    Start,
    Name,
    /// A value, behind a name of this length.
    Value(usize),
    Fold,
}

impl HeadParser<RequestLine> {
    pub fn request() -> Self {
        HeadParser::new()
    }
}

impl HeadParser<StatusLine> {
    pub fn response() -> Self {
        HeadParser::new()
    }
}

impl<S: StartLine> HeadParser<S> {
    fn new() -> Self {
        let (line, headers) = (Vec::new(), Headers::default());
        HeadParser { taken: 0, skipped: 0, line, state: LineState::Start, cr: false, start: None, headers }
    }

    /// Takes bytes up to the end of the head; returns how many, and the head once it is complete.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Head<S>>)> {
        for (at, &byte) in input.iter().enumerate() {
            self.taken += 1;
            let head = match byte {
                b'\n' => self.end_line()?,
                _ if self.cr => return refuse("a CR without LF in the head".to_owned()),
                b'\r' => {
                    self.cr = true;
                    None
                }
                _ => {
                    self.take(byte, &input[at..])?;
                    None
                }
            };
            if head.is_some() {
                return Ok((at + 1, head));
            }
            if self.taken >= MAX_HEAD {
                return refuse(format!("the head is longer than {MAX_HEAD} bytes"));
            }
        }
        Ok((input.len(), None))
    }

    /// How many bytes have come.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether no byte of the (next) head has arrived.
    pub fn is_empty(&self) -> bool {
        matches!(self.state, LineState::Start) && self.line.is_empty() && !self.cr
    }

    /// Takes a byte that ends no line. `rest`, which begins with it, is for the error's text.
    fn take(&mut self, byte: u8, rest: &[u8]) -> Result<()> {
        match self.state {
            LineState::Start if !S::fits(self.line.len(), byte) => return Err(self.misfit(byte, rest)),
            LineState::Name if byte == b':' && !self.line.is_empty() => self.state = LineState::Value(self.line.len()),
            LineState::Name if matches!(byte, b' ' | b'\t') && self.line.is_empty() && self.headers.len() > 0 => {
                self.state = LineState::Fold;
            }
            LineState::Name if !is_tchar(byte as char) => {
                let name = clip(&text(&self.line));
                return refuse(format!("{:?} in or behind a header's name ({name}), expected a colon", byte as char));
            }
            LineState::Value(_) | LineState::Fold if byte == 0 => {
                return refuse("a NUL in a header's value".to_owned());
            }
            _ => {}
        }
        self.line.push(byte);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Head<S>>> {
        self.cr = false;
        let line = mem::take(&mut self.line);
        match mem::replace(&mut self.state, LineState::Name) {
            LineState::Start if line.is_empty() && self.skipped < S::MAX_EMPTY_LINES => {
                self.skipped += 1;
                self.state = LineState::Start;
            }
            LineState::Start => {
                let start = S::parse(&line);
                let wrong = || HeadError::Malformed(format!("{} is not {}", clip(showable(&text(&line))), S::WHAT));
                self.start = Some(start.ok_or_else(wrong)?);
            }
            LineState::Name if line.is_empty() => {
                self.state = LineState::Start;
                let headers = mem::take(&mut self.headers);
                return Ok(self.start.take().map(|start| Head { start, headers }));
            }
            LineState::Name => return refuse(format!("header line {} has no colon", clip(&text(&line)))),
            LineState::Value(_) if self.headers.len() == MAX_HEADERS => {
                return refuse(format!("the head has more than {MAX_HEADERS} headers"));
            }
            LineState::Value(name) => self.headers.push(&text(&line[..name]), &text(&line[name + 1..])),
            LineState::Fold => self.headers.fold(&text(&line)),
        }
        Ok(None)
    }

    /// The error for a byte that no start line has at this place.
    fn misfit(&self, byte: u8, rest: &[u8]) -> HeadError {
        // The first byte of a TLS record: an alert or a handshake (RFC 8446 §5.1). No HTTP message begins with it.
        if self.line.is_empty() && matches!(byte, 0x15 | 0x16) {
            return HeadError::Tls { sender: S::SENDER };
        }
        let line = text(&self.line) + &text(&rest[..rest.len().min(40)]);
        HeadError::Malformed(format!("{} is not the start of {}", clip(showable(&line)), S::WHAT))
    }
}

fn refuse<T>(text: String) -> Result<T> {
    Err(HeadError::Malformed(text))
}

/// UTF-8, or else Latin-1: no byte is lost or refused.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| byte as char).collect(),
    }
}

/// The first line, without the query of a request's target, which may hold a secret.
fn showable(text: &str) -> &str {
    text.split(['\r', '\n', '?']).next().unwrap_or_default()
}

/// One of the two kinds of first line.
pub trait StartLine: Sized {
    const WHAT: &'static str;
    /// The side that sends it.
    const SENDER: &'static str;
    /// How many empty lines may come before it.
    const MAX_EMPTY_LINES: usize;
    /// Whether this byte may stand at this place.
    fn fits(at: usize, byte: u8) -> bool;
    /// Reads a line of bytes that fit.
    fn parse(line: &[u8]) -> Option<Self>;
}

impl StartLine for StatusLine {
    const WHAT: &'static str = "an HTTP/1.1 status line";
    const SENDER: &'static str = "server";
    const MAX_EMPTY_LINES: usize = 0;

    fn fits(at: usize, byte: u8) -> bool {
        match at {
            0..7 => byte == b"HTTP/1."[at],
            7 | 10 | 11 => byte.is_ascii_digit(),
            8 | 12 => byte == b' ',
            9 => matches!(byte, b'1'..=b'9'),
            _ => byte == b'\t' || !byte.is_ascii_control(),
        }
    }

    fn parse(line: &[u8]) -> Option<StatusLine> {
        let digit = |at: usize| line.get(at).map(|byte| byte - b'0');
        let status = [9, 10, 11].iter().try_fold(0, |status, &at| Some(10 * status + u16::from(digit(at)?)))?;
        let reason = text(line.get(13..).unwrap_or_default());
        Some(StatusLine { minor: digit(7)?, status, reason: trim(&reason).to_owned() })
    }
}

impl StartLine for RequestLine {
    const WHAT: &'static str = "an HTTP/1.1 request line";
    const SENDER: &'static str = "client";
    /// At least one must be skipped (RFC 9112 §2.2).
    const MAX_EMPTY_LINES: usize = 8;

    fn fits(at: usize, byte: u8) -> bool {
        if at == 0 { is_tchar(byte as char) } else { byte == b' ' || byte.is_ascii_graphic() }
    }

    fn parse(line: &[u8]) -> Option<RequestLine> {
        let line = std::str::from_utf8(line).ok()?;
        let (method, rest) = line.split_once(' ')?;
        let (target, version) = rest.split_once(' ')?;
        let [minor] = version.strip_prefix("HTTP/1.")?.as_bytes() else { return None };
        let well_formed = is_token(method) && !target.is_empty() && minor.is_ascii_digit();
        well_formed.then(|| RequestLine { method: method.into(), target: target.into(), minor: minor - b'0' })
    }
}

#[cfg(test)]
pub(crate) mod tests;
