//! Keepalive: when pings are sent, what follows a missing pong, and the latency.

use std::time::{Duration, Instant};

use crate::support::*;
use wsync::{AcceptOptions, ErrorKind, ReadyState, WebSocket};

const INTERVAL: Duration = Duration::from_millis(250);
/// Longer than keepalive may take, and shorter than any other timeout.
const LATE: Duration = Duration::from_secs(4);

fn keepalive_pair(side: Side, layer: Layer) -> (WebSocket, Peer) {
    match side {
        Side::Client => connected(layer, &options().ping_interval(Some(INTERVAL))),
        Side::Server => accepted(layer, &AcceptOptions::new().ping_interval(Some(INTERVAL))),
    }
}

fn assert_keepalive_timeout(ws: &WebSocket, since: Instant) {
    let error = ws.recv().unwrap_err();
    let took = since.elapsed();
    assert_eq!(error.kind(), ErrorKind::Unresponsive, "{error}");
    assert!(error.to_string().contains("ping_interval"), "{error}");
    assert!(took >= INTERVAL && took < LATE, "{took:?}");
    assert_eq!((ws.close_code(), ws.ready_state()), (code(1001), ReadyState::Closed));
    // The connection has ended, so every later call returns the same error.
    assert_eq!((kind(ws.recv()), kind(ws.try_recv())), (Err(ErrorKind::Unresponsive), Err(ErrorKind::Unresponsive)));
    assert_eq!(kind(ws.send("x")), Err(ErrorKind::Closed));
}

#[test]
fn a_peer_that_never_answers_pings_is_disconnected() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = keepalive_pair(side, layer);
        assert_eq!(ws.ping_interval(), Some(INTERVAL));
        assert_keepalive_timeout(&ws, Instant::now());
        assert_eq!(ws.latency(), None);
        // There was one ping, and the close frame.
        let frames = peer.frames();
        assert!(
            matches!(&frames[..], [ping, close] if ping.first == PING && *close == Frame::close(1001)),
            "{frames:?}"
        );
    });
}

#[test]
fn other_traffic_does_not_replace_a_pong() {
    on_every_layer(|layer| {
        let (ws, mut peer) = keepalive_pair(Side::Client, layer);
        let since = Instant::now();
        let chatter = spawn("chatter", move || {
            while peer.try_write(&[frame(PONG, b"unsolicited"), frame(FIN | TEXT, b"x")].concat()).is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        while let Ok(message) = ws.recv() {
            assert_eq!(message, text("x"));
        }
        assert_keepalive_timeout(&ws, since);
        drop(ws);
        wait_for(chatter);
    });
}

#[test]
fn a_peer_that_answers_is_pinged_again() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = keepalive_pair(side, layer);
        let receiver = ws.clone();
        let receiver = spawn("receiver", move || kind(receiver.recv()));
        let mut payloads = std::collections::HashSet::new();
        let start = Instant::now();
        for _ in 0..4 {
            let ping = peer.frame();
            assert_eq!(ping.first, PING);
            assert!(payloads.insert(ping.payload.clone()), "the same ping twice");
            peer.send(PONG, &ping.payload);
        }
        assert!(start.elapsed() >= INTERVAL * 4, "{:?}", start.elapsed());
        peer.send(FIN | TEXT, b"alive");
        assert_eq!(wait_for(receiver), Ok(text("alive")));
        assert!(ws.latency().is_some_and(|latency| latency < LATE));
        assert_eq!(ws.close_code(), None);
    });
}

/// No thread received while the pong was in the socket. It still counts.
#[test]
fn a_pong_that_was_not_read_in_time_counts() {
    on_every_layer(|layer| {
        let (ws, mut peer) = keepalive_pair(Side::Client, layer);
        assert_eq!(kind(ws.recv_timeout(INTERVAL * 3 / 2)), Err(ErrorKind::Timeout));
        let ping = peer.frame();
        peer.send(FIN | TEXT, b"first");
        peer.send(PONG, &ping.payload);
        peer.send(FIN | TEXT, b"second");
        std::thread::sleep(INTERVAL * 2);
        assert_eq!((kind(ws.recv()), kind(ws.recv())), (Ok(text("first")), Ok(text("second"))));
        assert_eq!((ws.close_code(), ws.ready_state()), (None, ReadyState::Open));
    });
}

/// While a send is blocked, the receiver still detects the missing pong, and the send fails.
#[test]
fn a_blocked_send_does_not_delay_keepalive() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = keepalive_pair(side, layer);
        let sender = ws.clone();
        let sender = spawn("sender", move || kind(sender.send(vec![0; 12 << 20])));
        peer.wait_until_full();
        assert!(sender.is_running());
        assert_keepalive_timeout(&ws, Instant::now() - INTERVAL);
        assert!(matches!(wait_for(sender), Err(ErrorKind::Closed | ErrorKind::Io | ErrorKind::Unresponsive)));
    });
}

/// A blocked receiver uses the new interval.
#[test]
fn the_interval_may_be_set_while_another_thread_receives() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        assert_eq!(ws.ping_interval(), None);
        let receiver = ws.clone();
        let receiver = spawn("receiver", move || kind(receiver.recv()));
        wait_for_receiver(&mut peer);
        ws.set_ping_interval(INTERVAL);
        let start = Instant::now();
        for _ in 0..3 {
            let ping = peer.frame();
            assert_eq!(ping.first, PING);
            peer.send(PONG, &ping.payload);
        }
        assert!(start.elapsed() < LATE, "{:?}", start.elapsed());
        // From now on the peer sends nothing.
        assert_eq!(wait_for(receiver), Err(ErrorKind::Unresponsive));
        assert_eq!(ws.close_code(), code(1001));
    });
}

/// Without arriving data, the receiver notices the new interval at the end of its current socket wait.
#[test]
fn the_interval_may_be_set_while_another_thread_receives_from_a_silent_peer() {
    bounded(|| {
        let (ws, mut peer) = connected(Layer::Plain, &options());
        let receiver = ws.clone();
        let receiver = spawn("receiver", move || kind(receiver.recv()));
        wait_for_receiver(&mut peer);
        ws.set_ping_interval(INTERVAL);
        assert_eq!(wait_for(receiver), Err(ErrorKind::Unresponsive));
    });
}

#[test]
fn an_interval_of_none_or_zero_turns_keepalive_off() {
    on_every_layer(|layer| {
        for off in [None, Some(Duration::ZERO)] {
            let (ws, mut peer) = keepalive_pair(Side::Client, layer);
            assert_eq!(kind(ws.recv_timeout(INTERVAL * 3 / 2)), Err(ErrorKind::Timeout));
            assert_eq!(peer.frame().first, PING);
            ws.set_ping_interval(off);
            assert_eq!(ws.ping_interval(), None);
            assert_eq!(kind(ws.recv_timeout(INTERVAL * 3)), Err(ErrorKind::Timeout));
            assert_eq!(ws.ready_state(), ReadyState::Open);
            drop(ws);
            assert_eq!(peer.frames(), [Frame::close(1001)]);
        }
    });
}

/// `try_recv` sends pings and detects missing pongs too.
#[test]
fn keepalive_works_with_try_recv() {
    on_every_layer(|layer| {
        let (ws, mut peer) = keepalive_pair(Side::Client, layer);
        let start = Instant::now();
        while ws.ready_state() == ReadyState::Open {
            assert!(matches!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock | ErrorKind::Unresponsive)));
            assert!(start.elapsed() < LATE);
        }
        assert_keepalive_timeout(&ws, start);
        assert_eq!(peer.frame().first, PING);
    });
}

#[test]
fn latency_is_that_of_the_answered_ping() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        assert_eq!(ws.latency(), None);
        let start = Instant::now();
        ws.ping(b"one").unwrap();
        ws.ping(b"two").unwrap();
        assert_eq!((peer.frame(), peer.frame()), (Frame::new(PING, b"one"), Frame::new(PING, b"two")));
        peer.send(PONG, b"other");
        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
        assert_eq!(ws.latency(), None);
        let wait = Duration::from_millis(20);
        std::thread::sleep(wait);
        peer.send(PONG, b"two");
        assert_eq!(kind(ws.recv_timeout(wait)), Err(ErrorKind::Timeout));
        let latency = ws.latency().unwrap();
        assert!(latency >= wait && latency <= start.elapsed(), "{latency:?}");
        // Pongs for an older ping, and second pongs, are ignored.
        peer.send(PONG, b"one");
        peer.send(PONG, b"two");
        assert_eq!(kind(ws.recv_timeout(wait)), Err(ErrorKind::Timeout));
        assert_eq!(ws.latency(), Some(latency));
    });
}
