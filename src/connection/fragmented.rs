//! A message that is received or sent in parts, in bounded memory.

use std::marker::PhantomData;

use super::assembler::Delivery;
use super::receive::{Piece, ReadGuard, ReadsOfCall, ReceiveHalf};
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

/// A message that is received in parts. It holds the read half: other threads' receiving calls wait. It stays on its thread
/// (not `Send`), so that a call of that thread which would wait for it can fail instead.
pub(crate) struct IncomingParts<'a> {
    guard: ReadGuard<'a>,
    kind: MessageKind,
    part: Message,
    is_whole: bool,
    bound_to_thread: PhantomData<*const ()>,
}

/// A message that is sent in parts. Other threads' messages wait. It stays on its thread, as [`IncomingParts`] does.
pub(crate) struct OutgoingParts<'a> {
    half: &'a Arc<SendHalf>,
    part: Fragment,
    /// If the message is compressed: taken out of the queue until the message ends.
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
            None => {
                match self.read_piece(reader, Delivery::Parts { limit: PART }, deadline, &mut ReadsOfCall::default()) {
                    Ok(Some(Piece::Whole(_))) => {
                        let message = reader.assembler.take();
                        self.set_delivery(reader, Delivery::Whole);
                        (message, true)
                    }
                    Ok(Some(Piece::Part)) => (reader.assembler.take_part(), false),
                    ended @ (Ok(None) | Err(_)) => {
                        if reader.assembler.delivery() != Delivery::Discard {
                            self.set_delivery(reader, Delivery::Whole);
                        }
                        return ended.map(|_| None);
                    }
                }
            }
        };
        let kind = if part.is_text() { MessageKind::Text } else { MessageKind::Binary };
        Ok(Some(IncomingParts { guard, kind, part, is_whole, bound_to_thread: PhantomData }))
    }
}

impl SendHalf {
    /// Begins a message in parts, behind the messages that are being sent. It is uncompressed if another thread's compression
    /// takes too long.
    pub fn send_parts(self: &Arc<Self>, kind: MessageKind) -> Result<OutgoingParts<'_>> {
        let deadline = self.core.send_deadline();
        let is_compressed = self.compress_from.is_some();
        let compressed = is_compressed.then(|| self.wait_until(Need::CompressedStart, &compressor_deadline(&deadline)));
        let mut queue = match compressed {
            Some(Err(error)) if error.kind() != ErrorKind::Timeout => return Err(error),
            Some(Ok(queue)) => queue,
            Some(Err(_)) | None => self.wait_until(Need::Start, &deadline)?,
        };
        queue.begin_fragmented(this_thread());
        let compressor = if is_compressed { queue.take_compressor() } else { None };
        drop(queue);
        // Frames of a `send_all` may be queued whose sender now waits for the end of this message.
        self.flush_what_fits();
        let part = Fragment { kind, first: true, fin: Fin::More };
        Ok(OutgoingParts { half: self, part, compressor, bound_to_thread: PhantomData })
    }
}

impl IncomingParts<'_> {
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The current part.
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
        match half.read_piece(reader, Delivery::Parts { limit: PART }, &Deadline::NEVER, &mut ReadsOfCall::default())? {
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
    /// Has the rest of the message discarded when it comes.
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
    /// A message of which a part was sent cannot be taken back: if it is not finished, this closes the connection.
    fn drop(&mut self) {
        if self.part.fin == Fin::Last {
            // `send_fragment` has ended the message.
            return;
        }
        if !self.part.first {
            let deadline = self.half.core.new_close_deadline();
            self.half.queue_close(Some(CloseCode::INTERNAL_ERROR), "a message was left unfinished", deadline);
        }
        let mut queue = lock(&self.half.queue);
        queue.end_fragmented(this_thread());
        if let Some(compressor) = self.compressor.take() {
            queue.return_compressor(compressor);
        }
        self.half.wake(&queue);
        drop(queue);
        self.half.flush_what_fits();
    }
}
