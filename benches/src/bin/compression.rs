//! What compressing costs, and what it gives.
//!
//! ```sh
//! cargo run --release -p wsync-benches --bin compression             # our frames against the bare flate2 call: the ratio is to be under 1.1
//! cargo run --release -p wsync-benches --bin compression -- levels   # size and time by level and message size: what the defaults come from
//! cargo run --release -p wsync-benches --bin compression -- inflate  # time per byte of input that is made to be expensive
//! ```
//!
//! The framing is private and does no I/O, so its source is compiled into this benchmark.

#[path = "../../../src"]
#[allow(dead_code, unused_imports)]
mod library {
    pub mod close;
    pub mod compression;
    pub mod error;
    pub mod handshake;
    pub mod protocol;
}
// The rooms name each other from the crate's root.
use library::{close, compression, error, handshake, protocol};

use std::hint::black_box;
use std::time::Instant;

use flate2::{Compress, Compression as Level, FlushCompress};

use compression::{Agreed, Compression};
use protocol::{Inbound, Kind, Limits, Outbound, Role, Sink};

const SIZES: [usize; 9] = [16, 32, 64, 128, 256, 512, 1024, 4096, 65_536];

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("levels") => levels(),
        Some("inflate") => inflate(),
        _ => overhead(),
    }
}

/// Ours and the bare call in turns on the same messages. Of each, the shortest time counts: that bears a machine that does
/// other things too.
fn overhead() {
    println!("{:>8} {:>6} {:>12} {:>12} {:>7}", "bytes", "kept", "flate2 ns", "ours ns", "ratio");
    for keeps in [true, false] {
        for size in SIZES {
            let messages = chat(size, (100_000 / size).clamp(10, 500));
            let compression = Compression::default().server_no_context_takeover(!keeps);
            let mut compress = Compress::new(Level::new(compression.level.into()), false);
            let mut outbound = Outbound::new(Role::Server, Agreed::of(&compression), compression.level, 0);
            let mut out = Vec::with_capacity(2 * size + 1000);
            let (mut least_bare, mut least_ours) = (f64::MAX, f64::MAX);
            for _ in 0..200 {
                let bare = per_message(&messages, |message| {
                    out.clear();
                    compress.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
                    if !keeps {
                        compress.reset();
                    }
                    black_box(&out);
                });
                let ours = per_message(&messages, |message| {
                    out.clear();
                    outbound.message(&mut out, Kind::Text, message, true, [0; 4]);
                    black_box(&out);
                });
                (least_bare, least_ours) = (least_bare.min(bare), least_ours.min(ours));
            }
            let ratio = least_ours / least_bare;
            println!("{size:>8} {keeps:>6} {:>12.0} {:>12.0} {ratio:>7.3}", least_bare * 1e9, least_ours * 1e9);
        }
    }
}

/// What is left of messages, and how long it takes, with the history kept.
fn levels() {
    for (name, make) in [("chat", chat as fn(usize, usize) -> Vec<Vec<u8>>), ("text", text), ("numbers", numbers)] {
        println!(
            "\n{name}: percent left (frame headers included) and µs a message (the shortest of 30 runs), by level"
        );
        print!("{:>8}", "bytes");
        (1..=9).for_each(|level| print!("{level:>14}"));
        println!("{:>16}", "6, forgetting");
        for size in SIZES {
            let messages = make(size, (100_000 / size).clamp(20, 500));
            print!("{size:>8}");
            for level in 1..=10 {
                let compression = Compression::default().server_no_context_takeover(level == 10);
                let level = if level == 10 { 6 } else { level };
                let mut size = 0;
                let times = (0..30).map(|_| {
                    let mut outbound = Outbound::new(Role::Server, Agreed::of(&compression), level, 0);
                    let mut out = Vec::new();
                    size = 0;
                    per_message(&messages, |message| {
                        out.clear();
                        outbound.message(&mut out, Kind::Text, message, true, [0; 4]);
                        size += out.len();
                    })
                });
                let time = times.fold(f64::MAX, f64::min) * 1e6;
                let plain: usize =
                    messages.iter().map(|message| message.len() + 2 + 2 * (message.len() / 126).min(1)).sum();
                print!("{:>6.1}%{time:>7.1}", 100.0 * size as f64 / plain as f64);
            }
            println!();
        }
    }
}

/// Time per byte of input or output, whichever is more, for what a peer may make expensive: ten times as much of it is to
/// cost no more per byte.
fn inflate() {
    let empty_block = [0, 0, 0, 0xff, 0xff];
    let final_block = |payload: &[u8]| {
        let mut out = Vec::with_capacity(payload.len() + 64);
        Compress::new(Level::best(), false).compress_vec(payload, &mut out, FlushCompress::Finish).unwrap();
        out
    };
    // A final block may come for every 64 bytes in or out.
    let (final_block, dynamic) = (final_block(&[0; 100]), message(&text(3_000, 1)[0]));
    // Fixed codes: a zero, and then 258 times the byte before, each with a sync flush behind it.
    let zero = [0x62, 0x60, 0x18, 0xe9, 0, 0, 0, 0, 0xff, 0xff];
    let zeros = [0x1a, 5, 0, 0, 0, 0, 0xff, 0xff];
    let in_one = |block: &[u8], n: usize| frame(&[&block.repeat(n), &[0][..]].concat());
    println!("{:>24} {:>8} {:>10} {:>12} {:>9}", "", "pieces", "bytes in", "bytes out", "ns/byte");
    for n in [1_000, 10_000] {
        let cases = [
            ("empty blocks", in_one(&empty_block, n)),
            ("final blocks", in_one(&final_block, n)),
            ("blocks of 258 zeros", frame(&[&zero[..], &zeros.repeat(n), &[0][..]].concat())),
            ("messages of one byte", frame(&message(b"a")).repeat(n)),
            ("empty messages", frame(&[0]).repeat(n)),
            ("messages of 3000 bytes", frame(&dynamic).repeat(n)),
        ];
        for (name, mut wire) in cases {
            let limits = Limits { max_message_size: usize::MAX, max_fragments: usize::MAX };
            let mut inbound = Inbound::new(Role::Client, limits, Agreed::of(&Compression::default()));
            let (mut sink, mut at, start) = (Counted(0), 0, Instant::now());
            while at < wire.len() {
                let (taken, event) = inbound.next(&mut wire[at..], &mut sink);
                at += taken;
                event.unwrap_or_else(|violation| panic!("{name}: {violation}"));
            }
            let per_byte = start.elapsed().as_nanos() as f64 / wire.len().max(sink.0) as f64;
            println!("{name:>24} {n:>8} {:>10} {:>12} {per_byte:>9.2}", wire.len(), sink.0);
        }
    }
}

struct Counted(usize);

impl Sink for Counted {
    fn begin(&mut self, _: Kind) {}

    fn text(&mut self, chunk: &str) {
        self.0 += chunk.len();
    }

    fn binary(&mut self, chunk: &[u8]) {
        self.0 += chunk.len();
    }
}

/// A message compressed on its own.
fn message(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    Compress::new(Level::default(), false).compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

/// A server's frame with a compressed binary message.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xc2, 127];
    match payload.len() {
        0..126 => frame[1] = payload.len() as u8,
        126..65_536 => {
            frame[1] = 126;
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        _ => frame.extend((payload.len() as u64).to_be_bytes()),
    }
    frame.extend(payload);
    frame
}

/// Seconds.
fn per_message(messages: &[Vec<u8>], mut run: impl FnMut(&[u8])) -> f64 {
    let start = Instant::now();
    messages.iter().for_each(|message| run(message));
    start.elapsed().as_secs_f64() / messages.len() as f64
}

/// English and code: this crate's own source, from different places of it.
fn text(size: usize, count: usize) -> Vec<Vec<u8>> {
    let source = source();
    let at = |i: usize| i * size % (source.len() - size);
    (0..count).map(|i| source.as_bytes()[at(i)..at(i) + size].to_vec()).collect()
}

/// JSON as chats and feeds send it: the same keys each time, numbers, names, and words.
fn chat(size: usize, count: usize) -> Vec<Vec<u8>> {
    let source = source();
    let words: Vec<&str> = source.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut random = Random(7);
    let mut message = |i: usize| {
        let user = ["alice", "bob", "carol", "dave", "erin", "frank", "grace"][random.below(7)];
        let mut json = match size {
            0..32 => "{\"t\":\"".to_string(),
            32..100 => format!("{{\"id\":{},\"t\":\"", 48_000 + i),
            _ => {
                let time = 1_760_000_000_000 + 997 * i + random.below(900);
                let id = random.below(1 << 30);
                format!("{{\"type\":\"message\",\"id\":\"{id:08x}\",\"user\":\"{user}\",\"time\":{time},\"text\":\"")
            }
        };
        while json.len() + 2 < size {
            json.push_str(words[random.below(words.len())]);
            json.push(' ');
        }
        json.truncate(size - 2);
        json.push_str("\"}");
        json.into_bytes()
    };
    (0..count).map(&mut message).collect()
}

/// JSON of measurements: the same keys, and digits that nothing foretells.
fn numbers(size: usize, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(11);
    let mut message = |_| {
        let mut json = "{\"v\":[".to_string();
        while json.len() + 2 < size {
            json.push_str(&format!("{}.{:04},", random.below(1_000), random.below(10_000)));
        }
        json.truncate(size - 2);
        json.push_str("]}");
        json.into_bytes()
    };
    (0..count).map(&mut message).collect()
}

fn source() -> String {
    let files = [
        include_str!("../../../src/websocket.rs"),
        include_str!("../../../src/options.rs"),
        include_str!("../../../src/connection/sending.rs"),
        include_str!("../../../src/connection/receiving.rs"),
        include_str!("../../../src/protocol/inbound.rs"),
        include_str!("../../../src/handshake/client.rs"),
        include_str!("../../../src/transport/tls.rs"),
        include_str!("../../../src/error.rs"),
    ];
    files.concat()
}

/// The same numbers each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
