//! What a program chooses about an open connection.

use std::time::Duration;

use crate::sync::bound;

/// The bounds of an open connection, as `ConnectOptions` and `AcceptOptions` set them.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionConfig {
    pub send_timeout: Option<Duration>,
    pub close_timeout: Option<Duration>,
    pub ping_interval: Option<Duration>,
    /// Whether the program has set the interval: if not, a connection in the background has another default.
    pub is_ping_interval_chosen: bool,
    /// `None`: as long as the interval.
    pub pong_timeout: Option<Duration>,
    pub max_message_size: usize,
    pub max_fragments: usize,
    /// Accepted bytes, not yet taken by the system, beyond which senders wait. One message alone may be larger.
    pub send_queue_limit: usize,
}

impl Default for ConnectionConfig {
    fn default() -> ConnectionConfig {
        ConnectionConfig {
            send_timeout: None,
            close_timeout: Some(Duration::from_secs(5)),
            ping_interval: None,
            is_ping_interval_chosen: false,
            pong_timeout: None,
            max_message_size: 64 << 20,
            max_fragments: 131_072,
            send_queue_limit: bound(256 * 1024, 100),
        }
    }
}
