//! The rules of the opening handshake, without I/O (RFC 6455 §4, RFC 7692 §5 to §7).
//!
//! Client: [`UpgradeRequest`] writes the request and checks the head of the 101. Server: [`check_request`] makes a
//! [`Request`](crate::http::Request) of a head, or the response that refuses it, [`accept`] chooses what both sides agree on. Both sides
//! end with the same [`Negotiated`].

mod arguments;
mod client;
mod extensions;
mod server;
#[cfg(test)]
mod tests;

pub use arguments::{check_header, check_protocols, check_response, is_controlled};
pub use client::{UpgradeRequest, key};
pub(crate) use extensions::describe as describe_extensions;
pub use server::{accept, check_request, plain_request, write_accept};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::protocol::DeflateParameters;

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub protocol: Option<String>,
    /// As header text; empty if nothing was agreed.
    pub extensions: String,
    pub deflate: Option<DeflateParameters>,
}

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2), for a program that answers an upgrade by itself and
/// then hands the stream over ([`WebSocket::upgraded`](crate::WebSocket::upgraded)).
///
/// ```
/// assert_eq!(wsync::accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[must_use]
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}
