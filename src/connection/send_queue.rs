//! What is to be sent: encoded frames, pongs, and the writer while nobody writes.

use std::collections::VecDeque;

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{Fragment, FrameEncoder, Kind, Opcode, Role};
use crate::transport::WriteState;

/// Queued bytes from which on senders wait for the writer.
const MAX_QUEUED: usize = 256 * 1024;
/// Queued bytes that are worth a system call while more is coming.
const BATCH_FLUSH_AT: usize = 64 * 1024;
/// Pongs not yet written; the oldest give way (RFC 6455 §5.5.3 lets an endpoint answer only the latest ping).
const MOST_PONGS: usize = 64;
/// Buffers beyond this are given back when all is written.
const RETAINED_CAPACITY: usize = 4 * 1024;

pub(crate) struct SendQueue {
    /// Encodes what needs no compressor.
    plain: FrameEncoder,
    masks: Masks,
    /// Encoded frames that the writer has not fetched yet.
    frames: Vec<u8>,
    pongs: VecDeque<Vec<u8>>,
    /// TLS has something of its own to say.
    pub tls_output: bool,
    /// In its place when nobody writes.
    pub writer: Option<Box<WriteHalf>>,
    /// How many threads wait for the writer or for room.
    pub waiting: usize,
    /// The reader has the writer, for as long as a call that does not wait takes.
    pub is_flushing: bool,
    /// One thread has written for the others long enough: they wait until it is out.
    pub is_stopping_writer: bool,
    /// A message is being sent in parts: no other may come between them (RFC 6455 §5.4).
    pub is_streaming: bool,
    /// No data frame may follow a close frame (RFC 6455 §5.5.1).
    pub close_queued: bool,
    /// Why nothing can be sent any more.
    pub failure: Option<Error>,
}

/// The writing side of the transport, and what is on its way there.
pub(crate) struct WriteHalf {
    pub wire: WriteState,
    pub batch: Vec<u8>,
    pub written: usize,
}

impl SendQueue {
    pub fn new(role: Role, wire: WriteState) -> SendQueue {
        SendQueue {
            plain: FrameEncoder::new(role),
            masks: Masks::new(role),
            frames: Vec::new(),
            pongs: VecDeque::new(),
            tls_output: false,
            writer: Some(Box::new(WriteHalf { wire, batch: Vec::new(), written: 0 })),
            waiting: 0,
            is_flushing: false,
            is_stopping_writer: false,
            is_streaming: false,
            close_queued: false,
            failure: None,
        }
    }

    /// Whether another frame may be queued without waiting.
    pub fn has_room(&self) -> bool {
        self.frames.len() < MAX_QUEUED
    }

    pub fn is_worth_writing(&self) -> bool {
        self.frames.len() >= BATCH_FLUSH_AT
    }

    /// Appends an uncompressed message to the queue.
    #[inline]
    pub fn queue_message(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        let mask = self.masks.next()?;
        self.plain.message(&mut self.frames, kind, payload, mask);
        Ok(())
    }

    /// Appends a part of an uncompressed message to the queue.
    pub fn queue_fragment(&mut self, part: Fragment, payload: &[u8]) -> Result<()> {
        let mask = self.masks.next()?;
        self.plain.fragment(&mut self.frames, part, payload, mask);
        Ok(())
    }

    /// Appends frames that are encoded already to the queue.
    pub fn queue_frame(&mut self, mut frame: Vec<u8>) {
        if self.frames.is_empty() {
            self.frames = frame;
        } else {
            self.frames.append(&mut frame);
        }
    }

    /// Appends a ping or close frame to the queue, if anything may still be sent; says whether it was.
    pub fn queue_control(&mut self, opcode: Opcode, payload: &[u8]) -> bool {
        if self.close_queued || self.failure.is_some() {
            return false;
        }
        let Ok(mask) = self.masks.next() else { return false };
        self.plain.control(&mut self.frames, opcode, payload, mask);
        self.close_queued = opcode == Opcode::Close;
        true
    }

    /// Keeps a pong for the writer.
    pub fn queue_pong(&mut self, payload: Vec<u8>) {
        if self.close_queued {
            return;
        }
        if self.pongs.len() == MOST_PONGS {
            self.pongs.pop_front();
        }
        self.pongs.push_back(payload);
    }

    pub fn next_mask(&mut self) -> Result<Option<[u8; 4]>> {
        self.masks.next()
    }

    /// Fetches all that is queued, and behind it the header of a message whose payload the caller writes. Returns the mask.
    pub fn fetch_with_header(&mut self, writer: &mut WriteHalf, kind: Kind, length: usize) -> Result<Option<[u8; 4]>> {
        let mask = self.masks.next()?;
        self.fetch(writer)?;
        self.plain.header(&mut writer.batch, kind, length, mask);
        Ok(mask)
    }

    /// Nothing can be sent any more, as part of a frame may be out.
    pub fn fail(&mut self, error: &Error) {
        self.failure.get_or_insert_with(|| error.clone());
        self.frames = Vec::new();
        self.pongs.clear();
    }

    /// Whether the writer has nothing to fetch.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.pongs.is_empty() && !self.tls_output
    }

    /// Whether anything waits to be written and nobody is at it.
    pub fn needs_writer(&self) -> bool {
        self.failure.is_none() && self.writer.as_ref().is_some_and(|writer| !self.is_empty() || !writer.is_idle())
    }

    /// Hands all that is queued to the writer, whose batch is spent: pongs first, they may stand between any two frames.
    pub fn fetch(&mut self, writer: &mut WriteHalf) -> Result<()> {
        if writer.is_done() {
            writer.restart();
        }
        while let Some(pong) = self.pongs.pop_front() {
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

    pub fn return_writer(&mut self, mut writer: Box<WriteHalf>) {
        if writer.is_done() {
            writer.restart();
        }
        if writer.batch.capacity() > RETAINED_CAPACITY && writer.batch.is_empty() {
            writer.batch = Vec::new();
        }
        writer.wire.release(RETAINED_CAPACITY);
        if self.frames.is_empty() && self.frames.capacity() > RETAINED_CAPACITY {
            self.frames = Vec::new();
        }
        self.is_flushing = false;
        self.is_stopping_writer = false;
        self.writer = Some(writer);
    }
}

impl WriteHalf {
    /// Whether all of the batch is taken; with TLS, some of it may still be in the wire.
    pub fn is_done(&self) -> bool {
        self.written == self.batch.len()
    }

    /// Makes the spent batch ready for the next bytes.
    pub fn restart(&mut self) {
        self.batch.clear();
        self.written = 0;
    }

    /// Whether nothing at all is on its way.
    pub fn is_idle(&self) -> bool {
        self.is_done() && self.wire.is_empty()
    }
}

/// A fresh, unpredictable mask for each frame (RFC 6455 §5.3), from the system's generator, several at a time.
struct Masks {
    pool: Vec<u8>,
    role: Role,
}

impl Masks {
    const POOL: usize = 1024;

    fn new(role: Role) -> Masks {
        Masks { pool: Vec::new(), role }
    }

    /// Fails without entropy, never with a mask that is not random.
    fn next(&mut self) -> Result<Option<[u8; 4]>> {
        if self.role == Role::Server {
            return Ok(None);
        }
        if self.pool.is_empty() {
            self.pool.resize(Masks::POOL, 0);
            if let Err(error) = getrandom::fill(&mut self.pool) {
                self.pool.clear();
                return Err(Error::caused(ErrorKind::Io, "the system gives no random bytes for a mask", error));
            }
        }
        let (rest, &mask) = self.pool.split_last_chunk().expect("a multiple of four");
        self.pool.truncate(rest.len());
        Ok(Some(mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_differ_and_servers_have_none() {
        let mut masks = Masks::new(Role::Client);
        let drawn: std::collections::HashSet<[u8; 4]> = (0..1000).filter_map(|_| masks.next().unwrap()).collect();
        assert!(drawn.len() > 990);
        assert_eq!(Masks::new(Role::Server).next().unwrap(), None);
    }
}
