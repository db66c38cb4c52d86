//! Peers that try to exhaust memory: compression bombs, floods, and frames that declare a length without sending it.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression as Level, FlushCompress};
use wsync::{AcceptOptions, CloseCode, Compression, ErrorKind, Message, WebSocket};

use crate::support::peer::header;
use crate::support::*;
use crate::{KB, MEMORY, turn};

const MB: usize = 1024 * KB;
const CONTINUATION: u8 = 0;
/// The limit on messages in most tests here.
const LIMIT: usize = MB;
/// What a connection may use in addition to its message: read and write buffers, decompressor, compressor.
const OVERHEAD: usize = MB;

#[test]
fn a_bomb_is_stopped_at_the_limit_while_it_inflates() {
    let _turn = turn();
    let zeros = in_blocks(0, 64 * KB, 256);
    assert!((16 * KB..32 * KB).contains(&zeros.len()), "{}", zeros.len());
    let message = masked(FIN | COMPRESSED | BINARY, &zeros);
    assert_ends("16 KB of 16 MiB", &message, ErrorKind::TooBig, 1009, 2 * LIMIT + OVERHEAD);
    let text = masked(FIN | COMPRESSED | TEXT, &in_blocks(b'a', 64 * KB, 256));
    assert_ends("16 KB of 16 MiB of text", &text, ErrorKind::TooBig, 1009, 2 * LIMIT + OVERHEAD);

    // A block that inflates to 1 MiB of zeros, repeated 1024 times.
    let gibibyte = in_blocks(0, MB, 1024);
    assert!((MB..2 * MB).contains(&gibibyte.len()), "{}", gibibyte.len());
    let message = masked(FIN | COMPRESSED | BINARY, &gibibyte);
    assert_ends("1 MB of 1 GiB", &message, ErrorKind::TooBig, 1009, 2 * LIMIT + OVERHEAD);

    let tiny = in_blocks(0, 258, 20_000);
    let message = masked(FIN | COMPRESSED | BINARY, &tiny);
    assert_ends("20,000 tiny blocks", &message, ErrorKind::TooBig, 1009, 2 * LIMIT + OVERHEAD);

    let mut fragments = masked(COMPRESSED | BINARY, &[]);
    for block in in_blocks(0, 16 * KB, 1000).chunks(20) {
        fragments.extend(masked(CONTINUATION, block));
        fragments.extend(masked(PING, b"between"));
    }
    assert_ends("a bomb in fragments", &fragments, ErrorKind::TooBig, 1009, 2 * LIMIT + OVERHEAD);
}

#[test]
fn many_final_blocks_are_limited() {
    let _turn = turn();
    // After each final block the decompressor is reset and given its history again, which costs time.
    let full = finished(&vec![0; 32 * KB]).repeat(1000);
    assert_ends(
        "large final blocks",
        &masked(FIN | COMPRESSED | BINARY, &full),
        ErrorKind::TooBig,
        1009,
        2 * LIMIT + OVERHEAD,
    );
    let empty = [3, 0].repeat(100_000);
    assert_ends("empty final blocks", &masked(FIN | COMPRESSED | BINARY, &empty), ErrorKind::Protocol, 1002, OVERHEAD);
    let stored = [1, 0, 0, 0xff, 0xff].repeat(100_000);
    assert_ends(
        "empty stored final blocks",
        &masked(FIN | COMPRESSED | TEXT, &stored),
        ErrorKind::Protocol,
        1002,
        OVERHEAD,
    );
    let mut fragments = masked(COMPRESSED | TEXT, &[]);
    fragments.extend(masked(CONTINUATION, &[3, 0]).repeat(100_000));
    assert_ends("a final block in each fragment", &fragments, ErrorKind::Protocol, 1002, OVERHEAD);
}

#[test]
fn empty_blocks_use_no_memory() {
    let _turn = turn();
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let writer = std::thread::spawn(move || {
        // Without the last 4 bytes, which a sender removes (RFC 7692 §7.2.1).
        let blocks = [0, 0, 0, 0xff, 0xff].repeat(100_000);
        peer.write(&masked(FIN | COMPRESSED | TEXT, &blocks[..blocks.len() - 4]));
        peer.write(&masked(FIN | COMPRESSED | TEXT, &Codec::new().deflate(b"Hello")));
        peer
    });
    assert_eq!(ws.recv().unwrap(), Some(Message::from("")));
    assert_eq!(ws.recv().unwrap(), Some(Message::from("Hello")));
    assert!(memory.peak() < OVERHEAD + MB, "more than the peer's own bytes and a decompressor");
    drop(writer.join().unwrap());
}

#[test]
fn a_declared_length_allocates_nothing() {
    let _turn = turn();
    for (header, payload) in [
        (FIN | BINARY, LIMIT as u64),
        (FIN | TEXT, LIMIT as u64),
        (FIN | COMPRESSED | BINARY, LIMIT as u64),
        (FIN | COMPRESSED | BINARY, 1 << 62),
    ] {
        let (ws, mut peer) = served(LIMIT);
        let memory = Meter::start();
        peer.write(&masked_header(header, payload));
        peer.write(b"abc");
        let error = ws.recv_timeout(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(memory.peak() < 128 * KB, "{header:#x}: {} bytes", memory.peak());
    }
    for length in [LIMIT as u64 + 1, 1 << 40, (1 << 63) - 1] {
        let message = masked_header(FIN | BINARY, length);
        assert_ends(&format!("{length} bytes declared"), &message, ErrorKind::TooBig, 1009, 64 * KB);
    }
    assert_ends("the top bit", &masked_header(FIN | BINARY, 1 << 63), ErrorKind::Protocol, 1002, 64 * KB);
}

/// The memory is a small multiple of what has arrived, whatever length was declared.
#[test]
fn an_incomplete_large_message_uses_memory_only_for_what_has_arrived() {
    let _turn = turn();
    const LIMIT: usize = 64 * MB;
    for sent in [70 * KB, 300 * KB, MB] {
        // In one frame, and in fragments, the last of which declares all the rest.
        let whole = [masked_header(FIN | BINARY, LIMIT as u64), vec![7; sent]].concat();
        let first = masked(BINARY, &vec![7; sent / 2]);
        let left = (LIMIT - sent / 2) as u64;
        let fragments = [first, masked_header(CONTINUATION, left), vec![7; sent - sent / 2]].concat();
        for (name, bytes) in [("one frame", &whole), ("fragments", &fragments)] {
            let (ws, mut peer) = served(LIMIT);
            let memory = Meter::start();
            std::thread::scope(|scope| {
                scope.spawn(|| peer.write(bytes));
                let mut tries = 0;
                while memory.now() < sent {
                    assert_eq!(ws.recv_timeout(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::Timeout);
                    tries += 1;
                    assert!(tries < 10_000, "{name}: {} of {sent} bytes", memory.now());
                }
            });
            assert_eq!(ws.recv_timeout(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::Timeout);
            // A growing buffer is copied to one of twice its size. There are also two read buffers.
            let peak = memory.peak();
            assert!(peak < 3 * sent + 256 * KB, "{sent} bytes in {name}: {peak}");
        }
        let beyond = [masked(BINARY, &vec![7; sent]), masked_header(CONTINUATION, (LIMIT - sent + 1) as u64)].concat();
        let (ws, mut peer) = served(LIMIT);
        let memory = Meter::start();
        std::thread::scope(|scope| {
            scope.spawn(|| peer.write(&beyond));
            assert_eq!(ws.recv().unwrap_err().kind(), ErrorKind::TooBig);
        });
        assert!(memory.peak() < 3 * sent + 256 * KB, "{sent} bytes and too many declared: {}", memory.peak());
        assert_eq!(peer.frame(), Frame::close(1009));
    }
}

#[test]
fn a_message_at_the_limit_uses_a_small_multiple_of_its_size() {
    let _turn = turn();
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let writer = std::thread::spawn(move || {
        let block = [7; 1000];
        peer.write(&masked_header(FIN | BINARY, LIMIT as u64));
        for at in (0..LIMIT).step_by(block.len()) {
            peer.write(&block[..block.len().min(LIMIT - at)]);
        }
        peer
    });
    assert_eq!(ws.recv().unwrap().unwrap().len(), LIMIT);
    let peak = memory.peak();
    assert!(peak < 3 * LIMIT + OVERHEAD, "{peak}");
    drop(writer.join().unwrap());
}

#[test]
fn unread_pongs_do_not_accumulate() {
    let _turn = turn();
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let writer = std::thread::spawn(move || {
        let pings = masked(PING, &[b'p'; 125]).repeat(50);
        for _ in 0..400 {
            peer.write(&pings);
            // So that they are mostly read separately: of pings that are read together, only the last get a pong.
            std::thread::sleep(Duration::from_millis(1));
        }
        peer.write(&masked(FIN | TEXT, b"still here"));
        peer
    });
    // 2.5 MB of pongs: more than the sockets of both sides hold.
    assert_eq!(ws.recv().unwrap(), Some(Message::from("still here")));
    let peak = memory.peak();
    assert!(peak < OVERHEAD, "{peak}");
    let mut peer = writer.join().unwrap();
    // When the peer reads, it receives complete pongs and then the message.
    let reader = std::thread::spawn(move || {
        let mut pongs = 0;
        loop {
            let frame = peer.frame();
            if frame.first != PONG {
                return (pongs, frame, peer);
            }
            pongs += usize::from(frame.payload == [b'p'; 125]);
        }
    });
    ws.send("after them").unwrap();
    let (pongs, message, _peer) = reader.join().unwrap();
    assert_eq!(message, Frame::new(FIN | TEXT, b"after them"));
    assert!((64..15_000).contains(&pongs), "{pongs} pongs");
}

#[test]
fn a_flood_of_empty_messages_uses_limited_memory() {
    let _turn = turn();
    // Without a receiving call, everything stays in the sockets' buffers.
    let (ws, mut peer) = served(64 * KB);
    let flood = masked(FIN | TEXT, b"").repeat(500_000);
    let memory = Meter::start();
    let writer = std::thread::spawn(move || {
        // Fails if the connection ends before everything is written.
        let _ = peer.try_write(&flood);
        let _ = peer.try_write(&masked(CLOSE, &[0x03, 0xe8]));
        (peer, flood)
    });
    std::thread::sleep(Duration::from_millis(20));
    assert!(memory.peak() < 64 * KB);
    // `close` reads everything, keeps 1 MiB of it for `recv`, and says how much that leaves out.
    let error = ws.close(CloseCode::NORMAL, "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig, "{error}");
    let peak = memory.peak();
    assert!(peak < 2048 * KB, "{peak}");
    let kept = ws.messages().map(Result::unwrap).count();
    assert!((10_000..50_000).contains(&kept), "{kept}");
    assert!(error.to_string().contains(&format!("{} messages", 500_000 - kept)), "{error}");
    assert_eq!(ws.close_code(), Some(CloseCode::NORMAL));
    drop(writer.join().unwrap());
}

#[test]
fn a_flood_of_empty_fragments_ends_at_the_limit() {
    let _turn = turn();
    let mut fragments = masked(TEXT, b"");
    fragments.extend(masked(CONTINUATION, b"").repeat(131_072));
    assert_ends("empty fragments", &fragments, ErrorKind::Protocol, 1008, OVERHEAD);
}

#[test]
fn a_slow_peer_uses_little_memory_and_does_not_prolong_timeouts() {
    let _turn = turn();
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let (stop, is_stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let message = masked(FIN | TEXT, &[b'a'; 100_000]);
        for byte in message.chunks(1) {
            peer.write(byte);
            if is_stopped.recv_timeout(Duration::from_millis(1)) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                break;
            }
        }
    });
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(ws.recv_timeout(Duration::from_millis(50)).unwrap_err().kind(), ErrorKind::Timeout);
        assert!(start.elapsed() >= Duration::from_millis(50) && start.elapsed() < Duration::from_secs(2));
    }
    assert!(memory.peak() < 256 * KB);
    drop(stop);
    writer.join().unwrap();
    let error = ws.recv().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("inside a message"), "{error}");
}

/// The memory of a connection, which the documentation of [`Compression`] states. `--nocapture` prints the numbers.
#[test]
fn a_connection_uses_as_much_memory_as_documented() {
    let _turn = turn();
    let bits = |bits: u8| format!("permessage-deflate; client_max_window_bits={bits}; server_max_window_bits={bits}");
    let no_takeover = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
    let cases = [
        ("off", bits(15), 16),
        ("15 bits", bits(15), 460),
        ("12 bits", bits(12), 320),
        ("9 bits", bits(9), 300),
        ("15 bits, no takeover", no_takeover.to_string(), 460),
    ];
    for (name, offer, most) in cases {
        let is_on = name != "off";
        let compression = if is_on { Compression::default() } else { Compression::off() };
        let options = AcceptOptions::new().compression(compression);
        let before = MEMORY.current_usage();
        let (ws, mut peer) = served_with(&options, &offer);
        let used = || (MEMORY.current_usage() - before) as f64 / KB as f64;
        let idle = used();
        let text = "a message that is long enough to be compressed, and then some more of it";
        ws.send(text).unwrap();
        let first = peer.frame().first;
        assert_eq!(first & COMPRESSED != 0, is_on);
        let sent = used();
        let payload = if is_on { Codec::new().deflate(text.as_bytes()) } else { text.into() };
        peer.write(&masked(FIN | TEXT | first & COMPRESSED, &payload));
        drop(payload);
        assert_eq!(ws.recv().unwrap(), Some(Message::from(text)));
        // A wait without data frees the buffers that have grown.
        assert!(ws.recv_timeout(Duration::from_millis(150)).is_err());
        let both = used();
        println!("{name:>20}: idle {idle:.1} KiB, after a message sent {sent:.1}, and one received {both:.1}");
        assert!(idle < 16.0 && both < f64::from(most), "{name}: {idle} and {both} KiB");
    }
}

/// The memory that is allocated in addition to that at the start.
struct Meter {
    before: usize,
}

impl Meter {
    fn start() -> Meter {
        MEMORY.reset_peak_usage();
        Meter { before: MEMORY.current_usage() }
    }

    fn now(&self) -> usize {
        MEMORY.current_usage().saturating_sub(self.before)
    }

    fn peak(&self) -> usize {
        MEMORY.peak_usage().saturating_sub(self.before)
    }
}

/// Checks that these bytes end the connection with this kind of error and this close code, and use less than `limit` bytes
/// of memory.
fn assert_ends(what: &str, bytes: &[u8], kind: ErrorKind, code: u16, limit: usize) {
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let result = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            // Fails if the connection ends before everything is written.
            let _ = peer.try_write(bytes);
            let mut last = peer.frame();
            while last.first != CLOSE {
                last = peer.frame();
            }
            last
        });
        let result = ws.recv();
        let peak = memory.peak();
        assert!(peak < limit, "{what}: {peak} bytes at most, expected less than {limit}");
        assert_eq!(writer.join().unwrap(), Frame::close(code), "{what}");
        result
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert_eq!(ws.recv().unwrap_err().kind(), kind, "{what}: again");
    drop(ws);
}

/// A server with this limit on messages and with compression, and its peer.
fn served(limit: usize) -> (WebSocket, Peer) {
    let (ws, peer) = served_with(&AcceptOptions::new().max_message_size(limit), "permessage-deflate");
    assert_eq!(ws.extensions(), "permessage-deflate");
    (ws, peer)
}

/// As [`served`], with the client's offer of extensions.
fn served_with(options: &AcceptOptions, offer: &str) -> (WebSocket, Peer) {
    let (client, server): (TcpStream, TcpStream) = sockets();
    // Buffers of the system that are small enough for a test to fill.
    socket2::SockRef::from(&server).set_send_buffer_size(128 * KB).unwrap();
    socket2::SockRef::from(&client).set_recv_buffer_size(128 * KB).unwrap();
    let mut peer = Peer::over(client, Layer::Plain);
    peer.request(&format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    let ws = options.accept(server).unwrap();
    peer.read_head();
    peer.head = String::new(); // what the peer allocates is measured too
    (ws, peer)
}

/// The header of a client's frame that declares a payload of this length. The mask is zero, so the payload follows it
/// unchanged.
fn masked_header(first: u8, length: u64) -> Vec<u8> {
    [&header(first, length, 0x80), &[0; 4][..]].concat()
}

/// Compressed data of `count` blocks, each of which inflates to this byte `size` times.
fn in_blocks(byte: u8, size: usize, count: usize) -> Vec<u8> {
    let mut compress = Compress::new(Level::best(), false);
    let (bytes, mut first, mut other) = (vec![byte; size], Vec::new(), Vec::new());
    flush(&mut compress, &bytes, &mut first);
    flush(&mut compress, &bytes, &mut other);
    first.extend(other.repeat(count - 1));
    first.truncate(first.len() - 4);
    first
}

fn flush(compress: &mut Compress, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + 64);
    compress.compress_vec(payload, out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
}

/// Compressed data whose last block is final.
fn finished(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    Compress::new(Level::best(), false).compress_vec(payload, &mut out, flate2::FlushCompress::Finish).unwrap();
    out
}
