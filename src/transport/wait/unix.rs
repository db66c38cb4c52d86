//! Waiting by timeouts of the socket (`SO_RCVTIMEO`, `SO_SNDTIMEO`): one system call does the read or write and waits.
//!
//! It relies on two properties of the system: a call that has run into its timeout has done nothing, or says how much; and
//! shutting a socket down wakes the calls that are blocked on it.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use super::super::stream::SystemStream;
use crate::sync::{Mutex, lock};

/// Longest wait of one call; some systems refuse timeouts above about 655 s. Callers with a longer bound look at their clock
/// and call again.
const MAX_WAIT: Duration = Duration::from_secs(600);

pub(crate) struct SystemSocket {
    stream: SystemStream,
    /// Held while the stream is non-blocking for one call: that flag is common to both directions.
    nonblocking: Mutex<()>,
}

/// The timeout that one direction of a socket is known to have: setting another one costs a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitState {
    /// The next call sets it.
    #[default]
    Unknown,
    Set(Option<Duration>),
}

impl WaitState {
    fn change(
        &mut self,
        wait: Option<Duration>,
        set: impl FnOnce(Option<Duration>) -> io::Result<()>,
    ) -> io::Result<()> {
        let wait = wait.map(|wait| wait.min(MAX_WAIT));
        if *self == WaitState::Set(wait) {
            return Ok(());
        }
        match set(wait) {
            // macOS refuses every option of a socket of which both directions are shut down; such a socket cannot block.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                *self = WaitState::Unknown;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                *self = WaitState::Set(wait);
                Ok(())
            }
        }
    }
}

impl SystemSocket {
    pub fn new(stream: SystemStream) -> io::Result<SystemSocket> {
        stream.set_nonblocking(false)?;
        Ok(SystemSocket { stream, nonblocking: Mutex::new(()) })
    }

    pub fn stream(&self) -> &SystemStream {
        &self.stream
    }

    pub fn read(&self, into: &mut [u8], wait: Option<Duration>, state: &mut WaitState) -> io::Result<usize> {
        self.bounded(wait, state, SystemStream::set_read_timeout, |stream| stream.read(into))
    }

    pub fn peek(&self, into: &mut [u8], wait: Option<Duration>, state: &mut WaitState) -> io::Result<usize> {
        self.bounded(wait, state, SystemStream::set_read_timeout, |stream| stream.peek(into))
    }

    pub fn write(&self, bytes: &[u8], wait: Option<Duration>, state: &mut WaitState) -> io::Result<usize> {
        self.bounded(wait, state, SystemStream::set_write_timeout, |stream| stream.write(bytes))
    }

    pub fn shutdown_write(&self) {
        // It fails where that direction has ended already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub fn shutdown(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn bounded<T>(
        &self,
        wait: Option<Duration>,
        state: &mut WaitState,
        set_timeout: impl FnOnce(&SystemStream, Option<Duration>) -> io::Result<()>,
        call: impl FnOnce(&SystemStream) -> io::Result<T>,
    ) -> io::Result<T> {
        match wait {
            // std rejects a zero timeout, and the shortest real one sleeps up to a tick of the kernel (4 ms).
            Some(Duration::ZERO) => self.without_waiting(call),
            _ => with_timeout(&self.stream, wait, state, set_timeout, call),
        }
    }

    /// One call that does not wait. A call of the other direction that begins at this moment may return `WouldBlock` before
    /// its timeout: callers check their deadline and try again.
    fn without_waiting<T>(&self, call: impl FnOnce(&SystemStream) -> io::Result<T>) -> io::Result<T> {
        let _guard = lock(&self.nonblocking);
        self.stream.set_nonblocking(true)?;
        let result = call(&self.stream);
        self.stream.set_nonblocking(false)?;
        result
    }
}

/// One call that waits until its timeout, which is set where the stream has another one.
fn with_timeout<S, T>(
    stream: &S,
    wait: Option<Duration>,
    state: &mut WaitState,
    set_timeout: impl FnOnce(&S, Option<Duration>) -> io::Result<()>,
    call: impl FnOnce(&S) -> io::Result<T>,
) -> io::Result<T> {
    state.change(wait, |wait| set_timeout(stream, wait))?;
    call(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    /// What the system was asked to set.
    fn changes(waits: &[Option<Duration>]) -> Vec<Option<Duration>> {
        let mut state = WaitState::default();
        let mut set = Vec::new();
        for wait in waits {
            let set_timeout = |wait| {
                set.push(wait);
                Ok(())
            };
            state.change(*wait, set_timeout).unwrap();
        }
        set
    }

    #[test]
    fn a_timeout_is_set_only_when_it_changes_and_never_too_long() {
        assert_eq!(changes(&[None, None, SECOND, SECOND, None]), [None, SECOND, None]);
        let long = [Some(Duration::MAX), Some(Duration::from_secs(86_400))];
        assert_eq!(changes(&long), [Some(MAX_WAIT)]);
    }

    #[test]
    fn only_tcp_shows_bytes_without_taking_them() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut ours, b"bytes").unwrap();
        let socket = crate::transport::wait::Socket::new(theirs.into()).unwrap();
        let (mut buffer, mut state) = ([0; 100], WaitState::default());
        assert_eq!(socket.peek(&mut buffer, SECOND, &mut state).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(socket.read(&mut buffer, SECOND, &mut state).unwrap(), 5);
    }

    /// A socket as macOS has it once both directions are shut down: it takes no option, and still has bytes.
    struct Shut {
        refusal: io::ErrorKind,
        received: &'static [u8],
    }

    impl Shut {
        fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            Err(self.refusal.into())
        }
    }

    #[test]
    fn what_a_socket_has_received_is_read_although_it_takes_no_timeout_any_more() {
        let shut = Shut { refusal: io::ErrorKind::InvalidInput, received: b"last words" };
        let mut state = WaitState::default();
        // Each call tries to set it again, so that a socket that takes it later waits as long as it is to.
        for (state_before, wait) in [(WaitState::Unknown, SECOND), (WaitState::Set(None), SECOND)] {
            state = state_before;
            let received = with_timeout(&shut, wait, &mut state, Shut::set_read_timeout, |shut| Ok(shut.received));
            assert_eq!(received.unwrap(), b"last words");
            assert_eq!(state, WaitState::Unknown);
        }
        let other = Shut { refusal: io::ErrorKind::NotConnected, ..shut };
        let read = |_: &Shut| -> io::Result<()> { panic!("read without a timeout") };
        let error = with_timeout(&other, SECOND, &mut state, Shut::set_read_timeout, read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }
}
