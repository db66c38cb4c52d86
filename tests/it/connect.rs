//! Connecting: the request, and frames that arrive together with the response.

use std::net::TcpStream;

use crate::support::*;
use wsync::{Compression, ConnectOptions, ErrorKind, ReadyState};

/// Connects to `url` over loopback, whatever its host. The returned peer has the request's head.
fn request(url: &str, options: ConnectOptions) -> Peer {
    let server = Server::tcp(|stream| {
        let mut peer = Peer::serve(stream, Layer::Plain);
        peer.upgrade("");
        peer
    });
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let ws = options.connect_over(url, stream).unwrap();
    drop(ws);
    server.join()
}

#[test]
fn the_request_has_the_headers_of_rfc_6455_section_4_1() {
    on_every_layer(|layer| {
        let (ws, peer) = connected(layer, &options().user_agent("test/1").compression(Compression::off()));
        let host = peer.header("Host")[0].to_string();
        assert_eq!(ws.peer_addr().unwrap().to_string(), host);
        let key = peer.header("Sec-WebSocket-Key")[0];
        assert!(key.len() == 24 && key.ends_with("=="), "{key}");
        let expected = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Version: 13\r\nUser-Agent: test/1\r\n\r\n"
        );
        assert_eq!(peer.head, expected);
        assert_eq!((ws.ready_state(), ws.protocol(), ws.extensions()), (ReadyState::Open, None, ""));
        assert_eq!((ws.close_code(), ws.close_reason()), (None, None));
        assert_eq!(ws.response().unwrap().status(), 101);
        assert_eq!(ws.response().unwrap().header("UPGRADE"), Some("websocket"));
        let (other, _peer) = connected(layer, &options());
        assert_ne!(ws.local_addr().unwrap(), other.local_addr().unwrap());
    });
}

#[test]
fn each_connection_has_its_own_key() {
    bounded(|| {
        let keys: std::collections::HashSet<String> =
            (0..20).map(|_| request("ws://h/", options()).header("Sec-WebSocket-Key")[0].to_string()).collect();
        assert_eq!(keys.len(), 20);
    });
}

#[test]
fn host_and_target_come_from_the_url() {
    bounded(|| {
        for (url, host, target) in [
            ("ws://example.com", "example.com", "/"),
            ("ws://example.com:80/", "example.com", "/"),
            ("ws://example.com:443/", "example.com:443", "/"),
            ("ws://EXAMPLE.com:9001/A/b?c=D", "example.com:9001", "/A/b?c=D"),
            ("ws://example.com?x", "example.com", "/?x"),
            ("ws://[::1]/", "[::1]", "/"),
            ("ws://[::1]:9001/", "[::1]:9001", "/"),
            ("ws://127.0.0.1:9001/", "127.0.0.1:9001", "/"),
            ("ws://bücher.example/ä b?q=ö%20\"", "xn--bcher-kva.example", "/%C3%A4%20b?q=%C3%B6%20%22"),
            ("ws://h/a/../b/./c", "h", "/b/c"),
            ("ws://user:secret@h/", "h", "/"),
        ] {
            let peer = request(url, options());
            assert!(peer.head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{url}: {}", peer.head);
            assert_eq!(peer.header("Host"), [host], "{url}");
        }
    });
}

#[test]
fn user_information_in_the_url_becomes_basic_authentication() {
    bounded(|| {
        for (url, header) in [
            ("ws://u%40:p%3A@h/", Some("Basic dUA6cDo=")),
            ("ws://user@h/", Some("Basic dXNlcjo=")),
            ("ws://:pass@h/", Some("Basic OnBhc3M=")),
            ("ws://h/", None),
        ] {
            let peer = request(url, options());
            assert_eq!(peer.header("Authorization"), Vec::from_iter(header), "{url}");
        }
        let own = request("ws://user:pass@h/", options().header("authorization", "Bearer x"));
        assert_eq!((own.header("authorization"), own.header("Authorization")), (vec!["Bearer x"], vec![]));

        let server = Server::new(Layer::Plain, |mut peer| peer.upgrade(""));
        let ws = options().connect(server.url.replace("//", "//user:secret@")).unwrap();
        assert_eq!(ws.url().unwrap().as_str(), server.url);
        server.join();
    });
}

#[test]
fn the_callers_headers_are_sent_except_those_of_the_handshake() {
    bounded(|| {
        let peer = request(
            "ws://h/",
            options()
                .header("X-One", "1")
                .header("x-two", "a, b")
                .header("X-One", "2")
                .header("X-Empty", "")
                .header("Origin", "https://example.com")
                .header("connection", "close")
                .header("UPGRADE", "h2c")
                .header("Sec-WebSocket-Key", "mine")
                .header("Sec-WebSocket-Version", "8")
                .header("Sec-WebSocket-Protocol", "mine")
                .header("sec-websocket-extensions", "mine"),
        );
        assert_eq!(peer.header("X-One"), ["1", "2"]);
        assert_eq!(peer.header("x-two"), ["a, b"]);
        assert_eq!(peer.header("Origin"), ["https://example.com"]);
        assert!(peer.head.contains("\r\nX-Empty:"), "{}", peer.head);
        assert_eq!(peer.header("Connection"), ["Upgrade"]);
        assert_eq!(peer.header("Sec-WebSocket-Version"), ["13"]);
        for ignored in ["close", "h2c", "mine"] {
            assert!(!peer.head.contains(ignored), "{}", peer.head);
        }
        let peer = request("ws://h/", options().header("Host", "other.example").header("User-Agent", "me"));
        assert_eq!((peer.header("Host"), peer.header("User-Agent")), (vec!["other.example"], vec!["me"]));
        assert_eq!(request("ws://h/", options().user_agent("")).header("User-Agent"), Vec::<&str>::new());
    });
}

#[test]
fn subprotocols_are_offered_in_order_and_the_servers_choice_is_returned() {
    bounded(|| {
        let options = options().protocols(["v2.chat", "v1.chat"]);
        assert_eq!(request("ws://h/", options.clone()).header("Sec-WebSocket-Protocol"), ["v2.chat, v1.chat"]);
        for (lines, chosen) in [("Sec-WebSocket-Protocol: v1.chat\r\n", Some("v1.chat")), ("", None)] {
            let (ws, _peer) = connected_with(Layer::Plain, &options, lines);
            assert_eq!(ws.protocol(), chosen);
        }
    });
}

#[test]
fn tls_checks_the_name_in_the_url_with_resolve() {
    bounded(|| {
        for layer in LAYERS {
            let server = Server::new(*layer, |mut peer| {
                peer.upgrade("");
                peer
            });
            let address = ([127, 0, 0, 1], server.port).into();
            let url = server.url.replace("127.0.0.1", "localhost");
            let ws = options().resolve("localhost", vec![address]).connect(&url).unwrap();
            assert_eq!(server.join().header("Host"), [format!("localhost:{}", ws.peer_addr().unwrap().port())]);
        }
    });
}

#[test]
fn a_response_may_arrive_byte_by_byte() {
    on_every_layer(|layer| {
        let server = Server::new(layer, |mut peer| {
            peer.read_head();
            let answer = [&b"HTTP/1.1 103 x\r\n\r\n"[..], &peer::response(&peer.accept_key(), "")].concat();
            for byte in [answer, frame(FIN | TEXT, b"hi")].concat() {
                peer.write(&[byte]);
            }
            peer
        });
        let ws = options().connect(&server.url).unwrap();
        assert_eq!(kind(ws.recv()), Ok(text("hi")));
        server.join();
    });
}

#[test]
fn frames_that_arrive_with_the_response_are_received_first() {
    on_every_layer(|layer| {
        let connect_with = |frames: Vec<u8>, close: bool| {
            let server = Server::new(layer, move |mut peer| {
                peer.read_head();
                let accept = peer.accept_key();
                peer.write(&[peer::response(&accept, ""), frames].concat());
                if close {
                    peer.end();
                }
                peer
            });
            (options().connect(&server.url).unwrap(), server.join())
        };
        let (ws, _peer) = connect_with(vec![0x81, 0x02, 0x68, 0x69], false);
        assert_eq!(kind(ws.try_recv()), Ok(text("hi")));

        let (ws, mut peer) = connect_with(vec![0x88, 0x02, 0x03, 0xe8], true);
        assert_eq!((kind(ws.recv()), ws.close_code()), (Ok(None), code(1000)));
        assert_eq!(peer.frames(), [Frame::close(1000)]);

        // The pong is sent without a sending call.
        let (ws, mut peer) = connect_with([frame(PING, b"p"), frame(TEXT, b"a")].concat(), false);
        peer.send(FIN, b"b");
        assert_eq!(kind(ws.recv()), Ok(text("ab")));
        assert_eq!(peer.frame(), Frame::new(PONG, b"p"));

        let (ws, mut peer) = connect_with(vec![0x83, 0x00], false);
        assert_eq!(kind(ws.recv()), Err(ErrorKind::Protocol));
        assert_eq!(peer.frames(), [Frame::close(1002)]);
    });
}
