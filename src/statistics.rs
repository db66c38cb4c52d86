//! How much went through a connection.

/// What a connection has sent and received, since it is open ([`WebSocket::statistics`](crate::WebSocket::statistics)).
///
/// ```
/// # let (ours, theirs) = wsync::Stream::pair();
/// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
/// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
/// ws.send("hello")?;
/// let sent = ws.statistics().sent;
/// assert_eq!((sent.messages, sent.payload_bytes, sent.wire_bytes), (1, 5, 11)); // a header and a mask: 6 bytes
/// # Ok::<(), wsync::Error>(())
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

/// What went through a connection in one direction. See the example of [`Statistics`].
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
