//! The closing handshake (RFC 6455 §7) as the program asks for it, and the ends that are not clean. What the peer begins is
//! answered where it is received (`receive.rs`).

use std::time::Duration;

use super::Connection;
use super::outcome::{EndResult, Outcome};
use super::send_queue::CloseQueued;
use crate::close_code::{CloseCode, ReadyState};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Role;

impl Connection {
    /// The whole closing handshake: our close frame, the peer's, the end of TCP, all within `close_timeout`.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<()> {
        self.close_by(code, reason, self.core().new_close_deadline())
    }

    /// As `close`, by a deadline that began earlier.
    pub fn close_by(&self, code: CloseCode, reason: &str, deadline: Deadline) -> Result<()> {
        if self.core().outcome.end().is_some() {
            return Ok(());
        }
        self.receive.check_not_own_message()?;
        let result = match self.begin_close(code, reason, deadline) {
            // The peer takes nothing: there is no close frame to wait for.
            CloseQueued::Failed(error) if error.kind() == ErrorKind::Timeout => Err(error),
            // The peer may have closed by itself, and its close frame may be there to read.
            CloseQueued::Now | CloseQueued::Before | CloseQueued::Failed(_) => self.finish_close(&deadline),
        };
        match (result, self.core().outcome.end()) {
            // Perhaps another thread has brought it to its end while this one gave up.
            (Ok(()), _) | (Err(_), Some(EndResult::Closed)) => self.receive.check_discarded(),
            (Err(error), Some(EndResult::Failed(_))) => Err(error),
            (Err(error), None) => {
                self.close_failed(&error);
                Err(error)
            }
        }
    }

    /// The beginning of the closing handshake, without waiting for anything. It ends by `deadline`.
    pub fn begin_close(&self, code: CloseCode, reason: &str, deadline: Deadline) -> CloseQueued {
        log::debug!("closing with {code}");
        let queued = self.send().queue_close(Some(code), reason, deadline);
        self.send().flush_what_fits();
        queued
    }

    /// The same, within `close_timeout`.
    pub fn begin_close_within(&self, code: CloseCode, reason: &str) {
        self.begin_close(code, reason, self.core().new_close_deadline());
    }

    /// The rest of the closing handshake: waits for the peer's close frame, by reading or while another thread reads, and ends
    /// TCP. After an error of kind `Timeout` it can be called again.
    pub fn finish_close(&self, deadline: &Deadline) -> Result<()> {
        self.await_peer_close(deadline)?;
        // What was queued before the close frame. An error does not matter: the peer has closed and may take nothing more.
        let _ = self.send().flush(deadline);
        if self.core().role == Role::Client {
            self.receive.receive_end(deadline);
        }
        self.send().shutdown_write(deadline.left());
        self.core().transport.shutdown();
        Ok(())
    }

    /// The closing handshake did not come to its end in time: the connection is dropped.
    pub fn close_failed(&self, error: &Error) {
        self.receive.close_failed(error);
    }

    /// Waits for the peer's close frame, by reading or while another thread reads. An error of kind `Timeout` says that the
    /// connection has not ended.
    pub fn await_peer_close(&self, deadline: &Deadline) -> Result<()> {
        let end = || match self.core().outcome.get() {
            Outcome::Ended(EndResult::Closed) => Some(Ok(())),
            Outcome::Ended(EndResult::Failed(error)) => Some(Err(error.clone())),
            Outcome::Open | Outcome::PeerClosed => None,
        };
        loop {
            if let Some(end) = end() {
                return end;
            }
            match self.receive.receive_close(deadline) {
                Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::WouldBlock) => {
                    // That this call has read nothing says nothing of an end: another thread may have read it.
                    let nothing_yet = || Err(deadline.error("waiting for the peer to answer the close"));
                    return end().unwrap_or_else(nothing_yet);
                }
                other => other?,
            }
        }
    }

    /// Ends the connection now, from any thread, and wakes every other one.
    pub fn abort(&self) {
        let error = Error::new(ErrorKind::Closed, "the connection was aborted by this side");
        self.receive.end_with(EndResult::Failed(error));
        self.core().transport.shutdown();
    }

    /// Ends the connection without waiting for anything: a close frame if the peer takes it at once, and every blocked
    /// call is woken.
    pub fn close_now(&self) {
        self.try_send_going_away();
        self.abort();
    }

    fn try_send_going_away(&self) {
        if self.ready_state() == ReadyState::Closed {
            return;
        }
        let deadline = self.core().new_close_deadline();
        self.send().queue_close(Some(CloseCode::GOING_AWAY), "", deadline);
        self.send().try_flush();
        self.send().shutdown_write(Some(Duration::ZERO));
    }
}

impl Drop for Connection {
    /// The last handle is dropped: sends a close frame if the peer takes it at once, and shuts the transport down. That ends a
    /// flush thread, too.
    fn drop(&mut self) {
        self.try_send_going_away();
        self.core().transport.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Compression;
    use crate::connection::ConnectionConfig;
    use crate::sync::{Instant, lock};
    use crate::transport::{ReadState, Stream, Transport, WriteState};

    /// The peer takes half of our close frame, and ends its side: the thread that writes the rest does not come back.
    #[test]
    fn a_poll_does_not_wait_for_the_thread_that_writes_our_close_frame() {
        let (ours, theirs) = Stream::pair_with_capacity(2);
        let (ours, theirs) = (Transport::plain(ours).unwrap(), Transport::plain(theirs).unwrap());
        let (reading, writing) = (ReadState::default(), WriteState::default());
        let config = ConnectionConfig::default();
        let connection = Connection::new(ours, reading, writing, Role::Server, None, &Compression::off(), config);
        connection.begin_close_within(CloseCode::NORMAL, "");
        while !lock(&connection.send().queue).is_writing_close() {
            std::thread::yield_now();
        }
        theirs.shutdown_write(&mut WriteState::default(), None);
        let start = Instant::now();
        let end = connection.receive(&Deadline::now("try_recv"));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Io, "the close frame is not out");
    }
}
