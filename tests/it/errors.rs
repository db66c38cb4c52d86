//! Errors, `Debug` output and the log: they name the cause, and contain no secret.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::log::{Capture, SECRETS};
use crate::support::*;
use wsync::{AcceptOptions, ErrorKind, Proxy, WebSocket};

fn assert_no_secret(shown: &str) {
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

fn options_with_secrets() -> wsync::ConnectOptions {
    options().header("Authorization", "Bearer s3cr3t-token").header("Cookie", "id=s3cr3t-cookie")
}

fn url_with_secrets(url: &str) -> String {
    url.replace("://", "://user:hunter2@") + "path?token=s3cr3t-query"
}

#[test]
fn every_failure_to_connect_names_its_cause() {
    bounded(|| {
        let refused = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed_port = refused.local_addr().unwrap();
        drop(refused);
        type Script = fn(&mut Peer);
        let answers: [(Script, ErrorKind, &[&str]); 4] = [
            (
                |peer| peer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
                ErrorKind::Rejected,
                &["401", "Unauthorized"],
            ),
            (|peer| peer.write(b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n"), ErrorKind::Handshake, &["Upgrade", "h2c"]),
            (|peer| peer.write(b"\x1b[31mred\r\n\r\n"), ErrorKind::Handshake, &["status line"]),
            (
                |peer| peer.write(b"HTTP/1.1 302 x\r\nLocation: ftp://user:hunter2@x/\r\nContent-Length: 0\r\n\r\n"),
                ErrorKind::Redirect,
                &["302", "Location"],
            ),
        ];
        for (script, expected, named) in answers {
            let server = Server::new(Layer::Plain, move |mut peer| {
                peer.read_head();
                script(&mut peer);
                peer.rest();
            });
            let error = options_with_secrets().connect(url_with_secrets(&server.url)).unwrap_err();
            server.join();
            assert_eq!(error.kind(), expected, "{error}");
            named.iter().for_each(|name| assert!(error.to_string().contains(name), "{name}: {error}"));
            assert!(!error.to_string().contains('\x1b'), "{error:?}");
            assert_no_secret(&format!("{error} {error:?} {error:#?}"));
        }
        for (url, expected, named) in [
            (format!("ws://{closed_port}/"), ErrorKind::Connect, closed_port.to_string()),
            ("ws://no-such-host.invalid/".into(), ErrorKind::Resolve, "no-such-host.invalid".into()),
            ("ws://127.0.0.1/#f".into(), ErrorKind::Url, "fragment".into()),
            ("ws://127.0.0.1:x/".into(), ErrorKind::Url, "port".into()),
        ] {
            let error = options_with_secrets().connect(url_with_secrets(&url)).unwrap_err();
            assert_eq!(error.kind(), expected, "{error}");
            assert!(error.to_string().contains(&named), "{error}");
            assert_no_secret(&format!("{error} {error:?}"));
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                assert_no_secret(&format!("{cause} {cause:?}"));
                source = cause.source();
            }
        }
        let error = options().header("Authorization", "Bearer s3cr3t-token\n").connect("ws://h/").unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("Authorization"), "{error}");
        assert_no_secret(&format!("{error} {error:?}"));
    });
}

#[test]
fn debug_output_has_no_secret() {
    bounded(|| {
        let server = Server::new(Layer::Plain, |mut peer| {
            peer.upgrade("Set-Cookie: id=s3cr3t-cookie\r\n");
            peer
        });
        let url = url_with_secrets(&server.url);
        let proxy = Proxy::new("http://user:pr0xy-pass@127.0.0.1:1").unwrap();
        let options = options_with_secrets();
        assert_no_secret(&format!(
            "{options:?} {:?} {proxy:?} {:?}",
            options.clone().proxy(proxy.clone()),
            AcceptOptions::new()
        ));
        let ws = options.connect(&url).unwrap();
        let mut peer = server.join();
        assert!(ws.url().unwrap().as_str().contains("s3cr3t-query"), "url() lacks the query");
        assert!(!format!("{ws:?}").contains("hunter2"), "{ws:?}");
        peer.send(FIN | TEXT, b"s3cr3t-payload");
        let message = ws.recv().unwrap().unwrap();
        assert_eq!(message.as_text(), Some("s3cr3t-payload"));
        for bad in [&b"s3cr3t-payload\xff"[..], b"s3cr3t-payload\xe2\x82"] {
            let (ws, mut peer) = connected(Layer::Plain, &crate::support::options());
            peer.send(FIN | TEXT, bad);
            let error = ws.recv().unwrap_err();
            assert_no_secret(&format!("{error} {error:?} {ws:?}"));
        }
    });
}

#[test]
fn errors_of_an_open_connection_name_their_cause() {
    bounded(|| {
        for (bytes, named) in [
            (frame(0xc1, b""), "reserved bits"),
            (frame(0x83, b""), "0x3"),
            (masked(0x81, b""), "mask"),
            (frame(CLOSE, &[3, 237]), "1005"),
            (frame(FIN, b""), "continuation"),
            (frame(FIN | TEXT, b"ab\xff"), "offset 2"),
        ] {
            let (ws, mut peer) = connected(Layer::Plain, &options());
            peer.write(&bytes);
            let error = ws.recv().unwrap_err();
            assert!(error.to_string().contains(named), "{named}: {error}");
        }
        let (ws, mut peer) = connected(Layer::Plain, &options().max_message_size(10));
        peer.send(FIN | BINARY, &[0; 11]);
        let error = ws.recv().unwrap_err().to_string();
        assert!(error.contains("11") && error.contains("10") && error.contains("max_message_size"), "{error}");
    });
}

/// Everything that is logged while connections open, exchange messages and end.
#[test]
fn the_log_has_no_secret() {
    let log = Capture::start();
    on_every_layer(|layer| {
        let server = Server::new(layer, |mut peer| {
            peer.upgrade("Set-Cookie: id=s3cr3t-cookie\r\n");
            peer
        });
        let ws =
            options_with_secrets().header("Connection", "s3cr3t-token").connect(url_with_secrets(&server.url)).unwrap();
        let mut peer = server.join();
        ws.send("s3cr3t-payload").unwrap();
        ws.ping(b"s3cr3t-payload").unwrap();
        peer.send(PING, b"s3cr3t-payload");
        peer.send(FIN | TEXT, b"s3cr3t-payload");
        assert_eq!(kind(ws.recv()), Ok(text("s3cr3t-payload")));
        peer.send(CLOSE, &close_payload(4000, "s3cr3t-payload"));
        assert_eq!(kind(ws.recv()), Ok(None));

        let (ws, mut peer) = connected(layer, &options());
        peer.send(FIN | TEXT, b"s3cr3t-payload\xff");
        assert_eq!(kind(ws.recv()), Err(ErrorKind::Utf8));

        let server = Server::new(layer, |mut peer| {
            peer.read_head();
            peer.write(b"HTTP/1.1 403 x\r\nSet-Cookie: s3cr3t-cookie\r\nContent-Length: 14\r\n\r\ns3cr3t-payload");
            peer.rest();
        });
        let error = options_with_secrets().connect(url_with_secrets(&server.url)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        server.join();
    });
    on_every_pair(|side, layer| {
        if side == Side::Server {
            let (ws, mut peer) = accepted_with(layer, &AcceptOptions::new(), "Authorization: Bearer s3cr3t-token\r\n");
            peer.send(FIN | TEXT, b"s3cr3t-payload");
            assert_eq!(kind(ws.recv()), Ok(text("s3cr3t-payload")));
            ws.abort();
        }
    });
    let shown = log.lines();
    assert!(
        shown.contains("DEBUG wsync") && shown.contains("101") && shown.contains("4000"),
        "log lines are missing: {shown}"
    );
    assert!(shown.contains("WARN") && shown.contains("Connection"), "the ignored header is not logged: {shown}");
    assert_no_secret(&shown);
}

/// `main` can return these errors, and threads can send them to each other.
#[test]
fn errors_are_send_sync_and_clone_and_convert_to_io_errors() {
    fn anywhere<T: std::error::Error + Send + Sync + Clone + 'static>(_: &T) {}
    let error = WebSocket::connect("http://h/").unwrap_err();
    anywhere(&error);
    let io: std::io::Error = error.into();
    assert_eq!(io.kind(), std::io::ErrorKind::InvalidInput);
    let (ws, _peer) = connected(Layer::Plain, &options());
    let io: std::io::Error = ws.recv_timeout(Duration::from_millis(1)).unwrap_err().into();
    assert_eq!(io.kind(), std::io::ErrorKind::TimedOut);
}
