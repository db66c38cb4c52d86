//! What a caller must not ask for is refused before any I/O, with an error that names it.

use std::io::ErrorKind::WouldBlock;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::*;
use wsync::ErrorKind::{Options, Url};
use wsync::{AcceptOptions, CloseCode, Compression, ConnectOptions, Role, WebSocket};

/// A listener that says whether anybody has come.
struct Door(TcpListener);

impl Door {
    fn new() -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Door(listener)
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.0.local_addr().unwrap())
    }

    fn assert_untouched(&self, name: &str) {
        assert_eq!(self.0.accept().unwrap_err().kind(), WouldBlock, "{name}: something came");
    }
}

#[test]
fn urls() {
    bounded(|| {
        let door = Door::new();
        let at = door.url();
        let port = door.0.local_addr().unwrap().port();
        for (url, named) in [
            (format!("{at}#fragment"), "fragment"),
            (format!("{at}#"), "fragment"),
            (at.replace("ws:", "http:"), "ws://"),
            (at.replace("ws:", "https:"), "wss://"),
            (at.replace("ws:", "ftp:"), "ws://"),
            (at.replace("ws://", ""), "ws://"),
            ("/path".into(), "ws://"),
            (String::new(), "ws://"),
            ("ws://".into(), "host"),
            ("ws:///path".into(), "host"),
            (format!("ws://:{port}/"), "host"),
            (format!("ws://user@:{port}/"), "host"),
            ("ws://127.0.0.1:0/".into(), "port"),
            ("ws://127.0.0.1:65536/".into(), "port"),
            ("ws://127.0.0.1:8a/".into(), "port"),
            (format!("ws://127.0.0.1:-{port}/"), "port"),
            (format!("ws://[::1:{port}/"), "IPv6"),
            (format!("ws://127.0.0.1.256:{port}/"), "127.0.0.1.256"),
            (format!("ws://a b:{port}/"), "a b"),
            (format!("{at}a\r\nX-Smuggled: y"), "control"),
            (format!("{at}a\nb"), "control"),
            (format!(" \t{at}"), "control"),
            (format!("{at}a\0b"), "control"),
        ] {
            let error = options().connect(&url).expect_err(&url);
            assert_eq!(error.kind(), Url, "{url:?}: {error}");
            assert!(error.to_string().contains(named), "{url:?}: {error}");
            door.assert_untouched(&url);
        }
    });
}

#[test]
fn options_for_connecting() {
    bounded(|| {
        let door = Door::new();
        let deflate = Compression::default;
        let zero = Some(Duration::ZERO);
        let cases: Vec<(ConnectOptions, &str)> = vec![
            (options().header("X-A", "a\rb"), "X-A"),
            (options().header("X-A", "a\nb"), "X-A"),
            (options().header("X-A", "a\r\nX-Smuggled: b"), "X-A"),
            (options().header("X-A", "a\0b"), "X-A"),
            (options().header("X A", "a"), "X A"),
            (options().header("X-A ", "a"), "X-A "),
            (options().header("X-A:", "a"), "X-A:"),
            (options().header("X-A\r\nX-B", "a"), "X-A"),
            (options().header("X\tA", "a"), "X"),
            (options().header("X-\u{e4}", "a"), "\u{e4}"),
            (options().header("", "a"), "header"),
            // Refused although it would be ignored.
            (options().header("Connection", "a\r\nb"), "Connection"),
            (options().user_agent("a\r\nb"), "User-Agent"),
            (options().protocols([""]), "subprotocol"),
            (options().protocols(["a b"]), "a b"),
            (options().protocols(["a,b"]), "a,b"),
            (options().protocols(["a\r\nb"]), "subprotocol"),
            (options().protocols(["a\x7f"]), "subprotocol"),
            (options().protocols(["caf\u{e9}"]), "caf\u{e9}"),
            (options().protocols(["same", "other", "same"]), "same"),
            (options().compression(deflate().client_max_window_bits(8)), "8"),
            (options().compression(deflate().client_max_window_bits(7)), "7"),
            (options().compression(deflate().client_max_window_bits(16)), "16"),
            (options().compression(deflate().client_max_window_bits(0)), "0"),
            (options().compression(deflate().server_max_window_bits(7)), "7"),
            (options().compression(deflate().server_max_window_bits(16)), "16"),
            (options().compression(deflate().level(10)), "10"),
            (options().connect_timeout(zero), "connect_timeout"),
            (options().send_timeout(zero), "send_timeout"),
            (options().close_timeout(zero), "close_timeout"),
            (options().ping_interval(zero), "ping_interval"),
        ];
        for (index, (options, named)) in cases.into_iter().enumerate() {
            let name = format!("{index} ({named})");
            let error = options.connect(&door.url()).expect_err(&name);
            assert_eq!(error.kind(), Options, "{name}: {error}");
            assert!(error.to_string().contains(named), "{name}: {error}");
            assert!(!error.to_string().contains(['\r', '\n', '\0']), "{name}: {error:?}");
            door.assert_untouched(&name);

            let stream = TcpStream::connect(door.0.local_addr().unwrap()).unwrap();
            let (mut other, _) = door.0.accept().unwrap();
            assert_eq!(kind(options.connect_over("ws://h/", stream)).err(), Some(Options), "{name}");
            assert_eq!(std::io::Read::read(&mut other, &mut [0]).unwrap(), 0, "{name}: something came");
        }
    });
}

#[test]
fn options_for_accepting() {
    bounded(|| {
        let door = Door::new();
        let deflate = Compression::default;
        let zero = Some(Duration::ZERO);
        let cases: Vec<(AcceptOptions, &str)> = vec![
            (AcceptOptions::new().protocols(["a b"]), "a b"),
            (AcceptOptions::new().protocols(["a", "a"]), "a"),
            (AcceptOptions::new().compression(deflate().server_max_window_bits(8)), "8"),
            (AcceptOptions::new().compression(deflate().client_max_window_bits(16)), "16"),
            (AcceptOptions::new().accept_timeout(zero), "accept_timeout"),
            (AcceptOptions::new().send_timeout(zero), "send_timeout"),
            (AcceptOptions::new().close_timeout(zero), "close_timeout"),
            (AcceptOptions::new().ping_interval(zero), "ping_interval"),
        ];
        for (options, named) in cases {
            let mut other = TcpStream::connect(door.0.local_addr().unwrap()).unwrap();
            let (stream, _) = door.0.accept().unwrap();
            let error = options.accept(stream).expect_err(named);
            assert_eq!(error.kind(), Options, "{error}");
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(std::io::Read::read(&mut other, &mut [0]).unwrap(), 0, "{named}: something came");
        }
    });
}

#[test]
fn taking_over() {
    bounded(|| {
        let door = Door::new();
        for (role, protocol, compression, named) in [
            (Role::Client, Some("a b"), Compression::off(), "a b"),
            (Role::Client, Some(""), Compression::off(), "subprotocol"),
            (Role::Client, None, Compression::default().client_max_window_bits(8), "8"),
            (Role::Server, None, Compression::default().server_max_window_bits(16), "16"),
        ] {
            let stream = TcpStream::connect(door.0.local_addr().unwrap()).unwrap();
            let error = WebSocket::from_upgraded(stream, role, protocol, compression).unwrap_err();
            assert_eq!(error.kind(), Options, "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
    });
}

/// The connection is as good afterwards as it was before.
#[test]
fn closes_and_pings() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            let error = ws.close(code.into(), "").unwrap_err();
            assert_eq!(error.kind(), Options, "{code}: {error}");
            assert!(error.to_string().contains(&code.to_string()), "{error}");
        }
        for reason in ["x".repeat(124), "\u{e4}".repeat(62)] {
            let error = ws.close(CloseCode::NORMAL, &reason).unwrap_err();
            assert_eq!(error.kind(), Options, "{error}");
            assert!(error.to_string().contains("123"), "{error}");
        }
        for length in [126, 1000] {
            let error = ws.ping(&vec![b'x'; length]).unwrap_err();
            assert_eq!(error.kind(), Options, "{error}");
            assert!(error.to_string().contains(&length.to_string()), "{error}");
        }
        ws.ping(&[b'x'; 125]).unwrap();
        assert_eq!(peer.frame(), Frame::new(PING, &[b'x'; 125]));
        peer.send(CLOSE, b"");
        peer.end();
        ws.close(4999.into(), &"x".repeat(123)).unwrap();
        assert_eq!(peer.frame(), Frame::new(CLOSE, &close_payload(4999, &"x".repeat(123))));
    });
}
