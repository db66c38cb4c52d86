//! permessage-deflate (RFC 7692) in frames: the examples of the RFC, its parameters, and invalid data.

use crate::support::*;
use wsync::{Compression, ErrorKind, Outgoing};

const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn the_offer_follows_the_options() {
    bounded(|| {
        let deflate = Compression::default;
        for (compression, offer) in [
            (deflate(), Some("permessage-deflate; client_max_window_bits")),
            (Compression::off(), None),
            (deflate().client_max_window_bits(9), Some("permessage-deflate; client_max_window_bits=9")),
            (
                deflate().server_max_window_bits(8).server_no_context_takeover(true).client_no_context_takeover(true),
                Some(
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                     server_max_window_bits=8; client_max_window_bits",
                ),
            ),
        ] {
            let server = Server::new(Layer::Plain, |mut peer| {
                peer.read_head();
                peer.header("Sec-WebSocket-Extensions").join("|")
            });
            options().compression(compression).connect(&server.url).unwrap_err();
            assert_eq!(server.join(), offer.unwrap_or_default());
        }
    });
}

/// The examples of RFC 7692 §7.2.3, in sequence on one connection.
#[test]
fn the_examples_of_the_rfc_are_decoded() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = deflate_pair(side, layer, 0);
        let examples: [(&[u8], &str); 8] = [
            (HELLO, "Hello"),
            (&[0xf2, 0x00, 0x11, 0x00, 0x00], "Hello"), // uses the history
            (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], "Hello"), // stored
            (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"), // a final block
            (HELLO, "Hello"),
            (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], "Hello"), // two blocks
            (&[0x00], ""),
            (HELLO, "Hello"),
        ];
        for (bytes, message) in examples {
            peer.send(FIN | TEXT | COMPRESSED, bytes);
            assert_eq!(kind(ws.recv()), Ok(text(message)), "{bytes:02x?}");
        }
        // Fragments with a ping between them, and an uncompressed message between compressed ones.
        peer.send(TEXT | COMPRESSED, &HELLO[..3]);
        peer.send(PING, b"p");
        peer.send(0, b"");
        peer.send(FIN, &HELLO[3..]);
        peer.send(FIN | TEXT, b"plain");
        peer.send(TEXT | COMPRESSED, &HELLO[..1]);
        peer.send(FIN, &HELLO[1..]);
        for expected in ["Hello", "plain", "Hello"] {
            assert_eq!(kind(ws.recv()), Ok(text(expected)));
        }
        assert_eq!(peer.frame(), Frame::new(PONG, b"p"));
    });
}

#[test]
fn both_directions_use_their_history() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = deflate_pair(side, layer, 0);
        let mut codec = Codec::new();
        let words = "many of the same words, again and again; ".repeat(100);
        let noise = String::from_utf8_lossy(&pattern(5000, 9)).into_owned();
        for message in [&words, &words, &noise, &String::new(), &words, &noise] {
            ws.send(message).unwrap();
            let frame = peer.frame();
            assert_eq!(frame.first, FIN | TEXT | COMPRESSED);
            assert!(message != &words || frame.payload.len() < words.len() / 10, "{} bytes", frame.payload.len());
            assert_eq!(codec.inflate(&frame.payload), message.as_bytes());

            let payload = codec.deflate(message.as_bytes());
            peer.send(FIN | TEXT | COMPRESSED, &payload);
            assert_eq!(kind(ws.recv()), Ok(text(message)));
        }
        // An uncompressed message is not part of the history.
        ws.send(Outgoing::from(&words).uncompressed()).unwrap();
        assert_eq!(peer.frame(), Frame::new(FIN | TEXT, words.as_bytes()));
        ws.send(&words).unwrap();
        assert_eq!(codec.inflate(&peer.frame().payload), words.as_bytes());
    });
}

/// Many threads compress at once: the frames are sent in the order in which they were compressed.
#[test]
fn concurrent_senders_share_one_history() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = deflate_pair(side, layer, 0);
        let mut codec = Codec::new();
        std::thread::scope(|scope| {
            for sender in 0..8u8 {
                let ws = &ws;
                scope.spawn(move || {
                    for number in 0..50u8 {
                        ws.send([&[sender, number][..], &[sender; 500]].concat()).unwrap();
                        if number % 10 == 0 {
                            ws.send(Outgoing::from(b"plain").uncompressed()).unwrap();
                        }
                    }
                });
            }
            let mut next = [0u8; 8];
            for _ in 0..8 * 55 {
                let frame = peer.frame();
                if frame.first == FIN | BINARY {
                    assert_eq!(frame.payload, b"plain");
                    continue;
                }
                let message = codec.inflate(&frame.payload);
                let [sender, number, ref rest @ ..] = message[..] else { panic!("{message:?}") };
                assert_eq!((number, rest), (next[sender as usize], &[sender; 500][..]), "of sender {sender}");
                next[sender as usize] += 1;
            }
        });
    });
}

/// The error that the caller gets, and the close code that the peer gets.
#[test]
fn invalid_compression_is_an_error() {
    on_every_pair(|side, layer| {
        let not_utf8 = Codec::new().deflate(b"ab\xff");
        let cut = Codec::new().deflate("ab€".as_bytes()[..4].into());
        type Frames<'a> = &'a [(u8, &'a [u8])];
        let cases: [(&str, Frames<'_>, ErrorKind, u16); 9] = [
            ("block type 3", &[(FIN | TEXT | COMPRESSED, &[0x06, 0x00])], ErrorKind::Protocol, 1002),
            ("no history", &[(FIN | TEXT | COMPRESSED, &[0xf2, 0x00, 0x11, 0x00, 0x00])], ErrorKind::Protocol, 1002),
            ("stored length", &[(FIN | TEXT | COMPRESSED, &[0x00, 0x05, 0x00, 0xfa, 0xfe])], ErrorKind::Protocol, 1002),
            ("cut block", &[(FIN | TEXT | COMPRESSED, &HELLO[..3])], ErrorKind::Protocol, 1002),
            (
                "bit on a continuation",
                &[(TEXT | COMPRESSED, HELLO), (FIN | COMPRESSED, b"")],
                ErrorKind::Protocol,
                1002,
            ),
            ("bit on a ping", &[(PING | COMPRESSED, HELLO)], ErrorKind::Protocol, 1002),
            ("bit on a close", &[(CLOSE | COMPRESSED, b"")], ErrorKind::Protocol, 1002),
            ("not UTF-8", &[(FIN | TEXT | COMPRESSED, &not_utf8)], ErrorKind::Utf8, 1007),
            ("cut code point", &[(FIN | TEXT | COMPRESSED, &cut)], ErrorKind::Utf8, 1007),
        ];
        for (name, frames, expected, sent) in cases {
            let (ws, mut peer) = deflate_pair(side, layer, 0);
            for (first, payload) in frames {
                peer.send(*first, payload);
            }
            assert_eq!(kind(ws.recv()), Err(expected), "{name}");
            assert_eq!(peer.frames(), [Frame::close(sent)], "{name}");
        }
    });
}

/// The limit applies to the inflated size.
#[test]
fn max_message_size_holds_while_inflating() {
    bounded(|| {
        let zeros = Codec::new().deflate(&vec![0; 100_001]);
        for (size, fits) in [(100_001, true), (100_000, false)] {
            let line = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
            let (ws, mut peer) = connected_with(Layer::Plain, &options().max_message_size(size), line);
            peer.send(FIN | BINARY | COMPRESSED, &zeros);
            let expected = if fits { Ok(binary(&[0; 100_001])) } else { Err(ErrorKind::TooBig) };
            assert!(kind(ws.recv()) == expected, "{size}");
            drop(ws);
            assert_eq!(peer.frames(), [Frame::close(if fits { 1001 } else { 1009 })]);
        }
    });
}

/// Without context takeover no message refers to an earlier one.
#[test]
fn messages_without_context_takeover_are_independent() {
    bounded(|| {
        let line =
            "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n";
        let (ws, mut peer) = connected_with(Layer::Plain, &options(), line);
        let words = "many of the same words, again and again; ".repeat(100);
        for _ in 0..3 {
            ws.send(&words).unwrap();
            assert_eq!(Codec::new().inflate(&peer.frame().payload), words.as_bytes());
            let payload = Codec::new().deflate(words.as_bytes());
            peer.send(FIN | TEXT | COMPRESSED, &payload);
            assert_eq!(kind(ws.recv()), Ok(text(&words)));
        }
        peer.send(FIN | TEXT | COMPRESSED, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
        assert_eq!(kind(ws.recv()), Err(ErrorKind::Protocol), "a message that refers to the history");
    });
}
