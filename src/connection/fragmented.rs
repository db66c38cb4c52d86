//! One message in parts, either way, in bounded memory.

use std::marker::PhantomData;

use super::assembler::Delivery;
use super::receive::{Looks, Piece, ReadGuard, ReceiveHalf};
use super::send::compressor_deadline;
use super::send_queue::Need;
use super::write::SendHalf;
use crate::close_code::CloseCode;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::protocol::{Fin, Fragment, MessageCompressor, MessageKind};
use crate::sync::{Arc, bound, lock, this_thread};

/// How much of a received message is held at a time.
const PART: usize = bound(16 * 1024, 16);

/// A message that is received in parts. It holds the read half, so that everybody else's receiving calls wait. Bound to its
/// thread, so that a call of the same thread which would wait for it can be refused.
pub(crate) struct IncomingParts<'a> {
    guard: ReadGuard<'a>,
    kind: MessageKind,
    part: Message,
    is_whole: bool,
    bound_to_thread: PhantomData<*const ()>,
}

/// A message that is sent in parts. Everybody else's messages wait. Bound to its thread, as [`IncomingParts`] is.
pub(crate) struct OutgoingParts<'a> {
    half: &'a Arc<SendHalf>,
    part: Fragment,
    /// Out of the queue until the message ends, where the message is compressed.
    compressor: Option<Box<MessageCompressor>>,
    bound_to_thread: PhantomData<*const ()>,
}

impl ReceiveHalf {
    /// The next message, of which the first part is there.
    pub fn receive_parts(&self, deadline: &Deadline) -> Result<Option<IncomingParts<'_>>> {
        let mut guard = self.take_reader(lock(&self.slot), deadline)?;
        let reader = guard.reader();
        let (part, is_whole) = match reader.backlog.pop_front() {
            Some(message) => (message, true),
            None => match self.read_piece(reader, Delivery::Parts { limit: PART }, deadline, &mut Looks::default()) {
                Ok(Some(Piece::Whole(_))) => {
                    let message = reader.assembler.take();
                    self.set_delivery(reader, Delivery::Whole);
                    (message, true)
                }
                Ok(Some(Piece::Part)) => (reader.assembler.take_part(), false),
                ended => {
                    if reader.assembler.delivery() != Delivery::Discard {
                        self.set_delivery(reader, Delivery::Whole);
                    }
                    return ended.map(|_| None);
                }
            },
        };
        let kind = if part.is_text() { MessageKind::Text } else { MessageKind::Binary };
        Ok(Some(IncomingParts { guard, kind, part, is_whole, bound_to_thread: PhantomData }))
    }
}

impl SendHalf {
    /// Begins a message in parts, behind those that are being sent.
    pub fn send_parts(self: &Arc<Self>, kind: MessageKind) -> Result<OutgoingParts<'_>> {
        let deadline = self.core.send_deadline();
        let is_compressed = self.compress_from.is_some();
        let compressed = is_compressed.then(|| self.wait_until(Need::CompressedStart, &compressor_deadline(&deadline)));
        let mut queue = match compressed {
            Some(Err(error)) if error.kind() != ErrorKind::Timeout => return Err(error),
            Some(Ok(queue)) => queue,
            // Another thread compresses for long.
            Some(Err(_)) | None => self.wait_until(Need::Start, &deadline)?,
        };
        queue.begin_fragmented(this_thread());
        let compressor = if is_compressed { queue.take_compressor() } else { None };
        drop(queue);
        // The first of a batch, whose sender now waits for the end of this message.
        self.flush_what_fits();
        let part = Fragment { kind, first: true, fin: Fin::More };
        Ok(OutgoingParts { half: self, part, compressor, bound_to_thread: PhantomData })
    }
}

impl IncomingParts<'_> {
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// What has come and is not fetched yet.
    pub fn part(&self) -> &[u8] {
        self.part.as_bytes()
    }

    /// Waits for the next part; false at the end of the message.
    pub fn next(&mut self) -> Result<bool> {
        if self.is_whole {
            self.part = Message::Binary(Vec::new());
            return Ok(false);
        }
        let half = self.guard.half();
        let reader = self.guard.reader();
        match half.read_piece(reader, Delivery::Parts { limit: PART }, &Deadline::NEVER, &mut Looks::default())? {
            Some(Piece::Part) => self.part = reader.assembler.take_part(),
            Some(Piece::Whole(_)) => {
                self.part = reader.assembler.take();
                half.set_delivery(reader, Delivery::Whole);
                self.is_whole = true;
            }
            None => return Err(Error::new(ErrorKind::Io, "the peer closed the connection inside a message")),
        }
        Ok(true)
    }
}

impl Drop for IncomingParts<'_> {
    /// What has not come yet of the message is left out when it comes.
    fn drop(&mut self) {
        if !self.is_whole {
            self.guard.reader().assembler.set_delivery(Delivery::Discard);
        }
    }
}

impl OutgoingParts<'_> {
    /// Sends the message uncompressed, if none of it was sent yet.
    pub fn uncompressed(&mut self) {
        if !self.part.first {
            return;
        }
        if let Some(compressor) = self.compressor.take() {
            let mut queue = lock(&self.half.queue);
            queue.return_compressor(compressor);
            self.half.wake(&queue);
        }
    }

    pub fn send(&mut self, payload: &[u8], fin: Fin) -> Result<()> {
        let deadline = self.half.core.send_deadline();
        let part = Fragment { fin, ..self.part };
        self.half.send_fragment(part, payload, &mut self.compressor, &deadline)?;
        self.part.first = false;
        self.part.fin = fin;
        Ok(())
    }
}

impl Drop for OutgoingParts<'_> {
    /// A message that was begun and not finished cannot be taken back: the peer is told, and nothing else can be sent.
    fn drop(&mut self) {
        if self.part.fin == Fin::Last {
            // Others may go on since, and have begun a message in parts of their own.
            return;
        }
        if !self.part.first {
            let deadline = self.half.core.new_close_deadline();
            self.half.queue_close(Some(CloseCode::INTERNAL_ERROR), "a message was left unfinished", deadline);
        }
        let mut queue = lock(&self.half.queue);
        // If it was finished, another thread's may have begun since.
        queue.end_fragmented(this_thread());
        if let Some(compressor) = self.compressor.take() {
            queue.return_compressor(compressor);
        }
        self.half.wake(&queue);
        drop(queue);
        self.half.flush_what_fits();
    }
}
