//! HTTP servers by five crates. Each answers an upgrade by itself, with [`wsync::accept_key`], and then hands its connection
//! over to [`WebSocket::upgraded`] as far as it can. The table in the documentation of `wsync::Upgraded` has the results.

pub mod httparse;
pub mod hyper;
pub mod rouille;
pub mod tiny_http;
pub mod touche;

use wsync::WebSocket;

pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the servers do with a connection: they send each message back.
fn echo(ws: &WebSocket) -> Result {
    while let Some(message) = ws.recv()? {
        ws.send(&message)?;
    }
    Ok(())
}
