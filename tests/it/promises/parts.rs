//! A message in parts has no largest size.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::line::in_memory;
use crate::support::*;
use wsync::{AcceptOptions, Compression, ErrorKind, MessageKind};

const FRAGMENTS: usize = 140_000;
const FRAGMENT: usize = 1024;

#[test]
fn small_fragments_have_no_largest_number() {
    bounded(|| {
        let (ws, mut peer) = connected(Layer::Plain, &options());
        let started = Instant::now();
        let peer = spawn("peer", move || {
            peer.send(BINARY, &[0; FRAGMENT]);
            let many = frame(0, &[7; FRAGMENT]).repeat(1000);
            for _ in 0..FRAGMENTS / 1000 {
                peer.write(&many);
            }
            peer.send(FIN, b"end");
            peer
        });
        let mut message = ws.recv_reader().unwrap().unwrap();
        let mut block = vec![0; 64 * 1024];
        let mut size = 0;
        loop {
            match message.read(&mut block).unwrap() {
                0 => break,
                count => size += count,
            }
        }
        assert_eq!(size, (FRAGMENTS + 1) * FRAGMENT + 3);
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        wait_for(peer);
    });
}

/// Both ends of this crate, where each flush makes a fragment.
#[test]
fn small_fragments_of_a_writer_have_no_largest_number() {
    bounded(|| {
        let (client, server) = in_memory(&options().compression(Compression::off()), &AcceptOptions::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut message = client.send_writer(MessageKind::Binary).unwrap();
                for _ in 0..FRAGMENTS {
                    message.write_all(&[7; FRAGMENT]).unwrap();
                    message.flush().unwrap();
                }
                message.finish().unwrap();
            });
            let mut message = server.recv_reader().unwrap().unwrap();
            let size = std::io::copy(&mut message, &mut std::io::sink()).unwrap();
            assert_eq!(size, (FRAGMENTS * FRAGMENT) as u64);
        });
    });
}

/// What costs is bounded: the frames of a message beyond its bytes.
#[test]
fn empty_and_tiny_fragments_end_the_connection() {
    for payload in [&b""[..], b"x"] {
        bounded(move || {
            let (ws, mut peer) = connected(Layer::Plain, &options());
            let peer = spawn("peer", move || {
                peer.send(BINARY, b"");
                let many = frame(0, payload).repeat(1000);
                while peer.try_write(&many).is_ok() {}
            });
            assert_eq!(kind(ws.recv()), Err(ErrorKind::Protocol));
            drop(ws);
            wait_for(peer);
        });
    }
}
