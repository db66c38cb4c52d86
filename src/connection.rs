//! An open connection: what its threads share, and the rules by which they do. ARCHITECTURE.md has the whole.
//!
//! The parts call each other in one direction, and hold each other in the same one:
//!
//! ```text
//!   Connection (close.rs) ──▶ ReceiveHalf ──▶ SendHalf ──▶ Core
//! ```
//!
//! Two locks, both short, neither ever held across a system call that can wait and never both at once: one around the slot
//! of the read half, one around the queue of frames, with the slots of the write half and the compressor. Whoever receives,
//! writes or compresses takes what it needs out of its slot, works with no lock held, and puts it back.

mod assembler;
mod close;
mod config;
mod core;
mod fragmented;
mod keepalive;
mod outcome;
mod receive;
mod send;
mod send_queue;
mod write;

use std::time::Duration;

use crate::close_code::{CloseCode, ReadyState};
use crate::compression::Compression;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::memory_limit::MemoryShare;
use crate::message::Message;
use crate::outgoing::Outgoing;
use crate::protocol::{Decoder, DecoderLimits, DeflateParameters, MessageCompressor, MessageKind, Role};
use crate::statistics::Statistics;
use crate::sync::{Arc, lock};
use crate::transport::{ReadState, Transport, WriteState};
pub(crate) use config::ConnectionConfig;
pub(crate) use fragmented::{IncomingParts, OutgoingParts};
use outcome::Outcome;
use receive::{ReadHalf, ReceiveHalf};
use send_queue::SendQueue;
use write::SendHalf;

/// What the opening handshake leaves behind.
pub(crate) struct HandshakeEnd {
    pub transport: Transport,
    /// With the bytes that came behind the handshake.
    pub incoming: ReadState,
    pub wire: WriteState,
    /// What this connection holds of its server's memory, where that has a limit.
    pub memory: Option<MemoryShare>,
}

pub(crate) struct Connection {
    receive: ReceiveHalf,
}

impl HandshakeEnd {
    /// Nothing came behind the handshake, and nothing of it is left to write.
    pub fn of(transport: Transport) -> HandshakeEnd {
        HandshakeEnd { transport, incoming: ReadState::default(), wire: WriteState::default(), memory: None }
    }
}

impl Connection {
    /// Takes over a transport on which the opening handshake is done.
    pub fn new(
        handshake: HandshakeEnd,
        role: Role,
        deflate: Option<DeflateParameters>,
        compression: &Compression,
        config: ConnectionConfig,
    ) -> Connection {
        let HandshakeEnd { transport, incoming, wire, memory } = handshake;
        let limits = DecoderLimits {
            max_message_size: config.max_message_size as u64,
            max_fragments: config.max_fragments as u64,
        };
        let Compression { level, threshold, .. } = *compression;
        let compressor = deflate.and_then(|agreed| MessageCompressor::new(role, agreed, level, threshold));
        let compress_from = compressor.as_ref().map(MessageCompressor::threshold);
        let preparation = compressor.as_ref().and_then(|compressor| compressor.preparation(usize::MAX));
        let queue = SendQueue::new(role, wire, compressor, config.send_queue_limit);
        let is_counted = memory.is_some();
        let core = core::Core::new(transport, role, config, memory);
        let send = Arc::new(SendHalf::new(core, queue, compress_from, preparation));
        let mut reader = ReadHalf::new(incoming, Decoder::new(role, limits, deflate));
        if is_counted {
            reader.count_memory();
        }
        Connection { receive: ReceiveHalf::new(send, reader) }
    }

    fn send(&self) -> &Arc<SendHalf> {
        &self.receive.send
    }

    fn core(&self) -> &core::Core {
        &self.receive.send.core
    }

    pub fn transport(&self) -> &Transport {
        &self.core().transport
    }

    // Sending.

    pub fn send_message(&self, message: &Outgoing<'_>) -> Result<()> {
        self.send().send(message)
    }

    pub fn send_all<'a>(&self, messages: impl Iterator<Item = Outgoing<'a>>) -> Result<()> {
        self.send().send_all(messages)
    }

    /// Sends one message; `Ok` exactly when the system has taken all of it. If that cannot be told otherwise, the connection
    /// is aborted.
    pub fn send_through(&self, message: &Outgoing<'_>) -> Result<()> {
        self.send().send_through(message, || self.abort())
    }

    pub fn try_send(&self, message: &Outgoing<'_>) -> Result<()> {
        self.send().try_send(message)
    }

    pub fn send_parts(&self, kind: MessageKind) -> Result<OutgoingParts<'_>> {
        self.send().send_parts(kind)
    }

    pub fn ping(&self, payload: &[u8]) -> Result<()> {
        self.send().ping(payload)
    }

    // Receiving.

    pub fn receive(&self, deadline: &Deadline) -> Result<Option<Message>> {
        self.receive.receive(deadline)
    }

    pub fn receive_into(&self, buffer: &mut Vec<u8>, deadline: &Deadline) -> Result<Option<MessageKind>> {
        self.receive.receive_into(buffer, deadline)
    }

    pub fn receive_parts(&self, deadline: &Deadline) -> Result<Option<IncomingParts<'_>>> {
        self.receive.receive_parts(deadline)
    }

    // State.

    pub fn ready_state(&self) -> ReadyState {
        match self.core().outcome.get() {
            Outcome::Ended(_) => ReadyState::Closed,
            Outcome::PeerClosed => ReadyState::Closing,
            Outcome::Open if lock(&self.send().queue).is_open() => ReadyState::Open,
            Outcome::Open => ReadyState::Closing,
        }
    }

    pub fn has_ended(&self) -> bool {
        self.core().outcome.end().is_some()
    }

    /// The peer's close code, or what stands for it when the connection ended without.
    pub fn close_code(&self) -> Option<CloseCode> {
        self.core().outcome.close_info().map(|close| close.code)
    }

    pub fn close_reason(&self) -> Option<&str> {
        self.core().outcome.close_info().map(|close| close.reason.as_str())
    }

    /// Bytes that were accepted and that the system has not taken.
    pub fn buffered(&self) -> usize {
        lock(&self.send().queue).buffered(self.core().sent())
    }

    pub fn statistics(&self) -> Statistics {
        Statistics { sent: lock(&self.send().queue).accepted(), received: self.receive.received() }
    }

    /// Calls `watcher` when the end is written, perhaps more than once. It must not block.
    pub fn watch_end(&self, watcher: impl Fn() + Send + Sync + 'static) {
        self.receive.watch_end(watcher);
    }

    pub fn latency(&self) -> Option<Duration> {
        lock(&self.core().keepalive).latency()
    }

    pub fn ping_interval(&self) -> Option<Duration> {
        lock(&self.core().keepalive).interval()
    }

    /// The pong of the ping that this sends wakes whoever blocks in `recv`, to go by the new interval.
    pub fn set_ping_interval(&self, interval: Option<Duration>) {
        let payload = {
            let mut keepalive = lock(&self.core().keepalive);
            keepalive.set_interval(interval);
            keepalive.interval().map(|_| keepalive.next_payload())
        };
        if let Some(payload) = payload {
            self.send().queue_ping(&payload);
            self.send().flush_what_fits();
        }
    }
}

#[cfg(test)]
mod tests;
