//! permessage-deflate (RFC 7692) for the scripted peer.

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress};
use wsync::{AcceptOptions, Compression, WebSocket};

use super::{Layer, Peer, Side, accepted_with, connected_with, options};

/// The bit in a frame's first byte that marks a compressed message (RSV1).
pub const COMPRESSED: u8 = 0x40;

/// The peer's compressor, and its decompressor for what the crate sends.
pub struct Codec(Compress, Decompress);

impl Codec {
    pub fn new() -> Codec {
        Codec(Compress::new(Level::default(), false), Decompress::new(false))
    }

    pub fn deflate(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.is_empty() {
            return vec![0]; // flate2 writes no block without input; RFC 7692 needs an empty one
        }
        let mut out = Vec::with_capacity(bytes.len() + 1000);
        self.0.compress_vec(bytes, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(&[0, 0, 255, 255]));
        out.truncate(out.len() - 4);
        out
    }

    pub fn inflate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 << 20);
        self.1.decompress_vec(&[bytes, &[0, 0, 255, 255]].concat(), &mut out, FlushDecompress::Sync).unwrap();
        assert!(out.len() < out.capacity(), "the message is larger than the output buffer");
        out
    }
}

/// A pair that compresses messages of at least `threshold` bytes.
pub fn deflate_pair(side: Side, layer: Layer, threshold: usize) -> (WebSocket, Peer) {
    let compression = Compression::default().threshold(threshold);
    match side {
        Side::Client => connected_with(
            layer,
            &options().compression(compression),
            "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        ),
        Side::Server => accepted_with(
            layer,
            &AcceptOptions::new().compression(compression),
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        ),
    }
}
