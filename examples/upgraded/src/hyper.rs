//! `hyper` on tokio answers; the connection then belongs to a thread.

use std::net::TcpListener;
use std::thread;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{Upgraded, on};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wsync::{Role, WebSocket, accept_key};

use crate::{Result, echo};

pub fn serve(listener: TcpListener) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(connection.with_upgrades());
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).ok_or("no key")?;
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_ACCEPT, accept_key(key.to_str()?))
        .body(String::new())?;
    tokio::spawn(async { take_over(on(request).await?) });
    Ok(response)
}

/// Blocks nothing: the thread does.
fn take_over(upgraded: Upgraded) -> Result {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| "not the stream that was served")?;
    let stream = parts.io.into_inner().into_std()?;
    let ws = WebSocket::upgraded(stream, Role::Server).already_read(parts.read_buf).open()?;
    thread::spawn(move || echo(&ws));
    Ok(())
}
