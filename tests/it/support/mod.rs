//! Pairs of connected ends: a [`WebSocket`] and a scripted [`Peer`], or two [`WebSocket`]s.
//!
//! The peer does the opening handshake itself and writes and reads raw frames. It shares no code with the crate. Where
//! possible a test drives both ends from one thread: what one end writes waits in the sockets' buffers until the other
//! end reads it, so the test depends on no timing.

pub mod codec;
pub mod line;
pub mod log;
pub mod peer;
#[cfg(target_os = "linux")]
pub mod tls;
#[cfg(target_os = "linux")]
pub mod tls_bridge;

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wsync::{AcceptOptions, CloseCode, ConnectOptions, Error, Message, WebSocket};

pub use codec::{COMPRESSED, Codec, deflate_pair};
pub use peer::{BINARY, CLOSE, FIN, Frame, PING, PONG, Peer, TEXT, close_payload, frame, masked};

/// What the WebSocket runs on: TCP alone, or a version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // no TLS in these tests
pub enum Layer {
    Plain,
    Tls12,
    Tls13,
}

/// Which role the crate has in a pair with a [`Peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// The size from which a message is sent without a copy in the queue, and received without the read buffer.
pub const DIRECT_SEND_MIN: usize = 64 * 1024;
/// The size of the chunks in which a client masks and writes a message of at least [`DIRECT_SEND_MIN`].
pub const MASK_CHUNK: usize = 1024 * 1024 - 1120;

/// The layers that the tests have here: the TLS of the scripted peer, and the certificates, need OpenSSL.
#[cfg(target_os = "linux")]
pub const LAYERS: &[Layer] = &[Layer::Plain, Layer::Tls12, Layer::Tls13];
#[cfg(not(target_os = "linux"))]
pub const LAYERS: &[Layer] = &[Layer::Plain];
/// Of these, those that this crate can have at both ends.
#[cfg(target_os = "linux")]
pub const LAYERS_OF_BOTH: &[Layer] = &[Layer::Plain, Layer::Tls12];
#[cfg(not(target_os = "linux"))]
pub const LAYERS_OF_BOTH: &[Layer] = LAYERS;
/// TLS, where the tests have it.
pub const BEST_OF_BOTH: Layer = LAYERS_OF_BOTH[LAYERS_OF_BOTH.len() - 1];

/// All combinations of role and layer. native-tls accepts no TLS 1.3 on OpenSSL, so no server has it.
pub fn pairs() -> Vec<(Side, Layer)> {
    let clients = LAYERS.iter().map(|&layer| (Side::Client, layer));
    clients.chain(server_layers().map(|layer| (Side::Server, layer))).collect()
}

/// The layers that this crate's server can have here.
pub fn server_layers() -> impl Iterator<Item = Layer> {
    LAYERS.iter().copied().filter(|&layer| layer != Layer::Tls13)
}

/// Runs the body, and fails if it takes longer than [`patience`].
pub fn bounded<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let name = thread::current().name().unwrap_or("test").to_string();
    wait_for(spawn(&name, body))
}

/// Runs the body for every layer, all at once.
pub fn on_every_layer(body: fn(Layer)) {
    on_layers(LAYERS, body);
}

/// Runs the body for every layer that this crate can have at both ends, all at once.
pub fn on_layers_of_both(body: fn(Layer)) {
    on_layers(LAYERS_OF_BOTH, body);
}

fn on_layers(layers: &[Layer], body: fn(Layer)) {
    let threads: Vec<_> = layers.iter().map(|&layer| spawn(&format!("{layer:?}"), move || body(layer))).collect();
    threads.into_iter().for_each(wait_for);
}

/// Runs the body for every kind of pair, all at once.
pub fn on_every_pair(body: fn(Side, Layer)) {
    let run = |(side, layer)| spawn(&format!("{side:?} {layer:?}"), move || body(side, layer));
    let threads: Vec<_> = pairs().into_iter().map(run).collect();
    threads.into_iter().for_each(wait_for);
}

/// Starts a thread with this name, which a panic shows. It belongs to the same [`log::Capture`] as this thread.
pub fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Job<T> {
    let (done, is_done) = mpsc::channel();
    let capture = log::Capture::current();
    let run = move || {
        let _done = done; // dropped at the end, also by a panic
        capture.enter();
        body()
    };
    Job { thread: thread::Builder::new().name(name.into()).spawn(run).unwrap(), is_done }
}

/// A running thread that [`wait_for`] waits for.
pub struct Job<T> {
    thread: JoinHandle<T>,
    is_done: mpsc::Receiver<()>,
}

impl<T> Job<T> {
    pub fn is_running(&self) -> bool {
        matches!(self.is_done.try_recv(), Err(mpsc::TryRecvError::Empty))
    }
}

/// How long a test waits before it takes a thread or a peer for hung: a minute, times `WSYNC_TEST_PATIENCE`, for tools under
/// which all is slow.
pub fn patience() -> Duration {
    let factor = std::env::var("WSYNC_TEST_PATIENCE").map_or(1, |factor| factor.parse().expect("a whole number"));
    Duration::from_secs(60) * factor
}

/// Returns the thread's result or passes on its panic. Fails if the thread takes longer than [`patience`].
pub fn wait_for<T>(job: Job<T>) -> T {
    if let Err(mpsc::RecvTimeoutError::Timeout) = job.is_done.recv_timeout(patience()) {
        panic!("{} hangs", job.thread.thread().name().unwrap_or("a thread"));
    }
    job.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A server for one connection. It runs a script on its own thread.
pub struct Server<T> {
    pub url: String,
    pub port: u16,
    job: Job<T>,
}

impl<T: Send + 'static> Server<T> {
    pub fn tcp(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> Server<T> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let job = spawn("server", move || script(listener.accept().unwrap().0));
        Server { url: format!("ws://127.0.0.1:{port}/"), port, job }
    }

    /// The script starts after the TLS handshake and before the opening handshake.
    pub fn new(layer: Layer, script: impl FnOnce(Peer) -> T + Send + 'static) -> Server<T> {
        let mut server = Server::tcp(move |stream| script(Peer::serve(stream, layer)));
        server.url = server.url.replace("ws:", &format!("{}:", scheme(layer)));
        server
    }

    pub fn join(self) -> T {
        wait_for(self.job)
    }
}

/// The scheme of a WebSocket URL on this layer.
pub fn scheme(layer: Layer) -> &'static str {
    if layer == Layer::Plain { "ws" } else { "wss" }
}

/// Options that trust the peer's certificate and use no proxy.
pub fn options() -> ConnectOptions {
    let options = WebSocket::options().no_proxy();
    #[cfg(target_os = "linux")]
    let options = options.tls(tls::connector());
    options
}

/// A client and its peer, after the opening handshake.
pub fn connected(layer: Layer, options: &ConnectOptions) -> (WebSocket, Peer) {
    connected_with(layer, options, "")
}

/// As [`connected`], with these lines added to the 101 response.
pub fn connected_with(layer: Layer, options: &ConnectOptions, lines: &'static str) -> (WebSocket, Peer) {
    let server = Server::new(layer, move |mut peer| {
        peer.upgrade(lines);
        peer
    });
    let ws = options.connect(&server.url).unwrap();
    (ws, server.join())
}

/// A server and its peer, after the opening handshake.
pub fn accepted(layer: Layer, options: &AcceptOptions) -> (WebSocket, Peer) {
    accepted_with(layer, options, "")
}

/// As [`accepted`], with these lines added to the request.
pub fn accepted_with(layer: Layer, options: &AcceptOptions, lines: &str) -> (WebSocket, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let options = acceptor(layer, options);
    let server = spawn("accept", move || options.accept(listener.accept().unwrap().0).unwrap());
    let mut peer = Peer::connect(address, layer);
    peer.request(lines);
    peer.read_head();
    (wait_for(server), peer)
}

/// These options, with a certificate that the peer trusts unless the layer is plain.
pub fn acceptor(layer: Layer, options: &AcceptOptions) -> AcceptOptions {
    match layer {
        Layer::Plain => options.clone(),
        #[cfg(target_os = "linux")]
        _ => options.clone().tls(tls::native_acceptor()),
        #[cfg(not(target_os = "linux"))]
        _ => unreachable!(),
    }
}

/// A [`WebSocket`] in this role with the default options, and its peer.
pub fn pair(side: Side, layer: Layer) -> (WebSocket, Peer) {
    match side {
        Side::Client => connected(layer, &options()),
        Side::Server => accepted(layer, &AcceptOptions::new()),
    }
}

/// Two [`WebSocket`]s of this crate that are connected to each other: the client and the server. TLS 1.3, which the server does
/// not have here, is ended in front of it.
pub fn both_ends(layer: Layer, client: &ConnectOptions, server: &AcceptOptions) -> (WebSocket, WebSocket) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("{}://{}/", scheme(layer), listener.local_addr().unwrap());
    let server = if layer == Layer::Tls13 { server.clone() } else { acceptor(layer, server) };
    let accepting = spawn("accept", move || {
        let stream = listener.accept().unwrap().0;
        #[cfg(target_os = "linux")]
        let stream = if layer == Layer::Tls13 { tls_bridge::accept_tls13(stream) } else { stream };
        server.accept(stream).unwrap()
    });
    (client.connect(&url).unwrap(), wait_for(accepting))
}

/// Two ends of a TCP connection.
pub fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (stream, listener.accept().unwrap().0)
}

/// Reads from another handle of a socket that a connection of this crate uses: it may be non-blocking, or have a timeout.
pub fn read_beside(mut stream: &TcpStream, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        match stream.read(bytes) {
            Ok(0) => panic!("the end, not {} bytes", bytes.len()),
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads a head, or the part of it that arrives before the end.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Waits until some thread of the other side is in a receiving call. Only such a call answers pings.
pub fn wait_for_receiver(peer: &mut Peer) {
    peer.send(PING, b"are you there?");
    assert_eq!(peer.frame(), Frame::new(PONG, b"are you there?"));
}

pub fn text(text: &str) -> Option<Message> {
    Some(Message::Text(text.into()))
}

pub fn binary(bytes: &[u8]) -> Option<Message> {
    Some(Message::Binary(bytes.into()))
}

/// The result with the error's kind in place of the error, so that it can be compared.
pub fn kind<T>(result: Result<T, Error>) -> Result<T, wsync::ErrorKind> {
    result.map_err(|error| error.kind())
}

pub fn code(code: u16) -> Option<CloseCode> {
    Some(code.into())
}

/// Bytes that differ for each seed. Each block of 1024 bytes starts with its number, so that a comparison detects lost,
/// repeated and swapped blocks.
pub fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let noise = |i: u32| (i ^ seed).wrapping_mul(2_654_435_761).to_le_bytes();
    let block: Vec<u8> = (0..255).flat_map(noise).collect();
    let mut bytes = Vec::with_capacity(len + 1024);
    for number in 0.. {
        if bytes.len() >= len {
            break;
        }
        bytes.extend_from_slice(&noise(number));
        bytes.extend_from_slice(&block);
    }
    bytes.truncate(len);
    bytes
}

/// Text of this many bytes with characters of all UTF-8 lengths, so that parts of it cut characters.
pub fn mixed_text(length: usize) -> String {
    let mut text = "aé€𝄞".repeat(length / 10);
    text.extend(std::iter::repeat_n('z', length - text.len()));
    text
}
