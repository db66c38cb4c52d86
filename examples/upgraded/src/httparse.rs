//! A server of one's own, with `httparse` for the request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use httparse::{EMPTY_HEADER, Request, Status};
use wsync::{Role, WebSocket, accept_key};

use crate::{Result, echo};

pub fn serve(listener: TcpListener) -> Result {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || echo(&accept(stream)?));
    }
    Ok(())
}

fn accept(mut stream: TcpStream) -> Result<WebSocket> {
    let mut read = Vec::new();
    loop {
        let mut block = [0; 1024];
        let count = stream.read(&mut block)?;
        if count == 0 {
            return Err("the client left before its request was complete".into());
        }
        read.extend_from_slice(&block[..count]);

        let mut headers = [EMPTY_HEADER; 64];
        let mut request = Request::new(&mut headers);
        let Status::Complete(length) = request.parse(&read)? else { continue };
        let key = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Key"));
        let key = std::str::from_utf8(key.ok_or("no key")?.value)?;
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(key)
        );
        stream.write_all(answer.as_bytes())?;
        return Ok(WebSocket::upgraded(stream, Role::Server).already_read(&read[length..]).open()?);
    }
}
