//! The stream that native-tls reads from and writes to: a socket during the TLS handshake, memory afterwards.

use std::io::{self, Read, Write};

use super::super::deadline_stream::DeadlineStream;
use super::super::read_buffer::ReadBuffer;

#[derive(Default)]
pub(super) struct EngineIo {
    /// The socket, until the TLS handshake is done.
    stream: Option<DeadlineStream>,
    /// Encrypted bytes that came and that TLS has not read.
    pub inbound: ReadBuffer,
    /// Encrypted bytes that TLS has written.
    pub outbound: Vec<u8>,
    /// The socket has ended.
    pub has_ended: bool,
    /// TLS has read that end.
    pub end_was_read: bool,
    /// A read of TLS has found nothing to read, and got `WouldBlock`.
    pub is_starved: bool,
    /// TLS is called to write: it gets nothing to read.
    pub in_write: bool,
}

impl EngineIo {
    pub fn over_stream(stream: DeadlineStream) -> EngineIo {
        EngineIo { stream: Some(stream), ..EngineIo::default() }
    }

    /// From now on it is memory; returns the stream.
    pub fn switch_to_memory(&mut self) -> Option<DeadlineStream> {
        self.stream.take()
    }
}

impl Read for EngineIo {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(stream) = &self.stream {
            return stream.read(into);
        }
        if self.in_write {
            return self.starve();
        }
        if !self.inbound.is_empty() {
            let unread = self.inbound.unread();
            let count = unread.len().min(into.len());
            into[..count].copy_from_slice(&unread[..count]);
            self.inbound.consume(count);
            return Ok(count);
        }
        if self.has_ended {
            self.end_was_read = true;
            return Ok(0);
        }
        self.starve()
    }
}

impl EngineIo {
    fn starve(&mut self) -> io::Result<usize> {
        self.is_starved = true;
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for EngineIo {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(stream) = &self.stream {
            return stream.write(bytes);
        }
        self.outbound.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
