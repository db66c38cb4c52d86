//! Each server with two clients: one that waits for the answer, as RFC 6455 §4.1 asks for, and one that sends its first
//! message together with the request, so that the HTTP library has read it already. A server's thread ends with the process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Status};
use wsync::{Message, Role, WebSocket, accept_key};

const BOUND: Duration = Duration::from_secs(20);

/// From RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The text "early", from RFC 6455 §5.2's client: masked, here with a mask of zeros.
const EARLY: &[u8] = b"\x81\x85\0\0\0\0early";

#[test]
fn httparse_hands_over_the_stream_and_what_was_read() {
    let address = start(upgraded::httparse::serve);
    assert_eq!(echoes(&connect(address)), ["late"]);
    assert_eq!(echoes(&connect_early(address)), ["early", "late"]);
}

#[test]
fn hyper_hands_over_the_stream_and_what_was_read() {
    let address = start(upgraded::hyper::serve);
    assert_eq!(echoes(&connect(address)), ["late"]);
    assert_eq!(echoes(&connect_early(address)), ["early", "late"]);
}

#[test]
fn touche_hands_over_the_stream_without_what_was_read() {
    let address = start(upgraded::touche::serve);
    assert_eq!(echoes(&connect(address)), ["late"]);
    assert_eq!(echoes(&connect_early(address)), ["late"]);
}

/// The handshake succeeds and the bytes are there, but not a stream for `WebSocket::upgraded`: see the module.
#[test]
fn tiny_http_hands_out_one_reader_and_writer() {
    let (listener, address) = listen();
    let client = thread::spawn(move || connect_early(address));
    let stream = upgraded::tiny_http::upgrade_one(listener).unwrap();
    exchange(stream, &client.join().unwrap());
}

#[test]
fn rouille_hands_out_one_reader_and_writer() {
    let (address, serve, streams) = upgraded::rouille::upgrade_one().unwrap();
    thread::spawn(serve);
    let client = connect_early(address);
    exchange(streams.recv_timeout(BOUND).unwrap(), &client);
}

/// What can be done with such a stream: to read, and then to write.
fn exchange(mut stream: Box<dyn tiny_http::ReadWrite + Send>, client: &WebSocket) {
    let mut frame = [0; EARLY.len()];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame, EARLY);
    stream.write_all(b"\x81\x05hello").and_then(|()| stream.flush()).unwrap();
    assert_eq!(client.recv_timeout(BOUND).unwrap(), Some(Message::from("hello")));
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn start(serve: fn(TcpListener) -> upgraded::Result) -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || serve(listener).unwrap());
    address
}

fn connect(address: SocketAddr) -> WebSocket {
    WebSocket::options().no_proxy().connect(format!("ws://{address}/")).unwrap()
}

/// Sends the request and the first message with one system call, checks the answer, and takes the stream over.
fn connect_early(address: SocketAddr) -> WebSocket {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(&[REQUEST.as_bytes(), EARLY].concat()).unwrap();
    let mut read = Vec::new();
    loop {
        let mut block = [0; 1024];
        let count = stream.read(&mut block).unwrap();
        assert!(count > 0, "the server ended the connection");
        read.extend_from_slice(&block[..count]);
        let mut headers = [EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let Status::Complete(length) = response.parse(&read).unwrap() else { continue };
        assert_eq!(response.code, Some(101));
        let accept = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Accept"));
        assert_eq!(accept.unwrap().value, accept_key(KEY).as_bytes());
        return WebSocket::upgraded(stream, Role::Client).already_read(&read[length..]).open().unwrap();
    }
}

/// Sends "late", and returns what comes up to its echo.
fn echoes(ws: &WebSocket) -> Vec<String> {
    ws.send("late").unwrap();
    let mut all = Vec::new();
    while all.last().is_none_or(|text| text != "late") {
        all.push(ws.recv_timeout(BOUND).unwrap().unwrap().into_text().unwrap());
    }
    all
}
