//! The way out: frames are encoded into a queue under a short lock, and one thread at a time writes all that is queued.
//!
//! The thread that finds the writer in the queue becomes the one who writes, and looks at the queue again before it
//! lets go: so senders that arrive during a write are written together, by one system call. They return at once, as a
//! kernel with room in its socket buffer would let them; when the queue is full they wait.
//!
//! A large uncompressed message does not pass through the queue: its sender becomes the writer. A client masks block by
//! block straight from the caller's bytes, a server writes those bytes.

use std::io;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use super::outgoing::{Outgoing, Writer};
use super::{Connection, End};
use crate::blocks;
use crate::close::CloseCode;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::MessageRef;
use crate::prepared::Prepared;
use crate::protocol::{Fragment, Kind, Opcode, Outbound, Role, mask};
use crate::transport::{Wire, lock};

/// Messages from this size on go straight to the wire.
const LARGE: usize = 64 * 1024;
/// How much of them a client masks and writes at once: each write wakes the peer. A multiple of four, for the mask, but not
/// of 4096, as in `Buffer`.
const BLOCK: usize = 1024 * 1024 - 1120;
/// How long a writer rests that was told to wait without having waited.
const BREATH: Duration = Duration::from_millis(1);
/// How often one thread writes what others queued before they have to wait and take over.
const MOST_ROUNDS: usize = 64;
/// The same for the reader, which has to read.
const MOST_FLUSHES: usize = 8;

impl Connection {
    /// Sends one message; returns when it is written, or queued behind the one who is writing.
    pub fn send(&self, message: MessageRef<'_>, compress: bool) -> Result<()> {
        let deadline = self.send_deadline();
        let (kind, payload) = (message.kind(), message.as_bytes());
        log::trace!("sending {kind:?}, {} bytes", payload.len());
        if payload.len() >= LARGE && !(compress && self.compresses(payload.len())) {
            return self.send_large(kind, payload, &deadline);
        }
        let outgoing = self.queue_message(kind, payload, compress, &deadline)?;
        self.write_queued(outgoing, &deadline)
    }

    /// Sends messages in their order, with fewer system calls than one for each.
    pub fn send_all<'a>(&self, messages: impl Iterator<Item = MessageRef<'a>>) -> Result<()> {
        for message in messages {
            let deadline = self.send_deadline();
            let (kind, payload) = (message.kind(), message.as_bytes());
            log::trace!("sending {kind:?}, {} bytes", payload.len());
            if payload.len() >= LARGE && !self.compresses(payload.len()) {
                self.send_large(kind, payload, &deadline)?;
                continue;
            }
            let outgoing = self.queue_message(kind, payload, true, &deadline)?;
            if outgoing.is_worth_writing() {
                self.write_queued(outgoing, &deadline)?;
            }
        }
        self.write_queued(lock(&self.sending), &self.send_deadline())
    }

    /// As `send`, with what was compressed for several connections.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<()> {
        let deadline = self.send_deadline();
        let outgoing = self.queue_prepared(prepared, &deadline)?;
        self.write_queued(outgoing, &deadline)
    }

    /// As `send`, but never waits: what the socket does not take now stays queued, if there is room.
    pub fn try_send(&self, message: MessageRef<'_>) -> Result<()> {
        let now = self.can_send_now()?;
        drop(self.queue_message(message.kind(), message.as_bytes(), true, &now)?);
        self.flush_what_fits();
        Ok(())
    }

    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<()> {
        let now = self.can_send_now()?;
        drop(self.queue_prepared(prepared, &now)?);
        self.flush_what_fits();
        Ok(())
    }

    fn can_send_now(&self) -> Result<Deadline> {
        let now = Deadline::after("try_send", Some(Duration::ZERO));
        let outgoing = lock(&self.sending);
        self.check_sendable(&outgoing)?;
        if !outgoing.has_room() {
            return Err(now.error("the peer has not taken what is queued for it already"));
        }
        Ok(now)
    }

    #[inline]
    fn compresses(&self, length: usize) -> bool {
        self.compress_from.is_some_and(|least| length >= least)
    }

    #[inline]
    fn queue_message(
        &self,
        kind: Kind,
        payload: &[u8],
        compress: bool,
        deadline: &Deadline,
    ) -> Result<MutexGuard<'_, Outgoing>> {
        if compress && self.compresses(payload.len()) {
            return self.queue_compressed(deadline, |compressor, frame, mask| {
                compressor.message(frame, kind, payload, true, mask);
            });
        }
        let mut outgoing = self.room_for_message(deadline, Outgoing::has_room)?;
        outgoing.queue_message(kind, payload)?;
        Ok(outgoing)
    }

    fn queue_prepared(&self, prepared: &Prepared, deadline: &Deadline) -> Result<MutexGuard<'_, Outgoing>> {
        let message = MessageRef::from(prepared.message());
        let length = message.as_bytes().len();
        match self.compressing.as_ref().and_then(|compressor| lock(compressor).preparation(length)) {
            None => self.queue_message(message.kind(), message.as_bytes(), false, deadline),
            Some(preparation) => {
                let compressed = prepared.compressed(preparation);
                self.queue_compressed(deadline, |compressor, frame, mask| {
                    compressor.prepared(frame, message.kind(), &compressed, mask);
                })
            }
        }
    }

    /// Has `encode` make a frame, and queues it.
    fn queue_compressed(
        &self,
        deadline: &Deadline,
        encode: impl FnOnce(&mut Outbound, &mut Vec<u8>, [u8; 4]),
    ) -> Result<MutexGuard<'_, Outgoing>> {
        // The compressor's lock is held until the frame is queued: frames must go out in the order of its history. It is
        // not held while waiting, so whoever waited looks again.
        let (mask, mut compressor) = loop {
            drop(self.room_for_message(deadline, Outgoing::has_room)?);
            let compressor = lock(self.compressing.as_ref().expect("looked at before"));
            let mut outgoing = lock(&self.sending);
            if !outgoing.is_streaming {
                break (outgoing.next_mask()?, compressor);
            }
        };
        let mut frame = Vec::new();
        encode(&mut compressor, &mut frame, mask);
        let mut outgoing = lock(&self.sending);
        self.check_sendable(&outgoing)?;
        outgoing.queue_frame(frame);
        Ok(outgoing)
    }

    fn send_large(&self, kind: Kind, payload: &[u8], deadline: &Deadline) -> Result<()> {
        let mut outgoing = self.room_for_message(deadline, |outgoing| outgoing.writer.is_some())?;
        let mut writer = outgoing.writer.take().expect("waited for");
        let mask = match outgoing.fetch_with_header(&mut writer, kind, payload.len()) {
            Ok(mask) => mask,
            Err(error) => {
                drop(outgoing);
                return Err(self.sending_failed(writer, error));
            }
        };
        drop(outgoing);
        let written = match self.role {
            Role::Client => payload.chunks(BLOCK).try_for_each(|block| {
                mask::append(&mut writer.batch, block, mask);
                self.write_batch(&mut writer, deadline)?;
                writer.restart();
                Ok(())
            }),
            // What need not be masked need not be copied, but for the start, which goes out with the header.
            Role::Server => {
                let (start, rest) = payload.split_at(LARGE);
                blocks::append(&mut writer.batch, start);
                let written = self.write_batch(&mut writer, deadline);
                written.and_then(|()| self.write_all(&mut writer.wire, rest, &mut 0, deadline))
            }
        };
        if let Err(error) = written {
            return Err(self.sending_failed(writer, error));
        }
        self.write_on(writer, deadline)
    }

    /// Queues a part of a message that is being sent in parts, and sends it like a message.
    pub fn send_fragment(&self, part: Fragment, payload: &[u8], deadline: &Deadline) -> Result<()> {
        let mut outgoing = self.room_to_send(deadline, Outgoing::has_room)?;
        if let (true, Some(compressor)) = (part.compress, &self.compressing) {
            let mask = outgoing.next_mask()?;
            drop(outgoing);
            let mut frame = Vec::new();
            lock(compressor).fragment(&mut frame, part, payload, mask);
            outgoing = lock(&self.sending);
            self.check_sendable(&outgoing)?;
            outgoing.queue_frame(frame);
        } else {
            outgoing.queue_fragment(part, payload)?;
        }
        outgoing.is_streaming = !part.fin;
        self.wake_senders(&outgoing);
        self.write_queued(outgoing, deadline)
    }

    /// Queues a ping, and sends it like a message.
    pub fn ping(&self, payload: &[u8]) -> Result<()> {
        let deadline = self.send_deadline();
        lock(&self.keepalive).ping_sent(payload, Instant::now());
        let mut outgoing = self.room_to_send(&deadline, Outgoing::has_room)?;
        outgoing.queue_control(Opcode::Ping, payload);
        self.write_queued(outgoing, &deadline)
    }

    /// Queues a ping without writing it.
    pub fn queue_ping(&self, payload: &[u8]) {
        lock(&self.keepalive).ping_sent(payload, Instant::now());
        lock(&self.sending).queue_control(Opcode::Ping, payload);
    }

    /// Queues the close frame, once; says whether it was this call that did.
    pub fn queue_close(&self, code: Option<CloseCode>, reason: &str) -> bool {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&u16::from(code).to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        lock(&self.sending).queue_control(Opcode::Close, &payload)
    }

    /// Writes what is queued as far as the socket takes it now. Never waits: the reader calls it.
    pub fn flush_what_fits(&self) {
        let mut outgoing = lock(&self.sending);
        if !outgoing.is_left_over() {
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
                Ok(true) if round < MOST_FLUSHES && !outgoing.is_drained() => continue,
                Ok(_) => {}
                Err(error) => outgoing.fail(&error),
            }
            outgoing.put_back(writer);
            self.wake_senders(&outgoing);
            return;
        }
    }

    /// Writes what the socket takes now of the batch; says whether that was all.
    fn write_what_fits(&self, writer: &mut Writer) -> Result<bool> {
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
        outgoing.put_back(writer);
        self.wake_senders(&outgoing);
    }

    /// As `room_to_send`, behind a message that is being sent in parts.
    #[inline]
    pub fn room_for_message(
        &self,
        deadline: &Deadline,
        is_there: impl Fn(&Outgoing) -> bool,
    ) -> Result<MutexGuard<'_, Outgoing>> {
        loop {
            let outgoing = self.room_to_send(deadline, &is_there)?;
            if !outgoing.is_streaming {
                return Ok(outgoing);
            }
            drop(self.wait_to_send(outgoing, deadline)?);
        }
    }

    /// Waits until `is_there` holds and nobody else has to go first.
    #[inline]
    pub fn room_to_send(
        &self,
        deadline: &Deadline,
        is_there: impl Fn(&Outgoing) -> bool,
    ) -> Result<MutexGuard<'_, Outgoing>> {
        let mut outgoing = lock(&self.sending);
        loop {
            self.check_sendable(&outgoing)?;
            // A writer in its place has no backlog that could not be written by this very call.
            if outgoing.writer.is_some() || (is_there(&outgoing) && !outgoing.is_stopping_writer) {
                return Ok(outgoing);
            }
            outgoing = self.wait_to_send(outgoing, deadline)?;
        }
    }

    #[inline]
    fn check_sendable(&self, outgoing: &Outgoing) -> Result<()> {
        if let Some(failure) = &outgoing.failure {
            return Err(Error::new(ErrorKind::Closed, format!("sending has failed before: {failure}")));
        }
        if let Some(End::Failed(error)) = self.end.get() {
            return Err(Error::new(ErrorKind::Closed, format!("cannot send: {error}")));
        }
        if outgoing.close_queued || self.end.get().is_some() || self.closed.get().is_some() {
            return Err(Error::new(ErrorKind::Closed, "cannot send: the connection is closing or closed"));
        }
        Ok(())
    }

    fn wait_to_send<'a>(
        &'a self,
        outgoing: MutexGuard<'a, Outgoing>,
        deadline: &Deadline,
    ) -> Result<MutexGuard<'a, Outgoing>> {
        let left = deadline.check("waiting for another thread's send")?;
        if let Some(End::Failed(error)) = self.end.get() {
            return Err(error.clone());
        }
        Ok(self.wait_for_change(outgoing, left))
    }

    fn wait_for_change<'a>(
        &'a self,
        mut outgoing: MutexGuard<'a, Outgoing>,
        left: Option<Duration>,
    ) -> MutexGuard<'a, Outgoing> {
        outgoing.waiting += 1;
        let mut outgoing = super::wait(&self.sending_changed, outgoing, left);
        outgoing.waiting -= 1;
        outgoing
    }

    pub fn wake_senders(&self, outgoing: &Outgoing) {
        if outgoing.waiting > 0 {
            self.sending_changed.notify_all();
        }
    }

    /// Writes what is queued, or leaves it to the one who is writing.
    pub fn write_queued<'a>(&'a self, mut outgoing: MutexGuard<'a, Outgoing>, deadline: &Deadline) -> Result<()> {
        // The reader takes no time over it, and leaves behind what does not fit.
        while outgoing.is_flushing {
            outgoing = self.wait_for_change(outgoing, None);
        }
        // What was queued before it may be gone, and what the writer holds must not follow a frame that was cut.
        if let Some(failure) = &outgoing.failure {
            return Err(failure.clone());
        }
        if !outgoing.is_left_over() {
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
    fn write_on(&self, mut writer: Box<Writer>, deadline: &Deadline) -> Result<()> {
        if let Err(error) = self.write_batch(&mut writer, deadline) {
            return Err(self.sending_failed(writer, error));
        }
        let mut rounds = 0;
        loop {
            let mut outgoing = lock(&self.sending);
            if outgoing.is_drained() {
                outgoing.put_back(writer);
                self.wake_senders(&outgoing);
                return Ok(());
            }
            rounds += 1;
            outgoing.is_stopping_writer = rounds >= MOST_ROUNDS;
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

    fn write_batch(&self, writer: &mut Writer, deadline: &Deadline) -> Result<()> {
        self.write_all(&mut writer.wire, &writer.batch, &mut writer.written, deadline)
    }

    /// Writes all behind the first `written` of `bytes`, and counts.
    fn write_all(&self, wire: &mut Wire, bytes: &[u8], written: &mut usize, deadline: &Deadline) -> Result<()> {
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(BREATH),
                Err(error) => return Err(self.write_error(error)),
            }
            if wire.sent() > before {
                deadline.progress();
            }
            wait = deadline.check("the peer does not take what is sent")?;
        }
    }

    /// The bound of a send: over each wait for the peer to take something.
    pub fn send_deadline(&self) -> Deadline {
        Deadline::renewed_by_progress("send_timeout", self.bounds.send_timeout)
    }

    /// Writes once, waiting at most `wait`; says whether all is out.
    fn write_some(
        &self,
        wire: &mut Wire,
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
            Some(End::Failed(end)) => Error::new(ErrorKind::Closed, format!("cannot send: {end}")),
            _ => Error::caused(ErrorKind::Io, "the connection was lost while sending", error),
        }
    }

    /// Part of a frame may be out: nothing can be sent any more, and all who wait are told.
    fn sending_failed(&self, writer: Box<Writer>, error: Error) -> Error {
        let mut outgoing = lock(&self.sending);
        outgoing.fail(&error);
        outgoing.put_back(writer);
        self.wake_senders(&outgoing);
        error
    }
}
