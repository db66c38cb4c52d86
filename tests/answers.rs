//! What a server may answer, and what every wrong answer comes to.

mod common;

use common::*;
use wsync::{Compression, ConnectOptions, ErrorKind, WebSocket};

/// The lines that a correct 101 must have.
const MUST: &str = "Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: {accept}";

/// Lines of a head, `|` between them; `{must}` and `{accept}` stand for what is correct.
fn head(lines: &str, accept: &str) -> Vec<u8> {
    let lines = lines.replace("{must}", MUST).replace("{accept}", accept);
    let lines = lines.replace("{accept, lower case}", &accept.to_lowercase()).replace('|', "\r\n");
    (lines + "\r\n\r\n").into_bytes()
}

/// Connects to a server that answers with this head and a frame glued to it, and gives back what else it read.
fn answered(wire: Wire, options: &ConnectOptions, lines: &str) -> (wsync::Result<WebSocket>, Server<Vec<u8>>) {
    let lines = lines.to_string();
    let server = Server::new(wire, move |mut peer| {
        peer.read_head();
        let answer = head(&lines, &peer.accept_key());
        peer.write(&[answer, frame(FIN | TEXT, b"first")].concat());
        peer.cut();
        peer.rest()
    });
    (options.connect(&server.url), server)
}

fn offering() -> ConnectOptions {
    options().protocols(["v2.chat", "v1.chat"])
}

#[test]
fn good_answers() {
    on_every_wire(|wire| {
        let headers = |count: usize| format!("HTTP/1.1 101 x|{{must}}{}", "|X: y".repeat(count - 3));
        let total = |size: usize| format!("HTTP/1.1 101 x|{{must}}|X: {}", "y".repeat(size - 116));
        assert_eq!(head(&total(1000), &"k".repeat(28)).len(), 1000);
        let cases = [
            "HTTP/1.1 101|{must}",
            "HTTP/1.1 101 |{must}",
            "HTTP/1.1 101 Switching Protocols|{must}",
            "HTTP/1.1 101 x|{must}|Server: \u{fc}n\u{ef}c\u{f6}de",
            "HTTP/1.1 101 x|upgrade: WebSocket|CONNECTION: upgrade|sec-websocket-accept: {accept}",
            "HTTP/1.1 101 x|Upgrade: WEBSOCKET|Connection: keep-alive, UPGRADE|Sec-WebSocket-Accept: {accept}",
            "HTTP/1.1 101 x|Upgrade: websocket|Connection: keep-alive|Connection: Upgrade|Sec-WebSocket-Accept: {accept}",
            "HTTP/1.1 101 x|Upgrade:websocket|Connection:,upgrade,|Sec-WebSocket-Accept: \t {accept} \t ",
            "HTTP/1.1 101 x|Upgrade: websocket|Connection: keep-alive,| Upgrade|Sec-WebSocket-Accept:|\t{accept}",
            "HTTP/1.1 101 x|{must}|X-Empty:|X-Empty: ",
            "HTTP/1.1 100 Continue||HTTP/1.1 101 x|{must}",
            "HTTP/1.1 103 Early Hints|Link: </a>||HTTP/1.1 103 Early Hints||HTTP/1.1 101 x|{must}",
            "HTTP/1.1 101 x|{must}|Sec-WebSocket-Protocol: v1.chat",
            "HTTP/1.1 101 x|{must}|Sec-WebSocket-Extensions: permessage-deflate",
            "HTTP/1.1 101 x|{must}|Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8; client_max_window_bits=9",
            "HTTP/1.1 101 x|{must}|Sec-WebSocket-Extensions: permessage-deflate;server_max_window_bits=\"12\" ; server_no_context_takeover;client_no_context_takeover",
            &headers(128),
            &total(65536),
        ];
        for lines in cases {
            let (ws, server) = answered(wire, &offering(), lines);
            let ws = ws.unwrap_or_else(|error| panic!("{lines}: {error}"));
            assert_eq!(kind(ws.recv()), Ok(text("first")), "{lines}");
            drop(ws);
            server.join();
        }
        // Bare LF ends a line as CR LF does (RFC 9112 §2.2).
        let server = Server::new(wire, |mut peer| {
            peer.read_head();
            let answer = String::from_utf8(head("HTTP/1.1 101 x|{must}", &peer.accept_key())).unwrap();
            peer.write(answer.replace('\r', "").as_bytes());
            peer
        });
        options().connect(&server.url).unwrap();
        server.join();
    });
}

/// Each is a `Handshake` error that names what is wrong; the socket is closed, and no frame was sent.
#[test]
fn bad_answers() {
    on_every_wire(|wire| {
        let headers = |count: usize| format!("HTTP/1.1 101 x|{{must}}{}", "|X: y".repeat(count - 3));
        let total = |size: usize| format!("HTTP/1.1 101 x|{{must}}|X: {}", "y".repeat(size - 116));
        let deflate = |parameters: &str| {
            format!("HTTP/1.1 101 x|{{must}}|Sec-WebSocket-Extensions: permessage-deflate{parameters}")
        };
        let cases: &[(&str, &str)] = &[
            ("HTTP/1.0 101 x|{must}", "1.0"),
            ("HTTP/2 101|{must}", "HTTP/2"),
            ("HTTP/2.0 101 x|{must}", "HTTP/2"),
            ("HTP/1.1 101 x|{must}", "HTP"),
            ("HTTP/1.1 1O1 x|{must}", "1O1"),
            ("HTTP/1.1  101 x|{must}", "status line"),
            ("HTTP/1.1|{must}", "status line"),
            ("\u{1}\u{2}\u{ff}junk|{must}", "status line"),
            ("|HTTP/1.1 101 x|{must}", "status line"),
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
            ("HTTP/1.1 101 x|{must}|Sec-WebSocket-Accept: {accept}", "Sec-WebSocket-Accept"),
            ("HTTP/1.1 101 x|{must}|no colon here", "colon"),
            ("HTTP/1.1 101 x|{must}|nocolon", "no colon"),
            ("HTTP/1.1 101 x|{must}|: v", "header"),
            ("HTTP/1.1 101 x|{must}|X : v", "header"),
            ("HTTP/1.1 101 x|{must}|X: a\0b", "NUL"),
            ("HTTP/1.1 101 x|{must}|X: a\rb", "CR"),
            ("HTTP/1.1 101 x| folded: onto nothing|{must}", "header"),
            (&headers(129), "128"),
            (&total(65537), "65536"),
            ("HTTP/1.1 101 x|{must}|Sec-WebSocket-Protocol: v3.chat", "v3.chat"),
            ("HTTP/1.1 101 x|{must}|Sec-WebSocket-Protocol: V1.chat", "V1.chat"),
            ("HTTP/1.1 101 x|{must}|Sec-WebSocket-Protocol: v1.chat, v2.chat", "v1.chat, v2.chat"),
            ("HTTP/1.1 101 x|{must}|Sec-WebSocket-Protocol: v1.chat|Sec-WebSocket-Protocol: v1.chat", "v1.chat"),
            ("HTTP/1.1 101 x|{must}|Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol"),
            ("HTTP/1.1 101 x|{must}|Sec-WebSocket-Extensions: x-webkit-deflate-frame", "x-webkit-deflate-frame"),
            ("HTTP/1.1 101 x|{must}|Sec-WebSocket-Extensions: permessage-deflate, x-other", "x-other"),
            (
                "HTTP/1.1 101 x|{must}|Sec-WebSocket-Extensions: permessage-deflate|Sec-WebSocket-Extensions: permessage-deflate",
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
            refused(answered(wire, &offering(), lines), lines, named);
        }
        for options in [options(), options().protocols(["v2.chat"])] {
            let lines = "HTTP/1.1 101 x|{must}|Sec-WebSocket-Protocol: v1.chat";
            refused(answered(wire, &options, lines), lines, "v1.chat");
        }
        let off = options().compression(Compression::off());
        refused(answered(wire, &off, &deflate("")), "not offered", "permessage-deflate");
        let smaller = options().compression(Compression::default().server_max_window_bits(10));
        refused(answered(wire, &smaller, &deflate("; server_max_window_bits=11")), "more than asked", "11");
    });
}

fn refused((result, server): (wsync::Result<WebSocket>, Server<Vec<u8>>), lines: &str, named: &str) {
    let shown = &lines[..lines.len().min(300)];
    let error = result.map(|_| ()).expect_err(shown);
    assert_eq!(error.kind(), ErrorKind::Handshake, "{shown}: {error}");
    assert!(error.to_string().contains(named), "{shown}: {error}");
    assert!(error.to_string().len() < 1000, "{error}");
    assert_eq!(server.join(), b"", "{shown}");
}

/// Any other status is `Rejected`, with all that the server said about it.
#[test]
fn rejections() {
    on_every_wire(|wire| {
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
            let server = Server::new(wire, move |mut peer| {
                peer.read_head();
                // The client may have left before the end of a long one.
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
        let server = Server::new(wire, |mut peer| {
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
fn an_endless_body_is_cut_off() {
    on_every_wire(|wire| {
        for lines in ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK|Transfer-Encoding: chunked"] {
            let mut answer = head(lines, "");
            let block = if lines.ends_with("chunked") { b"4\r\nmore\r\n".repeat(1000) } else { b"more".repeat(1000) };
            let server = Server::new(wire, move |mut peer| {
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
