//! `tiny_http` does not fit: it hands out a `Box<dyn tiny_http::ReadWrite + Send>`. One thread that waits in `read` on it
//! keeps all others from `write`, and the socket inside cannot be reached. So it does not become a [`wsync::Stream`]:
//!
//! ```compile_fail
//! fn take_over(stream: Box<dyn tiny_http::ReadWrite + Send>) {
//!     let _ = wsync::WebSocket::upgraded(stream, wsync::Role::Server);
//! }
//! ```
//!
//! The same with a stream that fits:
//!
//! ```
//! fn take_over(stream: std::net::TcpStream) {
//!     let _ = wsync::WebSocket::upgraded(stream, wsync::Role::Server);
//! }
//! ```
//!
//! Answering works, and the stream has what the client sent, also before the answer.

use std::net::TcpListener;

use tiny_http::{Header, ReadWrite, Response, Server};
use wsync::accept_key;

use crate::Result;

/// Answers the first request.
pub fn upgrade_one(listener: TcpListener) -> Result<Box<dyn ReadWrite + Send>> {
    let request = Server::from_listener(listener, None)?.recv()?;
    let key = request.headers().iter().find(|header| header.field.equiv("Sec-WebSocket-Key")).ok_or("no key")?;
    let accept =
        Header::from_bytes("Sec-WebSocket-Accept", accept_key(key.value.as_str())).map_err(|()| "no header")?;
    Ok(request.upgrade("websocket", Response::empty(101).with_header(accept)))
}
