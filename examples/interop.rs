//! This crate's side of tests/interop/run: the same two programs that each peer there has, in Rust.
//!
//!     cargo run --example interop -- server [--tls] [--no-deflate]        (prints its port, serves until it is killed)
//!     cargo run --example interop -- client URL [--no-deflate]            (checks the server at URL)
//!     cargo run --example interop -- background URL                       (prints the events of a Background connection)
//!
//! The environment variables CERTIFICATE and KEY name PEM files, PROXY the URL of a proxy for the client, if any. Every
//! server here and there has these paths:
//! - `/echo` sends back each message, `/fragments` each in three fragments;
//! - `/ping` pings, sends `go`, waits for an answer and says `pong seen` if the pong came before it;
//! - `/server-closes` closes with 4002 and REASON;
//! - `/client-closes` waits for the client's close, which `/client-closed` tells (code, blank, reason).
//!
//! For a web page, which has no output, `/report` here prints what it gets, and `done` at the end.

use std::error::Error;
use std::fmt::Debug;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use wsync::native_tls::{Certificate, Identity, TlsAcceptor, TlsConnector};
use wsync::{
    AcceptOptions, Background, CloseCode, Compression, ConnectOptions, Event, Message, Proxy, Reconnect, WebSocket,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const REASON: &str = "ends here ✓";
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let compression = if has("--no-deflate") { Compression::off() } else { Compression::default() };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", ..] => server(compression, has("--tls")),
        ["client", url, ..] => client(compression, url),
        ["background", url] => background(url),
        _ => Err("give it: background URL | server [--tls] [--no-deflate] | client URL [--no-deflate]".into()),
    }
}

/// Notices within two seconds that the line is gone. Sends `hello` on each connection.
fn background(url: &str) -> Outcome {
    let options = WebSocket::options().ping_interval(Duration::from_secs(1)).connect_timeout(Duration::from_secs(2));
    let reconnect = Reconnect::new().max_delay(Duration::from_secs(1));
    let connection = Background::options().connect_options(options).reconnect(reconnect).connect(url, || {})?;
    for event in connection.events() {
        match event {
            Event::Open(_) => {
                println!("open");
                connection.send("hello")?;
            }
            Event::Message(message) => println!("message {}", message.as_text().unwrap_or_default()),
            Event::Reconnecting { cause, .. } => println!("reconnecting: {cause}"),
            Event::End(end) => println!("end: {end}"),
            _ => {}
        }
    }
    Ok(())
}

fn server(compression: Compression, with_tls: bool) -> Outcome {
    let mut options = AcceptOptions::new().protocols(["v2.chat", "v1.chat"]).compression(compression);
    if with_tls {
        options = options.tls(TlsAcceptor::new(Identity::from_pkcs8(&pem("CERTIFICATE")?, &pem("KEY")?)?)?);
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (closes, closed) = channel();
    let closed = Arc::new(Mutex::new(closed));
    for stream in listener.incoming() {
        let (stream, options, closes, closed) = (stream?, options.clone(), closes.clone(), closed.clone());
        thread::spawn(move || {
            if let Err(error) = serve(stream, &options, &closes, &closed) {
                eprintln!("interop server: {error}");
            }
        });
    }
    Ok(())
}

fn serve(
    stream: TcpStream,
    options: &AcceptOptions,
    closes: &Sender<String>,
    closed: &Mutex<Receiver<String>>,
) -> Outcome {
    let ws = options.accept(stream)?;
    match ws.request().map_or("", |request| request.path()) {
        "/echo" => {
            while let Some(message) = ws.recv()? {
                ws.send(&message)?;
            }
        }
        "/fragments" => {
            while let Some(message) = ws.recv()? {
                send_fragments(&ws, &message)?;
            }
        }
        "/report" => {
            for message in ws.messages() {
                println!("{}", message?.as_text().unwrap_or("FAILED this is no text"));
            }
            println!("done");
        }
        "/ping" => {
            ws.ping(b"from the server")?;
            ws.send("go")?;
            ws.recv_timeout(PATIENCE)?;
            ws.send(if ws.latency().is_some() { "pong seen" } else { "no pong" })?;
            ws.recv_timeout(PATIENCE)?;
        }
        "/server-closes" => ws.close(4002, REASON)?,
        "/client-closes" => {
            same(ws.recv_timeout(PATIENCE)?, None)?;
            closes.send(told(&ws))?;
        }
        "/client-closed" => {
            ws.send(&closed.lock().unwrap().recv_timeout(PATIENCE)?)?;
            ws.recv_timeout(PATIENCE)?;
        }
        path => return Err(format!("no such path: {path}").into()),
    }
    Ok(())
}

fn send_fragments(ws: &WebSocket, message: &Message) -> Outcome {
    let mut writer = ws.send_writer(message.kind())?;
    for part in message.as_bytes().chunks(message.len().div_ceil(3).max(1)) {
        writer.write_all(part)?;
        writer.flush()?;
    }
    Ok(writer.finish()?)
}

fn client(compression: Compression, url: &str) -> Outcome {
    let mut options = WebSocket::options().no_proxy().protocols(["v0.chat", "v1.chat", "v2.chat"]);
    if let Ok(proxy) = std::env::var("PROXY") {
        options = options.proxy(Proxy::new(&proxy)?);
    }
    if url.starts_with("wss:") {
        let root = Certificate::from_pem(&pem("CERTIFICATE")?)?;
        options = options.tls(TlsConnector::builder().add_root_certificate(root).build()?);
    }
    let expected = if compression == Compression::off() { "" } else { "permessage-deflate" };
    let options = options.connect_timeout(Some(PATIENCE)).compression(compression);
    let client = Client { url, options };
    let checks: [(&str, &dyn Fn() -> Outcome); 11] = [
        ("subprotocol", &|| same(client.open("/echo")?.protocol(), Some("v2.chat"))),
        ("extension", &|| same(client.open("/echo")?.extensions().split(';').next(), Some(expected))),
        ("text", &|| client.echoes("/echo", &["grüße, 世界 🎈".into(), "twice".into(), "twice".into()])),
        ("binary", &|| client.echoes("/echo", &[(0..=255).collect::<Vec<u8>>().into()])),
        ("empty", &|| client.echoes("/echo", &["".into(), vec![].into(), "".into()])),
        ("1 MiB", &|| client.echoes("/echo", &["ä".repeat(1 << 19).into(), noise(1 << 20).into()])),
        ("fragmented", &|| client.echoes("/fragments", &["grüße, 世界 🎈".into(), noise(1 << 20).into()])),
        ("both ways at once", &|| client.both_ways_at_once()),
        ("ping", &|| client.pings()),
        ("closed by the server", &|| client.is_closed()),
        ("closed by the client", &|| client.closes()),
    ];
    let mut failed = 0;
    for (name, check) in checks {
        match check() {
            Ok(()) => println!("ok {name}"),
            Err(error) => {
                failed += 1;
                println!("FAILED {name}: {error}");
            }
        }
    }
    if failed > 0 { Err(format!("{failed} checks failed").into()) } else { Ok(()) }
}

struct Client<'a> {
    url: &'a str,
    options: ConnectOptions,
}

impl Client<'_> {
    fn open(&self, path: &str) -> wsync::Result<WebSocket> {
        self.options.connect(format!("{}{path}", self.url))
    }

    fn echoes(&self, path: &str, messages: &[Message]) -> Outcome {
        let ws = self.open(path)?;
        for message in messages {
            ws.send(message)?;
            same(ws.recv_timeout(PATIENCE)?.as_ref(), Some(message))?;
        }
        Ok(ws.close(CloseCode::NORMAL, "")?)
    }

    /// More than any buffer on the way holds, sent by one thread and received by another.
    fn both_ways_at_once(&self) -> Outcome {
        let ws = self.open("/echo")?;
        let message = Message::from(noise(1 << 16));
        thread::scope(|scope| {
            let sender = scope.spawn(|| (0..512).try_for_each(|_| ws.send(&message)));
            let received = (0..512).try_for_each(|_| same(ws.recv_timeout(PATIENCE)?.as_ref(), Some(&message)));
            if received.is_err() {
                ws.abort();
            }
            received.and(sender.join().unwrap().map_err(Into::into))
        })?;
        Ok(ws.close(CloseCode::NORMAL, "")?)
    }

    fn pings(&self) -> Outcome {
        let ws = self.open("/ping")?;
        same(ws.recv_timeout(PATIENCE)?, Some("go".into()))?;
        ws.ping(b"from the client")?;
        ws.send("went")?;
        same(ws.recv_timeout(PATIENCE)?, Some("pong seen".into()))?;
        same(ws.latency().is_some(), true)?;
        Ok(ws.close(CloseCode::NORMAL, "")?)
    }

    fn is_closed(&self) -> Outcome {
        let ws = self.open("/server-closes")?;
        same(ws.recv_timeout(PATIENCE)?, None)?;
        same(told(&ws), format!("4002 {REASON}"))
    }

    fn closes(&self) -> Outcome {
        let ws = self.open("/client-closes")?;
        ws.close(4001, REASON)?;
        same(ws.close_code(), Some(CloseCode::from(4001)))?;
        same(self.open("/client-closed")?.recv_timeout(PATIENCE)?, Some(format!("4001 {REASON}").into()))
    }
}

fn told(ws: &WebSocket) -> String {
    let code = ws.close_code().map_or(0, u16::from);
    format!("{code} {}", ws.close_reason().unwrap_or_default())
}

fn same<T: PartialEq + Debug>(seen: T, expected: T) -> Outcome {
    let clipped = |value: T| format!("{value:?}").chars().take(150).collect::<String>();
    if seen == expected { Ok(()) } else { Err(format!("saw {}, not {}", clipped(seen), clipped(expected)).into()) }
}

/// Bytes that do not compress, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn pem(variable: &str) -> Outcome<Vec<u8>> {
    let path = std::env::var(variable).map_err(|_| format!("set {variable} to the path of a PEM file"))?;
    Ok(std::fs::read(path)?)
}
