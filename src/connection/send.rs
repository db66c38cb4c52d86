//! The way out, to the queue: frames are encoded under a short lock, and one thread at a time writes what is queued
//! (`writing.rs`). Senders return at once when another writes, as a kernel with room in its socket buffer would let them;
//! when the queue is full they wait.
//!
//! A large uncompressed message does not pass through the queue: its sender becomes the writer. A client masks block by
//! block straight from the caller's bytes, a server writes those bytes.

use std::time::{Duration, Instant};

use super::send_queue::SendQueue;
use super::{Connection, EndResult};
use crate::close_code::CloseCode;
use crate::copy;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::MessageRef;
use crate::prepared::Prepared;
use crate::protocol::{Encoding, Fin, Fragment, Kind, MessageCompressor, Opcode, mask};
use crate::sync::{MutexGuard, lock, wait};

/// Messages from this size on go straight to the wire.
const DIRECT_SEND_MIN: usize = 64 * 1024;
/// How much of them a client masks and writes at once: each write wakes the peer. A multiple of four, for the mask, but not
/// of 4096, as in `ReadBuffer`.
const MASK_CHUNK: usize = 1024 * 1024 - 1120;

impl Connection {
    /// Sends one message; returns when it is written, or queued behind the one who is writing.
    pub fn send(&self, message: MessageRef<'_>, compress: bool) -> Result<()> {
        let deadline = self.send_deadline();
        let (kind, payload) = (message.kind(), message.as_bytes());
        log::trace!("sending {kind:?}, {} bytes", payload.len());
        if payload.len() >= DIRECT_SEND_MIN && !(compress && self.compresses(payload.len())) {
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
            if payload.len() >= DIRECT_SEND_MIN && !self.compresses(payload.len()) {
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
    ) -> Result<MutexGuard<'_, SendQueue>> {
        if compress && self.compresses(payload.len()) {
            return self.queue_compressed(deadline, |compressor, frame, mask| {
                compressor.message(frame, kind, payload, mask);
            });
        }
        let mut outgoing = self.wait_for_message_slot(deadline, SendQueue::has_room)?;
        outgoing.queue_message(kind, payload)?;
        Ok(outgoing)
    }

    fn queue_prepared(&self, prepared: &Prepared, deadline: &Deadline) -> Result<MutexGuard<'_, SendQueue>> {
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
        encode: impl FnOnce(&mut MessageCompressor, &mut Vec<u8>, Option<[u8; 4]>),
    ) -> Result<MutexGuard<'_, SendQueue>> {
        // The compressor's lock is held until the frame is queued: frames must go out in the order of its history. It is
        // not held while waiting, so whoever waited looks again.
        let (mask, mut compressor) = loop {
            drop(self.wait_for_message_slot(deadline, SendQueue::has_room)?);
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
        let mut outgoing = self.wait_for_message_slot(deadline, |outgoing| outgoing.writer.is_some())?;
        let mut writer = outgoing.writer.take().expect("waited for");
        let mask = match outgoing.fetch_with_header(&mut writer, kind, payload.len()) {
            Ok(mask) => mask,
            Err(error) => {
                drop(outgoing);
                return Err(self.sending_failed(writer, error));
            }
        };
        drop(outgoing);
        let written = match mask {
            Some(mask) => payload.chunks(MASK_CHUNK).try_for_each(|block| {
                mask::append(&mut writer.batch, block, mask);
                self.write_batch(&mut writer, deadline)?;
                writer.restart();
                Ok(())
            }),
            // What need not be masked need not be copied, but for the start, which goes out with the header.
            None => {
                let (start, rest) = payload.split_at(DIRECT_SEND_MIN);
                copy::append(&mut writer.batch, start);
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
    pub fn send_fragment(&self, part: Fragment, encoding: Encoding, payload: &[u8], deadline: &Deadline) -> Result<()> {
        let mut outgoing = self.wait_for_slot(deadline, SendQueue::has_room)?;
        if let (Encoding::Compressed, Some(compressor)) = (encoding, &self.compressing) {
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
        outgoing.is_streaming = part.fin == Fin::More;
        self.wake_senders(&outgoing);
        self.write_queued(outgoing, deadline)
    }

    /// Queues a ping, and sends it like a message.
    pub fn ping(&self, payload: &[u8]) -> Result<()> {
        let deadline = self.send_deadline();
        lock(&self.keepalive).ping_sent(payload, Instant::now());
        let mut outgoing = self.wait_for_slot(&deadline, SendQueue::has_room)?;
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

    /// As `wait_for_slot`, behind a message that is being sent in parts.
    #[inline]
    pub fn wait_for_message_slot(
        &self,
        deadline: &Deadline,
        is_there: impl Fn(&SendQueue) -> bool,
    ) -> Result<MutexGuard<'_, SendQueue>> {
        loop {
            let outgoing = self.wait_for_slot(deadline, &is_there)?;
            if !outgoing.is_streaming {
                return Ok(outgoing);
            }
            drop(self.wait_to_send(outgoing, deadline)?);
        }
    }

    /// Waits until `is_there` holds and nobody else has to go first.
    #[inline]
    pub fn wait_for_slot(
        &self,
        deadline: &Deadline,
        is_there: impl Fn(&SendQueue) -> bool,
    ) -> Result<MutexGuard<'_, SendQueue>> {
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
    fn check_sendable(&self, outgoing: &SendQueue) -> Result<()> {
        if let Some(failure) = &outgoing.failure {
            return Err(Error::new(ErrorKind::Closed, format!("sending has failed before: {failure}")));
        }
        if let Some(EndResult::Failed(error)) = self.end.get() {
            return Err(Error::new(ErrorKind::Closed, format!("cannot send: {error}")));
        }
        if outgoing.close_queued || self.end.get().is_some() || self.closed.get().is_some() {
            return Err(Error::new(ErrorKind::Closed, "cannot send: the connection is closing or closed"));
        }
        Ok(())
    }

    pub fn wait_to_send<'a>(
        &'a self,
        outgoing: MutexGuard<'a, SendQueue>,
        deadline: &Deadline,
    ) -> Result<MutexGuard<'a, SendQueue>> {
        let left = deadline.check("waiting for another thread's send")?;
        if let Some(EndResult::Failed(error)) = self.end.get() {
            return Err(error.clone());
        }
        Ok(self.wait_for_change(outgoing, left))
    }

    pub fn wait_for_change<'a>(
        &'a self,
        mut outgoing: MutexGuard<'a, SendQueue>,
        left: Option<Duration>,
    ) -> MutexGuard<'a, SendQueue> {
        outgoing.waiting += 1;
        let mut outgoing = wait(&self.sending_changed, outgoing, left);
        outgoing.waiting -= 1;
        outgoing
    }

    pub fn wake_senders(&self, outgoing: &SendQueue) {
        if outgoing.waiting > 0 {
            self.sending_changed.notify_all();
        }
    }

    /// The bound of a send: over each wait for the peer to take something.
    pub fn send_deadline(&self) -> Deadline {
        Deadline::renewed_by_progress("send_timeout", self.bounds.send_timeout)
    }
}
