//! What the writer takes out of the queue's slot: the transport's writing side, and one batch of bytes.

use crate::transport::WriteState;

/// The writing side of the transport, and the bytes that are being written.
pub(crate) struct WriteHalf {
    pub wire: WriteState,
    /// What is written next: pongs, then frames of the queue, then the header and bytes of a directly written message.
    pub batch: Vec<u8>,
    /// How much of `batch` the transport has taken.
    pub written: usize,
    /// Where the frames of the queue stand in `batch`.
    pub(super) frames_start: usize,
    pub(super) frames_end: usize,
}

impl WriteHalf {
    pub(super) fn new(wire: WriteState) -> WriteHalf {
        WriteHalf { wire, batch: Vec::new(), written: 0, frames_start: 0, frames_end: 0 }
    }

    /// Whether the transport has taken all of the batch; with TLS, some of it may still be in `wire`.
    #[inline]
    pub fn batch_written(&self) -> bool {
        self.written == self.batch.len()
    }

    /// Empties the batch, which is written, for the next bytes.
    #[inline]
    pub fn restart(&mut self) {
        self.batch.clear();
        (self.written, self.frames_start, self.frames_end) = (0, 0, 0);
    }

    /// Whether the system has taken all that was to be written.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.batch_written() && self.wire.is_empty()
    }

    /// How many bytes of the queue's frames the system has not taken: with TLS, those in records that are not all out.
    pub(super) fn unwritten_frames(&self) -> u64 {
        let taken = self.written.saturating_sub(self.wire.unsent_plain());
        (self.frames_end - taken.clamp(self.frames_start, self.frames_end)) as u64
    }
}
