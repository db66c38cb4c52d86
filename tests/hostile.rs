//! What a peer can do to memory: bombs, floods and lengths that are only declared, through the whole library.
//!
//! Everything is measured by a counting allocator, so this binary's tests take turns.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::{Compress, Compression as Level, FlushCompress};
use peak_alloc::PeakAlloc;
use wsync::{AcceptOptions, CloseCode, Compression, ErrorKind, Message, WebSocket};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KB: usize = 1024;
const MB: usize = 1024 * KB;
/// The limit on messages in most tests here.
const LIMIT: usize = MB;
/// What a connection may use beside its message: read and write buffers, the decompressor, the compressor.
const BESIDES: usize = MB;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;

#[test]
fn a_bomb_is_stopped_at_the_limit_while_it_inflates() {
    let _turn = turn();
    let zeros = in_blocks(0, 64 * KB, 256);
    assert!((16 * KB..32 * KB).contains(&zeros.len()), "{}", zeros.len());
    let message = frame(FIN | COMPRESSED | BINARY, &zeros);
    refused("16 KB of 16 MiB", &message, ErrorKind::TooBig, 1009, 2 * LIMIT + BESIDES);
    let text = frame(FIN | COMPRESSED | TEXT, &in_blocks(b'a', 64 * KB, 256));
    refused("16 KB of 16 MiB of text", &text, ErrorKind::TooBig, 1009, 2 * LIMIT + BESIDES);

    // One block of a MiB that refers to nothing but zeros before it, a thousand times.
    let gibibyte = in_blocks(0, MB, 1024);
    assert!((MB..2 * MB).contains(&gibibyte.len()), "{}", gibibyte.len());
    let message = frame(FIN | COMPRESSED | BINARY, &gibibyte);
    refused("1 MB of 1 GiB", &message, ErrorKind::TooBig, 1009, 2 * LIMIT + BESIDES);

    let tiny = in_blocks(0, 258, 20_000);
    let message = frame(FIN | COMPRESSED | BINARY, &tiny);
    refused("20,000 tiny blocks", &message, ErrorKind::TooBig, 1009, 2 * LIMIT + BESIDES);

    let mut fragments = frame(COMPRESSED | BINARY, &[]);
    for block in in_blocks(0, 16 * KB, 1000).chunks(20) {
        fragments.extend(frame(CONTINUATION, block));
        fragments.extend(frame(PING, b"between"));
    }
    refused("a bomb in fragments", &fragments, ErrorKind::TooBig, 1009, 2 * LIMIT + BESIDES);
}

#[test]
fn final_blocks_must_be_worth_starting_anew() {
    let _turn = turn();
    // Each makes the decoder start over with its history.
    let full = finished(&vec![0; 32 * KB]).repeat(1000);
    refused(
        "large final blocks",
        &frame(FIN | COMPRESSED | BINARY, &full),
        ErrorKind::TooBig,
        1009,
        2 * LIMIT + BESIDES,
    );
    let empty = [3, 0].repeat(100_000);
    refused("empty final blocks", &frame(FIN | COMPRESSED | BINARY, &empty), ErrorKind::Protocol, 1002, BESIDES);
    let stored = [1, 0, 0, 0xff, 0xff].repeat(100_000);
    refused("empty stored final blocks", &frame(FIN | COMPRESSED | TEXT, &stored), ErrorKind::Protocol, 1002, BESIDES);
    let mut fragments = frame(COMPRESSED | TEXT, &[]);
    fragments.extend(frame(CONTINUATION, &[3, 0]).repeat(100_000));
    refused("a final block in each fragment", &fragments, ErrorKind::Protocol, 1002, BESIDES);
}

#[test]
fn blocks_that_carry_nothing_cost_nothing() {
    let _turn = turn();
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let writer = std::thread::spawn(move || {
        // All but the last one's end, which a sender cuts off (RFC 7692 §7.2.1).
        let blocks = [0, 0, 0, 0xff, 0xff].repeat(100_000);
        peer.write_all(&frame(FIN | COMPRESSED | TEXT, &blocks[..blocks.len() - 4])).unwrap();
        peer.write_all(&frame(FIN | COMPRESSED | TEXT, &deflate(b"Hello"))).unwrap();
        peer
    });
    assert_eq!(ws.recv().unwrap(), Some(Message::from("")));
    assert_eq!(ws.recv().unwrap(), Some(Message::from("Hello")));
    assert!(memory.peak() < BESIDES + MB, "the peer's own bytes, and a decompressor");
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
        peer.write_all(&header_of(header, payload)).unwrap();
        peer.write_all(b"abc").unwrap();
        let error = ws.recv_timeout(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(memory.peak() < 128 * KB, "{header:#x}: {} bytes", memory.peak());
    }
    for length in [LIMIT as u64 + 1, 1 << 40, (1 << 63) - 1] {
        let message = header_of(FIN | BINARY, length);
        refused(&format!("{length} bytes declared"), &message, ErrorKind::TooBig, 1009, 64 * KB);
    }
    refused("the top bit", &header_of(FIN | BINARY, 1 << 63), ErrorKind::Protocol, 1002, 64 * KB);
}

/// A large message that stops coming: it holds a small multiple of what came, whatever it announced.
#[test]
fn half_a_large_message_holds_no_more_than_what_came_of_it() {
    let _turn = turn();
    const LIMIT: usize = 64 * MB;
    for sent in [70 * KB, 300 * KB, MB] {
        // In one frame; in fragments, each of which announces all that is left.
        let whole = [header_of(FIN | BINARY, LIMIT as u64), vec![7; sent]].concat();
        let first = frame(BINARY, &vec![7; sent / 2]);
        let left = (LIMIT - sent / 2) as u64;
        let fragments = [first, header_of(CONTINUATION, left), vec![7; sent - sent / 2]].concat();
        for (name, bytes) in [("one frame", &whole), ("fragments", &fragments)] {
            let (ws, mut peer) = served(LIMIT);
            let memory = Meter::start();
            std::thread::scope(|scope| {
                scope.spawn(|| peer.write_all(bytes).unwrap());
                let mut tries = 0;
                while memory.now() < sent {
                    assert_eq!(ws.recv_timeout(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::Timeout);
                    tries += 1;
                    assert!(tries < 10_000, "{name}: {} of {sent} bytes", memory.now());
                }
            });
            assert_eq!(ws.recv_timeout(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::Timeout);
            // While it grows there is what came, and room for twice as much; and there are two read buffers.
            let peak = memory.peak();
            assert!(peak < 3 * sent + 256 * KB, "{sent} bytes in {name}: {peak}");
        }
        let beyond = [frame(BINARY, &vec![7; sent]), header_of(CONTINUATION, (LIMIT - sent + 1) as u64)].concat();
        let (ws, mut peer) = served(LIMIT);
        let memory = Meter::start();
        std::thread::scope(|scope| {
            scope.spawn(|| peer.write_all(&beyond).unwrap());
            assert_eq!(ws.recv().unwrap_err().kind(), ErrorKind::TooBig);
        });
        assert!(memory.peak() < 3 * sent + 256 * KB, "{sent} bytes and too many announced: {}", memory.peak());
        assert_eq!(read_frame(&mut peer), (CLOSE, 1009u16.to_be_bytes().into()));
    }
}

#[test]
fn a_message_at_the_limit_costs_a_small_multiple_of_it() {
    let _turn = turn();
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let writer = std::thread::spawn(move || {
        let block = [7; 1000];
        peer.write_all(&header_of(FIN | BINARY, LIMIT as u64)).unwrap();
        for at in (0..LIMIT).step_by(block.len()) {
            peer.write_all(&block[..block.len().min(LIMIT - at)]).unwrap();
        }
        peer
    });
    assert_eq!(ws.recv().unwrap().unwrap().len(), LIMIT);
    let peak = memory.peak();
    assert!(peak < 3 * LIMIT + BESIDES, "{peak}");
    drop(writer.join().unwrap());
}

#[test]
fn pongs_that_nobody_reads_do_not_pile_up() {
    let _turn = turn();
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let writer = std::thread::spawn(move || {
        let pings = frame(PING, &[b'p'; 125]).repeat(50);
        for _ in 0..400 {
            peer.write_all(&pings).unwrap();
            // Mostly read alone: of those that are read together only the last get a pong.
            std::thread::sleep(Duration::from_millis(1));
        }
        peer.write_all(&frame(FIN | TEXT, b"still here")).unwrap();
        peer
    });
    // 2.5 MB of pongs: more than the sockets of both sides hold.
    assert_eq!(ws.recv().unwrap(), Some(Message::from("still here")));
    let peak = memory.peak();
    assert!(peak < BESIDES, "{peak}");
    let mut peer = writer.join().unwrap();
    // Once the peer reads, the pongs are whole and what is sent comes behind them.
    let reader = std::thread::spawn(move || {
        let mut pongs = 0;
        loop {
            match read_frame(&mut peer) {
                (0x8a, payload) => pongs += usize::from(payload == [b'p'; 125]),
                (0x81, payload) => return (pongs, payload, peer),
                other => panic!("{other:?}"),
            }
        }
    });
    ws.send("after them").unwrap();
    let (pongs, payload, _peer) = reader.join().unwrap();
    assert_eq!(payload, b"after them");
    assert!((64..15_000).contains(&pongs), "the last pings are answered, not all: {pongs}");
}

#[test]
fn a_flood_of_empty_messages_is_bounded() {
    let _turn = turn();
    // Nobody receives: it stays in the sockets.
    let (ws, mut peer) = served(64 * KB);
    let flood = frame(FIN | TEXT, b"").repeat(500_000);
    let memory = Meter::start();
    let writer = std::thread::spawn(move || {
        // The end of it, behind which the close comes.
        let _ = peer.write_all(&flood);
        let _ = peer.write_all(&frame(CLOSE, &[0x03, 0xe8]));
        (peer, flood)
    });
    std::thread::sleep(Duration::from_millis(20));
    assert!(memory.peak() < 64 * KB);
    // Closing has to read it, keeps 1 MiB of it for `recv`, and says how much that leaves out.
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
    let mut fragments = frame(TEXT, b"");
    fragments.extend(frame(CONTINUATION, b"").repeat(131_072));
    refused("empty fragments", &fragments, ErrorKind::Protocol, 1008, BESIDES);
}

#[test]
fn a_slow_peer_holds_no_more_than_it_sent_and_no_call_beyond_its_time() {
    let _turn = turn();
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let (stop, is_stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let message = frame(FIN | TEXT, &[b'a'; 100_000]);
        for byte in message.chunks(1) {
            peer.write_all(byte).unwrap();
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

/// What the documentation of [`Compression`] says that a connection costs; run it with `--nocapture` for the numbers.
#[test]
fn a_connection_costs_what_the_documentation_says() {
    let _turn = turn();
    let bits = |bits: u8| format!("permessage-deflate; client_max_window_bits={bits}; server_max_window_bits={bits}");
    let forget = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
    let cases = [
        ("off", bits(15), 16),
        ("15 bits", bits(15), 460),
        ("12 bits", bits(12), 320),
        ("9 bits", bits(9), 300),
        ("15 bits, forgetting", forget.to_string(), 460),
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
        let (first, payload) = read_frame(&mut peer);
        assert_eq!(first & COMPRESSED != 0, is_on);
        drop(payload);
        let sent = used();
        let payload = if is_on { deflate(text.as_bytes()) } else { text.into() };
        peer.write_all(&frame(FIN | TEXT | first & COMPRESSED, &payload)).unwrap();
        drop(payload);
        assert_eq!(ws.recv().unwrap(), Some(Message::from(text)));
        // While it waits in vain it gives back what it has for bursts.
        assert!(ws.recv_timeout(Duration::from_millis(150)).is_err());
        let both = used();
        println!("{name:>20}: idle {idle:.1} KiB, after a message sent {sent:.1}, and one received {both:.1}");
        assert!(idle < 16.0 && both < f64::from(most), "{name}: {idle} and {both} KiB");
    }
}

/// One test at a time: they share the allocator.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is allocated at most beyond what was there at the start.
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

/// The connection fails with this kind and tells the peer this code, with at most so much memory meanwhile, and holds
/// next to nothing afterwards.
fn refused(what: &str, bytes: &[u8], kind: ErrorKind, code: u16, most: usize) {
    let (ws, mut peer) = served(LIMIT);
    let memory = Meter::start();
    let result = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            // It may be refused before all is written.
            let _ = peer.write_all(bytes);
            let mut last = (0, Vec::new());
            while last.0 != CLOSE {
                last = read_frame(&mut peer);
            }
            last.1
        });
        let result = ws.recv();
        let peak = memory.peak();
        assert!(peak < most, "{what}: {peak} bytes at most, expected less than {most}");
        assert_eq!(writer.join().unwrap(), code.to_be_bytes(), "{what}");
        result
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert_eq!(ws.recv().unwrap_err().kind(), kind, "{what}: again");
    drop(ws);
}

/// A server with this limit on messages and compression, and the bare stream of its client.
fn served(limit: usize) -> (WebSocket, TcpStream) {
    let (ws, peer) = served_with(&AcceptOptions::new().max_message_size(limit), "permessage-deflate");
    assert_eq!(ws.extensions(), "permessage-deflate");
    (ws, peer)
}

/// As [`served`], with the client's offer of extensions.
fn served_with(options: &AcceptOptions, offer: &str) -> (WebSocket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nodelay(true).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    peer.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        peer,
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n",
    )
    .unwrap();
    let stream = listener.accept().unwrap().0;
    // So little that a test can fill it.
    socket2::SockRef::from(&stream).set_send_buffer_size(128 * KB).unwrap();
    socket2::SockRef::from(&peer).set_recv_buffer_size(128 * KB).unwrap();
    let ws = options.accept(stream).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (ws, peer)
}

/// A client's frame; the mask is zero, which is as good as any other.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&header_of(first, payload.len() as u64), payload].concat()
}

fn header_of(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..126 => header.push(0x80 | length as u8),
        126..65536 => {
            header.push(0x80 | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend(length.to_be_bytes());
        }
    }
    header.extend([0; 4]);
    header
}

/// A server's frame of less than 126 bytes.
fn read_frame(peer: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    peer.read_exact(&mut head).unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    peer.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

/// A message as RFC 7692 §7.2.1 has it.
fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flush(&mut Compress::new(Level::best(), false), payload, &mut out);
    out.truncate(out.len() - 4);
    out
}

/// `size` times this byte, in blocks of their own, `count` times.
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

/// A stream whose last block is final.
fn finished(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    Compress::new(Level::best(), false).compress_vec(payload, &mut out, flate2::FlushCompress::Finish).unwrap();
    out
}
