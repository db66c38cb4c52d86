//! Two connected streams in memory that behave as a connected pair of sockets does.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait};

/// One end of the pair. Dropping it is closing it.
pub(crate) struct MemoryStream {
    incoming: Arc<Direction>,
    outgoing: Arc<Direction>,
}

/// The bytes on their way from one end to the other.
struct Direction {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Nothing more is written: the reader gets what is there, then the end.
    is_write_shut: bool,
    /// Nothing more is read: what is written fails.
    is_read_shut: bool,
}

impl MemoryStream {
    /// Two ends, with at most `capacity` bytes on their way in each direction (at least one).
    pub fn pair(capacity: usize) -> (MemoryStream, MemoryStream) {
        let direction = || {
            Arc::new(Direction {
                state: Mutex::new(State::default()),
                changed: Condvar::new(),
                capacity: capacity.max(1),
            })
        };
        let (one_way, other_way) = (direction(), direction());
        let one = MemoryStream { incoming: Arc::clone(&one_way), outgoing: Arc::clone(&other_way) };
        (one, MemoryStream { incoming: other_way, outgoing: one_way })
    }

    /// Reads what is there, at least one byte. `Ok(0)` is the end, the kind `WouldBlock` the end of the wait.
    pub fn read(&self, into: &mut [u8], wait: Option<Duration>) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let deadline = Deadline::after("read", wait);
        let mut state = lock(&self.incoming.state);
        loop {
            if !state.bytes.is_empty() {
                let count = state.bytes.read(into)?;
                self.incoming.changed.notify_all();
                return Ok(count);
            }
            if state.is_write_shut || state.is_read_shut {
                return Ok(0);
            }
            state = self.incoming.wait(state, &deadline)?;
        }
    }

    /// Writes all of `bytes`, or as much as there was room for until the wait ended, and returns how much it was. The kinds
    /// `WouldBlock` and `BrokenPipe` say that it was nothing.
    pub fn write(&self, bytes: &[u8], wait: Option<Duration>) -> io::Result<usize> {
        let deadline = Deadline::after("write", wait);
        let mut written = 0;
        let mut state = lock(&self.outgoing.state);
        loop {
            if state.is_write_shut || state.is_read_shut {
                return if written > 0 { Ok(written) } else { Err(io::ErrorKind::BrokenPipe.into()) };
            }
            let count = (self.outgoing.capacity - state.bytes.len()).min(bytes.len() - written);
            if count > 0 {
                state.bytes.extend(&bytes[written..written + count]);
                written += count;
                self.outgoing.changed.notify_all();
            }
            if written == bytes.len() {
                return Ok(written);
            }
            state = match self.outgoing.wait(state, &deadline) {
                Err(_) if written > 0 => return Ok(written),
                waited => waited?,
            };
        }
    }

    pub(super) fn shutdown_handle(&self) -> MemoryShutdown {
        MemoryShutdown { incoming: Arc::clone(&self.incoming), outgoing: Arc::clone(&self.outgoing) }
    }

    /// Ends one direction or both; calls that are blocked return.
    pub fn shutdown(&self, how: Shutdown) {
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.outgoing.change(|state| state.is_write_shut = true);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.incoming.change(|state| state.is_read_shut = true);
        }
    }
}

/// Ends a stream from another thread.
pub(super) struct MemoryShutdown {
    incoming: Arc<Direction>,
    outgoing: Arc<Direction>,
}

impl MemoryShutdown {
    pub fn shutdown(&self) {
        self.outgoing.change(|state| state.is_write_shut = true);
        self.incoming.change(|state| state.is_read_shut = true);
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Both);
        self.incoming.change(|state| state.bytes = VecDeque::new());
    }
}

impl Direction {
    fn wait<'a>(&self, state: MutexGuard<'a, State>, deadline: &Deadline) -> io::Result<MutexGuard<'a, State>> {
        match deadline.left() {
            Some(Duration::ZERO) => Err(io::ErrorKind::WouldBlock.into()),
            left => Ok(wait(&self.changed, state, left)),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn kind<T>(result: io::Result<T>) -> Result<T, io::ErrorKind> {
        result.map_err(|error| error.kind())
    }

    fn read(end: &MemoryStream) -> Result<Vec<u8>, io::ErrorKind> {
        let mut buffer = [0; 100];
        kind(end.read(&mut buffer, NOW)).map(|count| buffer[..count].to_vec())
    }

    #[test]
    fn bytes_pass_both_ways_up_to_the_capacity() {
        let (one, other) = MemoryStream::pair(4);
        assert_eq!(read(&other), Err(io::ErrorKind::WouldBlock));
        assert_eq!(kind(one.write(b"abcdef", NOW)), Ok(4), "as much as fits");
        assert_eq!(kind(one.write(b"ef", NOW)), Err(io::ErrorKind::WouldBlock));
        assert_eq!(kind(other.write(b"xy", NOW)), Ok(2));
        let mut two = [0; 2];
        assert_eq!(kind(other.read(&mut two, NOW)), Ok(2));
        assert_eq!(kind(one.write(b"ef", NOW)), Ok(2));
        let mut rest = Vec::new();
        // In one piece or two: the buffer is a ring.
        while let Ok(bytes) = read(&other) {
            rest.extend(bytes);
        }
        assert_eq!((read(&one), rest), (Ok(b"xy".into()), b"cdef".to_vec()));
        assert_eq!((kind(one.read(&mut [], None)), kind(one.write(b"", None))), (Ok(0), Ok(0)));
    }

    #[test]
    fn an_end_of_writing_comes_behind_the_bytes() {
        let (one, other) = MemoryStream::pair(8);
        one.write(b"last", NOW).unwrap();
        one.shutdown(Shutdown::Write);
        assert_eq!(kind(one.write(b"more", NOW)), Err(io::ErrorKind::BrokenPipe));
        assert_eq!((read(&other), read(&other)), (Ok(b"last".into()), Ok(Vec::new())));
        other.write(b"answer", NOW).unwrap();
        assert_eq!(read(&one), Ok(b"answer".into()));
        assert_eq!(read(&one), Err(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn after_a_shutdown_of_both_directions_reads_end_and_writes_fail_at_both_ends() {
        let (one, other) = MemoryStream::pair(8);
        one.write(b"to other", NOW).unwrap();
        other.write(b"to one", NOW).unwrap();
        one.shutdown(Shutdown::Both);
        assert_eq!((read(&one), read(&one)), (Ok(b"to one".into()), Ok(Vec::new())));
        assert_eq!((read(&other), read(&other)), (Ok(b"to other".into()), Ok(Vec::new())));
        for end in [&one, &other] {
            assert_eq!(kind(end.write(b"more", None)), Err(io::ErrorKind::BrokenPipe));
        }
    }

    #[test]
    fn dropping_an_end_closes_it() {
        let (one, other) = MemoryStream::pair(8);
        one.write(b"last", NOW).unwrap();
        drop(one);
        assert_eq!((read(&other), read(&other)), (Ok(b"last".into()), Ok(Vec::new())));
        assert_eq!(kind(other.write(b"more", NOW)), Err(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn waits_last_as_long_as_asked_for() {
        let (one, _other) = MemoryStream::pair(2);
        let wait = Duration::from_millis(20);
        let start = Instant::now();
        assert_eq!(kind(one.read(&mut [0], Some(wait))), Err(io::ErrorKind::WouldBlock));
        assert!(start.elapsed() >= wait);
        let start = Instant::now();
        assert_eq!(kind(one.write(b"abc", Some(wait))), Ok(2), "part of it, when the wait is over");
        assert!(start.elapsed() >= wait);
        assert_eq!(kind(one.write(b"c", Some(wait))), Err(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn a_shutdown_of_either_end_wakes_blocked_calls_of_both() {
        for is_dropped in [false, true] {
            let (one, other) = MemoryStream::pair(1);
            let one = Arc::new(one);
            one.write(b"a", None).unwrap();
            let (sender, results) = channel();
            for is_reading in [false, true] {
                let (one, sender) = (Arc::clone(&one), sender.clone());
                thread::spawn(move || {
                    let result = if is_reading { one.read(&mut [0], None) } else { one.write(b"b", None) };
                    sender.send((is_reading, kind(result))).unwrap();
                });
            }
            match is_dropped {
                false => one.shutdown(Shutdown::Both),
                true => drop(other),
            }
            let mut results = [results.recv().unwrap(), results.recv().unwrap()];
            results.sort_by_key(|(is_reading, _)| *is_reading);
            assert_eq!(results, [(false, Err(io::ErrorKind::BrokenPipe)), (true, Ok(0))]);
        }
    }

    #[test]
    fn a_write_larger_than_the_buffer_passes_while_the_other_end_reads() {
        let (one, other) = MemoryStream::pair(7);
        let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let sent = bytes.clone();
        let writer = thread::spawn(move || one.write(&sent, None).unwrap());
        let mut received = Vec::new();
        let mut buffer = [0; 5];
        loop {
            match other.read(&mut buffer, None).unwrap() {
                0 => break,
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(writer.join().unwrap(), bytes.len());
        assert_eq!(received, bytes);
    }
}
