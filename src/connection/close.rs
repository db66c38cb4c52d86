//! The closing handshake (RFC 6455 §7), from either side, and the ends that are not clean.

use std::time::Duration;

use super::{Connection, EndResult};
use crate::close_code::{CloseCode, ReadyState};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{Role, Violation};

/// How long a close frame may take on its way out where nobody asked for the closing.
const CLOSE_WRITE_LIMIT: Duration = Duration::from_secs(1);

impl Connection {
    /// The whole closing handshake: our close frame, the peer's, the end of TCP, all by one deadline.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<()> {
        self.close_by(code, reason, Deadline::after("close_timeout", self.bounds.close_timeout))
    }

    /// As `close`, by a deadline that began earlier.
    pub fn close_by(&self, code: CloseCode, reason: &str, deadline: Deadline) -> Result<()> {
        if self.end.get().is_some() {
            return Ok(());
        }
        log::debug!("closing with {code}");
        self.queue_close(Some(code), reason);
        let result = match self.flush(&deadline) {
            // A peer that has closed by itself takes nothing any more, but its close frame may be there to read.
            Err(error) if error.kind() == ErrorKind::Timeout => Err(error),
            _ => self.await_peer_close(&deadline),
        };
        if let Err(error) = result {
            let text = format!("the closing handshake failed: {error}");
            self.end_with(EndResult::Failed(Error::new(ErrorKind::Io, text)));
            self.transport.shutdown();
            return Err(error);
        }
        if self.role == Role::Client {
            self.receive_end(&deadline);
        }
        self.shutdown_write(deadline.left());
        self.transport.shutdown();
        Ok(())
    }

    /// The beginning of the closing handshake, without waiting for anything.
    pub fn begin_close(&self, code: CloseCode, reason: &str) {
        self.queue_close(Some(code), reason);
        self.flush_what_fits();
    }

    /// Ends the connection without waiting for anything: a close frame if the peer takes it at once, and every blocked
    /// call is woken.
    pub fn close_now(&self) {
        self.try_send_going_away();
        self.abort();
    }

    /// Waits until the peer's close frame is there: by reading, or while another thread reads.
    fn await_peer_close(&self, deadline: &Deadline) -> Result<()> {
        let awaiting = "waiting for the peer to answer the close";
        loop {
            match self.end.get() {
                Some(EndResult::Clean) => return Ok(()),
                Some(EndResult::Failed(error)) => return Err(error.clone()),
                None => {}
            }
            match self.receive_close(deadline) {
                Err(error) if error.kind() == ErrorKind::Timeout && self.end.get().is_none() => {
                    return Err(deadline.error(awaiting));
                }
                other => other?,
            }
        }
    }

    /// The peer's close frame is there: answers it unless this is the answer to ours, and ends this side.
    pub fn close_received(&self, frame: Option<(CloseCode, String)>, deadline: &Deadline) -> &EndResult {
        let echoed = frame.as_ref().map(|(code, _)| *code);
        let (code, reason) = frame.unwrap_or((CloseCode::NO_STATUS_RECEIVED, String::new()));
        log::debug!("the peer closed with {code}");
        let _ = self.closed.set((code, reason));
        let is_answer = !self.queue_close(echoed, "");
        if !is_answer {
            self.send_final_close(deadline);
        }
        self.end_with(EndResult::Clean)
    }

    /// The peer broke the protocol: it is told by which code (RFC 6455 §7.1.7), and reading stops.
    pub fn violated(&self, violation: Violation, deadline: &Deadline) -> &EndResult {
        log::warn!("the peer broke the protocol: {violation}");
        let code = violation.close_code();
        self.queue_close(Some(code), "");
        self.send_final_close(deadline);
        self.end_with(EndResult::Failed(violation.into()))
    }

    /// Writes a close frame out, and ends this side behind it; no longer than the receiving call may take.
    fn send_final_close(&self, deadline: &Deadline) {
        let bounds = [self.bounds.close_timeout, deadline.left()];
        let length = bounds.into_iter().flatten().fold(CLOSE_WRITE_LIMIT, Duration::min);
        let deadline = Deadline::after("close_timeout", Some(length));
        match self.flush(&deadline) {
            Ok(()) => self.shutdown_write(deadline.left()),
            Err(_) => self.transport.shutdown(),
        }
    }

    fn try_send_going_away(&self) {
        if self.ready_state() == ReadyState::Closed {
            return;
        }
        self.queue_close(Some(CloseCode::GOING_AWAY), "");
        self.flush_what_fits();
        self.shutdown_write(Some(Duration::ZERO));
    }
}

impl Drop for Connection {
    /// The last handle is gone: says so if the peer takes it at once, and lets go.
    fn drop(&mut self) {
        self.try_send_going_away();
    }
}
