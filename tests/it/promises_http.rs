//! Promises about the opening handshake: bounds on what a peer sends in it, servers as they are, and errors that name the cause.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support::*;
use wsync::{AcceptOptions, Compression, ConnectOptions, Error, ErrorKind, Proxy, WebSocket};

/// Connects to a server that answers with `head` and then sends `piece` until the client is gone: the error, and about how
/// many bytes the server could send.
fn flooded(head: &'static [u8], piece: &'static [u8]) -> (Error, usize) {
    let server = Server::new(Layer::Plain, move |mut peer| {
        peer.read_head();
        peer.write(head);
        let block = piece.repeat(1 + 8192 / piece.len());
        let mut sent = 0;
        while peer.try_write(&block).is_ok() && sent < 200 << 20 {
            sent += block.len();
        }
        sent
    });
    let error = options().connect(&server.url).unwrap_err();
    (error, server.join())
}

#[test]
fn no_framing_of_a_body_is_endless() {
    bounded(|| {
        let chunked = b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let extension = Vec::leak([&b"1;"[..], &[b'x'; 1000], b"\r\na\r\n"].concat());
        let trailers = b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        let cases: [(&'static [u8], &'static [u8]); 7] = [
            (chunked, b"\n"),
            (chunked, b"\r\n"),
            (chunked, b"\r"),
            (chunked, extension),
            (chunked, b"1\r\na\r\n"),
            (chunked, b"1\na"),
            (trailers, b"X: y\r\n"),
        ];
        for (head, piece) in cases {
            let (error, sent) = flooded(head, piece);
            assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
            assert_eq!(error.response().unwrap().status(), 503);
            // What the sockets' buffers hold is sent, too.
            assert!(sent < 50 << 20, "{sent} bytes of {:?}", piece.escape_ascii().to_string());
        }
    });
}

#[test]
fn no_heads_are_endless() {
    bounded(|| {
        let cases: [(&'static [u8], &'static [u8]); 4] = [
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 103 x\r\n", b"Link: </x>\r\n"),
            (b"", b"\r\n"),
            (b"", b"\n"),
        ];
        for (head, piece) in cases {
            let (error, sent) = flooded(head, piece);
            assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
            assert!(sent < 50 << 20, "{sent} bytes of {:?}", piece.escape_ascii().to_string());
        }
    });
}

/// What a server of ours makes of these bytes and an upgrade request behind them.
fn accepted_behind(before: &str) -> (Result<(), ErrorKind>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let request = "GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.write_all(format!("{before}{request}").as_bytes()).unwrap();
    let accepted = AcceptOptions::new().accept(listener.accept().unwrap().0);
    let result = kind(accepted.as_ref().map(|_| ()).map_err(Clone::clone));
    drop(accepted);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    (result, String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn empty_lines_before_a_request_are_skipped_within_a_bound() {
    for before in ["", "\r\n", "\n", "\r\n\r\n\r\n"] {
        let (result, answer) = accepted_behind(before);
        assert_eq!(result, Ok(()), "{before:?}");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{before:?}: {answer}");
    }
    let (result, _) = accepted_behind(&"\r\n".repeat(100));
    assert_eq!(result, Err(ErrorKind::Handshake));
}

/// Connects to a server that agrees to this compression.
fn agreed(compression: Compression, answer: &'static str) -> Result<WebSocket, Error> {
    let server = Server::new(Layer::Plain, move |mut peer| {
        peer.upgrade(answer);
        peer
    });
    let ws = options().compression(compression).connect(&server.url);
    server.join();
    ws
}

#[test]
fn parameters_that_the_server_leaves_out_were_only_a_request() {
    let asking = Compression::default().server_no_context_takeover(true).server_max_window_bits(10);
    let plain = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let ws = agreed(asking.clone(), plain).unwrap();
    assert_eq!(ws.extensions(), "permessage-deflate");
    let smaller = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    assert_eq!(agreed(asking.clone(), smaller).unwrap().extensions(), "permessage-deflate; server_max_window_bits=9");
    // More than was asked for, and more than was offered, are still wrong.
    let larger = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=11\r\n";
    assert_eq!(agreed(asking, larger).unwrap_err().kind(), ErrorKind::Handshake);
    let offering = Compression::default().client_max_window_bits(10);
    let larger = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12\r\n";
    let error = agreed(offering, larger).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handshake);
    assert!(error.to_string().contains("at most 10 was offered"), "{error}");
}

#[test]
fn a_server_that_hangs_up_is_asked_about_tls_only_where_that_fits() {
    let hung_up = |options: &ConnectOptions| {
        let server = Server::new(Layer::Plain, |mut peer| {
            peer.read_head();
        });
        let error = options.connect(&server.url).unwrap_err();
        server.join();
        error.to_string()
    };
    assert!(hung_up(&options()).contains("expect TLS"));
    let text = hung_up(&options().protocols(["v9.chat"]));
    assert!(!text.contains("TLS") && text.contains("subprotocol"), "{text}");
    // Inside its answer it is no TLS server.
    let server = Server::new(Layer::Plain, |mut peer| {
        peer.read_head();
        peer.write(b"HTTP/1.1 1");
    });
    let text = options().connect(&server.url).unwrap_err().to_string();
    server.join();
    assert!(!text.contains("TLS"), "{text}");
}

#[test]
fn a_server_that_hangs_up_on_most_of_the_request_is_asked_about_tls() {
    // A close with bytes unread is a reset.
    let server = Server::tcp(|mut tcp| tcp.read_exact(&mut [0; 5]).unwrap());
    let text = options().protocols(["v9.chat"]).connect(&server.url).unwrap_err().to_string();
    server.join();
    assert!(text.contains("expect TLS"), "{text}");
}

#[test]
fn a_rejection_shows_the_first_line_of_its_body() {
    let rejected = |answer: Vec<u8>| {
        let server = Server::new(Layer::Plain, move |mut peer| {
            peer.read_head();
            peer.write(&answer);
        });
        let error = options().connect(&server.url).unwrap_err();
        server.join();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        error.to_string()
    };
    let answer = |body: &str| format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let text = rejected(answer("\r\n  missing \u{1b}token\nsecond line").into());
    assert!(text.ends_with("with 400 Bad Request: \"missing \\u{1b}token\""), "{text}");
    let text = rejected(answer(&"long ".repeat(100)).into());
    assert!(text.contains("long long") && text.len() < 200, "{text}");
    assert!(rejected(answer("").into()).ends_with("400 Bad Request"));
    let packed = "HTTP/1.1 400 x\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n12345";
    assert!(!rejected(packed.into()).contains("12345"));
}

#[test]
fn a_proxy_that_cannot_be_reached_is_named_with_the_target() {
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = Proxy::new(format!("http://127.0.0.1:{port}")).unwrap();
    let error = WebSocket::options().proxy(proxy).connect("ws://example.invalid/").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Proxy, "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("example.invalid:80"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_missing_client_certificate_is_a_tls_error_with_tls_1_3_too() {
    use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode, SslVersion};
    bounded(|| {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let server = Server::tcp(move |mut tcp| {
                let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
                acceptor.set_min_proto_version(Some(version)).unwrap();
                acceptor.set_max_proto_version(Some(version)).unwrap();
                acceptor.set_certificate(&tls::GOOD.certificate).unwrap();
                acceptor.set_private_key(&tls::GOOD.key).unwrap();
                acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
                let kept = tcp.try_clone().unwrap();
                assert!(acceptor.build().accept(kept).is_err());
                // Until the client is gone: with its request unread, a close would be a reset that overtakes the alert.
                let _ = std::io::copy(&mut tcp, &mut std::io::sink());
            });
            let error = options().connect(server.url.replace("ws:", "wss:")).unwrap_err();
            server.join();
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        }
    });
}
