//! The opening handshake: heads cut anywhere, and what one role makes of any bytes of the other.

use wsync::internals::{
    Body, DeflateParameters, Head, HeadParser, Negotiated, StartLine, UpgradeRequest, accept, accept_key,
    check_request, deflate_parameters, key, response, write_accept, write_response,
};
use wsync::{Compression, ErrorKind, Request, Response, ResponseBuilder, Role};

use crate::Bytes;

/// The key of the client in every target; `s3pPLMBiTxaQ9kYGzzhZRbK+xOo=` accepts it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub fn response_head(data: &[u8]) {
    let mut data = Bytes(data);
    let steps = data.steps();
    let upgrade = upgrade(Compression::default());
    let whole = read_head(HeadParser::response(), data.0, &[usize::MAX]).map(|(taken, head)| {
        let mut body = Body::of(&head);
        let (kept, is_done) = read_body(&mut body, &data.0[taken..], &[usize::MAX]);
        let (again, _) = read_body(&mut Body::of(&head), &data.0[taken..], &steps);
        assert_eq!((kept, is_done), read_body(&mut Body::of(&head), &data.0[taken..], &[7]));
        assert_eq!(kept, again);
        let body = body.finish();
        assert!(body.len() <= 64 * 1024 && body.len() <= kept);
        if let Ok(negotiated) = upgrade.check(&head) {
            assert!(
                head.start.status == 101 && negotiated.protocol.is_none_or(|name| upgrade.protocols.contains(&name))
            );
            check_agreed(negotiated.deflate, 8);
        }
        let response = response(head, body);
        assert!(response.status() >= 100 && !format!("{response:?}").is_empty());
        let start = format!("HTTP/1.1 {} {}", response.status(), response.reason());
        (taken, start, lines(response.headers()))
    });
    let cut = read_head(HeadParser::response(), data.0, &steps)
        .map(|(taken, head)| (taken, response(head, Vec::new())))
        .map(|(taken, head)| (taken, format!("HTTP/1.1 {} {}", head.status(), head.reason()), lines(head.headers())));
    assert_eq!(whole, cut, "cut into {steps:?}");
    // Written and read again, the head is the same.
    if let Ok((_, start, headers)) = whole {
        let bytes = format!("{start}\r\n{headers}\r\n");
        if bytes.len() < 64 * 1024 {
            let (taken, head) = read_head(HeadParser::response(), bytes.as_bytes(), &steps).unwrap();
            assert_eq!((taken, lines(head.headers.iter())), (bytes.len(), headers));
        }
    }
}

pub fn request_head(data: &[u8]) {
    let mut data = Bytes(data);
    let compression = data.compression(Role::Server);
    let steps = data.steps();
    let parse = |steps: &[usize]| read_head(HeadParser::request(), data.0, steps);
    let summary = |(taken, head): (usize, Head<_>)| (taken, describe(&check_request(head)));
    assert_eq!(parse(&steps).map(summary), parse(&[usize::MAX]).map(summary), "cut into {steps:?}");
    let Ok((_, head)) = parse(&[usize::MAX]) else { return };
    let protocols = ["chat".to_owned(), "v2".to_owned()];
    let (answer, status) = match check_request(head) {
        Ok(request) => {
            let negotiated = accept(&request, &protocols, &compression);
            check_agreed(negotiated.deflate, 8);
            if let Some(name) = &negotiated.protocol {
                assert!(protocols.contains(name) && request.protocols().any(|offered| offered == name));
            }
            (write_accept(&request, &negotiated, &[]), 101)
        }
        Err(refusal) => {
            let response = Response::from(refusal);
            let status = response.status();
            (write_response(response), status)
        }
    };
    let (taken, head) =
        read_head(HeadParser::response(), &answer, &[usize::MAX]).expect("our own answer is well formed");
    assert_eq!(head.start.status, status);
    assert_eq!(read_body(&mut Body::of(&head), &answer[taken..], &[usize::MAX]).0, answer.len() - taken);
}

/// Any value of `Sec-WebSocket-Extensions`, to either role; and a client and a server of ours always agree.
pub fn extensions(data: &[u8]) {
    let mut data = Bytes(data);
    let (client, server) = (data.compression(Role::Client), data.compression(Role::Server));
    let value = String::from_utf8_lossy(data.0);
    if !value.contains(['\r', '\n', '\0']) {
        let line = format!("Sec-WebSocket-Extensions: {value}\r\n");
        // Any answer.
        if let Ok(negotiated) = answer(&client, &line) {
            check_agreed(negotiated.deflate, 9);
            let DeflateParameters { client_max_window_bits, server_max_window_bits, .. } =
                negotiated.deflate.expect("an empty header is refused");
            let offered = deflate_parameters(&client).unwrap();
            assert!(client_max_window_bits <= offered.client_max_window_bits);
            // A request: without an answer to it the window has 15 bits.
            assert!(server_max_window_bits <= offered.server_max_window_bits || server_max_window_bits == 15);
            assert!(answer(&Compression::off(), &line).is_err(), "it was not offered");
        }
        // Any offer.
        let head = format!("{}{line}\r\n", request_lines());
        if let Ok(request) = check_request(read_head(HeadParser::request(), head.as_bytes(), &[usize::MAX]).unwrap().1)
        {
            assert!(accept(&request, &[], &Compression::off()).deflate.is_none());
            let negotiated = accept(&request, &[], &server);
            check_agreed(negotiated.deflate, 8);
            if let Some(agreed) = negotiated.deflate {
                assert!(agreed.server_max_window_bits >= 9, "no encoder has a window of 8");
                assert!(value.contains("client_max_window_bits") || agreed.client_max_window_bits == 15);
            }
        }
    }
    let bytes = upgrade(client.clone()).to_bytes();
    let request =
        check_request(read_head(HeadParser::request(), &bytes, &[usize::MAX]).unwrap().1).expect("our own request");
    let negotiated = accept(&request, &["v2".to_owned()], &server);
    let reply = write_accept(&request, &negotiated, &[]);
    let (_, head) = read_head(HeadParser::response(), &reply, &[usize::MAX]).unwrap();
    match upgrade(client).check(&head) {
        Ok(theirs) => assert_eq!(theirs, negotiated),
        // Our server may ask for less than our client's encoder can do.
        Err(_) if negotiated.deflate.is_some_and(|agreed| agreed.client_max_window_bits == 8) => {}
        Err(error) => panic!("{error} in {}", String::from_utf8_lossy(&reply)),
    }
}

fn upgrade(compression: Compression) -> UpgradeRequest {
    assert_eq!(key(*b"the sample nonce"), KEY);
    UpgradeRequest {
        host: "example.com".to_owned(),
        target: "/chat".to_owned(),
        key: KEY.to_owned(),
        protocols: vec!["chat".to_owned(), "v2".to_owned()],
        compression,
        headers: Vec::new(),
        user_agent: None,
        basic: None,
    }
}

/// What a client makes of a 101 with this line.
fn answer(compression: &Compression, line: &str) -> Result<Negotiated, ErrorKind> {
    let accept = accept_key(KEY);
    let head = format!(
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: UpgradeRequest\r\nSec-WebSocket-Accept: {accept}\r\n{line}\r\n"
    );
    let (_, head) = read_head(HeadParser::response(), head.as_bytes(), &[usize::MAX])?;
    upgrade(compression.clone()).check(&head).map_err(|error| error.kind())
}

fn request_lines() -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: UpgradeRequest\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    )
}

fn check_agreed(agreed: Option<DeflateParameters>, client_least: u8) {
    let Some(agreed) = agreed else { return };
    assert!((client_least..=15).contains(&agreed.client_max_window_bits));
    assert!((8..=15).contains(&agreed.server_max_window_bits));
}

/// A head and the number of its bytes, or the error's kind; `Io` for an incomplete one.
fn read_head<S: StartLine>(
    mut parser: HeadParser<S>,
    input: &[u8],
    steps: &[usize],
) -> Result<(usize, Head<S>), ErrorKind> {
    let (mut at, mut steps) = (0, steps.iter().cycle());
    while at < input.len() {
        let end = input.len().min(at.saturating_add(*steps.next().unwrap()));
        let (taken, head) = parser.feed(&input[at..end]).map_err(|_| ErrorKind::Handshake)?;
        at += taken;
        assert!(at <= end && at <= 64 * 1024);
        match head {
            Some(head) => return Ok((at, head)),
            None => assert_eq!(at, end),
        }
    }
    Err(ErrorKind::Io)
}

/// The number of bytes that the body took, and whether it is done.
fn read_body(body: &mut Body, input: &[u8], steps: &[usize]) -> (usize, bool) {
    let (mut at, mut steps) = (0, steps.iter().cycle());
    while at < input.len() && !body.is_done() {
        let end = input.len().min(at.saturating_add(*steps.next().unwrap()));
        let (taken, is_done) = body.feed(&input[at..end]);
        at += taken;
        assert!(at == end || is_done);
    }
    (at, body.is_done())
}

fn lines<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

fn describe(checked: &Result<Request, ResponseBuilder>) -> String {
    match checked {
        Ok(request) => format!("{} {}", request.target(), lines(request.headers())),
        Err(refusal) => {
            let response = Response::from(refusal.clone());
            format!("{} {} {}", response.status(), lines(response.headers()), response.text())
        }
    }
}
