//! Checks of the headers and subprotocols that a program adds to a handshake.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::http::{Response, clip, is_tchar};

/// Refuses a header that would add a line or a body to the handshake. Spaces and tabs around a value are allowed: they
/// are not part of it and are not sent. The error never shows the value, which may be a secret.
pub fn check_header(name: &str, value: &str) -> Result<()> {
    let refuse = |text: String| Err(Error::new(ErrorKind::InvalidInput, text));
    if name.is_empty() {
        return refuse("a header has an empty name: give it one".to_owned());
    }
    if let Some(bad) = name.chars().find(|&c| !is_tchar(c)) {
        let hint = "a name is made of letters, digits and !#$%&'*+-.^_`|~";
        return refuse(format!("header name {} contains {bad:?}: {hint}", clip(name)));
    }
    if let Some(bad) = value.chars().find(|&c| c.is_control() && c != '\t') {
        return refuse(format!("the value of header {name} contains {bad:?}: remove control characters and line ends"));
    }
    if ["content-length", "transfer-encoding"].iter().any(|body| name.eq_ignore_ascii_case(body)) {
        return refuse(format!("header {name} cannot be set: what describes a body is not yours to set, leave it out"));
    }
    Ok(())
}

/// Refuses a response of the program that is not a correct answer.
pub fn check_response(response: &Response) -> Result<()> {
    let refuse = |text: String| Err(Error::new(ErrorKind::InvalidInput, text));
    let status = response.status();
    if !(200..=599).contains(&status) {
        return refuse(format!("a response with status {status} cannot be sent: use 200 to 599"));
    }
    if matches!(status, 204 | 205 | 304) && !response.body().is_empty() {
        return refuse(format!("a response with status {status} has no body: leave it out, or use another status"));
    }
    response.headers().try_for_each(|(name, value)| check_header(name, value))
}

/// Whether the handshake sets this header itself, so that the caller's is ignored.
pub fn is_controlled(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "Connection",
        "Upgrade",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Accept",
    ];
    NAMES.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// Refuses subprotocols that cannot be offered (RFC 6455 §4.1): each must be a token, and none may repeat.
pub fn check_protocols(protocols: &[String]) -> Result<()> {
    let refuse = |text: String| Err(Error::new(ErrorKind::InvalidInput, text));
    let mut seen = BTreeSet::new();
    for protocol in protocols {
        if protocol.is_empty() {
            return refuse("a subprotocol is empty: give it a name or leave it out".to_owned());
        }
        if let Some(bad) = protocol.chars().find(|&c| !is_tchar(c)) {
            let hint = "a name is made of letters, digits and !#$%&'*+-.^_`|~; give several one by one";
            return refuse(format!("subprotocol {} contains {bad:?}: {hint}", clip(protocol)));
        }
        if !seen.insert(protocol) {
            return refuse(format!("subprotocol {protocol} is there twice: leave one out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_may_send() {
        let fine = [("Authorization", "Bearer a.b"), ("x", ""), ("!#$%&'*+-.^_`|~", " \"é\"\t,;")];
        for (name, value) in fine {
            check_header(name, value).unwrap();
        }
        for name in ["", " ", "a b", "a:", ":a", "a\r\nb", "a\0", "é", " a", "a ", "a\t", "a/b", "Content-length"] {
            assert_eq!(check_header(name, "x").unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        }
        for value in ["secret\r\nX: y", "\nsecret", "secret\r", "secret\0", "secret\x1b", "secret\x7f", "secret\u{85}"]
        {
            let error = check_header("Authorization", value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
