//! The way out, from the queue to the transport.
//!
//! The thread that finds the writer in the queue becomes the one who writes, and looks at the queue again before it
//! lets go: so senders that arrive during a write are written together, by one system call.

use std::io;
use std::time::Duration;

use super::send_queue::{SendQueue, WriteHalf};
use super::{Connection, EndResult};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{MutexGuard, lock};
use crate::transport::WriteState;

/// How long a writer rests that was told to wait without having waited.
const SPURIOUS_WOULDBLOCK_BACKOFF: Duration = Duration::from_millis(1);
/// How often one thread writes what others queued before they have to wait and take over.
const MAX_BATCHES_FOR_OTHERS: usize = 64;
/// The same for the reader, which has to read.
const MAX_FLUSH_BATCHES: usize = 8;

impl Connection {
    /// Writes what is queued, or leaves it to the one who is writing.
    pub fn write_queued<'a>(&'a self, mut outgoing: MutexGuard<'a, SendQueue>, deadline: &Deadline) -> Result<()> {
        // The reader takes no time over it, and leaves behind what does not fit.
        while outgoing.is_flushing {
            outgoing = self.wait_for_change(outgoing, None);
        }
        // What was queued before it may be gone, and what the writer holds must not follow a frame that was cut.
        if let Some(failure) = &outgoing.failure {
            return Err(failure.clone());
        }
        if !outgoing.needs_writer() {
            return Ok(());
        }
        let mut writer = outgoing.writer.take().expect("it is left over");
        let fetched = outgoing.fetch(&mut writer);
        drop(outgoing);
        match fetched {
            Ok(()) => self.write_on(writer, deadline),
            Err(error) => Err(self.sending_failed(writer, error)),
        }
    }

    /// Writes the batch, and on until nothing is queued; then puts the writer back.
    pub fn write_on(&self, mut writer: Box<WriteHalf>, deadline: &Deadline) -> Result<()> {
        if let Err(error) = self.write_batch(&mut writer, deadline) {
            return Err(self.sending_failed(writer, error));
        }
        let mut rounds = 0;
        loop {
            let mut outgoing = lock(&self.sending);
            if outgoing.is_empty() {
                outgoing.return_writer(writer);
                self.wake_senders(&outgoing);
                return Ok(());
            }
            rounds += 1;
            outgoing.is_stopping_writer = rounds >= MAX_BATCHES_FOR_OTHERS;
            let fetched = outgoing.fetch(&mut writer);
            self.wake_senders(&outgoing);
            drop(outgoing);
            // From here on it is others' messages: what becomes of them is for their next call to say.
            if let Err(error) = fetched.and_then(|()| self.write_batch(&mut writer, &self.send_deadline())) {
                self.sending_failed(writer, error);
                return Ok(());
            }
        }
    }

    pub fn write_batch(&self, writer: &mut WriteHalf, deadline: &Deadline) -> Result<()> {
        self.write_all(&mut writer.wire, &writer.batch, &mut writer.written, deadline)
    }

    /// Writes all behind the first `written` of `bytes`, and counts.
    pub fn write_all(
        &self,
        wire: &mut WriteState,
        bytes: &[u8],
        written: &mut usize,
        deadline: &Deadline,
    ) -> Result<()> {
        // What came before, such as the blocks of a large message, may have taken longer than this write may stand still.
        let mut deadline = *deadline;
        deadline.progress();
        let mut wait = deadline.first_wait();
        loop {
            let before = wire.sent();
            match self.write_some(wire, bytes, written, wait) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // The time is over, or the reader made the socket non-blocking for a moment, or TLS waits for the peer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(SPURIOUS_WOULDBLOCK_BACKOFF)
                }
                Err(error) => return Err(self.write_error(error)),
            }
            if wire.sent() > before {
                deadline.progress();
            }
            wait = deadline.check("the peer does not take what is sent")?;
        }
    }

    /// Writes what is queued as far as the socket takes it now. Never waits: the reader calls it.
    pub fn flush_what_fits(&self) {
        let mut outgoing = lock(&self.sending);
        if !outgoing.needs_writer() {
            return;
        }
        let mut writer = outgoing.writer.take().expect("it is left over");
        outgoing.is_flushing = true;
        for round in 1.. {
            // What is left of the last batch goes first, alone: a queue behind a stuck peer must not empty into it.
            let fetched = if writer.is_idle() { outgoing.fetch(&mut writer) } else { Ok(()) };
            drop(outgoing);
            let written = fetched.and_then(|()| self.write_what_fits(&mut writer));
            outgoing = lock(&self.sending);
            match written {
                // Those who never wait may fill the queue as fast as it empties, and the reader has to read.
                Ok(true) if round < MAX_FLUSH_BATCHES && !outgoing.is_empty() => continue,
                Ok(_) => {}
                Err(error) => outgoing.fail(&error),
            }
            outgoing.return_writer(writer);
            self.wake_senders(&outgoing);
            return;
        }
    }

    /// Writes what the socket takes now of the batch; says whether that was all.
    fn write_what_fits(&self, writer: &mut WriteHalf) -> Result<bool> {
        loop {
            match self.write_some(&mut writer.wire, &writer.batch, &mut writer.written, Some(Duration::ZERO)) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(self.write_error(error)),
            }
        }
    }

    /// Writes all that is queued, or sees it written, by the deadline.
    pub fn flush(&self, deadline: &Deadline) -> Result<()> {
        let mut outgoing = lock(&self.sending);
        loop {
            if let Some(failure) = &outgoing.failure {
                return Err(failure.clone());
            }
            if outgoing.writer.is_some() {
                return self.write_queued(outgoing, deadline);
            }
            outgoing = self.wait_to_send(outgoing, deadline)?;
        }
    }

    /// Ends this side of the transport behind all that is queued, if nobody is writing.
    pub fn shutdown_write(&self, wait: Option<Duration>) {
        let Some(mut writer) = lock(&self.sending).writer.take() else { return };
        if writer.is_done() {
            self.transport.shutdown_write(&mut writer.wire, wait);
        }
        let mut outgoing = lock(&self.sending);
        outgoing.return_writer(writer);
        self.wake_senders(&outgoing);
    }

    /// Writes once, waiting at most `wait`; says whether all is out.
    fn write_some(
        &self,
        wire: &mut WriteState,
        bytes: &[u8],
        written: &mut usize,
        wait: Option<Duration>,
    ) -> io::Result<bool> {
        if *written < bytes.len() {
            *written += self.transport.write(wire, &bytes[*written..], wait)?;
            if *written < bytes.len() || !wire.is_empty() {
                return Ok(false);
            }
        }
        self.transport.flush(wire, wait)?;
        Ok(true)
    }

    fn write_error(&self, error: io::Error) -> Error {
        match self.end.get() {
            Some(EndResult::Failed(end)) => Error::new(ErrorKind::Closed, format!("cannot send: {end}")),
            _ => Error::caused(ErrorKind::Io, "the connection was lost while sending", error),
        }
    }

    /// Part of a frame may be out: nothing can be sent any more, and all who wait are told.
    pub fn sending_failed(&self, writer: Box<WriteHalf>, error: Error) -> Error {
        let mut outgoing = lock(&self.sending);
        outgoing.fail(&error);
        outgoing.return_writer(writer);
        self.wake_senders(&outgoing);
        error
    }
}
