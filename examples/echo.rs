//! A server and a client in one program: `cargo run --example echo`.

use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use wsync::{CloseCode, Message, WebSocket};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let server = thread::spawn(move || serve_one(&listener));

    let ws = WebSocket::connect(&url)?;
    println!("connected to {url} with {}", ws.extensions());

    for message in [Message::from("hello"), Message::from(vec![1, 2, 3])] {
        let start = Instant::now();
        ws.send(&message)?;
        let answer = ws.recv()?.ok_or("the server closed before it answered")?;
        println!("sent {message:?}, received {answer:?} after {:?}", start.elapsed());
    }

    ws.close(CloseCode::NORMAL, "done")?;
    println!("closed with {}", ws.close_code().expect("it is closed"));
    server.join().expect("the server does not panic")?;
    Ok(())
}

/// Accepts one connection, and sends back what comes until the client closes.
fn serve_one(listener: &TcpListener) -> std::io::Result<()> {
    let (stream, _) = listener.accept()?;
    let ws = WebSocket::accept(stream)?;
    while let Some(message) = ws.recv()? {
        ws.send(&message)?;
    }
    Ok(())
}
