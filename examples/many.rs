//! Holds many connections with a thread each, and prints what one costs: `cargo run --release --example many -- 1000`.
//! With `--compressed`, each has sent and received a compressed message.
//!
//! The server is a process of its own, so that only one side is measured. Memory is read from Linux's `/proc`.

use std::env;
use std::io::{BufRead, BufReader, Result};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use wsync::{Compression, Event, WebSocket};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--server") {
        return serve();
    }
    let is_compressed = arguments.iter().any(|argument| argument == "--compressed");
    let count = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1000);

    let mut server = Command::new(env::current_exe()?).arg("--server").stdout(Stdio::piped()).spawn()?;
    let mut url = String::new();
    BufReader::new(server.stdout.take().expect("it is piped")).read_line(&mut url)?;
    let result = hold(url.trim(), count, is_compressed);
    server.kill()?;
    server.wait()?;
    result
}

fn hold(url: &str, count: usize, is_compressed: bool) -> Result<()> {
    let compression = if is_compressed { Compression::default() } else { Compression::off() };
    let options = WebSocket::options().no_proxy().compression(compression);
    let message = "all work and no play makes a dull message. ".repeat(25);
    let (sender, received) = channel();
    let before = Cost::now()?;

    let mut connections = Vec::new();
    for _ in 0..count {
        let ws = options.connect(url)?;
        let sender = sender.clone();
        let reader = ws.spawn_reader(move |event| {
            if let Event::Message(message) = event {
                let _ = sender.send(message.len());
            }
            ControlFlow::Continue(())
        })?;
        ws.send(&message)?;
        connections.push((ws, reader));
    }
    let bytes: usize = received.iter().take(count).sum();
    assert_eq!(bytes, count * message.len());

    let cost = Cost::now()?;
    let memory = cost.memory.saturating_sub(before.memory) as f64 / count as f64;
    let threads = cost.threads.saturating_sub(before.threads) as f64 / count as f64;
    println!("{count} connections: {memory:.1} KiB of memory and {threads:.2} threads each");

    for (ws, reader) in connections {
        ws.close(1000, "")?;
        reader.join().expect("the handler does not panic");
    }
    Ok(())
}

/// What this process uses.
#[derive(Default)]
struct Cost {
    /// KiB that are in memory.
    memory: usize,
    threads: usize,
}

impl Cost {
    #[cfg(target_os = "linux")]
    fn now() -> Result<Cost> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
        };
        Ok(Cost { memory: number("VmRSS:"), threads: number("Threads:") })
    }

    #[cfg(not(target_os = "linux"))]
    fn now() -> Result<Cost> {
        Ok(Cost::default())
    }
}

/// An echo server; prints its URL first.
fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("ws://{}/", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || -> Result<()> {
            let ws = WebSocket::accept(stream)?;
            while let Some(message) = ws.recv()? {
                ws.send(&message)?;
            }
            Ok(())
        });
    }
    Ok(())
}
