//! Inflating (RFC 7692 §7.2.2), in bounded pieces.
//!
//! [`feed`](Inflater::feed) takes a message as it arrives; [`finish`](Inflater::finish) adds the tail that the sender left
//! out and checks that the message ended at the end of a block. flate2 does not tell: inside a block it would wait for
//! the next message and read that as the rest of the block. So `finish` also feeds empty stored blocks, the probe. At the
//! end of a block they have no effect; inside one they are read as something else and give output, an error or the
//! stream's end. Only the code lengths of a dynamic block's header can take many zeros and ones without any of the three,
//! but they have at most 286 bytes, so the probe is longer than that where such a header is possible. A message that was
//! made to pass (one that tail and probe complete to whole blocks) harms only what its own sender sends.
//!
//! A reference beyond a window of 15 bits cannot be written, and flate2 knows no smaller window. For a smaller one the
//! inflater restores, at each message, only that much history: a reference at the start of a message reaches back one
//! window, a later one to the same place.

use flate2::{Decompress, DecompressError, FlushDecompress, Status};

use super::deflate::TAIL;
use super::{DeflateParameters, Role, Violation};

/// Empty stored blocks. The upper five bits of the first byte are padding, which is skipped at the end of a block.
const PROBE: [u8; 64 * 5] = {
    let mut probe = [0; 64 * 5];
    let mut i = 0;
    while i < probe.len() {
        probe[i] = [0xf8, 0, 0, 0xff, 0xff][i % 5];
        i += 1;
    }
    probe
};

/// The part of the probe for a short message whose first block is not dynamic: enough for stored blocks and fixed codes.
const SHORT_PROBE: usize = 2 * 5;
const SHORT_MESSAGE: u64 = 64;

const MAX_WINDOW: usize = 1 << 15;
/// What flate2's decompressor takes, its window included.
const DECOMPRESSOR_SIZE: usize = 50 * 1024;

/// The decompressor of one direction: about 50 KiB, and the window again.
#[derive(Debug)]
pub(super) struct Inflater {
    decompress: Decompress,
    /// A ring buffer for the output, so that it always holds the last window: after a final block the decompressor must be
    /// reset, and gets its history back from here.
    ring: Box<[u8]>,
    next: usize,
    /// Whether the whole ring is history; otherwise only the part before `next`.
    wrapped: bool,
    keeps_history: bool,
    /// The last output filled its room, so there may be more.
    output_pending: bool,
    /// Nothing was fed since the start of the message or the last final block.
    at_block_start: bool,
    /// Of this message: the first byte, bytes in, bytes out, and final blocks.
    first_byte: u8,
    fed: u64,
    produced: u64,
    final_blocks: u64,
}

/// The bits of the peer's window, and whether the peer forgets its history. `role` is our own.
fn window(role: Role, agreed: DeflateParameters) -> (u8, bool) {
    let (bits, forgets) = match role {
        Role::Client => (agreed.server_max_window_bits, agreed.server_no_context_takeover),
        Role::Server => (agreed.client_max_window_bits, agreed.client_no_context_takeover),
    };
    // Encoders use a window of 9 bits where 8 were asked for.
    (bits.clamp(9, 15), forgets)
}

impl Inflater {
    /// `role` is our own; the window is the peer's.
    pub fn new(role: Role, agreed: DeflateParameters) -> Inflater {
        let (window_bits, forgets) = window(role, agreed);
        Inflater {
            // flate2's window has 15 bits whatever it is asked for, and asking for 15 makes `reset` cheapest.
            decompress: Decompress::new(false),
            ring: vec![0; 1 << window_bits].into(),
            next: 0,
            wrapped: false,
            keeps_history: !forgets,
            output_pending: false,
            at_block_start: true,
            first_byte: 0,
            fed: 0,
            produced: 0,
            final_blocks: 0,
        }
    }

    /// How many bytes one takes.
    pub fn size(role: Role, agreed: DeflateParameters) -> usize {
        DECOMPRESSOR_SIZE + (1 << window(role, agreed).0)
    }

    /// Whether there may be more output without more input.
    pub fn output_pending(&self) -> bool {
        self.output_pending
    }

    /// Takes bytes from `input`, which may be empty, and returns how many, with at most `room` (over 0) bytes of output.
    /// Call it until all input is taken and [`output_pending`](Inflater::output_pending) is false. An error comes after
    /// all output before it.
    pub fn feed(&mut self, input: &[u8], room: usize) -> Result<(usize, &[u8]), Violation> {
        let start = self.next;
        let end = self.ring.len().min(start.saturating_add(room));
        let (taken, made, status) = self.run(input, end);
        if taken > 0 {
            if self.fed == 0 {
                self.first_byte = input[0];
            }
            self.at_block_start = false;
            self.fed += taken as u64;
        }
        self.produced += made as u64;
        self.output_pending = made == end - start;
        match status {
            Err(_) if made == 0 => return Err(Violation::BadDeflate { after: self.produced }),
            // The next call reports it again.
            Err(_) => self.output_pending = true,
            Ok(Status::StreamEnd) => self.restart()?,
            Ok(_) => {}
        }
        Ok((taken, &self.ring[start..start + made]))
    }

    /// Ends the message; all of it must have been fed, and no output may be pending. A message that ends with a final
    /// block needs no tail, nor does an empty one.
    pub fn finish(&mut self) -> Result<(), Violation> {
        if !self.at_block_start {
            let (taken, made, status) = self.run(&TAIL, self.ring.len());
            let ended = matches!(status, Ok(Status::StreamEnd));
            if made > 0 || status.is_err() || taken < TAIL.len() {
                return Err(Violation::CutDeflate);
            }
            if ended {
                self.restart()?;
            } else {
                let is_dynamic = self.first_byte & 0b110 == 0b100;
                let long = is_dynamic || self.fed > SHORT_MESSAGE || self.final_blocks > 0;
                let probe = if long { &PROBE[..] } else { &PROBE[..SHORT_PROBE] };
                let (taken, made, status) = self.run(probe, self.ring.len());
                if made > 0 || taken < probe.len() || !matches!(status, Ok(Status::Ok)) {
                    return Err(Violation::CutDeflate);
                }
            }
        }
        if !self.keeps_history {
            self.decompress.reset(false);
            (self.next, self.wrapped) = (0, false);
        } else if self.wrapped && self.ring.len() < MAX_WINDOW {
            self.restore();
        }
        self.at_block_start = true;
        (self.fed, self.produced, self.final_blocks) = (0, 0, 0);
        Ok(())
    }

    /// One call of flate2 with output to `ring[next..end]`: bytes in, bytes out, and the status.
    fn run(&mut self, input: &[u8], end: usize) -> (usize, usize, Result<Status, DecompressError>) {
        let (taken, made) = (self.decompress.total_in(), self.decompress.total_out());
        let result = self.decompress.decompress(input, &mut self.ring[self.next..end], FlushDecompress::Sync);
        let taken = (self.decompress.total_in() - taken) as usize;
        let made = (self.decompress.total_out() - made) as usize;
        self.next += made;
        if self.next == self.ring.len() {
            (self.next, self.wrapped) = (0, true);
        }
        (taken, made, result)
    }

    /// After a final block: a new stream with the old history. That copies up to a window, so only a few final blocks of a
    /// message may carry less than 64 bytes.
    fn restart(&mut self) -> Result<(), Violation> {
        self.final_blocks += 1;
        let bytes = self.fed + self.produced;
        if self.final_blocks > 16 + bytes / 64 {
            return Err(Violation::TooManyFinalBlocks { blocks: self.final_blocks, bytes });
        }
        self.restore();
        self.at_block_start = true;
        Ok(())
    }

    /// A new stream whose history is the last window of output.
    fn restore(&mut self) {
        self.decompress.reset(false);
        let (newer, older) = self.ring.split_at(self.next);
        let older = if self.wrapped { older } else { &[] };
        for history in [older, newer] {
            let set = self.decompress.set_dictionary(history);
            debug_assert!(set.is_ok(), "a raw stream takes a dictionary at any time");
        }
    }
}
