//! Receiving calls, and who holds the read half. The thread in a receiving call takes the read half, waits for the socket,
//! and answers pings and closes as they come.
//!
//! - This file: the calls, the slot of the read half, and the shortcut for a message that lies in the buffer.
//! - `receive/reading.rs`: from the socket to a message.
//! - `receive/memory.rs`: what the read half holds of a server's memory.
//! - `receive/ending.rs`: how a connection ends, and who is woken by that.

mod ending;
mod memory;
mod reading;

use std::collections::VecDeque;
use std::str::Utf8Error;
use std::time::Duration;

use super::assembler::{Delivery, MessageAssembler};
use super::outcome::EndResult;
use super::write::SendHalf;
use crate::copy;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::protocol::{Decoder, FrameEvent, MessageKind, Violation, WholeMessage};
use crate::statistics::Traffic;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, ThreadId, lock, this_thread, wait};
use crate::transport::{ReadState, Received};
use memory::{ReadMemory, size};
pub(crate) use reading::{Piece, ReadsOfCall};

/// While `close` waits for the peer's close frame, messages are kept for `recv`: so many bytes, or one message of
/// `max_message_size` where that is more.
const MAX_KEPT_WHILE_CLOSING: usize = 1 << 20;

/// The receiving half. It calls the sending half, for pongs and the answer to a close, and the core.
pub(crate) struct ReceiveHalf {
    pub send: Arc<SendHalf>,
    pub slot: Mutex<ReadSlot>,
    changed: Condvar,
    /// Called at the end, for threads that wait for it elsewhere, such as for room in a queue of events.
    watchers: Mutex<Vec<Watcher>>,
}

type Watcher = Arc<dyn Fn() + Send + Sync>;

/// Who holds the read half.
pub(crate) struct ReadSlot {
    holder: ReadHolder,
    /// How many threads wait for the read half.
    waiting: usize,
    /// `ReadHalf::discarded`, as it was when the read half was returned last.
    discarded: u64,
    /// The messages that were taken from the buffer under this lock. The others are counted in `Core`.
    received: Traffic,
}

enum ReadHolder {
    /// Nobody: the next receiving call takes it.
    Idle(Box<ReadHalf>),
    /// A receiving call of this thread, or a message in parts that it holds.
    Taken { by: ThreadId },
}

/// What a receiving call works on.
pub(crate) struct ReadHalf {
    incoming: ReadState,
    decoder: Decoder,
    pub assembler: MessageAssembler,
    /// What came while `close` was reading.
    pub backlog: VecDeque<Message>,
    /// The next event, if it is known: the end of a message of which the last bytes were read past the buffer, which the same call
    /// takes; or a close frame behind a part of a message.
    next: Option<FrameEvent>,
    /// How many messages came while `close` was reading, and were more than is kept.
    discarded: u64,
    /// Bytes have come since the last check of the keepalive.
    has_moved: bool,
    /// The last of these bytes are part of an incomplete TLS record: a pong in it cannot be read yet.
    is_inside_record: bool,
    memory: ReadMemory,
}

/// Exclusive access to the read half; returned on drop, also while unwinding.
pub(crate) struct ReadGuard<'a> {
    half: &'a ReceiveHalf,
    reader: Option<Box<ReadHalf>>,
}

impl ReadSlot {
    pub fn new(reader: ReadHalf) -> ReadSlot {
        ReadSlot { holder: ReadHolder::Idle(Box::new(reader)), waiting: 0, discarded: 0, received: Traffic::default() }
    }
}

impl ReadHalf {
    pub fn new(incoming: ReadState, decoder: Decoder) -> ReadHalf {
        ReadHalf {
            incoming,
            decoder,
            assembler: MessageAssembler::new(),
            backlog: VecDeque::new(),
            next: None,
            discarded: 0,
            has_moved: false,
            is_inside_record: false,
            memory: ReadMemory::default(),
        }
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
            let bytes = copy::to_vec(payload);
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

    /// Hands a message that needs no system call to `take`, if one lies completely in the buffer.
    #[inline]
    fn ready_message<T>(
        &self,
        deadline: &Deadline,
        take: impl FnOnce(MessageKind, &[u8]) -> std::result::Result<T, Utf8Error>,
    ) -> Result<Option<T>> {
        let mut guard = lock(&self.slot);
        let ReadSlot { holder: ReadHolder::Idle(reader), received, .. } = &mut *guard else { return Ok(None) };
        let ReadHalf { incoming, decoder, backlog, .. } = &mut **reader;
        if !backlog.is_empty() {
            return Ok(None);
        }
        match decoder.take_whole(incoming.plain.unread(), take) {
            WholeMessage::Absent => Ok(None),
            WholeMessage::Taken(consumed, payload, value) => {
                incoming.plain.consume(consumed);
                received.messages += 1;
                received.payload_bytes += payload as u64;
                received.wire_bytes += consumed as u64;
                Ok(Some(value))
            }
            WholeMessage::Violation(violation) => self.ready_violation(guard, violation, deadline),
        }
    }

    /// The message in the buffer is a violation. The read half stays taken until the end is set, so that no other thread
    /// waits for the socket meanwhile.
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

    /// The next message, waiting for the socket if necessary. `spare` is an allocation to put it in.
    #[inline(never)]
    fn wait_for_message(&self, deadline: &Deadline, spare: Vec<u8>) -> Result<Option<Message>> {
        let mut guard = self.take_reader(lock(&self.slot), deadline)?;
        let reader = guard.reader();
        if let Some(message) = reader.backlog.pop_front() {
            return Ok(Some(message));
        }
        reader.assembler.reuse(spare);
        self.read_message(reader, deadline, &mut ReadsOfCall::default())
    }

    /// Reads until the peer's close frame is there or the connection has ended. Messages that come before it are kept for
    /// `recv` up to a bound, and only counted beyond it.
    pub fn receive_close(&self, deadline: &Deadline) -> Result<()> {
        let mut guard = self.take_reader(lock(&self.slot), deadline)?;
        let reader = guard.reader();
        let limit = MAX_KEPT_WHILE_CLOSING.max(self.send.core.config.max_message_size);
        let mut kept: usize = reader.backlog.iter().map(size).sum();
        let mut reads = ReadsOfCall::default();
        while let Some(message) = self.read_message(reader, deadline, &mut reads)? {
            if reader.discarded > 0 || kept + size(&message) > limit || !self.may_keep(reader, &message) {
                reader.discarded += 1;
            } else {
                kept += size(&message);
                reader.backlog.push_back(message);
            }
        }
        Ok(())
    }

    /// The error if messages came that `close` could not keep, whichever thread has read them.
    pub fn check_discarded(&self) -> Result<()> {
        match lock(&self.slot).discarded {
            0 => Ok(()),
            count => {
                let text = format!("closed, but {count} messages that came meanwhile were too much to keep for recv");
                Err(Error::new(ErrorKind::TooBig, text))
            }
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
            // The holder may keep it for long: it may be a message that is received in parts.
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

    /// What was received.
    pub fn received(&self) -> Traffic {
        let mut received = lock(&self.slot).received;
        received += self.send.core.received();
        received
    }

    /// Fails where this thread itself holds the read half, so that a wait for it would not end.
    pub fn check_not_own_message(&self) -> Result<()> {
        lock(&self.slot).check_not_own()
    }

    fn read_message(
        &self,
        reader: &mut ReadHalf,
        deadline: &Deadline,
        reads: &mut ReadsOfCall,
    ) -> Result<Option<Message>> {
        while let Some(piece) = self.read_piece(reader, Delivery::Whole, deadline, reads)? {
            if let Piece::Whole(kind) = piece {
                let message = reader.assembler.take();
                log::trace!("received {kind:?}, {} bytes", message.len());
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
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
        let Some(mut reader) = self.reader.take() else { return };
        let mut slot = lock(&self.half.slot);
        // Under the lock: an eviction finds the read half in its slot, or is seen here.
        self.half.returning(&mut reader);
        slot.discarded = reader.discarded;
        slot.holder = ReadHolder::Idle(reader);
        if slot.waiting > 0 {
            self.half.changed.notify_all();
        }
    }
}
