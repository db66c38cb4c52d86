//! How a connection ends while it is read: the peer's close frame and the answer to it, violations, loss, a peer that does
//! not answer. Each end passes through `end_with_code`, which wakes all who wait.

use std::time::Duration;

use super::{ReadHalf, ReceiveHalf};
use crate::close_code::CloseCode;
use crate::connection::outcome::{CloseInfo, EndResult, Outcome};
use crate::connection::send_queue::CloseQueued;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind};
use crate::memory_limit::Evicted;
use crate::protocol::Violation;
use crate::sync::{Arc, lock};

/// Time limit for writing a close frame that the caller did not ask for.
const CLOSE_WRITE_LIMIT: Duration = Duration::from_secs(1);
impl ReceiveHalf {
    /// The peer's close frame is there: answers it unless this is the answer to ours, and ends this side.
    pub(super) fn close_received(&self, frame: Option<(CloseCode, String)>, deadline: &Deadline) -> EndResult {
        let (code, reason) = frame.map(|(code, reason)| (Some(code), reason)).unwrap_or_default();
        let info = CloseInfo { code: code.unwrap_or(CloseCode::NO_STATUS_RECEIVED), reason: reason.clone() };
        log::debug!("the peer closed with {}", info.code);
        self.send.core.outcome.peer_closed(info);
        self.send_final_close(code, &reason, deadline);
        self.end_with(EndResult::Closed)
    }

    /// The peer broke the protocol: sends it a close frame with the code that says how (RFC 6455 §7.1.7), and ends the
    /// connection.
    pub(super) fn violated(&self, violation: Violation, deadline: &Deadline) -> EndResult {
        if self.send.wait_for_close_out(deadline) {
            log::debug!("the peer ended the connection after the close by breaking the protocol: {violation}");
            return self.end_with(EndResult::Closed);
        }
        log::warn!("the peer broke the protocol: {violation}");
        let code = violation.close_code();
        self.send_final_close(Some(code), "", deadline);
        self.end_with(EndResult::Failed(violation.into()))
    }

    /// The memory of the server is used up, and this connection holds most of it.
    pub(super) fn evicted(&self, reader: &mut ReadHalf, evicted: Evicted, deadline: &Deadline) -> EndResult {
        // At once: others wait for it.
        self.clear(reader);
        self.send_final_close(Some(evicted.0), "", deadline);
        self.end_with(EndResult::Failed(out_of_memory()))
    }

    /// The same, found by another connection: ends this one without waiting, and gives back what it holds.
    pub fn evict(&self, code: CloseCode) {
        self.send.queue_close(Some(code), "", self.send.core.new_close_deadline());
        self.send.try_flush();
        let error = out_of_memory();
        self.end_with(EndResult::Failed(error.clone()));
        self.send.core.transport.shutdown();
        self.clear_idle();
        self.send.clear(&error);
    }

    /// Writes a close frame, if none was queued before, and ends the writing direction behind it. The call takes no longer
    /// than `deadline`; a thread writes on where the frame may take longer (`finish_writing_within`).
    fn send_final_close(&self, code: Option<CloseCode>, reason: &str, deadline: &Deadline) {
        match self.send.queue_close(code, reason, self.send.core.new_close_deadline()) {
            CloseQueued::Before => return,
            CloseQueued::Now | CloseQueued::Failed(_) => {}
        }
        let length =
            self.send.core.config.close_timeout.map_or(CLOSE_WRITE_LIMIT, |bound| bound.min(CLOSE_WRITE_LIMIT));
        self.send.finish_writing_within(Deadline::after("close_timeout", Some(length)), deadline);
    }

    /// The connection ended without a close frame. That is a failure (RFC 6455 §7.1.5), unless our close frame was out.
    pub(super) fn lost(&self, reader: &ReadHalf, how: &str, deadline: &Deadline) {
        if self.send.wait_for_close_out(deadline) {
            self.end_with(EndResult::Closed);
        } else {
            let place = if reader.decoder.is_mid_message() { "inside a message" } else { "between messages" };
            let text = format!("connection lost {place}: {how}");
            self.end_with(EndResult::Failed(Error::new(ErrorKind::Io, text)));
        }
        self.send.core.transport.shutdown();
    }

    pub(super) fn peer_is_dead(&self, timeout: Duration) -> Error {
        let bound = lock(&self.send.core.keepalive).pong_bound();
        let text = format!("no pong came within {timeout:?} ({bound}): the connection was dropped");
        self.send.queue_close(Some(CloseCode::GOING_AWAY), "", self.send.core.new_close_deadline());
        self.send.try_flush();
        let end =
            self.end_with_code(EndResult::Failed(Error::new(ErrorKind::Unresponsive, text)), CloseCode::GOING_AWAY);
        self.send.core.transport.shutdown();
        match end {
            EndResult::Failed(error) => error,
            EndResult::Closed => Error::new(ErrorKind::Closed, "the connection is closed"),
        }
    }

    /// The closing handshake did not come to its end in time. Returns how the connection has ended: perhaps another thread has
    /// brought it to its end meanwhile.
    pub fn close_failed(&self, error: &Error) -> EndResult {
        if let Some(end) = self.send.core.outcome.end() {
            return end.clone();
        }
        let text = format!("the closing handshake failed: {error}");
        let end = self.end_with(EndResult::Failed(Error::new(ErrorKind::Io, text)));
        if let EndResult::Failed(_) = end {
            self.send.core.transport.shutdown();
        }
        end
    }

    /// Writes the end, unless there is one already, and wakes all who wait; returns the one that holds.
    pub fn end_with(&self, end: EndResult) -> EndResult {
        self.end_with_code(end, CloseCode::ABNORMAL_CLOSURE)
    }

    fn end_with_code(&self, end: EndResult, code: CloseCode) -> EndResult {
        if let EndResult::Failed(error) = &end {
            log::debug!("connection ended: {error}");
        }
        let outcome = &self.send.core.outcome;
        outcome.finish(end, code);
        // Passing through the locks makes sure that nobody is between checking the outcome and starting to wait.
        drop(lock(&self.slot));
        self.changed.notify_all();
        self.send.wake_all();
        let watchers = lock(&self.watchers).clone();
        watchers.iter().for_each(|watcher| watcher());
        match outcome.get() {
            Outcome::Ended(end) => end.clone(),
            Outcome::Open | Outcome::PeerClosed => unreachable!("finished above"),
        }
    }

    /// Calls `watcher` when the end is written, perhaps more than once. It must not block.
    pub fn watch_end(&self, watcher: impl Fn() + Send + Sync + 'static) {
        lock(&self.watchers).push(Arc::new(watcher));
    }
}

fn out_of_memory() -> Error {
    let text =
        "the server's connections hold as much as they may, and this one holds most: it was dropped (memory_limit)";
    Error::new(ErrorKind::TooBig, text)
}
