//! Blocking I/O on one stream by a deadline, for exchanges that precede a [`Transport`](super::Transport).

use std::io;
use std::time::Duration;

use super::stream::Stream;
use super::wait::{Socket, WaitState};
use crate::deadline::Deadline;

/// A stream of which every read and write ends at the deadline, with kind `WouldBlock`: TLS libraries take that for "not
/// now" and keep their state. Signals and waits that end early do not show.
pub(crate) struct DeadlineStream {
    socket: Socket,
    deadline: Deadline,
}

impl DeadlineStream {
    pub fn new(stream: impl Into<Stream>, deadline: Deadline) -> io::Result<DeadlineStream> {
        Ok(DeadlineStream { socket: Socket::new(stream.into())?, deadline })
    }

    /// The stream for other use. Its timeouts are unknown.
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        by_deadline(&self.deadline, |wait| self.socket.read(into, wait, &mut WaitState::default()))
    }

    /// At least one byte of what the next `read` returns.
    pub fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        by_deadline(&self.deadline, |wait| self.socket.peek(into, wait, &mut WaitState::default()))
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        by_deadline(&self.deadline, |wait| self.socket.write(bytes, wait, &mut WaitState::default()))
    }
}

/// Calls `step` with the time that is left, until it returns anything but `WouldBlock`; at the deadline, that.
fn by_deadline<T>(deadline: &Deadline, mut step: impl FnMut(Option<Duration>) -> io::Result<T>) -> io::Result<T> {
    loop {
        // Once the time is over there is no further step, or a peer that always has bytes could go on for ever.
        let left = match deadline.left() {
            Some(Duration::ZERO) => return Err(io::ErrorKind::WouldBlock.into()),
            left => left,
        };
        match step(left) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_ends_early_is_tried_again_and_the_deadline_ends_all() {
        let mut steps = 0;
        let early = |_| {
            steps += 1;
            if steps < 3 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(steps) }
        };
        assert_eq!(by_deadline(&Deadline::NEVER, early).unwrap(), 3);
        let over = Deadline::after("bound", Some(Duration::ZERO));
        let result = by_deadline(&over, |_| -> io::Result<()> { panic!("a step after the deadline") });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn reads_and_writes_end_at_the_deadline() {
        let (ours, theirs) = Stream::pair_with_capacity(4);
        let stream = DeadlineStream::new(ours, Deadline::after("bound", Some(Duration::from_millis(20)))).unwrap();
        assert_eq!(stream.write(b"abcdef").unwrap(), 4, "as much as fits, when the time is over");
        assert_eq!(stream.write(b"ef").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
    }
}
