//! Options for permessage-deflate (RFC 7692).

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{DeflateParameters, Role};

/// How messages are compressed: what is offered (client) or accepted (server), and how hard the compressor works.
///
/// Compression is on by default. The parameters are those of RFC 7692 §7.1, which let either side save memory for
/// a worse ratio. What was agreed is in [`WebSocket::extensions`](crate::WebSocket::extensions). One message is sent without
/// compression by [`Outgoing::uncompressed`](crate::Outgoing::uncompressed).
///
/// # Memory
///
/// Each direction takes memory from its first compressed message until the connection is dropped, in addition to the 6 KiB
/// or less of an idle connection without compression:
///
/// | window bits | to send | to receive |
/// |------------:|--------:|-----------:|
/// |          15 | 371 KiB |     79 KiB |
/// |          12 | 259 KiB |     50 KiB |
/// |           9 | 245 KiB |     47 KiB |
///
/// So smaller windows save a third at most; a side that sends nothing compressed saves all of it. Forgetting the history
/// (`…_no_context_takeover`) saves nothing at this end, but may at the other. Measured with a counting allocator:
/// `cargo test --release --test memory a_connection_uses -- --nocapture`.
///
/// ```
/// use wsync::Compression;
///
/// let frugal = Compression::default()
///     .client_no_context_takeover(true)
///     .server_no_context_takeover(true)
///     .client_max_window_bits(10)
///     .server_max_window_bits(10)
///     .level(1)
///     .threshold(256);
/// assert_ne!(frugal, Compression::off());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it has an effect only in the options of a connection"]
pub struct Compression {
    pub(crate) on: bool,
    pub(crate) client_no_context_takeover: bool,
    pub(crate) server_no_context_takeover: bool,
    pub(crate) client_max_window_bits: u8,
    pub(crate) server_max_window_bits: u8,
    pub(crate) level: u8,
    pub(crate) threshold: usize,
}

impl Default for Compression {
    fn default() -> Compression {
        Compression {
            on: true,
            client_no_context_takeover: false,
            server_no_context_takeover: false,
            client_max_window_bits: 15,
            server_max_window_bits: 15,
            level: 3,
            threshold: 64,
        }
    }
}

impl Compression {
    /// No compression: the extension is neither offered nor accepted.
    /// See [the example](Compression).
    pub fn off() -> Compression {
        Compression { on: false, ..Compression::default() }
    }

    /// The client forgets its history after each message (default: no).
    /// See [the example](Compression).
    pub fn client_no_context_takeover(self, on: bool) -> Compression {
        Compression { client_no_context_takeover: on, ..self }
    }

    /// The server forgets its history after each message (default: no). Of a client this is a request: many servers do not
    /// know it, and an answer without it is taken. [`WebSocket::extensions`](crate::WebSocket::extensions) tells.
    /// See [the example](Compression).
    pub fn server_no_context_takeover(self, on: bool) -> Compression {
        Compression { server_no_context_takeover: on, ..self }
    }

    /// The base-2 logarithm of the client's window (9 to 15 as a client, 8 to 15 as a server; default 15). As a client 8
    /// is refused with an [`InvalidInput`](crate::ErrorKind::InvalidInput) error when connecting: the encoder cannot do it.
    /// See [the example](Compression).
    pub fn client_max_window_bits(self, bits: u8) -> Compression {
        Compression { client_max_window_bits: bits, ..self }
    }

    /// The base-2 logarithm of the server's window (8 to 15 as a client, 9 to 15 as a server; default 15). Of a client this
    /// is a request, as [`server_no_context_takeover`](Compression::server_no_context_takeover): the server may leave it
    /// out, but not answer with more.
    /// See [the example](Compression).
    pub fn server_max_window_bits(self, bits: u8) -> Compression {
        Compression { server_max_window_bits: bits, ..self }
    }

    /// How hard the compressor works: 1 (fast) to 9 (small; default 3). The compressed size of a message of 1 KiB and the
    /// time for it, for JSON as in chats and for English text, with history (`compression -- levels` in `benches` prints more):
    ///
    /// | level |          1 |           2 |       **3** |           6 |           9 |
    /// |-------|-----------:|------------:|------------:|------------:|------------:|
    /// | JSON  | 51 %, 4 µs | 42 %, 13 µs | 40 %, 15 µs | 39 %, 27 µs | 38 %, 48 µs |
    /// | text  | 40 %, 2 µs | 34 %, 13 µs | 31 %, 14 µs | 30 %, 21 µs | 29 %, 32 µs |
    ///
    /// Level 1 is for many messages and little time; beyond 3 the time doubles for a few percent.
    /// See [the example](Compression).
    pub fn level(self, level: u8) -> Compression {
        Compression { level, ..self }
    }

    /// Messages shorter than this many bytes are sent uncompressed (default 64). A message of 64 bytes becomes half as
    /// long in 2 µs, which saves less than the headers of TCP and TLS around it take; shorter messages save even less. Without history
    /// (`…_no_context_takeover`) only messages from 128 bytes on get smaller.
    /// See [the example](Compression).
    pub fn threshold(self, bytes: usize) -> Compression {
        Compression { threshold: bytes, ..self }
    }

    /// What an answer with exactly these parameters would agree on; `None` if compression is off.
    pub(crate) fn parameters(&self) -> Option<DeflateParameters> {
        self.on.then_some(DeflateParameters {
            client_no_context_takeover: self.client_no_context_takeover,
            server_no_context_takeover: self.server_no_context_takeover,
            client_max_window_bits: self.client_max_window_bits,
            server_max_window_bits: self.server_max_window_bits,
        })
    }

    /// Refuses what this role cannot do: its own encoder's window has at least 9 bits, the other side's may have 8.
    pub(crate) fn check(&self, role: Role) -> Result<()> {
        let (client_least, server_least) = match role {
            Role::Client => (9, 8),
            Role::Server => (8, 9),
        };
        let in_range = |name: &str, value: u8, least: u8, most: u8| {
            let text = || format!("compression: {name} is {value}: use {least} to {most}");
            let fits = (least..=most).contains(&value);
            fits.then_some(()).ok_or_else(|| Error::new(ErrorKind::InvalidInput, text()))
        };
        in_range("client_max_window_bits", self.client_max_window_bits, client_least, 15)?;
        in_range("server_max_window_bits", self.server_max_window_bits, server_least, 15)?;
        in_range("level", self.level, 1, 9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_s_own_window_has_at_least_9_bits() {
        let fits = |role, client: u8, server: u8, level: u8| {
            let compression = Compression::default().client_max_window_bits(client).server_max_window_bits(server);
            compression.level(level).check(role).is_ok()
        };
        for bits in 0..=20 {
            assert_eq!(fits(Role::Client, bits, 15, 6), (9..=15).contains(&bits));
            assert_eq!(fits(Role::Client, 15, bits, 6), (8..=15).contains(&bits));
            assert_eq!(fits(Role::Server, bits, 15, 6), (8..=15).contains(&bits));
            assert_eq!(fits(Role::Server, 15, bits, 6), (9..=15).contains(&bits));
            assert_eq!(fits(Role::Client, 15, 15, bits), (1..=9).contains(&bits));
        }
        let error = Compression::default().client_max_window_bits(8).check(Role::Client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "compression: client_max_window_bits is 8: use 9 to 15");
    }
}
