//! Inflating (RFC 7692 §7.2.2), in bounded pieces.
//!
//! A message is fed as it comes, then [`finish`](Inflater::finish) adds the tail that the sender cut off and looks at
//! whether the message ended at the end of a block, which the decoder does not tell: in the middle of one, it would
//! wait for the next message and read that as the block's rest. So it is also fed empty blocks. At the end of a block
//! they do nothing; inside one, they are read as something else, and come out as bytes, as an error, or as the stream's
//! end. Only the description of a dynamic block's codes takes in zeros and ones for long without any of the three, but
//! has at most 286 bytes, so the probe is longer than that where there may be such a description. What passes
//! nevertheless can only be a message that was made to: one that the tail and the probe complete to whole blocks. It
//! harms only what its own sender sends.
//!
//! A reference beyond a window of 15 bits cannot be written. The decoder knows no smaller one, so with a smaller one it
//! is given, at each message, only that much history: a reference from the message's beginning may reach back a
//! window's length, and one from behind it as far as to the same place.

use flate2::{Decompress, DecompressError, FlushDecompress, Status};

use super::deflate::TAIL;
use super::{DeflateParameters, Role, Violation};

/// Empty stored blocks; the first byte's upper five bits are padding that a decoder at the end of a block skips.
const PROBE: [u8; 64 * 5] = {
    let mut probe = [0; 64 * 5];
    let mut i = 0;
    while i < probe.len() {
        probe[i] = [0xf8, 0, 0, 0xff, 0xff][i % 5];
        i += 1;
    }
    probe
};

/// A short message that starts with a block other than a dynamic one gets only this much of the probe: it is enough
/// inside stored blocks and fixed codes.
const SHORT_PROBE: usize = 2 * 5;
const SHORT_MESSAGE: u64 = 64;

const MAX_WINDOW: usize = 1 << 15;

/// One direction's decompressor: about 50 KiB, and the window again.
#[derive(Debug)]
pub(super) struct Inflater {
    decompress: Decompress,
    /// The output lands here round and round, so that it always has the last window of it: after a final block the
    /// decoder has to start anew, and gets its history back from here.
    ring: Box<[u8]>,
    next: usize,
    /// Whether the ring is full of history: else it starts at 0.
    wrapped: bool,
    keeps_history: bool,
    /// Whether the last output took all the room that there was, so that there may be more of it.
    output_pending: bool,
    /// Nothing was fed since the message's start or the last final block.
    at_block_start: bool,
    /// Of this message: the first byte, what was fed and came out, and final blocks.
    first_byte: u8,
    fed: u64,
    produced: u64,
    final_blocks: u64,
}

impl Inflater {
    /// `role` is our own; the window is the peer's.
    pub fn new(role: Role, agreed: DeflateParameters) -> Inflater {
        let (window_bits, forgets) = match role {
            Role::Client => (agreed.server_max_window_bits, agreed.server_no_context_takeover),
            Role::Server => (agreed.client_max_window_bits, agreed.client_no_context_takeover),
        };
        // What encoders make for 8 bits needs 9.
        let window_bits = window_bits.clamp(9, 15);
        Inflater {
            // This decoder has a window of 15 bits whatever it is asked for, and is cheapest to reset when asked for it.
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

    /// Whether there may be output still, with no more input.
    pub fn output_pending(&self) -> bool {
        self.output_pending
    }

    /// Takes from `input`, which may be empty, and gives at most `room` (over 0) bytes of output. Goes on until
    /// everything was taken and it is not output_pending. An error comes once all output before it was given.
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
            // It says so again at the next call.
            Err(_) => self.output_pending = true,
            Ok(Status::StreamEnd) => self.restart()?,
            Ok(_) => {}
        }
        Ok((taken, &self.ring[start..start + made]))
    }

    /// The message's end, when all of it was fed and it is not output_pending. A message that ends with a final block, and an
    /// empty one, need no tail.
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

    /// One call of the decoder, with output to `ring[next..end]`: what it took, what it made, and how it went.
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

    /// After a final block: a new stream with the old history. That costs up to a window's copy, so these blocks have
    /// to carry something: a whole message's worth of them may be empty only a few times.
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

    /// A new stream that knows the last window of output and nothing before it.
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
