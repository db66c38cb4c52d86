//! Lines between two ends: slow ones, ones that go dead, ones with small buffers, and streams in memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use wsync::{AcceptOptions, ConnectOptions, Stream, WebSocket};

use super::{Layer, Peer, acceptor, scheme, spawn, wait_for};

/// Small enough that the sockets' buffers hold a small part of a message in a test.
const SMALL_BUFFER: usize = 32 * 1024;

/// Two ends of this crate over a stream in memory, with 64 KiB of buffer in each direction.
pub fn in_memory(client: &ConnectOptions, server: &AcceptOptions) -> (WebSocket, WebSocket) {
    let (ours, theirs) = Stream::pair();
    let server = server.clone();
    let accepting = spawn("accept", move || server.accept(theirs).unwrap());
    (client.connect_over("ws://localhost/", ours).unwrap(), wait_for(accepting))
}

/// A listener whose connections have small buffers.
fn small_listener() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
    socket.set_send_buffer_size(SMALL_BUFFER).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    socket.listen(1).unwrap();
    socket.into()
}

/// A TCP connection with small buffers.
fn small_connection(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
    socket.set_send_buffer_size(SMALL_BUFFER).unwrap();
    socket.connect(&SockAddr::from(address)).unwrap();
    socket.into()
}

/// A client and its peer, after the opening handshake, over TCP with small buffers: what the peer does not read blocks the
/// client soon.
pub fn narrow(options: &ConnectOptions) -> (WebSocket, Peer) {
    narrow_with(options, "")
}

/// As [`narrow`], with these lines added to the 101 response.
pub fn narrow_with(options: &ConnectOptions, lines: &'static str) -> (WebSocket, Peer) {
    let listener = small_listener();
    let address = listener.local_addr().unwrap();
    let serving = spawn("server", move || {
        let mut peer = Peer::serve(listener.accept().unwrap().0, Layer::Plain);
        peer.upgrade(lines);
        peer
    });
    let ws = options.connect_over(format!("ws://{address}/"), small_connection(address)).unwrap();
    (ws, wait_for(serving))
}

/// A relay that forwards so many bytes per second in each direction.
pub struct Relay {
    is_dead: Arc<AtomicBool>,
}

impl Relay {
    /// From now on nothing is forwarded, and nothing is closed: as if the cable were cut.
    pub fn cut(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
    }
}

/// Two ends of this crate with a relay between them: the client and the server.
pub fn relayed(
    layer: Layer,
    client: &ConnectOptions,
    server: &AcceptOptions,
    bytes_per_second: usize,
) -> (WebSocket, WebSocket, Relay) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = acceptor(layer, server);
    let accepting = spawn("accept", move || server.accept(listener.accept().unwrap().0).unwrap());
    let middle = small_listener();
    let url = format!("{}://{}/", scheme(layer), middle.local_addr().unwrap());
    let is_dead = Arc::new(AtomicBool::new(false));
    let is_cut = Arc::clone(&is_dead);
    thread::spawn(move || {
        let from = middle.accept().unwrap().0;
        let to = small_connection(address);
        let (from_end, to_end) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let is_cut_too = Arc::clone(&is_cut);
        thread::spawn(move || forward(&to_end, &from_end, bytes_per_second, &is_cut_too));
        forward(&from, &to, bytes_per_second, &is_cut);
    });
    let ws = client.connect(&url).unwrap();
    (ws, wait_for(accepting), Relay { is_dead })
}

/// Forwards in steps of 5 ms.
fn forward(mut from: &TcpStream, mut to: &TcpStream, bytes_per_second: usize, is_dead: &AtomicBool) {
    let step = Duration::from_millis(5);
    let mut block = vec![0; (bytes_per_second / 200).max(1)];
    from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    to.set_nodelay(true).unwrap();
    let mut due = Instant::now();
    loop {
        if is_dead.load(Ordering::SeqCst) {
            return thread::sleep(Duration::from_secs(60));
        }
        match from.read(&mut block) {
            Ok(0) => return drop(to.shutdown(std::net::Shutdown::Write)),
            Ok(count) if to.write_all(&block[..count]).is_err() => {
                return drop(from.shutdown(std::net::Shutdown::Both));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return drop(to.shutdown(std::net::Shutdown::Both)),
        }
        due = (due + step).max(Instant::now() - step);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
