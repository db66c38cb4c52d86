//! Heads as they come over the wire: whole, byte by byte and cut at every place.

use super::*;

/// Feeds the input whole, byte by byte and cut in two at every place; the outcome must always be the same.
pub(crate) fn every_way<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    run: impl Fn(&mut dyn Iterator<Item = &[u8]>) -> T,
) -> T {
    let whole = run(&mut [input].into_iter());
    assert_eq!(run(&mut input.chunks(1)), whole, "byte by byte: {:?}", String::from_utf8_lossy(input));
    for at in 0..=input.len() {
        let (left, right) = input.split_at(at);
        assert_eq!(run(&mut [left, right].into_iter()), whole, "cut at {at}: {:?}", String::from_utf8_lossy(input));
    }
    whole
}

/// The head and how many bytes it took; `None` if it has not ended yet.
pub(crate) fn feed_all<S: StartLine>(
    mut parser: HeadParser<S>,
    pieces: &mut dyn Iterator<Item = &[u8]>,
) -> Result<Option<(Head<S>, usize)>> {
    let mut taken = 0;
    for piece in pieces {
        let (count, head) = parser.feed(piece)?;
        taken += count;
        if let Some(head) = head {
            assert!(parser.is_empty());
            return Ok(Some((head, taken)));
        }
        assert_eq!(count, piece.len());
    }
    assert!(parser.is_empty() || taken > 0);
    Ok(None)
}

/// The head that the input is.
pub(crate) fn parse<S: StartLine>(parser: HeadParser<S>, input: &[u8]) -> Result<Head<S>> {
    feed_all(parser, &mut [input].into_iter()).map(|head| head.expect("a whole head").0)
}

/// A response head on one line, with the number of bytes behind it.
fn response(input: &[u8]) -> Result<String, ()> {
    every_way(input, |pieces| match feed_all(HeadParser::response(), pieces) {
        Ok(Some((head, taken))) => {
            let StatusLine { minor, status, reason } = head.start;
            let headers: String = head.headers.iter().map(|(name, value)| format!("|{name}={value}")).collect();
            Ok(format!("1.{minor} {status} {reason}{headers}|{}", input.len() - taken))
        }
        Ok(None) => Ok("more".to_owned()),
        Err(_) => Err(()),
    })
}

#[test]
fn response_heads_that_are_read() {
    let table: &[(&[u8], &str)] = &[
        (b"", "more"),
        (b"HTTP/1.1 101 Switching Protocols\r\n", "more"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "1.1 101 Switching Protocols|0"),
        (b"HTTP/1.1 101\r\n\r\n", "1.1 101 |0"),
        (b"HTTP/1.1 101 \r\n\r\n", "1.1 101 |0"),
        (b"HTTP/1.0 200 OK\r\n\r\n", "1.0 200 OK|0"),
        (b"HTTP/1.9 999 ?\r\n\r\n", "1.9 999 ?|0"),
        (b"HTTP/1.1 404 Pas trouv\xc3\xa9\r\n\r\n", "1.1 404 Pas trouv\u{e9}|0"),
        (b"HTTP/1.1 101 x\r\n\r\n\x81\x02hi", "1.1 101 x|4"),
        (b"HTTP/1.1 101 x\r\nA:1\r\nb: \t 2 \t\r\nA:\r\n\r\n", "1.1 101 x|A=1|b=2|A=|0"),
        // Bare line feeds end lines as well (RFC 9112 section 2.2).
        (b"HTTP/1.1 101 x\nA: 1\r\nB: 2\n\n\n", "1.1 101 x|A=1|B=2|1"),
        // A fold is one space (RFC 9112 section 5.2).
        (b"HTTP/1.1 101 x\r\nA: 1\r\n \t 2\r\n\t3\r\nB:\r\n 4\r\n \r\n\r\n", "1.1 101 x|A=1 2 3|B=4|0"),
        (b"HTTP/1.1 101 x\r\nA: b\r\n c: d\r\n\r\n", "1.1 101 x|A=b c: d|0"),
        (b"HTTP/1.1 101 x\r\n!#$%&'*+-.^_`|~9aZ: \"a:b\"\r\n\r\n", "1.1 101 x|!#$%&'*+-.^_`|~9aZ=\"a:b\"|0"),
        (
            b"HTTP/1.1 101 x\r\nU: \xc3\xa9\r\nL: \xe9\r\nC: \x01\x7f\r\n\r\n",
            "1.1 101 x|U=\u{e9}|L=\u{e9}|C=\u{1}\u{7f}|0",
        ),
    ];
    for (input, expected) in table {
        assert_eq!(response(input).as_deref(), Ok(*expected));
    }
}

/// How many bytes it takes until the head is refused, and the error.
fn refused<S: StartLine>(mut parser: HeadParser<S>, input: &[u8]) -> (usize, HeadError) {
    for (at, byte) in input.iter().enumerate() {
        if let Err(error) = parser.feed(&[*byte]) {
            return (at + 1, error);
        }
    }
    panic!("not refused: {:?}", String::from_utf8_lossy(input));
}

#[test]
fn response_heads_that_are_refused_and_at_which_byte() {
    let table: &[(&[u8], usize)] = &[
        (b"\x00\x00\x12\x04", 1),
        (b"SSH-2.0-OpenSSH\r\n", 1),
        (b"http/1.1 101 x\r\n", 1),
        (b" HTTP/1.1 101 x\r\n", 1),
        (b"\r\nHTTP/1.1 101 x\r\n", 2),
        (b"HTP/1.1 101 x\r\n", 3),
        (b"HTTP/2 101 x\r\n", 6),
        (b"HTTP/1 101 x\r\n", 7),
        (b"HTTP/1.x 101\r\n", 8),
        (b"HTTP/1.10 101\r\n", 9),
        (b"HTTP/1.1  101\r\n", 10),
        (b"HTTP/1.1 001 x\r\n", 10),
        (b"HTTP/1.1 10 x\r\n", 12),
        (b"HTTP/1.1 1011 x\r\n", 13),
        (b"HTTP/1.1\r\n", 10),
        (b"HTTP/1.1 10\r\n", 13),
        (b"HTTP/1.1 101 a\0\r\n", 15),
        (b"HTTP/1.1 101 a\rb", 16),
        (b"HTTP/1.1 101 x\r\r\n", 16),
        (b"HTTP/1.1 101 x\r\n folded\r\n", 17),
        (b"HTTP/1.1 101 x\r\n: v\r\n", 17),
        (b"HTTP/1.1 101 x\r\nA B: v\r\n", 18),
        (b"HTTP/1.1 101 x\r\nA : v\r\n", 18),
        (b"HTTP/1.1 101 x\r\nA\t: v\r\n", 18),
        (b"HTTP/1.1 101 x\r\nA\r\n", 19),
        (b"HTTP/1.1 101 x\r\nA\xe9: v\r\n", 18),
        (b"HTTP/1.1 101 x\r\nA: \0\r\n", 20),
        (b"HTTP/1.1 101 x\r\nA: 1\rB: 2\r\n", 22),
        (b"HTTP/1.1 101 x\r\nA: 1\r\n \0\r\n", 24),
        (b"HTTP/1.1 101 x\r\nA: 1\r\n\rB", 24),
    ];
    for &(input, at) in table {
        let (taken, error) = refused(HeadParser::response(), input);
        assert_eq!(taken, at, "{:?}: {error}", String::from_utf8_lossy(input));
        assert_eq!(response(input), Err(()));
    }
}

#[test]
fn refusals_say_what_was_wrong() {
    let text = |input: &[u8]| HeadParser::response().feed(input).err().map(|error| error.to_string()).unwrap();
    assert_eq!(text(b"SSH-2.0-x\r\n"), "\"SSH-2.0-x\" is not the start of an HTTP/1.1 status line");
    assert_eq!(text(b"HTTP/2 101\r\n"), "\"HTTP/2 101\" is not the start of an HTTP/1.1 status line");
    assert_eq!(text(b"HTTP/1.1\r\n"), "\"HTTP/1.1\" is not an HTTP/1.1 status line");
    for record in [b"\x15\x03\x01\x00\x02\x02\x46", b"\x16\x03\x03\x00\x02\x02\x46"] {
        assert_eq!(HeadParser::response().feed(record).err(), Some(HeadError::Tls { sender: "server" }));
        assert_eq!(HeadParser::request().feed(record).err(), Some(HeadError::Tls { sender: "client" }));
    }
    // Never a query or a value, which may be a secret.
    for line in [&b"GET /?secret b HTTP/1.1\r\n"[..], b"GET /?secret\xff HTTP/1.1\r\n"] {
        assert!(!HeadParser::request().feed(line).err().unwrap().to_string().contains("secret"));
    }
    assert!(!text(b"HTTP/1.1 200 OK\r\nSet-Cookie : secret\r\n").contains("secret"));
}

#[test]
fn limits_hold_to_the_byte() {
    let fits = |head: &str| {
        let whole = HeadParser::response().feed(head.as_bytes()).map(|(taken, _)| taken);
        let bytes = feed_all(HeadParser::response(), &mut head.as_bytes().chunks(1));
        assert_eq!(whole.is_ok(), bytes.is_ok());
        whole == Ok(head.len())
    };
    let headers = |count: usize| format!("HTTP/1.1 101 x\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert!(fits(&headers(MAX_HEADERS)));
    assert!(!fits(&headers(MAX_HEADERS + 1)));
    // A line has the whole head's bound.
    let line = |length: usize| format!("HTTP/1.1 101 x\r\nA: {}\r\n\r\n", "b".repeat(length - 23));
    assert!(fits(&line(64 * 1024)));
    assert!(!fits(&line(64 * 1024 + 1)));
    assert!(!fits(&format!("HTTP/1.1 101 {}", "x".repeat(MAX_HEAD))));
}

#[test]
fn interim_responses_lead_to_the_next_head_and_count_together() {
    let input =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 101 x\r\nA: b\r\n\r\n";
    let (mut parser, mut rest, mut seen) = (HeadParser::response(), &input[..], Vec::new());
    while let (taken, Some(head)) = parser.feed(rest).unwrap() {
        rest = &rest[taken..];
        seen.push((head.start.status, is_informational(&head), head.headers.len()));
    }
    assert_eq!(seen, [(100, true, 0), (103, true, 1), (101, false, 1)]);

    let mut parser = HeadParser::response();
    let flood = b"HTTP/1.1 100 x\r\n\r\n";
    let heads = (0..).take_while(|_| parser.feed(flood).is_ok()).count();
    assert_eq!(heads, MAX_HEAD / flood.len());
}

#[test]
fn request_heads() {
    let table: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\r\n\r\n", "GET / 1.1"),
        (b"GET /a?b=%20 HTTP/1.0\nHost: h\n\n", "GET /a?b=%20 1.0"),
        (b"M-SEARCH * HTTP/1.1\r\n\r\n", "M-SEARCH * 1.1"),
        (b"GET /a b HTTP/1.1\r\n\r\n", "refused"),
        (b"GET  / HTTP/1.1\r\n\r\n", "refused"),
        (b"GET / HTTP/1.1 \r\n\r\n", "refused"),
        (b"GET / HTTP/2.0\r\n\r\n", "refused"),
        (b"GET / HTTP/1.\r\n\r\n", "refused"),
        (b"GET /\r\n\r\n", "refused"),
        (b"GET\r\n\r\n", "refused"),
        (b"G(T / HTTP/1.1\r\n\r\n", "refused"),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", "refused"),
        (b"GET /\t HTTP/1.1\r\n\r\n", "refused"),
        (b" GET / HTTP/1.1\r\n\r\n", "refused"),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", "GET / 1.1"),
        (b"\n\r\n\nGET / HTTP/1.1\r\n\r\n", "GET / 1.1"),
        (b"\n\n\n\n\n\n\n\nGET / HTTP/1.1\r\n\r\n", "GET / 1.1"),
        (b"\n\n\n\n\n\n\n\n\nGET / HTTP/1.1\r\n\r\n", "refused"),
        (b"\r\n", "more"),
        (b"\r\rGET / HTTP/1.1\r\n\r\n", "refused"),
        (b"\r\n GET / HTTP/1.1\r\n\r\n", "refused"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "refused"),
    ];
    for (input, expected) in table {
        let outcome = every_way(input, |pieces| match feed_all(HeadParser::request(), pieces) {
            Ok(Some((head, _))) => format!("{} {} 1.{}", head.start.method, head.start.target, head.start.minor),
            Ok(None) => "more".to_owned(),
            Err(_) => "refused".to_owned(),
        });
        assert_eq!(&outcome, expected, "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn a_head_has_begun_with_its_first_byte() {
    for (input, is_empty) in [
        ("", true),
        ("G", false),
        ("\r", false),
        ("\r\n", true),
        ("GET / HTTP/1.1\n", false),
        ("GET / HTTP/1.1\nA", false),
    ] {
        let mut parser = HeadParser::request();
        parser.feed(input.as_bytes()).unwrap();
        assert_eq!(parser.is_empty(), is_empty, "{input:?}");
    }
}
