//! A server whose clients may hold so much together, and many clients that try to make it hold more.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wsync::{AcceptOptions, ConnectOptions, Error, ErrorKind, Group, Server, ServerHandle, WebSocket};

use crate::support::peer::header;
use crate::support::*;
use crate::{KB, MEMORY, turn};

const MB: usize = 1024 * KB;
const LIMIT: usize = 12 * MB;
/// What a connection may have beside the limit, as `Server::memory_limit` says; and its client and thread here.
const OVERHEAD: usize = 32 * KB;
/// Messages that two processors handle at once, and what grows by being copied.
const SLACK: usize = LIMIT / 2 + 2 * MB;

/// As many as there may be files for, each client taking three.
fn peers() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find(|line| line.starts_with("Max open files"));
    let files: usize = files.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or(1024);
    (files.saturating_sub(100) / 4).min(1000)
}

/// What a hostile client does once it is connected. An error means that it was dropped.
type Attack = fn(&mut TcpStream) -> std::io::Result<()>;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// The head of the 101 is read, and nothing behind it.
fn open(stream: &mut TcpStream, headers: &str) -> std::io::Result<()> {
    stream.write_all(format!("{REQUEST}{headers}\r\n").as_bytes())?;
    let (mut end, mut byte) = (0, [0]);
    while end < 4 {
        stream.read_exact(&mut byte)?;
        end = if byte[0] == b"\r\n\r\n"[end] { end + 1 } else { 0 };
    }
    Ok(())
}

/// Announces 10 MB, and sends a part of it.
fn dribble(stream: &mut TcpStream) -> std::io::Result<()> {
    open(stream, "")?;
    stream.write_all(&[&header(FIN | BINARY, 10_000_000, 0x80), &[0; 4][..]].concat())?;
    let piece = [7; 10_000];
    (0..20).try_for_each(|_| stream.write_all(&piece))
}

/// The same, in fragments that inflate to a thousand times their size.
fn inflate(stream: &mut TcpStream) -> std::io::Result<()> {
    open(stream, "Sec-WebSocket-Extensions: permessage-deflate\r\n")?;
    static BOMB: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let bomb = BOMB.get_or_init(|| Codec::new().deflate(&vec![0; 300_000]));
    stream.write_all(&[&header(BINARY | COMPRESSED, bomb.len() as u64, 0x80), &[0; 4][..], bomb].concat())
}

/// A long head that does not end.
fn long_head(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(format!("{REQUEST}X-Long: {}", "x".repeat(50_000)).as_bytes())
}

/// Never reads what it is sent.
fn never_read(stream: &mut TcpStream) -> std::io::Result<()> {
    socket2::SockRef::from(&*stream).set_recv_buffer_size(4096)?;
    open(stream, "")
}

fn attack(address: SocketAddr, number: usize) -> Option<TcpStream> {
    const ATTACKS: [Attack; 4] = [dribble, inflate, long_head, never_read];
    let mut stream = TcpStream::connect(address).unwrap();
    ATTACKS[number % ATTACKS.len()](&mut stream).ok().map(|()| stream)
}

#[test]
fn hostile_clients_do_not_make_the_server_hold_more_than_its_limit() {
    let _turn = turn();
    bounded(|| {
        let room = Group::new();
        let members = room.clone();
        let options = AcceptOptions::new().accept_timeout(None);
        let server = Server::bind("127.0.0.1:0").unwrap().options(options).memory_limit(LIMIT).max_handshakes(2000);
        let server = server
            .stack_size(256 * KB)
            .spawn(move |ws| {
                members.add(&ws);
                while let Some(message) = ws.recv()? {
                    ws.send(&message)?;
                }
                Ok(())
            })
            .unwrap();
        let address = server.local_addr().unwrap();
        let good = connect(&server);
        let peers = peers();
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let next = AtomicUsize::new(0);
        let connected = Mutex::new(Vec::with_capacity(peers));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= peers {
                            return;
                        }
                        let stream = attack(address, number);
                        connected.lock().unwrap().extend(stream);
                        if number % 50 == 0 {
                            let _missed = room.send(&vec![1; 60 * KB][..]);
                        }
                    }
                });
            }
            // Meanwhile.
            for number in 0..50 {
                good_round(&good, number);
            }
        });
        for _ in 0..20 {
            let _missed = room.send(&vec![1; 60 * KB][..]);
            drop(good.recv().unwrap());
        }
        good_round(&good, 51);
        let peak = MEMORY.peak_usage().saturating_sub(before);
        let most = LIMIT + SLACK + peers * OVERHEAD;
        let evicted = server.statistics().evicted;
        println!("{peers} hostile clients: peak {} KiB of {}, {evicted} evicted", peak / KB, most / KB);
        assert!(peak < most, "{peak} bytes at most, expected less than {most}");
        assert!(evicted > 0 && evicted < peers as u64);
        drop(connected);
        good.close(1000, "").unwrap();
        assert_eq!(server.shutdown(Duration::from_secs(30)), 0);
    });
}

fn connect(server: &ServerHandle) -> WebSocket {
    let url = format!("ws://{}/", server.local_addr().unwrap());
    ConnectOptions::new().no_proxy().connect(url).unwrap()
}

/// An echo of 10 KB, between what the room is sent.
fn good_round(good: &WebSocket, number: u8) {
    good.send(&[number; 10_000]).unwrap();
    while good.recv().unwrap().unwrap().as_bytes() != [number; 10_000] {}
}

/// The one that holds most ends with a code and an error that say why; the other goes on.
#[test]
fn the_largest_ends_with_1009_and_its_handler_is_told() {
    let _turn = turn();
    bounded(|| {
        let (tell, told) = std::sync::mpsc::channel::<Error>();
        let tell = Mutex::new(tell);
        let options = AcceptOptions::new().max_message_size(100 * MB);
        let server = Server::bind("127.0.0.1:0").unwrap().options(options).memory_limit(2 * MB);
        let server = server
            .spawn(move |ws| {
                loop {
                    match ws.recv() {
                        Ok(Some(message)) => ws.send(message.len().to_string())?,
                        Ok(None) => return Ok(()),
                        Err(error) => {
                            tell.lock().unwrap().send(error.clone()).unwrap();
                            return Err(error);
                        }
                    }
                }
            })
            .unwrap();
        let (small, large) = (connect(&server), connect(&server));
        small.send(&vec![0; MB][..]).unwrap();
        assert_eq!(small.recv().unwrap(), Some("1048576".into()));
        // It may fail: the server stops reading.
        let _ = large.send(&vec![0; 3 * MB][..]);
        let end = large.recv();
        assert_eq!(told.recv().unwrap().kind(), ErrorKind::TooBig);
        // A reset may overtake the close frame, as the server leaves bytes unread.
        assert!(end.is_err() || large.close_code().map(u16::from) == Some(1009), "{end:?} {large:?}");
        assert_eq!(server.statistics().evicted, 1);
        small.send(&vec![0; MB][..]).unwrap();
        assert_eq!(small.recv().unwrap(), Some("1048576".into()));
        drop(large);
        small.close(1000, "").unwrap();
        server.shutdown(Duration::from_secs(30));
    });
}
