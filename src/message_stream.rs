//! Messages larger than memory: `std::io::Read` and `std::io::Write` over one message each.

use std::fmt;
use std::io::{self, Read, Write};

use crate::connection::{IncomingParts, OutgoingParts};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{Fin, MessageKind};

/// How much is written into one fragment.
const FRAGMENT: usize = 16 * 1024;

/// One received message as a stream of bytes: made by [`WebSocket::recv_reader`](crate::WebSocket::recv_reader).
///
/// Reading blocks until more of the message comes, and ends with the message; text is validated as it comes
/// (RFC 6455 §8.1). Pings are answered meanwhile. It needs about 16 KiB however large the message is;
/// `max_message_size` does not bound it. Other threads' receiving calls wait until it is dropped; what was not read of the
/// message by then is left out.
///
/// It stays on the thread that has made it: it is not `Send`. Errors of the connection come as [`io::Error`] with the
/// [`Error`](crate::Error) inside.
///
/// ```
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let url = format!("ws://{}/", server.local_addr()?);
/// # std::thread::spawn(move || wsync::WebSocket::accept(server.accept().unwrap().0)?.send("a long text"));
/// # let ws = wsync::WebSocket::connect(&url)?;
/// let mut text = String::new();
/// if let Some(mut message) = ws.recv_reader()? {
///     std::io::Read::read_to_string(&mut message, &mut text)?;
/// }
/// assert_eq!(text, "a long text");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "what was not read of the message when it is dropped is left out"]
pub struct MessageReader<'a> {
    incoming: IncomingParts<'a>,
    position: usize,
}

/// One message to send as a stream of bytes: made by [`WebSocket::send_writer`](crate::WebSocket::send_writer).
///
/// What is written goes out in fragments of 16 KiB (RFC 6455 §5.4), with blocking as in
/// [`send`](crate::WebSocket::send); [`finish`](MessageWriter::finish) ends the message. Other threads' messages wait
/// meanwhile, never in between; pings, pongs and a close do not. [`send`](crate::WebSocket::send) from the thread that holds
/// the writer would wait for itself: it is an error of kind [`InvalidInput`](crate::ErrorKind::InvalidInput). So the writer
/// stays on the thread that has made it: it is not `Send`.
///
/// Dropping it unfinished closes the connection with code 1011 if a fragment was sent: what was sent cannot be taken back. If
/// none was sent yet, nothing happens to the connection, and the peer sees nothing of the message.
///
/// ```
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let url = format!("ws://{}/", server.local_addr()?);
/// # let peer = std::thread::spawn(move || wsync::WebSocket::accept(server.accept().unwrap().0)?.recv());
/// # let ws = wsync::WebSocket::connect(&url)?;
/// use std::io::Write;
/// use wsync::MessageKind;
///
/// let mut message = ws.send_writer(MessageKind::Binary)?;
/// for block in 0..100 {
///     message.write_all(&[block; 1000])?;
/// }
/// message.finish()?;
/// # assert_eq!(peer.join().unwrap()?.unwrap().len(), 100_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it unfinished closes the connection: call finish"]
pub struct MessageWriter<'a> {
    outgoing: OutgoingParts<'a>,
    kind: MessageKind,
    buffer: Vec<u8>,
}

impl<'a> MessageReader<'a> {
    pub(crate) fn new(incoming: IncomingParts<'a>) -> MessageReader<'a> {
        MessageReader { incoming, position: 0 }
    }

    /// Whether it is text or binary.
    /// See the example of [`recv_reader_timeout`](crate::WebSocket::recv_reader_timeout).
    pub fn kind(&self) -> MessageKind {
        self.incoming.kind()
    }
}

impl Read for MessageReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while self.position == self.incoming.part().len() {
            if !self.incoming.next()? {
                self.position = 0;
                return Ok(0);
            }
            self.position = 0;
        }
        let count = (&self.incoming.part()[self.position..]).read(into)?;
        self.position += count;
        Ok(count)
    }
}

impl<'a> MessageWriter<'a> {
    pub(crate) fn new(outgoing: OutgoingParts<'a>, kind: MessageKind) -> MessageWriter<'a> {
        MessageWriter { outgoing, kind, buffer: Vec::new() }
    }

    /// Sends the message without compression, for payload that is compressed already. Call it before writing: it has no
    /// effect once a part was sent.
    ///
    /// ```no_run
    /// # fn run(ws: wsync::WebSocket) -> Result<(), Box<dyn std::error::Error>> {
    /// use wsync::MessageKind;
    ///
    /// let mut message = ws.send_writer(MessageKind::Binary)?.uncompressed();
    /// std::io::copy(&mut std::fs::File::open("photo.jpg")?, &mut message)?;
    /// message.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn uncompressed(mut self) -> MessageWriter<'a> {
        self.outgoing.uncompressed();
        self
    }

    /// Sends what is left, and ends the message. Blocks as [`send`](crate::WebSocket::send) does. See
    /// [the example](MessageWriter).
    ///
    /// # Errors
    /// As [`send`](crate::WebSocket::send); [`InvalidInput`](crate::ErrorKind::InvalidInput) if a text message is not UTF-8.
    /// After an error the message is unfinished, as if the writer had been dropped.
    pub fn finish(mut self) -> Result<()> {
        self.send(Fin::Last)
    }

    fn send(&mut self, fin: Fin) -> Result<()> {
        let count = self.sendable(fin)?;
        self.outgoing.send(&self.buffer[..count], fin)?;
        self.buffer.drain(..count);
        Ok(())
    }

    /// How much of the buffer may go out: of text, all but a character that is not whole yet.
    fn sendable(&self, fin: Fin) -> Result<usize> {
        if self.kind == MessageKind::Binary {
            return Ok(self.buffer.len());
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(text.len()),
            Err(error) if error.error_len().is_none() && fin == Fin::More => Ok(error.valid_up_to()),
            Err(error) => {
                let text = "what was written to a text message is not UTF-8: send it as binary";
                Err(Error::caused(ErrorKind::InvalidInput, text, error))
            }
        }
    }
}

impl Write for MessageWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= FRAGMENT {
            self.send(Fin::More)?;
        }
        let count = bytes.len().min(FRAGMENT + 4 - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Sends what was written so far as a fragment.
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.send(Fin::More)?)
    }
}

impl fmt::Debug for MessageWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl fmt::Debug for MessageReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader").field("kind", &self.kind()).finish_non_exhaustive()
    }
}
