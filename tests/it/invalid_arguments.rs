//! Invalid arguments are errors that name the argument, and are returned before any I/O.

use std::io::ErrorKind::WouldBlock;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::*;
use wsync::ErrorKind::{InvalidInput, Url};
use wsync::{AcceptOptions, CloseCode, Compression, ConnectOptions, Role, WebSocket};

/// A listener that can tell whether a client has connected.
struct Listener(TcpListener);

impl Listener {
    fn new() -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Listener(listener)
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.0.local_addr().unwrap())
    }

    fn assert_no_connection(&self, name: &str) {
        assert_eq!(self.0.accept().unwrap_err().kind(), WouldBlock, "{name}: something was sent");
    }
}

#[test]
fn invalid_urls_are_errors() {
    bounded(|| {
        let listener = Listener::new();
        let at = listener.url();
        let port = listener.0.local_addr().unwrap().port();
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
            listener.assert_no_connection(&url);
        }
    });
}

#[test]
fn invalid_connect_options_are_errors() {
    bounded(|| {
        let listener = Listener::new();
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
            // An error although the handshake ignores this header.
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
        ];
        for (index, (options, named)) in cases.into_iter().enumerate() {
            let name = format!("{index} ({named})");
            let error = options.connect(listener.url()).expect_err(&name);
            assert_eq!(error.kind(), InvalidInput, "{name}: {error}");
            assert!(error.to_string().contains(named), "{name}: {error}");
            assert!(!error.to_string().contains(['\r', '\n', '\0']), "{name}: {error:?}");
            listener.assert_no_connection(&name);

            let stream = TcpStream::connect(listener.0.local_addr().unwrap()).unwrap();
            let (mut other, _) = listener.0.accept().unwrap();
            assert_eq!(kind(options.connect_over("ws://h/", stream)).err(), Some(InvalidInput), "{name}");
            assert_eq!(std::io::Read::read(&mut other, &mut [0]).unwrap(), 0, "{name}: something was sent");
        }
    });
}

#[test]
fn invalid_accept_options_are_errors() {
    bounded(|| {
        let listener = Listener::new();
        let deflate = Compression::default;
        let zero = Some(Duration::ZERO);
        let cases: Vec<(AcceptOptions, &str)> = vec![
            (AcceptOptions::new().protocols(["a b"]), "a b"),
            (AcceptOptions::new().protocols(["a", "a"]), "a"),
            (AcceptOptions::new().compression(deflate().server_max_window_bits(8)), "8"),
            (AcceptOptions::new().compression(deflate().client_max_window_bits(16)), "16"),
            (AcceptOptions::new().allowed_origins(["https://a", "b.example"]), "b.example"),
            (AcceptOptions::new().allowed_origins(["https://a/"]), "https://a/"),
            (AcceptOptions::new().accept_timeout(zero), "accept_timeout"),
            (AcceptOptions::new().send_timeout(zero), "send_timeout"),
            (AcceptOptions::new().close_timeout(zero), "close_timeout"),
        ];
        for (options, named) in cases {
            let mut other = TcpStream::connect(listener.0.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.0.accept().unwrap();
            let error = options.accept(stream).expect_err(named);
            assert_eq!(error.kind(), InvalidInput, "{error}");
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(std::io::Read::read(&mut other, &mut [0]).unwrap(), 0, "{named}: something was sent");
        }
    });
}

#[test]
fn invalid_arguments_of_from_upgraded_are_errors() {
    bounded(|| {
        let listener = Listener::new();
        for (role, protocol, compression, named) in [
            (Role::Client, Some("a b"), Compression::off(), "a b"),
            (Role::Client, Some(""), Compression::off(), "subprotocol"),
            (Role::Client, None, Compression::default().client_max_window_bits(8), "8"),
            (Role::Server, None, Compression::default().server_max_window_bits(16), "16"),
        ] {
            let stream = TcpStream::connect(listener.0.local_addr().unwrap()).unwrap();
            let error = WebSocket::from_upgraded(stream, role, protocol, compression).unwrap_err();
            assert_eq!(error.kind(), InvalidInput, "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
    });
}

/// The connection still works after the errors.
#[test]
fn invalid_closes_and_pings_are_errors() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            let error = ws.close(code, "").unwrap_err();
            assert_eq!(error.kind(), InvalidInput, "{code}: {error}");
            assert!(error.to_string().contains(&code.to_string()), "{error}");
        }
        for reason in ["x".repeat(124), "\u{e4}".repeat(62)] {
            let error = ws.close(CloseCode::NORMAL, &reason).unwrap_err();
            assert_eq!(error.kind(), InvalidInput, "{error}");
            assert!(error.to_string().contains("123"), "{error}");
        }
        for length in [126, 1000] {
            let error = ws.ping(&vec![b'x'; length]).unwrap_err();
            assert_eq!(error.kind(), InvalidInput, "{error}");
            assert!(error.to_string().contains(&length.to_string()), "{error}");
        }
        ws.ping(&[b'x'; 125]).unwrap();
        assert_eq!(peer.frame(), Frame::new(PING, &[b'x'; 125]));
        peer.send(CLOSE, b"");
        peer.end();
        ws.close(4999, &"x".repeat(123)).unwrap();
        assert_eq!(peer.frame(), Frame::new(CLOSE, &close_payload(4999, &"x".repeat(123))));
    });
}
