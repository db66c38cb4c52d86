//! Timeouts and `abort` that work during other activity.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{bounded, sockets};
use wsync::{CloseCode, Compression, ErrorKind, Group, Role, WebSocket};

/// A connection without an opening handshake, and the bare socket of its peer.
fn upgraded(role: Role) -> (WebSocket, TcpStream) {
    let (stream, peer) = sockets();
    (WebSocket::from_upgraded(stream, role, None, Compression::off()).unwrap(), peer)
}

/// Arriving bytes do not prolong the wait. The frame is so large that it is read without the read buffer.
#[test]
fn recv_timeout_holds_while_a_frame_arrives_slowly() {
    bounded(|| {
        let (ws, mut peer) = upgraded(Role::Client);
        let (stop, is_stopped) = mpsc::channel();
        let slow_peer = thread::spawn(move || {
            let mut frame = vec![0x82, 127];
            frame.extend_from_slice(&(10_u64 << 20).to_be_bytes());
            frame.extend_from_slice(&[0; 200_000]);
            peer.write_all(&frame).unwrap();
            while is_stopped.recv_timeout(Duration::from_millis(20)).is_err() {
                peer.write_all(&[1; 10]).unwrap();
            }
        });
        let error = ws.recv_timeout(Duration::from_millis(1200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        stop.send(()).unwrap();
        slow_peer.join().unwrap();
    });
}

#[test]
fn a_group_of_peers_that_read_nothing_closes_within_one_timeout() {
    bounded(|| {
        let group = Group::new();
        let full: Vec<_> = (0..5).map(|_| upgraded(Role::Server)).collect();
        for (ws, _) in &full {
            while ws.try_send(&[0; 60_000]).is_ok() {}
            group.add(ws);
        }
        let start = Instant::now();
        assert_eq!(group.close(CloseCode::GOING_AWAY, "", Duration::from_secs(1)).unwrap(), 5);
        // The second is for all members together.
        assert!(start.elapsed() < Duration::from_secs(4));
    });
}

#[test]
fn abort_ends_a_recv_that_waits_for_a_message_reader() {
    bounded(|| {
        let (ws, mut peer) = upgraded(Role::Client);
        peer.write_all(b"\x02\x03abc").unwrap();
        let reader = ws.recv_reader().unwrap().unwrap();
        let waiting = thread::spawn({
            let ws = ws.clone();
            move || ws.recv().unwrap_err().kind()
        });
        ws.abort();
        assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
        drop(reader);
    });
}
