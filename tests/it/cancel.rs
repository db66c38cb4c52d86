//! `connect` that another thread cancels.

use std::io::Write;
use std::net::TcpStream;

use crate::background::{accept, listen, uncompressed};
use crate::support::read_head;
use wsync::{ConnectOptions, ErrorKind};

/// A server that says nothing.
fn silent(stream: TcpStream) -> TcpStream {
    stream
}

/// A proxy that says nothing, and a server that says nothing behind a proxy that answers.
fn answering_proxy(mut stream: TcpStream) -> TcpStream {
    read_head(&mut stream);
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    stream
}

#[test]
fn a_cancelled_connect_returns_at_once_at_every_stage() {
    let (listener, _) = listen();
    let address = listener.local_addr().unwrap();
    let unbounded = uncompressed().connect_timeout(None);
    let proxy = format!("http://{address}").parse::<wsync::Proxy>().unwrap();
    let through_proxy = unbounded.clone().proxy(proxy);
    type Serve = fn(TcpStream) -> TcpStream;
    let stages: [(&str, ConnectOptions, String, Serve); 5] = [
        ("upgrade", unbounded.clone(), format!("ws://{address}/"), silent),
        ("TLS", unbounded.clone(), format!("wss://{address}/"), silent),
        ("a name", unbounded.clone(), format!("ws://localhost:{}/", address.port()), silent),
        ("proxy", through_proxy.clone(), "ws://h.example/".into(), silent),
        ("behind a proxy", through_proxy, "ws://h.example/".into(), answering_proxy),
    ];
    for (stage, options, url, serve) in stages {
        let token = wsync::CancelToken::new();
        let options = options.cancel_token(&token);
        let connecting = std::thread::spawn({
            let (options, url) = (options.clone(), url.clone());
            move || options.connect(&url)
        });
        let mut stream = serve(listener.accept().unwrap().0);
        if stage == "upgrade" || stage == "a name" {
            read_head(&mut stream);
        }
        token.cancel();
        let error = connecting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{stage}: {error}");
        // So does every later one.
        assert_eq!(options.connect(&url).unwrap_err().kind(), ErrorKind::Cancelled, "{stage}");
    }
}

#[test]
fn an_open_connection_outlives_its_token_and_a_stream_in_memory_is_cancelled_too() {
    let (listener, url) = listen();
    let token = wsync::CancelToken::new();
    let options = uncompressed().cancel_token(&token);
    let server = std::thread::spawn(move || accept(&listener));
    let ws = options.connect(&url).unwrap();
    let server = server.join().unwrap();
    let (ours, _theirs) = wsync::Stream::pair();
    let connecting = std::thread::spawn({
        let options = options.clone();
        move || options.connect_over("ws://localhost/", ours)
    });
    token.cancel();
    assert_eq!(connecting.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    ws.send("still open").unwrap();
    assert_eq!(server.recv().unwrap(), Some("still open".into()));
}
