//! Waiting on Windows: the socket never blocks, and a thread that has to wait polls it together with a second socket, the
//! waker, by which [`SystemSocket::shutdown`] ends the wait.
//!
//! Windows lacks the two properties that `unix.rs` relies on. A call that has run into its timeout leaves the socket
//! "indeterminate" (Microsoft's documentation of `SO_RCVTIMEO` and `SO_SNDTIMEO`), and may have sent bytes that it does not
//! count. And shutting a socket down does not reliably wake the calls that are blocked on it (rust-lang/rust#121594).

use std::io;
use std::net::{Ipv4Addr, Shutdown, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::stream::SystemStream;
use crate::deadline::Deadline;
use crate::sync::{AtomicBool, Ordering};

/// Longest single poll. The reading and the writing thread poll the same socket at once, and Windows is known to lose events
/// of concurrent polls of one socket (piscisaureus/wepoll#35, python-trio/trio#52; Wine lost one, too). So every event is
/// noticed after this time at the latest, and the flag of a shutdown even without a waker.
const MAX_POLL: Duration = Duration::from_millis(50);
/// Shortest poll: WSAPoll counts whole milliseconds, and zero would not wait.
const MIN_POLL: Duration = Duration::from_millis(1);
/// How much one write gives to the system. A socket that does not block, and has room for one byte, may take a write of any
/// size into memory of the kernel: what the peer does not read would count as sent.
const MAX_WRITE: usize = 64 * 1024;
/// `WSAESHUTDOWN`: that direction of the socket is shut down. The standard library has no kind for it.
const SHUT_DOWN: i32 = 10058;

pub(crate) struct SystemSocket {
    stream: SystemStream,
    /// Both directions are shut down.
    is_shut: AtomicBool,
    waker: Option<Waker>,
}

/// Windows has nothing to remember between calls.
#[derive(Default)]
pub(crate) struct WaitState {}

impl SystemSocket {
    pub fn new(stream: SystemStream) -> io::Result<SystemSocket> {
        stream.set_nonblocking(true)?;
        // There are fewer UDP ports than there may be connections. Without one, a shutdown is noticed by the flag.
        let waker = Waker::new().inspect_err(|error| log::debug!("no socket to wake blocked calls by: {error}")).ok();
        Ok(SystemSocket { stream, is_shut: AtomicBool::new(false), waker })
    }

    pub fn stream(&self) -> &SystemStream {
        &self.stream
    }

    /// After a shutdown: what has come, then the end.
    pub fn read(&self, into: &mut [u8], wait: Option<Duration>, _: &mut WaitState) -> io::Result<usize> {
        let count = self.bounded(PollFlags::IN, wait, |stream| stream.read(into))?;
        Ok(count.unwrap_or(0))
    }

    pub fn peek(&self, into: &mut [u8], wait: Option<Duration>, _: &mut WaitState) -> io::Result<usize> {
        let count = self.bounded(PollFlags::IN, wait, |stream| stream.peek(into))?;
        Ok(count.unwrap_or(0))
    }

    pub fn write(&self, bytes: &[u8], wait: Option<Duration>, _: &mut WaitState) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(MAX_WRITE)];
        match self.bounded(PollFlags::OUT, wait, |stream| stream.write(piece)) {
            Ok(Some(count)) => Ok(count),
            Ok(None) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) if error.raw_os_error() == Some(SHUT_DOWN) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(error),
        }
    }

    pub fn shutdown_write(&self) {
        // It fails where that direction has ended already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The reading direction ends by the flag alone: shut down, the socket would drop what it has received, and might reset
    /// the connection before the peer has read what was sent last.
    pub fn shutdown(&self) {
        self.shutdown_write();
        // The flag first: a thread that sees no flag in its check finds the waker's datagram in its poll.
        self.is_shut.store(true, Ordering::SeqCst);
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// Calls until there is a result, or `wait` is over (`WouldBlock`). `None`: there is none, and the socket was shut down.
    fn bounded<T>(
        &self,
        events: PollFlags,
        wait: Option<Duration>,
        mut call: impl FnMut(&SystemStream) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let mut deadline = None;
        loop {
            match call(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done.map(Some),
            }
            if self.is_shut.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let left = match wait {
                Some(Duration::ZERO) => wait,
                _ => deadline.get_or_insert_with(|| Deadline::after("", wait)).left(),
            };
            if left == Some(Duration::ZERO) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.poll(events, left.map_or(MAX_POLL, |left| left.clamp(MIN_POLL, MAX_POLL)))?;
        }
    }

    /// Waits until the socket may be ready, or is shut down.
    fn poll(&self, events: PollFlags, wait: Duration) -> io::Result<()> {
        let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
        let stream = self.stream.pollable();
        let stream = PollFd::new(&stream, events);
        match &self.waker {
            Some(waker) => poll(&mut [stream, PollFd::new(&waker.socket, PollFlags::IN)], Some(&wait))?,
            None => poll(&mut [stream], Some(&wait))?,
        };
        Ok(())
    }
}

/// A UDP socket that is connected to itself. What was sent to it is never read: so it wakes all that wait, now and later.
struct Waker {
    socket: UdpSocket,
}

impl Waker {
    fn new() -> io::Result<Waker> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        socket.set_nonblocking(true)?;
        // What another program has sent before it was connected. From now on only the socket itself can send to it.
        while socket.recv(&mut [0]).is_ok() {}
        Ok(Waker { socket })
    }

    fn wake(&self) {
        // Where that fails, the waiting threads see the flag after `MAX_POLL`.
        let _ = self.socket.send(&[0]);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::super::super::stream::{Stream, StreamKind};
    use super::*;

    /// As where the system has no port left.
    #[test]
    fn without_a_waker_a_shutdown_ends_blocked_calls_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _peer = listener.accept().unwrap().0;
        let StreamKind::System(stream) = Stream::from(ours).into_kind() else { panic!("a stream in memory") };
        let socket = SystemSocket { waker: None, ..SystemSocket::new(stream).unwrap() };
        thread::scope(|scope| {
            let reader = scope.spawn(|| socket.read(&mut [0], None, &mut WaitState {}));
            socket.shutdown();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
    }

    #[test]
    fn one_datagram_wakes_all_who_wait_now_and_later() {
        let waker = Waker::new().unwrap();
        let wait = |millis| poll_waker(&waker, Duration::from_millis(millis));
        assert_eq!(wait(1), 0, "nothing yet");
        waker.wake();
        assert_eq!((wait(60_000), wait(60_000)), (1, 1));
    }

    fn poll_waker(waker: &Waker, wait: Duration) -> usize {
        poll(&mut [PollFd::new(&waker.socket, PollFlags::IN)], Some(&Timespec::try_from(wait).unwrap())).unwrap()
    }
}
