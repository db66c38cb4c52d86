//! What the receiving half holds of its server's memory, where that has a limit (`memory_limit.rs`): read buffers, the inflater,
//! the message under way, and messages that wait for `recv`.

use super::{ReadHalf, ReadHolder, ReceiveHalf};
use crate::connection::outcome::EndResult;
use crate::deadline::Deadline;
use crate::memory_limit::{Kind, MemoryShare};
use crate::message::Message;
use crate::sync::{bound, lock};
use crate::transport::ReadState;

/// So much of a message does not count, so that small ones cost nothing.
const UNCOUNTED: usize = bound(4 * 1024, 16);
/// What a message is allowed first beyond that. Then it doubles.
const FIRST_STEP: usize = bound(64 * 1024, 32);

/// What the share says that the read half holds.
#[derive(Default)]
pub(super) struct ReadMemory {
    /// Buffers that may have grown.
    buffers: usize,
    inflater: usize,
    noted: Held,
}

/// As the share counts it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    reading: usize,
    message: usize,
}

/// The memory of a message that waits for `recv`.
pub(super) fn size(message: &Message) -> usize {
    message.len() + size_of::<Message>()
}

impl ReadHalf {
    /// The connection belongs to a server whose memory has a limit.
    pub fn count_memory(&mut self) {
        self.assembler.count_beyond(UNCOUNTED);
        self.incoming.set_may_grow(false);
    }

    fn held(&self) -> Held {
        Held {
            reading: self.memory.buffers + self.memory.inflater,
            message: self.backlog.iter().map(size).sum::<usize>() + self.assembler.counted(),
        }
    }
}

impl ReceiveHalf {
    /// Before the next event: makes room for what that may take. An error is the end of the connection.
    #[cold]
    pub(super) fn make_memory(
        &self,
        share: &MemoryShare,
        reader: &mut ReadHalf,
        deadline: &Deadline,
    ) -> Result<(), EndResult> {
        let Held { reading, message } = reader.held();
        if reader.memory.inflater == 0 && reader.decoder.lacks_inflater() && !reader.incoming.plain.is_empty() {
            let more = reader.decoder.inflater_size();
            share.hold(Kind::Reading, reading + more).map_err(|evicted| self.evicted(reader, evicted, deadline))?;
            reader.memory.inflater = more;
        }
        if reader.assembler.needs_more() {
            let length = reader.assembler.len();
            // The decoder refuses what is beyond max_message_size, when it comes.
            let most = self.send.core.config.max_message_size.max(length.saturating_add(1));
            let allowed = length.saturating_mul(2).max(length.saturating_add(FIRST_STEP)).min(most);
            let more = allowed.saturating_sub(UNCOUNTED) - reader.assembler.counted();
            share
                .hold(Kind::Message, message.saturating_add(more))
                .map_err(|evicted| self.evicted(reader, evicted, deadline))?;
            reader.assembler.allow(allowed);
        }
        reader.memory.noted = reader.held();
        Ok(())
    }

    /// Before a read: lets the buffers grow, if there is room for that now.
    pub(super) fn let_buffers_grow(&self, reader: &mut ReadHalf) {
        let Some(share) = &self.send.core.memory else { return };
        if reader.memory.buffers > 0 || !reader.incoming.wants_to_grow() {
            return;
        }
        let more = self.send.core.transport.most_for_reading();
        let reading = reader.held().reading + more;
        if share.try_hold(Kind::Reading, reading) {
            reader.memory.buffers = more;
            reader.memory.noted.reading = reading;
            reader.incoming.set_may_grow(true);
        }
    }

    /// The line is idle: grown buffers are freed.
    pub(super) fn release_buffers(&self, reader: &mut ReadHalf) {
        self.send.core.transport.release(&mut reader.incoming);
        if reader.memory.buffers > 0 && !reader.incoming.is_large() {
            reader.memory.buffers = 0;
            reader.incoming.set_may_grow(false);
            self.note_memory(reader);
        }
    }

    /// Whether a message may wait for `recv` beside what waits already.
    pub(super) fn may_keep(&self, reader: &mut ReadHalf, message: &Message) -> bool {
        let Some(share) = &self.send.core.memory else { return true };
        let held = reader.held().message + size(message);
        let may_keep = share.try_hold(Kind::Message, held);
        if may_keep {
            reader.memory.noted.message = held;
        }
        may_keep
    }

    /// Notes what the read half holds, after it has given something back.
    pub(super) fn note_memory(&self, reader: &mut ReadHalf) {
        let Some(share) = &self.send.core.memory else { return };
        let held = reader.held();
        if held != reader.memory.noted {
            // It is no more than was held.
            let _ = share.note(Kind::Reading, held.reading);
            let _ = share.note(Kind::Message, held.message);
            reader.memory.noted = held;
        }
    }

    /// The read half goes back to its slot.
    pub(super) fn returning(&self, reader: &mut ReadHalf) {
        let Some(share) = &self.send.core.memory else { return };
        if self.send.core.outcome.end().is_some() && share.is_evicted() {
            self.clear(reader);
        }
        self.note_memory(reader);
    }

    /// Another thread has evicted this connection. Whoever holds the read half throws away what it holds when it returns that.
    pub fn clear_idle(&self) {
        if let ReadHolder::Idle(reader) = &mut lock(&self.slot).holder {
            self.clear(reader);
        }
    }

    /// The connection has failed: what came and nobody can fetch any more is thrown away.
    pub(super) fn clear(&self, reader: &mut ReadHalf) {
        reader.decoder.end();
        reader.assembler.clear();
        reader.incoming = ReadState::default();
        reader.incoming.set_may_grow(false);
        (reader.memory.buffers, reader.memory.inflater) = (0, 0);
        self.note_memory(reader);
    }
}
