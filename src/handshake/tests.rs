//! Requests and answers as bytes: what is accepted, what is refused, and that both sides agree.

use proptest::prelude::*;

use super::*;
use crate::compression::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::http::head_tests::{every_way, feed_all, parse};
use crate::http::{HeadParser, Request, Response};

/// RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

#[test]
fn the_key_and_its_answer_are_those_of_the_rfc() {
    assert_eq!(key(*b"the sample nonce"), KEY);
    assert_eq!(accept_key(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

fn upgrade(protocols: &[&str], compression: Compression) -> UpgradeRequest {
    UpgradeRequest {
        host: "example.com".to_owned(),
        target: "/chat?room=1".to_owned(),
        key: KEY.to_owned(),
        protocols: protocols.iter().map(|&name| name.to_owned()).collect(),
        compression,
        headers: Vec::new(),
        user_agent: None,
        basic: None,
    }
}

/// A head of lines with short forms: U, C and A are the three headers that every 101 has.
fn head_of(lines: &str) -> Vec<u8> {
    let line = |line| match line {
        "101" => "HTTP/1.1 101 Switching Protocols",
        "U" => "Upgrade: websocket",
        "C" => "Connection: Upgrade",
        "A" => "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "GET" => "GET /chat HTTP/1.1",
        "H" => "Host: example.com",
        "K" => "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "V" => "Sec-WebSocket-Version: 13",
        other => other,
    };
    lines
        .split('|')
        .map(|short| format!("{}\r\n", line(short)))
        .chain(["\r\n".to_owned()])
        .collect::<String>()
        .into_bytes()
}

fn check(upgrade: &UpgradeRequest, lines: &str) -> Result<Negotiated, String> {
    every_way(&head_of(lines), |pieces| {
        let (head, _) = feed_all(HeadParser::response(), pieces).unwrap().unwrap();
        upgrade.check(&head).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Handshake);
            error.to_string()
        })
    })
}

#[test]
fn answers_to_an_upgrade() {
    let upgrade = upgrade(&["chat", "Talk"], Compression::default());
    let fine: &[(&str, Option<&str>)] = &[
        ("101|U|C|A", None),
        ("HTTP/1.1 101|U|C|A", None),
        ("101|Upgrade: WebSocket|C|A", None),
        ("101|UPGRADE:websocket|connection:keep-alive, UPGRADE|A", None),
        ("101|U|Connection: keep-alive|Connection: upgrade|A", None),
        ("101|U|C|Sec-WebSocket-Accept: \t s3pPLMBiTxaQ9kYGzzhZRbK+xOo= \t", None),
        ("101|U|C|Sec-WebSocket-Accept:| s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", None),
        ("101|U|C|A|Content-Length: 5|Server: x|Set-Cookie: a=b|Set-Cookie: c=d", None),
        ("101|U|C|A|Sec-WebSocket-Protocol: chat", Some("chat")),
        ("101|U|C|A|sec-websocket-protocol:Talk ", Some("Talk")),
    ];
    for (lines, protocol) in fine {
        let negotiated = check(&upgrade, lines).expect(lines);
        assert_eq!(negotiated.protocol.as_deref(), *protocol, "{lines}");
        assert_eq!((negotiated.extensions.as_str(), negotiated.deflate), ("", None));
    }
    let wrong: &[(&str, &str)] = &[
        ("HTTP/1.0 101 x|U|C|A", "HTTP/1.0 101"),
        ("HTTP/1.1 200 OK|U|C|A", "HTTP/1.1 200"),
        ("101|C|A", "Upgrade is absent"),
        ("101|Upgrade: xwebsocket|C|A", "Upgrade is \"xwebsocket\""),
        ("101|Upgrade: websocket, h2c|C|A", "Upgrade is"),
        ("101|U|U|C|A", "Upgrade is"),
        ("101|Upgrade:|C|A", "Upgrade is \"\""),
        ("101|U|A", "Connection is absent"),
        ("101|U|Connection: xupgrade|A", "Connection is \"xupgrade\""),
        ("101|U|Connection: keep-alive|A", "Connection is \"keep-alive\""),
        ("101|U|C", "Sec-WebSocket-Accept is absent"),
        ("101|U|C|A|A", "Sec-WebSocket-Accept is"),
        ("101|U|C|Sec-WebSocket-Accept:", "Sec-WebSocket-Accept is \"\""),
        ("101|U|C|Sec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO=", "Sec-WebSocket-Accept is"),
        ("101|U|C|Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==", "does not fit the key"),
        ("101|U|C|A|Sec-WebSocket-Protocol: other", "Sec-WebSocket-Protocol is \"other\""),
        ("101|U|C|A|Sec-WebSocket-Protocol: talk", "not one that was offered"),
        ("101|U|C|A|Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol is \"\""),
        ("101|U|C|A|Sec-WebSocket-Protocol: chat, Talk", "not one that was offered"),
        ("101|U|C|A|Sec-WebSocket-Protocol: chat|Sec-WebSocket-Protocol: chat", "not one that was offered"),
        ("101|U|C|A|Sec-WebSocket-Extensions: x-webkit-deflate-frame", "was not offered"),
    ];
    for (lines, expected) in wrong {
        let error = check(&upgrade, lines).expect_err(lines);
        assert!(error.contains(expected), "{lines}: {error}");
    }
}

#[test]
fn a_head_error_is_a_handshake_error_that_says_what_to_do() {
    let tls = b"\x15\x03\x01";
    let error: Error = HeadParser::response().feed(tls).err().unwrap().into();
    assert_eq!(error.kind(), ErrorKind::Handshake);
    assert!(error.to_string().contains("use wss://"), "{error}");
    let error: Error = HeadParser::request().feed(tls).err().unwrap().into();
    assert!(error.to_string().contains("accept it with TLS"), "{error}");
    let error: Error = HeadParser::response().feed(b"SSH").err().unwrap().into();
    assert_eq!(error.to_string(), "\"SSH\" is not the start of an HTTP/1.1 status line");
}

#[test]
fn nothing_offered_nothing_taken() {
    let upgrade = upgrade(&[], Compression::off());
    assert!(check(&upgrade, "101|U|C|A").is_ok());
    for header in ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: permessage-deflate"] {
        assert!(check(&upgrade, &format!("101|U|C|A|{header}")).is_err());
    }
}

#[test]
fn the_request_as_it_is_sent() {
    let mut upgrade = upgrade(&["chat", "talk"], Compression::default());
    upgrade.user_agent = Some("wsync".to_owned());
    upgrade.basic = Some("Basic dTpw".to_owned());
    let headers = [("X-Mine", " 1\t"), ("x-mine", "2"), ("CONNECTION", "close"), ("sec-websocket-accept", "x")];
    upgrade.headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let expected = "GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: chat, talk\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nUser-Agent: wsync\r\n\
        Authorization: Basic dTpw\r\nX-Mine: 1\r\nx-mine: 2\r\n\r\n";
    assert_eq!(String::from_utf8(upgrade.to_bytes()).unwrap(), expected);

    let headers = [("host", "a"), ("Host", "b"), ("user-agent", "me"), ("AUTHORIZATION", "Bearer t")];
    upgrade.headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    (upgrade.protocols, upgrade.compression) = (Vec::new(), Compression::off());
    let expected = "GET /chat?room=1 HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        user-agent: me\r\nAUTHORIZATION: Bearer t\r\n\r\n";
    assert_eq!(String::from_utf8(upgrade.to_bytes()).unwrap(), expected);
}

#[test]
fn subprotocols_that_can_be_offered() {
    let check = |names: &[&str]| check_protocols(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    assert!(check(&[]).is_ok());
    assert!(check(&["chat", "Chat", "v1.x+json", "!#$%&'*+-.^_`|~"]).is_ok());
    for names in [&["a b"][..], &["a,b"], &["a\n"], &["\0"], &["é"], &["a/b"], &["\"a\""], &[""], &["a", "a"]] {
        assert_eq!(check(names).unwrap_err().kind(), ErrorKind::InvalidInput, "{names:?}");
    }
}

fn refusal(lines: &str) -> Response {
    let outcome = every_way(&head_of(lines), |pieces| {
        let (head, _) = feed_all(HeadParser::request(), pieces).unwrap().unwrap();
        check_request(head).err()
    });
    outcome.unwrap_or_else(|| panic!("accepted: {lines}")).into()
}

fn request(lines: &str) -> Request {
    check_request(parse(HeadParser::request(), &head_of(lines)).unwrap()).expect(lines)
}

#[test]
fn requests_that_are_accepted() {
    let fine = [
        "GET|H|U|C|K|V",
        "GET /chat HTTP/1.2|H|U|C|K|V",
        "GET http://h:80/chat HTTP/1.1|H|U|C|K|V",
        "GET WS://user@[::1]:80/chat HTTP/1.1|H|U|C|K|V",
        "GET|H|Upgrade: h2c, WebSocket|Connection: keep-alive|connection: UPGRADE|K|V|Content-Length: 0",
        "GET|H|U|C|K|V|Sec-WebSocket-Protocol: a, b|Sec-WebSocket-Protocol: c,",
        "GET|H|U|C|K|V|Sec-WebSocket-Extensions: x; y=\"z\", permessage-deflate; what; what",
    ];
    for lines in fine {
        assert_eq!(request(lines).target(), "/chat");
    }
    let request = request("GET http://h?q HTTP/1.1|H|U|C|K|V|Sec-WebSocket-Protocol: a, b|Cookie: secret");
    assert_eq!((request.target(), request.path(), request.query_string()), ("/?q", "/", Some("q")));
    assert_eq!(request.header("cookie"), Some("secret"));
    assert_eq!(request.protocols().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!format!("{request:?}").contains("secret"));
}

#[test]
fn requests_that_are_refused() {
    let table = [
        ("POST /chat HTTP/1.1|H|U|C|K|V", 405),
        ("get /chat HTTP/1.1|H|U|C|K|V", 405),
        ("GET /chat HTTP/1.0|H|U|C|K|V", 505),
        ("GET * HTTP/1.1|H|U|C|K|V", 400),
        ("GET h:80 HTTP/1.1|H|U|C|K|V", 400),
        ("GET ftp://h/ HTTP/1.1|H|U|C|K|V", 400),
        ("GET http:///x HTTP/1.1|H|U|C|K|V", 400),
        ("GET ws://?q HTTP/1.1|H|U|C|K|V", 400),
        ("GET http:// HTTP/1.1|H|U|C|K|V", 400),
        ("GET http://:80/x HTTP/1.1|H|U|C|K|V", 400),
        ("GET http://user@/x HTTP/1.1|H|U|C|K|V", 400),
        ("GET /#a HTTP/1.1|H|U|C|K|V", 400),
        ("GET|U|C|K|V", 400),
        ("GET|H|H|U|C|K|V", 400),
        ("GET|H|C|K|V", 426),
        ("GET|H|Upgrade: xwebsocket|C|K|V", 426),
        ("GET|H|U|K|V", 426),
        ("GET|H|U|Connection: close|K|V", 426),
        ("GET|H|U|C|K", 426),
        ("GET|H|U|C|K|V|V", 426),
        ("GET|H|U|C|K|Sec-WebSocket-Version: 8", 426),
        ("GET|H|U|C|V", 400),
        ("GET|H|U|C|K|K|V", 400),
        ("GET|H|U|C|Sec-WebSocket-Key:|V", 400),
        ("GET|H|U|C|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ|V", 400),
        ("GET|H|U|C|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=|V", 400),
        ("GET|H|U|C|Sec-WebSocket-Key: not base 64!|V", 400),
        ("GET|H|U|C|K|V|Content-Length: 1", 400),
        ("GET|H|U|C|K|V|Transfer-Encoding: chunked", 400),
        ("GET|H|U|C|K|V|Sec-WebSocket-Protocol: a b", 400),
        ("GET|H|U|C|K|V|Sec-WebSocket-Protocol: a|Sec-WebSocket-Protocol: a", 400),
        ("GET|H|U|C|K|V|Sec-WebSocket-Extensions: ;", 400),
    ];
    for (lines, status) in table {
        assert_eq!(refusal(lines).status(), status, "{lines}");
    }
    let written = String::from_utf8(refusal("GET|H|U|C|K").closing().to_bytes()).unwrap();
    let expected = "HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 50\r\n\r\n\
        Sec-WebSocket-Version must be there once and be 13";
    assert_eq!(written, expected);
}

#[test]
fn responses_that_can_be_sent() {
    let check = |response: crate::http::ResponseBuilder| check_response(&response.into());
    for status in [200, 204, 205, 304, 418, 599] {
        check(Response::new(status)).unwrap();
    }
    for status in [0, 100, 101, 199, 600, 999] {
        let error = check(Response::new(status)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("status {status} ")), "{error}");
    }
    for status in [204, 205, 304] {
        let error = check(Response::new(status).body("x")).unwrap_err();
        assert!(error.to_string().contains(&format!("status {status} has no body")), "{error}");
    }
    for (name, value) in [("X A", "a"), ("X-A", "a\r\nX-B: b"), ("Content-Length", "3"), ("transfer-encoding", "x")] {
        let error = check(Response::new(403).header(name, value)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn the_server_chooses_by_its_own_order() {
    let request = request("GET|H|U|C|K|V|Sec-WebSocket-Protocol: a, b|Sec-WebSocket-Protocol: c");
    let choose = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        accept(&request, &names, &Compression::default()).protocol
    };
    assert_eq!(choose(&["x", "c", "a"]).as_deref(), Some("c"));
    assert_eq!(choose(&["A"]), None);
    assert_eq!(choose(&[]), None);
    let extra = [("Set-Cookie".to_owned(), "a=b".to_owned()), ("connection".to_owned(), "close".to_owned())];
    let negotiated = accept(&request, &["b".to_owned()], &Compression::default());
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: b\r\nSet-Cookie: a=b\r\n\r\n";
    assert_eq!(String::from_utf8(write_accept(&request, &negotiated, &extra)).unwrap(), expected);
}

fn compression(least_client_bits: u8) -> impl Strategy<Value = Compression> {
    (any::<(bool, bool, bool)>(), least_client_bits..=15u8, 9..=15u8).prop_map(
        |((on, client, server), bits, others)| {
            let compression = if on { Compression::default() } else { Compression::off() };
            let compression = compression.client_no_context_takeover(client).server_no_context_takeover(server);
            compression.client_max_window_bits(bits).server_max_window_bits(others)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_agree_on_the_same(client in compression(9), server in compression(9)) {
        let upgrade = upgrade(&["a", "b"], client.clone());
        let request = check_request(parse(HeadParser::request(), &upgrade.to_bytes()).unwrap()).unwrap();
        let accepted = accept(&request, &["b".to_owned()], &server);
        let answer = parse(HeadParser::response(), &write_accept(&request, &accepted, &[])).unwrap();
        prop_assert_eq!(accepted.deflate.is_some(), client.on && server.on);
        prop_assert_eq!(upgrade.check(&answer).unwrap(), accepted);
    }
}
