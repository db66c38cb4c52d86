//! The way out: frames are encoded into a queue under a short lock, and one thread at a time writes all that is queued.
//!
//! The thread that finds the writer in the queue becomes the one who writes, and looks at the queue again before it
//! lets go: so senders that arrive during a write are written together, by one system call. They return at once, as a
//! kernel with room in its socket buffer would let them; when the queue is full they wait.
//!
//! A large uncompressed message does not pass through the queue: its sender becomes the writer and masks block by block
//! straight from the caller's bytes.

use std::collections::VecDeque;
use std::io;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use super::{Connection, End};
use crate::close::CloseCode;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::MessageRef;
use crate::protocol::{Fragment, Kind, Opcode, Outbound, Role, mask};
use crate::transport::{Wire, lock};

/// Queued bytes from which on senders wait for the writer.
const MOST_QUEUED: usize = 256 * 1024;
/// Messages from this size on go straight to the wire, in blocks of it. A multiple of four, for the mask.
const BLOCK: usize = 64 * 1024;
/// How often one thread writes what others queued before they have to wait and take over.
const MOST_ROUNDS: usize = 64;
/// Pongs not yet written; the oldest give way (RFC 6455 §5.5.3 lets an endpoint answer only the latest ping).
const MOST_PONGS: usize = 64;
/// Buffers beyond this are given back when all is written.
const KEPT: usize = 4 * 1024;

pub(crate) struct Outgoing {
    /// Encodes what needs no compressor.
    plain: Outbound,
    masks: Masks,
    /// Encoded frames that the writer has not fetched yet.
    frames: Vec<u8>,
    pongs: VecDeque<Vec<u8>>,
    /// TLS has something of its own to say.
    pub tls_output: bool,
    /// In its place when nobody writes.
    writer: Option<Writer>,
    /// How many threads wait for the writer or for room.
    waiting: usize,
    /// One thread has written for the others long enough: they wait until it is out.
    is_stopping_writer: bool,
    /// A message is being sent in parts: no other may come between them (RFC 6455 §5.4).
    pub is_streaming: bool,
    /// No data frame may follow a close frame (RFC 6455 §5.5.1).
    pub close_queued: bool,
    /// Why nothing can be sent any more.
    failure: Option<Error>,
}

/// The writing side of the transport, and what is on its way there.
pub(crate) struct Writer {
    wire: Wire,
    batch: Vec<u8>,
    written: usize,
}

impl Outgoing {
    pub fn new(role: Role, wire: Wire) -> Outgoing {
        Outgoing {
            plain: Outbound::new(role, None, 0, 0),
            masks: Masks::new(role),
            frames: Vec::new(),
            pongs: VecDeque::new(),
            tls_output: false,
            writer: Some(Writer { wire, batch: Vec::new(), written: 0 }),
            waiting: 0,
            is_stopping_writer: false,
            is_streaming: false,
            close_queued: false,
            failure: None,
        }
    }

    /// Whether another frame may be queued without waiting.
    pub fn has_room(&self) -> bool {
        self.frames.len() < MOST_QUEUED
    }

    /// Whether the writer has nothing to fetch.
    fn is_drained(&self) -> bool {
        self.frames.is_empty() && self.pongs.is_empty() && !self.tls_output
    }

    /// Whether anything waits to be written and nobody is at it.
    pub fn is_left_over(&self) -> bool {
        self.failure.is_none() && self.writer.as_ref().is_some_and(|writer| !self.is_drained() || !writer.is_idle())
    }

    /// Hands all that is queued to the writer, whose batch is spent: pongs first, they may stand between any two frames.
    fn fetch(&mut self, writer: &mut Writer) -> Result<()> {
        if writer.is_done() {
            writer.restart();
        }
        for pong in std::mem::take(&mut self.pongs) {
            let mask = self.masks.next()?;
            self.plain.control(&mut writer.batch, Opcode::Pong, &pong, mask);
        }
        if writer.batch.is_empty() {
            std::mem::swap(&mut self.frames, &mut writer.batch);
        } else {
            writer.batch.append(&mut self.frames);
        }
        self.tls_output = false;
        Ok(())
    }

    fn put_back(&mut self, mut writer: Writer) {
        if writer.is_done() {
            writer.restart();
        }
        if writer.batch.capacity() > KEPT && writer.batch.is_empty() {
            writer.batch = Vec::new();
        }
        if self.frames.is_empty() && self.frames.capacity() > KEPT {
            self.frames = Vec::new();
        }
        self.is_stopping_writer = false;
        self.writer = Some(writer);
    }
}

impl Writer {
    /// Whether all of the batch is taken; with TLS, some of it may still be in the wire.
    fn is_done(&self) -> bool {
        self.written == self.batch.len()
    }

    /// Makes the spent batch ready for the next bytes.
    fn restart(&mut self) {
        self.batch.clear();
        self.written = 0;
    }

    fn is_idle(&self) -> bool {
        self.is_done() && self.wire.is_empty()
    }
}

impl Connection {
    /// Sends one message; returns when it is written, or queued behind the one who is writing.
    pub fn send(&self, message: MessageRef<'_>, compress: bool) -> Result<()> {
        let deadline = Deadline::after("send_timeout", self.bounds.send_timeout);
        let (kind, payload) = match message {
            MessageRef::Text(text) => (Kind::Text, text.as_bytes()),
            MessageRef::Binary(bytes) => (Kind::Binary, bytes),
        };
        log::trace!("sending {kind:?}, {} bytes", payload.len());
        if let Some(compressor) = &self.compressing {
            if compress && lock(compressor).compresses(payload.len()) {
                return self.send_compressed(kind, payload, &deadline);
            }
        }
        if payload.len() >= BLOCK {
            return self.send_large(kind, payload, &deadline);
        }
        let mut outgoing = self.room_for_message(&deadline, Outgoing::has_room)?;
        let mask = outgoing.masks.next()?;
        let Outgoing { plain, frames, .. } = &mut *outgoing;
        plain.message(frames, kind, payload, false, mask);
        self.write_queued(outgoing, &deadline)
    }

    fn send_compressed(&self, kind: Kind, payload: &[u8], deadline: &Deadline) -> Result<()> {
        // The compressor's lock is held until the frame is queued: frames must go out in the order of its history. It is
        // not held while waiting, so whoever waited looks again.
        let (mask, mut compressor) = loop {
            drop(self.room_for_message(deadline, Outgoing::has_room)?);
            let compressor = lock(self.compressing.as_ref().expect("looked at before"));
            let mut outgoing = lock(&self.sending);
            if !outgoing.is_streaming {
                break (outgoing.masks.next()?, compressor);
            }
        };
        let mut frame = Vec::new();
        compressor.message(&mut frame, kind, payload, true, mask);
        let mut outgoing = lock(&self.sending);
        self.check_sendable(&outgoing)?;
        if outgoing.frames.is_empty() {
            outgoing.frames = frame;
        } else {
            outgoing.frames.append(&mut frame);
        }
        drop(compressor);
        self.write_queued(outgoing, deadline)
    }

    fn send_large(&self, kind: Kind, payload: &[u8], deadline: &Deadline) -> Result<()> {
        let mut outgoing = self.room_for_message(deadline, |outgoing| outgoing.writer.is_some())?;
        let mask = outgoing.masks.next()?;
        let mut writer = outgoing.writer.take().expect("waited for");
        outgoing.fetch(&mut writer)?;
        outgoing.plain.header(&mut writer.batch, kind, payload.len(), mask);
        drop(outgoing);
        for block in payload.chunks(BLOCK) {
            match self.role {
                Role::Client => mask::append(&mut writer.batch, block, mask),
                Role::Server => writer.batch.extend_from_slice(block),
            }
            if let Err(error) = self.write_batch(&mut writer, deadline) {
                return Err(self.sending_failed(writer, error));
            }
            writer.restart();
        }
        self.write_on(writer, deadline)
    }

    /// Queues a part of a message that is being sent in parts, and sends it like a message.
    pub fn send_fragment(&self, part: Fragment, payload: &[u8], deadline: &Deadline) -> Result<()> {
        let mut outgoing = self.room_to_send(deadline, Outgoing::has_room)?;
        let mask = outgoing.masks.next()?;
        if let (true, Some(compressor)) = (part.compress, &self.compressing) {
            drop(outgoing);
            let mut frame = Vec::new();
            lock(compressor).fragment(&mut frame, part, payload, mask);
            outgoing = lock(&self.sending);
            self.check_sendable(&outgoing)?;
            outgoing.frames.append(&mut frame);
        } else {
            let Outgoing { plain, frames, .. } = &mut *outgoing;
            plain.fragment(frames, part, payload, mask);
        }
        outgoing.is_streaming = !part.fin;
        self.wake_senders(&outgoing);
        self.write_queued(outgoing, deadline)
    }

    /// Queues a ping, and sends it like a message.
    pub fn ping(&self, payload: &[u8]) -> Result<()> {
        let deadline = Deadline::after("send_timeout", self.bounds.send_timeout);
        drop(self.room_to_send(&deadline, Outgoing::has_room)?);
        self.queue_ping(payload);
        self.write_queued(lock(&self.sending), &deadline)
    }

    /// Queues a ping without writing it.
    pub fn queue_ping(&self, payload: &[u8]) {
        lock(&self.keepalive).ping_sent(payload, Instant::now());
        self.queue_control(Opcode::Ping, payload);
    }

    /// Queues a pong without writing it.
    pub fn queue_pong(&self, payload: Vec<u8>) {
        let mut outgoing = lock(&self.sending);
        if outgoing.close_queued {
            return;
        }
        if outgoing.pongs.len() == MOST_PONGS {
            outgoing.pongs.pop_front();
        }
        outgoing.pongs.push_back(payload);
    }

    /// Queues the close frame, once; says whether it was this call that did.
    pub fn queue_close(&self, code: Option<CloseCode>, reason: &str) -> bool {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&u16::from(code).to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        self.queue_control(Opcode::Close, &payload)
    }

    fn queue_control(&self, opcode: Opcode, payload: &[u8]) -> bool {
        let mut outgoing = lock(&self.sending);
        if outgoing.close_queued || outgoing.failure.is_some() {
            return false;
        }
        let Ok(mask) = outgoing.masks.next() else { return false };
        let Outgoing { plain, frames, close_queued, .. } = &mut *outgoing;
        plain.control(frames, opcode, payload, mask);
        *close_queued = matches!(opcode, Opcode::Close);
        true
    }

    /// Says that TLS has something to write.
    pub fn queue_tls_output(&self) {
        lock(&self.sending).tls_output = true;
    }

    /// Writes what is queued as far as the socket takes it now. Never waits: the reader calls it.
    pub fn flush_what_fits(&self) {
        let mut outgoing = lock(&self.sending);
        if !outgoing.is_left_over() {
            return;
        }
        let mut writer = outgoing.writer.take().expect("it is left over");
        loop {
            // What is left of the last batch goes first, alone: a queue behind a stuck peer must not empty into it.
            let fetched = if writer.is_idle() { outgoing.fetch(&mut writer) } else { Ok(()) };
            drop(outgoing);
            let written = fetched.and_then(|()| self.write_what_fits(&mut writer));
            outgoing = lock(&self.sending);
            match written {
                Ok(true) if !outgoing.is_drained() => continue,
                Ok(_) => {}
                Err(error) => drop(outgoing.failure.get_or_insert(error)),
            }
            outgoing.put_back(writer);
            self.wake_senders(&outgoing);
            return;
        }
    }

    /// Writes what the socket takes now of the batch; says whether that was all.
    fn write_what_fits(&self, writer: &mut Writer) -> Result<bool> {
        loop {
            match self.write_some(writer, Some(Duration::ZERO)) {
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
        lock(&self.sending).writer = Some(writer);
    }

    /// As `room_to_send`, behind a message that is being sent in parts.
    pub fn room_for_message(
        &self,
        deadline: &Deadline,
        is_there: impl Fn(&Outgoing) -> bool,
    ) -> Result<MutexGuard<'_, Outgoing>> {
        loop {
            let mut outgoing = self.room_to_send(deadline, &is_there)?;
            if !outgoing.is_streaming {
                return Ok(outgoing);
            }
            outgoing = self.wait_to_send(outgoing, deadline)?;
            drop(outgoing);
        }
    }

    /// Waits until `is_there` holds and nobody else has to go first.
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

    fn check_sendable(&self, outgoing: &Outgoing) -> Result<()> {
        if let Some(failure) = &outgoing.failure {
            return Err(Error::new(ErrorKind::Closed, format!("sending has failed before: {failure}")));
        }
        if outgoing.close_queued || self.end.get().is_some() || self.closed.get().is_some() {
            return Err(Error::new(ErrorKind::Closed, "cannot send: the connection is closing or closed"));
        }
        Ok(())
    }

    fn wait_to_send<'a>(
        &'a self,
        mut outgoing: MutexGuard<'a, Outgoing>,
        deadline: &Deadline,
    ) -> Result<MutexGuard<'a, Outgoing>> {
        let left = deadline.check("waiting for another thread's send")?;
        if let Some(End::Failed(error)) = self.end.get() {
            return Err(Error::new(ErrorKind::Closed, format!("cannot send: {error}")));
        }
        outgoing.waiting += 1;
        let mut outgoing = super::wait(&self.sending_changed, outgoing, left);
        outgoing.waiting -= 1;
        Ok(outgoing)
    }

    pub fn wake_senders(&self, outgoing: &Outgoing) {
        if outgoing.waiting > 0 {
            self.sending_changed.notify_all();
        }
    }

    /// With frames queued: writes them, or leaves them to the one who is writing.
    pub fn write_queued(&self, mut outgoing: MutexGuard<'_, Outgoing>, deadline: &Deadline) -> Result<()> {
        let Some(mut writer) = outgoing.writer.take() else { return Ok(()) };
        let fetched = outgoing.fetch(&mut writer);
        drop(outgoing);
        match fetched {
            Ok(()) => self.write_on(writer, deadline),
            Err(error) => Err(self.sending_failed(writer, error)),
        }
    }

    /// Writes the batch, and on until nothing is queued; then puts the writer back.
    fn write_on(&self, mut writer: Writer, deadline: &Deadline) -> Result<()> {
        let mut rounds = 0;
        loop {
            if let Err(error) = self.write_batch(&mut writer, deadline) {
                return Err(self.sending_failed(writer, error));
            }
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
            if let Err(error) = fetched {
                return Err(self.sending_failed(writer, error));
            }
        }
    }

    fn write_batch(&self, writer: &mut Writer, deadline: &Deadline) -> Result<()> {
        // The first wait is always the same, so that it costs no system call to set.
        let mut wait = deadline.length();
        loop {
            match self.write_some(writer, wait) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // The time is over, or the reader made the socket non-blocking for a moment.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(self.write_error(error)),
            }
            wait = deadline.check("the peer does not take what is sent")?;
        }
    }

    /// Writes once, waiting at most `wait`; says whether all is out.
    fn write_some(&self, writer: &mut Writer, wait: Option<Duration>) -> io::Result<bool> {
        if !writer.is_done() {
            writer.written += self.transport.write(&mut writer.wire, &writer.batch[writer.written..], wait)?;
            if !writer.is_done() {
                return Ok(false);
            }
        }
        self.transport.flush(&mut writer.wire, wait)?;
        Ok(true)
    }

    fn write_error(&self, error: io::Error) -> Error {
        match self.end.get() {
            Some(End::Failed(end)) => Error::new(ErrorKind::Closed, format!("cannot send: {end}")),
            _ => Error::caused(ErrorKind::Io, "the connection was lost while sending", error),
        }
    }

    /// Part of a frame may be out: nothing can be sent any more, and all who wait are told.
    fn sending_failed(&self, writer: Writer, error: Error) -> Error {
        let mut outgoing = lock(&self.sending);
        outgoing.failure.get_or_insert_with(|| error.clone());
        outgoing.frames = Vec::new();
        outgoing.pongs.clear();
        outgoing.put_back(writer);
        self.wake_senders(&outgoing);
        error
    }
}

/// A fresh, unpredictable mask for each frame (RFC 6455 §5.3), from the system's generator, several at a time.
struct Masks {
    pool: Vec<u8>,
    role: Role,
}

impl Masks {
    const POOL: usize = 256;

    fn new(role: Role) -> Masks {
        Masks { pool: Vec::new(), role }
    }

    /// Fails without entropy, never with a mask that is not random.
    fn next(&mut self) -> Result<[u8; 4]> {
        if self.role == Role::Server {
            return Ok([0; 4]);
        }
        if self.pool.is_empty() {
            self.pool.resize(Masks::POOL, 0);
            if let Err(error) = getrandom::fill(&mut self.pool) {
                self.pool.clear();
                return Err(Error::caused(ErrorKind::Io, "the system gives no random bytes for a mask", error));
            }
        }
        let rest = self.pool.len() - 4;
        let mask = [self.pool[rest], self.pool[rest + 1], self.pool[rest + 2], self.pool[rest + 3]];
        self.pool.truncate(rest);
        Ok(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_differ_and_servers_have_none() {
        let mut masks = Masks::new(Role::Client);
        let drawn: std::collections::HashSet<[u8; 4]> = (0..1000).map(|_| masks.next().unwrap()).collect();
        assert!(drawn.len() > 990);
        assert_eq!(Masks::new(Role::Server).next().unwrap(), [0; 4]);
    }
}
