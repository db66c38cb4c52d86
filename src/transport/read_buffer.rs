//! Received bytes that are not consumed yet, in a buffer that grows with the traffic.

const SMALLEST: usize = 4 * 1024;
/// Reads that fill the buffer grow it up to here. Not a multiple of 4096: with one, full reads can keep source and target of
/// the kernel's copies at a distance modulo 4096 that makes them take three times as long (see `copy.rs`).
pub const LARGEST: usize = 128 * 1024 - 1117;

/// `bytes[start..end]` is unread. All of `bytes` is initialised, so that a read needs no zeroing.
#[derive(Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled all the room that it had: there is probably more to read.
    was_filled: bool,
}

impl ReadBuffer {
    /// The unread bytes.
    pub fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Whether reads fill the buffer, so that a larger one would save some.
    pub fn wants_to_grow(&self) -> bool {
        self.is_empty() && self.was_filled && self.bytes.len() < LARGEST
    }

    /// Room to read into. The buffer grows while reads fill it, if it may.
    pub fn room(&mut self, may_grow: bool) -> &mut [u8] {
        if may_grow && self.wants_to_grow() {
            // Nothing is unread: a new allocation needs no copy.
            self.bytes = vec![0; (self.bytes.len() * 4).min(LARGEST)];
        } else if self.end == self.bytes.len() {
            let unread = self.end - self.start;
            if self.start > 0 && unread <= self.bytes.len() / 2 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, unread);
            } else {
                self.bytes.resize((self.bytes.len() * 2).max(SMALLEST), 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes were read into the room.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        self.was_filled = self.end == self.bytes.len();
    }

    /// Appends bytes that were read elsewhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Makes room for at least `least` bytes.
    pub fn reserve(&mut self, least: usize) {
        if self.bytes.len() - self.end < least {
            self.bytes.resize(self.end + least, 0);
        }
    }

    /// Whether the buffer has grown and is empty, so that it is worth freeing while nothing comes.
    pub fn is_large(&self) -> bool {
        self.is_empty() && self.bytes.len() > SMALLEST
    }

    /// Frees the buffer, if nothing is unread.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = ReadBuffer::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut ReadBuffer, count: usize) {
        let room = buffer.room(true);
        let count = count.min(room.len());
        room[..count].fill(7);
        buffer.filled(count);
    }

    #[test]
    fn room_grows_while_it_is_filled_and_is_given_back() {
        let mut buffer = ReadBuffer::default();
        assert_eq!(buffer.room(true).len(), SMALLEST);
        for _ in 0..10 {
            fill(&mut buffer, usize::MAX);
            let unread = buffer.unread().len();
            buffer.consume(unread);
        }
        assert_eq!(buffer.room(true).len(), LARGEST);
        fill(&mut buffer, 10);
        buffer.consume(10);
        assert!(buffer.is_large());
        buffer.release();
        assert!(!buffer.is_large());
        assert_eq!(buffer.room(true).len(), SMALLEST);
    }

    #[test]
    fn it_stays_small_where_it_may_not_grow() {
        let mut buffer = ReadBuffer::default();
        for _ in 0..3 {
            assert_eq!(buffer.room(false).len(), SMALLEST);
            buffer.filled(SMALLEST);
            buffer.consume(SMALLEST);
            assert!(buffer.wants_to_grow());
        }
        assert_eq!(buffer.room(true).len(), 4 * SMALLEST);
    }

    #[test]
    fn unread_bytes_survive_making_room() {
        let mut buffer = ReadBuffer::default();
        fill(&mut buffer, usize::MAX);
        buffer.consume(SMALLEST - 3);
        fill(&mut buffer, 5);
        assert_eq!(buffer.unread(), &[7; 8]);
        buffer.release();
        assert_eq!(buffer.unread().len(), 8);
    }
}
