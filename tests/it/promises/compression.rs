//! Nobody waits for somebody else's compression, and what is received is right for all interleavings.

use std::io::Write;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::line::{in_memory, narrow_with};
use crate::support::*;
use wsync::{AcceptOptions, Compression, ErrorKind, Group, MessageKind, Prepared, WebSocket};

/// Takes seconds to compress with level 9 in a build of the tests.
fn slow_to_compress() -> String {
    let mut text = String::with_capacity(60 << 20);
    let mut number = 1_u32;
    while text.len() < 60 << 20 {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(&format!("{{\"id\": {}, \"value\": {}}}\n", number >> 20, number % 1000));
    }
    text
}

fn compressing(options: wsync::ConnectOptions) -> wsync::ConnectOptions {
    options.compression(Compression::default().level(9))
}

const LONG_TEXT: usize = 2000;

/// What another thread sends while the compressor is busy. Each must come back long before the compression is done.
#[test]
fn others_do_not_wait_while_one_thread_compresses() {
    type Call = fn(&WebSocket);
    let calls: [(&str, Call); 6] = [
        ("try_send", |ws| ws.try_send("a".repeat(LONG_TEXT)).unwrap()),
        ("send", |ws| ws.send("b".repeat(LONG_TEXT)).unwrap()),
        ("send_uncompressed", |ws| ws.send(wsync::Outgoing::from(&"c".repeat(LONG_TEXT)).uncompressed()).unwrap()),
        ("Group::send", |ws| {
            let group = Group::new();
            group.add(ws);
            let refused = group.send(&Prepared::new("d".repeat(LONG_TEXT)));
            assert!(refused.is_empty(), "{refused:?}");
        }),
        ("ping", |ws| ws.ping(b"e").unwrap()),
        ("send_writer", |ws| {
            let mut message = ws.send_writer(MessageKind::Text).unwrap();
            message.write_all("f".repeat(LONG_TEXT).as_bytes()).unwrap();
            message.finish().unwrap();
        }),
    ];
    bounded(move || {
        let timeout = Some(Duration::from_millis(100));
        let client = compressing(options()).send_timeout(timeout);
        let (ws, server) = both_ends(Layer::Plain, &client, &AcceptOptions::new().max_message_size(100 << 20));
        let receiver = spawn("receiver", move || {
            let mut received = Vec::new();
            while let Some(message) = server.recv().unwrap() {
                received.push((message.len(), message.as_bytes()[0]));
            }
            received
        });
        let large = slow_to_compress();
        let length = large.len();
        let start = Arc::new(Barrier::new(2));
        let (large_ws, large_start) = (ws.clone(), Arc::clone(&start));
        let compressing = spawn("large", move || {
            large_start.wait();
            large_ws.send(&large).unwrap();
        });
        start.wait();
        thread::sleep(Duration::from_millis(100));
        for (name, call) in calls {
            let since = Instant::now();
            call(&ws);
            assert!(since.elapsed() < Duration::from_millis(400), "{name}: {:?}", since.elapsed());
        }
        assert!(compressing.is_running());
        wait_for(compressing);
        ws.close(1000, "").unwrap();
        let received = wait_for(receiver);
        let small: Vec<_> = b"abcdf".iter().map(|&letter| (LONG_TEXT, letter)).collect();
        // They were there before the large one was compressed.
        assert_eq!(received, [&small[..], &[(length, b'{')]].concat());
    });
}

/// Compressing takes longer than `send_timeout`. It is no time in which the peer takes nothing.
#[test]
fn a_messages_own_compression_does_not_count_for_its_send_timeout() {
    bounded(|| {
        let client = compressing(options()).send_timeout(Some(Duration::from_millis(200)));
        let (ws, mut peer) = narrow_with(&client, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
        // A line that is always full, and always moves.
        let peer = spawn("peer", move || {
            let mut large = 0;
            while let Some(frame) = peer.next_frame() {
                large += usize::from(frame.payload.len() > 1 << 20);
                thread::sleep(Duration::from_micros(200));
            }
            large
        });
        let others: Vec<_> = (0..2)
            .map(|_| {
                let ws = ws.clone();
                spawn("other", move || while ws.send(wsync::Outgoing::from(&[1; 20_000]).uncompressed()).is_ok() {})
            })
            .collect();
        let large = slow_to_compress();
        for _ in 0..2 {
            ws.send(&large[..30 << 20]).unwrap();
        }
        ws.close(1000, "").unwrap_or_else(|error| assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"));
        others.into_iter().for_each(wait_for);
        assert_eq!(wait_for(peer), 2);
    });
}

/// Short waits for the compressor stay short while the line moves.
#[test]
fn a_short_send_timeout_does_not_make_the_wait_for_the_compressor_long() {
    bounded(|| {
        let client = compressing(options()).send_timeout(Some(Duration::from_millis(20)));
        let (ws, server) = both_ends(Layer::Plain, &client, &AcceptOptions::new().max_message_size(100 << 20));
        let receiver = spawn("receiver", move || while let Ok(Some(_)) = server.recv() {});
        let large_ws = ws.clone();
        let large = slow_to_compress();
        let compressing = spawn("large", move || large_ws.send(&large));
        let ticker_ws = ws.clone();
        let ticker = spawn("ticker", move || {
            while ticker_ws.send("tick").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        thread::sleep(Duration::from_millis(50));
        for _ in 0..5 {
            let since = Instant::now();
            ws.send("a".repeat(LONG_TEXT)).unwrap();
            assert!(since.elapsed() < Duration::from_millis(300), "{:?}", since.elapsed());
        }
        assert!(compressing.is_running());
        ws.abort();
        let _ = wait_for(compressing);
        wait_for(ticker);
        wait_for(receiver);
    });
}

/// What the peer inflates is what was sent, whatever ways its threads mix.
#[test]
fn all_ways_of_sending_at_once_inflate_to_what_was_sent() {
    const EACH: u32 = 60;
    const SENDERS: u32 = 7;
    fn payload(sender: u32, number: u32) -> Vec<u8> {
        let length = match number % 5 {
            0 => 40_000,
            1 => 3,
            2 => 120_000,
            _ => 900,
        };
        let line = format!("sender {sender}, message {number}; ");
        let mut bytes = vec![sender as u8, number as u8];
        bytes.extend(line.bytes().cycle().take(length));
        // Some of it does not get smaller.
        bytes.extend(noise(if number % 3 == 0 { 70_000 } else { 10 }, sender * EACH + number));
        bytes
    }
    fn send(ws: &WebSocket, sender: u32) {
        for number in 0..EACH {
            let payload = payload(sender, number);
            let retry = |call: &dyn Fn() -> wsync::Result<()>| {
                while let Err(error) = call() {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    thread::yield_now();
                }
            };
            match sender {
                0 | 1 => ws.send(&payload).unwrap(),
                2 => ws.send(wsync::Outgoing::from(&payload).uncompressed()).unwrap(),
                3 => ws.send(&Prepared::new(&payload)).unwrap(),
                4 => retry(&|| ws.try_send(&payload)),
                5 => {
                    let prepared = Prepared::new(&payload);
                    retry(&|| ws.try_send(&prepared));
                }
                _ => {
                    let mut message = ws.send_writer(MessageKind::Binary).unwrap();
                    message.write_all(&payload).unwrap();
                    message.finish().unwrap();
                }
            }
        }
    }
    for side in [Side::Client, Side::Server] {
        for &layer in LAYERS_OF_BOTH {
            bounded(move || {
                let (ws, mut peer) = deflate_pair(side, layer, 64);
                let senders: Vec<_> = (0..SENDERS)
                    .map(|sender| {
                        let ws = ws.clone();
                        spawn(&format!("sender {sender}"), move || send(&ws, sender))
                    })
                    .collect();
                let mut codec = Codec::new();
                let mut next = [0; SENDERS as usize];
                let mut compressed = 0;
                for _ in 0..SENDERS * EACH {
                    let mut frame = peer.frame();
                    let is_compressed = frame.first & COMPRESSED != 0;
                    compressed += u32::from(is_compressed);
                    assert_eq!(frame.first & 0x0f, BINARY, "the first frame of a message");
                    let mut bytes = std::mem::take(&mut frame.payload);
                    while frame.first & FIN == 0 {
                        frame = peer.frame();
                        assert_eq!(frame.first & !FIN, 0, "the next fragment of the same message");
                        bytes.append(&mut frame.payload);
                    }
                    if is_compressed {
                        bytes = codec.inflate(&bytes);
                    }
                    let (sender, number) = (u32::from(bytes[0]), u32::from(bytes[1]));
                    assert_eq!(number, next[sender as usize], "of sender {sender}");
                    assert!(bytes == payload(sender, number), "sender {sender}, message {number}");
                    next[sender as usize] += 1;
                }
                assert!(compressed > EACH, "{compressed} messages were compressed");
                senders.into_iter().for_each(wait_for);
            });
        }
    }
}

/// What the peer has not seen is forgotten: a compressed message that `try_send` has to refuse after all.
#[test]
fn a_refused_message_leaves_no_trace_in_the_compressors_history() {
    bounded(|| {
        let (ws, mut peer) = narrow_with(
            &options().compression(Compression::default().threshold(64)),
            "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        );
        let mut accepted = Vec::new();
        let mut refused = 0;
        for number in 0.. {
            let message = [&number.to_string().repeat(100).into_bytes()[..], &noise(30_000, number)].concat();
            match ws.try_send(&message) {
                Ok(()) => accepted.push(message),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    refused += 1;
                }
            }
            if refused == 10 {
                break;
            }
        }
        let mut codec = Codec::new();
        for message in &accepted {
            let frame = peer.frame();
            assert_eq!(frame.first, FIN | COMPRESSED | BINARY);
            assert!(&codec.inflate(&frame.payload) == message);
        }
        ws.send(&accepted[0]).unwrap();
        assert!(codec.inflate(&peer.frame().payload) == accepted[0]);
    });
}

/// A prepared message takes as much room as it has on its way, not as much as it has unpacked.
#[test]
fn a_prepared_message_that_compresses_well_is_not_refused_while_little_is_queued() {
    bounded(|| {
        let (client, server) = in_memory(&options(), &AcceptOptions::new());
        // 64 KiB are on their way, the rest is queued.
        let first = noise(120_000, 1);
        client.try_send(&first).unwrap();
        let text = "compresses well ".repeat(100_000);
        let prepared = Prepared::new(&text);
        client.try_send(&prepared).unwrap();
        client.try_send(&prepared).unwrap();
        assert!(server.recv().unwrap() == binary(&first));
        for _ in 0..2 {
            assert!(server.recv().unwrap() == Some(text.as_str().into()));
        }
    });
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) << 32 | 0x9e37_79b9;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
