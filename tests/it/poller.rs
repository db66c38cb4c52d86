//! Many connections on one thread: after `WouldBlock`, the socket's readiness tells when to ask again.

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::support::*;
use wsync::{AcceptOptions, Compression, ErrorKind, Message, Stream, WebSocket};

const LONG: Duration = Duration::from_secs(30);
/// Connections that one thread serves: 1,000, or what the limit of open files allows.
fn connections() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: usize = files.split_whitespace().nth(3).and_then(|limit| limit.parse().ok()).unwrap_or(1024);
    1000.min(soft / 4)
}

/// Receives from all of `servers` on this thread, as their sockets become readable, and echoes, until each has echoed `each`
/// messages. mio reports changes only (edge-triggered).
fn echo_all(servers: &[WebSocket], each: usize) {
    let mut poll = Poll::new().unwrap();
    for (number, ws) in servers.iter().enumerate() {
        let descriptor = ws.pollable().unwrap().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), Token(number), Interest::READABLE).unwrap();
    }
    let mut echoed = vec![0; servers.len()];
    let mut echo = |number: usize| {
        loop {
            match servers[number].try_recv() {
                Ok(Some(message)) => {
                    servers[number].try_send(&message).unwrap();
                    echoed[number] += 1;
                }
                Ok(None) => panic!("closed"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    return echoed.iter().all(|count| *count == each);
                }
            }
        }
    };
    // What lies in the buffers behind the handshake shows on no socket.
    for number in 0..servers.len() {
        echo(number);
    }
    let mut events = Events::with_capacity(64);
    let mut is_done = false;
    while !is_done {
        poll.poll(&mut events, Some(LONG)).unwrap();
        assert!(!events.is_empty(), "a message that no readiness told of");
        for event in events.iter() {
            is_done |= echo(event.token().0);
        }
    }
}

#[test]
fn one_thread_serves_many_connections_by_a_poller() {
    for layer in [Layer::Plain, Layer::Tls12] {
        let client_options = options().compression(Compression::off());
        let pairs: Vec<_> =
            (0..connections()).map(|_| both_ends(layer, &client_options, &AcceptOptions::new())).collect();
        let (clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let server = spawn("server", move || {
            echo_all(&servers, 3);
            servers
        });
        for round in 0..3 {
            for (number, ws) in clients.iter().enumerate() {
                ws.send(format!("{round} {number} {}", "x".repeat(number * 50))).unwrap();
            }
            for (number, ws) in clients.iter().enumerate() {
                let expected = format!("{round} {number} {}", "x".repeat(number * 50));
                assert_eq!(ws.recv_timeout(LONG).unwrap(), Some(Message::from(expected)));
            }
        }
        drop(wait_for(server));
    }
}

/// A record that comes in pieces, cut at every byte: each piece makes the socket readable, and the last one brings the message.
#[test]
fn records_that_are_split_anywhere_are_never_stuck() {
    for layer in [Layer::Plain, Layer::Tls12] {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let frame = masked(FIN | TEXT, b"split");
        let total = accepted(layer, &AcceptOptions::new()).1.on_the_wire(&frame).len();
        for cut in 1..total {
            let (ws, mut peer) = accepted(layer, &AcceptOptions::new());
            let descriptor = ws.pollable().unwrap().as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), Token(cut), Interest::READABLE).unwrap();
            let bytes = peer.on_the_wire(&frame);
            let mut received = kind(ws.try_recv());
            for piece in [&bytes[..cut], &bytes[cut..]] {
                assert_eq!(received, Err(ErrorKind::WouldBlock), "cut at {cut}");
                peer.raw(piece);
                poll.poll(&mut events, Some(LONG)).unwrap();
                assert!(!events.is_empty(), "cut at {cut}");
                received = kind(ws.try_recv());
            }
            assert_eq!(received, Ok(text("split")), "cut at {cut}");
            poll.registry().deregister(&mut SourceFd(&descriptor)).unwrap();
        }
    }
}

#[test]
fn a_stream_in_memory_has_no_socket() {
    let (ours, theirs) = Stream::pair();
    let server = spawn("server", move || WebSocket::accept(theirs).unwrap());
    let ws = options().connect_over("ws://localhost/", ours).unwrap();
    assert!(ws.pollable().is_none());
    assert_eq!(ws.recv_timeout(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::Timeout);
    drop(wait_for(server));
}
