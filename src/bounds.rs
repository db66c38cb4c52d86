//! What bounds an open connection: the setters and the check that the options for connecting, accepting and taking over share.

use crate::arguments::check_timeout;
use crate::connection::ConnectionConfig;
use crate::error::Result;

/// The setters, for an `impl` block of a type with a field `bounds` and a section "Bounds" with an example.
macro_rules! bound_setters {
    () => {
        /// How long a `send` may wait for a peer that takes nothing (default: `None`, no bound); it starts anew whenever the
        /// peer has taken something, so that a large message may take longer on a slow line. When it is reached, that
        /// `send` fails with [`Timeout`](crate::ErrorKind::Timeout) and later ones with
        /// [`Closed`](crate::ErrorKind::Closed), as part of a frame may be out; receiving goes on. See
        /// [the example](Self#bounds).
        pub fn send_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
            self.bounds.send_timeout = timeout.into();
            self
        }

        /// The bound over the whole closing handshake (RFC 6455 §7; default: 5 s; `None`: no bound). See
        /// [the example](Self#bounds).
        pub fn close_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
            self.bounds.close_timeout = timeout.into();
            self
        }

        /// Keepalive: how long after the last pong a ping is sent (RFC 6455 §5.5.2; default: `None`, no pings, but 20 s for a
        /// [`Background`](crate::Background) connection; zero means the same as `None`). Its pong may take as long, or [`pong_timeout`](Self::pong_timeout). See
        /// [`WebSocket::set_ping_interval`](crate::WebSocket::set_ping_interval), and [the example](Self#bounds).
        pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
            self.bounds.ping_interval = interval.into().filter(|interval| !interval.is_zero());
            self.bounds.is_ping_interval_chosen = true;
            self
        }

        /// How long the pong of a keepalive ping may take (default: `None`, as long as the
        /// [`ping_interval`](Self::ping_interval)). The time starts when the last byte of the ping has left. It starts again
        /// while the line moves: bytes that the peer takes while the ping waits behind them, and received bytes of a frame
        /// that is not complete. Without `ping_interval` it has no effect. See [the example](Self#bounds).
        pub fn pong_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
            self.bounds.pong_timeout = timeout.into();
            self
        }

        /// How many bytes may be accepted and not yet taken by the system before `send` waits and `try_send` refuses
        /// (default: 256 KiB). One message that is larger by itself is accepted when nothing else is queued. See
        /// [the example](Self#bounds).
        pub fn send_queue_limit(mut self, bytes: usize) -> Self {
            self.bounds.send_queue_limit = bytes;
            self
        }

        /// The largest message to receive, in bytes after inflation (default: 64 MiB). A larger one ends the connection with
        /// [`TooBig`](crate::ErrorKind::TooBig) and close code 1009. See [the example](Self#bounds).
        pub fn max_message_size(mut self, bytes: usize) -> Self {
            self.bounds.max_message_size = bytes;
            self
        }
    };
}

pub(crate) use bound_setters;

/// Refuses bounds that nothing can meet.
pub(crate) fn check(bounds: &ConnectionConfig) -> Result<()> {
    check_timeout("send_timeout", bounds.send_timeout)?;
    check_timeout("close_timeout", bounds.close_timeout)?;
    check_timeout("pong_timeout", bounds.pong_timeout)
}
