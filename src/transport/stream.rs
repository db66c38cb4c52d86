//! The byte streams that a connection can run over.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connected byte stream to run a WebSocket over: made from a [`TcpStream`], or on Unix from a `UnixStream`, by `into`,
/// which the functions that take one do themselves.
///
/// ```
/// # #[cfg(unix)] {
/// use std::os::unix::net::UnixStream;
/// use wsync::{Message, WebSocket};
///
/// let (one, other) = UnixStream::pair()?;
/// let server = std::thread::spawn(move || WebSocket::accept(one)?.send("over a Unix socket"));
/// let ws = WebSocket::options().connect_over("ws://localhost/", other)?;
/// assert_eq!(ws.recv()?, Some(Message::from("over a Unix socket")));
/// # server.join().unwrap()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream::Tcp(stream)
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Stream {
        Stream::Unix(stream)
    }
}

/// The same call on whichever stream it is.
macro_rules! on_either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Tcp($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
        }
    };
}

impl Stream {
    pub(super) fn try_clone(&self) -> io::Result<Stream> {
        on_either!(self, stream => stream.try_clone().map(Stream::from))
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        on_either!(self, stream => stream.shutdown(how))
    }

    pub(super) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        on_either!(self, stream => stream.set_nonblocking(on))
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        on_either!(self, stream => stream.set_read_timeout(timeout))
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        on_either!(self, stream => stream.set_write_timeout(timeout))
    }

    /// Small frames go out as they are made.
    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nodelay(true),
            #[cfg(unix)]
            Stream::Unix(_) => Ok(()),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.local_addr(),
            #[cfg(unix)]
            Stream::Unix(_) => Err(no_address()),
        }
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr(),
            #[cfg(unix)]
            Stream::Unix(_) => Err(no_address()),
        }
    }
}

#[cfg(unix)]
fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a Unix socket has no network address")
}

impl Read for &Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        on_either!(*self, stream => (&mut &*stream).read(into))
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        on_either!(*self, stream => (&mut &*stream).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
