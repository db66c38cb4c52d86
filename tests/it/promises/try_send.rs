//! `try_send` and `Group::send` refuse only what is full, and what they have accepted goes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::line::{in_memory, narrow};
use crate::support::*;
use wsync::{AcceptOptions, Compression, ErrorKind, Group, MessageKind, Prepared, WebSocket};

/// Longer than anything here takes, and shorter than a receiver's longest wait.
const SOON: Duration = Duration::from_millis(700);

fn uncompressed_in_memory() -> (WebSocket, WebSocket) {
    in_memory(&options().compression(Compression::off()), &AcceptOptions::new())
}

/// Never more than 120 KB are on their way, so the queue is never full, even if the reader is faster than the writer's
/// count of what the system has taken.
#[test]
fn nothing_is_refused_while_the_receiver_keeps_up() {
    const SENDERS: u64 = 5;
    const EACH: u64 = 20_000;
    for &layer in LAYERS_OF_BOTH {
        bounded(move || {
            let (ws, server) = both_ends(layer, &options().compression(Compression::off()), &AcceptOptions::new());
            let received = Arc::new(AtomicU64::new(0));
            let sent = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&received);
            let receiver = spawn("receiver", move || {
                while server.recv().unwrap().is_some() {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
            let group = Group::new();
            group.add(&ws);
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let (ws, group, received, sent) =
                        (ws.clone(), group.clone(), Arc::clone(&received), Arc::clone(&sent));
                    spawn("sender", move || {
                        let message = Prepared::new(&[1; 60]);
                        for number in 0..EACH {
                            while sent.load(Ordering::SeqCst) > received.load(Ordering::SeqCst) + 1800 {
                                thread::yield_now();
                            }
                            sent.fetch_add(1, Ordering::SeqCst);
                            match sender {
                                0 => assert!(group.send(&message).is_empty(), "refused number {number}"),
                                1 => ws.send(&[1; 60]).unwrap(),
                                _ => ws.try_send(&[1; 60]).unwrap_or_else(|error| panic!("number {number}: {error}")),
                            }
                        }
                    })
                })
                .collect();
            senders.into_iter().for_each(wait_for);
            ws.close(1000, "").unwrap();
            wait_for(receiver);
            assert_eq!(received.load(Ordering::SeqCst), SENDERS * EACH);
        });
    }
}

#[test]
fn the_bound_of_the_queue_holds_for_large_messages_too() {
    bounded(|| {
        let (client, server) = uncompressed_in_memory();
        let large = vec![5; 32 << 20];
        client.try_send(&large).unwrap();
        assert_eq!(kind(client.try_send(&large)), Err(ErrorKind::WouldBlock));
        assert_eq!(kind(client.try_send("small")), Err(ErrorKind::WouldBlock));
        assert!(server.recv().unwrap() == binary(&large));
        // It has been taken, and there is room.
        let since = Instant::now();
        while client.try_send(&large).is_err() {
            assert!(since.elapsed() < SOON);
        }
        assert!(server.recv().unwrap() == binary(&large));
        // Up to the bound, whatever has the room: 64 KiB on their way, 256 KiB queued, and one batch.
        let mut taken = 0;
        while client.try_send(&[6; 1000]).is_ok() {
            taken += 1;
        }
        assert!((256..=330).contains(&taken), "{taken}");
        for _ in 0..taken {
            server.recv().unwrap();
        }
    });
}

/// Nobody sends, receives or does anything else on this side any more.
#[test]
fn what_try_send_leaves_goes_out_as_soon_as_the_peer_reads() {
    for is_receiving in [false, true] {
        bounded(move || {
            let (client, server) = uncompressed_in_memory();
            let receiver = client.clone();
            let receiver = is_receiving.then(|| spawn("receiver", move || kind(receiver.recv())));
            let mut count = 0;
            while client.try_send(vec![7; 50_000]).is_ok() {
                count += 1;
            }
            assert!(count >= 5, "{count}");
            thread::sleep(Duration::from_millis(50));
            let since = Instant::now();
            for _ in 0..count {
                assert_eq!(server.recv_timeout(SOON).unwrap().unwrap().len(), 50_000);
            }
            assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
            server.send("done").unwrap();
            match receiver {
                Some(receiver) => assert_eq!(wait_for(receiver), Ok(text("done"))),
                None => assert_eq!(kind(client.recv()), Ok(text("done"))),
            }
        });
    }
}

/// The same over sockets of the system, with TLS where records are written in part.
#[test]
fn what_try_send_leaves_goes_out_over_every_layer() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let mut count = 0_u32;
        while ws.try_send(pattern(200_000, count)).is_ok() {
            count += 1;
        }
        for number in 0..count {
            assert!(peer.frame() == Frame::new(FIN | BINARY, &pattern(200_000, number)), "{number} of {count}");
        }
        ws.try_send("room again").unwrap();
        assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"room again"));
    });
}

#[test]
fn try_send_is_refused_inside_a_message_in_parts_only() {
    bounded(|| {
        let (client, server) = uncompressed_in_memory();
        let writer = client.send_writer(MessageKind::Text).unwrap();
        assert_eq!(kind(client.try_send("x")), Err(ErrorKind::WouldBlock));
        writer.finish().unwrap();
        client.try_send("x").unwrap();
        assert_eq!((kind(server.recv()), kind(server.recv())), (Ok(text("")), Ok(text("x"))));
    });
}

/// A thread that is stuck in writing what was left behind ends with the connection, however that ends.
#[test]
fn an_end_with_a_stuck_flush_is_immediate() {
    type End = fn(WebSocket);
    let ends: [(&str, Duration, End); 4] = [
        ("drop", SOON, drop),
        ("abort", SOON, |ws| ws.abort()),
        ("close", SOON + Duration::from_millis(200), |ws| {
            assert_eq!(kind(ws.close(1000, "")), Err(ErrorKind::Timeout));
        }),
        ("group", SOON + Duration::from_millis(200), |ws| {
            let group = Group::new();
            group.add(&ws);
            assert_eq!(group.close(1001, "", Duration::from_millis(200)).unwrap(), 1);
        }),
    ];
    for (name, bound, end) in ends {
        bounded(move || {
            let (ws, mut peer) = narrow(&options().close_timeout(Some(Duration::from_millis(200))));
            while ws.try_send(&[1; 10_000]).is_ok() {}
            thread::sleep(Duration::from_millis(50));
            let since = Instant::now();
            end(ws);
            assert!(since.elapsed() < bound, "{name}: {:?}", since.elapsed());
            // The peer sees the end behind what was on its way.
            while std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| peer.next_frame()))
                .is_ok_and(|frame| frame.is_some())
            {}
        });
    }
}

/// The threads of this process, as Linux lists them.
#[cfg(target_os = "linux")]
mod flush_threads {
    use std::process::Command;

    use super::*;

    /// How many flush threads this process has.
    fn count() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "wsync flush").count()
    }

    fn wait_for_count(expected: usize) {
        let since = Instant::now();
        while count() != expected {
            assert!(since.elapsed() < SOON, "{} flush threads instead of {expected}", count());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// In a process of its own, as other tests have such threads, too.
    #[test]
    fn they_end_when_nothing_is_left() {
        let program = std::env::current_exe().unwrap();
        let name = "promises::try_send::flush_threads::in_this_process";
        let output = Command::new(program).args(["--exact", "--ignored", name]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "run by they_end_when_nothing_is_left"]
    fn in_this_process() {
        let (client, server) = uncompressed_in_memory();
        assert_eq!(count(), 0);
        for _ in 0..20 {
            let mut sent = 0;
            while client.try_send(&[7; 20_000]).is_ok() {
                sent += 1;
            }
            // One thread, however many calls left something behind.
            wait_for_count(1);
            for _ in 0..sent {
                server.recv().unwrap();
            }
            wait_for_count(0);
        }
        for end in ["drop", "abort", "peer"] {
            let (client, server) = uncompressed_in_memory();
            while client.try_send(&[7; 20_000]).is_ok() {}
            wait_for_count(1);
            match end {
                "drop" => drop(client),
                "abort" => client.abort(),
                _ => drop(server),
            }
            wait_for_count(0);
        }
    }
}
