//! An echo or chat server with one thread for each connection.

use std::error::Error;
use std::ffi::OsString;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, process};

use lexopt::{Arg, ValueExt};
use wsync::native_tls::{Identity, TlsAcceptor};
use wsync::{AcceptOptions, ErrorKind, Group, Response, Server, WebSocket};

const HELP: &str = "\
A WebSocket server that sends back what it receives.

Usage: server [--chat] [--identity CERT KEY] [ADDRESS]

  ADDRESS               where to listen (default: 127.0.0.1:9001)
  --chat                send each message to all other clients instead
  --identity CERT KEY   serve wss: the certificate chain and its PKCS#8 key (BEGIN PRIVATE KEY), PEM files
  -h, --help            this text

It also answers http://ADDRESS/health. Ctrl-C stops it: each client is told.

Exit codes: 1 it cannot listen, 2 wrong usage.";

fn main() {
    let arguments = Arguments::parse().unwrap_or_else(|error| exit(2, &format!("{error} (--help shows the usage)")));
    if let Err(error) = run(arguments) {
        exit(1, &error.to_string());
    }
}

fn exit(code: i32, text: &str) -> ! {
    eprintln!("server: {text}");
    process::exit(code)
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    // A client that takes nothing for this long is dropped.
    let mut options = AcceptOptions::new()
        .send_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(30))
        .on_http(|request| match request.path() {
            "/health" => Response::new(200).body("ok"),
            _ => Response::new(404),
        });
    let mut scheme = "ws";
    if let Some((certificates, key)) = arguments.identity {
        options = options.tls(TlsAcceptor::new(Identity::from_pkcs8(&fs::read(certificates)?, &fs::read(key)?)?)?);
        scheme = "wss";
    }
    let server = Server::bind(&arguments.address)?.options(options);
    println!("listening at {scheme}://{}/", server.handle().local_addr()?);
    let (stop, stopped) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = stop.send(());
    })?;

    let room = arguments.chat.then(Group::new);
    let server = server.spawn(move |ws| {
        let who = name(&ws);
        eprintln!("{who} connected");
        let result = serve(&ws, room.as_ref());
        match (&result, ws.close_code()) {
            (Ok(()), Some(code)) => eprintln!("{who} closed with {code}"),
            (Ok(()), None) => eprintln!("{who} closed"),
            (Err(error), _) => eprintln!("{who} failed: {error}"),
        }
        result
    })?;
    stopped.recv()?;
    let dropped = server.shutdown(Duration::from_secs(5));
    eprintln!("stopped; {dropped} clients were dropped");
    Ok(())
}

/// Serves one client until its connection ends.
fn serve(ws: &WebSocket, room: Option<&Group>) -> wsync::Result<()> {
    match room {
        None => {
            while let Some(message) = ws.recv()? {
                ws.send(&message)?;
            }
        }
        Some(room) => {
            room.add(ws);
            while let Some(message) = ws.recv()? {
                for missed in room.send_except(ws, &message) {
                    // A client that is too slow is dropped. One that is closing is left to its own thread.
                    if missed.error().kind() == ErrorKind::WouldBlock {
                        eprintln!("{} is dropped: {}", name(missed.connection()), missed.error());
                        missed.connection().abort();
                    }
                }
            }
        }
    }
    Ok(())
}

fn name(ws: &WebSocket) -> String {
    ws.peer_addr().map_or("?".into(), |address| address.to_string())
}

struct Arguments {
    address: String,
    chat: bool,
    identity: Option<(OsString, OsString)>,
}

impl Arguments {
    fn parse() -> Result<Arguments, lexopt::Error> {
        let mut arguments = Arguments { address: "127.0.0.1:9001".into(), chat: false, identity: None };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("chat") => arguments.chat = true,
                Arg::Long("identity") => arguments.identity = Some((parser.value()?, parser.value()?)),
                Arg::Value(address) => arguments.address = address.string()?,
                Arg::Short('h') | Arg::Long("help") => {
                    println!("{HELP}");
                    process::exit(0);
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(arguments)
    }
}
