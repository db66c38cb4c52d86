//! `recv_into`: the contents of the caller's buffer, and the reuse of its allocation.

use std::thread;

use crate::support::*;
use wsync::{ErrorKind, MessageKind};

#[test]
fn text_that_is_not_utf8_leaves_the_callers_buffer_empty() {
    on_every_pair(|side, layer| {
        // Invalid; cut inside a character; longer than one read.
        let long = [&[b'a'; 200_000][..], b"\xff"].concat();
        let cases = [
            (&b"ab\xff"[..], "0xff at offset 2"),
            (&"ab€".as_bytes()[..4], "inside a character"),
            (&long, "0xff at offset 200000"),
        ];
        for (bytes, shown) in cases {
            for is_whole in [true, false] {
                let (ws, mut peer) = pair(side, layer);
                let mut buffer = b"old".to_vec();
                thread::scope(|scope| {
                    scope.spawn(|| {
                        peer.send(FIN | TEXT, b"good");
                        if is_whole {
                            peer.send(FIN | TEXT, bytes);
                        } else {
                            peer.send(TEXT, &bytes[..1]);
                            peer.send(FIN, &bytes[1..]);
                        }
                    });
                    assert_eq!(kind(ws.recv_into(&mut buffer)), Ok(Some(MessageKind::Text)));
                    assert_eq!(buffer, b"good");
                    for _ in 0..2 {
                        let error = ws.recv_into(&mut buffer).unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::Utf8, "{error}");
                        // The byte as it was sent, not as it was masked.
                        assert!(error.to_string().contains(shown), "{error}");
                        assert!(buffer.is_empty(), "{}", buffer.escape_ascii());
                        buffer.push(1);
                    }
                });
                assert_eq!(peer.frames(), [Frame::close(1007)]);
            }
        }
    });
}

/// In one read or in many, with or without the read buffer, text or binary.
#[test]
fn the_callers_allocation_is_reused() {
    on_every_pair(|side, layer| {
        for size in [300, 100_000, 1_000_000] {
            let (ws, mut peer) = pair(side, layer);
            let long = pattern(size, 1);
            let words = "aé€𝄞".repeat(size / 10).into_bytes();
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..3 {
                        peer.send(FIN | BINARY, &long);
                        peer.send(FIN | TEXT, &words);
                        peer.send(TEXT, &words);
                        peer.send(FIN, b"");
                        peer.send(FIN | BINARY, b"");
                    }
                });
                let mut buffer = Vec::new();
                let mut allocation = None;
                for round in 0..3 {
                    for (expected, bytes) in [(BINARY, &long), (TEXT, &words), (TEXT, &words), (BINARY, &Vec::new())] {
                        let kind = ws.recv_into(&mut buffer).unwrap().unwrap();
                        assert_eq!(kind == MessageKind::Text, expected == TEXT, "{round}, {size}");
                        assert!(buffer == *bytes, "{round}, {size}");
                        let found = (buffer.as_ptr(), buffer.capacity());
                        assert_eq!(*allocation.get_or_insert(found), found, "{round}, {size}");
                    }
                }
            });
        }
    });
}

/// Messages that arrived while this side was closing are received, and then the end.
#[test]
fn recv_into_works_after_a_close() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let large = pattern(500_000, 1);
        let f = if side == Side::Client { frame } else { masked };
        let frames = [f(FIN | BINARY, &large), f(FIN | TEXT, b"one"), f(FIN | BINARY, b"two")].concat();
        let (first, second) = frames.split_at(200_000);
        // Half of it is received before the close.
        peer.write(first);
        (0..20).for_each(|_| assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock)));
        thread::scope(|scope| {
            scope.spawn(|| {
                peer.write(second);
                peer.send(CLOSE, &close_payload(4000, ""));
                peer.cut();
            });
            ws.close(1000, "").unwrap();
        });
        let mut buffer = b"old".to_vec();
        let messages = [(MessageKind::Binary, &large[..]), (MessageKind::Text, b"one"), (MessageKind::Binary, b"two")];
        for (expected, bytes) in messages {
            assert_eq!(kind(ws.recv_into(&mut buffer)), Ok(Some(expected)));
            assert!(buffer == bytes, "{} bytes, not {}", buffer.len(), bytes.len());
        }
        for _ in 0..2 {
            assert_eq!(kind(ws.recv_into(&mut buffer)), Ok(None));
            assert!(buffer.is_empty());
            buffer.push(1);
        }
    });
}
