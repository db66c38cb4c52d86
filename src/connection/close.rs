//! The closing handshake (RFC 6455 §7) as the program asks for it, and the ends that are not clean. What the peer begins is
//! answered where it is received (`receive.rs`).

use std::time::Duration;

use super::Connection;
use super::outcome::{EndResult, Outcome};
use super::send_queue::CloseQueued;
use crate::close_code::{CloseCode, ReadyState};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::memory_limit::Evict;
use crate::protocol::Role;

/// How often `try_finish_close` reads at most: a read may stop early at a peer that floods it with tiny frames before its close
/// frame.
const MAX_READS_PER_TRY: usize = 16;

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
        let closed = match self.begin_close(code, reason, deadline) {
            // The peer takes nothing: there is no close frame to wait for.
            CloseQueued::Failed(error) if error.kind() == ErrorKind::Timeout => Err(error),
            // The peer may have closed by itself, and its close frame may be there to read.
            CloseQueued::Now | CloseQueued::Before | CloseQueued::Failed(_) => self.await_peer_close(&deadline),
        };
        closed.or_else(|error| self.give_up_close(error))?;
        self.end_transport(&deadline);
        self.receive.check_discarded()
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

    /// Continues what `begin_close` has begun, without waiting. `None`: it is not done, and there is time left.
    pub fn try_finish_close(&self, deadline: &Deadline) -> Option<Result<()>> {
        // Before the attempt: one is made after the deadline.
        let is_over = deadline.is_over();
        let closed = match self.try_await_peer_close() {
            None if !is_over => return None,
            None => Err(not_answered(deadline)),
            Some(closed) => closed,
        };
        let closed = closed.or_else(|error| self.give_up_close(error));
        if closed.is_ok() {
            self.send().flush_what_fits();
            if !is_over && self.send().is_writing_on() {
                // The peer has closed by itself, before it has taken all that was sent to it.
                return None;
            }
            self.end_transport(&Deadline::now("timeout"));
        }
        Some(closed)
    }

    /// Waits until `try_finish_close` can go on, at most until the deadline.
    pub fn wait_to_finish_close(&self, deadline: &Deadline) {
        if self.await_peer_close(deadline).is_ok() {
            self.send().wait_while_writing_on(deadline);
        }
    }

    /// As `await_peer_close`, without waiting. `None`: the connection has not ended.
    fn try_await_peer_close(&self) -> Option<Result<()>> {
        let now = Deadline::now("timeout");
        (0..MAX_READS_PER_TRY).find_map(|_| match self.await_peer_close(&now) {
            Err(error) if error.kind() == ErrorKind::Timeout => None,
            closed => Some(closed),
        })
    }

    /// Ends TCP, after the peer's close frame: when all is written, and a client when the server has ended its side, but by the
    /// deadline.
    fn end_transport(&self, deadline: &Deadline) {
        // What was queued before the close frame. An error does not matter: the peer has closed and may take nothing more.
        let _ = self.send().flush(deadline);
        if self.core().role == Role::Client {
            self.receive.receive_end(deadline);
        }
        self.send().shutdown_write(deadline.left());
        self.core().transport.shutdown();
    }

    /// The closing handshake did not come to its end: drops the connection, unless it has ended. `Ok` if the peer's close frame
    /// has come meanwhile. Whether it has is decided in the same step, so that the results of all calls agree.
    fn give_up_close(&self, error: Error) -> Result<()> {
        match self.receive.close_failed(&error) {
            EndResult::Closed => Ok(()),
            EndResult::Failed(_) => Err(error),
        }
    }

    /// Waits for the peer's close frame, by reading or while another thread reads. An error of kind `Timeout` says that the
    /// connection has not ended.
    fn await_peer_close(&self, deadline: &Deadline) -> Result<()> {
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
                    return end().unwrap_or_else(|| Err(not_answered(deadline)));
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

    /// Ends the connection without waiting for anything, and gives back what it holds of its server's memory.
    pub fn evict(&self, code: CloseCode) {
        self.receive.evict(code);
    }

    /// From now on this connection, if it has a share of its server's memory, is evicted so.
    pub fn evict_by(&self, evict: Evict) {
        if let Some(memory) = &self.core().memory {
            memory.end_by(evict);
        }
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

fn not_answered(deadline: &Deadline) -> Error {
    deadline.error("waiting for the peer to answer the close")
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
    use crate::connection::outcome::CloseInfo;
    use crate::connection::{ConnectionConfig, HandshakeEnd};
    use crate::sync::{Instant, lock};
    use crate::transport::{Stream, Transport, WriteState};

    fn connection(stream: Stream, role: Role, config: ConnectionConfig) -> Connection {
        let handshake = HandshakeEnd::of(Transport::plain(stream).unwrap());
        Connection::new(handshake, role, None, &Compression::off(), config)
    }

    /// The peer takes half of our close frame, and ends its side: the thread that writes the rest does not come back.
    #[test]
    fn a_poll_does_not_wait_for_the_thread_that_writes_our_close_frame() {
        let (ours, theirs) = Stream::pair_with_capacity(2);
        let theirs = Transport::plain(theirs).unwrap();
        let connection = connection(ours, Role::Server, ConnectionConfig::default());
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

    /// More has come than is kept. Another thread may have the read half when `close` looks for that.
    #[test]
    fn close_tells_of_discarded_messages_whoever_holds_the_read_half() {
        let (ours, theirs) = Stream::pair_with_capacity(4 << 20);
        let config = ConnectionConfig { max_message_size: 1 << 20, ..ConnectionConfig::default() };
        let (ours, theirs) = (connection(ours, Role::Client, config.clone()), connection(theirs, Role::Server, config));
        for _ in 0..3 {
            theirs.send_message(&(&[7; 600_000]).into()).unwrap();
        }
        theirs.begin_close_within(CloseCode::NORMAL, "");
        ours.receive.receive_close(&Deadline::NEVER).unwrap();
        let kept = ours.receive_parts(&Deadline::NEVER).unwrap();
        let error = ours.receive.check_discarded().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        assert!(error.to_string().contains("2 messages"), "{error}");
        assert!(kept.is_some(), "it holds the read half");
    }

    /// The peer has closed, and another thread is answering when the time of this call is over.
    #[test]
    fn a_close_that_gives_up_while_the_peers_is_answered_tells_of_a_close() {
        let (ours, _theirs) = Stream::pair();
        let ours = connection(ours, Role::Server, ConnectionConfig::default());
        let info = CloseInfo { code: CloseCode::NORMAL, reason: "bye".to_string() };
        ours.core().outcome.peer_closed(info);
        assert_eq!(ours.ready_state(), ReadyState::Closing);
        ours.close_by(CloseCode::GOING_AWAY, "", Deadline::now("close_timeout")).unwrap();
        assert_eq!((ours.ready_state(), ours.close_reason()), (ReadyState::Closed, Some("bye")));
    }

    /// The peer closes by itself, before it has taken what was sent to it.
    #[test]
    fn what_is_queued_is_written_before_tcp_ends() {
        let (ours, theirs) = Stream::pair_with_capacity(10);
        let ours = connection(ours, Role::Server, ConnectionConfig::default());
        let theirs = connection(theirs, Role::Client, ConnectionConfig::default());
        ours.try_send(&"longer than the buffer".into()).unwrap();
        theirs.begin_close_within(CloseCode::NORMAL, "");
        let deadline = Deadline::after("timeout", Some(Duration::from_secs(30)));
        ours.begin_close(CloseCode::NORMAL, "", deadline);
        assert!(ours.try_finish_close(&deadline).is_none(), "the message is not out");
        let turn = || Deadline::after("timeout", Some(Duration::from_millis(1)));
        ours.wait_to_finish_close(&turn());
        assert!(ours.try_finish_close(&deadline).is_none());
        let peer = std::thread::spawn(move || {
            let message = theirs.receive(&Deadline::NEVER).unwrap();
            (message, theirs.receive(&Deadline::NEVER).unwrap(), theirs.close_code())
        });
        while ours.try_finish_close(&deadline).is_none() {
            ours.wait_to_finish_close(&deadline);
        }
        let received = (Some("longer than the buffer".into()), None, Some(CloseCode::NORMAL));
        assert_eq!(peer.join().unwrap(), received);
    }
}
