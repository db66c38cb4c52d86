//! The closing handshake from either side in either role, peers that do not follow it, and `abort`.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::support::*;
use wsync::{AcceptOptions, CloseCode, ErrorKind, ReadyState, WebSocket};

const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// A pair with `close_timeout` set to [`CLOSE_TIMEOUT`].
fn short_close_timeout_pair(side: Side, layer: Layer) -> (WebSocket, Peer) {
    match side {
        Side::Client => connected(layer, &options().close_timeout(Some(CLOSE_TIMEOUT)).max_message_size(usize::MAX)),
        Side::Server => {
            accepted(layer, &AcceptOptions::new().close_timeout(Some(CLOSE_TIMEOUT)).max_message_size(usize::MAX))
        }
    }
}

/// A peer that waits for a close frame, answers it with this code, and then ends. Returns all frames that it read.
fn closing_peer(side: Side, mut peer: Peer, code: u16) -> Job<Vec<Frame>> {
    spawn("peer", move || {
        let mut frames = Vec::new();
        while frames.last().is_none_or(|frame: &Frame| frame.first != CLOSE) {
            frames.push(peer.frame());
        }
        peer.send(CLOSE, &close_payload(code, "the peer's"));
        if side == Side::Client {
            peer.end();
        }
        frames.extend(peer.frames());
        frames
    })
}

#[test]
fn closing_from_this_side_completes_the_handshake() {
    on_every_pair(|side, layer| {
        let (ws, peer) = pair(side, layer);
        ws.send("before").unwrap();
        let peer = closing_peer(side, peer, 4002);
        ws.close(4001, "ours").unwrap();
        assert_eq!(ws.ready_state(), ReadyState::Closed);
        assert_eq!((ws.close_code(), ws.close_reason()), (code(4002), Some("the peer's")));
        assert_eq!((kind(ws.recv()), kind(ws.try_recv())), (Ok(None), Ok(None)));
        assert_eq!(kind(ws.send("after")), Err(ErrorKind::Closed));
        // A second close succeeds and sends nothing.
        ws.close(CloseCode::NORMAL, "again").unwrap();
        let expected = [Frame::new(FIN | TEXT, b"before"), Frame::new(CLOSE, &close_payload(4001, "ours"))];
        assert_eq!(wait_for(peer), expected);
    });
}

#[test]
fn closing_from_the_peers_side_completes_the_handshake() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        peer.send(FIN | TEXT, b"before");
        peer.send(CLOSE, &close_payload(4003, "bye"));
        assert_eq!(kind(ws.recv()), Ok(text("before")));
        assert_eq!((ws.ready_state(), ws.close_code()), (ReadyState::Open, None));
        assert_eq!(kind(ws.recv()), Ok(None));
        assert_eq!((ws.close_code(), ws.close_reason()), (code(4003), Some("bye")));
        assert_eq!(ws.ready_state(), ReadyState::Closed);
        ws.close(CloseCode::NORMAL, "").unwrap();
        assert_eq!(peer.frames(), [Frame::new(CLOSE, &close_payload(4003, "bye"))], "code and reason are echoed");
    });
}

#[test]
fn both_sides_may_close_at_once() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        peer.send(CLOSE, &close_payload(4004, ""));
        peer.cut();
        ws.close(4005, "").unwrap();
        assert_eq!(ws.close_code(), code(4004));
        // One close frame, with the code of whichever close this side processed first.
        let frames = peer.frames();
        assert!(frames == [Frame::close(4005)] || frames == [Frame::close(4004)], "{frames:?}");
    });
}

#[test]
fn close_ends_another_threads_receive() {
    on_every_pair(|side, layer| {
        for wait in [None, Some(Duration::from_secs(60))] {
            let (ws, mut peer) = pair(side, layer);
            let receiver = ws.clone();
            let receiver = spawn("receiver", move || {
                kind(wait.map_or_else(|| receiver.recv(), |wait| receiver.recv_timeout(wait)))
            });
            wait_for_receiver(&mut peer);
            let peer = closing_peer(side, peer, 1000);
            ws.close(1000, "").unwrap();
            assert_eq!(wait_for(receiver), Ok(None));
            assert_eq!((ws.close_code(), ws.ready_state()), (code(1000), ReadyState::Closed));
            assert_eq!(wait_for(peer), [Frame::close(1000)]);
        }
    });
}

/// There is one closing handshake, and no call waits longer than it takes.
#[test]
fn many_threads_may_close_at_once() {
    on_every_pair(|side, layer| {
        for _ in 0..20 {
            let (ws, peer) = pair(side, layer);
            let start = Arc::new(Barrier::new(8));
            let closers: Vec<_> = (0..8)
                .map(|number| {
                    let (ws, start) = (ws.clone(), start.clone());
                    let name = if number % 2 == 0 { "close" } else { "recv" };
                    let job = spawn(name, move || {
                        start.wait();
                        let since = Instant::now();
                        match name {
                            "close" => ws.close(1000, "").unwrap(),
                            _ => assert_eq!(kind(ws.recv()), Ok(None)),
                        }
                        since.elapsed()
                    });
                    (name, job)
                })
                .collect();
            let peer = closing_peer(side, peer, 1000);
            for (name, closer) in closers {
                let took = wait_for(closer);
                // close_timeout is 5 s: a call that takes that long has missed the end.
                assert!(took < Duration::from_secs(4), "{took:?} for {name}");
            }
            assert_eq!(wait_for(peer), [Frame::close(1000)]);
        }
    });
}

/// Messages that the peer sends between our close frame and its own can be received after `close`.
#[test]
fn messages_that_arrive_while_closing_are_received_afterwards() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        peer.send(FIN | TEXT, b"on its way");
        let peer = spawn("peer", move || {
            assert_eq!(peer.frame(), Frame::close(1000));
            peer.send(TEXT, b"in ");
            peer.send(PING, b"not answered any more");
            peer.send(FIN, b"pieces");
            peer.send(FIN | BINARY, &[b'x'; 100_000]);
            peer.send(CLOSE, &close_payload(1000, ""));
            if side == Side::Client {
                peer.end();
            }
            peer.frames()
        });
        ws.close(1000, "").unwrap();
        assert_eq!(ws.close_code(), code(1000));
        assert_eq!(kind(ws.recv()), Ok(text("on its way")));
        assert_eq!(kind(ws.try_recv()), Ok(text("in pieces")));
        assert_eq!(kind(ws.recv_timeout(CLOSE_TIMEOUT)), Ok(binary(&[b'x'; 100_000])));
        assert_eq!(kind(ws.recv()), Ok(None));
        assert_eq!(wait_for(peer), []);
    });
}

/// A peer that never sends a close frame: `close` fails after `close_timeout`, and the connection is closed.
#[test]
fn close_timeout_ends_the_wait_for_the_peers_close_frame() {
    on_every_pair(|side, layer| {
        /// Starts a message, and sends this frame until the connection ends.
        fn send_until_the_end(peer: &mut Peer, first: u8, payload: &[u8]) {
            peer.send(BINARY, b"");
            let frame = if peer.is_client { masked(first, payload) } else { frame(first, payload) };
            while peer.try_write(&frame).is_ok() {}
        }
        type Script = fn(&mut Peer);
        let scripts: [(&str, Script); 5] = [
            ("silent", |_| ()),
            ("half an answer", |peer| peer.write(b"\x88")),
            ("pings", |peer| send_until_the_end(peer, PING, b"p")),
            ("messages", |peer| (peer.send(BINARY, b""), peer.send(FIN, b""), send_messages_until_the_end(peer)).2),
            ("an endless message", |peer| send_until_the_end(peer, 0, &[0; 1000])),
        ];
        fn send_messages_until_the_end(peer: &mut Peer) {
            let frame = if peer.is_client { masked(FIN | TEXT, b"x") } else { frame(FIN | TEXT, b"x") };
            while peer.try_write(&frame).is_ok() {}
        }
        for (name, script) in scripts {
            let (ws, mut peer) = short_close_timeout_pair(side, layer);
            let sender = spawn(name, move || {
                script(&mut peer);
                peer
            });
            let start = Instant::now();
            let error = ws.close(1000, "").expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Timeout, "{name}: {error}");
            assert!(error.to_string().contains("close_timeout"), "{name}: {error}");
            assert!(
                start.elapsed() >= CLOSE_TIMEOUT && start.elapsed() < Duration::from_secs(10),
                "{name}: {:?}",
                start.elapsed()
            );
            assert_eq!((ws.close_code(), ws.ready_state()), (code(1006), ReadyState::Closed), "{name}");
            let mut end = kind(ws.try_recv());
            while let Ok(Some(_)) = end {
                end = kind(ws.try_recv());
            }
            assert!(!matches!(end, Ok(None) | Err(ErrorKind::Timeout)), "{name}: {end:?}");
            assert_eq!(kind(ws.send("x")), Err(ErrorKind::Closed), "{name}");
            drop(ws);
            wait_for(sender).rest();
        }
    });
}

/// The closing handshake is complete, so the end is clean although the peer keeps the TCP connection open.
#[test]
fn close_succeeds_when_the_peer_answers_but_keeps_tcp_open() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = short_close_timeout_pair(side, layer);
        peer.send(CLOSE, &close_payload(1000, ""));
        let start = Instant::now();
        ws.close(1000, "").unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!((kind(ws.recv()), ws.close_code()), (Ok(None), code(1000)));
        assert_eq!(peer.frames(), [Frame::close(1000)]);
    });
}

/// A receiving call returns the end before TCP ends. Only `close` waits for that.
#[test]
fn receivers_do_not_wait_for_the_end_of_tcp() {
    on_every_layer(|layer| {
        let (ws, mut peer) = connected(layer, &options().close_timeout(Some(Duration::from_secs(40))));
        let closer = ws.clone();
        let closer = spawn("closer", move || closer.close(1000, "").unwrap());
        assert_eq!(peer.frame(), Frame::close(1000));
        let receiver = ws.clone();
        let receiver = spawn("receiver", move || [kind(receiver.recv()), kind(receiver.recv())]);
        peer.send(FIN | TEXT, b"the last");
        peer.send(CLOSE, &close_payload(1000, ""));
        assert_eq!(wait_for(receiver), [Ok(text("the last")), Ok(None)]);
        assert_eq!((kind(ws.try_recv()), kind(ws.recv())), (Ok(None), Ok(None)));
        assert!(closer.is_running());
        peer.end();
        wait_for(closer);
    });
}

/// Threads send during a close: all frames before the close frame are complete, and nothing follows it.
#[test]
fn nothing_follows_the_close_frame() {
    on_every_pair(|side, layer| {
        for _ in 0..10 {
            let (ws, peer) = pair(side, layer);
            let senders: Vec<_> = [1, 1000, 70_000]
                .map(|length| {
                    let ws = ws.clone();
                    spawn("sender", move || {
                        while ws.send(vec![b'x'; length]).is_ok() {}
                        kind(ws.send("more"))
                    })
                })
                .into();
            let peer = closing_peer(side, peer, 1000);
            ws.close(1000, "").unwrap();
            for sender in senders {
                assert_eq!(wait_for(sender), Err(ErrorKind::Closed));
            }
            let frames = wait_for(peer);
            let (close, data) = frames.split_last().unwrap();
            assert_eq!(*close, Frame::close(1000));
            assert!(data.iter().all(|frame| frame.first == FIN | BINARY && frame.payload.iter().all(|&x| x == b'x')));
        }
    });
}

/// The receiver returns the end without waiting for the blocked send, and the send fails.
#[test]
fn the_end_of_the_connection_ends_a_blocked_send() {
    on_every_pair(|side, layer| {
        type Case<'a> = (u8, &'a [u8], Result<(), ErrorKind>, u16);
        let cases: [Case; 2] = [(CLOSE, &[3, 232], Ok(()), 1000), (0x83, b"", Err(ErrorKind::Protocol), 1006)];
        for (first, payload, end, shown) in cases {
            let (ws, mut peer) = pair(side, layer);
            let sender = ws.clone();
            let sender = spawn("sender", move || kind(sender.send(vec![0; 12 << 20])));
            peer.wait_until_full();
            peer.send(first, payload);
            let since = Instant::now();
            assert_eq!(kind(ws.recv()), end.map(|()| None));
            assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
            assert!(matches!(wait_for(sender), Err(ErrorKind::Closed | ErrorKind::Io)));
            assert_eq!((ws.close_code(), ws.ready_state()), (code(shown), ReadyState::Closed));
        }
    });
}

/// A client waits for the server to end TCP, a server ends it immediately (RFC 6455 §7.1.1).
#[test]
fn the_server_ends_tcp_first() {
    bounded(|| {
        let (ws, mut peer) = connected(Layer::Plain, &options());
        let closer = ws.clone();
        let closer = spawn("closer", move || closer.close(1000, "").unwrap());
        assert_eq!(peer.frame(), Frame::close(1000));
        peer.send(CLOSE, &close_payload(1000, ""));
        peer.tcp().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(peer.tcp().peek(&mut [0]).is_err(), "the client ended first");
        assert!(closer.is_running());
        peer.end();
        wait_for(closer);

        let (ws, mut peer) = accepted(Layer::Plain, &AcceptOptions::new());
        peer.send(CLOSE, &close_payload(1000, ""));
        ws.close(1000, "").unwrap();
        assert_eq!(peer.frames(), [Frame::close(1000)]);
    });
}

#[test]
fn close_timeout_ends_a_blocked_send() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = short_close_timeout_pair(side, layer);
        let sender = ws.clone();
        let sender = spawn("sender", move || kind(sender.send(vec![0; 12 << 20])));
        peer.wait_until_full();
        assert_eq!(kind(ws.close(1000, "")), Err(ErrorKind::Timeout));
        assert!(matches!(wait_for(sender), Err(ErrorKind::Closed | ErrorKind::Io)));
        assert_eq!((ws.close_code(), ws.ready_state()), (code(1006), ReadyState::Closed));
    });
}

#[test]
fn close_after_the_end_succeeds() {
    on_every_pair(|side, layer| {
        type End = fn(&WebSocket, &mut Peer);
        let ends: [(End, u16); 4] = [
            (|ws, _| ws.abort(), 1006),
            (|ws, peer| (peer.cut(), drop(ws.recv())).1, 1006),
            (|ws, peer| (peer.write(&[0xff; 2]), drop(ws.recv())).1, 1006),
            (|ws, peer| (peer.send(CLOSE, b""), drop(ws.recv())).1, 1005),
        ];
        for (end, shown) in ends {
            let (ws, mut peer) = pair(side, layer);
            end(&ws, &mut peer);
            ws.close(CloseCode::NORMAL, "").unwrap();
            assert_eq!((ws.close_code(), ws.ready_state()), (code(shown), ReadyState::Closed));
        }
    });
}

/// After our close frame is out, any end is an end; `close_code` tells that no close frame came. If it cannot be sent, `close`
/// says so.
#[test]
fn a_peer_that_goes_instead_of_answering_ends_the_closing() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        peer.end();
        ws.close(CloseCode::NORMAL, "").unwrap();
        assert_eq!((kind(ws.recv()), ws.close_code()), (Ok(None), code(1006)));

        let (ws, peer) = pair(side, layer);
        ws.send("unread").unwrap();
        peer.reset();
        let error = ws.close(CloseCode::NORMAL, "").unwrap_err();
        assert_eq!((error.kind(), ws.close_code()), (ErrorKind::Io, code(1006)), "{error}");
    });
}

#[test]
fn dropping_the_last_handle_sends_going_away() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let other = ws.clone();
        drop(ws);
        other.send("still here").unwrap();
        drop(other);
        assert_eq!(peer.frames(), [Frame::new(FIN | TEXT, b"still here"), Frame::close(1001)]);

        // Dropping never waits, not even for a peer that reads nothing.
        let (ws, mut peer) = pair(side, layer);
        let sender = ws.clone();
        let sender = spawn("sender", move || kind(sender.send(vec![0; 12 << 20])));
        peer.wait_until_full();
        ws.abort();
        wait_for(sender).unwrap_err();
        drop(ws);
    });
}

/// `abort` immediately ends the blocking calls of all threads.
#[test]
fn abort_ends_every_blocked_call() {
    on_every_pair(|side, layer| {
        type Call = fn(&WebSocket) -> wsync::Result<()>;
        let calls: [(&str, Call); 5] = [
            ("recv", |ws| ws.recv().map(drop)),
            ("recv_timeout", |ws| ws.recv_timeout(Duration::from_secs(60)).map(drop)),
            ("another recv", |ws| ws.recv().map(drop)),
            ("messages", |ws| ws.messages().try_for_each(|message| message.map(drop))),
            ("send", |ws| ws.send(vec![0; 12 << 20])),
        ];
        let (ws, mut peer) = pair(side, layer);
        let run = |(name, call): (&str, Call)| {
            let ws = ws.clone();
            spawn(name, move || kind(call(&ws)))
        };
        let [receivers @ .., (_, send)] = calls;
        let mut jobs: Vec<_> = receivers.into_iter().map(run).collect();
        wait_for_receiver(&mut peer);
        jobs.push(run(("send", send)));
        peer.wait_until_full();
        assert!(jobs.iter().all(Job::is_running));
        ws.abort();
        for job in jobs {
            assert_eq!(wait_for(job), Err(ErrorKind::Closed));
        }
        assert_eq!((ws.close_code(), ws.ready_state()), (code(1006), ReadyState::Closed));
        assert_eq!((kind(ws.recv()), kind(ws.try_recv())), (Err(ErrorKind::Closed), Err(ErrorKind::Closed)));
        peer.tcp().set_nonblocking(false).unwrap();
    });
}

#[test]
fn abort_ends_a_close() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = match side {
            Side::Client => connected(layer, &options().close_timeout(None)),
            Side::Server => accepted(layer, &AcceptOptions::new().close_timeout(None)),
        };
        let closer = ws.clone();
        let closer = spawn("closer", move || kind(closer.close(1000, "")));
        assert_eq!(peer.frame(), Frame::close(1000));
        assert_eq!(ws.ready_state(), ReadyState::Closing);
        ws.abort();
        assert_eq!(wait_for(closer), Err(ErrorKind::Closed));
        assert_eq!(peer.rest(), b"");
    });
}

/// The peer sees the end of TCP without a close frame.
#[test]
fn abort_sends_no_close_frame() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        ws.abort();
        ws.abort();
        assert_eq!(peer.frames(), []);
        assert_eq!(kind(ws.close(CloseCode::NORMAL, "")), Ok(()));
    });
}
