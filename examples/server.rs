//! An echo or chat server with one thread for each connection.

use std::error::Error;
use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, process, thread};

use lexopt::{Arg, ValueExt};
use wsync::native_tls::{Identity, TlsAcceptor};
use wsync::{AcceptOptions, Message, WebSocket};

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
    // A client that takes nothing for this long is dropped: it must not hold up the others of a chat.
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

    let room = arguments.chat.then(Room::default);
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
fn serve(stream: TcpStream, options: &AcceptOptions, room: Option<&Room>, who: &str) -> wsync::Result<String> {
    let ws = options.accept(stream)?;
    eprintln!("{who} connected");
    match room {
        None => {
            while let Some(message) = ws.recv()? {
                ws.send(&message)?;
            }
        }
        Some(room) => {
            let _seat = room.enter(&ws, who);
            while let Some(message) = ws.recv()? {
                room.tell_others(who, &message);
            }
        }
    }
    let code = ws.close_code().map_or(String::new(), |code| format!(" with {code}"));
    Ok(format!("closed{code}"))
}

/// The clients of a chat.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<Vec<(String, WebSocket)>>>);

/// A client's place in the room, free again when it is dropped.
struct Seat<'a> {
    room: &'a Room,
    who: &'a str,
}

impl Room {
    fn enter<'a>(&'a self, ws: &WebSocket, who: &'a str) -> Seat<'a> {
        self.change(|clients| clients.push((who.to_string(), ws.clone())));
        Seat { room: self, who }
    }

    /// Sends with the room unlocked: a slow client keeps nobody from coming or going.
    fn tell_others(&self, who: &str, message: &Message) {
        let clients = self.change(|clients| clients.clone());
        for (name, client) in clients.iter().filter(|(name, _)| name != who) {
            if let Err(error) = client.send(message) {
                eprintln!("{name} is dropped: {error}");
                client.abort();
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<(String, WebSocket)>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.room.change(|clients| clients.retain(|(name, _)| name != self.who));
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
