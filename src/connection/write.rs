//! From the queue to the transport.
//!
//! The thread that finds the write half in its place becomes the writer, and looks at the queue again before it lets go: so
//! senders that come during a write are written together, by one system call. What a call that never waits leaves behind is
//! written by a thread of ours, which ends when nothing is left.

use std::io;
use std::time::Duration;

use super::core::Core;
use super::outcome::EndResult;
use super::send_queue::{Need, SendQueue, WriteHalf, WriterSlot};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Condvar, Instant, Mutex, MutexGuard, bound, lock, sleep, spawn, wait};
use crate::transport::WriteState;

/// Back-off after a `WouldBlock` that may have come before the timeout (the shared socket was briefly non-blocking); avoids
/// spinning.
const SPURIOUS_WOULDBLOCK_BACKOFF: Duration = Duration::from_millis(1);
/// How long the receiver waits at most to hear from the thread that writes our close frame that it is out.
const CLOSE_NOTE_WAIT: Duration = Duration::from_secs(1);
/// Batches that one sender writes for others before the next sender takes over.
const MAX_BATCHES_FOR_OTHERS: usize = bound(64, 2);
/// The same for a call that never waits.
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

/// How long writing may wait.
enum Pace<'a> {
    /// Not at all.
    Now,
    /// For each step, until the deadline.
    By(&'a mut Deadline),
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
            return self.wait_in_turn(queue, need, *deadline);
        }
        self.check_sendable(&queue)?;
        Ok(queue)
    }

    fn wait_in_turn<'a>(
        self: &'a Arc<Self>,
        mut queue: MutexGuard<'a, SendQueue>,
        need: Need,
        mut deadline: Deadline,
    ) -> Result<MutexGuard<'a, SendQueue>> {
        let ticket = queue.take_turn(need);
        // The bound is over this wait, not over what the sender did before, such as to compress.
        deadline.progress();
        let mut sent = self.core.sent();
        let result = loop {
            if let Err(error) = self.check_sendable(&queue).and_then(|()| self.check_not_own_message(&queue, need)) {
                break Err(error);
            }
            if queue.is_ready(need, Some(ticket), self.core.sent()) {
                break Ok(());
            }
            if self.core.sent() != sent {
                sent = self.core.sent();
                deadline.progress();
            }
            match deadline.check("waiting for other threads' messages to be sent") {
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

    /// Gives the lock up without writing. Others may have left their frames to this thread, which had a place in the line.
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

    /// Wakes them to look at the outcome. Passing through the lock makes sure that nobody is between its look and its wait.
    pub fn wake_all(&self) {
        drop(lock(&self.queue));
        self.changed.notify_all();
    }

    // Writing.

    /// Writes what is queued, or leaves it to the one who writes. `end`: the position behind the caller's own frames, whose
    /// failure is the caller's.
    #[inline]
    pub fn write_queued<'a>(
        &'a self,
        mut queue: MutexGuard<'a, SendQueue>,
        end: u64,
        deadline: &Deadline,
    ) -> Result<()> {
        // A flush never blocks, so this wait needs no deadline. It may leave behind what does not fit.
        while queue.is_flushing() {
            queue = self.wait(queue, None);
        }
        if let Some(failure) = queue.failure() {
            return if queue.is_written(end) { Ok(()) } else { Err(failure.clone()) };
        }
        // The next in line writes, too. But the queue must not grow while each leaves it to the next.
        if !queue.needs_writer() || (queue.has_turns() && queue.fits(0, self.core.sent())) {
            return Ok(());
        }
        match queue.take_writer(WriterSlot::Writing) {
            Some(writer) => self.write_on(queue, writer, end, deadline),
            None => Ok(()),
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
            drop(queue);
            let written = if is_own {
                self.write_batch(&mut writer, deadline)
            } else {
                // What was queued by others gets a bound of its own.
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
        // What came before, such as the chunks of a large message, may have taken longer than this write may stand still.
        let mut deadline = *deadline;
        deadline.progress();
        self.pump(wire, bytes, written, Pace::By(&mut deadline)).map(drop)
    }

    /// Writes what is queued as far as the system takes it now; says whether it went well. Never waits.
    pub fn try_flush(&self) {
        let mut queue = lock(&self.queue);
        if !queue.needs_writer() {
            return;
        }
        let Some(mut writer) = queue.take_writer(WriterSlot::Flushing) else { return };
        for batch in 1.. {
            // What is left of the last batch goes first, alone: a queue behind a stuck peer must not empty into it.
            let fetched = if writer.is_idle() { queue.fetch(&mut writer, self.core.sent()) } else { Ok(()) };
            drop(queue);
            let written =
                fetched.and_then(|()| self.pump(&mut writer.wire, &writer.batch, &mut writer.written, Pace::Now));
            queue = lock(&self.queue);
            self.note_written(&mut queue, &writer);
            match written {
                // Those who never wait may fill the queue as fast as it empties.
                Ok(true) if batch < MAX_FLUSH_BATCHES && !queue.is_empty() => continue,
                Ok(_) => queue.return_writer(writer),
                Err(error) => queue.break_writer(&writer, &error),
            }
            self.wake(&queue);
            return;
        }
    }

    /// Writes what is queued as far as the system takes it now, and sees to it that the rest is written, too. Never waits.
    pub fn flush_what_fits(self: &Arc<Self>) {
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
            // A receiving thread tries again from time to time.
            log::warn!("no thread is to be had for what is left to write: {error}");
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
            // Nothing of it is this thread's own: a failure is for the next call to tell.
            let _ = self.write_on(queue, writer, 0, &self.core.send_deadline());
        }
    }

    /// Writes all that is queued, or waits until it is written, by the deadline.
    pub fn flush(&self, deadline: &Deadline) -> Result<()> {
        let end = lock(&self.queue).end();
        self.wait_until_written(end, deadline)?;
        // Pongs, and what TLS has to say.
        self.try_flush();
        Ok(())
    }

    /// Waits until the system has taken everything up to a position.
    pub fn wait_until_written(&self, end: u64, deadline: &Deadline) -> Result<()> {
        let mut deadline = *deadline;
        deadline.progress();
        let mut sent = self.core.sent();
        let mut queue = lock(&self.queue);
        while !queue.is_written(end) {
            if let Some(failure) = queue.failure() {
                return Err(failure.clone());
            }
            if let Some(EndResult::Failed(error)) = self.core.outcome.end() {
                return Err(error.clone());
            }
            if queue.is_left_behind() {
                self.write_queued(queue, end, &deadline)?;
                queue = lock(&self.queue);
                continue;
            }
            if self.core.sent() != sent {
                sent = self.core.sent();
                deadline.progress();
            }
            let left = deadline.check("waiting for other threads' messages to be sent")?;
            queue = self.wait(queue, left);
        }
        Ok(())
    }

    /// After an error: sees to it that what ends at a position is not written any more, or finds that it was. Another thread
    /// may be writing it; it alone knows how far it is, and comes back when the connection is aborted.
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

    /// Whether the system has taken all of our close frame. The one who writes it may not have said so yet: that one is
    /// waited for, no longer than one write takes that does not stand still.
    pub fn is_close_out(&self) -> bool {
        let deadline = Deadline::after("", Some(CLOSE_NOTE_WAIT));
        let mut queue = lock(&self.queue);
        while queue.is_writing_close() && !deadline.is_over() {
            queue = self.wait(queue, deadline.left());
        }
        queue.is_close_written()
    }

    /// Writes all that is queued by the deadline, our close frame last, and ends this side of the transport; all of it if
    /// that fails.
    pub fn finish_writing(&self, deadline: &Deadline) {
        match self.flush(deadline) {
            Ok(()) => self.shutdown_write(deadline.left()),
            Err(_) => self.core.transport.shutdown(),
        }
    }

    /// As `finish_writing`, but waits only if the caller may wait until the deadline. If it may not, a thread of ours does:
    /// the caller's bound is none of the write's.
    pub fn finish_writing_within(self: &Arc<Self>, deadline: Deadline, callers: &Deadline) {
        self.try_flush();
        let is_written = {
            let queue = lock(&self.queue);
            queue.is_written(queue.end())
        };
        if is_written {
            return self.shutdown_write(deadline.or_earlier(Some(*callers)).left());
        }
        if callers.left().is_none_or(|left| deadline.left().is_some_and(|own| own <= left)) {
            return self.finish_writing(&deadline);
        }
        let half = Arc::clone(self);
        if spawn("wsync close", move || half.finish_writing(&deadline)).is_err() {
            self.core.transport.shutdown();
        }
    }

    /// Ends this side of the transport behind all that is queued, if nobody is writing.
    pub fn shutdown_write(&self, wait: Option<Duration>) {
        let Some(mut writer) = lock(&self.queue).take_writer(WriterSlot::Writing) else { return };
        if writer.is_idle() {
            self.core.transport.shutdown_write(&mut writer.wire, wait);
        }
        let mut queue = lock(&self.queue);
        queue.return_writer(writer);
        self.wake(&queue);
    }

    /// Hands bytes to the system until all are out, or, where it must not wait, no more fit; says whether all are out.
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

    /// One write, waiting at most `wait`; says whether all is out.
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

    /// Part of a frame may be out: nothing can be sent any more, and all who wait are told.
    pub fn sending_failed(&self, writer: Box<WriteHalf>, error: Error) -> Error {
        let mut queue = lock(&self.queue);
        self.note_written(&mut queue, &writer);
        queue.break_writer(&writer, &error);
        self.wake(&queue);
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
