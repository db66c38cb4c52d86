//! The opening handshake without I/O (RFC 6455 §4, RFC 7692 §5 to §7, HTTP heads by RFC 9112): bytes in, values out.
//!
//! Client: [`UpgradeRequest`] writes the request and checks the 101 that a [`HeadParser`] read; anything but a 101 becomes a
//! [`Response`], with what [`Body`] kept. Server: [`check_request`] makes a [`Request`] or a [`Refusal`], [`accept`]
//! chooses what both sides agree on. Both sides end with the same [`Negotiated`].

mod body;
mod client;
mod extensions;
mod head;
mod headers;
mod request;
mod response;
mod server;
#[cfg(test)]
mod tests;

pub use request::Request;
pub use response::Response;
pub use server::Refusal;

pub(crate) use body::Body;
pub(crate) use client::{UpgradeRequest, check_protocols, is_controlled, key};
pub(crate) use extensions::describe as describe_extensions;
pub(crate) use head::{Head, HeadParser, StartLine, is_informational};
pub(crate) use headers::check_header;
pub(crate) use server::{accept, check_request, write_accept, write_refusal};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::compression::DeflateParameters;

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub protocol: Option<String>,
    /// As header text; empty if nothing was agreed.
    pub extensions: String,
    pub deflate: Option<DeflateParameters>,
}

/// The `Sec-WebSocket-Accept` that proves that a server has read this `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
pub(crate) fn accept_for(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}
