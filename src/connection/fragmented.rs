//! One message in parts, either way, in bounded memory.

use super::Connection;
use super::receive::{Piece, ReadGuard, ReadHalf};
use crate::close_code::CloseCode;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::protocol::{Encoding, Fin, Fragment, Kind};
use crate::sync::lock;

/// How much of a received message is held at a time.
const PART: usize = 16 * 1024;

/// A message that is being received in parts. It has the reader, so that everybody else's `recv` waits.
pub(crate) struct IncomingMessage<'a> {
    taken: ReadGuard<'a>,
    kind: Kind,
    part: Message,
    is_whole: bool,
}

/// A message that is being sent in parts. Everybody else's messages wait.
pub(crate) struct OutgoingMessage<'a> {
    connection: &'a Connection,
    part: Fragment,
    encoding: Encoding,
}

impl Connection {
    /// The next message, of which the first part is there.
    pub fn receive_parts(&self, deadline: &Deadline) -> Result<Option<IncomingMessage<'_>>> {
        let mut taken = self.take_reader(lock(&self.receiving), deadline)?;
        let reader = taken.reader();
        let (part, is_whole) = match reader.backlog.pop_front() {
            Some(message) => (message, true),
            None => {
                reader.inbound.set_max_message_size(u64::MAX);
                reader.message.most = PART.max(reader.message.message.len() + 1);
                match self.read_piece(reader, deadline) {
                    Ok(Some(Piece::Whole(_))) => {
                        let message = reader.message.take();
                        self.end_streaming(reader);
                        (message, true)
                    }
                    Ok(Some(Piece::Part)) => (reader.message.take_part(), false),
                    ended => {
                        self.end_streaming(reader);
                        return ended.map(|_| None);
                    }
                }
            }
        };
        let kind = if part.is_text() { Kind::Text } else { Kind::Binary };
        Ok(Some(IncomingMessage { taken, kind, part, is_whole }))
    }

    /// Back to whole messages, each within the limit.
    pub fn end_streaming(&self, reader: &mut ReadHalf) {
        reader.message.most = usize::MAX;
        reader.message.is_discarding = false;
        reader.inbound.set_max_message_size(self.bounds.max_message_size as u64);
    }

    /// Begins a message in parts, behind those that are being sent.
    pub fn send_parts(&self, kind: Kind, compress: bool) -> Result<OutgoingMessage<'_>> {
        let deadline = self.send_deadline();
        loop {
            drop(self.wait_for_message_slot(&deadline, |_| true)?);
            // With the compressor's lock, so that nobody who is compressing queues a frame between the parts.
            let compressor = self.compressing.as_ref().map(lock);
            let mut outgoing = lock(&self.sending);
            if !outgoing.is_streaming {
                outgoing.is_streaming = true;
                drop((outgoing, compressor));
                // The first of a batch, whose sender now waits for the end of this message.
                self.flush_what_fits();
                let is_compressed = compress && self.compressing.is_some();
                let encoding = if is_compressed { Encoding::Compressed } else { Encoding::Plain };
                let part = Fragment { kind, first: true, fin: Fin::More };
                return Ok(OutgoingMessage { connection: self, part, encoding });
            }
        }
    }
}

impl IncomingMessage<'_> {
    pub fn kind(&self) -> Kind {
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
        let connection = self.taken.connection();
        let reader = self.taken.reader();
        match connection.read_piece(reader, &Deadline::NEVER)? {
            Some(Piece::Part) => self.part = reader.message.take_part(),
            Some(Piece::Whole(_)) => {
                self.part = reader.message.take();
                connection.end_streaming(reader);
                self.is_whole = true;
            }
            None => return Err(Error::new(ErrorKind::Io, "the peer closed the connection inside a message")),
        }
        Ok(true)
    }
}

impl Drop for IncomingMessage<'_> {
    /// What has not come yet of the message is left out when it comes.
    fn drop(&mut self) {
        if !self.is_whole {
            let message = &mut self.taken.reader().message;
            message.is_discarding = true;
            message.most = usize::MAX;
        }
    }
}

impl OutgoingMessage<'_> {
    pub fn send(&mut self, payload: &[u8], fin: bool) -> Result<()> {
        let deadline = self.connection.send_deadline();
        let fin = if fin { Fin::Last } else { Fin::More };
        let part = Fragment { fin, ..self.part };
        self.connection.send_fragment(part, self.encoding, payload, &deadline)?;
        self.part.first = false;
        self.part.fin = fin;
        Ok(())
    }
}

impl Drop for OutgoingMessage<'_> {
    /// A message that was begun and not finished cannot be taken back: the peer is told, and nothing else can be sent.
    fn drop(&mut self) {
        if self.part.fin == Fin::Last {
            return;
        }
        if !self.part.first {
            self.connection.queue_close(Some(CloseCode::INTERNAL_ERROR), "a message was left unfinished");
            self.connection.flush_what_fits();
        }
        let mut outgoing = lock(&self.connection.sending);
        outgoing.is_streaming = false;
        self.connection.wake_senders(&outgoing);
    }
}
