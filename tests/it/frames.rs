//! Valid and invalid frames: what the caller receives, and every byte that the peer receives.

use crate::support::*;
use wsync::{AcceptOptions, ErrorKind, Message, WebSocket};

/// The `max_message_size` of these connections.
const LIMIT: usize = 1000;
const MAX_FRAGMENTS: usize = 131_072;

struct Case {
    name: String,
    bytes: Vec<u8>,
    messages: Vec<Message>,
    end: End,
    /// The frames that the peer receives before the close frame.
    replies: Vec<Frame>,
}

/// What the caller receives after the messages.
enum End {
    /// Nothing: the connection stays open.
    Open,
    /// A clean end: `close_code` returns this code, and the close frame to the peer has this payload.
    Clean(u16, Vec<u8>),
    /// An error of this kind: the close frame to the peer has this code.
    Broken(ErrorKind, u16),
}

use ErrorKind::{Protocol, TooBig, Utf8};

impl Side {
    /// A frame as the peer of this side must write it.
    fn frame(self, first: u8, payload: &[u8]) -> Vec<u8> {
        match self {
            Side::Client => frame(first, payload),
            Side::Server => masked(first, payload),
        }
    }

    /// A frame that is masked although it must not be, or not masked although it must be.
    fn wrongly_masked(self, first: u8, payload: &[u8]) -> Vec<u8> {
        match self {
            Side::Client => masked(first, payload),
            Side::Server => frame(first, payload),
        }
    }

    /// A header without its payload.
    fn header(self, first: u8, seven_bits: u8, rest: &[u8]) -> Vec<u8> {
        match self {
            Side::Client => [&[first, seven_bits], rest].concat(),
            Side::Server => [&[first, 0x80 | seven_bits], rest, &[1, 2, 3, 4]].concat(),
        }
    }
}

fn cases(side: Side) -> Vec<Case> {
    let mut cases = Vec::new();
    let f = |first: u8, payload: &[u8]| side.frame(first, payload);
    let mut add = |name: &str, frames: &[Vec<u8>], messages: &[Message], replies: &[Frame], end: End| {
        cases.push(Case {
            name: format!("{side:?}: {name}"),
            bytes: frames.concat(),
            messages: messages.to_vec(),
            replies: replies.to_vec(),
            end,
        });
    };
    let long = vec![b'x'; LIMIT];
    let text = |text: &str| Message::from(text);
    let bytes = |bytes: &[u8]| Message::from(bytes);

    // Valid messages.
    add("text", &[f(FIN | TEXT, "smørrebrød €𝄞".as_bytes())], &[text("smørrebrød €𝄞")], &[], End::Open);
    add("binary", &[f(FIN | BINARY, &[0, 255, 128])], &[bytes(&[0, 255, 128])], &[], End::Open);
    add("empty", &[f(FIN | TEXT, b""), f(FIN | BINARY, b"")], &[text(""), bytes(b"")], &[], End::Open);
    add("at the limit", &[f(FIN | BINARY, &long)], &[bytes(&long)], &[], End::Open);
    for length in [124, 125, 126, 127, 128] {
        let payload = vec![b'y'; length];
        add(&format!("{length} bytes"), &[f(FIN | BINARY, &payload)], &[bytes(&payload)], &[], End::Open);
    }
    add("fragments", &[f(TEXT, b"a"), f(0, b"b"), f(0, b""), f(FIN, b"c")], &[text("abc")], &[], End::Open);
    add("empty fragments", &[f(TEXT, b""), f(FIN, b"")], &[text("")], &[], End::Open);
    add(
        "a code point over fragments",
        &[f(TEXT, b"\xe2"), f(0, b"\x82"), f(FIN, b"\xac")],
        &[text("€")],
        &[],
        End::Open,
    );
    add("fragments at the limit", &[f(BINARY, &long[..600]), f(FIN, &long[..400])], &[bytes(&long)], &[], End::Open);
    add(
        "ping between fragments",
        &[f(TEXT, b"a"), f(PING, b"p"), f(0, b"b"), f(PONG, b"unsolicited"), f(FIN, b"c")],
        &[text("abc")],
        &[Frame::new(PONG, b"p")],
        End::Open,
    );
    let longest = [b'p'; 125];
    let pong = Frame::new(PONG, &longest);
    add("pings", &[f(PING, b""), f(PING, &longest)], &[], &[Frame::new(PONG, b""), pong], End::Open);
    add("unsolicited pongs", &[f(PONG, b""), f(PONG, b"wsync 1"), f(FIN | TEXT, b"x")], &[text("x")], &[], End::Open);

    // Valid close frames.
    add("close without code", &[f(CLOSE, b"")], &[], &[], End::Clean(1005, vec![]));
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        let payload = close_payload(code, "");
        add(&format!("close {code}"), &[f(CLOSE, &payload)], &[], &[], End::Clean(code, payload));
    }
    let ignored = [f(PING, b"late"), f(FIN | TEXT, b"late"), vec![0xff; 50]].concat();
    let payload = close_payload(1000, "");
    add("bytes after close", &[f(CLOSE, &payload), ignored], &[], &[], End::Clean(1000, payload.clone()));
    let before = &[f(FIN | TEXT, b"last"), f(PING, b"p"), f(CLOSE, &payload)];
    let replies = &[Frame::new(PONG, b"p")];
    add("message, ping, close", before, &[text("last")], replies, End::Clean(1000, payload.clone()));
    add("close inside a message", &[f(TEXT, b"half"), f(CLOSE, &payload)], &[], &[], End::Clean(1000, payload));

    // Invalid frames.
    let broken = |kind, code| End::Broken(kind, code);
    for bit in [0x40, 0x20, 0x10] {
        for opcode in [TEXT, BINARY, CLOSE, PING] {
            let first = FIN | opcode | bit;
            add(&format!("reserved bit, {first:#x}"), &[f(first, b"")], &[], &[], broken(Protocol, 1002));
        }
        add("reserved bit on a continuation", &[f(TEXT, b""), f(FIN | bit, b"")], &[], &[], broken(Protocol, 1002));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        add(&format!("opcode {opcode}"), &[f(FIN | opcode, b"")], &[], &[], broken(Protocol, 1002));
    }
    for first in [FIN | TEXT, PING, CLOSE] {
        let name = format!("wrong masking, {first:#x}");
        add(&name, &[side.wrongly_masked(first, b"")], &[], &[], broken(Protocol, 1002));
    }
    add("after a good one", &[f(FIN | TEXT, b"a"), f(FIN | 3, b"")], &[text("a")], &[], broken(Protocol, 1002));
    for first in [CLOSE, PING, PONG] {
        add("fragmented control", &[f(first & !FIN, b"")], &[], &[], broken(Protocol, 1002));
        add("control of 126", &[f(first, &[b'x'; 126])], &[], &[], broken(Protocol, 1002));
    }
    add("continuation first", &[f(FIN, b"x")], &[], &[], broken(Protocol, 1002));
    add("unfinished continuation first", &[f(0, b"x")], &[], &[], broken(Protocol, 1002));
    add("continuation after a message", &[f(FIN | TEXT, b"a"), f(FIN, b"")], &[text("a")], &[], broken(Protocol, 1002));
    for opcode in [TEXT, FIN | TEXT, BINARY, FIN | BINARY] {
        add("data inside a message", &[f(TEXT, b"a"), f(opcode, b"b")], &[], &[], broken(Protocol, 1002));
    }

    // Lengths.
    let huge = |length: u64| side.header(FIN | BINARY, 127, &length.to_be_bytes());
    add("top bit of the length", &[huge(1 << 63)], &[], &[], broken(Protocol, 1002));
    add("all bits of the length", &[huge(u64::MAX)], &[], &[], broken(Protocol, 1002));
    add("huge length", &[huge(u64::MAX >> 1)], &[], &[], broken(TooBig, 1009));
    add(
        "huge length of a fragment",
        &[f(BINARY, b"x"), side.header(0, 127, &[0x7f, 255, 255, 255, 255, 255, 255, 255])],
        &[],
        &[],
        broken(TooBig, 1009),
    );
    add("length in 16 bits for 7", &[side.header(FIN | BINARY, 126, &[0, 125])], &[], &[], broken(Protocol, 1002));
    add("length in 64 bits for 16", &[huge(65535)], &[], &[], broken(Protocol, 1002));
    add("one over the limit", &[f(FIN | BINARY, &[b'x'; LIMIT + 1])], &[], &[], broken(TooBig, 1009));
    add("only declared, over the limit", &[side.header(FIN | TEXT, 126, &[4, 0])], &[], &[], broken(TooBig, 1009));
    let fragments = &[f(BINARY, &long), f(FIN, b"x")];
    add("fragments over the limit", fragments, &[], &[], broken(TooBig, 1009));
    let most = f(0, b"").repeat(MAX_FRAGMENTS - 1);
    add("too many fragments", &[f(TEXT, b""), most.clone(), f(0, b"")], &[], &[], broken(Protocol, 1008));
    add("most fragments", &[f(TEXT, b""), most[f(0, b"").len()..].to_vec(), f(FIN, b"")], &[text("")], &[], End::Open);

    // Invalid close frames.
    add("close of one byte", &[f(CLOSE, b"\x03")], &[], &[], broken(Protocol, 1002));
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        let payload = close_payload(code, "");
        add(&format!("close {code}"), &[f(CLOSE, &payload)], &[], &[], broken(Protocol, 1002));
    }
    add("close reason", &[f(CLOSE, b"\x03\xe8ab\xff")], &[], &[], broken(Utf8, 1007));
    add("cut close reason", &[f(CLOSE, b"\x03\xe8\xe2\x82")], &[], &[], broken(Utf8, 1007));

    // Invalid text.
    for (name, bad) in [
        ("overlong", &b"a\xc0\xaf"[..]),
        ("overlong in three", b"\xe0\x80\xaf"),
        ("surrogate", b"\xed\xa0\x80"),
        ("above U+10FFFF", b"\xf4\x90\x80\x80"),
        ("no such byte", b"\xfe"),
        ("lone continuation", b"\x80"),
        ("cut", b"abc\xe2\x82"),
    ] {
        add(name, &[f(FIN | TEXT, bad)], &[], &[], broken(Utf8, 1007));
        add(
            &format!("{name}, in fragments"),
            &[f(TEXT, &bad[..1]), f(0, b""), f(FIN, &bad[1..])],
            &[],
            &[],
            broken(Utf8, 1007),
        );
    }
    add("not UTF-8 in an unfinished message", &[f(TEXT, b"a\xffb")], &[], &[], broken(Utf8, 1007));
    cases
}

fn check(ws: WebSocket, mut peer: Peer, case: Case) {
    let name = &case.name;
    // On another thread, because the bytes may exceed the sockets' buffers.
    let (bytes, writer_name) = (case.bytes, name.clone());
    let peer = spawn(name, move || {
        // Fails if the other side has closed the connection before the last byte.
        let _ = peer.try_write(&bytes).map_err(|error| eprintln!("{writer_name}: {error}"));
        peer
    });
    for message in case.messages {
        assert_eq!(kind(ws.recv()), Ok(Some(message)), "{name}");
    }
    let mut expected = case.replies;
    match case.end {
        End::Open => {
            let mut peer = wait_for(peer);
            peer.send(PING, b"end");
            expected.push(Frame::new(PONG, b"end"));
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock), "{name}");
            assert_eq!((ws.close_code(), ws.ready_state()), (None, wsync::ReadyState::Open), "{name}");
            while peer.frame_into(&mut expected, name) {}
            drop(ws);
            assert_eq!(peer.frames(), [Frame::close(1001)], "{name}");
            return;
        }
        End::Clean(close_code, payload) => {
            for _ in 0..3 {
                assert_eq!(kind(ws.recv()), Ok(None), "{name}");
            }
            assert_eq!((ws.close_code(), ws.close_reason()), (code(close_code), Some("")), "{name}");
            expected.push(Frame::new(CLOSE, &payload));
        }
        End::Broken(error, sent) => {
            for _ in 0..3 {
                assert_eq!(kind(ws.recv()), Err(error), "{name}");
            }
            assert_eq!(ws.close_code(), code(1006), "{name}");
            expected.push(Frame::close(sent));
        }
    }
    assert_eq!(kind(ws.send("more")), Err(ErrorKind::Closed), "{name}");
    // TCP ends although the handle still exists.
    assert_eq!(wait_for(peer).frames(), expected, "{name}");
    drop(ws);
}

trait FrameInto {
    fn frame_into(&mut self, expected: &mut Vec<Frame>, name: &str) -> bool;
}

impl FrameInto for Peer {
    /// Reads the first of the expected frames and removes it. Returns whether there are more.
    fn frame_into(&mut self, expected: &mut Vec<Frame>, name: &str) -> bool {
        assert_eq!(self.frame(), expected.remove(0), "{name}");
        !expected.is_empty()
    }
}

#[test]
fn every_frame_has_the_expected_result() {
    on_every_pair(|side, layer| {
        let client = options().max_message_size(LIMIT);
        let server = AcceptOptions::new().max_message_size(LIMIT);
        // Large cases only without TLS, which is slow in a build without optimisation.
        let is_small_or_plain = |case: &Case| layer == Layer::Plain || case.bytes.len() < 2 * MAX_FRAGMENTS;
        for case in cases(side).into_iter().filter(is_small_or_plain) {
            let (ws, peer) = match side {
                Side::Client => connected(layer, &client),
                Side::Server => accepted(layer, &server),
            };
            check(ws, peer, case);
        }
    });
}

/// The result does not depend on how the bytes are split.
#[test]
fn frames_may_arrive_byte_by_byte() {
    on_every_pair(|side, layer| {
        if layer != Layer::Plain {
            return;
        }
        for case in cases(side).into_iter().filter(|case| case.bytes.len() < 200 && case.messages.len() == 1) {
            let (ws, mut peer) = pair(side, layer);
            for byte in case.bytes {
                peer.write(&[byte]);
            }
            assert_eq!(kind(ws.recv()), Ok(case.messages.into_iter().next()), "{}", case.name);
        }
    });
}
