//! Sending: what the peer receives, from one thread and from many, and sends to a peer that reads nothing.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use wsync::{AcceptOptions, ErrorKind, Message, Outgoing, ReadyState, WebSocket};

/// More bytes than the sockets' buffers hold. A send of so much blocks until the peer reads.
const TOO_MUCH: usize = 12 << 20;

#[test]
fn messages_of_every_type_and_size_arrive() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        ws.send("smørrebrød 𝄞").unwrap();
        ws.send(String::from("string")).unwrap();
        ws.send(&b"slice"[..]).unwrap();
        ws.send(b"array").unwrap();
        ws.send(vec![0, 255]).unwrap();
        ws.send(Message::from("message")).unwrap();
        ws.send(Outgoing::binary(b"ref")).unwrap();
        ws.send(Outgoing::from("plain").uncompressed()).unwrap();
        ws.send("").unwrap();
        ws.send(b"").unwrap();
        ws.ping(b"").unwrap();
        let expected: [(u8, &[u8]); 11] = [
            (FIN | TEXT, "smørrebrød 𝄞".as_bytes()),
            (FIN | TEXT, b"string"),
            (FIN | BINARY, b"slice"),
            (FIN | BINARY, b"array"),
            (FIN | BINARY, &[0, 255]),
            (FIN | TEXT, b"message"),
            (FIN | BINARY, b"ref"),
            (FIN | TEXT, b"plain"),
            (FIN | TEXT, b""),
            (FIN | BINARY, b""),
            (PING, b""),
        ];
        for (first, payload) in expected {
            assert_eq!(peer.frame(), Frame::new(first, payload));
        }
        // Around each length at which the header or the way of sending changes.
        for length in [125, 126, 127, 65_535, 65_536, 65_537, 131_071, 131_072, 200_001] {
            let payload = pattern(length, length as u32);
            thread::scope(|scope| {
                scope.spawn(|| ws.send(&payload).unwrap());
                assert!(peer.frame() == Frame::new(FIN | BINARY, &payload), "{length}");
            });
        }
    });
}

/// Small messages, messages that fill one write, and messages that are sent without the queue.
#[test]
fn messages_sent_together_arrive_in_order() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let lengths = [0, 5, 65_536, 7, 40_000, 40_000, 9, 200_001, 65_535, 1_200_000, 3];
        let messages: Vec<Vec<u8>> = (0..).zip(lengths).map(|(number, length)| pattern(length, number)).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                ws.send_all(&messages).unwrap();
                ws.send_all([""; 0]).unwrap();
            });
            for payload in &messages {
                assert!(peer.frame() == Frame::new(FIN | BINARY, payload), "{}", payload.len());
            }
        });
        // The iterator may wait for the reply to an earlier message, and may panic.
        let replies = (0..2).map(|number| {
            if number == 1 {
                peer.send(FIN | TEXT, b"reply");
                assert_eq!(kind(ws.recv()), Ok(text("reply")));
                assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"question"));
                panic!("in the iterator");
            }
            "question"
        });
        assert!(catch_unwind(AssertUnwindSafe(|| ws.send_all(replies))).is_err());
        ws.send("next").unwrap();
        assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"next"));
    });
}

#[test]
fn large_messages_arrive() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        for length in [4 << 20, if (side, layer) == (Side::Client, Layer::Plain) { 64 << 20 } else { 5 << 20 }] {
            let payload = pattern(length, 7);
            thread::scope(|scope| {
                let sender = scope.spawn(|| ws.send(&payload).unwrap());
                let frame = peer.frame();
                assert!(frame.first == FIN | BINARY && frame.payload == payload, "{length}");
                sender.join().unwrap();
            });
        }
    });
}

/// The messages of each thread arrive complete and in order, and each frame has a new mask.
#[test]
fn sixty_four_threads_may_send_at_once() {
    on_every_pair(|side, layer| {
        const SENDERS: usize = 64;
        const EACH: usize = 50;
        let (ws, mut peer) = pair(side, layer);
        let start = Arc::new(Barrier::new(SENDERS));
        let payload = |sender: usize, number: usize| {
            // Some go through the queue, some are written directly.
            let length = if number == 25 { 70_000 } else { 4 + number };
            pattern(length, (sender * EACH + number) as u32)
        };
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (ws, start) = (ws.clone(), start.clone());
                spawn("sender", move || {
                    start.wait();
                    for number in 0..EACH {
                        let message = [&[sender as u8, number as u8], &payload(sender, number)[..]].concat();
                        ws.send(&message).unwrap();
                    }
                })
            })
            .collect();
        let mut next = [0; SENDERS];
        for _ in 0..SENDERS * EACH {
            let frame = peer.frame();
            assert_eq!(frame.first, FIN | BINARY);
            let (sender, number) = (frame.payload[0] as usize, frame.payload[1] as usize);
            assert_eq!(number, next[sender], "of sender {sender}");
            assert!(frame.payload[2..] == payload(sender, number), "{sender}, {number}");
            next[sender] += 1;
        }
        senders.into_iter().for_each(wait_for);
        if side == Side::Client {
            let masks: HashSet<_> = peer.masks.iter().collect();
            assert!(masks.len() > SENDERS * EACH - 10, "{} masks in {} frames", masks.len(), SENDERS * EACH);
        }
    });
}

/// Messages that other threads send during a long write are written after it.
#[test]
fn messages_sent_during_a_long_write_arrive_after_it() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let long = pattern(TOO_MUCH, 3);
        let (first, sent) = (ws.clone(), long.clone());
        let first = spawn("first", move || first.send(&sent).unwrap());
        peer.wait_for_bytes();
        let others: Vec<_> = (0..8u8)
            .map(|number| {
                let ws = ws.clone();
                spawn("other", move || (ws.send(&[number]).unwrap(), ws.ping(&[number]).unwrap()).1)
            })
            .collect();
        assert!(peer.frame().payload == long);
        let mut seen: Vec<Frame> = (0..16).map(|_| peer.frame()).collect();
        seen.sort_by_key(|frame| (frame.first, frame.payload.clone()));
        let expected: Vec<Frame> =
            [FIN | BINARY, PING].iter().flat_map(|&first| (0..8u8).map(move |i| Frame::new(first, &[i]))).collect();
        assert_eq!(seen, expected);
        wait_for(first);
        others.into_iter().for_each(wait_for);
    });
}

/// A message that is sent while the receiver writes a pong is written although the receiver then stops receiving.
#[test]
fn a_message_sent_while_the_receiver_writes_arrives() {
    on_every_layer(|layer| {
        let (ws, mut peer) = connected(layer, &options());
        let (go, is_go) = mpsc::channel::<u32>();
        let (sender_ws, start) = (ws.clone(), Arc::new(Barrier::new(2)));
        let sender_start = start.clone();
        let sender = spawn("sender", move || {
            for number in is_go {
                sender_start.wait();
                (0..number % 64).for_each(|_| std::hint::spin_loop());
                sender_ws.send(&number.to_le_bytes()).unwrap();
            }
        });
        for number in 0..3000u32 {
            peer.write(&[frame(PING, &[b'p'; 100]), frame(FIN | TEXT, b"x")].concat());
            go.send(number).unwrap();
            start.wait();
            assert_eq!(kind(ws.recv()), Ok(text("x")));
            // No thread is receiving now. The message must still arrive.
            let mut frames = [peer.frame(), peer.frame()];
            frames.sort_by_key(|frame| frame.first);
            assert_eq!(frames[0].payload, number.to_le_bytes());
        }
        drop(go);
        wait_for(sender);
    });
}

fn short_send_timeout() -> (wsync::ConnectOptions, AcceptOptions) {
    let timeout = Some(Duration::from_millis(100));
    (options().send_timeout(timeout), AcceptOptions::new().send_timeout(timeout))
}

#[test]
fn a_send_to_a_peer_that_reads_nothing_times_out_and_receiving_continues() {
    on_every_pair(|side, layer| {
        let (client, server) = short_send_timeout();
        let (ws, mut peer) = match side {
            Side::Client => connected(layer, &client),
            Side::Server => accepted(layer, &server),
        };
        let start = Instant::now();
        let error = ws.send(vec![0; TOO_MUCH]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("send_timeout"), "{error}");
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
        for _ in 0..2 {
            assert_eq!(kind(ws.send("more")), Err(ErrorKind::Closed));
            assert_eq!(kind(ws.ping(b"more")), Err(ErrorKind::Closed));
        }
        // Fails immediately, without another attempt to write the rest of the message.
        assert_eq!(kind(ws.send_all([""; 0])), Err(ErrorKind::Timeout));
        peer.send(FIN | TEXT, b"received all the same");
        assert_eq!(kind(ws.recv()), Ok(text("received all the same")));
        assert_eq!((ws.ready_state(), ws.close_code()), (ReadyState::Closing, None), "nothing can be sent any more");
    });
}

/// Small messages fill the queue, then each sender waits for its own timeout.
#[test]
fn many_small_sends_to_a_peer_that_reads_nothing_time_out() {
    on_every_layer(|layer| {
        let (ws, _peer) = connected(layer, &short_send_timeout().0);
        let senders: Vec<_> = (0..8)
            .map(|_| {
                let ws = ws.clone();
                spawn("sender", move || {
                    let mut sent = 0;
                    loop {
                        match ws.send(&[0; 10_000]) {
                            Ok(()) => sent += 10_000,
                            Err(error) => return (sent, error.kind()),
                        }
                    }
                })
            })
            .collect();
        let results: Vec<(usize, ErrorKind)> = senders.into_iter().map(wait_for).collect();
        assert!(results.iter().all(|(_, kind)| matches!(kind, ErrorKind::Timeout | ErrorKind::Closed)), "{results:?}");
        assert!(results.iter().any(|(_, kind)| *kind == ErrorKind::Timeout), "{results:?}");
        assert!(results.iter().map(|(sent, _)| sent).sum::<usize>() < TOO_MUCH, "{results:?}");
    });
}

/// The timeout of a blocked send does not affect a receiver.
#[test]
fn a_slow_send_within_its_timeout_succeeds() {
    on_every_layer(|layer| {
        let (ws, mut peer) = connected(layer, &options().send_timeout(Some(Duration::from_secs(15))));
        let sender = ws.clone();
        let payload = pattern(TOO_MUCH, 5);
        let sent = payload.clone();
        let sender = spawn("sender", move || sender.send(&sent).unwrap());
        peer.wait_until_full();
        assert!(sender.is_running());
        peer.send(FIN | TEXT, b"meanwhile");
        assert_eq!(kind(ws.recv()), Ok(text("meanwhile")));
        assert!(peer.frame().payload == payload);
        wait_for(sender);
    });
}

#[test]
fn abort_ends_all_blocked_sends() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let send = |length: usize| {
            let ws = ws.clone();
            spawn("sender", move || {
                while let Ok(()) = ws.send(vec![0; length]) {}
                kind(ws.send("more"))
            })
        };
        // One is in the system call, the others wait for that one.
        let senders = [send(TOO_MUCH), send(1), send(100_000)];
        peer.wait_until_full();
        assert!(senders.iter().all(Job::is_running));
        ws.abort();
        for sender in senders {
            assert_eq!(wait_for(sender), Err(ErrorKind::Closed));
        }
        assert_eq!((ws.ready_state(), ws.close_code()), (ReadyState::Closed, code(1006)));
    });
}

#[test]
fn sends_after_the_end_fail() {
    on_every_pair(|side, layer| {
        type End = fn(&WebSocket, &mut Peer);
        let ends: [(&str, End); 4] = [
            ("abort", |ws, _| ws.abort()),
            ("peer's close", |ws, peer| {
                peer.send(CLOSE, &close_payload(1000, ""));
                assert_eq!(kind(ws.recv()), Ok(None));
            }),
            ("loss", |ws, peer| {
                peer.cut();
                assert_eq!(kind(ws.recv()), Err(ErrorKind::Io));
            }),
            ("violation", |ws, peer| {
                peer.write(&[0xff; 2]);
                assert_eq!(kind(ws.recv()), Err(ErrorKind::Protocol));
            }),
        ];
        for (name, end) in ends {
            let (ws, mut peer) = pair(side, layer);
            end(&ws, &mut peer);
            assert_eq!(kind(ws.send("late")), Err(ErrorKind::Closed), "{name}");
            assert_eq!(kind(ws.send(vec![0; 100_000])), Err(ErrorKind::Closed), "{name}");
            assert_eq!(kind(ws.ping(b"late")), Err(ErrorKind::Closed), "{name}");
            let late = peer.frames().into_iter().find(|frame| frame.first != CLOSE);
            assert_eq!(late, None, "{name}");
        }
    });
}

/// The peer has ended only its output, so it still receives.
#[test]
fn sends_after_the_peers_half_close_arrive() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        peer.cut();
        ws.send("still received").unwrap();
        assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"still received"));
    });
}

/// There is an error, and no SIGPIPE that ends the process.
#[test]
fn sends_to_a_peer_that_has_disconnected_fail() {
    on_every_pair(|side, layer| {
        let (ws, peer) = pair(side, layer);
        ws.send("unread").unwrap();
        peer.reset();
        let error = loop {
            if let Err(error) = ws.send("more") {
                break error;
            }
        };
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Closed), "{error}");
        assert_eq!(kind(ws.send("more")), Err(ErrorKind::Closed));
        assert_eq!(kind(ws.recv()), Err(ErrorKind::Io));
        assert_eq!(ws.close_code(), code(1006));
    });
}
