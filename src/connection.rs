//! An open connection: what its threads share, and the rules by which they do.
//!
//! Two locks, both short, neither ever held across a system call that can wait and never both at once:
//! - `receiving` guards the seat of the reader. Whoever receives takes the [`ReadHalf`](receiving::ReadHalf) out, blocks on
//!   the socket with no lock held, and puts it back.
//! - `sending` guards the queue of encoded frames. Whoever finds the writer in it takes it out, writes all that is
//!   queued, looks again, and puts it back when nothing is left. Senders that come meanwhile only queue.
//!
//! `end` is written once. Everything that waits is woken by it: the two condition variables, and the socket by being
//! shut down.

mod close;
mod fragmented;
mod keepalive;
mod receive;
mod send;
mod send_queue;
mod write;

use std::sync::OnceLock;
use std::time::Duration;

use crate::close_code::{CloseCode, ReadyState};
use crate::compression::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{Decoder, DecoderLimits, DeflateParameters, MessageCompressor, Role};
use crate::sync::{Condvar, Mutex, lock};
use crate::transport::{ReadState, Transport, WriteState};
pub(crate) use fragmented::{IncomingMessage, OutgoingMessage};
use keepalive::Keepalive;
use receive::{ReadHalf, ReadSlot};
use send_queue::SendQueue;

/// The bounds of an open connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionConfig {
    pub send_timeout: Option<Duration>,
    pub close_timeout: Option<Duration>,
    pub ping_interval: Option<Duration>,
    pub max_message_size: usize,
    pub max_fragments: usize,
}

impl Default for ConnectionConfig {
    fn default() -> ConnectionConfig {
        ConnectionConfig {
            send_timeout: None,
            close_timeout: Some(Duration::from_secs(5)),
            ping_interval: None,
            max_message_size: 64 << 20,
            max_fragments: 131_072,
        }
    }
}

pub(crate) struct Connection {
    transport: Transport,
    role: Role,
    bounds: ConnectionConfig,
    receiving: Mutex<ReadSlot>,
    receiving_changed: Condvar,
    sending: Mutex<SendQueue>,
    sending_changed: Condvar,
    /// The compressor, apart from the queue: compressing a large message must not keep a pong from being queued.
    compressing: Option<Mutex<MessageCompressor>>,
    /// The length from which messages are compressed, apart from the compressor: a short one must not wait for it.
    compress_from: Option<usize>,
    keepalive: Mutex<Keepalive>,
    /// The code and reason to show, once they are known.
    closed: OnceLock<(CloseCode, String)>,
    end: OnceLock<EndResult>,
    /// Who waits elsewhere for the end, such as for room in a queue of its own.
    watchers: Mutex<Vec<Watcher>>,
}

type Watcher = Box<dyn Fn() + Send + Sync>;

/// How a connection ended.
#[derive(Clone)]
pub(crate) enum EndResult {
    /// The peer's close frame came.
    Clean,
    Failed(Error),
}

impl Connection {
    /// Takes over a transport on which the opening handshake is done, with the bytes and the writer it left behind.
    pub fn new(
        transport: Transport,
        incoming: ReadState,
        wire: WriteState,
        role: Role,
        deflate: Option<DeflateParameters>,
        compression: &Compression,
        bounds: ConnectionConfig,
    ) -> Connection {
        let limits = DecoderLimits {
            max_message_size: bounds.max_message_size as u64,
            max_fragments: bounds.max_fragments as u64,
        };
        let Compression { level, threshold, .. } = *compression;
        let compressor = deflate.and_then(|agreed| MessageCompressor::new(role, agreed, level, threshold));
        Connection {
            transport,
            role,
            receiving: Mutex::new(ReadSlot::new(ReadHalf::new(incoming, Decoder::new(role, limits, deflate)))),
            receiving_changed: Condvar::new(),
            sending: Mutex::new(SendQueue::new(role, wire)),
            sending_changed: Condvar::new(),
            compress_from: compressor.as_ref().map(MessageCompressor::threshold),
            compressing: compressor.map(Mutex::new),
            keepalive: Mutex::new(Keepalive::new(bounds.ping_interval)),
            closed: OnceLock::new(),
            end: OnceLock::new(),
            watchers: Mutex::new(Vec::new()),
            bounds,
        }
    }

    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    pub fn ready_state(&self) -> ReadyState {
        if self.end.get().is_some() {
            ReadyState::Closed
        } else if lock(&self.sending).close_queued || self.closed.get().is_some() {
            ReadyState::Closing
        } else {
            ReadyState::Open
        }
    }

    /// The peer's close code and reason, or 1006 when the connection ended without.
    pub fn closed(&self) -> Option<&(CloseCode, String)> {
        self.closed.get()
    }

    pub fn latency(&self) -> Option<Duration> {
        lock(&self.keepalive).latency()
    }

    pub fn ping_interval(&self) -> Option<Duration> {
        lock(&self.keepalive).interval()
    }

    /// The pong of the ping that this sends wakes whoever blocks in `recv`, to go by the new interval.
    pub fn set_ping_interval(&self, interval: Option<Duration>) {
        lock(&self.keepalive).set_interval(interval);
        if self.ping_interval().is_some() {
            let payload = lock(&self.keepalive).ping_now();
            self.queue_ping(&payload);
            self.flush_what_fits();
        }
    }

    pub fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    /// Calls `watcher` when the end is written, perhaps more than once. It must not block or call back.
    pub fn watch_end(&self, watcher: impl Fn() + Send + Sync + 'static) {
        lock(&self.watchers).push(Box::new(watcher));
    }

    /// Ends the connection now, from any thread, and wakes every other one.
    pub fn abort(&self) {
        self.end_with(EndResult::Failed(Error::new(ErrorKind::Closed, "the connection was aborted by this side")));
        self.transport.shutdown();
    }

    /// Writes the end, unless there is one already, and wakes all who wait for a lock's state; returns the one that holds.
    fn end_with(&self, end: EndResult) -> &EndResult {
        if let EndResult::Failed(error) = &end {
            log::debug!("connection ended: {error}");
            let _ = self.closed.set((CloseCode::ABNORMAL_CLOSURE, String::new()));
        }
        let _ = self.end.set(end);
        // Passing through the locks makes sure that nobody is between looking at the end and starting to wait.
        drop(lock(&self.receiving));
        self.receiving_changed.notify_all();
        drop(lock(&self.sending));
        self.sending_changed.notify_all();
        lock(&self.watchers).iter().for_each(|watcher| watcher());
        self.end.get().expect("set above")
    }
}

impl EndResult {
    /// What `recv` says from now on.
    fn result<T>(&self) -> Result<Option<T>> {
        match self {
            EndResult::Clean => Ok(None),
            EndResult::Failed(error) => Err(error.clone()),
        }
    }
}
