//! From the queue to the transport.
//!
//! A sender that finds the write half in its slot takes it and becomes the writer. Before the writer returns it, it checks the
//! queue again: frames that other senders queue during a write are written together, by one system call. What a call that
//! never waits leaves behind is written by the flush thread, which ends when nothing is left.

use std::io;
use std::time::Duration;

use super::core::Core;
use super::outcome::EndResult;
use super::send_queue::{Need, SendQueue, WriteHalf, WriterSlot};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::memory_limit::{Kind, MemoryShare};
use crate::sync::{Arc, Condvar, Instant, Mutex, MutexGuard, bound, lock, sleep, spawn, wait};
use crate::transport::WriteState;

/// Back-off after a `WouldBlock` that may have come before the timeout (the shared socket was briefly non-blocking); avoids
/// spinning.
const SPURIOUS_WOULDBLOCK_BACKOFF: Duration = Duration::from_millis(1);
/// How long a receiver waits at most until the thread that writes our close frame has noted whether the system took it.
const CLOSE_NOTE_WAIT: Duration = Duration::from_secs(1);
/// The same for a receiving call that is not to wait: it happens once, at the end, and is over as soon as the thread that writes
/// has taken its lock.
const CLOSE_NOTE_WAIT_OF_A_POLL: Duration = Duration::from_millis(5);
/// Batches that one sender writes for others before the next sender takes over.
const MAX_BATCHES_FOR_OTHERS: usize = bound(64, 2);
/// Batches that one call writes that never waits: other such calls may fill the queue as fast as it empties.
const MAX_FLUSH_BATCHES: usize = bound(8, 2);

/// The sending half. It calls the core, and nothing of receiving.
pub(crate) struct SendHalf {
    pub core: Core,
    pub queue: Mutex<SendQueue>,
    changed: Condvar,
    /// The length from which messages are compressed, if compression was agreed on.
    pub compress_from: Option<usize>,
    /// What a prepared message must be compressed with.
    pub preparation: Option<crate::protocol::Preparation>,
}

/// How long one write may wait.
enum Pace<'a> {
    /// Not at all.
    Now,
    /// For each step, until the deadline.
    By(&'a mut Deadline),
}

/// The bound of a wait for other threads' writes: it starts again whenever the system takes bytes.
struct StallBound {
    deadline: Deadline,
    sent: u64,
}

impl StallBound {
    /// Begins now: what the caller did before, such as compressing, does not count.
    fn new(deadline: &Deadline, core: &Core) -> StallBound {
        let mut deadline = *deadline;
        deadline.progress();
        StallBound { deadline, sent: core.sent() }
    }

    /// The time left, or the error when it is over.
    fn left(&mut self, core: &Core) -> Result<Option<Duration>> {
        let sent = core.sent();
        if sent != self.sent {
            self.sent = sent;
            self.deadline.progress();
        }
        self.deadline.check("waiting for other threads' messages to be sent")
    }
}

impl SendHalf {
    pub fn new(
        core: Core,
        queue: SendQueue,
        compress_from: Option<usize>,
        preparation: Option<crate::protocol::Preparation>,
    ) -> SendHalf {
        SendHalf { core, queue: Mutex::new(queue), changed: Condvar::new(), compress_from, preparation }
    }

    // Waiting. The caller holds the queue's lock; the wait gives it up.

    /// Waits until `need` is met, in turn with others, by a deadline that starts again while the writer makes progress.
    #[inline(always)]
    pub fn wait_until(self: &Arc<Self>, need: Need, deadline: &Deadline) -> Result<MutexGuard<'_, SendQueue>> {
        let queue = lock(&self.queue);
        if queue.is_clear() && self.core.outcome.is_open() {
            return Ok(queue);
        }
        self.wait_if_not_ready(queue, need, deadline)
    }

    #[cold]
    fn wait_if_not_ready<'a>(
        self: &'a Arc<Self>,
        queue: MutexGuard<'a, SendQueue>,
        need: Need,
        deadline: &Deadline,
    ) -> Result<MutexGuard<'a, SendQueue>> {
        if !queue.is_ready(need, None, self.core.sent()) {
            return self.wait_in_turn(queue, need, deadline);
        }
        self.check_sendable(&queue)?;
        Ok(queue)
    }

    fn wait_in_turn<'a>(
        self: &'a Arc<Self>,
        mut queue: MutexGuard<'a, SendQueue>,
        need: Need,
        deadline: &Deadline,
    ) -> Result<MutexGuard<'a, SendQueue>> {
        let ticket = queue.take_turn(need);
        let mut bound = StallBound::new(deadline, &self.core);
        let result = loop {
            if let Err(error) = self.check_sendable(&queue).and_then(|()| self.check_not_own_message(&queue, need)) {
                break Err(error);
            }
            if queue.is_ready(need, Some(ticket), self.core.sent()) {
                break Ok(());
            }
            match bound.left(&self.core) {
                Ok(left) => queue = self.wait(queue, left),
                Err(error) => break Err(error),
            }
        };
        queue.leave_turn(ticket);
        self.wake(&queue);
        match result {
            Ok(()) => Ok(queue),
            Err(error) => {
                self.unlock(queue);
                Err(error)
            }
        }
    }

    /// Unlocks the queue without writing. While this thread stood in the line, others may have left their frames to it: these
    /// are written.
    pub fn unlock(self: &Arc<Self>, queue: MutexGuard<'_, SendQueue>) {
        let is_left_behind = queue.is_left_behind();
        drop(queue);
        if is_left_behind {
            self.flush_what_fits();
        }
    }

    fn wait<'a>(&self, mut queue: MutexGuard<'a, SendQueue>, left: Option<Duration>) -> MutexGuard<'a, SendQueue> {
        queue.waiting += 1;
        let mut queue = wait(&self.changed, queue, left);
        queue.waiting -= 1;
        queue
    }

    /// Wakes all who wait for the queue, the writer or the compressor.
    pub fn wake(&self, queue: &SendQueue) {
        if queue.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Wakes all of them to check the outcome. Taking the lock once ensures that nobody is between its check and its wait.
    pub fn wake_all(&self) {
        drop(lock(&self.queue));
        self.changed.notify_all();
    }

    /// Throws away what is queued, which nobody will write: the connection has ended with `error`. A thread that writes does that by
    /// itself.
    pub fn clear(&self, error: &Error) {
        let mut queue = lock(&self.queue);
        if let Some(writer) = queue.take_writer(WriterSlot::Writing) {
            queue.break_writer(&writer, error);
            self.wake(&queue);
            self.unlock_noted(queue);
        }
    }

    // Writing.

    /// Writes what is queued, or leaves it to the thread that writes or will write. `end`: the position behind the caller's
    /// own frames: only an error before it is returned.
    #[inline]
    pub fn write_queued<'a>(
        &'a self,
        mut queue: MutexGuard<'a, SendQueue>,
        end: u64,
        deadline: &Deadline,
    ) -> Result<()> {
        // A flush never blocks, so this wait needs no deadline. The flush may leave frames behind, so check again after it.
        while queue.is_flushing() {
            queue = self.wait(queue, None);
        }
        if let Some(failure) = queue.failure() {
            return if queue.is_written(end) { Ok(()) } else { Err(failure.clone()) };
        }
        // A sender in line will write these frames with its own. Not when the queue is full: each sender could leave it to
        // the next, and it would grow.
        let is_left = !queue.needs_writer() || (queue.has_turns() && queue.fits(0, self.core.sent()));
        let writer = if is_left { None } else { queue.take_writer(WriterSlot::Writing) };
        let Some(writer) = writer else {
            self.unlock_noted(queue);
            return Ok(());
        };
        self.write_on(queue, writer, end, deadline)
    }

    /// Unlocks the queue. Where the server's memory has a limit, notes what is queued, and evicts who holds most if that is too
    /// much: perhaps this connection.
    #[inline(always)]
    fn unlock_noted(&self, queue: MutexGuard<'_, SendQueue>) {
        match &self.core.memory {
            None => drop(queue),
            Some(memory) => self.unlock_counted(queue, memory),
        }
    }

    #[cold]
    fn unlock_counted(&self, mut queue: MutexGuard<'_, SendQueue>, memory: &MemoryShare) {
        let is_too_much = queue.changed_memory().is_some_and(|held| memory.note(Kind::Queued, held));
        drop(queue);
        if is_too_much {
            memory.relieve();
        }
    }

    /// Writes until nothing is queued, or another sender takes over; then returns the writer.
    pub fn write_on<'a>(
        &'a self,
        mut queue: MutexGuard<'a, SendQueue>,
        mut writer: Box<WriteHalf>,
        end: u64,
        deadline: &Deadline,
    ) -> Result<()> {
        let mut batches = 0;
        loop {
            if writer.is_idle() {
                if queue.is_empty() || (queue.has_turns() && queue.is_written(end)) {
                    queue.return_writer(writer);
                    self.wake(&queue);
                    self.unlock_noted(queue);
                    return Ok(());
                }
                if batches >= MAX_BATCHES_FOR_OTHERS {
                    queue.yield_writer();
                }
                if let Err(error) = queue.fetch(&mut writer, self.core.sent()) {
                    drop(queue);
                    return Err(self.sending_failed(writer, error));
                }
                self.wake(&queue);
            }
            let is_own = !queue.is_written(end);
            self.unlock_noted(queue);
            let written = if is_own {
                self.write_batch(&mut writer, deadline)
            } else {
                // Other threads' frames get a bound of their own.
                self.write_batch(&mut writer, &self.core.send_deadline())
            };
            if let Err(error) = written {
                let error = self.sending_failed(writer, error);
                return if lock(&self.queue).is_written(end) { Ok(()) } else { Err(error) };
            }
            batches += 1;
            queue = lock(&self.queue);
            self.note_written(&mut queue, &writer);
        }
    }

    /// Writes the whole batch.
    pub fn write_batch(&self, writer: &mut WriteHalf, deadline: &Deadline) -> Result<()> {
        self.write_all(&mut writer.wire, &writer.batch, &mut writer.written, deadline)
    }

    /// Writes all behind the first `written` of `bytes`, and counts.
    pub fn write_all(
        &self,
        wire: &mut WriteState,
        bytes: &[u8],
        written: &mut usize,
        deadline: &Deadline,
    ) -> Result<()> {
        // The bound is over standing still: the time of earlier writes, such as other chunks of the message, does not count.
        let mut deadline = *deadline;
        deadline.progress();
        self.pump(wire, bytes, written, Pace::By(&mut deadline)).map(drop)
    }

    /// Writes what is queued as far as the system takes it now. Never waits. An error is returned by the next send.
    pub fn try_flush(&self) {
        let mut queue = lock(&self.queue);
        let writer = if queue.needs_writer() { queue.take_writer(WriterSlot::Flushing) } else { None };
        let Some(mut writer) = writer else { return self.unlock_noted(queue) };
        for batch in 1.. {
            // What is left of the last batch is written first. Only then the queue is fetched: it must stay full while the
            // peer takes nothing.
            let fetched = if writer.is_idle() { queue.fetch(&mut writer, self.core.sent()) } else { Ok(()) };
            drop(queue);
            let written =
                fetched.and_then(|()| self.pump(&mut writer.wire, &writer.batch, &mut writer.written, Pace::Now));
            queue = lock(&self.queue);
            self.note_written(&mut queue, &writer);
            match written {
                Ok(true) if batch < MAX_FLUSH_BATCHES && !queue.is_empty() => continue,
                Ok(_) => queue.return_writer(writer),
                Err(error) => queue.break_writer(&writer, &error),
            }
            self.wake(&queue);
            return self.unlock_noted(queue);
        }
    }

    /// Writes what is queued as far as the system takes it now, and starts the flush thread for what is left. Never waits.
    #[inline(never)]
    pub fn flush_what_fits(self: &Arc<Self>) {
        let queue = lock(&self.queue);
        let is_needed = queue.needs_writer();
        self.unlock_noted(queue);
        if is_needed {
            self.flush_now();
        }
    }

    #[cold]
    fn flush_now(self: &Arc<Self>) {
        self.try_flush();
        let mut queue = lock(&self.queue);
        if !queue.is_left_behind() || queue.has_flush_thread {
            return;
        }
        queue.has_flush_thread = true;
        drop(queue);
        let half = Arc::clone(self);
        if let Err(error) = spawn("wsync flush", move || half.write_left_behind()) {
            lock(&self.queue).has_flush_thread = false;
            // A receiving thread tries again every 20 ms.
            log::warn!("the system gives no thread to write what is left: {error}");
        }
    }

    /// The flush thread: writes what was left behind, and ends when nothing is.
    fn write_left_behind(&self) {
        loop {
            let mut queue = lock(&self.queue);
            let writer = if queue.is_left_behind() { queue.take_writer(WriterSlot::Writing) } else { None };
            let Some(writer) = writer else {
                queue.has_flush_thread = false;
                return;
            };
            // None of it is this thread's own: the next send returns the error.
            let _ = self.write_on(queue, writer, 0, &self.core.send_deadline());
        }
    }

    /// Writes all that is queued, or waits until it is written, by the deadline.
    pub fn flush(&self, deadline: &Deadline) -> Result<()> {
        let end = lock(&self.queue).end();
        self.wait_until_written(end, deadline)?;
        // Pongs, and output of TLS itself: they have no position.
        self.try_flush();
        Ok(())
    }

    /// Waits until the system has taken everything up to a position.
    pub fn wait_until_written(&self, end: u64, deadline: &Deadline) -> Result<()> {
        let mut bound = StallBound::new(deadline, &self.core);
        let mut queue = lock(&self.queue);
        while !queue.is_written(end) {
            if let Some(failure) = queue.failure() {
                return Err(failure.clone());
            }
            if let Some(EndResult::Failed(error)) = self.core.outcome.end() {
                return Err(error.clone());
            }
            if queue.is_left_behind() {
                self.write_queued(queue, end, &bound.deadline)?;
                queue = lock(&self.queue);
                continue;
            }
            queue = self.wait(queue, bound.left(&self.core)?);
        }
        Ok(())
    }

    /// Whether frames are queued or being written, and sending has not failed.
    pub fn is_writing_on(&self) -> bool {
        lock(&self.queue).has_unwritten_frames()
    }

    /// Waits while other threads write what is queued, at most until the deadline.
    pub fn wait_while_writing_on(&self, deadline: &Deadline) {
        let mut queue = lock(&self.queue);
        while queue.has_unwritten_frames() && !deadline.is_over() {
            queue = self.wait(queue, deadline.left());
        }
    }

    /// Decides after an error whether the frames up to `end` were written: `Ok` if the system has taken them all, `error` if
    /// it has not and never will. If another thread holds the write half, only that thread knows: then `abort` ends the
    /// connection, so that the thread returns the write half, and this call waits for it.
    pub fn withdraw(&self, end: u64, error: Error, abort: impl FnOnce()) -> Result<()> {
        let mut abort = Some(abort);
        let mut queue = lock(&self.queue);
        loop {
            if queue.is_written(end) {
                return Ok(());
            }
            if queue.failure().is_some() {
                return Err(error);
            }
            if let Some(writer) = queue.take_writer(WriterSlot::Writing) {
                queue.break_writer(&writer, &error);
                self.wake(&queue);
                continue;
            }
            match abort.take() {
                Some(abort) => {
                    drop(queue);
                    abort();
                    queue = lock(&self.queue);
                }
                None => queue = self.wait(queue, None),
            }
        }
    }

    /// Whether the system has taken all of our close frame. If another thread is writing it, waits until that thread has
    /// noted the result, at most `CLOSE_NOTE_WAIT`.
    pub fn wait_for_close_out(&self, callers: &Deadline) -> bool {
        let most =
            callers.left().map_or(CLOSE_NOTE_WAIT, |left| left.clamp(CLOSE_NOTE_WAIT_OF_A_POLL, CLOSE_NOTE_WAIT));
        let deadline = Deadline::after("", Some(most));
        let mut queue = lock(&self.queue);
        while queue.is_writing_close() && !deadline.is_over() {
            queue = self.wait(queue, deadline.left());
        }
        queue.is_close_written()
    }

    /// Writes all that is queued by the deadline, our close frame last, and ends the writing direction of the transport; both
    /// directions if that fails.
    pub fn finish_writing(&self, deadline: &Deadline) {
        match self.flush(deadline) {
            Ok(()) => self.shutdown_write(deadline.left()),
            Err(_) => self.core.transport.shutdown(),
        }
    }

    /// As `finish_writing`, but waits only if the caller may wait until the deadline. Otherwise the "wsync close" thread
    /// writes: the frame has until `deadline`, also where the caller's bound is shorter.
    pub fn finish_writing_within(self: &Arc<Self>, deadline: Deadline, callers: &Deadline) {
        self.try_flush();
        let is_written = {
            let queue = lock(&self.queue);
            queue.is_written(queue.end())
        };
        if is_written {
            return self.shutdown_write(deadline.or_earlier(Some(*callers)).left());
        }
        let caller_may_wait = callers.left().is_none_or(|left| deadline.left().is_some_and(|own| own <= left));
        if caller_may_wait {
            return self.finish_writing(&deadline);
        }
        let half = Arc::clone(self);
        if spawn("wsync close", move || half.finish_writing(&deadline)).is_err() {
            self.core.transport.shutdown();
        }
    }

    /// Ends the writing direction of the transport behind what was written, unless another thread is writing.
    pub fn shutdown_write(&self, wait: Option<Duration>) {
        let Some(mut writer) = lock(&self.queue).take_writer(WriterSlot::Writing) else { return };
        if writer.is_idle() {
            self.core.transport.shutdown_write(&mut writer.wire, wait);
        }
        let mut queue = lock(&self.queue);
        queue.return_writer(writer);
        self.wake(&queue);
    }

    /// Writes bytes until the system has taken all, or, with `Pace::Now`, until no more fit. Returns whether it took all.
    fn pump(&self, wire: &mut WriteState, bytes: &[u8], written: &mut usize, mut pace: Pace<'_>) -> Result<bool> {
        let slice = self.core.write_slice();
        loop {
            let before = wire.sent();
            let wait = match &pace {
                Pace::Now => Duration::ZERO,
                Pace::By(deadline) => deadline.left_at_most(slice),
            };
            let result = self.write_once(wire, bytes, written, wait);
            let has_moved = wire.sent() > before;
            if has_moved {
                self.core.set_sent(wire.sent());
            }
            match result {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match pace {
                    Pace::Now => return Ok(false),
                    Pace::By(_) if has_moved => {}
                    Pace::By(_) => sleep(SPURIOUS_WOULDBLOCK_BACKOFF),
                },
                Err(error) => return Err(self.write_error(error)),
            }
            if let Pace::By(deadline) = &mut pace {
                if has_moved {
                    deadline.progress();
                }
                deadline.check("the peer does not take what is sent")?;
            }
        }
    }

    /// One write, waiting at most `wait`. Returns whether the system has taken all.
    fn write_once(&self, wire: &mut WriteState, bytes: &[u8], written: &mut usize, wait: Duration) -> io::Result<bool> {
        if *written < bytes.len() {
            *written += self.core.transport.write(wire, &bytes[*written..], Some(wait))?;
            if *written < bytes.len() || !wire.is_empty() {
                return Ok(false);
            }
        }
        self.core.transport.flush(wire, Some(wait))?;
        Ok(true)
    }

    fn write_error(&self, error: io::Error) -> Error {
        match self.core.outcome.end() {
            Some(EndResult::Failed(end)) => Error::new(ErrorKind::Closed, format!("cannot send: {end}")),
            Some(EndResult::Closed) | None => {
                Error::caused(ErrorKind::Io, "the connection was lost while sending", error)
            }
        }
    }

    /// Gives up the write half after an error: part of a frame may be out, so nothing can be sent any more. Wakes all who
    /// wait.
    pub fn sending_failed(&self, writer: Box<WriteHalf>, error: Error) -> Error {
        let mut queue = lock(&self.queue);
        self.note_written(&mut queue, &writer);
        queue.break_writer(&writer, &error);
        self.wake(&queue);
        self.unlock_noted(queue);
        error
    }

    /// Notes how much of the queue the system has taken, and starts the clock of the pings that have left. After each write,
    /// before anything else is done with the queue.
    pub fn note_written(&self, queue: &mut SendQueue, writer: &WriteHalf) {
        queue.note_written(writer);
        while let Some(payload) = queue.next_ping_left() {
            lock(&self.core.keepalive).ping_left(&payload, Instant::now(), self.core.sent());
        }
    }
}
