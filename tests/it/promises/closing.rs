//! `close` keeps what came, reads while it writes, and is bounded; after our close frame is out every end is an end.

use std::io::{Read, Write};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::line::{in_memory, narrow};
use crate::support::*;
use wsync::{AcceptOptions, CloseCode, Compression, ConnectOptions, ErrorKind, MessageKind, ReadyState, WebSocket};

/// The longest that a close may take which nothing holds up; `close_timeout` is 5 s.
const SOON: Duration = Duration::from_secs(3);
/// A bound of `close` for tests that close behind very many small frames: the scripted peer reads each by several calls.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn close_keeps_unread_messages_whatever_the_largest_message_is() {
    for (limit, count) in [(20, 2), (1000, 100), (1000, 5000)] {
        on_limited_pairs(limit, count);
    }
}

fn on_limited_pairs(limit: usize, count: u32) {
    for (side, layer) in pairs() {
        bounded(move || {
            let (ws, mut peer) = match side {
                Side::Client => connected(layer, &options().max_message_size(limit)),
                Side::Server => accepted(layer, &AcceptOptions::new().max_message_size(limit)),
            };
            for number in 0..count {
                peer.send(FIN | TEXT, format!("message {number}").as_bytes());
            }
            let peer = spawn("peer", move || {
                assert_eq!(peer.frame(), Frame::close(1000));
                peer.send(FIN | TEXT, b"late");
                peer.send(CLOSE, &close_payload(1000, ""));
                peer.end();
                peer.frames()
            });
            ws.close(1000, "").unwrap();
            for number in 0..count {
                assert_eq!(kind(ws.recv()), Ok(text(&format!("message {number}"))));
            }
            assert_eq!((kind(ws.recv()), kind(ws.recv())), (Ok(text("late")), Ok(None)));
            assert_eq!(wait_for(peer), []);
        });
    }
}

/// The peer reads nothing before it has sent all of a message that no buffer holds.
#[test]
fn close_reads_while_the_peer_is_blocked_in_a_send() {
    for is_blocked_too in [false, true] {
        bounded(move || {
            let (client, server) = in_memory(&options().compression(Compression::off()), &AcceptOptions::new());
            let sent = pattern(8 << 20, 4);
            let (client, server, sent) = (&client, &server, &sent);
            thread::scope(|scope| {
                scope.spawn(move || {
                    server.send(sent).unwrap();
                    // And then it reads.
                    while server.recv().unwrap().is_some() {}
                    assert_eq!(server.close_code(), code(4001));
                });
                if is_blocked_too {
                    scope.spawn(move || client.send(sent).unwrap());
                }
                thread::sleep(Duration::from_millis(50));
                let since = Instant::now();
                client.close(4001, "").unwrap();
                assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
                assert_eq!(client.close_code(), code(4001));
                assert!(client.recv().unwrap() == binary(sent));
                assert_eq!(kind(client.recv()), Ok(None));
            });
        });
    }
}

/// Both send what no buffer holds, and both close at once.
#[test]
fn both_ends_close_at_once_with_full_buffers() {
    for round in 0..20 {
        bounded(move || {
            let (client, server) = in_memory(&options().compression(Compression::off()), &AcceptOptions::new());
            let start = Barrier::new(2);
            thread::scope(|scope| {
                for (ws, code) in [(&client, 4001), (&server, 4002)] {
                    let start = &start;
                    scope.spawn(move || {
                        while ws.try_send(&[1; 30_000]).is_ok() {}
                        if round % 2 == 0 {
                            // Sent, or refused where the close came first.
                            scope.spawn(|| kind(ws.send(vec![1; 2 << 20])));
                            thread::sleep(Duration::from_millis(5));
                        }
                        start.wait();
                        let since = Instant::now();
                        ws.close(code, "").unwrap();
                        assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
                        let mut bytes = 0;
                        while let Some(message) = ws.recv().unwrap() {
                            bytes += message.len();
                        }
                        assert!(bytes >= 64 * 1024, "{bytes}");
                    });
                }
            });
            // Each has the other's code, or the echo of its own.
            for ws in [&client, &server] {
                assert!(matches!(ws.close_code().map(u16::from), Some(4001 | 4002)), "{:?}", ws.close_code());
            }
        });
    }
}

/// What comes is kept, but no longer than the bound.
#[test]
fn close_is_bounded_while_the_peer_sends_without_end() {
    for limit in [100, usize::MAX] {
        bounded(move || {
            let client = options().close_timeout(Some(SHORT)).max_message_size(limit);
            let (client, server) = in_memory(&client, &AcceptOptions::new());
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let ws = server.clone();
                    spawn("sender", move || while ws.send_all(["x"; 1000]).is_ok() {})
                })
                .collect();
            let since = Instant::now();
            assert_eq!(kind(client.close(1000, "")), Err(ErrorKind::Timeout));
            assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
            senders.into_iter().for_each(wait_for);
        });
    }
}

fn assert_refused<T>(result: wsync::Result<T>, name: &str, holder: &str) {
    let Err(error) = result else { panic!("{name} is not refused") };
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
    assert!(error.to_string().contains(holder), "{name}: {error}");
}

#[test]
fn calls_that_would_wait_for_their_own_thread_are_refused_at_once() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        peer.send(BINARY, b"begun");
        let mut reader = ws.recv_reader().unwrap().unwrap();
        let since = Instant::now();
        let mut buffer = Vec::new();
        assert_refused(ws.recv(), "recv", "MessageReader");
        assert_refused(ws.try_recv(), "try_recv", "MessageReader");
        assert_refused(ws.recv_timeout(SHORT), "recv_timeout", "MessageReader");
        assert_refused(ws.recv_into(&mut buffer), "recv_into", "MessageReader");
        assert_refused(ws.recv_reader(), "recv_reader", "MessageReader");
        assert_refused(ws.close(1000, ""), "close", "MessageReader");
        assert!(since.elapsed() < SOON);
        assert_eq!(ws.ready_state(), ReadyState::Open, "a refused close has begun nothing");
        // Another thread may wait for it.
        let other = ws.clone();
        assert_eq!(kind(wait_for(spawn("other", move || other.recv_timeout(SHORT)))), Err(ErrorKind::Timeout));
        ws.send("sending goes on").unwrap();
        peer.send(FIN, b" and ended");
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"begun and ended");
        drop(reader);

        let mut writer = ws.send_writer(MessageKind::Binary).unwrap();
        writer.write_all(b"part").unwrap();
        let since = Instant::now();
        assert_refused(ws.send("x"), "send", "MessageWriter");
        assert_refused(ws.send(vec![0; 100_000]), "direct send", "MessageWriter");
        assert_refused(ws.send_all(["x"]), "send_all", "MessageWriter");
        assert_refused(ws.send_writer(MessageKind::Text), "send_writer", "MessageWriter");
        assert!(since.elapsed() < SOON);
        ws.ping(b"may go between parts").unwrap();
        writer.finish().unwrap();
        let frames = [peer.frame(), peer.frame(), peer.frame()];
        assert_eq!(frames[0], Frame::new(FIN | TEXT, b"sending goes on"));
        assert_eq!(frames[1], Frame::new(PING, b"may go between parts"));
        assert_eq!(frames[2], Frame::new(FIN | BINARY, b"part"));
    });
}

#[test]
fn close_works_with_a_writer_of_its_own_open() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let mut writer = ws.send_writer(MessageKind::Binary).unwrap();
        writer.write_all(b"part").unwrap();
        writer.flush().unwrap();
        let peer = spawn("peer", move || {
            let frames = [peer.frame(), peer.frame()];
            peer.send(CLOSE, &close_payload(1000, ""));
            peer.end();
            (frames, peer.frames())
        });
        let since = Instant::now();
        ws.close(4001, "").unwrap();
        assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
        assert!(writer.write_all(b"more").and_then(|()| writer.flush()).is_err());
        assert_eq!(kind(writer.finish()), Err(ErrorKind::Closed));
        assert_eq!(wait_for(peer), ([Frame::new(BINARY, b"part"), Frame::close(4001)], vec![]));
    });
}

/// The peer is told, and has as long as for any other close.
#[test]
fn a_dropped_unfinished_writer_begins_a_close_that_is_bounded() {
    on_every_pair(|side, layer| {
        for (is_answered, is_receiving) in [(false, false), (false, true), (true, false), (true, true)] {
            let (ws, mut peer) = match side {
                Side::Client => connected(layer, &options().close_timeout(Some(SHORT))),
                Side::Server => accepted(layer, &AcceptOptions::new().close_timeout(Some(SHORT))),
            };
            let receiver = ws.clone();
            let receive = move || (receiver.recv(), receiver.recv());
            let early = is_receiving.then(|| spawn("receiver", receive.clone()));
            let since = Instant::now();
            let mut writer = ws.send_writer(MessageKind::Binary).unwrap();
            writer.write_all(b"part").unwrap();
            writer.flush().unwrap();
            drop(writer);
            assert_eq!(ws.ready_state(), ReadyState::Closing);
            assert_eq!((peer.frame().first, peer.frame().first), (BINARY, CLOSE));
            if is_answered {
                peer.send(CLOSE, &close_payload(1011, ""));
            }
            let (first, second) = early.map_or_else(receive, wait_for);
            assert_eq!(kind(first), if is_answered { Ok(None) } else { Err(ErrorKind::Io) });
            assert_eq!(kind(second), if is_answered { Ok(None) } else { Err(ErrorKind::Io) });
            assert!(since.elapsed() < SHORT * 2 + Duration::from_secs(1), "{:?}", since.elapsed());
            assert_eq!(ws.close_code(), code(if is_answered { 1011 } else { 1006 }));
        }
    });
}

type End = fn(Peer);

/// How a peer may end the connection after it has read our close frame.
const ENDS: [(&str, End); 8] = [
    ("FIN", |mut peer| (peer.cut(), peer.rest()).0),
    ("close_notify and FIN", |mut peer| (peer.end(), peer.rest()).0),
    ("RST", |peer| {
        let mut peer = peer;
        socket2::SockRef::from(peer.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    }),
    ("garbage", |mut peer| (peer.write(&[0xff; 100]), peer.end(), peer.rest()).0),
    ("HTTP", |mut peer| (peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\nno"), peer.end(), peer.rest()).0),
    ("a close without a code", |mut peer| (peer.send(CLOSE, b""), peer.end(), peer.rest()).0),
    ("a close with a forbidden code", |mut peer| {
        (peer.send(CLOSE, &close_payload(1006, "")), peer.end(), peer.rest()).0
    }),
    ("half a frame", |mut peer| (peer.write(b"\x82"), peer.end(), peer.rest()).0),
];

#[test]
fn after_our_close_frame_is_out_every_end_of_the_peers_is_an_end() {
    on_every_pair(|side, layer| {
        for (name, end) in ENDS {
            for is_receiving in [false, true] {
                let (ws, mut peer) = pair(side, layer);
                let receiver = ws.clone();
                let receiver = is_receiving.then(|| spawn("receiver", move || kind(receiver.recv())));
                let peer = spawn(name, move || {
                    assert_eq!(peer.frame(), Frame::close(1000));
                    end(peer);
                });
                let since = Instant::now();
                ws.close(1000, "").unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(since.elapsed() < SOON, "{name}: {:?}", since.elapsed());
                assert_eq!(kind(ws.recv()), Ok(None), "{name}");
                if let Some(receiver) = receiver {
                    assert_eq!(wait_for(receiver), Ok(None), "{name}");
                }
                let expected = if name == "a close without a code" { 1005 } else { 1006 };
                assert_eq!((ws.ready_state(), ws.close_code()), (ReadyState::Closed, code(expected)), "{name}");
                drop(ws);
                wait_for(peer);
            }
        }
    });
}

/// The peer ends as soon as it has the close frame: perhaps before the one who wrote that has said so.
#[test]
fn an_end_right_behind_our_close_frame_is_an_end_each_time() {
    bounded(|| {
        // Under Wine each takes 40 ms.
        for _ in 0..if cfg!(windows) { 100 } else { 1500 } {
            let (ws, mut peer) = connected(Layer::Plain, &options());
            let receiver = ws.clone();
            let receiver = spawn("receiver", move || kind(receiver.recv()));
            let peer = spawn("peer", move || {
                assert_eq!(peer.frame(), Frame::close(1000));
                peer.cut();
            });
            ws.close(1000, "").unwrap();
            assert_eq!(wait_for(receiver), Ok(None));
            wait_for(peer);
        }
    });
}

#[test]
fn before_our_close_frame_is_out_a_loss_is_a_loss() {
    bounded(|| {
        let (ws, mut peer) = narrow(&options());
        let sender = ws.clone();
        let sender = spawn("sender", move || kind(sender.send(vec![0; 1 << 20])));
        peer.wait_for_bytes();
        peer.wait_until_full();
        let closer = ws.clone();
        let closer = spawn("closer", move || kind(closer.close(1000, "")));
        while ws.ready_state() == ReadyState::Open {
            thread::yield_now();
        }
        peer.cut();
        assert_eq!(wait_for(closer), Err(ErrorKind::Io));
        assert_eq!(kind(ws.recv()), Err(ErrorKind::Io));
        drop(peer);
        assert!(wait_for(sender).is_err());
    });
}

#[test]
fn only_the_bound_of_close_is_an_error() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = match side {
            Side::Client => connected(layer, &options().close_timeout(Some(SHORT))),
            Side::Server => accepted(layer, &AcceptOptions::new().close_timeout(Some(SHORT))),
        };
        let since = Instant::now();
        assert_eq!(kind(ws.close(1000, "")), Err(ErrorKind::Timeout));
        assert!(since.elapsed() >= SHORT && since.elapsed() < SOON);
        assert_eq!(ws.close_code(), code(1006));
        assert_eq!(peer.frames(), [Frame::close(1000)]);
    });
}

/// Also where another thread is writing at that moment, and where the one that receives does not wait.
#[test]
fn the_answer_to_the_peers_close_echoes_code_and_reason_while_others_send() {
    type Receive = fn(&WebSocket) -> wsync::Result<Option<wsync::Message>>;
    let receives: [(&str, Receive); 2] = [
        ("recv", WebSocket::recv),
        ("try_recv", |ws| {
            loop {
                match ws.try_recv() {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                    result => return result,
                }
            }
        }),
    ];
    for (name, receive) in receives {
        for (side, layer) in pairs() {
            bounded(move || {
                for _ in 0..10 {
                    let (ws, mut peer) = pair(side, layer);
                    let senders: Vec<_> = (0..2)
                        .map(|_| {
                            let ws = ws.clone();
                            spawn("sender", move || while ws.send(&[1; 40_000]).is_ok() {})
                        })
                        .collect();
                    let peer = spawn("peer", move || {
                        for _ in 0..20 {
                            peer.frame();
                        }
                        peer.send(CLOSE, &close_payload(4321, "the reason"));
                        let mut last = None;
                        while let Some(frame) = peer.next_frame() {
                            assert!(last.is_none(), "a frame behind the close frame");
                            last = Some(frame).filter(|frame| frame.first == CLOSE);
                            if last.is_some() {
                                break;
                            }
                        }
                        (last, peer)
                    });
                    assert_eq!(kind(receive(&ws)), Ok(None), "{name}");
                    assert_eq!((ws.close_code(), ws.close_reason()), (code(4321), Some("the reason")));
                    senders.into_iter().for_each(wait_for);
                    let (answer, _peer) = wait_for(peer);
                    assert_eq!(answer, Some(Frame::new(CLOSE, &close_payload(4321, "the reason"))), "{name}");
                }
            });
        }
    }
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        peer.send(CLOSE, b"");
        assert_eq!(kind(ws.recv()), Ok(None));
        assert_eq!((ws.close_code(), ws.close_reason()), (code(1005), Some("")));
        assert_eq!(peer.frames(), [Frame::new(CLOSE, b"")]);
    });
}

/// Threads in every other call when a close begins: each ends, and nothing follows the close frame.
#[test]
fn a_close_ends_every_call_of_other_threads() {
    fn compressing(on: bool) -> Compression {
        if on { Compression::default().threshold(10) } else { Compression::off() }
    }
    for round in 0..12 {
        bounded(move || {
            let compression = compressing(round % 3 == 2);
            let client: ConnectOptions = options().compression(compression.clone()).close_timeout(Some(LONG));
            let (client, server) = match round % 2 {
                0 => in_memory(&client, &AcceptOptions::new()),
                _ => both_ends(BEST_OF_BOTH, &client, &AcceptOptions::new()),
            };
            let echo = spawn("server", move || {
                while let Some(message) = server.recv().unwrap() {
                    let _ = server.try_send(&message);
                }
                server.close_code()
            });
            type Call = fn(&WebSocket) -> wsync::Result<()>;
            let calls: [(&str, Call); 8] = [
                ("send", |ws| ws.send("small")),
                ("direct", |ws| ws.send(vec![1; 100_000])),
                ("send_all", |ws| ws.send_all(["a", "b"].repeat(100))),
                ("ping", |ws| ws.ping(b"p")),
                ("send_writer", |ws| {
                    let mut writer = ws.send_writer(MessageKind::Binary)?;
                    let written = writer.write_all(&[2; 50_000]);
                    written.map_err(|error| *error.into_inner().unwrap().downcast::<wsync::Error>().unwrap())?;
                    writer.finish()
                }),
                ("recv", |ws| ws.recv().map(|_| thread::yield_now())),
                ("recv_reader", |ws| {
                    ws.recv_reader()?.map(|mut reader| std::io::copy(&mut reader, &mut std::io::sink()));
                    Ok(())
                }),
                ("close", |_| Ok(())),
            ];
            let start = Arc::new(Barrier::new(calls.len() + 1));
            let jobs: Vec<_> = calls
                .into_iter()
                .map(|(name, call)| {
                    let (ws, start) = (client.clone(), Arc::clone(&start));
                    spawn(name, move || {
                        start.wait();
                        if name == "close" {
                            thread::sleep(Duration::from_millis(30));
                            ws.close(4000, "").unwrap();
                        }
                        while ws.ready_state() != ReadyState::Closed && call(&ws).is_ok() {}
                    })
                })
                .collect();
            start.wait();
            thread::sleep(Duration::from_millis(30));
            let since = Instant::now();
            client.close(4000, "").unwrap();
            // Wine's sockets take several times as long for what is on its way.
            let bound = if cfg!(windows) { LONG } else { SOON };
            assert!(since.elapsed() < bound, "{:?}", since.elapsed());
            jobs.into_iter().for_each(wait_for);
            assert_eq!(wait_for(echo), code(4000));
        });
    }
}

/// The same with an abort, which nothing answers.
#[test]
fn an_abort_ends_every_call_of_other_threads_at_the_worst_moment() {
    for round in 0..40_u64 {
        bounded(move || {
            let (client, server) = in_memory(&options(), &AcceptOptions::new());
            let jobs: Vec<_> = (0..6)
                .map(|number| {
                    let ws = client.clone();
                    spawn("caller", move || {
                        let call = || match number {
                            0 => ws.send(pattern(50_000, 1)),
                            1 => ws.send(wsync::Outgoing::from(&vec![1; 200_000]).uncompressed()),
                            2 => ws.ping(b"p"),
                            3 => ws.recv().map(drop),
                            4 => ws.send_writer(MessageKind::Binary).map(drop),
                            _ => ws.close(1000, ""),
                        };
                        if number < 5 {
                            while call().is_ok() {}
                        } else {
                            thread::sleep(Duration::from_micros(round * 400));
                            let _ = call();
                        }
                    })
                })
                .collect();
            thread::sleep(Duration::from_micros(round * 500));
            let since = Instant::now();
            client.abort();
            assert!(since.elapsed() < SHORT, "{:?}", since.elapsed());
            jobs.into_iter().for_each(wait_for);
            assert_eq!(client.ready_state(), ReadyState::Closed);
            drop(server);
        });
    }
}

/// A large message that another thread is about to send when the close begins never comes behind the close frame; nor
/// between the parts of another one.
#[test]
fn a_direct_message_never_goes_behind_a_close_frame_or_between_parts() {
    for round in 0..if cfg!(windows) { 30 } else { 300_u64 } {
        bounded(move || {
            let (ws, mut peer) = connected(Layer::Plain, &options().close_timeout(Some(LONG)));
            let start = Arc::new(Barrier::new(3));
            let (direct, parts) = (ws.clone(), ws.clone());
            let (direct_start, parts_start) = (Arc::clone(&start), Arc::clone(&start));
            let direct = spawn("direct", move || {
                direct_start.wait();
                while direct.send(vec![1; 70_000]).is_ok() {}
            });
            let parts = spawn("parts", move || {
                parts_start.wait();
                // Wine takes 30 µs for each call in which the peer reads.
                for _ in 0..if cfg!(windows) { 300 } else { usize::MAX } {
                    let Ok(mut writer) = parts.send_writer(MessageKind::Binary) else { break };
                    if writer.write_all(b"begun").and_then(|()| writer.flush()).is_err() {
                        break;
                    }
                    let _ = writer.finish();
                }
            });
            let peer = spawn("peer", move || {
                let mut is_inside = false;
                loop {
                    let frame = peer.frame();
                    if frame.first == CLOSE {
                        break;
                    }
                    assert_eq!(frame.first & 0x0f == 0, is_inside, "{frame:?}");
                    is_inside = frame.first & FIN == 0;
                }
                peer.send(CLOSE, &close_payload(1000, ""));
                peer.end();
                assert_eq!(peer.frames(), [], "behind the close frame");
            });
            start.wait();
            thread::sleep(Duration::from_micros(round * 20));
            ws.close(CloseCode::NORMAL, "").unwrap();
            wait_for(direct);
            wait_for(parts);
            wait_for(peer);
        });
    }
}

#[test]
fn a_send_that_has_failed_for_good_shows_in_the_state() {
    bounded(|| {
        let (ws, _peer) = narrow(&options().send_timeout(Some(Duration::from_millis(50))));
        assert_eq!(kind(ws.send(vec![0; 1 << 20])), Err(ErrorKind::Timeout));
        assert_eq!(ws.ready_state(), ReadyState::Closing);
        assert_eq!(kind(ws.recv_timeout(Duration::from_millis(20))), Err(ErrorKind::Timeout));
        assert_eq!(ws.ready_state(), ReadyState::Closing);
    });
}

/// Without a bound a close waits, and ends with what comes.
#[test]
fn a_close_without_a_bound_waits_for_the_answer() {
    bounded(|| {
        let (ws, mut peer) = connected(Layer::Plain, &options().close_timeout(None));
        let closers: Vec<_> = (0..4)
            .map(|_| {
                let ws = ws.clone();
                spawn("closer", move || kind(ws.close(1000, "")))
            })
            .collect();
        assert_eq!(peer.frame(), Frame::close(1000));
        thread::sleep(SHORT);
        assert!(closers.iter().all(Job::is_running));
        peer.send(CLOSE, &close_payload(1000, ""));
        peer.end();
        for closer in closers {
            assert_eq!(wait_for(closer), Ok(()));
        }
    });
}
