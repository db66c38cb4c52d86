//! permessage-deflate, hostile peers included.

use flate2::{Compress, Compression, FlushCompress};

use super::*;

const TAIL: [u8; 4] = [0, 0, 255, 255];

/// What zlib makes of the parts, each flushed; the tail is still there.
fn deflated<'a>(window_bits: u8, level: u32, parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut compress = Compress::new_with_window_bits(Compression::new(level), false, window_bits);
    let part = |part: &[u8]| {
        let mut out = Vec::with_capacity(part.len() + part.len() / 8 + 100);
        compress.compress_vec(part, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(&TAIL));
        out
    };
    parts.into_iter().map(part).collect()
}

/// One message's payload.
fn payload(data: &[u8]) -> Vec<u8> {
    let mut out = deflated(15, 6, [data]).remove(0);
    out.truncate(out.len() - 4);
    out
}

/// Deterministic bytes without any pattern.
fn noise(length: usize) -> Vec<u8> {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn messages_of_rfc_7692_and_their_neighbours() {
    let hello = || text("Hello");
    let cases = [
        ("c1 07 f2 48 cd c9 c9 07 00", vec![hello()]),
        // §7.2.3.1 in two fragments, a ping between; §7.2.3.2 with history; §7.2.3.3 stored; §7.2.3.5 two blocks.
        ("41 03 f2 48 cd 89 00 80 04 c9 c9 07 00", vec![Out::Ping(vec![]), hello()]),
        ("c1 07 f2 48 cd c9 c9 07 00 c1 05 f2 00 11 00 00", vec![hello(), hello()]),
        ("c1 0b 00 05 00 fa ff 48 65 6c 6c 6f 00", vec![hello()]),
        ("c1 0d f2 48 05 00 00 00 ff ff ca c9 c9 07 00", vec![hello()]),
        // §7.2.3.4: a final block, and the message after it, which still has the history.
        ("c1 08 f3 48 cd c9 c9 07 00 00 c1 05 f2 00 11 00 00", vec![hello(), hello()]),
        // The same without the block that the tail completes.
        ("c1 07 f3 48 cd c9 c9 07 00 c1 05 f2 00 11 00 00", vec![hello(), hello()]),
        // A final block in the middle, over fragments, and behind history.
        ("41 07 f3 48 cd c9 c9 07 00 80 05 f2 00 11 00 00", vec![text("HelloHello")]),
        ("c1 07 f2 48 cd c9 c9 07 00 c1 05 f3 00 11 00 00 c1 05 f2 00 11 00 00", vec![hello(), hello(), hello()]),
        // A final stored block that the tail completes.
        ("c1 01 01 c1 01 01 c1 07 f2 48 cd c9 c9 07 00", vec![text(""), text(""), hello()]),
        // Empty messages, and that history survives them.
        ("c1 01 00", vec![text("")]),
        ("c1 00", vec![text("")]),
        ("c1 07 f2 48 cd c9 c9 07 00 c1 00 c1 01 00 c1 05 f2 00 11 00 00", vec![hello(), text(""), text(""), hello()]),
        ("41 00 80 00 c1 07 f2 48 cd c9 c9 07 00", vec![text(""), hello()]),
        ("41 00 00 00 80 01 00", vec![text("")]),
        ("c1 02 02 00", vec![text("")]),
        ("c1 06 00 00 00 ff ff 00", vec![text("")]),
        // Fragments that are empty or end with the tail.
        ("41 03 f2 48 cd 00 00 80 04 c9 c9 07 00", vec![hello()]),
        // Uncompressed messages in between are no part of the history.
        ("c1 07 f2 48 cd c9 c9 07 00 81 02 68 69 c1 05 f2 00 11 00 00", vec![hello(), text("hi"), hello()]),
        ("c2 07 f2 48 cd c9 c9 07 00", vec![Out::Binary(b"Hello".into())]),
        ("c1 07 f2 48 cd c9 c9 07 00 88 00", vec![hello(), Out::Close(None)]),
    ];
    for (bytes, expected) in cases {
        assert_eq!(feed(&hex(bytes), LIMITS, Some(AGREED)), (expected, None), "{bytes}");
    }
}

#[test]
fn broken_compressed_messages() {
    let cases = [
        ("c1 01 06", 'P', "cannot be inflated"),
        ("c1 01 07", 'P', "cannot be inflated"),
        ("c1 06 00 05 00 00 00 48", 'P', "cannot be inflated"), // LEN and NLEN
        ("c1 05 f2 00 11 00 00", 'P', "behind byte 1 "),        // no history
        ("41 07 f2 48 cd c9 c9 07 00 c0 00", 'P', "continuation"),
        ("41 07 f2 48 cd c9 c9 07 00 40 00", 'P', "0x40"),
        ("c8 00", 'P', "0x40"),
        ("c9 00", 'P', "0x40"),
        ("ca 00", 'P', "0x40"),
        ("e1 00", 'P', "0x60"),
        ("d1 00", 'P', "0x50"),
        // Cut inside a block.
        ("c1 06 f2 48 cd c9 c9 07", 'P', "inside a block"),
        ("c1 03 f2 48 cd", 'P', "inside a block"),
        ("c1 01 02", 'P', "inside a block"),
        ("c1 01 04", 'P', "inside a block"),
        ("c1 02 00 ff", 'P', "inside a block"),
        ("c1 01 03", 'P', "inside a block"),
        ("c1 06 00 05 00 fa ff 48", 'P', "inside a block"), // The tail would be the rest of the stored block.
        ("c1 07 00 05 00 fa ff 48 65", 'P', "inside a block"),
        ("c1 05 f3 48 cd c9 c9", 'P', "inside a block"),
        // Invalid UTF-8 after inflation: ff, and e2 82.
        ("c1 07 00 01 00 fe ff ff 00", 'U', "0xff at offset 0"),
        ("c1 08 00 02 00 fd ff e2 82 00", 'U', "inside a character"),
    ];
    for (bytes, expected, says) in cases {
        let says = if says == "continuation" { "opcode 0x0" } else { says };
        let (_, violation) = feed(&hex(bytes), LIMITS, Some(AGREED));
        let violation = violation.unwrap_or_else(|| panic!("{bytes} was accepted"));
        assert_eq!(letter(&violation), expected, "{bytes}: {violation}");
        assert!(violation.to_string().contains(says), "{bytes}: {violation}");
    }
}

/// The last byte has the end of a match of 258 bytes and the end of the block: more output comes without more input.
#[test]
fn all_output_comes_out_also_when_all_input_is_taken() {
    assert_eq!(feed(&hex("c2 04 9b 30 0a 00"), LIMITS, Some(AGREED)), (vec![Out::Binary(vec![0x90; 259])], None));
}

#[test]
fn an_error_comes_after_all_output_before_it() {
    let mut reader = Reader::new(Role::Client, LIMITS, Some(AGREED), usize::MAX);
    // A literal, and a match that reaches back too far.
    reader.feed(&hex("c1 05 f2 00 11 00 00"));
    assert_eq!((reader.violation, reader.sink.bytes), (Some(Violation::BadDeflate { after: 1 }), b"H".to_vec()));
}

#[test]
fn every_cut_of_compressed_messages_is_found() {
    let source = include_bytes!("../decoder.rs");
    let samples: Vec<Vec<u8>> = vec![
        source[..40].into(),
        source[..4000].into(),
        noise(300),
        noise(1000).iter().map(|byte| byte & 15 | 0x40).collect(),
        (0..2000u32).map(|i| (i * i % 251) as u8).collect(),
    ];
    for sample in &samples {
        for level in [1, 6] {
            let whole = deflated(15, level, [&sample[..]]).remove(0);
            // A stored block's first byte alone is a whole message: the tail makes it an empty block.
            let first = if whole[0] & 7 == 0 { 2 } else { 1 };
            for cut in (first..120).chain((120..whole.len()).step_by(31)).take_while(|&cut| cut < whole.len() - 4) {
                // Also where the first bytes come alone, and behind an empty final block or a stored one.
                let cut_off = &whole[..cut];
                let stored = [&[0, 70, 0, 185, 255][..], &[7; 70]].concat();
                let [alone, behind_final, behind_stored] =
                    [&[][..], &[3, 0], &stored].map(|before| frame(0xc2, &[before, cut_off].concat()));
                for (bytes, at) in [(&alone, 0), (&alone, 5.min(alone.len())), (&behind_final, 0), (&behind_stored, 0)]
                {
                    let mut reader = Reader::new(Role::Client, LIMITS, Some(AGREED), usize::MAX);
                    reader.feed(&bytes[..at]);
                    reader.feed(&bytes[at..]);
                    let violation =
                        reader.violation.unwrap_or_else(|| panic!("level {level}, {cut} of {}", whole.len()));
                    assert_eq!(letter(&violation), 'P');
                }
            }
            // Neither is the whole taken for cut, nor does the probe show in what comes after it.
            let mut reader = Reader::new(Role::Client, LIMITS, Some(AGREED), usize::MAX);
            let mut parts = deflated(15, level, [&sample[..], sample, sample]);
            parts.iter_mut().for_each(|part| part.truncate(part.len() - 4));
            parts.iter().for_each(|part| reader.feed(&frame(0xc2, part)));
            assert_eq!((reader.out, reader.violation), (vec![Out::Binary(sample.clone()); 3], None));
        }
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let bomb = payload(&vec![0; 1 << 20]);
    assert!(bomb.len() < 1100);
    for limit in [0, 1, 511, 32_768, 65_536, 1 << 19, (1 << 20) - 1] {
        let limits = DecoderLimits { max_message_size: limit, ..LIMITS };
        let mut reader = Reader::new(Role::Client, limits, Some(AGREED), usize::MAX);
        reader.feed(&frame(0xc2, &bomb));
        assert_eq!(reader.violation, Some(Violation::TooBig { size: limit + 1, limit }));
        assert_eq!(reader.sink.bytes.len() as u64, limit);
        assert_eq!(letter(&reader.violation.unwrap()), 'B');
    }
    let limits = DecoderLimits { max_message_size: 1 << 20, ..LIMITS };
    let mut reader = Reader::new(Role::Client, limits, Some(AGREED), usize::MAX);
    reader.feed(&frame(0xc2, &bomb));
    assert_eq!(reader.out, [Out::Binary(vec![0; 1 << 20])]);
    // Fragments are summed, and so are final blocks.
    let limits = DecoderLimits { max_message_size: 9, ..LIMITS };
    let (_, violation) = feed(&hex("41 07 f3 48 cd c9 c9 07 00 80 05 f2 00 11 00 00"), limits, Some(AGREED));
    assert_eq!(violation.as_ref().map(letter), Some('B'));
    // Text goes on being looked at up to the limit.
    let limits = DecoderLimits { max_message_size: 0, ..LIMITS };
    let (_, violation) = feed(&hex("c1 07 00 01 00 fe ff ff 00"), limits, Some(AGREED));
    assert_eq!(violation.as_ref().map(letter), Some('B'));
}

#[test]
fn final_blocks_must_carry_something() {
    // As many as there are bytes.
    let flood = [0x03, 0x00].repeat(5000);
    let mut reader = Reader::new(Role::Client, LIMITS, Some(AGREED), usize::MAX);
    reader.feed(&frame(0xc2, &flood));
    assert!(matches!(reader.violation, Some(Violation::TooManyFinalBlocks { blocks: 17, bytes: 34 })));
    // A few, or with 64 bytes each.
    let few = [0x03, 0x00].repeat(16);
    let stored = [&[1, 64, 0, 191, 255][..], &[7; 64]].concat().repeat(500);
    let mut reader = Reader::new(Role::Client, LIMITS, Some(AGREED), usize::MAX);
    for _ in 0..10 {
        reader.feed(&frame(0xc2, &few));
        reader.feed(&frame(0xc2, &stored));
    }
    assert_eq!(reader.violation, None);
    assert_eq!(reader.out[..2], [Out::Binary(vec![]), Out::Binary(vec![7; 32_000])]);
}

#[test]
fn history_reaches_as_far_as_the_window_and_no_further() {
    let old = noise(300);
    let between: Vec<u8> = noise(4000)[300..].to_vec();
    for (bits, fine) in [(9, false), (11, false), (13, true), (15, true)] {
        let agreed = DeflateParameters { server_max_window_bits: bits, ..AGREED };
        let mut reader = Reader::new(Role::Client, LIMITS, Some(agreed), usize::MAX);
        for part in deflated(15, 9, [&old[..], &between, &old]) {
            reader.feed(&frame(0xc2, &part[..part.len() - 4]));
        }
        match fine {
            true => assert_eq!(reader.out[2], Out::Binary(old.clone())),
            false => assert!(reader.violation.unwrap().to_string().contains("cannot be inflated")),
        }
    }
    // Nor into a message that was to be forgotten.
    let agreed = DeflateParameters { server_no_context_takeover: true, ..AGREED };
    let (out, violation) = feed(&hex("c1 07 f2 48 cd c9 c9 07 00 c1 05 f2 00 11 00 00"), LIMITS, Some(agreed));
    assert_eq!((out, violation.as_ref().map(letter)), (vec![text("Hello")], Some('P')));
}

#[test]
fn history_survives_final_blocks_when_the_ring_has_gone_round() {
    let data = noise(50_000);
    for bits in [9, 15] {
        let agreed = DeflateParameters { server_max_window_bits: bits, ..AGREED };
        let mut reader = Reader::new(Role::Client, LIMITS, Some(agreed), usize::MAX);
        let back = 250;
        let tail = data[data.len() - back..].to_vec();
        let parts = deflated(bits, 9, [&data[..], &tail, &tail]);
        for part in &parts {
            // A final empty block before and after.
            let with_finals = [&[3, 0][..], part, &[3, 0]].concat();
            reader.feed(&frame(0xc2, &with_finals));
        }
        assert_eq!(reader.violation, None);
        assert_eq!(reader.out, [Out::Binary(data.clone()), Out::Binary(tail.clone()), Out::Binary(tail)]);
    }
}

#[test]
fn there_is_no_compressor_for_windows_that_it_cannot_do() {
    for bits in [0, 8, 16, 255] {
        let agreed = DeflateParameters { client_max_window_bits: bits, ..AGREED };
        assert!(MessageCompressor::new(Role::Client, agreed, 6, 0).is_none());
    }
    // Reading a window of 8 works, with what encoders make of it.
    let agreed = DeflateParameters { server_max_window_bits: 8, ..AGREED };
    let data = noise(250).repeat(4);
    let part = deflated(9, 6, [&data[..]]).remove(0);
    let mut reader = Reader::new(Role::Client, LIMITS, Some(agreed), usize::MAX);
    reader.feed(&frame(0xc2, &part[..part.len() - 4]));
    assert_eq!(reader.out, [Out::Binary(data)]);
}

#[test]
fn a_message_compressed_for_several_connections_stands_between_those_with_history() {
    let data = noise(300);
    let common = b"the same for all, the same for all";
    let mut compressors: Vec<MessageCompressor> =
        (0..2).map(|_| MessageCompressor::new(Role::Server, AGREED, 6, 34).unwrap()).collect();
    assert_eq!(compressors[0].preparation(33), None, "under the threshold");
    let preparation = compressors[0].preparation(common.len()).unwrap();
    assert_eq!(compressors[1].preparation(common.len()), Some(preparation), "the settings are the same");
    let other = MessageCompressor::new(Role::Server, AGREED, 7, 34).unwrap();
    assert_ne!(other.preparation(common.len()), Some(preparation));
    let compressed = preparation.compress(common);
    assert!(compressed.len() < common.len());
    for (number, compressor) in compressors.iter_mut().enumerate() {
        let mut wire = Vec::new();
        let own = [&data[number..], b"own"].concat();
        compressor.message(&mut wire, MessageKind::Binary, &own, None);
        compressor.prepared(&mut wire, MessageKind::Text, &compressed, None);
        compressor.message(&mut wire, MessageKind::Binary, &own, None);
        let text = text(std::str::from_utf8(common).unwrap());
        let (out, violation) = Reader::new(Role::Client, LIMITS, Some(AGREED), usize::MAX).run([&wire]);
        assert_eq!((out, violation), (vec![Out::Binary(own.clone()), text, Out::Binary(own)], None));
    }
}

#[test]
fn what_was_compressed_and_not_sent_can_be_forgotten() {
    let mut compressor = MessageCompressor::new(Role::Server, AGREED, 6, 0).unwrap();
    compressor.message(&mut Vec::new(), MessageKind::Text, b"never sent, never sent", None);
    compressor.forget();
    let mut wire = Vec::new();
    compressor.message(&mut wire, MessageKind::Text, b"never sent, never sent", None);
    let out = Reader::new(Role::Client, LIMITS, Some(AGREED), usize::MAX).run([&wire]);
    assert_eq!(out, (vec![text("never sent, never sent")], None));
}
