//! A scripted peer: does the opening handshake by hand, writes and reads raw frames. It shares no code with the crate.
//!
//! A test holds both ends, the [`WebSocket`] and the [`Peer`], and drives them from one thread where it can: what is
//! written waits in the sockets' buffers, so nothing has to be timed.
#![allow(dead_code, unused_imports)] // each test file uses a part of it

pub mod codec;
pub mod peer;
#[cfg(target_os = "linux")]
pub mod tls;

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wsync::{AcceptOptions, CloseCode, ConnectOptions, Error, Message, WebSocket};

pub use codec::{COMPRESSED, Codec, deflating};
pub use peer::{BINARY, CLOSE, FIN, Frame, PING, PONG, Peer, TEXT, close_payload, frame, masked};

/// What lies under the WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Plain,
    Tls12,
    Tls13,
}

/// What the crate's side of a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

#[cfg(target_os = "linux")]
pub const WIRES: &[Wire] = &[Wire::Plain, Wire::Tls12, Wire::Tls13];
#[cfg(not(target_os = "linux"))]
pub const WIRES: &[Wire] = &[Wire::Plain];

/// All that a pair can be; native-tls accepts no TLS 1.3 on OpenSSL.
pub fn pairs() -> Vec<(Side, Wire)> {
    let clients = WIRES.iter().map(|&wire| (Side::Client, wire));
    let servers = WIRES.iter().filter(|&&wire| wire != Wire::Tls13).map(|&wire| (Side::Server, wire));
    clients.chain(servers).collect()
}

/// Fails, instead of hanging for ever, when the body takes longer than a minute.
pub fn bounded<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let name = thread::current().name().unwrap_or("test").to_string();
    wait_for(spawn(&name, body))
}

/// Runs the body for every wire, all at once.
pub fn on_every_wire(body: fn(Wire)) {
    let threads: Vec<_> = WIRES.iter().map(|&wire| spawn(&format!("{wire:?}"), move || body(wire))).collect();
    threads.into_iter().for_each(wait_for);
}

/// Runs the body for every kind of pair, all at once.
pub fn on_every_pair(body: fn(Side, Wire)) {
    let run = |(side, wire)| spawn(&format!("{side:?} {wire:?}"), move || body(side, wire));
    let threads: Vec<_> = pairs().into_iter().map(run).collect();
    threads.into_iter().for_each(wait_for);
}

/// A thread whose name a panic shows, and whose end can be waited for with a bound.
pub fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Job<T> {
    let (done, is_done) = mpsc::channel();
    let run = move || {
        let _done = done; // dropped at the end, by a panic too
        body()
    };
    Job { thread: thread::Builder::new().name(name.into()).spawn(run).unwrap(), is_done }
}

pub struct Job<T> {
    thread: JoinHandle<T>,
    is_done: mpsc::Receiver<()>,
}

impl<T> Job<T> {
    pub fn is_running(&self) -> bool {
        matches!(self.is_done.try_recv(), Err(mpsc::TryRecvError::Empty))
    }
}

/// The thread's result, or its panic.
pub fn wait_for<T>(job: Job<T>) -> T {
    if let Err(mpsc::RecvTimeoutError::Timeout) = job.is_done.recv_timeout(Duration::from_secs(60)) {
        panic!("{} hangs", job.thread.thread().name().unwrap_or("a thread"));
    }
    job.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A server of one connection that runs a script on a thread of its own.
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

    /// The script starts behind TLS, in front of the upgrade.
    pub fn new(wire: Wire, script: impl FnOnce(Peer) -> T + Send + 'static) -> Server<T> {
        let mut server = Server::tcp(move |stream| script(Peer::serve(stream, wire)));
        if wire != Wire::Plain {
            server.url = server.url.replace("ws:", "wss:");
        }
        server
    }

    pub fn join(self) -> T {
        wait_for(self.job)
    }
}

/// Options that fit the peer's certificate and know no proxy.
pub fn options() -> ConnectOptions {
    let options = WebSocket::options().no_proxy();
    #[cfg(target_os = "linux")]
    let options = options.tls(tls::connector());
    options
}

/// A client and its peer, who have done the opening handshake.
pub fn connected(wire: Wire, options: &ConnectOptions) -> (WebSocket, Peer) {
    connected_with(wire, options, "")
}

/// As [`connected`], with lines added to the 101.
pub fn connected_with(wire: Wire, options: &ConnectOptions, lines: &'static str) -> (WebSocket, Peer) {
    let server = Server::new(wire, move |mut peer| {
        peer.upgrade(lines);
        peer
    });
    let ws = options.connect(&server.url).unwrap();
    (ws, server.join())
}

/// A server and its peer, who have done the opening handshake.
pub fn accepted(wire: Wire, options: &AcceptOptions) -> (WebSocket, Peer) {
    accepted_with(wire, options, "")
}

/// As [`accepted`], with lines added to the request.
pub fn accepted_with(wire: Wire, options: &AcceptOptions, lines: &str) -> (WebSocket, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let options = acceptor(wire, options);
    let server = spawn("accept", move || options.accept(listener.accept().unwrap().0).unwrap());
    let mut peer = Peer::connect(address, wire);
    peer.request(lines);
    peer.read_head();
    (wait_for(server), peer)
}

/// The options with the certificate that the peer trusts.
pub fn acceptor(wire: Wire, options: &AcceptOptions) -> AcceptOptions {
    match wire {
        Wire::Plain => options.clone(),
        #[cfg(target_os = "linux")]
        _ => options.clone().tls(tls::native_acceptor()),
        #[cfg(not(target_os = "linux"))]
        _ => unreachable!(),
    }
}

/// A pair with the default options.
pub fn pair(side: Side, wire: Wire) -> (WebSocket, Peer) {
    match side {
        Side::Client => connected(wire, &options()),
        Side::Server => accepted(wire, &AcceptOptions::new()),
    }
}

/// Returns when some thread is in a receiving call of the peer's other side: only that answers pings.
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

/// A result in a form that can be compared: the error's kind.
pub fn kind<T>(result: Result<T, Error>) -> Result<T, wsync::ErrorKind> {
    result.map_err(|error| error.kind())
}

pub fn code(code: u16) -> Option<CloseCode> {
    Some(code.into())
}

/// Bytes in which a lost, doubled or swapped block shows: each of 1024 is numbered.
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
