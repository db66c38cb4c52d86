//! A line that moves is never taken for dead, and a dead one always is.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::line::{narrow, relayed};
use crate::support::*;
use wsync::{AcceptOptions, Compression, ErrorKind, ReadyState, WebSocket};

const INTERVAL: Duration = Duration::from_millis(250);

fn pinging(interval: Duration) -> (wsync::ConnectOptions, AcceptOptions) {
    (options().compression(Compression::off()).ping_interval(Some(interval)), AcceptOptions::new())
}

/// Sends one message in each of these directions. Both ends receive, and so answer pings, until all has arrived.
fn exchange(client: &WebSocket, server: &WebSocket, ways: [bool; 2], size: usize) {
    let message = pattern(size, 9);
    let (arrived, is_arrived) = mpsc::channel();
    thread::scope(|scope| {
        for (from, to, is_used) in [(client, server, ways[0]), (server, client, ways[1])] {
            let (message, arrived) = (&message, arrived.clone());
            if is_used {
                scope.spawn(move || from.send(message).unwrap());
            }
            scope.spawn(move || {
                if is_used {
                    assert!(to.recv().unwrap() == binary(message));
                }
                arrived.send(()).unwrap();
                assert_eq!(kind(to.recv()), Ok(text("done")));
            });
        }
        // What a thread that panics has ends the wait.
        drop(arrived);
        assert_eq!(is_arrived.iter().take(2).count(), 2);
        client.send("done").unwrap();
        server.send("done").unwrap();
    });
    assert_eq!((client.ready_state(), server.ready_state()), (ReadyState::Open, ReadyState::Open));
}

#[test]
fn a_large_message_on_a_slow_line_survives_keepalive() {
    let layers = LAYERS_OF_BOTH.iter().copied();
    let ways = [[true, false], [false, true], [true, true]];
    let jobs: Vec<_> = layers
        .flat_map(|layer| ways.map(|ways| (layer, ways)))
        .map(|(layer, ways)| {
            spawn(&format!("{layer:?} {ways:?}"), move || {
                let (client, server) = pinging(INTERVAL);
                let (client, server, _relay) =
                    relayed(layer, &client, &server.ping_interval(Some(INTERVAL)), 1_600_000);
                exchange(&client, &server, ways, 4_000_000);
            })
        })
        .collect();
    jobs.into_iter().for_each(wait_for);
}

/// With the numbers of the complaint; it takes as long as it says.
#[test]
#[ignore = "takes 30 s"]
fn a_large_message_on_a_line_of_400_kb_a_second_survives_a_ping_interval_of_one_second() {
    let jobs = [[true, false], [false, true]].map(|ways| {
        spawn("exchange", move || {
            let (client, server) = pinging(Duration::from_secs(1));
            let (client, server, _relay) = relayed(Layer::Plain, &client, &server, 400_000);
            exchange(&client, &server, ways, 10_000_000);
        })
    });
    jobs.into_iter().for_each(wait_for);
}

/// A record of TLS is decrypted as a whole: on a line that is slow enough, a part of it is all that comes for long.
#[test]
fn a_line_so_slow_that_a_tls_record_takes_longer_than_the_interval_is_not_dead() {
    bounded(|| {
        let (client, server) = pinging(Duration::from_millis(400));
        let (client, server, _relay) = relayed(BEST_OF_BOTH, &client, &server, 16_000);
        let message = pattern(40_000, 3);
        thread::scope(|scope| {
            scope.spawn(|| server.send(&message).unwrap());
            scope.spawn(|| kind(server.recv()));
            assert!(client.recv().unwrap() == binary(&message));
            client.abort();
        });
    });
}

#[test]
fn a_peer_that_is_gone_is_noticed_idle_and_while_a_message_is_under_way() {
    for is_sending in [false, true] {
        bounded(move || {
            let (client, server) = pinging(INTERVAL);
            let (client, server, relay) = relayed(Layer::Plain, &client, &server, 4_000_000);
            let sender = client.clone();
            let sender = spawn("sender", move || {
                if is_sending {
                    let _ = sender.send(vec![0; 40 << 20]);
                }
            });
            let receiver = server.clone();
            let receiver = spawn("receiver", move || kind(receiver.recv()));
            let started = Instant::now();
            let cutter = spawn("cutter", move || {
                thread::sleep(INTERVAL * 3);
                relay.cut();
                relay
            });
            let error = client.recv().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unresponsive, "{error}");
            assert!(started.elapsed() >= INTERVAL * 3 && started.elapsed() < Duration::from_secs(10));
            wait_for(sender);
            drop(wait_for(cutter));
            server.abort();
            assert_eq!(wait_for(receiver), Err(ErrorKind::Closed));
        });
    }
}

/// Bytes that the peer takes are life only while the ping waits behind them.
#[test]
fn a_peer_that_reads_and_never_answers_is_dropped() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = match side {
            Side::Client => connected(layer, &options().ping_interval(Some(INTERVAL))),
            Side::Server => accepted(layer, &AcceptOptions::new().ping_interval(Some(INTERVAL))),
        };
        let sender = ws.clone();
        let sender = spawn("sender", move || {
            while sender.send("tick").is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let peer = spawn("peer", move || peer.frames().len());
        let started = Instant::now();
        assert_eq!(kind(ws.recv()), Err(ErrorKind::Unresponsive));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        wait_for(sender);
        assert!(wait_for(peer) > 2);
    });
}

#[test]
fn the_pong_has_a_timeout_of_its_own() {
    const SHORT: Duration = Duration::from_millis(100);
    on_every_pair(|side, layer| {
        let started = Instant::now();
        let (ws, mut peer) = match side {
            Side::Client => connected(layer, &options().ping_interval(Some(SHORT)).pong_timeout(Some(INTERVAL * 2))),
            Side::Server => {
                accepted(layer, &AcceptOptions::new().ping_interval(Some(SHORT)).pong_timeout(Some(INTERVAL * 2)))
            }
        };
        let error = ws.recv().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unresponsive, "{error}");
        assert!(error.to_string().contains("500ms (pong_timeout)"), "{error}");
        assert!(started.elapsed() >= SHORT + INTERVAL * 2, "{:?}", started.elapsed());
        assert_eq!(peer.frame().first, PING);
    });
    // Without keepalive it means nothing, and zero is refused as for the other bounds.
    let (ws, _peer) = connected(Layer::Plain, &options().pong_timeout(Some(SHORT)));
    assert_eq!(kind(ws.recv_timeout(SHORT * 3)), Err(ErrorKind::Timeout));
    assert_eq!(ws.ready_state(), ReadyState::Open);
    ws.set_ping_interval(Duration::from_secs(60));
    assert_eq!(kind(ws.recv_timeout(SHORT * 3)), Err(ErrorKind::Timeout));
    assert_eq!(ws.ready_state(), ReadyState::Open);
    let error = options().pong_timeout(Some(Duration::ZERO)).connect("ws://127.0.0.1:1/").unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("pong_timeout"), "{error}");
}

/// After the close frame nothing can be pinged any more: `close_timeout` is the bound.
#[test]
fn keepalive_does_not_cut_the_wait_for_the_answer_to_a_close() {
    on_every_pair(|side, layer| {
        let interval = Duration::from_millis(50);
        let (ws, mut peer) = match side {
            Side::Client => connected(layer, &options().ping_interval(Some(interval))),
            Side::Server => accepted(layer, &AcceptOptions::new().ping_interval(Some(interval))),
        };
        let peer = spawn("peer", move || {
            assert_eq!(peer.frame(), Frame::close(1000));
            thread::sleep(interval * 8);
            peer.send(CLOSE, &close_payload(4000, "late"));
            peer.end();
            peer.frames()
        });
        ws.close(1000, "").unwrap();
        assert_eq!(ws.close_code(), code(4000));
        assert_eq!(wait_for(peer), []);
    });
}

/// A ping of the program's own waits to leave when the keepalive's is due.
#[test]
fn a_waiting_ping_of_the_programs_own_does_not_switch_keepalive_off() {
    bounded(|| {
        let (ws, mut peer) = narrow(&options().ping_interval(Some(INTERVAL)));
        let (sender, pinger, ticker) = (ws.clone(), ws.clone(), ws.clone());
        let sender = spawn("sender", move || sender.send(pattern(1 << 20, 1)));
        peer.wait_for_bytes();
        let pinger = spawn("pinger", move || pinger.ping(b"own"));
        // The keepalive's falls due while nothing moves.
        assert_eq!(kind(ws.recv_timeout(INTERVAL * 3 / 2)), Err(ErrorKind::Timeout));
        assert_eq!(ws.ready_state(), ReadyState::Open);
        let peer = spawn("peer", move || peer.frames().len());
        let ticker = spawn("ticker", move || {
            while ticker.send("tick").is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(kind(ws.recv_timeout(Duration::from_secs(20))), Err(ErrorKind::Unresponsive));
        assert_eq!(ws.close_code(), code(1001), "no pong came");
        wait_for(sender).unwrap();
        wait_for(pinger).unwrap();
        wait_for(ticker);
        wait_for(peer);
    });
}

#[test]
fn changing_the_interval_very_often_queues_nothing_without_bound() {
    bounded(|| {
        let (ws, mut peer) = narrow(&options());
        let started = Instant::now();
        for round in 0..100_000 {
            ws.set_ping_interval(Duration::from_secs(60 + round % 2));
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        ws.try_send("end").unwrap();
        let mut bytes = 0;
        let last = loop {
            let frame = peer.frame();
            if frame.first != PING {
                break frame;
            }
            bytes += 6 + frame.payload.len();
        };
        assert_eq!(last, Frame::new(FIN | TEXT, b"end"));
        // What fits in the buffers of the system.
        assert!(bytes < 1 << 20, "{bytes}");
    });
}
