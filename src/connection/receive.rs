//! Receiving: whoever is in a receiving call holds the read half, waits for the socket, and answers pings and closes as they
//! come.

use std::collections::VecDeque;
use std::str::Utf8Error;
use std::time::Duration;

use super::assembler::{Delivery, MessageAssembler};
use super::core::Core;
use super::keepalive::{KeepaliveAction, LineProgress};
use super::outcome::{CloseInfo, EndResult, Outcome};
use super::write::SendHalf;
use crate::close_code::CloseCode;
use crate::copy;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::protocol::{Decoder, FrameEvent, MessageKind, Sink, Violation, WholeMessage};
use crate::sync::{Arc, Condvar, Instant, Mutex, MutexGuard, ThreadId, bound, lock, this_thread, wait};
use crate::transport::{ReadState, Received};

/// Longest single socket wait, so that a receiver notices a changed keepalive or a begun close within 1 s.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How soon a receiver tries again to write what was left behind, where no thread is to be had for that.
const RETRY_WRITE: Duration = Duration::from_millis(20);
/// Idle time after which a grown read buffer is freed.
const KEEP_BUFFER: Duration = Duration::from_millis(100);

/// Size of a message from which reads bypass the buffer: below, copying costs less than it saves (benches/README.md).
const DIRECT_READ_MIN: usize = bound(1 << 20, 32);
/// How much is read at once past the buffer. Zeroing a step that stays in cache costs less than copying it.
const DIRECT_READ_STEP: usize = bound(64 * 1024, 32);

/// Time limit for writing a close frame that the caller did not ask for.
const CLOSE_WRITE_LIMIT: Duration = Duration::from_secs(1);
/// How many bytes of messages are kept for `recv` while the peer's close frame is waited for, also where the largest message
/// is smaller.
const MAX_KEPT_WHILE_CLOSING: usize = 1 << 20;

/// A call that never waits reads until the socket is empty, so that the socket's readiness tells when to call again. It stops
/// before that when so many reads have brought less than so much payload each: the peer floods it with control frames or
/// tiny fragments, which must not keep the call for long.
const READS_OF_A_POLL: usize = 4;
const PAYLOAD_OF_A_READ: usize = 1024;

/// The receiving half. It calls the sending half, for pongs and the answer to a close, and the core.
pub(crate) struct ReceiveHalf {
    pub send: Arc<SendHalf>,
    pub slot: Mutex<ReadSlot>,
    changed: Condvar,
    /// Who waits elsewhere for the end, such as for room in a queue of its own.
    watchers: Mutex<Vec<Watcher>>,
}

type Watcher = Arc<dyn Fn() + Send + Sync>;

/// Who holds the read half.
pub(crate) struct ReadSlot {
    holder: ReadHolder,
    /// How many threads wait for it.
    waiting: usize,
}

enum ReadHolder {
    /// Nobody: whoever receives takes it.
    Idle(Box<ReadHalf>),
    /// A receiving call of this thread, or a message in parts that it holds.
    Taken { by: ThreadId },
}

/// What receiving works on.
pub(crate) struct ReadHalf {
    incoming: ReadState,
    decoder: Decoder,
    pub assembler: MessageAssembler,
    /// What came while `close` was reading.
    pub backlog: VecDeque<Message>,
    /// The end of a message that came past the buffer; who read it takes it before the read half goes back.
    ended: Option<FrameEvent>,
    /// How many messages came while `close` was reading, and were too much to be kept.
    discarded: u64,
    /// Bytes came since the keepalive was looked at.
    has_moved: bool,
    /// The last of them are part of a TLS record that is not complete: no pong in it can be read yet.
    is_inside_record: bool,
}

/// The reads of the socket since a call of the program began.
#[derive(Default)]
pub(crate) struct Looks {
    reads: usize,
    /// A call whose deadline is over has seen what there is to see.
    may_stop: bool,
}

/// What one read of the socket found.
enum SocketWas {
    Empty,
    Read,
}

/// What reading came to.
pub(crate) enum Piece {
    /// Some of a message that is received in parts.
    Part,
    /// The message is complete.
    Whole(MessageKind),
}

/// Exclusive access to the read half; returned on drop, also while unwinding.
pub(crate) struct ReadGuard<'a> {
    half: &'a ReceiveHalf,
    reader: Option<Box<ReadHalf>>,
}

impl ReadSlot {
    pub fn new(reader: ReadHalf) -> ReadSlot {
        ReadSlot { holder: ReadHolder::Idle(Box::new(reader)), waiting: 0 }
    }
}

impl ReadHalf {
    pub fn new(incoming: ReadState, decoder: Decoder) -> ReadHalf {
        ReadHalf {
            incoming,
            decoder,
            assembler: MessageAssembler::new(),
            backlog: VecDeque::new(),
            ended: None,
            discarded: 0,
            has_moved: false,
            is_inside_record: false,
        }
    }

    /// The next event in the bytes at hand.
    fn next_event(&mut self, core: &Core) -> std::result::Result<Option<FrameEvent>, Violation> {
        if let Some(event) = self.ended.take() {
            return Ok(Some(event));
        }
        let (consumed, event) = self.decoder.next(self.incoming.plain.unread(), &mut self.assembler);
        self.incoming.plain.consume(consumed);
        core.note_received(consumed);
        event
    }
}

impl ReceiveHalf {
    pub fn new(send: Arc<SendHalf>, reader: ReadHalf) -> ReceiveHalf {
        ReceiveHalf {
            send,
            slot: Mutex::new(ReadSlot::new(reader)),
            changed: Condvar::new(),
            watchers: Mutex::new(Vec::new()),
        }
    }

    /// The next message, or how the connection ended.
    pub fn receive(&self, deadline: &Deadline) -> Result<Option<Message>> {
        let ready = self.ready_message(deadline, |kind, payload| {
            let mut bytes = Vec::new();
            copy::append(&mut bytes, payload);
            match kind {
                MessageKind::Binary => Ok(Message::Binary(bytes)),
                // Checked here, where it is aligned: that is faster for short text.
                MessageKind::Text => String::from_utf8(bytes).map(Message::Text).map_err(|error| error.utf8_error()),
            }
        });
        match ready? {
            Some(message) => {
                log::trace!("received {:?}, {} bytes", message.kind(), message.len());
                Ok(Some(message))
            }
            None => self.wait_for_message(deadline, Vec::new()),
        }
    }

    /// The same, into the caller's buffer, which is empty after an error.
    pub fn receive_into(&self, buffer: &mut Vec<u8>, deadline: &Deadline) -> Result<Option<MessageKind>> {
        buffer.clear();
        let ready = self.ready_message(deadline, |kind, payload| {
            copy::append(buffer, payload);
            if kind == MessageKind::Text {
                std::str::from_utf8(buffer)?;
            }
            Ok(kind)
        });
        match ready {
            Ok(Some(kind)) => {
                log::trace!("received {kind:?}, {} bytes", buffer.len());
                return Ok(Some(kind));
            }
            Ok(None) => {}
            Err(error) => {
                buffer.clear();
                return Err(error);
            }
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
        take: impl FnOnce(MessageKind, &[u8]) -> std::result::Result<T, Utf8Error>,
    ) -> Result<Option<T>> {
        let mut slot = lock(&self.slot);
        let ReadHolder::Idle(reader) = &mut slot.holder else { return Ok(None) };
        let ReadHalf { incoming, decoder, backlog, .. } = &mut **reader;
        if !backlog.is_empty() {
            return Ok(None);
        }
        match decoder.take_whole(incoming.plain.unread(), take) {
            WholeMessage::Absent => Ok(None),
            WholeMessage::Taken(consumed, payload, value) => {
                incoming.plain.consume(consumed);
                self.send.core.note_received(consumed);
                self.send.core.note_message_received(1, payload);
                Ok(Some(value))
            }
            WholeMessage::Violation(violation) => self.ready_violation(slot, violation, deadline),
        }
    }

    /// The message at hand is a violation. The read half stays taken until the end is set, so that no other thread waits for
    /// the socket meanwhile.
    #[cold]
    fn ready_violation<T>(
        &self,
        slot: MutexGuard<'_, ReadSlot>,
        violation: Violation,
        deadline: &Deadline,
    ) -> Result<Option<T>> {
        let _guard = self.take_reader(slot, deadline)?;
        self.violated(violation, deadline).result()
    }

    /// The next message, for which the socket may have to be waited for. `spare` is an allocation to put it in.
    #[inline(never)]
    fn wait_for_message(&self, deadline: &Deadline, spare: Vec<u8>) -> Result<Option<Message>> {
        let mut guard = self.take_reader(lock(&self.slot), deadline)?;
        let reader = guard.reader();
        if let Some(message) = reader.backlog.pop_front() {
            return Ok(Some(message));
        }
        reader.assembler.reuse(spare);
        self.read_message(reader, deadline, &mut Looks::default())
    }

    /// Reads until the peer's close frame is there or the connection has ended; what comes before it is kept for `recv`, up
    /// to a bound, and counted beyond it.
    pub fn receive_close(&self, deadline: &Deadline) -> Result<()> {
        let mut guard = self.take_reader(lock(&self.slot), deadline)?;
        let reader = guard.reader();
        let limit = MAX_KEPT_WHILE_CLOSING.max(self.send.core.config.max_message_size);
        let size = |message: &Message| message.len() + size_of::<Message>();
        let mut kept: usize = reader.backlog.iter().map(size).sum();
        let mut looks = Looks::default();
        while let Some(message) = self.read_message(reader, deadline, &mut looks)? {
            if reader.discarded > 0 || kept + size(&message) > limit {
                reader.discarded += 1;
            } else {
                kept += size(&message);
                reader.backlog.push_back(message);
            }
        }
        Ok(())
    }

    /// The error for what `close` could not keep.
    pub fn check_discarded(&self) -> Result<()> {
        let slot = lock(&self.slot);
        match &slot.holder {
            ReadHolder::Idle(reader) if reader.discarded > 0 => {
                let count = reader.discarded;
                let text = format!("closed, but {count} messages that came meanwhile were too much to keep for recv");
                Err(Error::new(ErrorKind::TooBig, text))
            }
            ReadHolder::Idle(_) | ReadHolder::Taken { .. } => Ok(()),
        }
    }

    /// Waits for the peer to end the TCP connection, and throws away what else it sends (RFC 6455 §7.1.1).
    pub fn receive_end(&self, deadline: &Deadline) {
        let Ok(mut guard) = self.take_reader(lock(&self.slot), deadline) else { return };
        // The read half goes back at once: others get from it what came before the close frame, and that this was the end.
        let mut incoming = std::mem::take(&mut guard.reader().incoming);
        drop(guard);
        while !deadline.is_over() {
            let unread = incoming.plain.unread().len();
            incoming.plain.consume(unread);
            match self.send.core.transport.read(&mut incoming, deadline.left()) {
                Ok(Received::End) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Waits for exclusive access. Also succeeds after the end: the backlog may hold messages.
    pub fn take_reader<'a>(&'a self, mut slot: MutexGuard<'a, ReadSlot>, deadline: &Deadline) -> Result<ReadGuard<'a>> {
        loop {
            match std::mem::replace(&mut slot.holder, ReadHolder::Taken { by: this_thread() }) {
                ReadHolder::Idle(reader) => return Ok(ReadGuard { half: self, reader: Some(reader) }),
                ReadHolder::Taken { by } => slot.holder = ReadHolder::Taken { by },
            }
            slot.check_not_own()?;
            // Whoever has it may keep it for long: a message that is received in parts.
            if let Some(EndResult::Failed(error)) = self.send.core.outcome.end() {
                return Err(error.clone());
            }
            let left = deadline.left();
            if left == Some(Duration::ZERO) {
                return Err(deadline.nothing_yet());
            }
            slot.waiting += 1;
            slot = wait(&self.changed, slot, left);
            slot.waiting -= 1;
        }
    }

    /// Refuses what would wait for this very thread.
    pub fn check_not_own_message(&self) -> Result<()> {
        lock(&self.slot).check_not_own()
    }

    fn read_message(&self, reader: &mut ReadHalf, deadline: &Deadline, looks: &mut Looks) -> Result<Option<Message>> {
        while let Some(piece) = self.read_piece(reader, Delivery::Whole, deadline, looks)? {
            if let Piece::Whole(kind) = piece {
                let message = reader.assembler.take();
                log::trace!("received {kind:?}, {} bytes", message.len());
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Reads until a message is complete, or has a part to fetch. `wanted` counts for the message under way, unless that is
    /// being discarded, and for the next one. `looks`: what the program's call has read so far: after the
    /// deadline the socket is looked at once, however much there is.
    pub fn read_piece(
        &self,
        reader: &mut ReadHalf,
        wanted: Delivery,
        deadline: &Deadline,
        looks: &mut Looks,
    ) -> Result<Option<Piece>> {
        if reader.assembler.delivery() != Delivery::Discard {
            self.set_delivery(reader, wanted);
        }
        let begun = reader.assembler.len();
        loop {
            match reader.next_event(&self.send.core) {
                Ok(Some(FrameEvent::Message(kind))) => match reader.assembler.delivery() {
                    Delivery::Discard => self.set_delivery(reader, wanted),
                    Delivery::Whole | Delivery::Parts { .. } => {
                        self.send.core.note_message_received(1, reader.assembler.len());
                        self.send.flush_what_fits();
                        return Ok(Some(Piece::Whole(kind)));
                    }
                },
                Ok(Some(FrameEvent::Close(frame))) => return self.close_received(frame, deadline).result(),
                Ok(Some(event)) => self.control_received(event),
                Err(violation) => return self.violated(violation, deadline).result(),
                Ok(None) if reader.assembler.has_part() => {
                    self.send.core.note_message_received(0, reader.assembler.len());
                    self.send.flush_what_fits();
                    return Ok(Some(Piece::Part));
                }
                Ok(None) => {
                    if let Some(end) = self.send.core.outcome.end() {
                        return end.result();
                    }
                    if looks.may_stop && deadline.is_over() {
                        // The pongs of what was met, too: the next call may be long in coming.
                        self.send.flush_what_fits();
                        return Err(deadline.nothing_yet());
                    }
                    let was = self.read_more(reader, deadline)?;
                    looks.reads += 1;
                    looks.may_stop = match was {
                        SocketWas::Empty => {
                            // Idle, unless this very call has read before.
                            if looks.reads == 1 || !deadline.is_poll() {
                                self.send.core.transport.release(&mut reader.incoming);
                            }
                            true
                        }
                        SocketWas::Read if !deadline.is_poll() => true,
                        SocketWas::Read => {
                            let payload = reader.assembler.len().saturating_sub(begun);
                            looks.reads >= READS_OF_A_POLL && payload < looks.reads * PAYLOAD_OF_A_READ
                        }
                    };
                }
            }
        }
    }

    /// Whole messages are within the limit; messages in parts have none.
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
    fn read_more(&self, reader: &mut ReadHalf, deadline: &Deadline) -> Result<SocketWas> {
        self.send.flush_what_fits();
        let action = self.keep_alive(reader);
        let wait = self.read_wait(reader, &action, deadline);
        match self.read_bytes(reader, wait) {
            Ok(Received::Bytes) => (reader.has_moved, reader.is_inside_record) = (true, false),
            Ok(Received::Partial) => (reader.has_moved, reader.is_inside_record) = (true, true),
            Ok(Received::TlsOutput) => lock(&self.send.queue).tls_output = true,
            Ok(Received::Nothing) => {
                self.nothing_received(&action, deadline)?;
                return Ok(SocketWas::Empty);
            }
            Ok(Received::End) => self.lost(reader, "the peer ended it without a close frame"),
            Err(error) => {
                // The alert, where it is TLS that found fault.
                lock(&self.send.queue).tls_output = self.send.core.transport.is_tls();
                self.send.flush_what_fits();
                self.lost(reader, &error.to_string());
            }
        }
        Ok(SocketWas::Read)
    }

    /// Looks at the keepalive, and pings when it is time to. Behind our close frame there are no pings; `close_timeout` is
    /// the bound then.
    fn keep_alive(&self, reader: &mut ReadHalf) -> KeepaliveAction {
        if lock(&self.send.queue).is_closing() {
            return KeepaliveAction::Wait(None);
        }
        let is_inside = reader.is_inside_record || reader.decoder.is_mid_frame();
        let is_receiving_frame = std::mem::take(&mut reader.has_moved) && is_inside;
        let progress = LineProgress { sent: self.send.core.sent(), is_receiving_frame };
        let action = lock(&self.send.core.keepalive).look(Instant::now(), progress);
        match action {
            KeepaliveAction::Ping(payload) => {
                self.send.queue_ping(&payload);
                self.send.flush_what_fits();
                lock(&self.send.core.keepalive).look(Instant::now(), progress)
            }
            KeepaliveAction::Wait(_) | KeepaliveAction::Dead(_) => action,
        }
    }

    /// How long the next read may wait.
    fn read_wait(&self, reader: &ReadHalf, action: &KeepaliveAction, deadline: &Deadline) -> Duration {
        let until_action = match action {
            KeepaliveAction::Wait(left) => *left,
            // The pong may lie unread.
            KeepaliveAction::Dead(_) | KeepaliveAction::Ping(_) => Some(Duration::ZERO),
        };
        let close_deadline = self.send.core.close_deadline().and_then(|deadline| deadline.left());
        let buffer = reader.incoming.is_large().then_some(KEEP_BUFFER);
        let retry = lock(&self.send.queue).needs_writer().then_some(RETRY_WRITE);
        let bounds = [until_action, deadline.left(), close_deadline, buffer, retry];
        bounds.into_iter().flatten().fold(LONGEST_WAIT, Duration::min)
    }

    /// A read found nothing: what was due is believed now.
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

    /// Reads from the socket once: into the buffer, or, what nothing needs to look at, past it into the message.
    fn read_bytes(&self, reader: &mut ReadHalf, wait: Duration) -> std::io::Result<Received> {
        let transport = &self.send.core.transport;
        let left = reader.decoder.direct_read_len().min(reader.assembler.room());
        let can_read_directly = left >= DIRECT_READ_STEP && transport.can_read_directly(&reader.incoming);
        match reader.assembler.binary_mut().filter(|_| can_read_directly) {
            // Not on the peer's word alone: room grows by what has come.
            Some(bytes) if bytes.len() >= DIRECT_READ_STEP && bytes.len() + left >= DIRECT_READ_MIN => {
                let before = bytes.len();
                make_room(bytes, left);
                let received = transport.read_directly(&mut reader.incoming, &mut bytes[before..], wait);
                let count = received.as_ref().map_or(0, |(_, count)| *count);
                bytes.truncate(before + count);
                self.send.core.note_received(count);
                reader.ended = reader.decoder.finish_direct_read(&mut bytes[before..]);
                received.map(|(received, _)| received)
            }
            Some(_) | None => transport.read(&mut reader.incoming, Some(wait)),
        }
    }

    // Ends.

    /// The peer's close frame is there: answers it unless this is the answer to ours, and ends this side.
    fn close_received(&self, frame: Option<(CloseCode, String)>, deadline: &Deadline) -> EndResult {
        let (code, reason) = match &frame {
            Some((code, reason)) => (Some(*code), reason.clone()),
            None => (None, String::new()),
        };
        let info = CloseInfo { code: code.unwrap_or(CloseCode::NO_STATUS_RECEIVED), reason: reason.clone() };
        log::debug!("the peer closed with {}", info.code);
        self.send.core.outcome.peer_closed(info);
        self.send_final_close(code, &reason, deadline);
        self.end_with(EndResult::Closed)
    }

    /// The peer broke the protocol: it is told by which code (RFC 6455 §7.1.7), and reading stops.
    fn violated(&self, violation: Violation, deadline: &Deadline) -> EndResult {
        if self.send.is_close_out() {
            log::debug!("the peer ended the connection after the close by breaking the protocol: {violation}");
            return self.end_with(EndResult::Closed);
        }
        log::warn!("the peer broke the protocol: {violation}");
        let code = violation.close_code();
        self.send_final_close(Some(code), "", deadline);
        self.end_with(EndResult::Failed(violation.into()))
    }

    /// Writes a close frame, if none was queued before, and ends this side behind it. The call takes no longer than `deadline`.
    fn send_final_close(&self, code: Option<CloseCode>, reason: &str, deadline: &Deadline) {
        use super::send_queue::CloseQueued;
        match self.send.queue_close(code, reason, self.send.core.new_close_deadline()) {
            CloseQueued::Before => return,
            CloseQueued::Now | CloseQueued::Failed(_) => {}
        }
        let length =
            self.send.core.config.close_timeout.map_or(CLOSE_WRITE_LIMIT, |bound| bound.min(CLOSE_WRITE_LIMIT));
        self.send.finish_writing_within(Deadline::after("close_timeout", Some(length)), deadline);
    }

    /// The connection ended without a close frame, which is never clean (RFC 6455 §7.1.5). After our close frame is out, it
    /// is an end like any other.
    fn lost(&self, reader: &ReadHalf, how: &str) {
        if self.send.is_close_out() {
            self.end_with(EndResult::Closed);
        } else {
            let place = if reader.decoder.is_mid_message() { "inside a message" } else { "between messages" };
            let text = format!("connection lost {place}: {how}");
            self.end_with(EndResult::Failed(Error::new(ErrorKind::Io, text)));
        }
        self.send.core.transport.shutdown();
    }

    fn peer_is_dead(&self, timeout: Duration) -> Error {
        let bound = lock(&self.send.core.keepalive).pong_bound();
        let text = format!("no pong came within {timeout:?} ({bound}): the connection was dropped");
        self.send.queue_close(Some(CloseCode::GOING_AWAY), "", self.send.core.new_close_deadline());
        self.send.try_flush();
        let end =
            self.end_with_code(EndResult::Failed(Error::new(ErrorKind::Unresponsive, text)), CloseCode::GOING_AWAY);
        self.send.core.transport.shutdown();
        match end {
            EndResult::Failed(error) => error,
            EndResult::Closed => Error::new(ErrorKind::Closed, "the connection is closed"),
        }
    }

    /// The closing handshake did not come to its end in time.
    pub fn close_failed(&self, error: &Error) {
        let text = format!("the closing handshake failed: {error}");
        self.end_with(EndResult::Failed(Error::new(ErrorKind::Io, text)));
        self.send.core.transport.shutdown();
    }

    /// Writes the end, unless there is one already, and wakes all who wait; returns the one that holds.
    pub fn end_with(&self, end: EndResult) -> EndResult {
        self.end_with_code(end, CloseCode::ABNORMAL_CLOSURE)
    }

    fn end_with_code(&self, end: EndResult, code: CloseCode) -> EndResult {
        if let EndResult::Failed(error) = &end {
            log::debug!("connection ended: {error}");
        }
        let outcome = &self.send.core.outcome;
        outcome.finish(end, code);
        // Passing through the locks makes sure that nobody is between looking at the outcome and starting to wait.
        drop(lock(&self.slot));
        self.changed.notify_all();
        self.send.wake_all();
        let watchers = lock(&self.watchers).clone();
        watchers.iter().for_each(|watcher| watcher());
        match outcome.get() {
            Outcome::Ended(end) => end.clone(),
            Outcome::Open | Outcome::PeerClosed => unreachable!("finished above"),
        }
    }

    /// Calls `watcher` when the end is written, perhaps more than once. It must not block.
    pub fn watch_end(&self, watcher: impl Fn() + Send + Sync + 'static) {
        lock(&self.watchers).push(Arc::new(watcher));
    }
}

/// Makes room for one step of a direct read: at most double what has come, as the peer may not send what it declared.
fn make_room(bytes: &mut Vec<u8>, left: usize) {
    let before = bytes.len();
    if bytes.capacity() - before < DIRECT_READ_STEP {
        bytes.reserve_exact(left.min(before));
    }
    bytes.resize(before + DIRECT_READ_STEP, 0);
}

impl ReadSlot {
    fn check_not_own(&self) -> Result<()> {
        match self.holder {
            ReadHolder::Taken { by } if by == this_thread() => Err(Error::new(
                ErrorKind::InvalidInput,
                "this thread holds a MessageReader of this connection: read it to its end and drop it first",
            )),
            ReadHolder::Taken { .. } | ReadHolder::Idle(_) => Ok(()),
        }
    }
}

impl<'a> ReadGuard<'a> {
    pub fn half(&self) -> &'a ReceiveHalf {
        self.half
    }

    pub fn reader(&mut self) -> &mut ReadHalf {
        self.reader.as_mut().expect("only taken by drop")
    }
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let mut slot = lock(&self.half.slot);
        slot.holder = ReadHolder::Idle(reader);
        if slot.waiting > 0 {
            self.half.changed.notify_all();
        }
    }
}
