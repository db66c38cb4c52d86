//! Time and size of compressed messages.
//!
//! ```sh
//! cargo run --release -p wsync-benches --bin compression             # our frames against the bare flate2 call; sending should stay under 1.1 of it
//! cargo run --release -p wsync-benches --bin compression --features soketto-deflate   # and against soketto
//! cargo run --release -p wsync-benches --bin compression -- levels   # size and time by level and message size, the reason for the defaults
//! cargo run --release -p wsync-benches --bin compression -- inflate  # time per byte of input that is made to be expensive
//! ```
//!
//! Measured are the modules without I/O: ours through `wsync::internals`, of soketto 0.8 the extension and the codec, put
//! together as its `Sender` and `Receiver` do.
//!
//! soketto is behind a feature because it asks for flate2 on zlib in C, and cargo then builds flate2 so for all crates.
//! With the feature all three are on zlib in C and can be compared; without it ours is on zlib-rs, as for users of the
//! crate. Run `levels` and `inflate` without it.
//!
//! soketto's cells are empty where it cannot do the same: it sends at level 1 only and keeps no history in either
//! direction. From flate2 1.1.11 on it receives nothing: it finishes its decoder after each message, which flate2 now
//! reports as an error without a final block, and senders, soketto included, send none. For these cells:
//! `cargo update -p flate2 --precise 1.1.10`.

use std::hint::black_box;
use std::time::Instant;

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress};

use peer::Peer;
use wsync::internals::{Decoder, DecoderLimits, MessageCompressor, Sink, deflate_parameters};
use wsync::{Compression, MessageKind as Kind, Role};

/// The level of [`Compression::default`].
const DEFAULT_LEVEL: u8 = 3;
const SIZES: [usize; 9] = [16, 32, 64, 128, 256, 512, 1024, 4096, 65_536];

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("levels") => levels(),
        Some("inflate") => inflate(),
        _ => {
            sending();
            receiving();
        }
    }
}

/// Messages to frames. The bare call writes no header and keeps the tail; the other outputs are whole frames.
fn sending() {
    header("sending");
    // The default, the same without history, and what soketto does.
    for (level, keeps) in [(3, true), (3, false), (1, false)] {
        for size in SIZES {
            let mut messages = chat(size, (100_000 / size).clamp(10, 500));
            let compression = Compression::default().server_no_context_takeover(!keeps);
            let mut compress = Compress::new(Level::new(level.into()), false);
            let mut compressor = compressor(&compression, level);
            let peer = Peer::new().filter(|_| level == 1 && !keeps);

            let bare: Run = Box::new(|message: &mut [u8], out: &mut Vec<u8>| {
                compress.compress_vec(message, out, FlushCompress::Sync).unwrap();
                if !keeps {
                    compress.reset();
                }
            });
            let ours: Run = Box::new(|message: &mut [u8], out: &mut Vec<u8>| {
                compressor.message(out, Kind::Text, message, None);
            });
            let peers = peer.map(|mut peer| -> Run { Box::new(move |message, out| peer.message(message, out)) });
            let costs = in_turns(&mut messages, [Some(bare), Some(ours), peers]);
            row(size, level, keeps, costs);
        }
    }
}

/// Frames to text; all three get our frames at the default level. The bare call does not read the header, add the tail or
/// check that the message is complete and UTF-8.
fn receiving() {
    header("receiving");
    for keeps in [true, false] {
        for size in SIZES {
            let compression = Compression::default().server_no_context_takeover(!keeps);
            let level = DEFAULT_LEVEL;
            let mut compressor = compressor(&compression, level);
            let frame = |message: Vec<u8>| {
                let mut frame = Vec::new();
                compressor.message(&mut frame, Kind::Text, &message, None);
                frame.extend(TAIL);
                frame
            };
            // The frames are received many times, also with history: the first one refers to nothing before it. The tail is
            // for the bare call.
            let mut frames: Vec<_> = chat(size, (100_000 / size).clamp(10, 500)).into_iter().map(frame).collect();
            let limits = DecoderLimits { max_message_size: u64::MAX, max_fragments: u64::MAX };
            let mut decompress = Decompress::new(false);
            let mut decoder = Decoder::new(Role::Client, limits, deflate_parameters(&compression));
            let whole = |frame: &[u8]| frame.len() - TAIL.len();
            let first = &frames[0][..whole(&frames[0])];
            let can = |mut peer: Peer| peer.next(first, &mut Vec::new()).map(|()| peer);
            let peer = Peer::new().filter(|_| !keeps).and_then(can);

            let bare: Run = Box::new(|frame: &mut [u8], out: &mut Vec<u8>| {
                let header = match frame[1] {
                    126 => 4,
                    127 => 10,
                    _ => 2,
                };
                decompress.decompress_vec(&frame[header..], out, FlushDecompress::Sync).unwrap();
                if !keeps {
                    decompress.reset(false);
                }
            });
            let ours: Run = Box::new(|frame: &mut [u8], out: &mut Vec<u8>| {
                let length = whole(frame);
                let (taken, event) = decoder.next(&mut frame[..length], &mut Assembled(out));
                assert!(taken == length && event.is_ok_and(|event| event.is_some()));
            });
            let peers = peer
                .map(|mut peer| -> Run { Box::new(move |frame, out| peer.next(&frame[..whole(frame)], out).unwrap()) });
            let costs = in_turns(&mut frames, [Some(bare), Some(ours), peers]);
            assert!(costs.iter().flatten().all(|cost| cost.bytes == size as f64));
            row(size, level, keeps, costs);
        }
    }
}

fn compressor(compression: &Compression, level: u8) -> MessageCompressor {
    let parameters = deflate_parameters(compression).expect("it is on");
    MessageCompressor::new(Role::Server, parameters, level, 0).expect("its window has 15 bits")
}

/// The end of a sync flush, which senders leave out.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Turns a message or frame into its output, in an empty buffer that was used before.
type Run<'a> = Box<dyn FnMut(&mut [u8], &mut Vec<u8>) + 'a>;

/// The cost of one message.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    /// Bytes of output.
    bytes: f64,
}

/// The bare call, ours and the peer's in turns on the same messages. The shortest time of each counts, because the machine
/// may be busy with other work.
fn in_turns(messages: &mut [Vec<u8>], mut runs: [Option<Run>; 3]) -> [Option<Cost>; 3] {
    let mut out = Vec::with_capacity(200_000);
    let mut costs = [None; 3];
    for _ in 0..80 {
        for (run, cost) in runs.iter_mut().zip(&mut costs) {
            let Some(run) = run else { continue };
            let cost = cost.get_or_insert(Cost { seconds: f64::MAX, bytes: 0.0 });
            let mut bytes = 0;
            let seconds = per_message(messages, |message| {
                out.clear();
                run(message, &mut out);
                bytes += black_box(&out).len();
            });
            cost.seconds = cost.seconds.min(seconds);
            cost.bytes = bytes as f64 / messages.len() as f64;
        }
    }
    costs
}

fn header(direction: &str) {
    let zlib = if cfg!(feature = "soketto-deflate") { "zlib in C" } else { "zlib-rs" };
    println!("\n{direction}, flate2 on {zlib}");
    println!(
        "{:>6} {:>5} {:>5} {:>10} {:>10} {:>11} {:>11} {:>12} {:>9} {:>11}",
        "bytes",
        "level",
        "kept",
        "flate2 ns",
        "ours ns",
        "ours/flate2",
        "soketto ns",
        "ours/soketto",
        "ours out",
        "soketto out"
    );
}

fn row(size: usize, level: u8, keeps: bool, costs: [Option<Cost>; 3]) {
    let [bare, ours, peers] = costs.map(|cost| cost.map(|cost| cost.seconds * 1e9));
    let [_, ours_out, peers_out] = costs.map(|cost| cost.map(|cost| cost.bytes));
    let ratio = |to: Option<f64>| Some(ours? / to?);
    let cell = |value: Option<f64>, width: usize, digits: usize| match value {
        Some(value) => format!("{value:>width$.digits$}"),
        None => " ".repeat(width),
    };
    let (bare_ns, ours_ns, peers_ns) = (cell(bare, 10, 0), cell(ours, 10, 0), cell(peers, 11, 0));
    let (to_bare, to_peers) = (cell(ratio(bare), 11, 3), cell(ratio(peers), 12, 3));
    let (ours_out, peers_out) = (cell(ours_out, 9, 1), cell(peers_out, 11, 1));
    let row = format!(
        "{size:>6} {level:>5} {keeps:>5} {bare_ns} {ours_ns} {to_bare} {peers_ns} {to_peers} {ours_out} {peers_out}"
    );
    println!("{}", row.trim_end());
}

/// A sink that keeps the whole message.
struct Assembled<'a>(&'a mut Vec<u8>);

impl Sink for Assembled<'_> {
    fn begin(&mut self, _: Kind, _: usize) {}

    fn text(&mut self, chunk: &str) {
        self.0.extend_from_slice(chunk.as_bytes());
    }

    fn binary(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
    }
}

#[cfg(feature = "soketto-deflate")]
mod peer {
    use soketto::base::{Codec, Header, OpCode};
    use soketto::extension::{Extension, Param, deflate::Deflate};
    use soketto::{Mode, Parsing, Storage};

    pub struct Peer {
        deflate: Deflate,
        codec: Codec,
    }

    impl Peer {
        pub fn new() -> Option<Peer> {
            let mut deflate = Deflate::new(Mode::Server);
            // As its own client offers.
            let offer = ["server_no_context_takeover", "client_no_context_takeover"].map(Param::new);
            deflate.configure(&offer).unwrap();
            assert!(deflate.is_enabled());
            let mut codec = Codec::new();
            codec.add_reserved_bits(deflate.reserved_bits());
            Some(Peer { deflate, codec })
        }

        /// Appends a whole message as one frame.
        pub fn message(&mut self, message: &[u8], out: &mut Vec<u8>) {
            let (mut header, mut data) = (Header::new(OpCode::Text), Storage::Shared(message));
            self.deflate.encode(&mut header, &mut data).unwrap();
            out.extend_from_slice(self.codec.encode_header(&header));
            out.extend_from_slice(data.as_ref());
        }

        /// Puts the message of one frame into the empty `out`. `None` if the decoder fails.
        pub fn next(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Option<()> {
            let Ok(Parsing::Done { value: mut header, offset }) = self.codec.decode_header(frame) else {
                panic!("not a frame's header");
            };
            out.extend_from_slice(&frame[offset..]);
            self.deflate.decode(&mut header, out).ok()?;
            // soketto leaves this check to its caller; ours does it.
            std::str::from_utf8(out).ok().map(|_| ())
        }
    }
}

#[cfg(not(feature = "soketto-deflate"))]
mod peer {
    /// Not built.
    pub enum Peer {}

    impl Peer {
        pub fn new() -> Option<Peer> {
            None
        }

        pub fn message(&mut self, _: &[u8], _: &mut Vec<u8>) {
            match *self {}
        }

        pub fn next(&mut self, _: &[u8], _: &mut Vec<u8>) -> Option<()> {
            match *self {}
        }
    }
}

/// Compressed size and time by level, with history.
fn levels() {
    for (name, make) in [("chat", chat as fn(usize, usize) -> Vec<Vec<u8>>), ("text", text), ("numbers", numbers)] {
        println!(
            "\n{name}: percent left (frame headers included) and µs a message (the shortest of 30 runs), by level"
        );
        print!("{:>8}", "bytes");
        (1..=9).for_each(|level| print!("{level:>14}"));
        println!("{:>16}", "6, no history");
        for size in SIZES {
            let mut messages = make(size, (100_000 / size).clamp(20, 500));
            print!("{size:>8}");
            for level in 1..=10 {
                let compression = Compression::default().server_no_context_takeover(level == 10);
                let level = if level == 10 { 6 } else { level };
                let mut size = 0;
                let times = (0..30).map(|_| {
                    let mut compressor = compressor(&compression, level);
                    let mut out = Vec::new();
                    size = 0;
                    per_message(&mut messages, |message| {
                        out.clear();
                        compressor.message(&mut out, Kind::Text, message, None);
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

/// Time per byte of input or output, whichever is more, for input that is made to be expensive. Ten times as much of it should
/// cost the same per byte.
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
            ("empty copy", in_one(&empty_block, n)),
            ("final copy", in_one(&final_block, n)),
            ("copy of 258 zeros", frame(&[&zero[..], &zeros.repeat(n), &[0][..]].concat())),
            ("messages of one byte", frame(&message(b"a")).repeat(n)),
            ("empty messages", frame(&[0]).repeat(n)),
            ("messages of 3000 bytes", frame(&dynamic).repeat(n)),
        ];
        for (name, mut wire) in cases {
            let limits = DecoderLimits { max_message_size: u64::MAX, max_fragments: u64::MAX };
            let mut decoder = Decoder::new(Role::Client, limits, deflate_parameters(&Compression::default()));
            let (mut sink, mut at, start) = (Counted(0), 0, Instant::now());
            while at < wire.len() {
                let (taken, event) = decoder.next(&mut wire[at..], &mut sink);
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
    fn begin(&mut self, _: Kind, _: usize) {}

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

/// Seconds per message.
fn per_message(messages: &mut [Vec<u8>], mut run: impl FnMut(&mut [u8])) -> f64 {
    let start = Instant::now();
    messages.iter_mut().for_each(|message| run(message));
    start.elapsed().as_secs_f64() / messages.len() as f64
}

/// English and code: parts of this crate's source.
fn text(size: usize, count: usize) -> Vec<Vec<u8>> {
    let source = source();
    let at = |i: usize| i * size % (source.len() - size);
    (0..count).map(|i| source.as_bytes()[at(i)..at(i) + size].to_vec()).collect()
}

/// JSON as in chats and feeds: the same keys each time, numbers, names and words.
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

/// JSON of measurements: the same keys and random digits.
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
        include_str!("../../../src/client/options.rs"),
        include_str!("../../../src/server/options.rs"),
        include_str!("../../../src/protocol/decoder.rs"),
        include_str!("../../../src/handshake/server.rs"),
        include_str!("../../../src/http/head.rs"),
        include_str!("../../../src/compression.rs"),
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
