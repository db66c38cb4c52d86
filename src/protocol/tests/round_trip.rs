//! What one side sends, the other receives.

use proptest::test_runner::RngSeed;

use super::*;

/// A message: what it has of repetition, and how long it is, around the borders of the header's forms.
#[derive(Clone, Debug)]
struct Recipe {
    kind: MessageKind,
    length: usize,
    period: u32,
    seed: u32,
}

impl Recipe {
    fn make(&self) -> Out {
        let bytes =
            (0..self.length as u32).map(|i| ((i % self.period + self.seed).wrapping_mul(2_654_435_761) >> 13) as u8);
        match self.kind {
            MessageKind::Binary => Out::Binary(bytes.collect()),
            MessageKind::Text => {
                Out::Text(bytes.map(|byte| char::from_u32(u32::from(byte) * 257).unwrap_or('𐍈')).collect())
            }
        }
    }
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let length = prop_oneof![4 => 0usize..300, 2 => 120usize..132, 1 => 65_530usize..65_545, 1 => 1000usize..40_000];
    let kind = prop_oneof![Just(MessageKind::Text), Just(MessageKind::Binary)];
    (kind, length, 1u32..5000, 0..u32::MAX / 2).prop_map(|(kind, length, period, seed)| Recipe {
        kind,
        length,
        period,
        seed,
    })
}

fn agreed() -> impl Strategy<Value = Option<DeflateParameters>> {
    prop::option::weighted(0.8, (any::<bool>(), any::<bool>(), 9u8..=15, 9u8..=15)).prop_map(|option| {
        option.map(|(client, server, client_bits, server_bits)| DeflateParameters {
            client_no_context_takeover: client,
            server_no_context_takeover: server,
            client_max_window_bits: client_bits,
            server_max_window_bits: server_bits,
        })
    })
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Plain), Just(Encoding::Compressed)]
}

/// How one message is sent: cut at these parts of its length, with which encoding and mask.
type Plan = (Recipe, Vec<f64>, Encoding, [u8; 4]);

/// Both encoders of one side.
struct Sender {
    frames: FrameEncoder,
    compressor: Option<MessageCompressor>,
    out: Vec<u8>,
    expected: Vec<Out>,
}

impl Sender {
    fn send(&mut self, role: Role, (recipe, cuts, encoding, mask): &Plan) {
        let mask = (role == Role::Client).then_some(Mask::from(*mask));
        let message = recipe.make();
        let (kind, bytes) = match &message {
            Out::Text(text) => (MessageKind::Text, text.as_bytes()),
            Out::Binary(bytes) => (MessageKind::Binary, &bytes[..]),
            _ => unreachable!(),
        };
        match (&mut self.compressor, encoding) {
            (Some(compressor), Encoding::Compressed) if cuts.is_empty() => {
                compressor.message(&mut self.out, kind, bytes, mask);
            }
            (Some(_), _) if cuts.is_empty() => {
                self.frames.header(&mut self.out, kind, bytes.len(), mask);
                match mask {
                    Some(mask) => mask::append(&mut self.out, bytes, mask),
                    None => self.out.extend_from_slice(bytes),
                }
            }
            (None, _) if cuts.is_empty() => self.frames.message(&mut self.out, kind, bytes, mask),
            _ => self.send_parts(kind, bytes, cuts, *encoding, mask),
        }
        self.expected.push(message);
    }

    fn send_parts(&mut self, kind: MessageKind, bytes: &[u8], cuts: &[f64], encoding: Encoding, mask: Option<Mask>) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
        cuts.sort();
        cuts.push(bytes.len());
        let mut start = 0;
        for (i, &end) in cuts.iter().enumerate() {
            let fin = if i + 1 == cuts.len() { Fin::Last } else { Fin::More };
            let part = Fragment { kind, first: i == 0, fin };
            match (&mut self.compressor, encoding) {
                (Some(compressor), Encoding::Compressed) => {
                    compressor.fragment(&mut self.out, part, &bytes[start..end], mask);
                }
                _ => self.frames.fragment(&mut self.out, part, &bytes[start..end], mask),
            }
            start = end;
            if fin == Fin::More {
                self.frames.control(&mut self.out, Opcode::Ping, &[i as u8], mask);
                self.expected.push(Out::Ping(vec![i as u8]));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(6455), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_is_received(
        role in prop_oneof![Just(Role::Client), Just(Role::Server)],
        agreed in agreed(),
        level in 0u8..=9,
        plans in prop::collection::vec(
            (recipe(), prop::collection::vec(0.0..1.0f64, 0..4), encoding(), any::<[u8; 4]>()), 1..5),
        chunk in prop_oneof![1usize..40, 40usize..200_000],
        room in prop_oneof![Just(usize::MAX), 1usize..5000],
    ) {
        let compressor = agreed.and_then(|agreed| MessageCompressor::new(role, agreed, level, 0));
        let frames = FrameEncoder::new(role);
        let mut sender = Sender { frames, compressor, out: Vec::new(), expected: Vec::new() };
        for plan in &plans {
            sender.send(role, plan);
        }
        let Sender { out: wire, expected, .. } = sender;
        let other = if role == Role::Client { Role::Server } else { Role::Client };
        let limits = DecoderLimits { max_message_size: 300_000, max_fragments: 10 };
        let (out, violation) = Reader::new(other, limits, agreed, room).run(wire.chunks(chunk));
        prop_assert_eq!(violation, None);
        prop_assert!(out == expected);
    }

    #[test]
    fn whatever_comes_it_does_not_panic_and_splits_do_not_matter(
        frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..6),
        cuts in prop::collection::vec(0.0..1.0f64, 0..5),
        deflate in any::<bool>(),
    ) {
        // Mostly headers that make sense.
        let wire: Vec<u8> = frames
            .iter()
            .flat_map(|(first, payload)| frame([0x81, 0x82, 0xc1, 0xc2, 0x01, 0x41, 0x80, 0x00, *first][usize::from(*first) % 9], payload))
            .collect();
        let deflate = deflate.then_some(AGREED);
        let whole = Reader::new(Role::Client, LIMITS, deflate, usize::MAX).run([&wire]);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * wire.len() as f64) as usize).collect();
        cuts.sort();
        let mut reader = Reader::new(Role::Client, LIMITS, deflate, usize::MAX);
        let mut start = 0;
        for end in cuts.into_iter().chain([wire.len()]) {
            reader.feed(&wire[start..end]);
            start = end;
        }
        prop_assert_eq!((reader.out, reader.violation), whole);
    }
}

#[test]
fn the_bytes_are_those_of_rfc_6455_and_7692() {
    let mut out = Vec::new();
    FrameEncoder::new(Role::Client).message(&mut out, MessageKind::Text, b"Hello", Some(MASK.into()));
    assert_eq!(out, hex("81 85 37 fa 21 3d 7f 9f 4d 51 58"));
    let server = FrameEncoder::new(Role::Server);
    let mut compressor = MessageCompressor::new(Role::Server, AGREED, 6, 64).unwrap();
    assert_eq!(compressor.threshold(), 64);
    out.clear();
    server.message(&mut out, MessageKind::Text, b"Hello", None);
    for text in [&b"Hello"[..], b"Hello", b""] {
        compressor.message(&mut out, MessageKind::Text, text, None);
    }
    server.control(&mut out, Opcode::Close, &[3, 232], None);
    let expected = "81 05 48 65 6c 6c 6f c1 07 f2 48 cd c9 c9 07 00 c1 05 f2 00 11 00 00 c1 01 00 88 02 03 e8";
    assert_eq!(out, hex(expected));
}

#[test]
fn a_message_of_several_parts_is_the_same_frame_as_one_of_the_whole() {
    let bytes: Vec<u8> = (0..200).collect();
    for (role, mask) in [(Role::Client, Some(Mask::from(MASK))), (Role::Server, None)] {
        let encoder = FrameEncoder::new(role);
        let mut whole = b"before".to_vec();
        encoder.message(&mut whole, MessageKind::Binary, &bytes, mask);
        for cuts in [[0, 0], [0, 200], [1, 2], [3, 150], [100, 103], [200, 200]] {
            let parts = [&bytes[..cuts[0]], &bytes[cuts[0]..cuts[1]], &bytes[cuts[1]..]];
            let mut out = b"before".to_vec();
            encoder.message_parts(&mut out, MessageKind::Binary, &parts, mask);
            assert_eq!(out, whole, "{role:?} {cuts:?}");
        }
    }
}

#[test]
fn encoding_takes_little_more_memory_than_the_frame() {
    let bytes = [7; 1000];
    let encoder = FrameEncoder::new(Role::Server);
    let mut out = Vec::new();
    encoder.message(&mut out, MessageKind::Binary, &bytes, None);
    assert!(out.capacity() < 1100, "{}", out.capacity());
    let mut out = Vec::new();
    encoder.message_parts(&mut out, MessageKind::Binary, &[&bytes[..500], &bytes[500..]], None);
    assert!(out.capacity() < 1100, "{}", out.capacity());
    let mut out = Vec::new();
    let mut compressor = MessageCompressor::new(Role::Server, AGREED, 6, 0).unwrap();
    compressor.message(&mut out, MessageKind::Binary, &[7; 100_000], None);
    assert!(out.capacity() < 50_000, "{}", out.capacity());
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "clients mask, servers do not")]
fn a_client_does_not_send_without_a_mask() {
    FrameEncoder::new(Role::Client).message(&mut Vec::new(), MessageKind::Text, b"hi", None);
}
