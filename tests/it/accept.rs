//! The server's side of the opening handshake: negotiation, rejected requests, and clients that are slow or disconnect.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::*;
use wsync::{AcceptOptions, Acceptance, Compression, ErrorKind, Response, WebSocket};

/// Accepts one connection with these options on another thread. The returned peer has not sent its request yet.
fn accepting(layer: Layer, options: &AcceptOptions) -> (Job<wsync::Result<WebSocket>>, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let options = acceptor(layer, options);
    let job = spawn("accept", move || options.accept(listener.accept().unwrap().0));
    (job, Peer::connect(address, layer))
}

/// A correct request, with `|` between its lines.
const REQUEST: &str = "GET /chat?x=1 HTTP/1.1|Host: h|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// The bytes of a head, from lines with `|` between them.
fn head(text: &str) -> Vec<u8> {
    (text.replace('|', "\r\n") + "\r\n\r\n").into_bytes()
}

#[test]
fn the_response_has_the_headers_of_rfc_6455_section_4_2_2() {
    bounded(|| {
        for layer in server_layers() {
            let (job, mut peer) = accepting(layer, &AcceptOptions::new());
            peer.write(&[head(&format!("{REQUEST}|X-A: 1|x-a: 2")), masked(FIN | TEXT, b"frame")].concat());
            let expected = "HTTP/1.1 101 Switching Protocols|Upgrade: websocket|Connection: Upgrade|\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            assert_eq!(peer.read_head().into_bytes(), head(expected));
            let ws = wait_for(job).unwrap();
            assert_eq!(kind(ws.recv()), Ok(text("frame")));
            let request = ws.request().unwrap();
            assert_eq!((request.target(), request.path(), request.query_string()), ("/chat?x=1", "/chat", Some("x=1")));
            let own: Vec<_> = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("x-a")).collect();
            assert_eq!(own, [("X-A", "1"), ("x-a", "2")]);
            assert_eq!((ws.protocol(), ws.extensions(), ws.response().is_none()), (None, "", true));
        }
    });
}

#[test]
fn valid_requests_are_accepted() {
    bounded(|| {
        for layer in server_layers() {
            for request in [
                REQUEST.to_string(),
                REQUEST.replace("Upgrade: websocket", "UPGRADE: h2c, WebSocket"),
                REQUEST.replace("Connection: Upgrade", "Connection: keep-alive|connection: , upgrade ,"),
                REQUEST.replace("Host: h", "Host: h:80|Content-Length: 0"),
                REQUEST.replace("/chat?x=1", "http://h/chat"),
                REQUEST.replace("/chat?x=1", "/"),
                format!("{REQUEST}|Sec-WebSocket-Extensions: x-unknown; a=\"b\""),
                format!("{REQUEST}|Sec-WebSocket-Protocol: unknown"),
                format!("{REQUEST}|X: {}", "y".repeat(65536 - 5 - head(REQUEST).len())),
                format!("{REQUEST}{}", "|X: y".repeat(128 - 5)),
            ] {
                let (job, mut peer) = accepting(layer, &AcceptOptions::new().protocols(["known"]));
                peer.write(&head(&request));
                let shown = &request[..request.len().min(300)];
                assert!(peer.read_head().starts_with("HTTP/1.1 101 "), "{shown}");
                let ws = wait_for(job).unwrap();
                assert_eq!((ws.protocol(), ws.extensions()), (None, ""), "{shown}");
            }
            let (job, mut peer) = accepting(layer, &AcceptOptions::new());
            head(REQUEST).into_iter().for_each(|byte| peer.write(&[byte]));
            assert!(peer.read_head().starts_with("HTTP/1.1 101 "));
            wait_for(job).unwrap();
        }
    });
}

/// Each is rejected with the correct status, and the server's `Handshake` error names the cause.
#[test]
fn invalid_requests_are_rejected() {
    bounded(|| {
        let without = |line: &str| REQUEST.split('|').filter(|l| !l.starts_with(line)).collect::<Vec<_>>().join("|");
        let cases: Vec<(String, u16, &str)> = vec![
            (REQUEST.replace("GET", "POST"), 405, "POST"),
            (REQUEST.replace("GET", "get"), 405, "get"),
            (REQUEST.replace("HTTP/1.1", "HTTP/1.0"), 505, "1.1"),
            (REQUEST.replace("/chat?x=1", "*"), 400, "target"),
            (REQUEST.replace("/chat?x=1", "/#a"), 400, "target"),
            (REQUEST.replace("/chat?x=1", "chat"), 400, "target"),
            (without("Host"), 400, "Host"),
            (format!("{REQUEST}|Host: other"), 400, "Host"),
            (format!("{REQUEST}|Content-Length: 5"), 400, "body"),
            (format!("{REQUEST}|Transfer-Encoding: chunked"), 400, "body"),
            (without("Upgrade"), 426, "Upgrade"),
            (REQUEST.replace("Upgrade: websocket", "Upgrade: websockets"), 426, "Upgrade"),
            (without("Connection"), 426, "Connection"),
            (REQUEST.replace("Connection: Upgrade", "Connection: xupgrade"), 426, "Connection"),
            (without("Sec-WebSocket-Version"), 426, "Sec-WebSocket-Version"),
            (REQUEST.replace("Version: 13", "Version: 8"), 426, "Sec-WebSocket-Version"),
            (REQUEST.replace("Version: 13", "Version: 13|Sec-WebSocket-Version: 13"), 426, "Sec-WebSocket-Version"),
            (without("Sec-WebSocket-Key"), 400, "Sec-WebSocket-Key"),
            (REQUEST.replace("dGhl", ""), 400, "Sec-WebSocket-Key"),
            (REQUEST.replace("dGhl", "d=hl"), 400, "Sec-WebSocket-Key"),
            (REQUEST.replace("dGhl", "dGhldGhl"), 400, "Sec-WebSocket-Key"),
            (format!("{REQUEST}|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "Sec-WebSocket-Key"),
            (format!("{REQUEST}|Sec-WebSocket-Protocol: a b"), 400, "Sec-WebSocket-Protocol"),
            (format!("{REQUEST}|Sec-WebSocket-Protocol: a, a"), 400, "Sec-WebSocket-Protocol"),
            (format!("{REQUEST}|Sec-WebSocket-Extensions: ; ="), 400, "Sec-WebSocket-Extensions"),
            (format!("{REQUEST}|nocolon"), 400, "colon"),
            (format!("{REQUEST}|: v"), 400, "header"),
            (format!("{REQUEST}|X : v"), 400, "header"),
            (format!("{REQUEST}|X: a\0"), 400, "NUL"),
            (format!("{REQUEST}|X: a\rb"), 400, "CR"),
            (format!("{REQUEST}{}", "|X: y".repeat(129 - 5)), 400, "128"),
            (format!("{REQUEST}|X: {}", "y".repeat(65537 - 5 - head(REQUEST).len())), 400, "65536"),
            ("junk".into(), 400, "request line"),
            ("GET / HTTP/2.0".into(), 400, "request line"),
            ("GET  / HTTP/1.1".into(), 400, "request line"),
        ];
        for layer in server_layers() {
            for (request, status, named) in &cases {
                let shown = &request[..request.len().min(300)];
                let (job, mut peer) = accepting(layer, &AcceptOptions::new());
                peer.write(&head(request));
                let head = peer.read_head();
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {head}");
                if *status == 426 {
                    assert_eq!(peer.header("Upgrade"), ["websocket"], "{shown}");
                }
                if shown.contains("Version") && *named == "Sec-WebSocket-Version" {
                    assert_eq!(peer.header("Sec-WebSocket-Version"), ["13"], "{shown}");
                }
                let [length] = peer.header("Content-Length")[..] else { panic!("{shown}: {head}") };
                let length: usize = length.parse().unwrap();
                assert_eq!(peer.rest().len(), length, "{shown}");
                let error = wait_for(job).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Handshake, "{shown}: {error}");
                assert!(error.to_string().contains(named), "{shown}: {error}");
                assert!(error.to_string().contains(&status.to_string()), "{shown}: {error}");
            }
        }
    });
}

#[test]
fn the_server_chooses_the_subprotocol_by_its_own_order() {
    bounded(|| {
        for (offered, chosen) in [
            ("Sec-WebSocket-Protocol: c, b, a\r\n", Some("a")),
            ("Sec-WebSocket-Protocol: c\r\nSec-WebSocket-Protocol: b\r\n", Some("b")),
            ("Sec-WebSocket-Protocol: A, c\r\n", None),
            ("", None),
        ] {
            let (ws, peer) = accepted_with(Layer::Plain, &AcceptOptions::new().protocols(["a", "b"]), offered);
            assert_eq!((ws.protocol(), peer.header("Sec-WebSocket-Protocol")), (chosen, Vec::from_iter(chosen)));
        }
    });
}

#[test]
fn the_first_acceptable_offer_of_compression_is_used() {
    bounded(|| {
        let small = Compression::default().server_max_window_bits(10);
        for (compression, offer, answer) in [
            (Compression::default(), "permessage-deflate", "permessage-deflate"),
            (Compression::default(), "permessage-deflate; client_max_window_bits", "permessage-deflate"),
            (Compression::default(), "x, permessage-deflate; unknown, permessage-deflate", "permessage-deflate"),
            (Compression::default(), "permessage-deflate; server_max_window_bits=8", ""),
            (Compression::default(), "permessage-deflate; server_max_window_bits=7", ""),
            (
                Compression::default(),
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
            ),
            (small, "permessage-deflate", "permessage-deflate; server_max_window_bits=10"),
            (Compression::off(), "permessage-deflate", ""),
        ] {
            let line = format!("Sec-WebSocket-Extensions: {offer}\r\n");
            let (ws, peer) = accepted_with(Layer::Plain, &AcceptOptions::new().compression(compression), &line);
            let answered = peer.header("Sec-WebSocket-Extensions").join(", ");
            assert_eq!((ws.extensions(), answered.as_str()), (answer, answer), "{offer}");
        }
    });
}

#[test]
fn the_hook_may_add_headers_or_refuse() {
    bounded(|| {
        for layer in server_layers() {
            let options = AcceptOptions::new().on_request(|request| match request.header("Origin") {
                Some("https://good.example") => {
                    Ok(Acceptance::new().header("Set-Cookie", "a=1").header("Set-Cookie", "b=2"))
                }
                Some(_) => Err(Response::new(403).body("not from there")),
                None => Err(Response::new(599).header("Retry-After", "7")),
            });
            let (job, mut peer) = accepting(layer, &options);
            peer.request("Origin: https://good.example\r\n");
            peer.read_head();
            assert_eq!(peer.header("Set-Cookie"), ["a=1", "b=2"]);
            wait_for(job).unwrap();

            for (line, status, body) in [("Origin: https://bad.example\r\n", 403, "not from there"), ("", 599, "")] {
                let (job, mut peer) = accepting(layer, &options);
                peer.request(line);
                let head = peer.read_head();
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
                assert_eq!(peer.header("Retry-After").len(), usize::from(status == 599), "{head}");
                assert_eq!(peer.rest(), body.as_bytes());
                let error = wait_for(job).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Refused);
                assert!(error.to_string().contains(&status.to_string()), "{error}");
                let sent = error.response().unwrap();
                assert_eq!((error.status(), sent.text().as_ref()), (Some(status), body));
                assert_eq!(sent.header("Content-Length"), Some(body.len().to_string().as_str()));
            }
        }
        // The hook is called only for valid requests.
        let (job, mut peer) = accepting(Layer::Plain, &AcceptOptions::new().on_request(|_| panic!("called")));
        peer.write(&head(&REQUEST.replace("GET", "PUT")));
        assert!(peer.read_head().contains(" 405 "));
        let error = wait_for(job).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Handshake, Some(405)));
    });
}

#[test]
fn a_client_receives_the_hooks_headers_and_its_rejection() {
    bounded(|| {
        for layer in server_layers() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("{}://{}", scheme(layer), listener.local_addr().unwrap());
            let server = acceptor(layer, &AcceptOptions::new()).on_request(|request| match request.path() {
                "/open" => Ok(Acceptance::new().header("X-Room", "lobby")),
                _ => Err(Response::new(503).header("Retry-After", "60").body("full, come back later")),
            });
            let server = spawn("accept", move || {
                (0..2).map(|_| kind(server.accept(listener.accept().unwrap().0).map(drop))).collect::<Vec<_>>()
            });
            let ws = options().connect(format!("{url}/open")).unwrap();
            assert_eq!(ws.response().unwrap().header("x-room"), Some("lobby"));
            let error = options().connect(format!("{url}/closed")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Rejected);
            let response = error.response().unwrap();
            assert_eq!((response.status(), response.header("Retry-After")), (503, Some("60")));
            assert_eq!(response.body(), b"full, come back later");
            assert_eq!(wait_for(server), [Ok(()), Err(ErrorKind::Refused)]);
        }
    });
}

/// What the hook returns and cannot be sent is answered with 500, and the error says which.
#[test]
fn what_the_hook_returns_is_checked() {
    bounded(|| {
        let check = |options: AcceptOptions, says: &str| {
            let (job, mut peer) = accepting(Layer::Plain, &options.protocols(["chat"]));
            peer.request("Sec-WebSocket-Protocol: chat\r\n");
            let error = wait_for(job).unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidInput, Some(500)), "{error}");
            assert!(error.to_string().contains(says), "{says}: {error}");
            let answer = String::from_utf8(peer.rest()).unwrap();
            let expected = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            assert_eq!(answer, expected, "{says}");
        };
        for (name, value) in [("X-A", "a\r\nX-B: b"), ("X A", "a"), ("", "a"), ("X-A", "\0"), ("Content-Length", "1")] {
            check(AcceptOptions::new().on_request(move |_| Ok(Acceptance::new().header(name, value))), name);
            check(AcceptOptions::new().on_request(move |_| Err(Response::new(403).header(name, value))), name);
        }
        check(AcceptOptions::new().on_request(|_| Ok(Acceptance::new().protocol("other"))), "\"other\"");
        for status in [0, 100, 101, 103, 600] {
            let says = format!("status {status} ");
            check(AcceptOptions::new().on_request(move |_| Err(Response::new(status))), &says);
        }
        for status in [204, 205, 304] {
            let says = format!("status {status} has no body");
            check(AcceptOptions::new().on_request(move |_| Err(Response::new(status).body("x"))), &says);
        }
    });
}

/// One deadline for TLS, request and response together, however slowly the client sends.
#[test]
fn accept_timeout_bounds_the_whole_handshake() {
    let bound = Duration::from_millis(900);
    let timed_out = move |name: &str, layer: Layer, script: fn(TcpStream, Layer)| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = spawn(name, move || script(TcpStream::connect(address).unwrap(), layer));
        let options = acceptor(layer, &AcceptOptions::new().accept_timeout(Some(bound)));
        let stream = listener.accept().unwrap().0;
        let start = Instant::now();
        let error = options.accept(stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{name}: {error}");
        assert!(error.to_string().contains("accept_timeout"), "{name}: {error}");
        assert!(start.elapsed() >= bound && start.elapsed() < Duration::from_secs(5), "{name}: {:?}", start.elapsed());
        wait_for(client);
    };
    fn send_single_bytes(mut peer: Peer) {
        while peer.try_write(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    type Script = fn(TcpStream, Layer);
    let scripts: [(&str, Script); 4] = [
        ("silent TCP", |stream, _| drop(Peer::serve(stream, Layer::Plain).rest())),
        ("silent behind TLS", |stream, layer| drop(Peer::over(stream, layer).rest())),
        ("half a request", |stream, layer| {
            let mut peer = Peer::over(stream, layer);
            peer.write(b"GET / HTTP/1.1\r\nHost");
            peer.rest();
        }),
        ("byte by byte", |stream, layer| {
            let mut peer = Peer::over(stream, layer);
            peer.write(b"GET / HTTP/1.1\r\nHost: ");
            send_single_bytes(peer);
        }),
    ];
    let mut jobs = Vec::new();
    for layer in server_layers() {
        for (name, script) in scripts {
            jobs.push(spawn(name, move || timed_out(name, layer, script)));
        }
    }
    jobs.into_iter().for_each(wait_for);
}

#[test]
fn a_client_that_disconnects_is_an_error() {
    bounded(|| {
        for layer in server_layers() {
            for (bytes, expected) in [(&b""[..], "before"), (b"GET / HTTP/1.1\r\nHo", "middle")] {
                let (job, mut peer) = accepting(layer, &AcceptOptions::new());
                peer.write(bytes);
                peer.end();
                let error = wait_for(job).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Handshake), "{error}");
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_mismatch_of_tls_and_plain_tcp_is_an_error() {
    bounded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = acceptor(Layer::Tls12, &AcceptOptions::new());
        let job = spawn("accept", move || server.accept(listener.accept().unwrap().0));
        let mut peer = Peer::connect(address, Layer::Plain);
        peer.request("");
        let error = wait_for(job).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(!String::from_utf8_lossy(&peer.rest()).contains("101"));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("wss://{}/", listener.local_addr().unwrap());
        let job = spawn("accept", move || AcceptOptions::new().accept(listener.accept().unwrap().0));
        assert_eq!(kind(options().connect(&url).map(drop)), Err(ErrorKind::Tls));
        let error = wait_for(job).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
        assert!(error.to_string().contains("TLS"), "{error}");
    });
}
