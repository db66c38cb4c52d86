//! Everything at once: every way of sending and receiving from many threads, in both directions. Each message arrives exactly
//! once, whole, and each thread's in order, and the close in the end keeps all.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::line::in_memory;
use crate::support::*;
use wsync::{AcceptOptions, Compression, ErrorKind, Message, MessageKind, Prepared, WebSocket};

const SENDERS: usize = 5;
const EACH: usize = 120;

/// A generator of numbers that differ for each seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn message(sender: usize, number: usize) -> Vec<u8> {
    let mut dice = Dice((sender * EACH + number) as u64 + 1);
    let length = [0, 3, 200, 5000, 30_000, 66_000, 150_000][dice.roll(7) as usize];
    let mut bytes = vec![sender as u8, number as u8];
    bytes.extend(pattern(length, (sender * EACH + number) as u32));
    bytes
}

fn send_all_kinds(ws: &WebSocket, sender: usize, seed: u64) {
    let mut dice = Dice(seed);
    let retry = |call: &dyn Fn() -> wsync::Result<()>| {
        while let Err(error) = call() {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            thread::yield_now();
        }
    };
    let mut number = 0;
    while number < EACH {
        let payload = message(sender, number);
        number += 1;
        match dice.roll(8) {
            0 | 1 => ws.send(&payload).unwrap(),
            2 => ws.send(wsync::Outgoing::from(&payload).uncompressed()).unwrap(),
            3 => retry(&|| ws.try_send(&payload)),
            4 => retry(&|| ws.try_send(&Prepared::new(&payload))),
            5 => ws.send(&Prepared::new(&payload)).unwrap(),
            6 => {
                let mut writer = ws.send_writer(MessageKind::Binary).unwrap();
                for part in payload.chunks(1 + dice.roll(20_000) as usize) {
                    writer.write_all(part).unwrap();
                    if dice.roll(2) == 0 {
                        writer.flush().unwrap();
                    }
                    if dice.roll(20) == 0 {
                        ws.ping(b"between").unwrap();
                    }
                }
                writer.finish().unwrap();
            }
            _ => {
                let count = (EACH - number).min(5);
                let more: Vec<_> = (number..number + count).map(|number| message(sender, number)).collect();
                ws.send_all(std::iter::once(&payload).chain(&more)).unwrap();
                number += count;
            }
        }
        if dice.roll(30) == 0 {
            ws.set_ping_interval(Duration::from_secs(20 + dice.roll(9)));
        }
    }
}

/// The next message, by one of the ways to receive; `None` at the end.
fn receive(ws: &WebSocket, dice: &mut Dice) -> Option<Message> {
    loop {
        let result = match dice.roll(5) {
            0 => ws.recv(),
            1 => ws.recv_timeout(Duration::from_micros(dice.roll(500))),
            2 => ws.try_recv(),
            3 => {
                let mut buffer = Vec::new();
                ws.recv_into(&mut buffer).map(|kind| kind.map(|_| Message::Binary(buffer)))
            }
            _ => ws.recv_reader().map(|reader| {
                reader.map(|mut reader| {
                    let mut bytes = Vec::new();
                    reader.read_to_end(&mut bytes).unwrap();
                    Message::Binary(bytes)
                })
            }),
        };
        match result {
            Ok(message) => return message,
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::WouldBlock) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn receive_all(ws: &WebSocket, seed: u64, received: &AtomicUsize) {
    let mut dice = Dice(seed);
    let mut next = [0; SENDERS];
    while let Some(bytes) = receive(ws, &mut dice) {
        let bytes = bytes.into_bytes();
        let (sender, number) = (usize::from(bytes[0]), usize::from(bytes[1]));
        assert_eq!(number, next[sender], "of sender {sender}");
        assert!(bytes == message(sender, number), "sender {sender}, message {number}");
        next[sender] += 1;
        received.fetch_add(1, Ordering::SeqCst);
    }
    assert_eq!(next, [EACH; SENDERS]);
}

fn run(client: &WebSocket, server: &WebSocket, seed: u64) {
    let received = AtomicUsize::new(0);
    thread::scope(|scope| {
        let received = &received;
        for (number, ws) in [client, server].into_iter().enumerate() {
            for sender in 0..SENDERS {
                scope.spawn(move || send_all_kinds(ws, sender, seed + (number * SENDERS + sender) as u64));
            }
            scope.spawn(move || receive_all(ws, seed * 31 + number as u64, received));
        }
        while received.load(Ordering::SeqCst) < 2 * SENDERS * EACH {
            thread::sleep(Duration::from_millis(1));
        }
        client.close(4000, "done").unwrap();
    });
    assert_eq!((client.close_code(), server.close_code()), (code(4000), code(4000)));
}

/// Eight connections at once, in memory, over TCP, TLS 1.2 and TLS 1.3; with `WSYNC_SOAK_SECONDS=600`, others after them, for so long.
#[test]
fn everything_at_once_arrives_once_and_in_order() {
    let seconds: u64 = std::env::var("WSYNC_SOAK_SECONDS").map_or(0, |seconds| seconds.parse().unwrap());
    let start = Instant::now();
    let mut seed = 0;
    while seed == 0 || start.elapsed() < Duration::from_secs(seconds) {
        eight_at_once(seed);
        seed += 8;
    }
    println!("{seed} connections in {:?}", start.elapsed());
}

fn eight_at_once(first: u64) {
    let jobs: Vec<_> = (first..first + 8)
        .map(|seed| {
            spawn(&format!("seed {seed}"), move || {
                let client = match seed % 3 {
                    0 => options().compression(Compression::off()),
                    1 => options().compression(Compression::default().threshold(100)),
                    _ => options().compression(Compression::default().client_no_context_takeover(true)),
                };
                let (client, server) = match seed % 4 {
                    0 => in_memory(&client, &AcceptOptions::new()),
                    number => {
                        let layer = LAYERS[(number as usize - 1) % LAYERS.len()];
                        both_ends(layer, &client, &AcceptOptions::new())
                    }
                };
                run(&client, &server, seed + 1);
            })
        })
        .collect();
    jobs.into_iter().for_each(wait_for);
}

/// Closed by one side while the other still sends: what had arrived before the other's close frame is all there.
#[test]
fn a_close_in_the_middle_loses_nothing_that_was_sent_before_the_answer() {
    for round in 0..30_u64 {
        bounded(move || {
            let (client, server) = match round % 2 {
                0 => in_memory(&options().max_message_size(1000), &AcceptOptions::new()),
                _ => both_ends(BEST_OF_BOTH, &options().max_message_size(1000), &AcceptOptions::new()),
            };
            let server = Arc::new(server);
            let sender = Arc::clone(&server);
            // `Ok` is only what was handed to the system: the answer to the close goes behind it.
            let sender = spawn("sender", move || (0_u32..).find(|n| sender.send(&n.to_le_bytes()).is_err()).unwrap());
            let answering = Arc::clone(&server);
            let answering = spawn("server", move || kind(answering.recv()));
            thread::sleep(Duration::from_micros(round * 300));
            client.close(1000, "").unwrap();
            let sent = wait_for(sender);
            assert_eq!(wait_for(answering), Ok(None));
            for number in 0..sent {
                assert_eq!(kind(client.recv()), Ok(binary(&number.to_le_bytes())), "of {sent}");
            }
            assert_eq!(kind(client.recv()), Ok(None));
        });
    }
}
