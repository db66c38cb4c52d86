//! Messages to the queue: frames are encoded under a short lock, and one thread at a time writes what is queued (`write.rs`).
//! While one thread writes, other senders queue their frames and return. When the queue is full, they wait in line.
//!
//! - To compress a message, its sender takes the compressor out of the queue. Others wait for it only briefly: sending
//!   uncompressed is always legal.
//! - A large uncompressed message does not pass through the queue: its sender becomes the writer. A client masks the caller's
//!   bytes chunk by chunk, a server writes them as they are.

use std::time::Duration;

use super::outcome::EndResult;
use super::send_queue::{CloseQueued, Need, SendPhase, SendQueue, WriteHalf, WriterSlot};
use super::write::SendHalf;
use crate::close_code::CloseCode;
use crate::copy;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::outgoing::Outgoing;
use crate::prepared::Prepared;
use crate::protocol::{Fin, Fragment, Mask, MessageCompressor, MessageKind, Preparation, mask};
use crate::sync::{Arc, Instant, MutexGuard, bound, lock, this_thread};

/// Messages from this size on are written directly.
const DIRECT_SEND_MIN: usize = bound(64 * 1024, 64);
/// How much of them a client masks and writes at once: large, as each write wakes the peer. A multiple of four, for the mask,
/// but not of 4096, as in `ReadBuffer`.
const MASK_CHUNK: usize = bound(1024 * 1024 - 1120, 24);
/// How long a message waits for another thread's compression before it is sent uncompressed.
const COMPRESSOR_WAIT: Duration = Duration::from_millis(50);

/// One message to send, and how.
#[derive(Clone, Copy)]
struct Plan<'a> {
    kind: MessageKind,
    parts: &'a [&'a [u8]],
    len: usize,
    encoding: Encoding<'a>,
}

/// How a message becomes a frame.
#[derive(Clone, Copy)]
enum Encoding<'a> {
    Uncompressed,
    Compressed,
    /// Compressed for several connections.
    Prepared(&'a Prepared, Preparation),
}

/// What a sender does when its message cannot be queued now.
#[derive(Clone, Copy)]
enum Patience<'a> {
    Refuse,
    WaitBy(&'a Deadline),
}

/// The compressor, taken out of the queue. [`keep`](TakenCompressor::keep) returns it with its history. On drop it is returned
/// without: the peer will not see what it has compressed.
struct TakenCompressor<'a> {
    half: &'a Arc<SendHalf>,
    compressor: Option<Box<MessageCompressor>>,
}

/// On drop, writes what `send_all` has left in the queue: also after an error, or a panic of the program's iterator.
struct RestOfBatch<'a>(&'a Arc<SendHalf>);

/// By when a sender with this deadline goes on without the compressor. Progress does not renew it: bytes that are written do
/// not mean that the compressor is free soon.
pub(super) fn compressor_deadline(deadline: &Deadline) -> Deadline {
    Deadline::after("send_timeout", Some(deadline.left_at_most(COMPRESSOR_WAIT)))
}

impl SendHalf {
    /// Calls `send` with how `message` is to be sent.
    #[inline(always)]
    fn with_plan<T>(&self, message: &Outgoing<'_>, send: impl FnOnce(Plan<'_>) -> Result<T>) -> Result<T> {
        message.with_parts(|parts| {
            let len = Outgoing::total_len(parts)?;
            let is_long_enough = self.compress_from.is_some_and(|least| len >= least);
            let encoding = match (message.prepared(), self.preparation) {
                _ if !is_long_enough || !message.may_compress() => Encoding::Uncompressed,
                (Some(prepared), Some(preparation)) => Encoding::Prepared(prepared, preparation),
                (Some(_), None) | (None, _) => Encoding::Compressed,
            };
            log::trace!("sending {:?}, {len} bytes", message.kind());
            send(Plan { kind: message.kind(), parts, len, encoding })
        })
    }

    /// Sends one message; returns when it is written, or queued while another thread writes.
    pub fn send(self: &Arc<Self>, message: &Outgoing<'_>) -> Result<()> {
        let deadline = self.core.send_deadline();
        self.with_plan(message, |plan| {
            if plan.is_direct() {
                return self.send_direct(plan, &deadline);
            }
            let queue = self.enqueue(plan, Patience::WaitBy(&deadline))?;
            let end = queue.end();
            self.write_queued(queue, end, &deadline)
        })
    }

    /// Sends one message; `Ok` when the system has taken all of it, an error when it has not and never will: sent again on
    /// another connection, the message does not arrive twice. `abort` ends the connection.
    pub fn send_through(self: &Arc<Self>, message: &Outgoing<'_>, abort: impl FnOnce()) -> Result<()> {
        let deadline = self.core.send_deadline();
        self.with_plan(message, |plan| {
            if plan.is_direct() {
                return self.send_direct(plan, &deadline);
            }
            let queue = self.enqueue(plan, Patience::WaitBy(&deadline))?;
            let end = queue.end();
            let written =
                self.write_queued(queue, end, &deadline).and_then(|()| self.wait_until_written(end, &deadline));
            written.or_else(|error| self.withdraw(end, error, abort))
        })
    }

    /// Sends messages in their order, with fewer system calls than one for each.
    pub fn send_all<'a>(self: &Arc<Self>, messages: impl Iterator<Item = Outgoing<'a>>) -> Result<()> {
        let mut end = None;
        let _rest = RestOfBatch(self);
        // Each wait restarts it.
        let deadline = self.core.send_deadline();
        for message in messages {
            self.with_plan(&message, |plan| {
                if plan.is_direct() {
                    return self.send_direct(plan, &deadline);
                }
                let queue = self.enqueue(plan, Patience::WaitBy(&deadline))?;
                let own_end = queue.end();
                end = Some(own_end);
                if queue.is_worth_writing() { self.write_queued(queue, own_end, &deadline) } else { Ok(()) }
            })?;
        }
        let queue = lock(&self.queue);
        match (end, queue.failure()) {
            (None, Some(failure)) => Err(failure.clone()),
            _ => self.write_queued(queue, end.unwrap_or(0), &deadline),
        }
    }

    /// As `send`, but never waits: what the system does not take now stays queued, if there is room.
    pub fn try_send(self: &Arc<Self>, message: &Outgoing<'_>) -> Result<()> {
        self.with_plan(message, |plan| self.enqueue(plan, Patience::Refuse).map(drop))?;
        self.flush_what_fits();
        Ok(())
    }

    /// Queues a message, as soon as that is allowed.
    #[inline(always)]
    fn enqueue(self: &Arc<Self>, message: Plan<'_>, patience: Patience<'_>) -> Result<MutexGuard<'_, SendQueue>> {
        match message.encoding {
            Encoding::Uncompressed => self.enqueue_uncompressed(message, patience),
            Encoding::Compressed => {
                let length = message.len.min(self.core.config.send_queue_limit);
                self.enqueue_compressed(message, length, patience, |compressor, frame, mask| match message.parts {
                    [payload] => compressor.message(frame, message.kind, payload, mask),
                    parts => compressor.message(frame, message.kind, &parts.concat(), mask),
                })
            }
            Encoding::Prepared(prepared, preparation) => {
                // Compressed before this call waits, and without the connection's compressor.
                let compressed = prepared.compressed(preparation);
                self.enqueue_compressed(message, compressed.len(), patience, |compressor, frame, mask| {
                    compressor.prepared(frame, message.kind, &compressed, mask);
                })
            }
        }
    }

    #[inline(always)]
    fn enqueue_uncompressed(
        self: &Arc<Self>,
        message: Plan<'_>,
        patience: Patience<'_>,
    ) -> Result<MutexGuard<'_, SendQueue>> {
        let mut queue = self.admit(Need::Message(message.len), patience)?;
        queue.queue_message(message.kind, message.parts)?;
        queue.note_accepted(1, message.len);
        Ok(queue)
    }

    /// Calls `encode` with the compressor, and queues the frame that it makes. `length`: about how many bytes that is, to wait
    /// for room. The compressor is returned in the same step in which the frame is queued, so that frames are written in the
    /// order of its history.
    fn enqueue_compressed(
        self: &Arc<Self>,
        message: Plan<'_>,
        length: usize,
        patience: Patience<'_>,
        encode: impl FnOnce(&mut MessageCompressor, &mut Vec<u8>, Option<Mask>),
    ) -> Result<MutexGuard<'_, SendQueue>> {
        let Some((mut taken, mask)) = self.take_compressor(length, patience)? else {
            return self.enqueue_uncompressed(message, patience);
        };
        let mut frame = Vec::new();
        encode(taken.compressor(), &mut frame, mask);
        // Meanwhile the queue may have filled, or an uncompressed message in parts begun.
        let mut queue = self.admit(Need::Message(frame.len()), patience)?;
        queue.queue_frame(frame);
        queue.note_accepted(1, message.len);
        taken.keep(&mut queue);
        self.wake(&queue);
        Ok(queue)
    }

    /// The compressor and a mask, when a message of `length` bytes may be queued; `None` if another thread compresses and
    /// this one should not wait any longer for that.
    fn take_compressor(
        self: &Arc<Self>,
        length: usize,
        patience: Patience<'_>,
    ) -> Result<Option<(TakenCompressor<'_>, Option<Mask>)>> {
        let mut queue = self.admit(Need::Message(length), patience)?;
        let is_free = queue.is_ready(Need::Compressor, None, self.core.sent());
        let mut compressor = if is_free { queue.take_compressor() } else { None };
        if let (None, Patience::WaitBy(deadline)) = (&compressor, patience) {
            self.unlock(queue);
            queue = match self.wait_until(Need::Compressor, &compressor_deadline(deadline)) {
                Ok(queue) => queue,
                Err(error) if error.kind() == ErrorKind::Timeout => return Ok(None),
                Err(error) => return Err(error),
            };
            compressor = queue.take_compressor();
        }
        let taken = compressor.map(|compressor| TakenCompressor { half: self, compressor: Some(compressor) });
        let mask = queue.next_mask();
        // Unlocked first: dropping `taken` locks.
        self.unlock(queue);
        match taken {
            Some(taken) => Ok(Some((taken, mask?))),
            None => Ok(None),
        }
    }

    /// The queue, when `need` is met.
    #[inline(always)]
    fn admit(self: &Arc<Self>, need: Need, patience: Patience<'_>) -> Result<MutexGuard<'_, SendQueue>> {
        match patience {
            Patience::WaitBy(deadline) => self.wait_until(need, deadline),
            Patience::Refuse => {
                let queue = lock(&self.queue);
                self.check_sendable(&queue)?;
                let Need::Message(length) = need else { return Ok(queue) };
                let why = if !queue.is_between_messages() {
                    "try_send: another message is being sent in parts"
                } else if !queue.fits(length, self.core.sent()) {
                    "try_send: the peer has not taken what is queued for it already"
                } else {
                    return Ok(queue);
                };
                Err(Error::new(ErrorKind::WouldBlock, why))
            }
        }
    }

    /// Writes a message past the queue.
    fn send_direct(self: &Arc<Self>, message: Plan<'_>, deadline: &Deadline) -> Result<()> {
        let (mut writer, mask) = self.begin_direct(message.kind, message.len, deadline)?;
        let mut is_handed_over = false;
        if let Err(error) = self.write_direct(&mut writer, mask, message.parts, deadline, &mut is_handed_over) {
            // The error may be of what follows the message, such as output of TLS itself.
            let is_out = is_handed_over && writer.wire.unsent_plain() == 0;
            let error = self.sending_failed(writer, error);
            return if is_out { Ok(()) } else { Err(error) };
        }
        // Writes what others queued meanwhile. An error there is not this caller's.
        let mut queue = lock(&self.queue);
        self.note_written(&mut queue, &writer);
        self.write_on(queue, writer, 0, deadline)
    }

    /// Takes the writer, with all that is queued and the header of the message in its batch. The header is put there under
    /// the lock under which the message may begin: whatever others queue from then on comes behind the message.
    fn begin_direct(
        self: &Arc<Self>,
        kind: MessageKind,
        length: usize,
        deadline: &Deadline,
    ) -> Result<(Box<WriteHalf>, Option<Mask>)> {
        let mut queue = self.wait_until(Need::Writer, deadline)?;
        let mut writer = queue.take_writer(WriterSlot::Writing).expect("waited for");
        let mask = queue.fetch_with_header(&mut writer, kind, length, self.core.sent());
        drop(queue);
        match mask {
            Ok(mask) => Ok((writer, mask)),
            Err(error) => Err(self.sending_failed(writer, error)),
        }
    }

    fn write_direct(
        &self,
        writer: &mut WriteHalf,
        mask: Option<Mask>,
        parts: &[&[u8]],
        deadline: &Deadline,
        is_handed_over: &mut bool,
    ) -> Result<()> {
        match (mask, parts) {
            // Without a mask, only the start is copied, to be written together with the header.
            (None, [payload]) => {
                let (start, rest) = payload.split_at(DIRECT_SEND_MIN);
                copy::append(&mut writer.batch, start);
                self.write_batch(writer, deadline)?;
                self.finish_batch(writer);
                let mut written = 0;
                let result = self.write_all(&mut writer.wire, rest, &mut written, deadline);
                *is_handed_over = written == rest.len();
                result
            }
            (mask, parts) => self.write_chunks(writer, parts, mask, deadline, is_handed_over),
        }
    }

    /// Copies the payload chunk by chunk, masked if there is a mask, and writes each chunk.
    fn write_chunks(
        &self,
        writer: &mut WriteHalf,
        parts: &[&[u8]],
        mask: Option<Mask>,
        deadline: &Deadline,
        is_handed_over: &mut bool,
    ) -> Result<()> {
        let mut chunks = parts.iter().flat_map(|part| part.chunks(MASK_CHUNK)).peekable();
        let mut position = 0;
        while let Some(chunk) = chunks.next() {
            match mask {
                Some(mask) => mask::append(&mut writer.batch, chunk, mask.rotate(position)),
                None => copy::append(&mut writer.batch, chunk),
            }
            position += chunk.len();
            let is_last = chunks.peek().is_none();
            if is_last || writer.batch.len() >= MASK_CHUNK {
                let written = self.write_batch(writer, deadline);
                *is_handed_over = is_last && writer.batch_written();
                written?;
                if !is_last {
                    self.finish_batch(writer);
                }
            }
        }
        Ok(())
    }

    /// Notes what of the queue went out with the first part of a directly written message.
    fn finish_batch(&self, writer: &mut WriteHalf) {
        let mut queue = lock(&self.queue);
        self.note_written(&mut queue, writer);
        self.wake(&queue);
        drop(queue);
        writer.restart();
    }

    /// Queues a part of a message in parts, and sends it like a message. With the last part the compressor is returned, and
    /// other messages may follow.
    pub fn send_fragment(
        self: &Arc<Self>,
        part: Fragment,
        payload: &[u8],
        compressor: &mut Option<Box<MessageCompressor>>,
        deadline: &Deadline,
    ) -> Result<()> {
        let mut queue = self.wait_until(Need::Frame(payload.len()), deadline)?;
        match compressor {
            Some(compressor) => {
                let mask = queue.next_mask()?;
                self.unlock(queue);
                let mut frame = Vec::new();
                compressor.fragment(&mut frame, part, payload, mask);
                queue = lock(&self.queue);
                self.check_sendable(&queue)?;
                queue.queue_frame(frame);
            }
            None => queue.queue_fragment(part, payload)?,
        }
        queue.note_accepted(u64::from(part.fin == Fin::Last), payload.len());
        if part.fin == Fin::Last {
            queue.end_fragmented(this_thread());
            if let Some(compressor) = compressor.take() {
                queue.return_compressor(compressor);
            }
            self.wake(&queue);
        }
        let end = queue.end();
        self.write_queued(queue, end, deadline)
    }

    /// Queues a ping, and sends it like a message.
    pub fn ping(self: &Arc<Self>, payload: &[u8]) -> Result<()> {
        let deadline = self.core.send_deadline();
        let mut queue = self.wait_until(Need::Frame(payload.len()), &deadline)?;
        lock(&self.core.keepalive).ping_queued(payload, Instant::now());
        queue.queue_ping(payload)?;
        let end = queue.end();
        self.write_queued(queue, end, &deadline)
    }

    /// Queues a keepalive ping without writing it, unless one is waiting already.
    pub fn queue_ping(&self, payload: &[u8]) {
        let mut queue = lock(&self.queue);
        if let Some(waiting) = queue.last_ping() {
            lock(&self.core.keepalive).await_instead(payload, waiting);
            return;
        }
        lock(&self.core.keepalive).ping_queued(payload, Instant::now());
        if let Err(error) = queue.queue_ping(payload) {
            drop(queue);
            log::warn!("no keepalive ping was sent: {error}");
        }
    }

    /// Queues the close frame, once. The closing that begins with it ends by `deadline`.
    pub fn queue_close(&self, code: Option<CloseCode>, reason: &str, deadline: Deadline) -> CloseQueued {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&u16::from(code).to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        let mut queue = lock(&self.queue);
        let queued = queue.queue_close(&payload);
        if matches!(queued, CloseQueued::Now) {
            self.core.begin_close_deadline(deadline);
        }
        self.wake(&queue);
        queued
    }

    #[inline]
    pub fn check_sendable(&self, queue: &SendQueue) -> Result<()> {
        if queue.is_open() && self.core.outcome.is_open() { Ok(()) } else { Err(self.not_sendable(queue)) }
    }

    #[cold]
    fn not_sendable(&self, queue: &SendQueue) -> Error {
        let text = match (queue.failure(), self.core.outcome.end()) {
            (Some(failure), _) => format!("sending has failed before: {failure}"),
            (None, Some(EndResult::Failed(error))) => format!("cannot send: {error}"),
            (None, Some(EndResult::Closed) | None) => "cannot send: the connection is closing or closed".to_string(),
        };
        Error::new(ErrorKind::Closed, text)
    }

    /// Fails where this thread itself has begun a message in parts, so that a wait for its end would not end.
    pub fn check_not_own_message(&self, queue: &SendQueue, need: Need) -> Result<()> {
        let may_stand_inside = matches!(need, Need::Frame(_));
        let is_own = matches!(queue.phase(), SendPhase::Fragmented { by } if *by == this_thread());
        if may_stand_inside || !is_own {
            return Ok(());
        }
        let text = "this thread holds an unfinished MessageWriter of this connection: finish or drop it first";
        Err(Error::new(ErrorKind::InvalidInput, text))
    }
}

impl Plan<'_> {
    fn is_direct(&self) -> bool {
        self.len >= DIRECT_SEND_MIN && matches!(self.encoding, Encoding::Uncompressed)
    }
}

impl Drop for RestOfBatch<'_> {
    fn drop(&mut self) {
        self.0.unlock(lock(&self.0.queue));
    }
}

impl TakenCompressor<'_> {
    fn compressor(&mut self) -> &mut MessageCompressor {
        self.compressor.as_mut().expect("only taken by keep and drop")
    }

    /// Returns the compressor with its history: the frame is queued.
    fn keep(mut self, queue: &mut SendQueue) {
        queue.return_compressor(self.compressor.take().expect("only taken here and by drop"));
    }
}

impl Drop for TakenCompressor<'_> {
    fn drop(&mut self) {
        let Some(mut compressor) = self.compressor.take() else { return };
        compressor.forget();
        let mut queue = lock(&self.half.queue);
        queue.return_compressor(compressor);
        self.half.wake(&queue);
    }
}
