//! Blocking I/O on one stream by a deadline, for exchanges that precede a [`Transport`](super::Transport).

use std::io::{self, Read, Write};
use std::time::Duration;

use super::stream::Stream;
use super::wait::{Socket, SocketTimeout};
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
        self.by_deadline(|wait| self.socket.read(into, wait, &mut SocketTimeout::Unknown))
    }

    /// At least one byte of what the next `read` returns.
    pub fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        self.by_deadline(|wait| self.socket.peek(into, wait, &mut SocketTimeout::Unknown))
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.by_deadline(|wait| self.socket.write(bytes, wait, &mut SocketTimeout::Unknown))
    }

    fn by_deadline<T>(&self, mut step: impl FnMut(Option<Duration>) -> io::Result<T>) -> io::Result<T> {
        loop {
            // Once the time is over the socket is not tried, or a peer that always has bytes could go on for ever.
            let left = match self.deadline.left() {
                Some(Duration::ZERO) => return Err(io::ErrorKind::WouldBlock.into()),
                left => left,
            };
            match step(left) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

impl Read for DeadlineStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        DeadlineStream::read(self, into)
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        DeadlineStream::write(self, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
