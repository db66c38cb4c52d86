//! Receiving: with and without a timeout, at every byte, and after the end.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use wsync::{ErrorKind, Message, MessageKind, ReadyState, WebSocket};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(15);

/// Three fragments with a ping and a pong between them, as the peer writes them.
fn fragmented(side: Side) -> Vec<u8> {
    let f: fn(u8, &[u8]) -> Vec<u8> = if side == Side::Client { frame } else { masked };
    [f(TEXT, b"h\xc3"), f(PING, b"?"), f(0, b"\xa4"), f(PONG, b""), f(FIN, b"t"), f(FIN | BINARY, &[b'x'; 130])]
        .concat()
}

/// A receiving call follows each byte of the stream, TLS records included, and times out. The messages are complete.
#[test]
fn a_timeout_at_any_byte_loses_nothing() {
    on_every_pair(|side, layer| {
        type Call = fn(&WebSocket) -> wsync::Result<Option<Message>>;
        let calls: [Call; 2] = [|ws| ws.try_recv(), |ws| ws.recv_timeout(SHORT)];
        for call in calls {
            let (ws, mut peer) = pair(side, layer);
            let bytes = peer.on_the_wire(&fragmented(side));
            let mut received = Vec::new();
            for byte in bytes {
                peer.raw(&[byte]);
                match call(&ws) {
                    Ok(message) => received.push(message),
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Timeout), "{error}")
                    }
                }
                assert_eq!((ws.ready_state(), ws.close_code()), (ReadyState::Open, None));
            }
            // The messages in one TLS record are available after its last byte, one for each call.
            while received.len() < 2 {
                received.push(ws.recv_timeout(LONG).unwrap());
            }
            assert_eq!(received, [text("hät"), binary(&[b'x'; 130])]);
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
            assert_eq!(peer.frame(), Frame::new(PONG, b"?"));
            ws.send("still fine").unwrap();
            assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"still fine"));
        }
    });
}

#[test]
fn each_call_waits_for_its_timeout() {
    on_every_layer(|layer| {
        let (ws, _peer) = connected(layer, &options());
        let start = Instant::now();
        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
        assert_eq!(kind(ws.recv_timeout(Duration::ZERO)), Err(ErrorKind::Timeout));
        assert!(start.elapsed() < Duration::from_secs(5));
        let (wait, start) = (Duration::from_millis(60), Instant::now());
        let error = ws.recv_timeout(wait).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("60ms"), "{error}");
        assert!(start.elapsed() >= wait && start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    });
}

/// Frames that complete no message do not prolong the timeout.
#[test]
fn a_timeout_ends_a_wait_during_a_flood_of_small_frames() {
    on_every_layer(|layer| {
        // Fragments of less than 16 bytes would reach the bound of their number where this thread is slow.
        for small_frame in [frame(PING, b"p"), frame(PONG, b"p"), frame(0, &[b'x'; 16])] {
            let (ws, mut peer) = connected(layer, &options());
            peer.write(&frame(BINARY, b""));
            let (stop, is_stopped) = mpsc::channel::<()>();
            let flood = spawn("flood", move || {
                while is_stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    if peer.try_write(&small_frame).is_err() {
                        break;
                    }
                }
            });
            assert_eq!(kind(ws.recv_timeout(Duration::from_millis(50))), Err(ErrorKind::Timeout));
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
            drop(stop);
            ws.abort();
            wait_for(flood);
        }
    });
}

#[test]
fn messages_that_arrive_together_are_received_one_by_one_without_waiting() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let f = if side == Side::Client { frame } else { masked };
        let bytes: Vec<u8> = (0..100).flat_map(|i| f(FIN | TEXT, format!("message {i}").as_bytes())).collect();
        peer.write(&bytes);
        assert_eq!(kind(ws.recv()), Ok(text("message 0")));
        for i in 1..100 {
            assert_eq!(kind(ws.try_recv()), Ok(text(&format!("message {i}"))));
        }
        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
    });
}

/// What the receiving calls and the iterator return after the end of the connection.
#[test]
fn every_call_after_the_end_returns_the_same_end() {
    on_every_layer(|layer| {
        type Script = fn(&mut Peer);
        type End = (&'static str, Script, Result<(), ErrorKind>, u16, &'static str);
        let ends: [End; 9] = [
            ("1000", |peer| peer.send(CLOSE, &close_payload(1000, "bye")), Ok(()), 1000, "bye"),
            ("4999", |peer| peer.send(CLOSE, &close_payload(4999, "")), Ok(()), 4999, ""),
            ("no code", |peer| peer.send(CLOSE, b""), Ok(()), 1005, ""),
            ("close and FIN", |peer| (peer.send(CLOSE, &close_payload(1001, "")), peer.cut()).1, Ok(()), 1001, ""),
            ("FIN between frames", |peer| peer.cut(), Err(ErrorKind::Io), 1006, ""),
            ("proper end between frames", |peer| peer.end(), Err(ErrorKind::Io), 1006, ""),
            ("FIN in a header", |peer| (peer.write(b"\x81"), peer.end()).1, Err(ErrorKind::Io), 1006, ""),
            ("FIN in a frame", |peer| (peer.write(b"\x81\x05ab"), peer.end()).1, Err(ErrorKind::Io), 1006, ""),
            ("FIN in a message", |peer| (peer.send(TEXT, b"ab"), peer.end()).1, Err(ErrorKind::Io), 1006, ""),
        ];
        for (name, script, end, shown, reason) in ends {
            let (ws, mut peer) = connected(layer, &options());
            peer.send(FIN | TEXT, b"last message");
            script(&mut peer);
            assert_eq!(kind(ws.recv()), Ok(text("last message")), "{name}");
            for _ in 0..2 {
                assert_eq!(kind(ws.recv()), end.map(|()| None), "{name}");
                assert_eq!(kind(ws.recv_timeout(SHORT)), end.map(|()| None), "{name}");
                assert_eq!(kind(ws.try_recv()), end.map(|()| None), "{name}");
            }
            let items: Vec<_> = ws.messages().map(kind).collect();
            assert_eq!(items, end.err().map(Err).into_iter().collect::<Vec<_>>(), "{name}");
            assert_eq!((ws.close_code(), ws.close_reason()), (code(shown), Some(reason)), "{name}");
            assert_eq!(ws.ready_state(), ReadyState::Closed, "{name}");
        }
    });
}

#[test]
fn a_lost_connection_is_an_error_that_names_the_place() {
    on_every_layer(|layer| {
        let cuts: [(&[u8], &str); 4] =
            [(b"", "between messages"), (b"\x81", "inside"), (b"\x82\x05ab", "inside"), (b"\x01\x01a", "inside")];
        for (bytes, place) in cuts {
            let (ws, mut peer) = connected(layer, &options());
            peer.write(bytes);
            peer.end();
            let error = ws.recv().unwrap_err().to_string();
            assert!(error.contains(place), "{:?}: {error}", bytes.escape_ascii());

            let (ws, mut peer) = connected(layer, &options());
            ws.send("unread").unwrap();
            peer.write(bytes);
            peer.reset();
            let error = ws.recv().unwrap_err();
            assert_eq!((error.kind(), ws.close_code()), (ErrorKind::Io, code(1006)), "{error}");
            assert!(error.to_string().contains(place), "{:?}: {error}", bytes.escape_ascii());
        }
    });
}

#[test]
fn the_iterator_ends_with_the_connection() {
    bounded(|| {
        let (ws, mut peer) = connected(Layer::Plain, &options());
        peer.send(FIN | TEXT, b"a");
        peer.send(FIN | BINARY, b"b");
        peer.send(CLOSE, b"");
        let items: Vec<_> = ws.messages().map(|item| item.unwrap()).collect();
        assert_eq!(items, [Message::from("a"), Message::from(&b"b"[..])]);
    });
}

#[test]
fn several_receivers_share_the_messages() {
    on_every_layer(|layer| {
        let (ws, mut peer) = connected(layer, &options());
        thread::scope(|scope| {
            let receivers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| ws.messages().map(|item| item.unwrap().len()).collect::<Vec<_>>()))
                .collect();
            for length in 0..200 {
                peer.send(FIN | BINARY, &vec![0; length]);
            }
            peer.send(CLOSE, b"");
            let mut lengths: Vec<usize> = receivers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            lengths.sort_unstable();
            assert_eq!(lengths, (0..200).collect::<Vec<_>>());
        });
    });
}

/// A timeout also ends the wait for another thread that is in `recv`.
#[test]
fn a_timeout_ends_the_wait_for_another_receiver() {
    on_every_layer(|layer| {
        let (ws, mut peer) = connected(layer, &options());
        let other = ws.clone();
        let blocked = spawn("blocked", move || kind(other.recv()));
        wait_for_receiver(&mut peer);
        assert_eq!(kind(ws.recv_timeout(Duration::from_millis(20))), Err(ErrorKind::Timeout));
        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
        peer.send(FIN | TEXT, b"x");
        assert_eq!(wait_for(blocked), Ok(text("x")));
    });
}

#[test]
fn a_ping_is_answered_by_the_call_that_receives_it() {
    on_every_layer(|layer| {
        let (ws, mut peer) = connected(layer, &options());
        for i in 0..5u8 {
            peer.send(PING, &[i]);
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
            assert_eq!(peer.frame(), Frame::new(PONG, &[i]));
            peer.send(PING, &[i]);
            assert_eq!(kind(ws.recv_timeout(SHORT)), Err(ErrorKind::Timeout));
            assert_eq!(peer.frame(), Frame::new(PONG, &[i]));
            peer.write(&[frame(PING, &[i]), frame(FIN | TEXT, b"x")].concat());
            assert_eq!(kind(ws.recv()), Ok(text("x")));
            assert_eq!(peer.frame(), Frame::new(PONG, &[i]));
        }
    });
}

/// The peer sends many pings without reading the pongs, and then a message.
#[test]
fn a_flood_of_pings_does_not_block_receiving() {
    on_every_layer(|layer| {
        let (ws, mut peer) = connected(layer, &options());
        let flood = spawn("flood", move || {
            let pings = frame(PING, &[b'p'; 125]).repeat(1000);
            (0..40).for_each(|_| peer.write(&pings));
            peer.write(&[frame(PING, b"the last"), frame(FIN | TEXT, b"done")].concat());
            peer
        });
        assert_eq!(kind(ws.recv()), Ok(text("done")));
        let mut peer = wait_for(flood);
        let drain = spawn("drain", move || {
            let last = Frame::new(PONG, b"the last");
            while peer.frame() != last {}
        });
        while drain.is_running() {
            let _ = ws.try_recv();
        }
        wait_for(drain);
    });
}

#[test]
fn a_large_message_arrives_in_one_frame_and_in_many() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let payload = pattern(4 << 20, 1);
        let sent = payload.clone();
        let writer = spawn("writer", move || {
            peer.send(FIN | BINARY, &sent);
            peer.send(BINARY, b"");
            sent.chunks(50_000).for_each(|chunk| peer.send(0, chunk));
            peer.send(FIN, b"");
            peer
        });
        assert!(ws.recv().unwrap() == binary(&payload));
        assert!(ws.recv().unwrap() == binary(&payload));
        wait_for(writer);
    });
}

/// Records are split at every byte. The second part arrives after a receiving call, or during one.
#[test]
fn a_tls_record_may_arrive_in_two_parts() {
    on_every_pair(|side, layer| {
        if layer == Layer::Plain {
            return;
        }
        let (ws, mut peer) = pair(side, layer);
        let mut buffer = Vec::new();
        for cut in 1.. {
            let sent = fragmented(side);
            let (first, second) = sent.split_at(sent.len() / 2);
            let bytes = [peer.on_the_wire(first), peer.on_the_wire(second)].concat();
            if cut >= bytes.len() {
                break;
            }
            peer.raw(&bytes[..cut]);
            let early = ws.try_recv();
            peer.raw(&bytes[cut..]);
            match early {
                Ok(message) => assert_eq!(message, text("hät"), "{cut}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{cut}: {error}");
                    assert_eq!(kind(ws.recv()), Ok(text("hät")), "{cut}");
                }
            }
            assert_eq!(kind(ws.recv_into(&mut buffer)), Ok(Some(MessageKind::Binary)), "{cut}");
            assert_eq!(buffer, [b'x'; 130], "{cut}");
            assert_eq!(peer.frame(), Frame::new(PONG, b"?"), "{cut}");
        }
    });
}

/// An invalid TLS record ends the connection, and every later call returns the same error.
#[test]
fn invalid_tls_data_is_a_lost_connection() {
    on_every_pair(|side, layer| {
        if layer == Layer::Plain {
            return;
        }
        for garbage in
            [&b"\x17\x03\x03\x00\x20garbage garbage garbage garbage "[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"]
        {
            let (ws, mut peer) = pair(side, layer);
            peer.send(FIN | TEXT, b"before");
            peer.raw(garbage);
            assert_eq!(kind(ws.recv()), Ok(text("before")));
            let first = ws.recv().unwrap_err();
            assert_eq!((first.kind(), ws.close_code()), (ErrorKind::Io, code(1006)), "{first}");
            assert_eq!(ws.recv().unwrap_err().to_string(), first.to_string());
            assert_eq!(kind(ws.send("x")), Err(ErrorKind::Closed));
        }
    });
}

#[test]
fn timeouts_and_limits_may_have_extreme_values() {
    on_every_layer(|layer| {
        let longest = Some(Duration::MAX);
        let extreme =
            options().connect_timeout(longest).send_timeout(longest).close_timeout(longest).ping_interval(longest);
        let (ws, mut peer) = connected(layer, &extreme.max_message_size(0));
        peer.send(FIN | TEXT, b"");
        assert_eq!(kind(ws.recv_timeout(Duration::MAX)), Ok(text("")));
        ws.send("x").unwrap();
        assert_eq!(kind(ws.recv_timeout(Duration::from_nanos(1))), Err(ErrorKind::Timeout));
        peer.send(FIN | TEXT, b"x");
        assert_eq!(kind(ws.recv_timeout(Duration::MAX)), Err(ErrorKind::TooBig));
        let (ws, peer) = connected(layer, &options().connect_timeout(None).send_timeout(None));
        ws.send("x").unwrap();
        drop(peer);
        assert_eq!(kind(ws.recv()), Err(ErrorKind::Io));
    });
}
