//! From the socket to a message: reads of the socket, with the work that is due before each, and what the decoder makes of
//! them.

use std::time::Duration;

use super::{ReadHalf, ReceiveHalf};
use crate::connection::assembler::Delivery;
use crate::connection::core::Core;
use crate::connection::keepalive::{KeepaliveAction, LineProgress};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::protocol::{FrameEvent, MessageKind, Sink, Violation};
use crate::sync::{Instant, bound, lock, wall_clock};
use crate::transport::Received;

/// Longest single socket wait, so that a receiver notices a changed keepalive or a begun close within 1 s.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How soon a receiver tries again to write what was left behind, where the system gave no thread for that.
const RETRY_WRITE: Duration = Duration::from_millis(20);
/// Idle time after which a grown read buffer is freed.
const KEEP_BUFFER: Duration = Duration::from_millis(100);

/// Size of a message from which reads bypass the buffer: below, copying costs less than it saves (benches/README.md).
const DIRECT_READ_MIN: usize = bound(1 << 20, 32);
/// How much is read at once past the buffer. Zeroing a step that stays in cache costs less than copying it.
const DIRECT_READ_STEP: usize = bound(64 * 1024, 32);

/// A call that never waits reads until the socket is empty, so that the socket's readiness tells when to call again. It stops
/// earlier after at least `POLL_READS_MIN` reads that brought less than `POLL_PAYLOAD_PER_READ` bytes of payload each on
/// average: the peer floods it with control frames or tiny fragments, which must not keep the call for long.
const POLL_READS_MIN: usize = 4;
const POLL_PAYLOAD_PER_READ: usize = 1024;

/// How much one call of the program has read from the socket. A call reads at least once, also after its deadline: with
/// `recv_timeout(0)` or `try_recv` it finds what is there.
#[derive(Default)]
pub(crate) struct ReadsOfCall {
    count: usize,
    /// The call may end with "nothing yet" once its deadline is over.
    is_enough: bool,
}

/// What one read of the socket found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Something,
}

/// What reading came to.
pub(crate) enum Piece {
    /// Some of a message that is received in parts.
    Part,
    /// The message is complete.
    Whole(MessageKind),
}

impl ReadsOfCall {
    /// Notes one read. `payload`: the bytes that the reads of this call have added to the message so far.
    fn note(&mut self, found: Found, deadline: &Deadline, payload: usize) {
        self.count += 1;
        self.is_enough = match found {
            Found::Nothing => true,
            Found::Something if !deadline.is_poll() => true,
            Found::Something => self.count >= POLL_READS_MIN && payload < self.count * POLL_PAYLOAD_PER_READ,
        };
    }
}

impl ReadHalf {
    /// The next event in the bytes that were read.
    fn next_event(&mut self, core: &Core) -> std::result::Result<Option<FrameEvent>, Violation> {
        if let Some(event) = self.next.take() {
            return Ok(Some(event));
        }
        let (consumed, event) = self.decoder.next(self.incoming.plain.unread(), &mut self.assembler);
        self.incoming.plain.consume(consumed);
        core.note_received(consumed);
        event
    }
}

impl ReceiveHalf {
    /// Reads until a message is complete, or has a part to fetch. `wanted` holds for the message under way, unless that is
    /// being discarded, and for the next one. `reads`: what the program's call has read so far.
    pub fn read_piece(
        &self,
        reader: &mut ReadHalf,
        wanted: Delivery,
        deadline: &Deadline,
        reads: &mut ReadsOfCall,
    ) -> Result<Option<Piece>> {
        if reader.assembler.delivery() != Delivery::Discard {
            self.set_delivery(reader, wanted);
        }
        let begun = reader.assembler.len();
        loop {
            if let Some(share) = &self.send.core.memory {
                if let Err(end) = self.make_memory(share, reader, deadline) {
                    return end.result();
                }
            }
            match reader.next_event(&self.send.core) {
                Ok(Some(FrameEvent::Message(kind))) => match reader.assembler.delivery() {
                    Delivery::Discard => self.set_delivery(reader, wanted),
                    Delivery::Whole | Delivery::Parts { .. } => {
                        self.send.core.note_message_received(1, reader.assembler.len());
                        self.send.flush_what_fits();
                        return Ok(Some(Piece::Whole(kind)));
                    }
                },
                // What came of the message goes first.
                Ok(Some(close @ FrameEvent::Close(_))) if reader.assembler.has_part() => {
                    reader.next = Some(close);
                    return Ok(Some(self.part(reader)));
                }
                Ok(Some(FrameEvent::Close(frame))) => return self.close_received(frame, deadline).result(),
                Ok(Some(event)) => self.control_received(event),
                Err(violation) => return self.violated(violation, deadline).result(),
                Ok(None) if reader.assembler.has_part() => return Ok(Some(self.part(reader))),
                // There is room for more of it now, or the connection ends.
                Ok(None) if reader.assembler.needs_more() => {}
                Ok(None) => {
                    if let Some(end) = self.send.core.outcome.end() {
                        return end.result();
                    }
                    if reads.is_enough && deadline.is_over() {
                        // Pongs for the pings that were read: the next call may be long in coming.
                        self.send.flush_what_fits();
                        return Err(deadline.nothing_yet());
                    }
                    self.let_buffers_grow(reader);
                    let found = self.read_more(reader, deadline)?;
                    reads.note(found, deadline, reader.assembler.len().saturating_sub(begun));
                    // Nothing came to a call that waits, or to the first read of one that does not: the line is idle.
                    if found == Found::Nothing && (reads.count == 1 || !deadline.is_poll()) {
                        self.release_buffers(reader);
                    }
                }
            }
        }
    }

    /// There is a part to fetch.
    fn part(&self, reader: &ReadHalf) -> Piece {
        self.send.core.note_message_received(0, reader.assembler.len());
        self.send.flush_what_fits();
        Piece::Part
    }

    /// Sets how messages are handed out. `max_message_size` bounds only those that are handed out whole.
    pub fn set_delivery(&self, reader: &mut ReadHalf, delivery: Delivery) {
        let limit = match delivery {
            Delivery::Whole => self.send.core.config.max_message_size as u64,
            Delivery::Parts { .. } | Delivery::Discard => u64::MAX,
        };
        reader.assembler.set_delivery(delivery);
        reader.decoder.set_max_message_size(limit);
    }

    fn control_received(&self, event: FrameEvent) {
        match event {
            FrameEvent::Ping(payload) => {
                log::trace!("received a ping, {} bytes", payload.len());
                lock(&self.send.queue).queue_pong(payload);
            }
            FrameEvent::Pong(payload) => {
                log::trace!("received a pong, {} bytes", payload.len());
                lock(&self.send.core.keepalive).pong_received(&payload, Instant::now());
            }
            FrameEvent::Message(_) | FrameEvent::Close(_) => {}
        }
    }

    /// Performs due work (flush, keepalive), then one socket read.
    fn read_more(&self, reader: &mut ReadHalf, deadline: &Deadline) -> Result<Found> {
        self.send.flush_what_fits();
        let action = self.keep_alive(reader);
        let wait = self.read_wait(reader, &action, deadline);
        match self.read_bytes(reader, wait) {
            Ok(Received::Bytes) => (reader.has_moved, reader.is_inside_record) = (true, false),
            Ok(Received::Partial) => (reader.has_moved, reader.is_inside_record) = (true, true),
            Ok(Received::TlsOutput) => lock(&self.send.queue).tls_output = true,
            Ok(Received::Nothing) => {
                self.nothing_received(&action, deadline)?;
                return Ok(Found::Nothing);
            }
            Ok(Received::End) => self.lost(reader, "the peer ended it without a close frame", deadline),
            Err(error) => {
                // If TLS has failed, there is an alert to write.
                lock(&self.send.queue).tls_output = self.send.core.transport.is_tls();
                self.send.flush_what_fits();
                self.lost(reader, &error.to_string(), deadline);
            }
        }
        Ok(Found::Something)
    }

    /// Checks the keepalive, and queues a ping when one is due. After our close frame there are no pings: `close_timeout`
    /// bounds the connection then.
    fn keep_alive(&self, reader: &mut ReadHalf) -> KeepaliveAction {
        if lock(&self.send.queue).is_closing() {
            return KeepaliveAction::Wait(None);
        }
        let is_inside = reader.is_inside_record || reader.decoder.is_mid_frame();
        let is_receiving_frame = std::mem::take(&mut reader.has_moved) && is_inside;
        let progress = LineProgress { sent: self.send.core.sent(), is_receiving_frame };
        let action = lock(&self.send.core.keepalive).look(Instant::now(), wall_clock, progress);
        match action {
            KeepaliveAction::Ping(payload) => {
                self.send.queue_ping(&payload);
                self.send.flush_what_fits();
                lock(&self.send.core.keepalive).look(Instant::now(), wall_clock, progress)
            }
            KeepaliveAction::Wait(_) | KeepaliveAction::Dead(_) => action,
        }
    }

    /// How long the next read may wait.
    fn read_wait(&self, reader: &ReadHalf, action: &KeepaliveAction, deadline: &Deadline) -> Duration {
        let until_action = match action {
            KeepaliveAction::Wait(left) => *left,
            // The pong may have come and not be read.
            KeepaliveAction::Dead(_) | KeepaliveAction::Ping(_) => Some(Duration::ZERO),
        };
        let close_deadline = self.send.core.close_deadline().and_then(|deadline| deadline.left());
        let buffer = reader.incoming.is_large().then_some(KEEP_BUFFER);
        let retry = lock(&self.send.queue).needs_writer().then_some(RETRY_WRITE);
        let bounds = [until_action, deadline.left(), close_deadline, buffer, retry];
        bounds.into_iter().flatten().fold(LONGEST_WAIT, Duration::min)
    }

    /// A read found nothing, so no pong and no close frame wait to be read: a bound that is over ends the connection.
    fn nothing_received(&self, action: &KeepaliveAction, deadline: &Deadline) -> Result<()> {
        if let KeepaliveAction::Dead(timeout) = action {
            return Err(self.peer_is_dead(*timeout));
        }
        let close_deadline = self.send.core.close_deadline();
        if let Some(close_deadline) = close_deadline.filter(|close| close.is_over() && !deadline.is_over()) {
            let error = close_deadline.error("waiting for the peer to answer the close");
            self.close_failed(&error);
        }
        Ok(())
    }

    /// Reads from the socket once: into the buffer, or past it into a large binary message.
    fn read_bytes(&self, reader: &mut ReadHalf, wait: Duration) -> std::io::Result<Received> {
        let transport = &self.send.core.transport;
        let left = reader.decoder.direct_read_len().min(reader.assembler.room());
        let can_read_directly = left >= DIRECT_READ_STEP && transport.can_read_directly(&reader.incoming);
        match reader.assembler.binary_mut().filter(|_| can_read_directly) {
            // Only behind bytes that have come: a declared length alone allocates nothing.
            Some(bytes) if bytes.len() >= DIRECT_READ_STEP && bytes.len().saturating_add(left) >= DIRECT_READ_MIN => {
                let before = bytes.len();
                make_room(bytes, left);
                let received = transport.read_directly(&mut reader.incoming, &mut bytes[before..], wait);
                let count = received.as_ref().map_or(0, |(_, count)| *count);
                bytes.truncate(before + count);
                self.send.core.note_received(count);
                reader.next = reader.decoder.finish_direct_read(&mut bytes[before..]);
                received.map(|(received, _)| received)
            }
            Some(_) | None => transport.read(&mut reader.incoming, Some(wait)),
        }
    }
}

/// Makes room for one step of a direct read: at most double what has come, as the peer may never send the declared length.
fn make_room(bytes: &mut Vec<u8>, left: usize) {
    let before = bytes.len();
    if bytes.capacity() - before < DIRECT_READ_STEP {
        bytes.reserve_exact(left.min(before));
    }
    bytes.resize(before + DIRECT_READ_STEP, 0);
}
