//! How much went through a connection.

/// What a connection has sent and received, since it is open ([`WebSocket::statistics`](crate::WebSocket::statistics)).
///
/// ```
/// # fn run(ws: wsync::WebSocket) {
/// let statistics = ws.statistics();
/// let ratio = statistics.sent.wire_bytes as f64 / statistics.sent.payload_bytes as f64;
/// println!("{} messages sent, {ratio:.2} of their size", statistics.sent.messages);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// What this side sent, or has accepted to be sent.
    pub sent: Traffic,
    /// What the peer sent, as far as it was decoded.
    pub received: Traffic,
}

impl std::ops::AddAssign for Statistics {
    fn add_assign(&mut self, other: Statistics) {
        self.sent += other.sent;
        self.received += other.received;
    }
}

/// What went through a connection in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Complete messages.
    pub messages: u64,
    /// Bytes of the messages, before compression or after inflation.
    pub payload_bytes: u64,
    /// Bytes of all frames, control frames and headers included, after compression and without TLS.
    pub wire_bytes: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.messages += other.messages;
        self.payload_bytes += other.payload_bytes;
        self.wire_bytes += other.wire_bytes;
    }
}
