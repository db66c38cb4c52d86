//! Encrypting and decrypting, without any waiting: encrypted bytes in and out by buffers.
//!
//! Properties of the backends that are easy to get wrong, each seen in a test or in a backend's source:
//! - `Ok(0)` means close_notify or a bare FIN; it was a bare FIN if TLS has read the end of its input.
//! - The first error is kept: after a bad record a backend may go on with `Ok(0)`.
//! - A write may need input first (TLS 1.2 renegotiation, SChannel). There is none that a reader has not given to TLS: `decrypt`
//!   leaves none behind. So a write gets `WouldBlock`, its output goes out, and the writer tries again.
//! - `WouldBlock` although there was input is fatal: waiting for the socket could last for ever.

use std::io::{self, Read, Write};

use native_tls::TlsStream;

use super::super::Received;
use super::super::read_buffer::ReadBuffer;
use super::super::record_marks::RecordMarks;
use super::super::wait::is_wait_over;
use super::engine_io::EngineIo;

/// The plain bytes of the longest record. Reads have room for it, so that no plain bytes stay inside TLS, where waiting for
/// the socket would not find them; writes are cut at it, so that each makes one record.
const RECORD: usize = 16 * 1024;
/// Output of TLS itself (answers to key updates) that may wait to be written.
const MAX_OUTPUT: usize = 256 * 1024;

pub(crate) struct Engine {
    tls: TlsStream<EngineIo>,
    /// The first error; the kind and text of every later one.
    failure: Option<(io::ErrorKind, String)>,
    /// How much output of TLS itself was reported by `TlsOutput`: the caller reads on while it is written.
    reported_output: usize,
}

impl Engine {
    pub(super) fn new(tls: TlsStream<EngineIo>) -> Engine {
        Engine { tls, failure: None, reported_output: 0 }
    }

    /// Takes the encrypted bytes, and decrypts all of them, or until the room in `plain` is used well. `None`: it needs more
    /// from the socket.
    pub fn decrypt(&mut self, cipher: &mut ReadBuffer, plain: &mut ReadBuffer) -> io::Result<Option<Received>> {
        self.take_input(cipher);
        self.check()?;
        match self.decrypt_input(plain)? {
            Some(received) => Ok(Some(received)),
            None => self.report_output(),
        }
    }

    /// Moves what was read from the socket. The input is empty whenever the reader went to the socket, so its spent buffer
    /// serves for the next read.
    fn take_input(&mut self, cipher: &mut ReadBuffer) {
        if !cipher.is_empty() {
            std::mem::swap(&mut self.tls.get_mut().inbound, cipher);
        }
    }

    /// Reads records until the input is used up. An error or the end behind good bytes is left for the next call.
    fn decrypt_input(&mut self, plain: &mut ReadBuffer) -> io::Result<Option<Received>> {
        let mut received = None;
        loop {
            plain.reserve(RECORD);
            match self.read(plain) {
                Ok(Some(count @ 1..)) => {
                    plain.filled(count);
                    received = Some(Received::Bytes);
                    if self.tls.get_ref().inbound.is_empty() {
                        return Ok(received);
                    }
                }
                _ if received.is_some() => return Ok(received),
                Ok(Some(_)) => return self.check_end().map(|()| Some(Received::End)),
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// TLS has ended; without close_notify anybody may have cut it.
    fn check_end(&mut self) -> io::Result<()> {
        if self.tls.get_ref().end_was_read {
            let text = "TLS ended without close_notify";
            return Err(self.fail(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        Ok(())
    }

    /// Tells the reader of output that TLS has made itself, once.
    fn report_output(&mut self) -> io::Result<Option<Received>> {
        let output = self.tls.get_ref().outbound.len();
        if output <= self.reported_output {
            return Ok(None);
        }
        if output > MAX_OUTPUT {
            return Err(self.fail(io::Error::other("the peer makes TLS answer and does not take the answers")));
        }
        self.reported_output = output;
        Ok(Some(Received::TlsOutput))
    }

    /// One read of TLS. `None` when it needs more input.
    fn read(&mut self, plain: &mut ReadBuffer) -> io::Result<Option<usize>> {
        self.tls.get_mut().is_starved = false;
        match self.tls.read(plain.room(false)) {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_wait_over(&error) => {
                if self.tls.get_ref().is_starved {
                    return Ok(None);
                }
                Err(self.fail(io::Error::other("the TLS library stopped in the middle of its input")))
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Frees the buffers that bursts have grown, in both directions.
    pub fn release(&mut self) {
        let io = self.tls.get_mut();
        io.inbound.release();
        if io.outbound.is_empty() {
            io.outbound = Vec::new();
        }
    }

    /// The socket has ended.
    pub fn end(&mut self) {
        self.tls.get_mut().has_ended = true;
    }

    /// Encrypts `bytes` into `out`, which is empty, behind the output that TLS has made itself; returns how many it took, and
    /// marks the ends of their records. An error behind the first bytes is left for the next call.
    pub fn encrypt(&mut self, bytes: &[u8], out: &mut Vec<u8>, marks: &mut RecordMarks) -> io::Result<usize> {
        debug_assert!(out.is_empty(), "marks count from the start of the output");
        self.check()?;
        let mut taken = 0;
        while taken < bytes.len() {
            let piece = &bytes[taken..];
            match self.encrypt_record(&piece[..piece.len().min(RECORD)]) {
                Ok(Some(count)) => {
                    taken += count;
                    marks.push(self.tls.get_ref().outbound.len(), count);
                }
                Ok(None) => break,
                Err(_) if taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.take_output(out);
        if taken == 0 && out.is_empty() && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    /// `None`: TLS needs input before it can write. Its output goes out, and the caller comes again.
    fn encrypt_record(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        self.tls.get_mut().in_write = true;
        let written = self.tls.write(bytes);
        self.tls.get_mut().in_write = false;
        match written {
            Ok(0) => Err(self.fail(io::ErrorKind::WriteZero.into())),
            Ok(count) => Ok(Some(count)),
            Err(error) if is_wait_over(&error) => Ok(None),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Moves what TLS has written to `out`, which is empty.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        debug_assert!(out.is_empty());
        self.reported_output = 0;
        std::mem::swap(out, &mut self.tls.get_mut().outbound);
    }

    pub fn close_notify(&mut self) {
        // An error means that the peer's close_notify has not come. It is not waited for.
        if self.failure.is_none() {
            let _ = self.tls.shutdown();
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failure.get_or_insert_with(|| (error.kind(), error.to_string()));
        error
    }
}
