//! An echo or chat server with one thread for each connection.

use std::error::Error;
use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{fs, process, thread};

use lexopt::{Arg, ValueExt};
use wsync::native_tls::{Identity, TlsAcceptor};
use wsync::{AcceptOptions, ErrorKind, Group, Message, Prepared};

const HELP: &str = "\
A WebSocket server that sends back what it receives.

Usage: server [--chat] [--identity CERT KEY] [ADDRESS]

  ADDRESS               where to listen (default: 127.0.0.1:9001)
  --chat                send each message to all other clients instead
  --identity CERT KEY   serve wss: the certificate chain and its PKCS#8 key (BEGIN PRIVATE KEY), PEM files
  -h, --help            this text

Exit codes: 1 it cannot listen, 2 wrong usage. It runs until it is killed.";

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
    let mut options =
        AcceptOptions::new().send_timeout(Some(Duration::from_secs(5))).ping_interval(Some(Duration::from_secs(30)));
    let mut scheme = "ws";
    if let Some((certificates, key)) = arguments.identity {
        options = options.tls(TlsAcceptor::new(Identity::from_pkcs8(&fs::read(certificates)?, &fs::read(key)?)?)?);
        scheme = "wss";
    }
    let listener = TcpListener::bind(&arguments.address)
        .map_err(|error| format!("cannot listen at {:?}: {error}", arguments.address))?;
    println!("listening at {scheme}://{}/", listener.local_addr()?);

    let room = arguments.chat.then(Group::new);
    for stream in listener.incoming() {
        let (stream, options, room) = (stream?, options.clone(), room.clone());
        thread::spawn(move || {
            let who = stream.peer_addr().map_or("?".into(), |address| address.to_string());
            match serve(stream, &options, room.as_ref(), &who) {
                Ok(ending) => eprintln!("{who} {ending}"),
                Err(error) => eprintln!("{who} failed: {error}"),
            }
        });
    }
    Ok(())
}

/// Sees a client through; returns how it left.
fn serve(stream: TcpStream, options: &AcceptOptions, room: Option<&Group>, who: &str) -> wsync::Result<String> {
    let ws = options.accept(stream)?;
    eprintln!("{who} connected");
    match room {
        None => {
            while let Some(message) = ws.recv()? {
                ws.send(&message)?;
            }
        }
        Some(room) => {
            room.add(&ws);
            while let Some(message) = ws.recv()? {
                tell_others(room, who, &message);
            }
        }
    }
    let code = ws.close_code().map_or(String::new(), |code| format!(" with {code}"));
    Ok(format!("closed{code}"))
}

/// Sends to all others in the room, and waits for nobody: who is too slow to take it is dropped.
fn tell_others(room: &Group, who: &str, message: &Message) {
    let message = Prepared::new(message);
    for client in room.members() {
        let name = client.peer_addr().map_or("?".into(), |address| address.to_string());
        if name == who {
            continue;
        }
        if let Err(error) = client.try_send(&message) {
            // Whoever is closing has its own thread to see to that.
            if error.kind() == ErrorKind::WouldBlock {
                eprintln!("{name} is dropped: {error}");
                client.abort();
            }
        }
    }
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
