//! The client's side (RFC 6455 §4.1): the request, and the checks of the 101.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::arguments::is_controlled;
use super::{Negotiated, accept_key, extensions};
use crate::compression::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Head, Headers, clip};

/// An upgrade request. The caller's part of it has passed [`check_header`](super::check_header) and
/// [`check_protocols`](super::check_protocols).
pub struct UpgradeRequest {
    /// The value of `Host`: IPv6 in brackets, a port unless it is the default.
    pub host: String,
    /// Path and query.
    pub target: String,
    pub key: String,
    pub protocols: Vec<String>,
    pub compression: Compression,
    /// The caller's, in order. A `Host`, `User-Agent` or `Authorization` among them replaces this request's own.
    pub headers: Vec<(String, String)>,
    pub user_agent: Option<String>,
    /// The whole `Basic …` value.
    pub basic: Option<String>,
}

impl UpgradeRequest {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut headers = Headers::default();
        // Host comes first (RFC 9110 §7.2) and once, also when it is the caller's.
        let is_host = |name: &str| name.eq_ignore_ascii_case("Host");
        match self.headers.iter().find(|(name, _)| is_host(name)) {
            Some((name, value)) => headers.push(name, value),
            None => headers.push("Host", &self.host),
        }
        headers.push("Upgrade", "websocket");
        headers.push("Connection", "Upgrade");
        headers.push("Sec-WebSocket-Key", &self.key);
        headers.push("Sec-WebSocket-Version", "13");
        if !self.protocols.is_empty() {
            headers.push("Sec-WebSocket-Protocol", &self.protocols.join(", "));
        }
        if let Some(offer) = extensions::offer(&self.compression) {
            headers.push("Sec-WebSocket-Extensions", &offer);
        }
        for (name, value) in [("User-Agent", &self.user_agent), ("Authorization", &self.basic)] {
            let is_callers = self.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            if let Some(value) = value.as_ref().filter(|_| !is_callers) {
                headers.push(name, value);
            }
        }
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_controlled(name) && !is_host(name)) {
            headers.push(name, value);
        }
        headers.to_bytes(&format!("GET {} HTTP/1.1", self.target))
    }

    /// Every check of RFC 6455 §4.1 and RFC 7692 §5 to §7 on the server's answer.
    pub fn check(&self, head: &Head) -> Result<Negotiated> {
        let refuse = |text: String| Err(Error::new(ErrorKind::Handshake, format!("the server's answer: {text}")));
        let (start, headers) = (&head.start, &head.headers);
        if start.status != 101 || start.minor == 0 {
            let line = format!("HTTP/1.{} {}", start.minor, start.status);
            return refuse(format!("{line}, expected HTTP/1.1 101 Switching Protocols"));
        }
        let mut upgrade = headers.tokens("Upgrade");
        if !matches!((upgrade.next(), upgrade.next()), (Some(name), None) if name.eq_ignore_ascii_case("websocket")) {
            return refuse(format!("Upgrade is {}, expected websocket", shown(headers, "Upgrade")));
        }
        if !headers.tokens("Connection").any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return refuse(format!("Connection is {}, expected Upgrade", shown(headers, "Connection")));
        }
        let accept = "Sec-WebSocket-Accept";
        if headers.single(accept) != Some(&accept_key(&self.key)) {
            let text = format!("{accept} is {}, which does not fit the key that was sent", shown(headers, accept));
            return refuse(text);
        }
        let deflate = match extensions::check_answer(&self.compression, headers) {
            Ok(deflate) => deflate,
            Err(text) => return refuse(format!("{text} (Sec-WebSocket-Extensions)")),
        };
        let name = "Sec-WebSocket-Protocol";
        let protocol = headers.single(name).map(str::to_owned);
        let is_offered = protocol.as_ref().is_some_and(|protocol| self.protocols.contains(protocol));
        if headers.get(name).is_some() && !is_offered {
            return refuse(format!("{name} is {}, which is not one that was offered", shown(headers, name)));
        }
        let extensions = headers.all("Sec-WebSocket-Extensions").collect::<Vec<_>>().join(", ");
        Ok(Negotiated { protocol, extensions, deflate })
    }
}

/// All values of a header for an error's text.
fn shown(headers: &Headers, name: &str) -> String {
    let values: Vec<&str> = headers.all(name).collect();
    if values.is_empty() { "absent".to_owned() } else { clip(&values.join(", ")) }
}

/// A `Sec-WebSocket-Key`.
pub fn key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}
