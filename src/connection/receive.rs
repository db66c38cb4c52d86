//! The way in: whoever is in `recv` holds the reader, waits for the socket, and sees to pings and closes as they come.

use std::collections::VecDeque;
use std::str::Utf8Error;
use std::time::{Duration, Instant};

use super::keepalive::KeepaliveAction;
use super::{Connection, EndResult};
use crate::close_code::CloseCode;
use crate::copy;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::protocol::{Decoder, FrameEvent, Kind, Sink, Violation, WholeMessage};
use crate::sync::{MutexGuard, lock, wait};
use crate::transport::{ReadState, Received};

/// The longest wait for the socket in one go: after it the reader looks whether the keepalive was
/// changed meanwhile, or something was left to write.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How soon the reader tries again to write a pong that the socket did not take.
const RETRY_WRITE: Duration = Duration::from_millis(20);
/// How long a large read buffer is kept while nothing comes.
const KEEP_BUFFER: Duration = Duration::from_millis(100);

/// What is worth reading past the buffer, and how much of it is read at once: zeroing what stays in the cache costs less
/// than copying it.
const DIRECT_READ_MIN: usize = 64 * 1024;

/// Where the reader sits while nobody receives.
pub(crate) struct ReadSlot {
    reader: Option<Box<ReadHalf>>,
    waiting: usize,
}

pub(crate) struct ReadHalf {
    incoming: ReadState,
    pub inbound: Decoder,
    pub message: MessageAssembler,
    /// What came while `close` was reading.
    pub backlog: VecDeque<Message>,
    /// The end of a message that came past the buffer; who read it takes it before the reader goes back.
    ended: Option<FrameEvent>,
}

/// The message under way.
pub(crate) struct MessageAssembler {
    pub message: Message,
    /// An allocation to assemble the next message in.
    spare: Vec<u8>,
    /// How much is assembled before it has to be fetched: no bound but for a message that is streamed.
    pub most: usize,
    /// The rest of a streamed message that nobody wants.
    pub is_discarding: bool,
}

/// What reading came to.
pub(crate) enum Piece {
    /// Some of a message that is streamed.
    Part,
    /// The message is complete.
    Whole(Kind),
}

/// The reader, taken out of its seat; goes back when dropped, also by a panic.
pub(crate) struct ReadGuard<'a> {
    connection: &'a Connection,
    reader: Option<Box<ReadHalf>>,
}

impl ReadSlot {
    pub fn new(reader: ReadHalf) -> ReadSlot {
        ReadSlot { reader: Some(Box::new(reader)), waiting: 0 }
    }
}

impl ReadHalf {
    pub fn new(incoming: ReadState, inbound: Decoder) -> ReadHalf {
        ReadHalf { incoming, inbound, message: MessageAssembler::default(), backlog: VecDeque::new(), ended: None }
    }

    /// The next event in the bytes at hand.
    fn next_event(&mut self) -> std::result::Result<Option<FrameEvent>, Violation> {
        if let Some(event) = self.ended.take() {
            return Ok(Some(event));
        }
        let (consumed, event) = self.inbound.next(self.incoming.plain.unread(), &mut self.message);
        self.incoming.plain.consume(consumed);
        event
    }
}

impl Default for MessageAssembler {
    fn default() -> MessageAssembler {
        MessageAssembler {
            message: Message::Binary(Vec::new()),
            spare: Vec::new(),
            most: usize::MAX,
            is_discarding: false,
        }
    }
}

impl MessageAssembler {
    /// All that is there; of a part, the message's kind stays.
    pub fn take_part(&mut self) -> Message {
        match &mut self.message {
            Message::Text(text) => Message::Text(std::mem::take(text)),
            Message::Binary(bytes) => Message::Binary(std::mem::take(bytes)),
        }
    }

    /// Where the bytes of a binary message go, if they are wanted.
    fn bytes(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.message {
            Message::Binary(bytes) if !self.is_discarding => Some(bytes),
            _ => None,
        }
    }

    pub fn take(&mut self) -> Message {
        std::mem::replace(&mut self.message, Message::Binary(Vec::new()))
    }
}

impl Sink for MessageAssembler {
    #[inline]
    fn begin(&mut self, kind: Kind, likely: usize) {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve_exact(likely.min(self.most));
        self.message = match kind {
            // Empty, so that there is nothing to look at and no error.
            Kind::Text => Message::Text(String::from_utf8(bytes).unwrap_or_default()),
            Kind::Binary => Message::Binary(bytes),
        };
    }

    #[inline]
    fn text(&mut self, chunk: &str) {
        match &mut self.message {
            _ if self.is_discarding => {}
            Message::Text(text) => copy::append_text(text, chunk),
            Message::Binary(_) => {}
        }
    }

    #[inline]
    fn binary(&mut self, chunk: &[u8]) {
        match &mut self.message {
            _ if self.is_discarding => {}
            Message::Binary(bytes) => copy::append(bytes, chunk),
            Message::Text(_) => {}
        }
    }

    fn room(&self) -> usize {
        self.most.saturating_sub(self.message.len())
    }
}

impl Connection {
    /// The next message, or how the connection ended.
    pub fn receive(&self, deadline: &Deadline) -> Result<Option<Message>> {
        let ready = self.ready_message(deadline, |kind, payload| {
            let mut bytes = Vec::new();
            copy::append(&mut bytes, payload);
            match kind {
                Kind::Binary => Ok(Message::Binary(bytes)),
                // Looked at here, where it is aligned: that is faster for short text.
                Kind::Text => String::from_utf8(bytes).map(Message::Text).map_err(|error| error.utf8_error()),
            }
        })?;
        match ready {
            Some(message) => {
                log::trace!("received {:?}, {} bytes", message.kind(), message.len());
                Ok(Some(message))
            }
            None => self.wait_for_message(deadline, Vec::new()),
        }
    }

    /// The same, into the caller's buffer.
    pub fn receive_into(&self, buffer: &mut Vec<u8>, deadline: &Deadline) -> Result<Option<Kind>> {
        buffer.clear();
        let ready = self.ready_message(deadline, |kind, payload| {
            copy::append(buffer, payload);
            if kind == Kind::Text {
                std::str::from_utf8(buffer)?;
            }
            Ok(kind)
        });
        if ready.is_err() {
            buffer.clear();
        }
        if let Some(kind) = ready? {
            log::trace!("received {kind:?}, {} bytes", buffer.len());
            return Ok(Some(kind));
        }
        let message = self.wait_for_message(deadline, std::mem::take(buffer))?;
        Ok(message.map(|message| {
            let kind = message.kind();
            *buffer = message.into_bytes();
            kind
        }))
    }

    /// Hands a message that needs no system call to `take`, if the bytes at hand hold one.
    #[inline]
    fn ready_message<T>(
        &self,
        deadline: &Deadline,
        take: impl FnOnce(Kind, &[u8]) -> std::result::Result<T, Utf8Error>,
    ) -> Result<Option<T>> {
        let mut seat = lock(&self.receiving);
        let Some(reader) = &mut seat.reader else { return Ok(None) };
        let ReadHalf { incoming, inbound, backlog, .. } = &mut **reader;
        if !backlog.is_empty() {
            return Ok(None);
        }
        match inbound.take_whole(incoming.plain.unread(), take) {
            WholeMessage::Absent => Ok(None),
            WholeMessage::Taken(consumed, value) => {
                incoming.plain.consume(consumed);
                Ok(Some(value))
            }
            WholeMessage::Violation(violation) => self.ready_violation(seat, violation, deadline),
        }
    }

    /// The message at hand is a violation. The read half stays taken until the end is set, so that no other thread
    /// waits for the socket meanwhile.
    #[cold]
    fn ready_violation<T>(
        &self,
        mut seat: MutexGuard<'_, ReadSlot>,
        violation: Violation,
        deadline: &Deadline,
    ) -> Result<Option<T>> {
        let _guard = ReadGuard { connection: self, reader: seat.reader.take() };
        drop(seat);
        self.violated(violation, deadline).result()
    }

    /// The next message, for which the socket may have to be waited for. `spare` is an allocation to put it in.
    #[inline(never)]
    fn wait_for_message(&self, deadline: &Deadline, spare: Vec<u8>) -> Result<Option<Message>> {
        let mut taken = self.take_reader(lock(&self.receiving), deadline)?;
        let reader = taken.reader();
        if let Some(message) = reader.backlog.pop_front() {
            return Ok(Some(message));
        }
        reader.message.spare = spare;
        self.read_message(reader, deadline)
    }

    /// Reads until the peer's close frame is there or the connection has ended; what comes before it is kept for `recv`.
    pub fn receive_close(&self, deadline: &Deadline) -> Result<()> {
        let mut taken = self.take_reader(lock(&self.receiving), deadline)?;
        let reader = taken.reader();
        let mut kept: usize = reader.backlog.iter().map(Message::len).sum();
        while let Some(message) = self.read_message(reader, deadline)? {
            kept = kept.saturating_add(message.len() + size_of::<Message>());
            if kept > self.bounds.max_message_size {
                log::warn!("dropped a message of {} bytes that came while closing", message.len());
            } else {
                reader.backlog.push_back(message);
            }
            deadline.check("the peer keeps sending messages")?;
        }
        Ok(())
    }

    /// Waits for the peer to end the TCP connection, and throws away what else it sends (RFC 6455 §7.1.1).
    pub fn receive_end(&self, deadline: &Deadline) {
        let Ok(mut taken) = self.take_reader(lock(&self.receiving), deadline) else { return };
        // The reader goes back at once: others get from it what came before the close frame, and that this was the end.
        let mut incoming = std::mem::take(&mut taken.reader().incoming);
        drop(taken);
        while !deadline.is_over() {
            let unread = incoming.plain.unread().len();
            incoming.plain.consume(unread);
            match self.transport.read(&mut incoming, deadline.left()) {
                Ok(Received::End) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Takes the reader, waiting for whoever has it. It is to be had after the end, too: the backlog may hold messages.
    pub fn take_reader<'a>(&'a self, mut seat: MutexGuard<'a, ReadSlot>, deadline: &Deadline) -> Result<ReadGuard<'a>> {
        loop {
            if let Some(reader) = seat.reader.take() {
                return Ok(ReadGuard { connection: self, reader: Some(reader) });
            }
            // Whoever has it may keep it for long: a message that is read in parts.
            if let Some(EndResult::Failed(error)) = self.end.get() {
                return Err(error.clone());
            }
            let left = deadline.check("no message came (another thread is receiving)")?;
            seat.waiting += 1;
            seat = wait(&self.receiving_changed, seat, left);
            seat.waiting -= 1;
        }
    }

    fn read_message(&self, reader: &mut ReadHalf, deadline: &Deadline) -> Result<Option<Message>> {
        while let Some(piece) = self.read_piece(reader, deadline)? {
            if let Piece::Whole(kind) = piece {
                let message = reader.message.take();
                log::trace!("received {kind:?}, {} bytes", message.len());
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Reads until a message is complete, or has a part to fetch.
    pub fn read_piece(&self, reader: &mut ReadHalf, deadline: &Deadline) -> Result<Option<Piece>> {
        let mut has_looked = false;
        loop {
            match reader.next_event() {
                Ok(Some(FrameEvent::Message(_))) if reader.message.is_discarding => {
                    reader.message.is_discarding = false;
                    // Unless the next one is wanted in parts, too.
                    if reader.message.most == usize::MAX {
                        self.end_streaming(reader);
                    }
                }
                Ok(Some(FrameEvent::Message(kind))) => {
                    self.flush_what_fits();
                    return Ok(Some(Piece::Whole(kind)));
                }
                Ok(Some(FrameEvent::Ping(payload))) => {
                    log::trace!("received a ping, {} bytes", payload.len());
                    lock(&self.sending).queue_pong(payload);
                }
                Ok(Some(FrameEvent::Pong(payload))) => {
                    log::trace!("received a pong, {} bytes", payload.len());
                    lock(&self.keepalive).pong_received(&payload, Instant::now());
                }
                Ok(Some(FrameEvent::Close(frame))) => return self.close_received(frame, deadline).result(),
                Err(violation) => return self.violated(violation, deadline).result(),
                Ok(None) if reader.message.most < usize::MAX && !reader.message.message.is_empty() => {
                    self.flush_what_fits();
                    return Ok(Some(Piece::Part));
                }
                Ok(None) => {
                    if let Some(end) = self.end.get() {
                        return end.result();
                    }
                    if has_looked && deadline.is_over() {
                        // The pongs of what was met, too: the next call may be long in coming.
                        self.flush_what_fits();
                        return Err(deadline.error("no message came"));
                    }
                    has_looked = self.read_more(reader, deadline)?;
                }
            }
        }
    }

    /// Reads once, when the bytes at hand are used up; sees to what is due meanwhile. Returns whether it looked at the
    /// socket.
    fn read_more(&self, reader: &mut ReadHalf, deadline: &Deadline) -> Result<bool> {
        self.flush_what_fits();
        let turn = lock(&self.keepalive).turn(Instant::now());
        let until_turn = match &turn {
            KeepaliveAction::Wait(left) => *left,
            KeepaliveAction::Ping(payload) => {
                self.queue_ping(payload);
                self.flush_what_fits();
                lock(&self.keepalive).interval()
            }
            // The pong may lie unread.
            KeepaliveAction::Dead(_) => Some(Duration::ZERO),
        };
        let mut wait = LONGEST_WAIT;
        if reader.incoming.is_large() {
            wait = wait.min(KEEP_BUFFER);
        }
        let needs_writer = lock(&self.sending).needs_writer();
        if needs_writer {
            wait = wait.min(RETRY_WRITE);
        }
        for left in [until_turn, deadline.left()].into_iter().flatten() {
            wait = wait.min(left);
        }
        match self.read_bytes(reader, wait) {
            Ok(Received::Bytes | Received::Partial) => {}
            Ok(Received::TlsOutput) => lock(&self.sending).tls_output = true,
            Ok(Received::Nothing) => {
                if let KeepaliveAction::Dead(interval) = turn {
                    return Err(self.peer_is_dead(interval));
                }
                self.transport.release(&mut reader.incoming);
            }
            Ok(Received::End) => {
                return self.lost(reader, "the peer ended it without a close frame").result().map(|_: Option<()>| true);
            }
            Err(error) => {
                // The alert, where it is TLS that found fault.
                lock(&self.sending).tls_output = self.transport.is_tls();
                self.flush_what_fits();
                return self.lost(reader, &error.to_string()).result().map(|_: Option<()>| true);
            }
        }
        Ok(true)
    }

    /// Reads from the socket once: into the buffer, or, what nothing needs to look at, past it into the message.
    fn read_bytes(&self, reader: &mut ReadHalf, wait: Duration) -> std::io::Result<Received> {
        let ReadHalf { incoming, inbound, message, ended, .. } = reader;
        let left = inbound.direct_read_len().min(message.room());
        match message.bytes() {
            // Not on the peer's word alone: room grows by what has come.
            Some(bytes)
                if left >= DIRECT_READ_MIN
                    && bytes.len() >= DIRECT_READ_MIN
                    && self.transport.can_read_directly(incoming) =>
            {
                let before = bytes.len();
                if bytes.capacity() - before < DIRECT_READ_MIN {
                    bytes.reserve_exact(left.min(before));
                }
                bytes.resize(before + DIRECT_READ_MIN, 0);
                let received = self.transport.read_directly(incoming, &mut bytes[before..], wait);
                let count = received.as_ref().map_or(0, |(_, count)| *count);
                bytes.truncate(before + count);
                *ended = inbound.finish_direct_read(&mut bytes[before..]);
                received.map(|(received, _)| received)
            }
            _ => self.transport.read(incoming, Some(wait)),
        }
    }

    /// The connection ended without a close frame, which is never clean (RFC 6455 §7.1.5).
    fn lost(&self, reader: &ReadHalf, how: &str) -> &EndResult {
        let place = if reader.inbound.is_mid_message() { "inside a message" } else { "between messages" };
        let end =
            self.end_with(EndResult::Failed(Error::new(ErrorKind::Io, format!("connection lost {place}: {how}"))));
        self.transport.shutdown();
        end
    }

    fn peer_is_dead(&self, interval: Duration) -> Error {
        let text = format!("no pong came within {interval:?} (ping_interval): the connection was dropped");
        let _ = self.closed.set((CloseCode::GOING_AWAY, String::new()));
        self.queue_close(Some(CloseCode::GOING_AWAY), "");
        self.flush_what_fits();
        let end = self.end_with(EndResult::Failed(Error::new(ErrorKind::Timeout, text)));
        self.transport.shutdown();
        end.result::<()>().err().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the connection is closed"))
    }
}

impl<'a> ReadGuard<'a> {
    pub fn connection(&self) -> &'a Connection {
        self.connection
    }

    pub fn reader(&mut self) -> &mut ReadHalf {
        self.reader.as_mut().expect("only taken by drop")
    }
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        let mut seat = lock(&self.connection.receiving);
        seat.reader = self.reader.take();
        if seat.waiting > 0 {
            self.connection.receiving_changed.notify_all();
        }
    }
}
