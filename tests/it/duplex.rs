//! Sending and receiving at the same time, where a shared lock or a full buffer would deadlock.

use std::thread;

use crate::support::*;
use wsync::{AcceptOptions, Compression, ConnectOptions, WebSocket};

/// The peer writes everything before it reads a byte, and it is more than the sockets' buffers hold.
#[test]
fn each_side_writes_64_mib_before_it_reads() {
    on_every_pair(|side, layer| send_and_receive_at_once(side, layer, 64 << 20));
}

fn send_and_receive_at_once(side: Side, layer: Layer, size: usize) {
    let (ws, mut peer) = pair(side, layer);
    let (ours, theirs) = (pattern(size, 1), pattern(size, 2));
    thread::scope(|scope| {
        let sender = scope.spawn(|| ws.send(&ours).unwrap());
        let peer = scope.spawn(|| {
            peer.wait_for_bytes();
            peer.send(FIN | BINARY, &theirs);
            assert!(peer.frame().payload == ours);
        });
        assert!(ws.recv().unwrap() == binary(&theirs));
        peer.join().unwrap();
        sender.join().unwrap();
    });
}

/// Two ends of this crate, with many messages of all sizes in both directions.
fn against_itself(layer: Layer, client: &ConnectOptions, server: &AcceptOptions) {
    let (client, server) = both_ends(layer, client, server);

    const WRITERS: u32 = 8;
    const EACH: u32 = 100;
    let message = |writer: u32, number: u32| {
        let length = if number % 20 == 0 { 100_000 } else { (number * 37) as usize };
        [&[writer as u8, number as u8], &pattern(length, writer * EACH + number)[..]].concat()
    };
    let read = |ws: &WebSocket| {
        let mut next = [0; WRITERS as usize];
        for _ in 0..WRITERS * EACH {
            let message_ = ws.recv().unwrap().unwrap().into_bytes();
            let (writer, number) = (u32::from(message_[0]), u32::from(message_[1]));
            assert_eq!(number, next[writer as usize], "of writer {writer}");
            assert!(message_ == message(writer, number), "{writer}, {number}");
            next[writer as usize] += 1;
        }
    };
    thread::scope(|scope| {
        for ws in [&client, &server] {
            scope.spawn(move || read(ws));
            for writer in 0..WRITERS {
                let message = &message;
                // Every second writer sends batches.
                scope.spawn(move || match writer % 2 {
                    0 => (0..EACH).for_each(|number| ws.send(message(writer, number)).unwrap()),
                    _ => {
                        let messages: Vec<_> = (0..EACH).map(|number| message(writer, number)).collect();
                        messages.chunks(30).for_each(|batch| ws.send_all(batch).unwrap());
                    }
                });
            }
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(kind(server.recv()), Ok(None)));
        client.close(1000, "").unwrap();
    });
    assert_eq!((client.close_code(), server.close_code()), (code(1000), code(1000)));
}

#[test]
fn many_writers_and_a_blocked_reader_on_each_side() {
    for layer in server_layers() {
        bounded(move || against_itself(layer, &options(), &AcceptOptions::new().compression(Compression::off())));
    }
}

#[test]
fn many_writers_and_a_blocked_reader_on_each_side_with_compression() {
    for layer in server_layers() {
        bounded(move || against_itself(layer, &options(), &AcceptOptions::new()));
    }
}
