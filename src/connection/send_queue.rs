//! What is to be sent: encoded frames, pongs, the write half while nobody writes, and which sender may go on.
//!
//! ```text
//!   WriterSlot   Idle ──▶ Flushing ──▶ Idle          a call that never waits: the receiver, try_send
//!                Idle ──▶ Writing ──▶ Idle           a sender, or the flush thread
//!                            └─▶ Yielding ──▶ Idle   it has written enough for others: the next sender takes over
//!                any but Idle ──▶ Broken             a write failed: nothing is written any more
//!
//!   SendPhase    Open ◀──▶ Fragmented                a message in parts begins and ends
//!                Open, Fragmented ──▶ CloseQueued    our close frame
//!                any ──▶ Failed                      part of a frame may be out
//! ```
//!
//! A plain value: no I/O, no waiting, no clock.

mod masks;
mod turns;
mod write_half;

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::protocol::{Fragment, FrameEncoder, Mask, MessageCompressor, MessageKind, Opcode, Role};
use crate::statistics::Traffic;
use crate::sync::{ThreadId, bound};
use crate::transport::WriteState;
use masks::Masks;
use turns::Turns;
pub(crate) use turns::{Need, Ticket};
pub(crate) use write_half::WriteHalf;

/// Queued bytes that are worth a system call while more is coming.
const BATCH_FLUSH_AT: usize = bound(64 * 1024, 50);
/// Pongs not yet written; the oldest give way (RFC 6455 §5.5.3 lets an endpoint answer only the latest ping).
const MAX_PONGS: usize = 64;
/// Buffers beyond this are given back when all is written.
const RETAINED_CAPACITY: usize = bound(4 * 1024, 32);

pub(crate) struct SendQueue {
    /// Encodes what needs no compressor.
    encoder: FrameEncoder,
    masks: Masks,
    /// Encoded frames that the writer has not fetched yet.
    frames: Vec<u8>,
    pongs: VecDeque<Vec<u8>>,
    /// TLS has output of its own to write, such as an alert or the answer to a key update.
    pub tls_output: bool,
    writer: WriterSlot,
    compressor: CompressorSlot,
    phase: SendPhase,
    /// Bytes of queued frames since the connection is open, without pongs and directly written messages: how many the
    /// writer has fetched, and how many of these the system has taken.
    fetched: u64,
    written: u64,
    /// The length of the writer's batch when it was fetched, and how many bytes the system had taken then: with these,
    /// `buffered` needs nothing that the writer holds.
    in_flight: usize,
    sent_at_fetch: u64,
    /// Pings that the system has not taken completely, with the position behind each.
    pings: VecDeque<(u64, Vec<u8>)>,
    turns: Turns,
    /// How many threads wait for a change.
    pub waiting: usize,
    /// A flush thread (`SendHalf::write_left_behind`) is running, or being started.
    pub has_flush_thread: bool,
    /// How much is queued at most; one message alone may be larger.
    limit: usize,
    /// What `changed_memory` has returned last.
    noted_memory: usize,
    /// What was accepted; `wire_bytes` counts what does not pass through `frames`.
    accepted: Traffic,
}

/// Who holds the write half.
pub(crate) enum WriterSlot {
    /// Nobody: the next thread that writes takes it.
    Idle(Box<WriteHalf>),
    /// A call that never waits: it is back at once.
    Flushing,
    /// A sender, perhaps blocked on the socket. Others only queue.
    Writing,
    /// A sender that has written enough for others: the next one takes over.
    Yielding,
    /// A write has failed: part of a frame may be out, and nothing may follow it.
    Broken,
}

/// Who holds the compressor. A thread takes it out to compress, which may take long, without the lock.
pub(crate) enum CompressorSlot {
    /// No compression was agreed on.
    None,
    Idle(Box<MessageCompressor>),
    Taken,
}

/// What may still be queued.
#[derive(Debug)]
pub(crate) enum SendPhase {
    Open,
    /// Inside a message in parts: only its fragments and control frames (RFC 6455 §5.4). `by`: who sends it.
    Fragmented {
        by: ThreadId,
    },
    /// After our close frame: nothing (RFC 6455 §5.5.1). `end`: the position behind it.
    CloseQueued {
        end: u64,
    },
    /// Part of a frame may be out.
    Failed(Error),
}

/// The result of queueing a close frame.
#[derive(Debug)]
pub(crate) enum CloseQueued {
    Now,
    Before,
    Failed(Error),
}

impl SendQueue {
    pub fn new(role: Role, wire: WriteState, compressor: Option<MessageCompressor>, limit: usize) -> SendQueue {
        SendQueue {
            encoder: FrameEncoder::new(role),
            masks: Masks::new(role),
            frames: Vec::new(),
            pongs: VecDeque::new(),
            tls_output: false,
            writer: WriterSlot::Idle(Box::new(WriteHalf::new(wire))),
            compressor: compressor
                .map_or(CompressorSlot::None, |compressor| CompressorSlot::Idle(Box::new(compressor))),
            phase: SendPhase::Open,
            fetched: 0,
            written: 0,
            in_flight: 0,
            sent_at_fetch: 0,
            pings: VecDeque::new(),
            turns: Turns::default(),
            waiting: 0,
            has_flush_thread: false,
            limit,
            noted_memory: 0,
            accepted: Traffic::default(),
        }
    }

    // What may be done now.

    /// Whether nobody sends and nobody waits. Then every need is met. A cheap check for the usual case.
    #[inline]
    pub fn is_clear(&self) -> bool {
        let is_idle = matches!(self.writer, WriterSlot::Idle(_)) && self.turns.is_empty();
        is_idle && matches!(self.phase, SendPhase::Open) && !matches!(self.compressor, CompressorSlot::Taken)
    }

    /// Whether `need` is met for the sender with this ticket. `sent`: the bytes that the system has taken.
    pub fn is_ready(&self, need: Need, ticket: Option<Ticket>, sent: u64) -> bool {
        let may_queue = |length| match self.writer {
            // With the writer in its place, the caller itself can write what is queued before.
            WriterSlot::Idle(_) => self.is_next(need, ticket) || self.fits(length, sent),
            WriterSlot::Writing | WriterSlot::Flushing => self.fits(length, sent),
            WriterSlot::Yielding | WriterSlot::Broken => false,
        };
        self.allows(need)
            && match need {
                Need::Message(length) | Need::Frame(length) => may_queue(length),
                Need::Writer => self.is_writer_idle() && self.is_next(need, ticket),
                Need::Compressor | Need::Start | Need::CompressedStart => self.is_next(need, ticket),
            }
    }

    /// Whether the phase and the compressor allow what `need` is for. The writer, room and the line are not considered.
    fn allows(&self, need: Need) -> bool {
        match need {
            Need::Message(_) | Need::Writer | Need::Start => self.is_between_messages(),
            Need::Frame(_) => true,
            Need::Compressor | Need::CompressedStart => {
                self.is_between_messages() && !matches!(self.compressor, CompressorSlot::Taken)
            }
        }
    }

    /// Whether a message may begin.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.phase, SendPhase::Open)
    }

    /// Whether a message of `length` bytes may be queued: all that is accepted and not taken stays within the bound, but
    /// for one message that is larger by itself.
    pub fn fits(&self, length: usize, sent: u64) -> bool {
        let buffered = self.buffered(sent);
        buffered == 0 || buffered.saturating_add(length) <= self.limit
    }

    /// Bytes that were accepted and that the system has not taken. `sent`: the bytes that it has taken in all.
    pub fn buffered(&self, sent: u64) -> usize {
        let taken = usize::try_from(sent.saturating_sub(self.sent_at_fetch)).unwrap_or(usize::MAX);
        self.frames.len() + self.in_flight.saturating_sub(taken)
    }

    /// The memory of all that is queued or being written, as far as it is worth counting, if it has changed since the last call.
    pub fn changed_memory(&mut self) -> Option<usize> {
        let held = self.frames.capacity() + self.in_flight;
        let held = if held > RETAINED_CAPACITY { held } else { 0 };
        (std::mem::replace(&mut self.noted_memory, held) != held).then_some(held)
    }

    /// What was accepted to be sent.
    pub fn accepted(&self) -> Traffic {
        Traffic { wire_bytes: self.accepted.wire_bytes + self.end(), ..self.accepted }
    }

    /// A message, or a part of one, is accepted.
    #[inline]
    pub fn note_accepted(&mut self, messages: u64, payload_bytes: usize) {
        self.accepted.messages += messages;
        self.accepted.payload_bytes += payload_bytes as u64;
    }

    /// Whether a batch of messages has become large enough for a system call of its own.
    pub fn is_worth_writing(&self) -> bool {
        self.frames.len() >= BATCH_FLUSH_AT
    }

    pub fn phase(&self) -> &SendPhase {
        &self.phase
    }

    pub fn failure(&self) -> Option<&Error> {
        match &self.phase {
            SendPhase::Failed(error) => Some(error),
            SendPhase::Open | SendPhase::Fragmented { .. } | SendPhase::CloseQueued { .. } => None,
        }
    }

    /// Whether data and control frames may still be queued.
    pub fn is_open(&self) -> bool {
        match &self.phase {
            SendPhase::Open | SendPhase::Fragmented { .. } => true,
            SendPhase::CloseQueued { .. } | SendPhase::Failed(_) => false,
        }
    }

    /// Whether our close frame is queued or written.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, SendPhase::CloseQueued { .. })
    }

    /// Whether somebody is writing our close frame.
    pub fn is_writing_close(&self) -> bool {
        let has_writer = matches!(self.writer, WriterSlot::Flushing | WriterSlot::Writing | WriterSlot::Yielding);
        has_writer && matches!(self.phase, SendPhase::CloseQueued { end } if self.written < end && end <= self.fetched)
    }

    /// Whether the system has taken all of our close frame.
    pub fn is_close_written(&self) -> bool {
        matches!(self.phase, SendPhase::CloseQueued { end } if self.written >= end)
    }

    // Turns.

    /// Takes the last place in the line.
    pub fn take_turn(&mut self, need: Need) -> Ticket {
        self.turns.take(need)
    }

    pub fn leave_turn(&mut self, ticket: Ticket) {
        self.turns.leave(ticket);
    }

    /// Whether a sender in line waits only for the writer or for room: it will write what is queued.
    #[inline]
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty() && self.turns.before(None).any(|need| need.is_for_writing() && self.allows(need))
    }

    /// Whether no sender that could go on came before the one with this need and ticket.
    fn is_next(&self, need: Need, ticket: Option<Ticket>) -> bool {
        !self.turns.before(ticket).any(|earlier| earlier.goes_before(need) && self.allows(earlier))
    }

    // Queueing.

    /// The position behind all that is queued.
    pub fn end(&self) -> u64 {
        self.fetched + self.frames.len() as u64
    }

    /// Whether the system has taken everything up to a position.
    pub fn is_written(&self, end: u64) -> bool {
        self.written >= end
    }

    /// Whether the system has not taken all that was queued, and will: sending has not failed.
    pub fn has_unwritten_frames(&self) -> bool {
        !self.is_written(self.end()) && self.failure().is_none()
    }

    /// Appends an uncompressed message to the queue.
    #[inline]
    pub fn queue_message(&mut self, kind: MessageKind, parts: &[&[u8]]) -> Result<()> {
        let mask = self.masks.next()?;
        match parts {
            [payload] => self.encoder.message(&mut self.frames, kind, payload, mask),
            parts => self.encoder.message_parts(&mut self.frames, kind, parts, mask),
        }
        Ok(())
    }

    /// Appends a part of an uncompressed message to the queue.
    pub fn queue_fragment(&mut self, part: Fragment, payload: &[u8]) -> Result<()> {
        let mask = self.masks.next()?;
        self.encoder.fragment(&mut self.frames, part, payload, mask);
        Ok(())
    }

    /// Appends frames that are encoded already to the queue.
    pub fn queue_frame(&mut self, mut frame: Vec<u8>) {
        if self.frames.is_empty() {
            self.frames = frame;
        } else {
            self.frames.append(&mut frame);
        }
    }

    /// Appends a ping to the queue, unless our close frame is queued or a write has failed. Returns whether it did.
    pub fn queue_ping(&mut self, payload: &[u8]) -> Result<bool> {
        if !self.is_open() {
            return Ok(false);
        }
        let mask = self.masks.next()?;
        self.encoder.control(&mut self.frames, Opcode::Ping, payload, mask);
        self.pings.push_back((self.end(), payload.to_vec()));
        Ok(true)
    }

    /// The newest ping that the system has not taken completely.
    pub fn last_ping(&self) -> Option<&[u8]> {
        self.pings.back().map(|(_, payload)| payload.as_slice())
    }

    /// Appends the close frame to the queue, once.
    pub fn queue_close(&mut self, payload: &[u8]) -> CloseQueued {
        match &self.phase {
            SendPhase::Open | SendPhase::Fragmented { .. } => {}
            SendPhase::CloseQueued { .. } => return CloseQueued::Before,
            SendPhase::Failed(error) => return CloseQueued::Failed(error.clone()),
        }
        let mask = match self.masks.next() {
            Ok(mask) => mask,
            Err(error) => return CloseQueued::Failed(error),
        };
        self.encoder.control(&mut self.frames, Opcode::Close, payload, mask);
        self.phase = SendPhase::CloseQueued { end: self.end() };
        CloseQueued::Now
    }

    /// Keeps a pong for the writer, unless our close frame is queued.
    pub fn queue_pong(&mut self, payload: Vec<u8>) {
        if !self.is_open() {
            return;
        }
        if self.pongs.len() == MAX_PONGS {
            self.pongs.pop_front();
        }
        self.pongs.push_back(payload);
    }

    pub fn next_mask(&mut self) -> Result<Option<Mask>> {
        self.masks.next()
    }

    /// `Open` becomes `Fragmented`.
    pub fn begin_fragmented(&mut self, by: ThreadId) {
        debug_assert!(matches!(self.phase, SendPhase::Open));
        self.phase = SendPhase::Fragmented { by };
    }

    /// `Fragmented` becomes `Open`; after a close or a failure nothing changes. The message is the caller's: another one begins only
    /// after this call, and a last part that was queued and then failed leaves `Failed`.
    pub fn end_fragmented(&mut self, by: ThreadId) {
        if let SendPhase::Fragmented { by: sender } = &self.phase {
            debug_assert_eq!(*sender, by);
            self.phase = SendPhase::Open;
        }
    }

    // The compressor.

    /// Takes the compressor, if it is in its place.
    pub fn take_compressor(&mut self) -> Option<Box<MessageCompressor>> {
        match std::mem::replace(&mut self.compressor, CompressorSlot::Taken) {
            CompressorSlot::Idle(compressor) => Some(compressor),
            other => {
                self.compressor = other;
                None
            }
        }
    }

    pub fn return_compressor(&mut self, compressor: Box<MessageCompressor>) {
        self.compressor = CompressorSlot::Idle(compressor);
    }

    // The writer.

    /// Whether the writer has nothing to fetch.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.pongs.is_empty() && !self.tls_output
    }

    /// Whether anything waits to be written, nobody writes, and no sender in line will.
    pub fn is_left_behind(&self) -> bool {
        self.needs_writer() && !self.has_turns()
    }

    /// Whether anything waits to be written and nobody writes.
    pub fn needs_writer(&self) -> bool {
        match &self.writer {
            WriterSlot::Idle(writer) => !(self.is_empty() && writer.is_idle()),
            WriterSlot::Flushing | WriterSlot::Writing | WriterSlot::Yielding | WriterSlot::Broken => false,
        }
    }

    pub fn is_flushing(&self) -> bool {
        matches!(self.writer, WriterSlot::Flushing)
    }

    pub fn is_writer_idle(&self) -> bool {
        matches!(self.writer, WriterSlot::Idle(_))
    }

    /// Takes the writer, if it is in its place, and leaves `holder` there.
    pub fn take_writer(&mut self, holder: WriterSlot) -> Option<Box<WriteHalf>> {
        match std::mem::replace(&mut self.writer, holder) {
            WriterSlot::Idle(writer) => Some(writer),
            other => {
                self.writer = other;
                None
            }
        }
    }

    /// The writer has written enough for others.
    pub fn yield_writer(&mut self) {
        self.writer = WriterSlot::Yielding;
    }

    /// Hands all that is queued to the writer, whose batch must be written: pongs first, they may stand between any two
    /// frames.
    pub fn fetch(&mut self, writer: &mut WriteHalf, sent: u64) -> Result<()> {
        debug_assert!(writer.is_idle());
        self.note_written(writer);
        writer.restart();
        while let Some(pong) = self.pongs.pop_front() {
            let mask = self.masks.next()?;
            self.encoder.control(&mut writer.batch, Opcode::Pong, &pong, mask);
        }
        writer.frames_start = writer.batch.len();
        self.accepted.wire_bytes += writer.batch.len() as u64;
        self.fetched += self.frames.len() as u64;
        if writer.batch.is_empty() {
            std::mem::swap(&mut self.frames, &mut writer.batch);
        } else {
            writer.batch.append(&mut self.frames);
        }
        writer.frames_end = writer.batch.len();
        (self.in_flight, self.sent_at_fetch) = (writer.batch.len(), sent);
        self.tls_output = false;
        Ok(())
    }

    /// Hands all that is queued to the writer, and behind it the header of a message whose payload the caller writes. Returns the
    /// mask.
    pub fn fetch_with_header(
        &mut self,
        writer: &mut WriteHalf,
        kind: MessageKind,
        length: usize,
        sent: u64,
    ) -> Result<Option<Mask>> {
        let mask = self.masks.next()?;
        if writer.is_idle() {
            self.fetch(writer, sent)?;
        } else {
            self.fetch_behind_rest(writer);
        }
        let before = writer.batch.len();
        self.encoder.header(&mut writer.batch, kind, length, mask);
        self.accepted.wire_bytes += (writer.batch.len() - before + length) as u64;
        self.note_accepted(1, length);
        Ok(mask)
    }

    /// As `fetch`, where a call that never waits has left a rest of the batch. Pongs wait for the next batch.
    fn fetch_behind_rest(&mut self, writer: &mut WriteHalf) {
        debug_assert_eq!(writer.frames_end, writer.batch.len());
        self.fetched += self.frames.len() as u64;
        self.in_flight += self.frames.len();
        writer.batch.append(&mut self.frames);
        writer.frames_end = writer.batch.len();
    }

    /// Notes how much of the queue the system has taken. The writer's batch is as `fetch` made it, or spent.
    #[inline]
    pub fn note_written(&mut self, writer: &WriteHalf) {
        if writer.is_idle() {
            (self.written, self.in_flight) = (self.fetched, 0);
        } else {
            self.written = self.fetched - writer.unwritten_frames();
        }
    }

    /// The pings that have left since the last call.
    pub fn next_ping_left(&mut self) -> Option<Vec<u8>> {
        let (end, _) = self.pings.front()?;
        if !self.is_written(*end) {
            return None;
        }
        self.pings.pop_front().map(|(_, payload)| payload)
    }

    /// A write of the taken writer has failed: nothing can be sent any more, as part of a frame may be out.
    pub fn break_writer(&mut self, writer: &WriteHalf, error: &Error) {
        self.note_written(writer);
        self.writer = WriterSlot::Broken;
        match self.phase {
            // There is nothing more to send.
            SendPhase::CloseQueued { .. } if self.is_close_written() => {}
            SendPhase::Open | SendPhase::Fragmented { .. } | SendPhase::CloseQueued { .. } => {
                self.phase = SendPhase::Failed(error.clone());
            }
            SendPhase::Failed(_) => {}
        }
        self.frames = Vec::new();
        self.pongs.clear();
        self.pings.clear();
        self.in_flight = 0;
    }

    pub fn return_writer(&mut self, mut writer: Box<WriteHalf>) {
        self.note_written(&writer);
        if writer.is_idle() {
            writer.restart();
        }
        if writer.batch.capacity() > RETAINED_CAPACITY && writer.batch.is_empty() {
            writer.batch = Vec::new();
        }
        writer.wire.release(RETAINED_CAPACITY);
        if self.frames.is_empty() && self.frames.capacity() > RETAINED_CAPACITY {
            self.frames = Vec::new();
        }
        self.writer = WriterSlot::Idle(writer);
    }
}

#[cfg(test)]
mod tests;
