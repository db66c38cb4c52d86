//! Frames without compression.

use super::*;

#[test]
fn broken_frames() {
    let cases = [
        ("91 00", 'P', "reserved bits 0x10"),
        ("a1 00", 'P', "reserved bits 0x20"),
        ("c1 01 00", 'P', "reserved bits 0x40"),
        ("c9 00", 'P', "reserved bits 0x40"),
        ("83 00", 'P', "opcode 0x3"),
        ("84 00", 'P', "0x4"),
        ("85 00", 'P', "0x5"),
        ("86 00", 'P', "0x6"),
        ("87 00", 'P', "0x7"),
        ("8b 00", 'P', "0xb"),
        ("8c 00", 'P', "0xc"),
        ("8d 00", 'P', "0xd"),
        ("8e 00", 'P', "0xe"),
        ("8f 00", 'P', "0xf"),
        // Lengths.
        ("82 7f 80 00 00 00 00 00 00 00", 'P', "top bit"),
        ("82 7f ff ff ff ff ff ff ff ff", 'P', "top bit"),
        ("82 7f 7f ff ff ff ff ff ff ff", 'B', "limit of 70000"),
        ("82 7f 00 00 00 00 00 01 11 71", 'B', "70001 bytes"),
        ("82 7e 00 7d", 'P', "length 125 in more bytes"),
        ("82 7e 00 00", 'P', "length 0 in more bytes"),
        ("82 7f 00 00 00 00 00 00 ff ff", 'P', "length 65535 in more bytes"),
        // Control frames.
        ("09 00", 'P', "ping frame is fragmented"),
        ("0a 00", 'P', "pong frame is fragmented"),
        ("08 00", 'P', "close frame is fragmented"),
        ("89 7e 00 7e", 'P', "ping frame has more than 125"),
        ("88 7e 00 7e", 'P', "close frame has more than 125"),
        ("8a 7f 00 00 00 00 00 01 00 00", 'P', "pong frame has more than 125"),
        // Sequence.
        ("80 00", 'P', "outside a message"),
        ("00 01 61", 'P', "outside a message"),
        ("01 01 61 81 01 62", 'P', "text frame came inside"),
        ("01 01 61 82 01 62", 'P', "binary frame came inside"),
        ("02 00 01 00", 'P', "text frame came inside"),
        ("01 01 61 80 01 62 80 00", 'P', "outside a message"),
        // Close frames.
        ("88 01 03", 'P', "one byte, 0x03"),
        ("88 04 03 e8 c3 28", 'U', "0xc3 at offset 0"),
        ("88 04 03 e8 61 e2", 'U', "0xe2 at offset 1"),
        // Text.
        ("81 02 c0 af", 'U', "0xc0 at offset 0"),
        ("81 05 61 62 ed a0 80", 'U', "0xed at offset 2"),
        ("81 04 f4 90 80 80", 'U', "0xf4 at offset 0"),
        ("01 02 f4 90", 'U', "0xf4 at offset 0"),
        ("01 01 f4 00 01 90", 'U', "0xf4 at offset 0"),
        ("01 03 61 62 ed 89 00 80 01 a0", 'U', "0xed at offset 2"),
        ("81 01 80", 'U', "0x80 at offset 0"),
        ("81 03 61 e2 82", 'U', "inside a character"),
        ("01 01 e2 80 01 82", 'U', "inside a character"),
        ("01 01 e2 80 00", 'U', "inside a character"),
    ];
    for (bytes, expected, says) in cases {
        let (_, violation) = feed(&hex(bytes), LIMITS, None);
        let violation = violation.unwrap_or_else(|| panic!("{bytes} was accepted"));
        assert_eq!(letter(&violation), expected, "{bytes}: {violation}");
        assert!(violation.to_string().contains(says), "{bytes}: {violation}");
        // What comes after it is ignored, and what came before it is not lost.
        let around = [&hex("81 02 68 69")[..], &hex(bytes), &hex("81 02 68 69")].concat();
        let (out, again) = Reader::new(Role::Client, LIMITS, None, usize::MAX).run([&around]);
        assert_eq!((out[0].clone(), again), (text("hi"), Some(violation)));
    }
}

#[test]
fn frames_that_are_fine() {
    let cases = [
        ("81 00", vec![text("")]),
        ("82 00", vec![Out::Binary(vec![])]),
        ("81 02 68 69 82 01 ff", vec![text("hi"), Out::Binary(vec![255])]),
        ("01 03 48 65 6c 80 02 6c 6f", vec![text("Hello")]),
        ("01 00 00 00 80 00", vec![text("")]),
        ("01 01 48 89 01 21 00 01 65 8a 00 80 00", vec![Out::Ping(vec![0x21]), Out::Pong(vec![]), text("He")]),
        ("89 00 8a 02 01 02", vec![Out::Ping(vec![]), Out::Pong(vec![1, 2])]),
        // A character over three fragments, with a ping inside.
        ("01 01 e2 00 01 82 89 00 80 02 ac 21", vec![Out::Ping(vec![]), text("€!")]),
        ("81 04 f0 90 8d 88", vec![text("𐍈")]),
        // Ends.
        ("88 00", vec![Out::Close(None)]),
        ("88 02 03 e8", vec![Out::Close(Some((1000, "".into())))]),
        ("88 05 0f a0 62 79 65", vec![Out::Close(Some((4000, "bye".into())))]),
        ("01 01 61 88 00", vec![Out::Close(None)]),
        ("88 00 81 02 68 69 ff ff ff", vec![Out::Close(None)]),
    ];
    for (bytes, expected) in cases {
        assert_eq!(feed(&hex(bytes), LIMITS, None), (expected, None), "{bytes}");
    }
}

#[test]
fn lengths_around_the_borders() {
    for length in [0, 1, 31, 32, 33, 124, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let mut reader = Reader::new(Role::Client, LIMITS, None, usize::MAX);
        reader.feed(&frame(0x82, &payload));
        assert_eq!(reader.out, [Out::Binary(payload.clone())]);
        let mut reader = Reader::new(Role::Server, LIMITS, None, usize::MAX);
        reader.feed(&masked(&frame(0x82, &payload)));
        assert_eq!(reader.out, [Out::Binary(payload.clone())]);
    }
    let ping = [7; 125];
    assert_eq!(feed(&frame(0x89, &ping), LIMITS, None), (vec![Out::Ping(ping.into())], None));
}

#[test]
fn masks_are_for_clients_only() {
    let plain = hex("81 02 68 69");
    let (out, violation) = feed_as(Role::Server, &plain, LIMITS, None);
    assert_eq!((out, violation), (vec![], Some(Violation::Unmasked)));
    let (out, violation) = feed_as(Role::Client, &masked(&plain), LIMITS, None);
    assert_eq!((out, violation), (vec![], Some(Violation::Masked)));
}

#[test]
fn close_codes() {
    for code in 0..=u16::MAX {
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let mut reader = Reader::new(Role::Client, LIMITS, None, usize::MAX);
        reader.feed(&frame(0x88, &code.to_be_bytes()));
        match allowed {
            true => assert_eq!(reader.out, [Out::Close(Some((code, "".into())))]),
            false => assert_eq!(reader.violation, Some(Violation::BadCloseCode(code))),
        }
    }
}

#[test]
fn limits_of_size_and_fragments() {
    let limits = DecoderLimits { max_message_size: 5, max_fragments: 3 };
    let cases = [
        ("82 05 01 02 03 04 05", None),
        ("82 06", Some('B')),
        ("02 03 01 02 03 80 02 04 05", None),
        ("02 03 01 02 03 80 03", Some('B')),
        ("02 00 00 00 80 00", None),
        ("02 00 00 00 00 00 80 00", Some('F')),
        // The count starts anew with each message, and control frames are not part of it.
        ("02 00 00 00 89 00 80 00 02 00 89 00 00 00 80 00", None),
    ];
    for (bytes, expected) in cases {
        let (_, violation) = feed(&hex(bytes), limits, None);
        assert_eq!(violation.as_ref().map(letter), expected, "{bytes}");
    }
    let none = DecoderLimits { max_message_size: 0, max_fragments: 1 };
    assert_eq!(feed(&hex("81 00"), none, None), (vec![text("")], None));
    assert_eq!(feed(&hex("81 01"), none, None).1.as_ref().map(letter), Some('B'));
}

#[test]
fn only_tiny_fragments_are_counted() {
    let limits = DecoderLimits { max_message_size: u64::MAX, max_fragments: 10 };
    let run = |size: usize, count: usize| {
        let mut reader = Reader::new(Role::Client, limits, None, usize::MAX);
        reader.feed(&frame(0x02, &vec![0; size]));
        (1..count).for_each(|_| reader.feed(&frame(0x00, &vec![0; size])));
        reader.violation
    };
    assert_eq!(run(16, 5000), None);
    assert_eq!(run(64, 5000), None);
    assert_eq!(run(0, 11), Some(Violation::TooManyFragments { fragments: 11, bytes: 0 }));
    // One of 1 byte may come for each of 16 bytes before, and 10 more.
    assert_eq!(run(1, 10), None);
    assert_eq!(run(1, 11), Some(Violation::TooManyFragments { fragments: 11, bytes: 10 }));
    assert_eq!(run(8, 19), None);
    assert!(run(8, 30).is_some());
}

/// Not by memory: direct reads leave the bytes to the caller, who here uses the same ones again.
#[test]
fn a_message_in_parts_can_be_larger_than_4_gib() {
    const PART: usize = 1 << 26;
    let limits = DecoderLimits { max_message_size: 5 << 30, max_fragments: 10 };
    let mut part = vec![0; PART];
    let mut start = |first: u8| {
        let mut reader = Reader::new(Role::Client, limits, None, usize::MAX);
        let mut header = Vec::new();
        for (first, gib) in [(first, 3u64), (0x00, 2)] {
            header.clear();
            header.extend([first, 127]);
            header.extend((gib << 30).to_be_bytes());
            reader.feed(&header);
            for _ in 0..(gib << 30) / PART as u64 {
                assert_eq!(reader.decoder.finish_direct_read(&mut part), None);
            }
        }
        reader
    };
    let mut reader = start(0x02);
    reader.feed(&hex("80 00"));
    assert_eq!(reader.out, [Out::Binary(vec![])]);
    let mut reader = start(0x02);
    reader.feed(&hex("80 01"));
    let over = Violation::TooBig { size: (5 << 30) + 1, limit: 5 << 30 };
    assert_eq!(reader.violation, Some(over));
}

#[test]
fn binary_can_be_read_directly() {
    let limits = DecoderLimits { max_message_size: 6, ..LIMITS };
    let mut reader = Reader::new(Role::Client, limits, None, usize::MAX);
    assert_eq!(reader.decoder.direct_read_len(), 0);
    reader.feed(&hex("02 04 01"));
    assert_eq!(reader.decoder.direct_read_len(), 3);
    assert_eq!(reader.decoder.finish_direct_read(&mut [2]), None);
    assert_eq!(reader.decoder.direct_read_len(), 2);
    assert_eq!(reader.decoder.finish_direct_read(&mut [3, 4]), None);
    assert_eq!(reader.decoder.direct_read_len(), 0);
    assert!(reader.decoder.is_mid_message());
    reader.feed(&hex("89 01"));
    assert_eq!(reader.decoder.direct_read_len(), 0, "a ping's payload");
    reader.feed(&hex("07 80 02"));
    assert_eq!(reader.decoder.finish_direct_read(&mut [5, 6]), Some(FrameEvent::Message(MessageKind::Binary)));
    assert!(!reader.decoder.is_mid_message());
    reader.feed(&hex("02 04 01 02 03 04"));
    reader.feed(&hex("80 03"));
    assert_eq!(reader.violation, Some(Violation::TooBig { size: 7, limit: 6 }));
    for bytes in ["81 04", "82"] {
        let mut reader = Reader::new(Role::Client, LIMITS, None, usize::MAX);
        reader.feed(&hex(bytes));
        assert_eq!(reader.decoder.direct_read_len(), 0);
    }
    // Masked, it is unmasked where it lies, however it is cut.
    let frame = masked(&hex("82 07 01 02 03 04 05 06 07"));
    let (start, payload) = frame.split_at(7);
    for cut in 0..=payload.len() {
        let mut reader = Reader::new(Role::Server, LIMITS, None, usize::MAX);
        reader.feed(start);
        let mut payload = payload.to_vec();
        let (first, second) = payload.split_at_mut(cut);
        let end = reader.decoder.finish_direct_read(first).or_else(|| reader.decoder.finish_direct_read(second));
        assert_eq!(end, Some(FrameEvent::Message(MessageKind::Binary)));
        assert_eq!([&reader.sink.bytes[..], &payload].concat(), [1, 2, 3, 4, 5, 6, 7]);
    }
}

/// What `take_whole` makes of this input, and the violation that `next` finds in the same.
fn whole(role: Role, bytes: &[u8]) -> (Option<Vec<u8>>, Option<Violation>, Option<Violation>) {
    let mut reader = Reader::new(role, LIMITS, None, usize::MAX);
    reader.feed(bytes);
    let mut decoder = Decoder::new(role, LIMITS, None);
    let (mut input, rest) = (bytes.to_vec(), b"\x81\x02hi");
    input.extend_from_slice(rest);
    let take = |kind, payload: &[u8]| {
        if kind == MessageKind::Text {
            std::str::from_utf8(payload)?;
        }
        Ok(payload.to_vec())
    };
    match decoder.take_whole(&mut input, take) {
        WholeMessage::Absent => (None, None, reader.violation),
        WholeMessage::Taken(count, _, payload) => {
            assert_eq!(count, bytes.len());
            (Some(payload), None, reader.violation)
        }
        WholeMessage::Violation(violation) => {
            let mut more = *b"\x81\x02hi";
            let mut sink = Collector { kind: MessageKind::Text, bytes: Vec::new(), portion: 9, left: 9 };
            assert_eq!(decoder.next(&mut more, &mut sink), (4, Ok(None)), "nothing comes after a violation");
            (None, Some(violation), reader.violation)
        }
    }
}

#[test]
fn the_short_way_agrees_with_the_long_one() {
    for payload in
        [&b""[..], b"hi", b"\xe2\x82\xac", &[b'a'; 200], b"\xff", b"ab\xe2\x28\xa1", b"ab\xe2\x82", b"\xf4\x90"]
    {
        let text = frame(0x81, payload);
        let is_text = std::str::from_utf8(payload).is_ok();
        for (role, bytes) in [(Role::Client, text.clone()), (Role::Server, masked(&text))] {
            let (taken, short, long) = whole(role, &bytes);
            assert_eq!(short, long, "{payload:02x?}");
            assert_eq!(taken.as_deref(), is_text.then_some(payload));
        }
        assert_eq!(whole(Role::Client, &frame(0x82, payload)).0.as_deref(), Some(payload));
    }
    // Everything else is left to the long way.
    for bytes in ["81", "81 7e 00", "01 02 68 69", "89 00", "88 00", "c1 00", "83 00", "81 82 00 00"] {
        assert_eq!(whole(Role::Client, &hex(bytes)).1, None, "{bytes}");
    }
    let mut decoder = Decoder::new(Role::Client, LIMITS, None);
    let mut cut = hex("82 03 01 02");
    assert!(matches!(decoder.take_whole(&mut cut, |_, _| Ok(())), WholeMessage::Absent));
    let mut large = frame(0x82, &[0; 70_001]);
    assert!(matches!(decoder.take_whole(&mut large, |_, _| Ok(())), WholeMessage::Absent));
    // Inside a header, a payload and a message these bytes are something else.
    for before in ["82", "82 09 01", "89 09", "02 00", "88 00"] {
        let mut reader = Reader::new(Role::Client, LIMITS, None, usize::MAX);
        reader.feed(&hex(before));
        let mut input = hex("82 01 07");
        let outcome = reader.decoder.take_whole(&mut input, |_, _| Ok(()));
        assert!(matches!(outcome, WholeMessage::Absent), "behind {before}");
    }
}

#[test]
fn it_knows_whether_a_frame_or_a_message_is_unfinished() {
    for (bytes, in_frame, in_message) in [
        ("", false, false),
        ("81", true, true),
        ("81 02 68", true, true),
        ("81 02 68 69", false, false),
        ("01 00", false, true),
        ("01 00 89", true, true),
        ("01 00 89 00", false, true),
        ("89 01", true, true),
        ("88 00", false, false),
        ("83 00", false, false),
        ("01 00 83 00", false, false),
    ] {
        let mut reader = Reader::new(Role::Client, LIMITS, None, usize::MAX);
        reader.feed(&hex(bytes));
        let unfinished = (reader.decoder.is_mid_frame(), reader.decoder.is_mid_message());
        assert_eq!(unfinished, (in_frame, in_message), "{bytes}");
    }
}

#[test]
fn the_limit_can_be_changed_within_a_message() {
    let mut reader = Reader::new(Role::Client, LIMITS, None, usize::MAX);
    reader.feed(&hex("02 02 01 02"));
    reader.decoder.set_max_message_size(3);
    reader.feed(&hex("00 01 03"));
    assert_eq!(reader.violation, None);
    reader.feed(&hex("80 01"));
    assert_eq!(reader.violation, Some(Violation::TooBig { size: 4, limit: 3 }));
}

/// A sink as most are, without a limit of its own: notes the sizes that it is told.
#[derive(Default)]
struct Sizes {
    likely: Vec<usize>,
    payload: Vec<u8>,
    pieces: usize,
}

impl Sink for Sizes {
    fn begin(&mut self, _: MessageKind, likely: usize) {
        self.likely.push(likely);
    }
    fn text(&mut self, chunk: &str) {
        self.payload.extend_from_slice(chunk.as_bytes());
    }
    fn binary(&mut self, chunk: &[u8]) {
        self.payload.extend_from_slice(chunk);
        self.pieces += 1;
    }
}

#[test]
fn a_declared_length_is_trusted_up_to_four_times_of_what_has_arrived() {
    let sizes = |input: &[u8], deflate| {
        let (mut decoder, mut sink) = (Decoder::new(Role::Client, LIMITS, deflate), Sizes::default());
        let (taken, result) = decoder.next(&mut input.to_vec(), &mut sink);
        assert!(taken == input.len() && result.is_ok());
        sink
    };
    // A header of 4 bytes, and 20 bytes of the payload.
    let start = frame(0x82, &[7; 1000])[..24].to_vec();
    let sink = sizes(&start, None);
    assert_eq!((sink.likely, sink.payload, sink.pieces), (vec![96], vec![7; 20], 1));
    assert_eq!(sizes(&frame(0x81, b"hello"), None).likely, [5]);
    assert_eq!(sizes(&frame(0xc2, &[0]), Some(AGREED)).likely, [0], "what comes out is not known");
}

#[test]
fn nothing_is_handed_on_before_it_is_valid() {
    let mut reader = Reader::new(Role::Client, LIMITS, None, usize::MAX);
    reader.feed(&hex("81 05 61 62 e2"));
    assert_eq!(reader.sink.bytes, b"ab");
    reader.feed(&hex("82"));
    reader.feed(&hex("ac"));
    assert_eq!(reader.out, [text("ab€")]);
}

#[test]
fn it_is_small() {
    assert!(size_of::<Decoder>() <= 128, "{}", size_of::<Decoder>());
    assert!(size_of::<MessageCompressor>() <= 48, "{}", size_of::<MessageCompressor>());
    assert!(size_of::<Violation>() <= 32, "{}", size_of::<Violation>());
}

#[test]
fn opcodes_have_names() {
    let names = [
        (Opcode::Continuation, "continuation"),
        (Opcode::Text, "text"),
        (Opcode::Binary, "binary"),
        (Opcode::Close, "close"),
        (Opcode::Ping, "ping"),
        (Opcode::Pong, "pong"),
    ];
    for (opcode, name) in names {
        assert_eq!(opcode.to_string(), name);
    }
}
