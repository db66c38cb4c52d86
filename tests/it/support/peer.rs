//! The scripted peer, and the frames that it writes and reads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::{Layer, patience};

pub const FIN: u8 = 0x80;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = FIN | 8;
pub const PING: u8 = FIN | 9;
pub const PONG: u8 = FIN | 10;

/// The key of the example in RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The mask of the example in RFC 6455 §5.7.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A received frame, with its payload unmasked.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(first: u8, payload: &[u8]) -> Frame {
        Frame { first, payload: payload.into() }
    }

    pub fn close(code: u16) -> Frame {
        Frame::new(CLOSE, &close_payload(code, ""))
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.payload[..self.payload.len().min(32)];
        write!(f, "{:02x} [{}] {}", self.first, self.payload.len(), shown.escape_ascii())
    }
}

pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A frame as a server writes it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len() as u64, 0), payload.to_vec()].concat()
}

/// A frame as a client writes it.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&header(first, payload.len() as u64, 0x80), &MASK[..], payload].concat();
    let at = bytes.len() - payload.len();
    apply(MASK, &mut bytes[at..]);
    bytes
}

/// Masks or unmasks, 16 bytes at a time: single bytes are too slow in a build without optimisation.
fn apply(mask: [u8; 4], payload: &mut [u8]) {
    let wide = u128::from_ne_bytes([mask; 4].concat().try_into().unwrap());
    let mut chunks = payload.chunks_exact_mut(16);
    for chunk in &mut chunks {
        let word = u128::from_ne_bytes(chunk.try_into().unwrap()) ^ wide;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    chunks.into_remainder().iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// A header without its mask.
pub fn header(first: u8, length: u64, mask_bit: u8) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..126 => header.push(mask_bit | length as u8),
        126..65536 => {
            header.push(mask_bit | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(mask_bit | 127);
            header.extend(length.to_be_bytes());
        }
    }
    header
}

pub struct Peer {
    stream: Stream,
    /// The last request or response head that was read.
    pub head: String,
    /// The masks of the received frames.
    pub masks: Vec<[u8; 4]>,
    pub is_client: bool,
}

enum Stream {
    Plain(Socket),
    #[cfg(target_os = "linux")]
    Tls(Box<openssl::ssl::SslStream<Socket>>),
}

/// A socket whose output can be collected instead of written.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    held: Option<Vec<u8>>,
}

impl Peer {
    /// The server's side: accepts TLS unless the layer is plain.
    pub fn serve(tcp: TcpStream, layer: Layer) -> Peer {
        let socket = Socket::new(tcp);
        let stream = match layer {
            Layer::Plain => Stream::Plain(socket),
            #[cfg(target_os = "linux")]
            _ => Stream::Tls(Box::new(super::tls::accept(socket, layer).unwrap())),
            #[cfg(not(target_os = "linux"))]
            _ => unreachable!(),
        };
        Peer { stream, head: String::new(), masks: Vec::new(), is_client: false }
    }

    /// The client's side.
    pub fn connect(address: SocketAddr, layer: Layer) -> Peer {
        Peer::over(TcpStream::connect(address).unwrap(), layer)
    }

    /// The client's side over an existing connection.
    pub fn over(tcp: TcpStream, layer: Layer) -> Peer {
        let socket = Socket::new(tcp);
        let stream = match layer {
            Layer::Plain => Stream::Plain(socket),
            #[cfg(target_os = "linux")]
            _ => Stream::Tls(Box::new(super::tls::connect(socket))),
            #[cfg(not(target_os = "linux"))]
            _ => unreachable!(),
        };
        Peer { stream, head: String::new(), masks: Vec::new(), is_client: true }
    }

    /// Reads the request and answers with a correct 101 response that also has these lines.
    pub fn upgrade(&mut self, lines: &str) {
        self.read_head();
        let accept = self.accept_key();
        self.write(&response(&accept, lines));
    }

    /// Sends a correct request that also has these lines.
    pub fn request(&mut self, lines: &str) {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
        );
        self.write(request.as_bytes());
    }

    /// Reads a head and nothing after it.
    pub fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.read_exact(&mut byte);
            head.push(byte[0]);
        }
        self.head = String::from_utf8(head).unwrap();
        self.head.clone()
    }

    /// The values of this header in [`head`](Peer::head).
    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(other, _)| *other == name).map(|(_, value)| value).collect()
    }

    pub fn accept_key(&self) -> String {
        let [key] = self.header("Sec-WebSocket-Key")[..] else { panic!("no single key: {}", self.head) };
        STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).unwrap_or_else(|error| panic!("the peer cannot write: {error}"));
    }

    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(bytes),
            #[cfg(target_os = "linux")]
            Stream::Tls(stream) => stream.write_all(bytes),
        }
    }

    /// Writes a frame, masked if this peer is a client.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        let frame = if self.is_client { masked(first, payload) } else { frame(first, payload) };
        self.write(&frame);
    }

    /// Returns what the TCP connection would carry for these bytes: the bytes, or TLS records of them. Write it with
    /// [`raw`](Peer::raw).
    pub fn on_the_wire(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.socket().held = Some(Vec::new());
        self.write(bytes);
        self.socket().held.take().unwrap()
    }

    /// Writes to the bare socket.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.tcp().write_all(bytes).unwrap();
    }

    pub fn read_exact(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match self.read(&mut bytes[at..]).unwrap_or_else(|error| panic!("the peer cannot read: {error}")) {
                0 => panic!("the peer read the end after {at} of {} bytes", bytes.len()),
                count => at += count,
            }
        }
    }

    /// The next frame; panics at the end.
    pub fn frame(&mut self) -> Frame {
        self.next_frame().expect("a frame, not the end")
    }

    /// The next frame, or `None` at the end between frames.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 2];
        if self.read(&mut head[..1]).map_or_else(is_end, |count| count == 0) {
            return None;
        }
        self.read_exact(&mut head[1..]);
        assert_eq!(head[1] & 0x80 != 0, !self.is_client, "a client masks its frames, a server does not");
        let length = match head[1] & 0x7f {
            126 => self.number::<2>(),
            127 => self.number::<8>(),
            length => u64::from(length),
        };
        let mut mask = [0; 4];
        if !self.is_client {
            self.read_exact(&mut mask);
            self.masks.push(mask);
        }
        let mut payload = vec![0; length.try_into().unwrap()];
        self.read_exact(&mut payload);
        apply(mask, &mut payload);
        Some(Frame { first: head[0], payload })
    }

    /// All frames until the end.
    pub fn frames(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next_frame()).collect()
    }

    /// All bytes until the end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut block = [0; 4096];
        while let Some(count) = self.read(&mut block).map_or_else(|error| is_end(error).then_some(0), Some) {
            if count == 0 {
                return rest;
            }
            rest.extend_from_slice(&block[..count]);
        }
        panic!("the connection did not end, after {}", rest.escape_ascii());
    }

    /// Ends this side's output: close_notify if there is TLS, then FIN.
    pub fn end(&mut self) {
        #[cfg(target_os = "linux")]
        if let Stream::Tls(stream) = &mut self.stream {
            stream.shutdown().unwrap();
        }
        self.cut();
    }

    /// Ends this side's output with FIN only, without TLS's close_notify.
    pub fn cut(&mut self) {
        // Fails if the other side has already reset the connection.
        let _ = self.tcp().shutdown(Shutdown::Write);
    }

    /// Resets the connection: waits for bytes, and closes the socket without reading them.
    pub fn reset(mut self) {
        self.wait_for_bytes();
    }

    /// Waits until the socket has bytes to read, without reading them.
    pub fn wait_for_bytes(&mut self) {
        assert_eq!(self.tcp().peek(&mut [0]).unwrap(), 1);
    }

    /// Waits until the other side can write no more: until the number of unread bytes stays the same.
    pub fn wait_until_full(&mut self) {
        let mut block = vec![0; 8 << 20];
        let mut seen = Vec::new();
        while seen.len() < 4 || seen[seen.len() - 4..].iter().any(|count| count != &seen[seen.len() - 1]) {
            seen.push(self.tcp().peek(&mut block).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn tcp(&mut self) -> &TcpStream {
        &self.socket().tcp
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.read(into),
            #[cfg(target_os = "linux")]
            Stream::Tls(stream) => stream.read(into),
        }
    }

    fn number<const N: usize>(&mut self) -> u64 {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes);
        bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    fn socket(&mut self) -> &mut Socket {
        match &mut self.stream {
            Stream::Plain(socket) => socket,
            #[cfg(target_os = "linux")]
            Stream::Tls(stream) => stream.get_mut(),
        }
    }
}

/// Whether the error is an end of the connection: RST, or FIN without TLS's close_notify.
fn is_end(error: io::Error) -> bool {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => true,
        ErrorKind::WouldBlock => panic!("nothing arrived at the peer within 30 s"),
        _ => error.to_string().contains("unexpected eof"),
    }
}

/// A correct 101 response that also has these lines.
pub fn response(accept: &str, lines: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{lines}\r\n"
    )
    .into()
}

impl Socket {
    fn new(tcp: TcpStream) -> Socket {
        tcp.set_nodelay(true).unwrap();
        // Shorter than a test may take, so that the failure names the call that waited.
        tcp.set_read_timeout(Some(patience() / 2)).unwrap();
        tcp.set_write_timeout(Some(patience() / 2)).unwrap();
        Socket { tcp, held: None }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(into)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.held {
            Some(held) => held.write(bytes),
            None => self.tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
