//! `send_all`: it sends all messages in order, has written them when it returns, and stops at the first that fails.

use std::cell::Cell;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::support::*;
use wsync::{AcceptOptions, ErrorKind, Message, Outgoing, WebSocket};

/// The frame of this message without compression.
fn frame_of(message: &Message) -> Frame {
    Frame::new(FIN | if message.is_text() { TEXT } else { BINARY }, message.as_bytes())
}

/// Messages that are sent directly and messages that are queued, in all orders: large ones first, last, after a few small
/// ones and after many.
fn mixed_sizes() -> Vec<Message> {
    let small = |count: u32| (0..count).map(|number| Message::from(format!("{number}: smørrebrød")));
    let binary = |length: usize| Message::from(pattern(length, length as u32));
    let mut messages = vec![
        binary(DIRECT_SEND_MIN),
        Message::from(""),
        binary(0),
        binary(DIRECT_SEND_MIN - 1),
        binary(DIRECT_SEND_MIN + 1),
    ];
    messages.extend(small(3));
    messages.push(binary(2 * MASK_CHUNK + 5));
    messages.push(binary(MASK_CHUNK));
    // More than one write takes, and more than the queue may hold.
    messages.extend(small(5000));
    messages.extend((0..20).map(|number| binary(30_000 + number)));
    messages.push(Message::from("€".repeat(MASK_CHUNK / 3 + 1)));
    messages.push(binary(100_000));
    messages
}

#[test]
fn messages_of_every_size_arrive_in_order() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let messages = mixed_sizes();
        thread::scope(|scope| {
            scope.spawn(|| ws.send_all(&messages).unwrap());
            for (number, message) in messages.iter().enumerate() {
                let frame = peer.frame();
                assert!(frame == frame_of(message), "{number}: {frame:?}, not {:?}", frame_of(message));
            }
        });
        if side == Side::Client {
            let masks: std::collections::HashSet<_> = peer.masks.iter().collect();
            assert!(masks.len() > messages.len() - 10, "{} masks in {} frames", masks.len(), messages.len());
        }
    });
}

/// Messages of at least the threshold are compressed with the history of the earlier ones.
#[test]
fn messages_of_every_size_arrive_with_compression() {
    on_every_pair(|side, layer| {
        for threshold in [0, 70_000] {
            let (ws, mut peer) = deflate_pair(side, layer, threshold);
            let messages = mixed_sizes();
            let mut codec = Codec::new();
            thread::scope(|scope| {
                scope.spawn(|| ws.send_all(&messages).unwrap());
                for (number, message) in messages.iter().enumerate() {
                    let mut frame = peer.frame();
                    assert_eq!(frame.first & COMPRESSED != 0, message.len() >= threshold, "{number}");
                    if frame.first & COMPRESSED != 0 {
                        frame = Frame::new(frame.first & !COMPRESSED, &codec.inflate(&frame.payload));
                    }
                    assert!(frame == frame_of(message), "{number}: {frame:?}, not {:?}", frame_of(message));
                }
            });
        }
    });
}

/// Everything is written when the call returns. Every type that converts to a message can be sent in a batch.
#[test]
fn all_is_written_when_it_returns() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        ws.send_all(["a", "b"]).unwrap();
        ws.send_all(vec!["c".to_string()]).unwrap();
        ws.send_all([b"d"]).unwrap();
        ws.send_all(std::iter::once(&vec![0, 255])).unwrap();
        ws.send_all(Some(Outgoing::text("e"))).unwrap();
        let texts = ["a", "b", "c"].map(|text| Frame::new(FIN | TEXT, text.as_bytes()));
        let others = [(BINARY, &b"d"[..]), (BINARY, &[0, 255]), (TEXT, b"e")];
        for expected in texts.into_iter().chain(others.map(|(first, payload)| Frame::new(FIN | first, payload))) {
            assert_eq!(peer.frame(), expected);
        }
        let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        ws.send_all(&many).unwrap();
        many.iter().for_each(|text| assert_eq!(peer.frame(), Frame::new(FIN | TEXT, text.as_bytes())));
    });
}

/// The first messages do not wait for the last.
#[test]
fn a_long_batch_is_written_while_the_iterator_runs() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let payload = |number: usize| pattern(100, number as u32);
        let batch: Vec<Vec<u8>> = (0..1000).map(payload).collect();
        let mut asked = 0;
        let messages = batch.iter().inspect(|_| {
            asked += 1;
            if asked == batch.len() {
                // 600 messages are more than the 64 KiB at which a batch is written. Later ones may still be unwritten.
                (0..600).for_each(|number| assert!(peer.frame().payload == payload(number), "{number}"));
            }
        });
        ws.send_all(messages).unwrap();
        (600..1000).for_each(|number| assert!(peer.frame().payload == payload(number), "{number}"));
    });
}

#[test]
fn an_empty_batch_sends_nothing_and_never_fails() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        ws.send_all::<&str>([]).unwrap();
        ws.send("x").unwrap();
        assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"x"));
        ws.abort();
        // Succeeds: there is no message that could fail.
        ws.send_all::<&str>([]).unwrap();
    });
}

/// After the first message that fails, the iterator is not called again.
#[test]
fn the_end_of_the_connection_ends_a_batch() {
    on_every_pair(|side, layer| {
        type End = fn(&WebSocket);
        let ends: [(&str, End, u16); 2] = [
            ("the peer's close", |ws| assert_eq!(kind(ws.recv()), Ok(None)), 4000),
            ("our close", |ws| ws.close(3000, "").unwrap(), 3000),
        ];
        for (name, end, code) in ends {
            for length in [5, 100_000] {
                let (ws, mut peer) = pair(side, layer);
                peer.send(CLOSE, &close_payload(4000, ""));
                peer.cut();
                let payload = |number: usize| pattern(if number == 2 { 5 } else { length }, number as u32);
                let messages: Vec<Vec<u8>> = (0..100).map(payload).collect();
                let asked = Cell::new(0);
                let batch = || {
                    asked.set(0);
                    messages.iter().inspect(|_| {
                        asked.set(asked.get() + 1);
                        if asked.get() == 4 && ws.close_code().is_none() {
                            end(&ws);
                        }
                    })
                };
                assert_eq!(kind(ws.send_all(batch())), Err(ErrorKind::Closed), "{name}");
                assert_eq!(asked.get(), 4, "{name}, {length}");
                assert_eq!(kind(ws.send_all(batch())), Err(ErrorKind::Closed), "{name}, again");
                assert_eq!(asked.get(), 1, "{name}, {length}, again");
                let mut expected: Vec<Frame> = (0..3).map(|n| Frame::new(FIN | BINARY, &payload(n))).collect();
                expected.push(Frame::close(code));
                assert_eq!(peer.frames(), expected, "{name}, {length}");
            }
        }
    });
}

#[test]
fn an_abort_ends_a_batch() {
    on_every_pair(|side, layer| {
        for length in [5, 100_000] {
            let (ws, _peer) = pair(side, layer);
            let payload = vec![1; length];
            let mut asked = 0;
            let batch = std::iter::repeat(&payload).inspect(|_| {
                asked += 1;
                if asked == 4 {
                    ws.abort();
                }
            });
            assert_eq!(kind(ws.send_all(batch)), Err(ErrorKind::Closed), "{length}");
            assert_eq!(asked, 4, "{length}");
        }
    });
}

/// An infinite batch, to a peer that reads nothing.
#[test]
fn send_timeout_ends_a_batch() {
    on_every_pair(|side, layer| {
        let bound = Some(Duration::from_millis(50));
        for length in [1000, 1_000_000] {
            let (ws, _peer) = match side {
                Side::Client => connected(layer, &options().send_timeout(bound)),
                Side::Server => accepted(layer, &AcceptOptions::new().send_timeout(bound)),
            };
            let payload = vec![1; length];
            let mut asked = 0;
            let error = ws.send_all(std::iter::repeat(&payload).inspect(|_| asked += 1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{length}: {error}");
            assert!(error.to_string().contains("send_timeout"), "{error}");
            let before = asked;
            let again = ws.send_all(std::iter::repeat(&payload).inspect(|_| asked += 1));
            assert_eq!((kind(again), asked), (Err(ErrorKind::Closed), before + 1), "{length}");
        }
    });
}

/// Several threads send batches and single messages: all arrive complete, and in the order of each thread.
#[test]
fn concurrent_batches_keep_the_order_of_each_thread() {
    on_every_pair(|side, layer| {
        for compressed in [false, true] {
            const SENDERS: usize = 3;
            const EACH: usize = 400;
            let (ws, mut peer) = if compressed { deflate_pair(side, layer, 200) } else { pair(side, layer) };
            let payload = |sender: usize, number: usize| {
                let length = if number % 100 == 50 { 70_000 + number } else { number };
                let tag = [sender as u8, (number / 256) as u8, number as u8];
                [&tag[..], &pattern(length, (sender * EACH + number) as u32)].concat()
            };
            let start = Barrier::new(SENDERS);
            let mut codec = Codec::new();
            let mut next = [0; SENDERS];
            thread::scope(|scope| {
                for sender in 0..SENDERS {
                    let (ws, start) = (&ws, &start);
                    scope.spawn(move || {
                        let messages: Vec<Vec<u8>> = (0..EACH).map(|number| payload(sender, number)).collect();
                        start.wait();
                        if sender == 2 {
                            messages.iter().for_each(|message| ws.send(message).unwrap());
                        } else {
                            messages.chunks(150).for_each(|batch| ws.send_all(batch).unwrap());
                        }
                    });
                }
                for _ in 0..SENDERS * EACH {
                    let mut frame = peer.frame();
                    if frame.first & COMPRESSED != 0 {
                        frame = Frame::new(frame.first & !COMPRESSED, &codec.inflate(&frame.payload));
                    }
                    assert_eq!(frame.first, FIN | BINARY);
                    let sender = usize::from(frame.payload[0]);
                    assert!(frame.payload == payload(sender, next[sender]), "{sender}, {}: {frame:?}", next[sender]);
                    next[sender] += 1;
                }
            });
            assert_eq!(next, [EACH; SENDERS]);
        }
    });
}

/// What `try_send` has queued is written first, whether the batch starts with a small or a large message.
#[test]
fn a_batch_follows_what_try_send_has_queued() {
    on_every_pair(|side, layer| {
        for length in [10, 3_000_000] {
            let (ws, mut peer) = pair(side, layer);
            let before = pattern(50_001, 1);
            let mut count = 0;
            while ws.try_send(&before).is_ok() {
                count += 1;
            }
            let messages = [pattern(length, 2), pattern(9, 3)];
            thread::scope(|scope| {
                scope.spawn(|| ws.send_all(&messages).unwrap());
                for number in 0..count {
                    assert!(peer.frame() == Frame::new(FIN | BINARY, &before), "{number} of {count}");
                }
                for message in &messages {
                    assert!(peer.frame() == Frame::new(FIN | BINARY, message), "{}", message.len());
                }
            });
        }
    });
}
