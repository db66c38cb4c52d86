//! `send_timeout` counts standing still, and who waits for the writer gets it in turn.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::line::{in_memory, narrow, relayed};
use crate::support::*;
use wsync::{AcceptOptions, Compression, ConnectOptions, ErrorKind, MessageKind, ReadyState, WebSocket};

const TIMEOUT: Duration = Duration::from_millis(300);

fn short() -> ConnectOptions {
    options().compression(Compression::off()).send_timeout(Some(TIMEOUT))
}

#[test]
fn behind_a_large_message_on_a_line_that_moves_a_send_does_not_fail() {
    on_layers_of_both(|layer| {
        let server = AcceptOptions::new();
        let (ws, server, _relay) = relayed(layer, &short(), &server, 1_500_000);
        let large = pattern(6 << 20, 1);
        thread::scope(|scope| {
            scope.spawn(|| ws.send(&large).unwrap());
            thread::sleep(Duration::from_millis(20));
            let since = Instant::now();
            // A direct one waits for the writer, and small ones for room.
            scope.spawn(|| ws.send(&large[..100_000]).unwrap());
            for number in 0..4 {
                let ws = &ws;
                scope.spawn(move || {
                    for _ in 0..10 {
                        ws.send(pattern(60_000, number)).unwrap();
                    }
                });
            }
            for _ in 0..42 {
                server.recv().unwrap().unwrap();
            }
            assert!(since.elapsed() > TIMEOUT * 2, "the line is not slow");
        });
    });
}

#[test]
fn behind_an_open_writer_that_flushes_a_send_waits_and_behind_an_idle_one_it_fails() {
    for (kind_of, compression) in
        [(MessageKind::Binary, Compression::off()), (MessageKind::Text, Compression::default())]
    {
        bounded(move || {
            let (client, server) = in_memory(&short().compression(compression.clone()), &AcceptOptions::new());
            let reader = spawn("reader", move || while let Ok(Some(_)) = server.recv() {});
            let mut message = client.send_writer(kind_of).unwrap();
            message.write_all(b"begun").unwrap();
            message.flush().unwrap();
            // Each way of sending: small, direct, compressed, another writer.
            let waiting: Vec<_> = [10, 100_000, 5000]
                .into_iter()
                .map(|length| {
                    let ws = client.clone();
                    spawn("waiting", move || ws.send("x".repeat(length)))
                })
                .collect();
            let ws = client.clone();
            let other = spawn("writer", move || ws.send_writer(MessageKind::Text)?.finish());
            for _ in 0..15 {
                thread::sleep(TIMEOUT / 5);
                message.write_all(b"more").unwrap();
                message.flush().unwrap();
            }
            assert!(waiting.iter().all(Job::is_running) && other.is_running());
            message.finish().unwrap();
            waiting.into_iter().for_each(|sender| wait_for(sender).unwrap());
            wait_for(other).unwrap();

            let mut idle = client.send_writer(MessageKind::Binary).unwrap();
            idle.write_all(b"begun").unwrap();
            idle.flush().unwrap();
            let ws = client.clone();
            let since = Instant::now();
            assert_eq!(kind(wait_for(spawn("behind an idle one", move || ws.send("x")))), Err(ErrorKind::Timeout));
            assert!(since.elapsed() >= TIMEOUT && since.elapsed() < TIMEOUT * 10, "{:?}", since.elapsed());
            // That message was never begun, so the connection goes on.
            idle.finish().unwrap();
            client.send("next").unwrap();
            client.close(1000, "").unwrap();
            wait_for(reader);
        });
    }
}

/// Counted by what is sent in between, not by a clock.
#[test]
fn a_direct_send_gets_its_turn_among_busy_small_senders() {
    for &layer in LAYERS_OF_BOTH {
        bounded(move || {
            let (ws, server) = both_ends(layer, &options().compression(Compression::off()), &AcceptOptions::new());
            let sent = Arc::new(AtomicU64::new(0));
            let is_over = Arc::new(AtomicBool::new(false));
            let others: Vec<_> = (0..4)
                .map(|_| {
                    let (ws, sent, is_over) = (ws.clone(), Arc::clone(&sent), Arc::clone(&is_over));
                    spawn("small", move || {
                        while !is_over.load(Ordering::Relaxed) {
                            ws.send(&[1; 1000]).unwrap();
                            sent.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let receiver = spawn("receiver", move || {
                let mut small = 0_u64;
                let mut places = Vec::new();
                while let Some(message) = server.recv().unwrap() {
                    match message.len() {
                        1000 => small += 1,
                        _ => places.push((message.as_bytes()[..8].to_vec(), small)),
                    }
                }
                places
            });
            for _ in 0..30 {
                let mut message = vec![0; 100 << 10];
                message[..8].copy_from_slice(&sent.load(Ordering::Relaxed).to_le_bytes());
                ws.send(&message).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            others.into_iter().for_each(wait_for);
            ws.close(1000, "").unwrap();
            let between = wait_for(receiver).into_iter().map(|(sent, place)| {
                let before = u64::from_le_bytes(sent.try_into().unwrap());
                place.saturating_sub(before)
            });
            // What was queued, and a batch under way: 256 KiB each.
            assert_most_are_below("direct", 1500, between.collect());
        });
    }
}

/// The other thread begins its next message in parts as soon as it has finished one.
#[test]
fn a_send_gets_its_turn_behind_a_thread_that_sends_in_parts_all_the_time() {
    for compression in [Compression::off(), Compression::default()] {
        turns_between(
            compression,
            |ws| {
                let mut message = ws.send_writer(MessageKind::Binary).unwrap();
                message.write_all(&[1; 20_000]).unwrap();
                message.finish().unwrap();
            },
            &[
                ("small", |ws| ws.send("x").unwrap()),
                ("direct", |ws| ws.send(vec![2; 100_000]).unwrap()),
                ("compressible", |ws| ws.send("y".repeat(5000)).unwrap()),
                ("parts", |ws| ws.send_writer(MessageKind::Text).unwrap().finish().unwrap()),
            ],
        );
    }
}

#[test]
fn a_message_in_parts_gets_its_turn_behind_threads_that_compress_all_the_time() {
    turns_between(
        Compression::default(),
        |ws| ws.send(pattern(30_000, 1)).unwrap(),
        &[
            ("parts", |ws| ws.send_writer(MessageKind::Text).unwrap().finish().unwrap()),
            ("direct", |ws| ws.send(wsync::Outgoing::from(&vec![2; 100_000]).uncompressed()).unwrap()),
        ],
    );
}

/// Three of four: the system may take the processor from a thread between its look at the count and its call.
fn assert_most_are_below(name: &str, limit: u64, mut counts: Vec<u64>) {
    counts.sort_unstable();
    assert!(counts[counts.len() * 3 / 4] < limit, "{name}: messages of others in between: {counts:?}");
}

type Call = fn(&WebSocket);

/// Three threads do `busy` all the time; counts how often while another thread makes each of these calls.
fn turns_between(compression: Compression, busy: Call, calls: &'static [(&str, Call)]) {
    bounded(move || {
        let (ws, server) = both_ends(Layer::Plain, &options().compression(compression), &AcceptOptions::new());
        let receiver = spawn("receiver", move || {
            loop {
                match server.recv() {
                    Ok(Some(_)) => {}
                    // Reset by the abort, or ended.
                    Err(error) => return assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
                    Ok(None) => panic!("closed"),
                }
            }
        });
        let count = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let start = Arc::new(Barrier::new(4));
        let others: Vec<_> = (0..3)
            .map(|_| {
                let (ws, count, is_over, start) =
                    (ws.clone(), Arc::clone(&count), Arc::clone(&is_over), Arc::clone(&start));
                spawn("busy", move || {
                    start.wait();
                    while !is_over.load(Ordering::Relaxed) {
                        busy(&ws);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        start.wait();
        for (name, call) in calls {
            let between = (0..30).map(|_| {
                let before = count.load(Ordering::Relaxed);
                call(&ws);
                count.load(Ordering::Relaxed) - before
            });
            let between = between.collect();
            // What others queue while the call writes: compressed, their messages are short.
            assert_most_are_below(name, 400, between);
        }
        is_over.store(true, Ordering::Relaxed);
        others.into_iter().for_each(wait_for);
        ws.abort();
        wait_for(receiver);
    });
}

/// The iterator may panic, block or fail: what it gave before goes out without another call.
#[test]
fn what_send_all_has_taken_goes_out_when_its_iterator_panics() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let messages = (0..3).map(|number| if number == 2 { panic!("in the iterator") } else { "taken" });
        assert!(catch_unwind(AssertUnwindSafe(|| ws.send_all(messages))).is_err());
        assert_eq!((peer.frame(), peer.frame()), (Frame::new(FIN | TEXT, b"taken"), Frame::new(FIN | TEXT, b"taken")));
        assert_eq!(ws.ready_state(), ReadyState::Open);
    });
}

/// The next in line writes for those before it. When it gives up instead, somebody else has to.
#[test]
fn what_was_left_to_a_sender_that_gives_up_goes_out() {
    bounded(|| {
        for _ in 0..20 {
            let (ws, mut peer) = narrow(&short().send_timeout(Some(Duration::from_millis(40))));
            let mut writer = ws.send_writer(MessageKind::Binary).unwrap();
            writer.write_all(b"begun").unwrap();
            writer.flush().unwrap();
            let others: Vec<_> = (0..4)
                .map(|_| {
                    let ws = ws.clone();
                    spawn("other", move || kind(ws.send("x")))
                })
                .collect();
            thread::sleep(Duration::from_millis(39));
            writer.finish().unwrap();
            let sent = others.into_iter().map(wait_for).filter(Result::is_ok).count();
            assert_eq!(peer.frame(), Frame::new(BINARY, b"begun"));
            assert_eq!(peer.frame(), Frame::new(FIN, b""));
            for _ in 0..sent {
                assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"x"));
            }
        }
    });
}
