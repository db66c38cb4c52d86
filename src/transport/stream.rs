//! The byte streams that a connection can run over.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(windows)]
use std::os::windows::io::{AsRawSocket, AsSocket, BorrowedSocket, RawSocket};
use std::time::Duration;

use super::memory::{MemoryShutdown, MemoryStream};

/// Longest wait of `accept`, where the system bounds it, so that a server notices its end.
#[cfg(unix)]
const MAX_ACCEPT: Duration = Duration::from_secs(1);

/// A connected byte stream to run a WebSocket over: a [`TcpStream`], on Unix a `UnixStream`, or one end of a pair in memory
/// ([`Stream::pair`]). The functions that take a stream convert it themselves.
///
/// ```
/// # #[cfg(unix)] {
/// use std::os::unix::net::UnixStream;
/// use wsync::{Message, WebSocket};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let server = std::thread::spawn(move || WebSocket::accept(theirs)?.send("over a Unix socket"));
/// let ws = WebSocket::options().connect_over("ws://localhost/", ours)?;
/// assert_eq!(ws.recv()?, Some(Message::from("over a Unix socket")));
/// # server.join().unwrap()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stream {
    kind: StreamKind,
}

pub(super) enum StreamKind {
    System(SystemStream),
    Memory(MemoryStream),
}

/// A socket of the operating system.
#[derive(Debug)]
pub(crate) enum SystemStream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    /// Two connected streams in memory, for tests and for connections within a process: what is written to one is read from
    /// the other.
    ///
    /// Each direction buffers 64 KiB; a write waits while its buffer is full. Dropping one end ends the other, as with a
    /// socket. There are no addresses: [`peer_addr`](crate::WebSocket::peer_addr) fails.
    ///
    /// ```
    /// use wsync::{Message, Stream, WebSocket};
    ///
    /// let (ours, theirs) = Stream::pair();
    /// let server = std::thread::spawn(move || WebSocket::accept(theirs)?.send("in memory"));
    /// let ws = WebSocket::options().connect_over("ws://localhost/", ours)?;
    /// assert_eq!(ws.recv()?, Some(Message::from("in memory")));
    /// # server.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pair() -> (Stream, Stream) {
        Stream::pair_with_capacity(64 * 1024)
    }

    /// As [`pair`](Stream::pair), with `capacity` bytes of buffer in each direction.
    pub(crate) fn pair_with_capacity(capacity: usize) -> (Stream, Stream) {
        let (one, other) = MemoryStream::pair(capacity);
        (Stream { kind: StreamKind::Memory(one) }, Stream { kind: StreamKind::Memory(other) })
    }

    /// A second handle, to end the stream from another thread.
    pub(crate) fn shutdown_handle(&self) -> io::Result<ShutdownHandle> {
        Ok(ShutdownHandle(match &self.kind {
            StreamKind::System(stream) => ShutdownKind::System(stream.try_clone()?),
            StreamKind::Memory(stream) => ShutdownKind::Memory(stream.shutdown_handle()),
        }))
    }

    pub(super) fn into_kind(self) -> StreamKind {
        self.kind
    }
}

/// Ends a stream from another thread: every blocked read and write of it returns.
pub(crate) struct ShutdownHandle(ShutdownKind);

enum ShutdownKind {
    System(SystemStream),
    Memory(MemoryShutdown),
}

impl ShutdownHandle {
    pub fn of_tcp(stream: &TcpStream) -> io::Result<ShutdownHandle> {
        Ok(ShutdownHandle(ShutdownKind::System(SystemStream::Tcp(stream.try_clone()?))))
    }

    pub fn shutdown(&self) {
        match &self.0 {
            // It fails where the stream has ended already.
            ShutdownKind::System(stream) => drop(stream.shutdown(Shutdown::Both)),
            ShutdownKind::Memory(handle) => handle.shutdown(),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream { kind: StreamKind::System(SystemStream::Tcp(stream)) }
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Stream {
        Stream { kind: StreamKind::System(SystemStream::Unix(stream)) }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            StreamKind::System(stream) => stream.fmt(f),
            StreamKind::Memory(_) => f.write_str("Memory"),
        }
    }
}

/// A socket that listens, for a [`Server`](crate::Server): a [`TcpListener`] or, on Unix, a `UnixListener`, such as one that the
/// service manager has opened and passed by its descriptor.
///
/// ```
/// use std::net::TcpListener;
/// use wsync::Server;
///
/// let server = Server::over(TcpListener::bind("127.0.0.1:0")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener(ListenerKind);

#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener(ListenerKind::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener(ListenerKind::Unix(listener))
    }
}

impl Listener {
    /// A listener that was in use may not wait. Where the system can, it then waits for a second at most: the path of a Unix
    /// socket may go, and the process may have no descriptor left to wake it by.
    pub(crate) fn set_blocking(&self) -> io::Result<()> {
        match &self.0 {
            ListenerKind::Tcp(listener) => {
                listener.set_nonblocking(false)?;
                #[cfg(unix)]
                let _ = TcpStream::from(OwnedFd::from(listener.try_clone()?)).set_read_timeout(Some(MAX_ACCEPT));
            }
            #[cfg(unix)]
            ListenerKind::Unix(listener) => {
                listener.set_nonblocking(false)?;
                let _ = UnixStream::from(OwnedFd::from(listener.try_clone()?)).set_read_timeout(Some(MAX_ACCEPT));
            }
        }
        Ok(())
    }

    /// Waits for a connection. `WouldBlock` says that none has come for a while, on the systems that bound this wait.
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match &self.0 {
            ListenerKind::Tcp(listener) => listener.accept().map(|(stream, _)| stream.into()),
            #[cfg(unix)]
            ListenerKind::Unix(listener) => listener.accept().map(|(stream, _)| stream.into()),
        }
    }

    /// Ends the wait of [`accept`](Listener::accept) on another thread, by a connection that says nothing: the one way that
    /// every system has. It fails for a Unix socket whose path is gone. Where `accept` is not called, it may block.
    pub(crate) fn wake(&self) -> io::Result<()> {
        match &self.0 {
            ListenerKind::Tcp(listener) => {
                let mut address = listener.local_addr()?;
                if address.ip().is_unspecified() {
                    address.set_ip(match address {
                        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    });
                }
                TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop)
            }
            #[cfg(unix)]
            ListenerKind::Unix(listener) => UnixStream::connect_addr(&listener.local_addr()?).map(drop),
        }
    }

    /// The address of a TCP socket.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            ListenerKind::Tcp(listener) => listener.local_addr(),
            #[cfg(unix)]
            ListenerKind::Unix(_) => Err(no_address("a Unix socket")),
        }
    }
}

/// The same call on whichever socket it is.
macro_rules! on_either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            SystemStream::Tcp($stream) => $call,
            #[cfg(unix)]
            SystemStream::Unix($stream) => $call,
        }
    };
}

/// A connection's socket, for a poller to watch: [`WebSocket::pollable`](crate::WebSocket::pollable) gives it. Only watch it:
/// reading from it or writing to it breaks the connection.
#[derive(Clone, Copy, Debug)]
pub struct Pollable<'a>(&'a SystemStream);

#[cfg(unix)]
impl AsFd for Pollable<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        on_either!(self.0, stream => stream.as_fd())
    }
}

#[cfg(unix)]
impl AsRawFd for Pollable<'_> {
    fn as_raw_fd(&self) -> RawFd {
        on_either!(self.0, stream => stream.as_raw_fd())
    }
}

#[cfg(windows)]
impl AsSocket for Pollable<'_> {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        on_either!(self.0, stream => stream.as_socket())
    }
}

#[cfg(windows)]
impl AsRawSocket for Pollable<'_> {
    fn as_raw_socket(&self) -> RawSocket {
        on_either!(self.0, stream => stream.as_raw_socket())
    }
}

impl SystemStream {
    pub(super) fn pollable(&self) -> Pollable<'_> {
        Pollable(self)
    }

    fn try_clone(&self) -> io::Result<SystemStream> {
        Ok(match self {
            SystemStream::Tcp(stream) => SystemStream::Tcp(stream.try_clone()?),
            #[cfg(unix)]
            SystemStream::Unix(stream) => SystemStream::Unix(stream.try_clone()?),
        })
    }

    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        on_either!(self, stream => (&mut &*stream).read(into))
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        on_either!(self, stream => (&mut &*stream).write(bytes))
    }

    /// Reads without taking the bytes from the stream. Only TCP has it.
    pub fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            SystemStream::Tcp(stream) => stream.peek(into),
            #[cfg(unix)]
            SystemStream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        on_either!(self, stream => stream.shutdown(how))
    }

    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        on_either!(self, stream => stream.set_nonblocking(on))
    }

    #[cfg(not(windows))]
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        on_either!(self, stream => stream.set_read_timeout(timeout))
    }

    #[cfg(not(windows))]
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        on_either!(self, stream => stream.set_write_timeout(timeout))
    }

    /// Makes TCP send small frames at once (`TCP_NODELAY`).
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            SystemStream::Tcp(stream) => stream.set_nodelay(true),
            #[cfg(unix)]
            SystemStream::Unix(_) => Ok(()),
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            SystemStream::Tcp(stream) => stream.local_addr(),
            #[cfg(unix)]
            SystemStream::Unix(_) => Err(no_address("a Unix socket")),
        }
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            SystemStream::Tcp(stream) => stream.peer_addr(),
            #[cfg(unix)]
            SystemStream::Unix(_) => Err(no_address("a Unix socket")),
        }
    }
}

/// The error for the address of a stream that has none.
pub(super) fn no_address(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{what} has no network address"))
}
