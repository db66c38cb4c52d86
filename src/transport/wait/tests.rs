//! Waits for a real socket, the same on every system.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use super::*;

const NOW: Option<Duration> = Some(Duration::ZERO);

/// A socket and its peer.
fn connected() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (Socket::new(ours.into()).unwrap(), listener.accept().unwrap().0)
}

fn kind<T>(result: io::Result<T>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind())
}

fn read(socket: &Socket, wait: Option<Duration>) -> Result<Vec<u8>, ErrorKind> {
    let mut buffer = [0; 100];
    kind(socket.read(&mut buffer, wait, &mut WaitState::default())).map(|count| buffer[..count].to_vec())
}

/// Writes until no more can be written; returns how that ended.
fn fill(socket: &Socket, wait: Option<Duration>) -> ErrorKind {
    let mut state = WaitState::default();
    loop {
        if let Err(error) = socket.write(&[0; 100_000], wait, &mut state) {
            return error.kind();
        }
    }
}

#[test]
fn a_shutdown_ends_a_blocked_read_and_a_blocked_write() {
    for _ in 0..20 {
        let (socket, _peer) = connected();
        assert_eq!(fill(&socket, NOW), ErrorKind::WouldBlock);
        thread::scope(|scope| {
            let reader = scope.spawn(|| read(&socket, None));
            let writer = scope.spawn(|| fill(&socket, None));
            socket.shutdown();
            assert_eq!(reader.join().unwrap(), Ok(Vec::new()));
            assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        });
        // And every later call.
        assert_eq!((read(&socket, None), read(&socket, NOW)), (Ok(Vec::new()), Ok(Vec::new())));
        assert_eq!(fill(&socket, None), ErrorKind::BrokenPipe);
    }
}

#[test]
fn what_has_come_is_read_after_a_shutdown() {
    let (socket, mut peer) = connected();
    peer.write_all(b"last words").unwrap();
    assert_eq!(socket.peek(&mut [0], None, &mut WaitState::default()).unwrap(), 1);
    socket.shutdown();
    let mut received = Vec::new();
    while received.len() < 10 {
        received.extend(read(&socket, None).unwrap());
    }
    assert_eq!((received, read(&socket, None)), (b"last words".to_vec(), Ok(Vec::new())));
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the peer sees the end");
}

#[test]
fn a_wait_ends_in_time_and_a_longer_one_with_the_bytes() {
    let (socket, mut peer) = connected();
    assert_eq!(read(&socket, NOW), Err(ErrorKind::WouldBlock));
    // Longer than one poll on Windows.
    let wait = Duration::from_millis(120);
    let start = Instant::now();
    while start.elapsed() < wait {
        assert_eq!(read(&socket, Some(wait.saturating_sub(start.elapsed()))), Err(ErrorKind::WouldBlock));
    }
    let start = Instant::now();
    assert_eq!(fill(&socket, Some(Duration::from_millis(20))), ErrorKind::WouldBlock);
    assert!(start.elapsed() >= Duration::from_millis(20));
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(&socket, Some(Duration::from_secs(60))));
        peer.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), Ok(b"x".to_vec()));
    });
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read(&socket, None), Ok(Vec::new()));
}

#[test]
fn a_stream_in_any_mode_is_taken_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut peer = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    ours.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let socket = Socket::new(ours.into()).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(&socket, None));
        peer.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), Ok(b"x".to_vec()));
    });
}

#[test]
fn only_tcp_shows_bytes_without_taking_them() {
    let (ours, theirs) = Stream::pair();
    let socket = Socket::new(ours).unwrap();
    Socket::new(theirs).unwrap().write(b"bytes", NOW, &mut WaitState::default()).unwrap();
    let peeked = kind(socket.peek(&mut [0; 100], NOW, &mut WaitState::default()));
    assert_eq!(peeked, Err(ErrorKind::Unsupported));
    assert_eq!(read(&socket, NOW), Ok(b"bytes".to_vec()));
}
