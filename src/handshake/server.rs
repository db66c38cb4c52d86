//! The server's side (RFC 6455 §4.2): the checks of a request, and the answers.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::arguments::{check_header, is_controlled};
use super::{Negotiated, accept_for, extensions};
use crate::compression::Compression;
use crate::error::{Error, ErrorKind};
use crate::http::{Head, Headers, Request, RequestLine, clip, is_token};

/// An answer other than 101, with which [`AcceptOptions::inspect`](crate::AcceptOptions::inspect) refuses a request.
///
/// ```
/// let refusal = wsync::Refusal::new(503, "full, come back later").header("Retry-After", "60");
/// assert_eq!(refusal.status(), 503);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: u16,
    reason: String,
    headers: Vec<(String, String)>,
}

impl Refusal {
    /// Refuses with an HTTP status and a text that says why, which becomes the body.
    pub fn new(status: u16, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into(), headers: Vec::new() }
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: &str, value: &str) -> Refusal {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Refuses a program's refusal that is not a correct answer.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(300..=599).contains(&self.status) || self.status == 304 {
            let text = format!("a request cannot be refused with status {}: use 300 to 599, and not 304", self.status);
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        self.headers.iter().try_for_each(|(name, value)| check_header(name, value))
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The text that says why.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl Request {
    /// The subprotocols that the client offers, in its order of preference (RFC 6455 §1.9).
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.fields().tokens("Sec-WebSocket-Protocol")
    }
}

/// Every check of RFC 6455 §4.2.1, and that no body follows.
pub fn check_request(head: Head<RequestLine>) -> Result<Request, Refusal> {
    let bad = |reason: String| Err(Refusal::new(400, reason));
    let Head { start, headers } = head;
    if start.minor == 0 {
        return Err(Refusal::new(505, "a WebSocket needs HTTP/1.1"));
    }
    if start.method != "GET" {
        let reason = format!("the method is {}, a WebSocket needs GET", clip(&start.method));
        return Err(Refusal::new(405, reason).header("Allow", "GET"));
    }
    let Some(target) = path_and_query(&start.target) else {
        return bad(format!("the request target {} is not a path", clip(&start.target)));
    };
    if headers.single("Host").is_none() {
        return bad("Host must be there once".to_owned());
    }
    if headers.all("Content-Length").any(|length| length != "0") || headers.get("Transfer-Encoding").is_some() {
        return bad("a WebSocket request has no body".to_owned());
    }
    let has_token = |name, wanted| headers.tokens(name).any(|token: &str| token.eq_ignore_ascii_case(wanted));
    if !has_token("Upgrade", "websocket") || !has_token("Connection", "upgrade") {
        let refusal = Refusal::new(426, "this is a WebSocket endpoint: Upgrade: websocket, Connection: Upgrade");
        return Err(refusal.header("Upgrade", "websocket").header("Connection", "Upgrade"));
    }
    if headers.single("Sec-WebSocket-Version") != Some("13") {
        let refusal = Refusal::new(426, "Sec-WebSocket-Version must be there once and be 13");
        let refusal = refusal.header("Upgrade", "websocket").header("Connection", "Upgrade");
        return Err(refusal.header("Sec-WebSocket-Version", "13"));
    }
    let key = headers.single("Sec-WebSocket-Key").map(|key| STANDARD.decode(key));
    if !matches!(key, Some(Ok(bytes)) if bytes.len() == 16) {
        return bad("Sec-WebSocket-Key must be there once and be the base64 of 16 bytes".to_owned());
    }
    let mut seen = BTreeSet::new();
    if let Some(name) = headers.tokens("Sec-WebSocket-Protocol").find(|name| !is_token(name) || !seen.insert(*name)) {
        return bad(format!("Sec-WebSocket-Protocol: {} is not a name or is there twice", clip(name)));
    }
    if let Err(reason) = extensions::parse(&headers) {
        return bad(reason);
    }
    Ok(Request::new(target, headers))
}

/// Both forms of a target that name a resource (RFC 9112 §3.2): `/chat` and `http://example.com/chat`.
fn path_and_query(target: &str) -> Option<String> {
    if target.contains('#') {
        return None;
    }
    if target.starts_with('/') {
        return Some(target.to_owned());
    }
    let (scheme, rest) = target.split_once("://")?;
    let known = ["http", "https", "ws", "wss"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
    let (authority, resource) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // A host must not be empty (RFC 9110 §4.2.1).
    if !known || host.is_empty() || host.starts_with(':') {
        return None;
    }
    let slash = if resource.starts_with('/') { "" } else { "/" };
    Some(format!("{slash}{resource}"))
}

/// The server's choice: the first of its own subprotocols that the client offers, and the first offer of compression that
/// it can do. If there is none, nothing is agreed, which is not an error.
pub fn accept(request: &Request, protocols: &[String], compression: &Compression) -> Negotiated {
    let offered: BTreeSet<&str> = request.protocols().collect();
    let protocol = protocols.iter().find(|protocol| offered.contains(protocol.as_str())).cloned();
    match extensions::choose(compression, request.fields()) {
        Some((agreed, extensions)) => Negotiated { protocol, extensions, deflate: Some(agreed) },
        None => Negotiated { protocol, extensions: String::new(), deflate: None },
    }
}

/// The 101 (RFC 6455 §4.2.2), with the caller's headers behind those of the handshake.
pub fn write_accept(request: &Request, negotiated: &Negotiated, extra: &[(String, String)]) -> Vec<u8> {
    let mut headers = Headers::default();
    headers.push("Upgrade", "websocket");
    headers.push("Connection", "Upgrade");
    headers.push("Sec-WebSocket-Accept", &accept_for(request.header("Sec-WebSocket-Key").unwrap_or_default()));
    if let Some(protocol) = &negotiated.protocol {
        headers.push("Sec-WebSocket-Protocol", protocol);
    }
    if !negotiated.extensions.is_empty() {
        headers.push("Sec-WebSocket-Extensions", &negotiated.extensions);
    }
    for (name, value) in extra.iter().filter(|(name, _)| !is_controlled(name)) {
        headers.push(name, value);
    }
    headers.to_bytes("HTTP/1.1 101 Switching Protocols")
}

/// A whole answer, body included, after which the connection closes.
pub fn write_refusal(refusal: &Refusal) -> Vec<u8> {
    let mut headers = Headers::default();
    headers.push("Connection", "close");
    for (name, value) in &refusal.headers {
        headers.push(name, value);
    }
    if headers.get("Content-Type").is_none() {
        headers.push("Content-Type", "text/plain; charset=utf-8");
    }
    headers.push("Content-Length", &refusal.reason.len().to_string());
    let phrase = match refusal.status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "", // It may be empty, but the space before it may not be missing (RFC 9112 §4).
    };
    let mut answer = headers.to_bytes(&format!("HTTP/1.1 {} {phrase}", refusal.status));
    answer.extend_from_slice(refusal.reason.as_bytes());
    answer
}
