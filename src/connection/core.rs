//! What both halves of a connection share.

use std::time::Duration;

use super::config::ConnectionConfig;
use super::keepalive::Keepalive;
use super::outcome::OutcomeCell;
use crate::deadline::Deadline;
use crate::memory_limit::MemoryShare;
use crate::protocol::Role;
use crate::statistics::Traffic;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::transport::Transport;

/// The transport, the outcome, and what the program has configured. It calls neither half.
pub(crate) struct Core {
    pub transport: Transport,
    pub role: Role,
    pub config: ConnectionConfig,
    pub outcome: OutcomeCell,
    pub keepalive: Mutex<Keepalive>,
    /// What this connection holds of its server's memory, where that has a limit.
    pub memory: Option<MemoryShare>,
    /// By when the peer must have answered our close frame; set with the first one.
    close_deadline: Mutex<Option<Deadline>>,
    /// How many bytes the system has taken, as the writer last noted.
    sent: AtomicU64,
    received: ReceivedTraffic,
    write_slice: Duration,
}

/// What was received. Written only by the thread that has the read half, read by any.
#[derive(Default)]
struct ReceivedTraffic {
    messages: AtomicU64,
    payload_bytes: AtomicU64,
    wire_bytes: AtomicU64,
}

impl Core {
    pub fn new(transport: Transport, role: Role, config: ConnectionConfig, memory: Option<MemoryShare>) -> Core {
        Core {
            transport,
            role,
            outcome: OutcomeCell::default(),
            keepalive: Mutex::new(Keepalive::new(config.ping_interval, config.pong_timeout)),
            memory,
            close_deadline: Mutex::new(None),
            sent: AtomicU64::new(0),
            received: ReceivedTraffic::default(),
            write_slice: write_slice(config.send_timeout),
            config,
        }
    }

    /// How many bytes the system has taken: it grows while the writer makes progress.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn set_sent(&self, bytes: u64) {
        self.sent.store(bytes, Ordering::Relaxed);
    }

    /// The caller has the read half, and has decoded so many bytes of frames.
    #[inline]
    pub fn note_received(&self, wire_bytes: usize) {
        add(&self.received.wire_bytes, wire_bytes as u64);
    }

    /// The caller has the read half, and hands out a message or a part of one.
    #[inline]
    pub fn note_message_received(&self, messages: u64, payload_bytes: usize) {
        add(&self.received.messages, messages);
        add(&self.received.payload_bytes, payload_bytes as u64);
    }

    /// What was received, but for messages that were taken from the read buffer (`ReceiveHalf::received` has all).
    pub fn received(&self) -> Traffic {
        let ReceivedTraffic { messages, payload_bytes, wire_bytes } = &self.received;
        let [messages, payload_bytes, wire_bytes] =
            [messages, payload_bytes, wire_bytes].map(|counter| counter.load(Ordering::Relaxed));
        Traffic { messages, payload_bytes, wire_bytes }
    }

    /// The bound of a send, from now. It restarts whenever the system takes bytes.
    pub fn send_deadline(&self) -> Deadline {
        Deadline::renewed_by_progress("send_timeout", self.config.send_timeout)
    }

    /// The bound of the closing handshake, from now.
    pub fn new_close_deadline(&self) -> Deadline {
        Deadline::after("close_timeout", self.config.close_timeout)
    }

    /// Our close frame is queued: every receiving call ends by `deadline`. The first one counts.
    pub fn begin_close_deadline(&self, deadline: Deadline) {
        lock(&self.close_deadline).get_or_insert(deadline);
    }

    pub fn close_deadline(&self) -> Option<Deadline> {
        *lock(&self.close_deadline)
    }

    /// The longest that one write may wait, so that others see whether it makes progress. Constant, as each change of the
    /// socket's timeout costs a system call.
    pub fn write_slice(&self) -> Duration {
        self.write_slice
    }
}

/// Adds to a counter that has one writer at a time.
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

fn write_slice(send_timeout: Option<Duration>) -> Duration {
    const LONGEST: Duration = Duration::from_millis(50);
    const SHORTEST: Duration = Duration::from_millis(1);
    send_timeout.map_or(LONGEST, |timeout| (timeout / 4).clamp(SHORTEST, LONGEST))
}
