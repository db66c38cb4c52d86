//! Compressing (RFC 7692 §7.2.1).

use flate2::{Compress, Compression, FlushCompress, Status};

use super::{DeflateParameters, Fin, Role};

/// The end of a sync flush, which is left out at the end of a message.
pub(super) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The compressor of one direction. It takes 245 to 371 KiB, so it is made for the first message that needs it.
#[derive(Debug)]
pub(super) struct Deflater {
    compress: Option<Box<Compress>>,
    window_bits: u8,
    level: u8,
    keeps_history: bool,
}

/// A compressor's settings: connections with the same ones can send what one of them compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preparation {
    window_bits: u8,
    level: u8,
}

impl Preparation {
    /// Compresses a whole message without a history.
    pub fn compress(self, payload: &[u8]) -> Vec<u8> {
        let Preparation { window_bits, level } = self;
        let mut out = Vec::new();
        Deflater { compress: None, window_bits, level, keeps_history: false }.append(&mut out, payload, Fin::Last);
        out
    }
}

impl Deflater {
    pub fn preparation(&self) -> Preparation {
        Preparation { window_bits: self.window_bits, level: self.level }
    }

    /// Begins a new history, because the peer's history has a message that this compressor has not seen. Later references
    /// reach back to that message at most, where both histories are the same.
    pub fn forget(&mut self) {
        if let Some(compress) = &mut self.compress {
            compress.reset();
        }
    }

    /// `role` is our own. `None` where the window that was agreed on is one that the encoder cannot do (8): messages
    /// then go uncompressed, which is always allowed.
    pub fn new(role: Role, agreed: DeflateParameters, level: u8) -> Option<Deflater> {
        let (window_bits, forgets) = match role {
            Role::Client => (agreed.client_max_window_bits, agreed.client_no_context_takeover),
            Role::Server => (agreed.server_max_window_bits, agreed.server_no_context_takeover),
        };
        (9..=15).contains(&window_bits).then(|| Deflater {
            compress: None,
            window_bits,
            level: level.min(9),
            keeps_history: !forgets,
        })
    }

    /// Appends `payload` compressed.
    pub fn append(&mut self, out: &mut Vec<u8>, payload: &[u8], fin: Fin) {
        let is_last = fin == Fin::Last;
        if !payload.is_empty() {
            let compress = self.compress.get_or_insert_with(|| {
                let level = Compression::new(self.level.into());
                Box::new(Compress::new_with_window_bits(level, false, self.window_bits))
            });
            flush(compress, out, payload);
            if is_last {
                out.truncate(out.len() - TAIL.len());
            }
        } else if is_last {
            // The header of an empty stored block; the receiver adds the tail (RFC 7692 §7.2.3.6).
            out.push(0);
        }
        if is_last && !self.keeps_history {
            self.forget();
        }
    }
}

/// Compresses all of `payload`, tail included.
fn flush(compress: &mut Compress, out: &mut Vec<u8>, payload: &[u8]) {
    let start = compress.total_in();
    loop {
        let taken = (compress.total_in() - start) as usize;
        // A third is a common ratio; for more, the vector doubles. 64 leave room for the tail.
        out.reserve((payload.len() - taken) / 3 + 64);
        let status = compress.compress_vec(&payload[taken..], out, FlushCompress::Sync);
        // The flush is complete if room is left, or if there was nothing to do.
        if out.len() < out.capacity() || !matches!(status, Ok(Status::Ok)) {
            return;
        }
    }
}
