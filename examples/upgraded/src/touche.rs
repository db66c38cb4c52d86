//! `touche`, which has a thread for each connection.
//!
//! What it has read beyond the request is lost: its buffered reader is dropped. That is no loss with clients that keep to
//! RFC 6455 §4.1, which send nothing before the answer.

use std::net::{TcpListener, TcpStream};

use touche::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use touche::upgrade::Upgrade;
use touche::{Body, Connection, Request, Response, Server, StatusCode};
use wsync::{Role, WebSocket, accept_key};

use crate::{Result, echo};

pub fn serve(listener: TcpListener) -> Result {
    Ok(Server::from(listener).serve(answer)?)
}

fn answer(request: Request<Body>) -> Result<Response<()>> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).ok_or("no key")?;
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_ACCEPT, accept_key(key.to_str()?))
        .upgrade(|connection| drop(take_over(connection)))
        .body(())?;
    Ok(response)
}

fn take_over(connection: Connection) -> Result {
    let stream = connection.downcast::<TcpStream>().map_err(|_| "not TCP")?;
    echo(&WebSocket::upgraded(stream, Role::Server).open()?)
}
