//! `rouille` does not fit, as [`tiny_http`](crate::tiny_http), on which it is built: [`rouille::Upgrade::build`] gets the
//! same `Box<dyn rouille::ReadWrite + Send>`.
//!
//! ```compile_fail
//! fn take_over(stream: Box<dyn rouille::ReadWrite + Send>) {
//!     let _ = wsync::WebSocket::upgraded(stream, wsync::Role::Server);
//! }
//! ```

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rouille::{ReadWrite, Request, Response, Server, Upgrade};
use wsync::accept_key;

use crate::Result;

type Upgraded = Box<dyn ReadWrite + Send>;

/// Passes the stream on.
struct HandOver(SyncSender<Upgraded>);

impl Upgrade for HandOver {
    fn build(&mut self, stream: Upgraded) {
        let _ = self.0.send(stream);
    }
}

/// A server on a free port: its address, a function that answers the first request, and where the stream comes.
pub fn upgrade_one() -> Result<(SocketAddr, impl FnOnce() + Send, Receiver<Upgraded>)> {
    let (sender, receiver) = sync_channel(1);
    let server = Server::new("127.0.0.1:0", move |request| answer(request, &sender))?;
    Ok((server.server_addr(), move || server.run(), receiver))
}

fn answer(request: &Request, sender: &SyncSender<Upgraded>) -> Response {
    let Some(key) = request.header("Sec-WebSocket-Key") else { return Response::empty_400() };
    let headers = vec![("Upgrade".into(), "websocket".into()), ("Sec-WebSocket-Accept".into(), accept_key(key).into())];
    let upgrade: Box<dyn Upgrade + Send> = Box::new(HandOver(sender.clone()));
    Response { status_code: 101, headers, upgrade: Some(upgrade), ..Response::empty_204() }
}
