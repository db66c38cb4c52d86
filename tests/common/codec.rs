//! permessage-deflate (RFC 7692) at the other end of a connection.

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress};
use wsync::{AcceptOptions, Compression, WebSocket};

use super::{Peer, Side, Wire, accepted_with, connected_with, options};

/// The first byte's bit of a message that is compressed.
pub const COMPRESSED: u8 = 0x40;

/// The peer's encoder, and its decoder for what we send.
pub struct Codec(Compress, Decompress);

impl Codec {
    pub fn new() -> Codec {
        Codec(Compress::new(Level::default(), false), Decompress::new(false))
    }

    pub fn deflate(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.is_empty() {
            return vec![0]; // the encoder flushes nothing when there is nothing to flush
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
        assert!(out.len() < out.capacity(), "all of it");
        out
    }
}

/// A pair that has agreed on compression of messages from this size on.
pub fn deflating(side: Side, wire: Wire, threshold: usize) -> (WebSocket, Peer) {
    let compression = Compression::default().threshold(threshold);
    match side {
        Side::Client => connected_with(
            wire,
            &options().compression(compression),
            "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        ),
        Side::Server => accepted_with(
            wire,
            &AcceptOptions::new().compression(compression),
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        ),
    }
}
