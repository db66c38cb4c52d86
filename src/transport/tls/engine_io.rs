//! The stream that native-tls reads from and writes to: a socket during the TLS handshake, memory afterwards.

use std::io::{self, Read, Write};

use super::super::deadline_stream::DeadlineStream;
use super::super::read_buffer::ReadBuffer;
use crate::sync::{Arc, AtomicBool, Ordering};

#[derive(Default)]
pub(super) struct EngineIo {
    /// The socket, until the TLS handshake is done.
    stream: Option<DeadlineStream>,
    /// The stream has ended or failed during the handshake. Shared, as a TLS library keeps the stream of a handshake that failed.
    is_stream_lost: Arc<AtomicBool>,
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
    /// `is_stream_lost` tells whether the stream has ended or failed before the handshake was done.
    pub fn over_stream(stream: DeadlineStream, is_stream_lost: Arc<AtomicBool>) -> EngineIo {
        EngineIo { stream: Some(stream), is_stream_lost, ..EngineIo::default() }
    }

    /// From now on it is memory; returns the stream.
    pub fn switch_to_memory(&mut self) -> Option<DeadlineStream> {
        self.stream.take()
    }
}

impl Read for EngineIo {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(stream) = &self.stream {
            return self.note_loss(stream.read(into), into.len());
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
    /// Notes the end of the stream, or an error of it, in a call for so many bytes.
    fn note_loss(&self, result: io::Result<usize>, asked: usize) -> io::Result<usize> {
        let is_lost = match &result {
            Ok(count) => *count == 0 && asked > 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        if is_lost {
            self.is_stream_lost.store(true, Ordering::Relaxed);
        }
        result
    }

    fn starve(&mut self) -> io::Result<usize> {
        self.is_starved = true;
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for EngineIo {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(stream) = &self.stream {
            return self.note_loss(stream.write(bytes), bytes.len());
        }
        self.outbound.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
