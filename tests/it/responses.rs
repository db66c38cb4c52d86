//! Responses to the client's opening handshake: valid, invalid, and rejections.

use crate::support::*;
use wsync::{Compression, ConnectOptions, ErrorKind, WebSocket};

/// The lines that a 101 response must have.
const REQUIRED: &str = "Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: {accept}";

/// The bytes of a head, from lines with `|` between them. `{required}` and `{accept}` stand for the correct values.
fn head(lines: &str, accept: &str) -> Vec<u8> {
    let lines = lines.replace("{required}", REQUIRED).replace("{accept}", accept);
    let lines = lines.replace("{accept, lower case}", &accept.to_lowercase()).replace('|', "\r\n");
    (lines + "\r\n\r\n").into_bytes()
}

/// Connects to a server that sends this head and, immediately after it, a frame. The server returns what else it read.
fn connect_to(layer: Layer, options: &ConnectOptions, lines: &str) -> (wsync::Result<WebSocket>, Server<Vec<u8>>) {
    let lines = lines.to_string();
    let server = Server::new(layer, move |mut peer| {
        peer.read_head();
        let answer = head(&lines, &peer.accept_key());
        peer.write(&[answer, frame(FIN | TEXT, b"first")].concat());
        peer.cut();
        peer.rest()
    });
    (options.connect(&server.url), server)
}

fn options_with_protocols() -> ConnectOptions {
    options().protocols(["v2.chat", "v1.chat"])
}

#[test]
fn valid_responses_are_accepted() {
    on_every_layer(|layer| {
        let headers = |count: usize| format!("HTTP/1.1 101 x|{{required}}{}", "|X: y".repeat(count - 3));
        let total = |size: usize| format!("HTTP/1.1 101 x|{{required}}|X: {}", "y".repeat(size - 116));
        assert_eq!(head(&total(1000), &"k".repeat(28)).len(), 1000);
        let cases = [
            "HTTP/1.1 101|{required}",
            "HTTP/1.1 101 |{required}",
            "HTTP/1.1 101 Switching Protocols|{required}",
            "HTTP/1.1 101 x|{required}|Server: \u{fc}n\u{ef}c\u{f6}de",
            "HTTP/1.1 101 x|upgrade: WebSocket|CONNECTION: upgrade|sec-websocket-accept: {accept}",
            "HTTP/1.1 101 x|Upgrade: WEBSOCKET|Connection: keep-alive, UPGRADE|Sec-WebSocket-Accept: {accept}",
            "HTTP/1.1 101 x|Upgrade: websocket|Connection: keep-alive|Connection: Upgrade|Sec-WebSocket-Accept: {accept}",
            "HTTP/1.1 101 x|Upgrade:websocket|Connection:,upgrade,|Sec-WebSocket-Accept: \t {accept} \t ",
            "HTTP/1.1 101 x|Upgrade: websocket|Connection: keep-alive,| Upgrade|Sec-WebSocket-Accept:|\t{accept}",
            "HTTP/1.1 101 x|{required}|X-Empty:|X-Empty: ",
            "HTTP/1.1 100 Continue||HTTP/1.1 101 x|{required}",
            "HTTP/1.1 103 Early Hints|Link: </a>||HTTP/1.1 103 Early Hints||HTTP/1.1 101 x|{required}",
            "HTTP/1.1 101 x|{required}|Sec-WebSocket-Protocol: v1.chat",
            "HTTP/1.1 101 x|{required}|Sec-WebSocket-Extensions: permessage-deflate",
            "HTTP/1.1 101 x|{required}|Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8; client_max_window_bits=9",
            "HTTP/1.1 101 x|{required}|Sec-WebSocket-Extensions: permessage-deflate;server_max_window_bits=\"12\" ; server_no_context_takeover;client_no_context_takeover",
            &headers(128),
            &total(65536),
        ];
        for lines in cases {
            let (ws, server) = connect_to(layer, &options_with_protocols(), lines);
            let ws = ws.unwrap_or_else(|error| panic!("{lines}: {error}"));
            assert_eq!(kind(ws.recv()), Ok(text("first")), "{lines}");
            drop(ws);
            server.join();
        }
        // A bare LF ends a line like CR LF (RFC 9112 §2.2).
        let server = Server::new(layer, |mut peer| {
            peer.read_head();
            let answer = String::from_utf8(head("HTTP/1.1 101 x|{required}", &peer.accept_key())).unwrap();
            peer.write(answer.replace('\r', "").as_bytes());
            peer
        });
        options().connect(&server.url).unwrap();
        server.join();
    });
}

/// Each is a `Handshake` error that names the cause. The client sends no frame and closes the socket.
#[test]
fn invalid_responses_are_errors() {
    on_every_layer(|layer| {
        let headers = |count: usize| format!("HTTP/1.1 101 x|{{required}}{}", "|X: y".repeat(count - 3));
        let total = |size: usize| format!("HTTP/1.1 101 x|{{required}}|X: {}", "y".repeat(size - 116));
        let deflate = |parameters: &str| {
            format!("HTTP/1.1 101 x|{{required}}|Sec-WebSocket-Extensions: permessage-deflate{parameters}")
        };
        let cases: &[(&str, &str)] = &[
            ("HTTP/1.0 101 x|{required}", "1.0"),
            ("HTTP/2 101|{required}", "HTTP/2"),
            ("HTTP/2.0 101 x|{required}", "HTTP/2"),
            ("HTP/1.1 101 x|{required}", "HTP"),
            ("HTTP/1.1 1O1 x|{required}", "1O1"),
            ("HTTP/1.1  101 x|{required}", "status line"),
            ("HTTP/1.1|{required}", "status line"),
            ("\u{1}\u{2}\u{ff}junk|{required}", "status line"),
            ("|HTTP/1.1 101 x|{required}", "status line"),
            ("HTTP/1.1 101 x|Connection: Upgrade|Sec-WebSocket-Accept: {accept}", "Upgrade is absent"),
            ("HTTP/1.1 101 x|Upgrade: h2c|Connection: Upgrade|Sec-WebSocket-Accept: {accept}", "h2c"),
            ("HTTP/1.1 101 x|Upgrade: websocket|Sec-WebSocket-Accept: {accept}", "Connection is absent"),
            ("HTTP/1.1 101 x|Upgrade: websocket|Connection: xupgrade|Sec-WebSocket-Accept: {accept}", "xupgrade"),
            ("HTTP/1.1 101 x|Upgrade: websocket|Connection: close|Sec-WebSocket-Accept: {accept}", "close"),
            ("HTTP/1.1 101 x|Upgrade: websocket|Connection: Upgrade", "Sec-WebSocket-Accept is absent"),
            ("HTTP/1.1 101 x|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept:", "Sec-WebSocket-Accept"),
            (
                "HTTP/1.1 101 x|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "AAAA",
            ),
            (
                "HTTP/1.1 101 x|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: {accept, lower case}",
                "Sec-WebSocket-Accept",
            ),
            ("HTTP/1.1 101 x|{required}|Sec-WebSocket-Accept: {accept}", "Sec-WebSocket-Accept"),
            ("HTTP/1.1 101 x|{required}|no colon here", "colon"),
            ("HTTP/1.1 101 x|{required}|nocolon", "no colon"),
            ("HTTP/1.1 101 x|{required}|: v", "header"),
            ("HTTP/1.1 101 x|{required}|X : v", "header"),
            ("HTTP/1.1 101 x|{required}|X: a\0b", "NUL"),
            ("HTTP/1.1 101 x|{required}|X: a\rb", "CR"),
            ("HTTP/1.1 101 x| folded: onto nothing|{required}", "header"),
            (&headers(129), "128"),
            (&total(65537), "65536"),
            ("HTTP/1.1 101 x|{required}|Sec-WebSocket-Protocol: v3.chat", "v3.chat"),
            ("HTTP/1.1 101 x|{required}|Sec-WebSocket-Protocol: V1.chat", "V1.chat"),
            ("HTTP/1.1 101 x|{required}|Sec-WebSocket-Protocol: v1.chat, v2.chat", "v1.chat, v2.chat"),
            ("HTTP/1.1 101 x|{required}|Sec-WebSocket-Protocol: v1.chat|Sec-WebSocket-Protocol: v1.chat", "v1.chat"),
            ("HTTP/1.1 101 x|{required}|Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol"),
            ("HTTP/1.1 101 x|{required}|Sec-WebSocket-Extensions: x-webkit-deflate-frame", "x-webkit-deflate-frame"),
            ("HTTP/1.1 101 x|{required}|Sec-WebSocket-Extensions: permessage-deflate, x-other", "x-other"),
            (
                "HTTP/1.1 101 x|{required}|Sec-WebSocket-Extensions: permessage-deflate|Sec-WebSocket-Extensions: permessage-deflate",
                "twice",
            ),
            (&deflate("; unknown"), "unknown"),
            (&deflate("; server_max_window_bits=7"), "7"),
            (&deflate("; server_max_window_bits=16"), "16"),
            (&deflate("; server_max_window_bits=1000"), "1000"),
            (&deflate("; server_max_window_bits=08"), "08"),
            (&deflate("; server_max_window_bits"), "server_max_window_bits"),
            (&deflate("; client_max_window_bits=7"), "7"),
            (&deflate("; client_max_window_bits=8"), "8"),
            (&deflate("; client_max_window_bits"), "client_max_window_bits"),
            (&deflate("; server_no_context_takeover=1"), "server_no_context_takeover"),
            (&deflate("; client_no_context_takeover; client_no_context_takeover"), "client_no_context_takeover"),
            (&deflate("; ="), "broken"),
        ];
        for &(lines, named) in cases {
            assert_handshake_error(connect_to(layer, &options_with_protocols(), lines), lines, named);
        }
        for options in [options(), options().protocols(["v2.chat"])] {
            let lines = "HTTP/1.1 101 x|{required}|Sec-WebSocket-Protocol: v1.chat";
            assert_handshake_error(connect_to(layer, &options, lines), lines, "v1.chat");
        }
        let off = options().compression(Compression::off());
        assert_handshake_error(connect_to(layer, &off, &deflate("")), "not offered", "permessage-deflate");
        let smaller = options().compression(Compression::default().server_max_window_bits(10));
        assert_handshake_error(
            connect_to(layer, &smaller, &deflate("; server_max_window_bits=11")),
            "larger than requested",
            "11",
        );
    });
}

fn assert_handshake_error((result, server): (wsync::Result<WebSocket>, Server<Vec<u8>>), lines: &str, named: &str) {
    let shown = &lines[..lines.len().min(300)];
    let error = result.map(|_| ()).expect_err(shown);
    assert_eq!(error.kind(), ErrorKind::Handshake, "{shown}: {error}");
    assert!(error.to_string().contains(named), "{shown}: {error}");
    assert!(error.to_string().len() < 1000, "{error}");
    assert_eq!(server.join(), b"", "{shown}");
}

/// The error has the status, the headers and the body.
#[test]
fn every_status_except_101_is_a_rejection() {
    on_every_layer(|layer| {
        let big = "b".repeat(64 * 1024);
        let cases: &[(&str, String, u16, &str)] = &[
            ("HTTP/1.1 200 OK|Content-Length: 5|X-A: 1|X-A: 2", "hello".into(), 200, "hello"),
            ("HTTP/1.1 400 Bad Request", "to the end".into(), 400, "to the end"),
            ("HTTP/1.0 401 Unauthorized|WWW-Authenticate: Basic", "who?".into(), 401, "who?"),
            ("HTTP/1.1 403 ", String::new(), 403, ""),
            ("HTTP/1.1 426 Upgrade Required|Sec-WebSocket-Version: 13, 8|Content-Length: 0", "rest".into(), 426, ""),
            (
                "HTTP/1.1 503 x|Retry-After: 7|Transfer-Encoding: chunked",
                "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n".into(),
                503,
                "abcde",
            ),
            ("HTTP/1.1 103 x|Link: y||HTTP/1.1 404 x", "no".into(), 404, "no"),
            ("HTTP/1.1 204 x", "none".into(), 204, ""),
            ("HTTP/1.1 500 x|Content-Length: 100", "cut".into(), 500, "cut"),
            ("HTTP/1.1 500 x|Transfer-Encoding: chunked", "zz\r\nabc".into(), 500, ""),
            ("HTTP/1.1 999 x|Content-Length: 70000", big.clone() + "more", 999, &big),
        ];
        for (lines, body, status, kept) in cases {
            let answer = [head(lines, ""), body.clone().into_bytes()].concat();
            let server = Server::new(layer, move |mut peer| {
                peer.read_head();
                // Fails if the client has disconnected before the end of a long body.
                let _ = peer.try_write(&answer);
                peer.cut();
                peer.rest()
            });
            let error = options().max_redirects(0).connect(&server.url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Rejected, "{lines}: {error}");
            assert!(error.to_string().contains(&status.to_string()), "{error}");
            let response = error.response().unwrap();
            assert_eq!(response.status(), *status);
            assert!(response.body() == kept.as_bytes(), "{lines}: {}", response.body().escape_ascii());
            assert_eq!(server.join(), b"", "{lines}");
        }
        let server = Server::new(layer, |mut peer| {
            peer.read_head();
            peer.write(b"HTTP/1.1 418 I'm a teapot\r\nX-A: 1\r\nx-b: \t2 \r\nX-A: 3\r\nContent-Length: 0\r\n\r\n");
            peer
        });
        let error = options().connect(&server.url).unwrap_err();
        let response = error.response().unwrap();
        let headers: Vec<_> = response.headers().collect();
        assert_eq!(headers, [("X-A", "1"), ("x-b", "2"), ("X-A", "3"), ("Content-Length", "0")]);
        assert_eq!(
            (response.header("x-a"), response.header("X-B"), response.header("no")),
            (Some("1"), Some("2"), None)
        );
        server.join();
    });
}

#[test]
fn an_infinite_body_is_cut_at_64_kib() {
    on_every_layer(|layer| {
        for lines in ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK|Transfer-Encoding: chunked"] {
            let mut answer = head(lines, "");
            let block = if lines.ends_with("chunked") { b"4\r\nmore\r\n".repeat(1000) } else { b"more".repeat(1000) };
            let server = Server::new(layer, move |mut peer| {
                peer.read_head();
                while peer.try_write(&answer).is_ok() {
                    answer.clone_from(&block);
                }
            });
            let error = options().connect(&server.url).unwrap_err();
            assert_eq!((error.kind(), error.response().unwrap().body().len()), (ErrorKind::Rejected, 64 * 1024));
            server.join();
        }
    });
}
