//! `CONNECT` (RFC 9110 §9.3.6).

use super::super::target::Target;
use super::ProxyStream;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Head, HeadParser, Response, is_informational};

pub(super) fn connect(wire: &ProxyStream<'_>, target: &Target) -> Result<()> {
    let authority = target.authority();
    let credentials = wire.proxy.credentials.as_ref();
    let authorization = match credentials {
        Some(credentials) => format!("Proxy-Authorization: {}\r\n", credentials.basic()),
        None => String::new(),
    };
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n");
    wire.write_all(request.as_bytes())?;

    let head = read_head(wire)?;
    let status = head.start.status;
    let why = match (status, credentials) {
        // Any length or coding that such an answer announces does not count: what follows is the tunnel.
        (200..=299, _) => return Ok(()),
        (407, None) => "the proxy wants a user and password: put them in the proxy's URL",
        // tinyproxy says 401 to a wrong password.
        (401 | 407, Some(_)) => "it did not accept the user and password",
        _ => "it refused",
    };
    let text = format!("{} answered {status} to CONNECT {authority}: {why}", wire.name());
    Err(Error::with_response(ErrorKind::Proxy, text, Response::received(head, Vec::new())))
}

/// The head of the final answer, and not a byte more: what follows may be for TLS.
fn read_head(wire: &ProxyStream<'_>) -> Result<Head> {
    let mut parser = HeadParser::response();
    let mut buffer = [0; 1024];
    loop {
        let seen = wire.peek(&mut buffer)?;
        if parser.is_empty() && matches!(buffer[0], 0x15 | 0x16) {
            return Err(wire.error("speaks TLS, and TLS to the proxy itself is not supported; use its plain HTTP port"));
        }
        let not_http =
            |error| Error::caused(ErrorKind::Proxy, format_args!("{} does not speak HTTP", wire.name()), error);
        let (taken, head) = parser.feed(&buffer[..seen]).map_err(not_http)?;
        wire.read_exact(&mut buffer[..taken])?;
        match head {
            Some(head) if !is_informational(&head) => return Ok(head),
            _ => {}
        }
    }
}
