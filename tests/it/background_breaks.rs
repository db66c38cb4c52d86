//! A connection in the background through a relay that breaks it at any byte, answers 503, closes at once, or stalls:
//! nothing comes twice or out of order, and what is accepted arrives or is in `unsent`, but for what the system had taken of a
//! connection that was lost.
//!
//! `WSYNC_BREAKS=10000 cargo test --release --test it background_breaks` does it more often.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::support::{Layer, acceptor, options, scheme};
use wsync::{AcceptOptions, Background, CloseCode, Compression, ErrorKind, Event, Reconnect, WebSocket};

const LONG: Duration = Duration::from_secs(60);

/// A generator of numbers that differ for each seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn breaks() -> u64 {
    std::env::var("WSYNC_BREAKS").map_or(100, |count| count.parse().expect("WSYNC_BREAKS is a number"))
}

/// Breaks the connections that come.
fn break_connections(listener: &TcpListener, server: SocketAddr, layer: Layer, seed: u64) {
    let mut dice = Dice(seed);
    for _ in 0..breaks() {
        let mut client = listener.accept().unwrap().0;
        match dice.roll(10) {
            0 => {}
            1 if layer == Layer::Plain => {
                let _ = client.write_all(b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n");
                let _ = client.shutdown(Shutdown::Write);
                let _ = client.read_to_end(&mut Vec::new());
            }
            _ => {
                // Often within the handshakes, sometimes behind many messages.
                let most = [400, 3000, 30_000, 200_000][dice.roll(4) as usize];
                let bytes = dice.roll(most);
                let stalls = dice.roll(10) == 0;
                forward(&client, server, bytes as usize, stalls, dice.roll(2) == 0);
            }
        }
    }
}

/// Forwards so many bytes of the client's, and what comes from the server meanwhile; then ends both connections, perhaps after a
/// stall, perhaps by a reset.
fn forward(client: &TcpStream, server: SocketAddr, bytes: usize, stalls: bool, resets: bool) {
    let server = TcpStream::connect(server).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            copy(&server, client, usize::MAX);
            let _ = client.shutdown(Shutdown::Write);
        });
        copy(client, &server, bytes);
        if bytes == usize::MAX {
            let _ = server.shutdown(Shutdown::Write);
            return;
        }
        if stalls {
            // Longer than a write waits at once.
            thread::sleep(Duration::from_millis(60));
        }
        if resets {
            for stream in [client, &server] {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
        for stream in [client, &server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, mut bytes: usize) {
    let mut block = [0; 16 * 1024];
    while bytes > 0 {
        let length = block.len().min(bytes);
        match from.read(&mut block[..length]) {
            Ok(count @ 1..) if to.write_all(&block[..count]).is_ok() => bytes -= count,
            _ => return,
        }
    }
}

/// Serves one connection after the other, until one is closed with 1000: answers each message with its number, and returns all
/// that came, by sender.
fn serve(listener: &TcpListener, options: &AcceptOptions) -> [Vec<usize>; 2] {
    let mut received = [vec![], vec![]];
    loop {
        let Ok(ws) = options.accept(listener.accept().unwrap().0) else { continue };
        while let Ok(Some(message)) = ws.recv() {
            let text = message.as_text().unwrap();
            let (sender, rest) = text.split_once(' ').unwrap();
            let number = rest.split_once(' ').unwrap().0;
            received[usize::from(sender == "own")].push(number.parse().unwrap());
            if sender == "queued" {
                let _ = ws.send(number);
            }
        }
        if ws.close_code() == Some(CloseCode::NORMAL) {
            return received;
        }
    }
}

fn message(sender: &str, number: usize) -> String {
    // Text that compresses to about three quarters.
    let mut dice = Dice(number as u64);
    let letters = (0..[0, 10, 1000, 20_000][number % 4]).map(|_| (b'0' + dice.roll(64) as u8) as char);
    format!("{sender} {number} {}", letters.collect::<String>())
}

fn run(layer: Layer, compression: Compression, seed: u64) {
    let (middle, server) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (url, address) =
        (format!("{}://{}/", scheme(layer), middle.local_addr().unwrap()), server.local_addr().unwrap());
    let accept = acceptor(layer, &AcceptOptions::new().compression(compression.clone()));
    let serving = thread::spawn(move || serve(&server, &accept));
    let is_broken_enough = Arc::new(AtomicBool::new(false));
    let relaying = thread::spawn({
        let is_done = Arc::clone(&is_broken_enough);
        move || {
            break_connections(&middle, address, layer, seed);
            is_done.store(true, Ordering::SeqCst);
            forward(&middle.accept().unwrap().0, address, usize::MAX, false, false);
        }
    });
    let at_once = Reconnect::new().first_delay(Duration::ZERO);
    let chat = Background::options()
        .connect_options(options().compression(compression))
        .reconnect(at_once)
        .connect(&url, || {});
    let chat = chat.unwrap();
    let (arrived, arrivals) = channel();
    let taking = thread::spawn({
        let chat = chat.clone();
        move || take_events(&chat, &arrived)
    });
    let mut accepted = Vec::new();
    let mut send = |number| loop {
        match chat.send(message("queued", number)) {
            Ok(()) => return accepted.push(number),
            Err(error) => {
                let end = || chat.close_and_wait(CloseCode::NORMAL, "", LONG);
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}: {:?}", end());
            }
        }
        thread::yield_now();
    };
    let mut number = 0;
    while !is_broken_enough.load(Ordering::SeqCst) {
        send(number);
        number += 1;
    }
    let after = number;
    // What is sent from here on and arrives has arrived on the last connection, and all that follows it does.
    let first_safe = loop {
        send(number);
        if let Some(arrived) = arrivals.try_iter().find(|arrived| *arrived >= after) {
            break arrived;
        }
        number += 1;
    };
    let end = chat.close_and_wait(CloseCode::NORMAL, "", LONG).unwrap();
    assert!(end.error().is_none(), "{end}");
    taking.join().unwrap();
    relaying.join().unwrap();
    let [delivered, own] = serving.join().unwrap();
    assert!(delivered.is_sorted_by(|one, other| one < other), "twice or out of order: {delivered:?}");
    assert!(own.is_sorted_by(|one, other| one < other), "twice or out of order: {own:?}");
    let safe: Vec<usize> = (first_safe..=number).collect();
    assert!(delivered.ends_with(&safe), "not all that followed the last break has arrived: {safe:?}");
    assert!(chat.unsent().is_empty(), "{:?}", chat.unsent().len());
    let lost = accepted.len() - delivered.len();
    println!("{layer:?}: {} breaks, {} accepted, {lost} lost with a connection", breaks(), accepted.len());
}

/// The program sends on the open handle, too; the numbers that the server answers with go to `arrived`.
fn take_events(chat: &Background, arrived: &Sender<usize>) {
    let mut number = 0;
    let mut own: Vec<thread::JoinHandle<()>> = Vec::new();
    for event in chat.events() {
        match event {
            Event::Open(ws) => {
                own.drain(..).for_each(|thread| thread.join().unwrap());
                let numbers = number..number + 3;
                number += 3;
                own.push(thread::spawn(move || send_own(&ws, numbers)));
            }
            Event::Message(number) => drop(arrived.send(number.as_text().unwrap().parse().unwrap())),
            _ => {}
        }
    }
    own.into_iter().for_each(|thread| thread.join().unwrap());
}

fn send_own(ws: &WebSocket, numbers: std::ops::Range<usize>) {
    for number in numbers {
        if ws.send(message("own", number)).is_err() {
            return;
        }
    }
}

#[test]
fn nothing_comes_twice_or_out_of_order_over_tcp() {
    run(Layer::Plain, Compression::off(), 1);
}

#[test]
fn nothing_comes_twice_or_out_of_order_compressed() {
    run(Layer::Plain, Compression::default().threshold(1), 2);
}

#[test]
fn nothing_comes_twice_or_out_of_order_over_tls() {
    run(Layer::Tls12, Compression::off(), 3);
}
