//! What tests/autobahn/run tests: an echo client and an echo server for the Autobahn|Testsuite.
//!
//!     cargo run --release --example autobahn -- client ws://127.0.0.1:9001 AGENT
//!     cargo run --release --example autobahn -- server 127.0.0.1:9002

use std::net::{TcpListener, TcpStream};
use std::thread;

use wsync::{AcceptOptions, Compression, Result, WebSocket};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["client", url, agent] => client(url, agent),
        ["server", address] => server(address),
        _ => Err("give it: client URL AGENT | server ADDRESS".into()),
    }
}

/// Runs every case that the fuzzing server has, one connection each, and asks for the report at the end.
fn client(url: &str, agent: &str) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let count = connect(&format!("{url}/getCaseCount"))?.recv()?.ok_or("the fuzzing server sent no case count")?;
    let count: u32 = count.as_text().ok_or("the case count is not text")?.parse()?;
    for case in 1..=count {
        let ws = connect(&format!("{url}/runCase?case={case}&agent={agent}"))?;
        // Most cases end in a violation that the fuzzing server commits on purpose: its report judges what was seen.
        let _ = echo(&ws);
    }
    while connect(&format!("{url}/updateReports?agent={agent}"))?.recv()?.is_some() {}
    Ok(())
}

fn server(address: &str) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(address)?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

fn serve(stream: TcpStream) {
    let accepted = AcceptOptions::new().compression(compression()).accept(stream);
    // As in the client, how a case ends is in the report.
    let _ = accepted.and_then(|ws| echo(&ws));
}

fn connect(url: &str) -> Result<WebSocket> {
    WebSocket::options().no_proxy().compression(compression()).connect(url)
}

/// Every message is compressed, however short.
fn compression() -> Compression {
    Compression::default().threshold(0)
}

fn echo(ws: &WebSocket) -> Result<()> {
    while let Some(message) = ws.recv()? {
        ws.send(&message)?;
    }
    Ok(())
}
