//! Large messages: sizes around each chunk in which they are sent and received, with every receiving call.

use std::io::Read;
use std::thread;
use std::time::Duration;

use crate::support::*;
use wsync::{AcceptOptions, ErrorKind, Message, MessageKind, WebSocket};

const KB: usize = 1024;
/// A timeout that no test here reaches.
const LONG: Duration = Duration::from_secs(3600);

fn sizes() -> impl Iterator<Item = usize> {
    [DIRECT_SEND_MIN, 2 * DIRECT_SEND_MIN, MASK_CHUNK, 2048 * KB].into_iter().flat_map(|size| size - 1..=size + 1)
}

fn limited(side: Side, layer: Layer, max_message_size: usize) -> (WebSocket, Peer) {
    match side {
        Side::Client => connected(layer, &options().max_message_size(max_message_size)),
        Side::Server => accepted(layer, &AcceptOptions::new().max_message_size(max_message_size)),
    }
}

#[test]
fn large_sent_messages_arrive_complete() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        for size in sizes() {
            let (payload, text) = (pattern(size, size as u32), mixed_text(size));
            thread::scope(|scope| {
                scope.spawn(|| {
                    ws.send(&payload).unwrap();
                    ws.send("small").unwrap();
                    ws.send(&text).unwrap();
                    ws.send(b"").unwrap();
                });
                assert!(peer.frame() == Frame::new(FIN | BINARY, &payload), "{size}");
                assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"small"), "{size}");
                assert!(peer.frame() == Frame::new(FIN | TEXT, text.as_bytes()), "{size}");
                assert_eq!(peer.frame(), Frame::new(FIN | BINARY, b""), "{size}");
            });
        }
    });
}

/// Receives a message. `recv_into` uses the buffer.
type Receive = fn(&WebSocket, &mut Vec<u8>) -> Message;

const CALLS: [(&str, Receive); 5] = [
    ("recv", |ws, _| ws.recv().unwrap().unwrap()),
    ("recv_timeout", |ws, _| ws.recv_timeout(LONG).unwrap().unwrap()),
    ("polled", |ws, _| {
        for timeout in [Duration::ZERO, Duration::from_nanos(1)].into_iter().cycle() {
            match ws.recv_timeout(timeout) {
                Ok(message) => return message.unwrap(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
            }
        }
        unreachable!()
    }),
    ("recv_into", |ws, buffer| {
        let kind = ws.recv_into(buffer).unwrap().unwrap();
        let bytes = buffer.clone();
        if kind == MessageKind::Text { String::from_utf8(bytes).unwrap().into() } else { bytes.into() }
    }),
    ("recv_reader", |ws, _| {
        let mut reader = ws.recv_reader().unwrap().unwrap();
        let mut bytes = Vec::new();
        // A size that is no divisor of the reader's chunks.
        let mut block = [0; 10_007];
        while let count @ 1.. = reader.read(&mut block).unwrap() {
            bytes.extend_from_slice(&block[..count]);
        }
        if reader.kind() == MessageKind::Text { String::from_utf8(bytes).unwrap().into() } else { bytes.into() }
    }),
];

/// In one frame, and in fragments of odd sizes with pings between them. Small messages follow immediately.
#[test]
fn large_received_messages_are_complete() {
    on_every_pair(|side, layer| {
        let f = if side == Side::Client { frame } else { masked };
        for (number, size) in sizes().enumerate() {
            let first = if number % 4 == 3 { TEXT } else { BINARY };
            let payload = if first == TEXT { mixed_text(size).into_bytes() } else { pattern(size, size as u32) };
            let mut bytes = f(FIN | first, &payload);
            bytes.extend([f(FIN | TEXT, b"after"), f(FIN | BINARY, b"")].concat());
            bytes.extend(f(first, b""));
            let mut rest = &payload[..];
            for length in [1, 2 * DIRECT_SEND_MIN + 7, DIRECT_SEND_MIN, 130, 99_999].into_iter().cycle() {
                let (fragment, after) = rest.split_at(length.min(rest.len()));
                bytes.extend(f(0, fragment));
                bytes.extend(f(PING, &length.to_le_bytes()));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            bytes.extend([f(FIN, b""), f(FIN | TEXT, b"the last")].concat());
            for (way, (name, receive)) in CALLS.into_iter().enumerate() {
                // The largest take long, so each is received with one call only.
                if size > 3 * DIRECT_SEND_MIN && number % CALLS.len() != way {
                    continue;
                }
                let (ws, mut peer) = pair(side, layer);
                let mut buffer = vec![9; 100];
                thread::scope(|scope| {
                    scope.spawn(|| peer.write(&bytes));
                    let mut next = || receive(&ws, &mut buffer);
                    for layout in ["one frame", "fragments"] {
                        let message = next();
                        assert_eq!(message.is_text(), first == TEXT, "{name}, {size} in {layout}");
                        assert!(message.as_bytes() == payload, "{name}, {size} in {layout}");
                        if layout == "one frame" {
                            assert_eq!((next(), next()), (Message::from("after"), Message::from(&b""[..])));
                        }
                    }
                    assert_eq!(next(), Message::from("the last"), "{name}, {size}");
                });
                assert_eq!(peer.frame(), Frame::new(PONG, &1usize.to_le_bytes()), "{name}, {size}");
            }
        }
    });
}

/// A receiving call follows each part that the peer sends, so chunks end anywhere, also at the end of a frame.
#[test]
fn large_messages_that_arrive_in_parts_are_complete() {
    on_every_pair(|side, layer| {
        let f = if side == Side::Client { frame } else { masked };
        for last in DIRECT_SEND_MIN - 1..=DIRECT_SEND_MIN + 1 {
            for fin in [true, false] {
                let (ws, mut peer) = pair(side, layer);
                let payload = pattern(3 * DIRECT_SEND_MIN + 1001 + last, 5);
                let mut bytes = f(if fin { FIN } else { 0 } | BINARY, &payload);
                let end = bytes.len();
                if !fin {
                    bytes.extend([f(PING, b"p"), f(FIN, b"end")].concat());
                }
                bytes.extend(f(FIN | TEXT, b"after"));
                let mut received = Vec::new();
                let mut rest = &bytes[..];
                for length in [3, 1, 15, 70_000, 1, DIRECT_SEND_MIN, 40_000, end - last] {
                    let start = bytes.len() - rest.len();
                    let (part, after) = rest.split_at(length.min(end - last - start));
                    peer.write(part);
                    rest = after;
                    for _ in 0..20 {
                        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
                    }
                }
                assert_eq!(bytes.len() - rest.len(), end - last);
                // The last part of the frame alone, or together with the data after it.
                let (part, after) = rest.split_at(if fin { last } else { rest.len() });
                for part in [part, after] {
                    peer.write(part);
                    for _ in 0..20 {
                        match ws.try_recv() {
                            Ok(message) => received.push(message.unwrap()),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
                        }
                    }
                }
                while received.len() < 2 {
                    received.push(ws.recv().unwrap().unwrap());
                }
                let tail: &[u8] = if fin { b"" } else { b"end" };
                assert!(received[0].as_bytes() == [&payload, tail].concat(), "{last}, {fin}");
                assert_eq!(received[1..], [Message::from("after")], "{last}, {fin}");
            }
        }
    });
}

/// One call has received half of a message: every other receiving call continues it.
#[test]
fn another_call_continues_half_a_message() {
    on_every_pair(|side, layer| {
        let f = if side == Side::Client { frame } else { masked };
        for kind_of in [BINARY, TEXT] {
            let payload = if kind_of == TEXT { mixed_text(500_000).into_bytes() } else { pattern(500_000, 2) };
            let bytes = [f(FIN | kind_of, &payload), f(FIN | TEXT, b"after")].concat();
            for (name, receive) in CALLS {
                let (ws, mut peer) = pair(side, layer);
                for part in bytes[..250_000].chunks(50_000) {
                    peer.write(part);
                    for _ in 0..10 {
                        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
                    }
                }
                let mut buffer = vec![9; 100];
                thread::scope(|scope| {
                    scope.spawn(|| peer.write(&bytes[250_000..]));
                    let message = receive(&ws, &mut buffer);
                    assert_eq!(message.is_text(), kind_of == TEXT, "{name}");
                    assert!(message.as_bytes() == payload, "{name}");
                    assert_eq!(receive(&ws, &mut buffer), Message::from("after"), "{name}");
                });
            }
            // Or skips it: a reader that is dropped early discards the rest.
            let (ws, mut peer) = pair(side, layer);
            peer.write(&bytes[..200_000]);
            (0..10).for_each(|_| assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock)));
            let mut byte = [0];
            ws.recv_reader().unwrap().unwrap().read_exact(&mut byte).unwrap();
            assert_eq!(byte, payload[..1]);
            thread::scope(|scope| {
                scope.spawn(|| peer.write(&[&bytes[200_000..], &bytes].concat()));
                assert_eq!(kind(ws.recv()), Ok(text("after")));
                assert!(ws.recv().unwrap().unwrap().as_bytes() == payload);
            });
        }
    });
}

/// The sizes of all fragments are added.
#[test]
fn max_message_size_limits_the_whole_message() {
    on_every_pair(|side, layer| {
        let f = if side == Side::Client { frame } else { masked };
        for size in [DIRECT_SEND_MIN + 1, 2 * DIRECT_SEND_MIN, 1024 * KB, 2048 * KB] {
            let payload = pattern(size, size as u32);
            let whole = f(FIN | BINARY, &payload);
            let mut fragments = f(BINARY, &payload[..size - 1]);
            fragments.extend(f(FIN, &payload[size - 1..]));
            for (name, bytes) in [("one frame", &whole), ("fragments", &fragments)] {
                let (ws, mut peer) = limited(side, layer, size);
                thread::scope(|scope| {
                    scope.spawn(|| peer.write(bytes));
                    assert!(ws.recv().unwrap() == binary(&payload), "{name}, {size}");
                });

                let (ws, mut peer) = limited(side, layer, size - 1);
                thread::scope(|scope| {
                    // Only what will be read: for one frame, the header is enough to reject it.
                    let sent = if name == "one frame" { &bytes[..100] } else { bytes };
                    scope.spawn(|| peer.write(sent));
                    assert_eq!(kind(ws.recv()), Err(ErrorKind::TooBig), "{name}, {size}");
                });
                assert_eq!(peer.frames(), [Frame::close(1009)], "{name}, {size}");
            }
        }
    });
}

/// The ping is sent inside a large message, and the pong between two fragments counts.
#[test]
fn keepalive_works_inside_a_large_message() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = match side {
            Side::Client => connected(layer, &options().ping_interval(Some(LONG))),
            Side::Server => accepted(layer, &AcceptOptions::new().ping_interval(Some(LONG))),
        };
        let payload = pattern(1_000_000, 3);
        thread::scope(|scope| {
            scope.spawn(|| {
                peer.send(BINARY, &payload[..400_000]);
                let ping = peer.frame();
                assert_eq!(ping.first, PING);
                peer.send(PONG, &ping.payload);
                peer.send(FIN, &payload[400_000..]);
            });
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
            ws.set_ping_interval(LONG);
            assert!(ws.recv().unwrap() == binary(&payload));
        });
        assert!(ws.latency().is_some());
    });
}

/// The connection is lost or aborted inside a chunk of a large message.
#[test]
fn an_end_inside_a_large_message_is_an_error() {
    on_every_pair(|side, layer| {
        for is_aborted in [false, true] {
            let (ws, mut peer) = pair(side, layer);
            let f = if side == Side::Client { frame } else { masked };
            let bytes = f(FIN | BINARY, &pattern(1_000_000, 3));
            let (end, mut buffer) = thread::scope(|scope| {
                scope.spawn(|| {
                    peer.write(&bytes[..300_000]);
                    if is_aborted { ws.abort() } else { peer.end() }
                });
                let mut buffer = vec![9; 100];
                (ws.recv_into(&mut buffer), buffer)
            });
            let (expected, place) =
                if is_aborted { (ErrorKind::Closed, "") } else { (ErrorKind::Io, "inside a message") };
            let error = end.unwrap_err();
            assert_eq!(error.kind(), expected, "{error}");
            assert!(error.to_string().contains(place), "{error}");
            assert!(buffer.is_empty());
            assert_eq!(kind(ws.recv_into(&mut buffer)), Err(expected));
        }
    });
}
