//! The server's side (RFC 6455 §4.2): the checks of a request, and the answers.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::arguments::is_controlled;
use super::{Negotiated, accept_key, extensions};
use crate::compression::Compression;
use crate::http::{Head, Headers, Request, RequestLine, Response, ResponseBuilder, clip, is_token};

impl Request {
    /// The subprotocols that the client offers, in its order of preference (RFC 6455 §1.9).
    /// See [the example](crate::Request).
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.fields().tokens("Sec-WebSocket-Protocol")
    }
}

/// Every check of RFC 6455 §4.2.1, and that no body follows. What breaks one is answered with the response.
pub fn check_request(head: Head<RequestLine>) -> Result<Request, ResponseBuilder> {
    let bad = |reason: String| Err(Response::new(400).body(reason));
    let Head { start, headers } = head;
    if start.minor == 0 {
        return Err(Response::new(505).body("a WebSocket needs HTTP/1.1"));
    }
    if start.method != "GET" {
        let reason = format!("the method is {}, a WebSocket needs GET", clip(&start.method));
        return Err(Response::new(405).header("Allow", "GET").body(reason));
    }
    let Some(target) = path_and_query(&start.target) else {
        return bad(format!("the request target {} is not a path", clip(&start.target)));
    };
    if headers.single("Host").is_none() {
        return bad("Host must be there once".to_owned());
    }
    if headers.announce_body() {
        return bad("a WebSocket request has no body".to_owned());
    }
    let has_token = |name, wanted| headers.tokens(name).any(|token: &str| token.eq_ignore_ascii_case(wanted));
    if !has_token("Upgrade", "websocket") || !has_token("Connection", "upgrade") {
        let text = "this is a WebSocket endpoint: send a request with Upgrade: websocket and Connection: Upgrade";
        return Err(upgrade_required().body(text));
    }
    if headers.single("Sec-WebSocket-Version") != Some("13") {
        let response = upgrade_required().header("Sec-WebSocket-Version", "13");
        return Err(response.body("Sec-WebSocket-Version must be there once and be 13"));
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
    Ok(Request::new(start.method, target, headers))
}

/// A request that asks for no WebSocket: for a program that serves plain HTTP on the same port. `None` for one that does, and for
/// what HTTP does not allow; [`check_request`] answers both.
pub fn plain_request(head: &Head<RequestLine>) -> Option<Request> {
    let Head { start, headers } = head;
    let asks_for_websocket = headers.tokens("Upgrade").any(|token| token.eq_ignore_ascii_case("websocket"));
    let is_host_right = start.minor == 0 || headers.single("Host").is_some();
    if asks_for_websocket || !is_host_right || !is_token(&start.method) {
        return None;
    }
    let target = path_and_query(&start.target)?;
    Some(Request::new(start.method.clone(), target, headers.clone()))
}

fn upgrade_required() -> ResponseBuilder {
    Response::new(426).header("Upgrade", "websocket").header("Connection", "Upgrade")
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
    headers.push("Sec-WebSocket-Accept", &accept_key(request.header("Sec-WebSocket-Key").unwrap_or_default()));
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
