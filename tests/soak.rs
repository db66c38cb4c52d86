//! Many rounds of reconnecting, stalling and closing, after which no thread, file or memory may be left. `cargo test` runs
//! 25 rounds. `WSYNC_SOAK_ROUNDS=20000 cargo test --release --test soak` takes minutes.
//!
//! It counts the threads, files and memory of its process, so it is a binary of its own. The memory is what is allocated: how much of
//! what was freed the system's allocator keeps depends on which thread frees what when, and is up to 12 MiB here.

#![cfg(target_os = "linux")]

use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use peak_alloc::PeakAlloc;
use wsync::{Background, BackgroundOptions, CloseCode, Compression, ConnectOptions, Event, Reconnect, WebSocket};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const LONG: Duration = Duration::from_secs(30);

#[test]
fn no_thread_file_or_memory_is_left() {
    let rounds: usize = env::var("WSYNC_SOAK_ROUNDS").map_or(25, |rounds| rounds.parse().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let before = (count("task"), count("fd"));
    let mut memory = 0;
    for number in 0..rounds {
        round(&listener, &url);
        if number == rounds / 2 {
            wait_until_ended(before);
            memory = MEMORY.current_usage();
        }
    }
    wait_until_ended(before);
    let after = MEMORY.current_usage();
    println!("{rounds} rounds, {memory} bytes after half of them, {after} at the end");
    assert_eq!(after, memory, "bytes that are allocated at the end, and were after half of the rounds");
}

fn round(listener: &TcpListener, url: &str) {
    // A connection that is lost, reconnected, and closed.
    let chat = background(ConnectOptions::new()).connect(url, || {}).unwrap();
    accept(listener).abort();
    until(&chat, |event| matches!(event, Event::Reconnecting { .. }));
    chat.send("kept").unwrap();
    let server = accept(listener);
    assert_eq!(server.recv().unwrap(), Some("kept".into()));
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(server.recv().unwrap(), None);
    until(&chat, |event| matches!(event, Event::End(_)));

    // A peer that reads nothing: a close that times out, and a drop.
    for is_closed in [true, false] {
        let options = ConnectOptions::new().close_timeout(Some(Duration::from_millis(5)));
        let chat = background(options).connect(url, || {}).unwrap();
        let _server = accept(listener);
        until(&chat, |event| matches!(event, Event::Open(_)));
        chat.send(vec![7; 6 << 20]).unwrap();
        if is_closed {
            chat.close(CloseCode::NORMAL, "").unwrap();
            until(&chat, |event| matches!(event, Event::End(_)));
        }
        drop(chat);
    }

    // Dropped and closed while connecting, and dropped while waiting to reconnect.
    let chat = background(ConnectOptions::new()).connect(url, || {}).unwrap();
    let handshake = listener.accept().unwrap();
    drop((chat, handshake));
    let chat = background(ConnectOptions::new()).connect(url, || {}).unwrap();
    let handshake = listener.accept().unwrap();
    chat.close(CloseCode::NORMAL, "").unwrap();
    until(&chat, |event| matches!(event, Event::End(_)));
    drop(handshake);
    let long_delay = Reconnect::new().first_delay(Duration::MAX).max_delay(Duration::MAX);
    let chat = background(ConnectOptions::new()).reconnect(long_delay).connect(url, || {}).unwrap();
    drop(listener.accept().unwrap());
    until(&chat, |event| matches!(event, Event::Reconnecting { .. }));
    drop(chat);

    // A full event queue that is dropped, and a detached reader.
    let connecting = url.to_string();
    let client = thread::spawn(move || ConnectOptions::new().no_proxy().connect(&connecting).unwrap());
    let server = accept(listener);
    let client = client.join().unwrap();
    let (sender, woken) = channel();
    let events = client.events(1, move || sender.send(()).unwrap()).unwrap();
    server.send("one").unwrap();
    server.send("two").unwrap();
    woken.recv().unwrap();
    server.spawn_reader(|_| ControlFlow::Continue(())).unwrap().detach();
    drop(events);
}

fn background(options: ConnectOptions) -> BackgroundOptions {
    let immediately = Reconnect::new().first_delay(Duration::ZERO);
    Background::options().connect_options(options.no_proxy().compression(Compression::off())).reconnect(immediately)
}

fn accept(listener: &TcpListener) -> WebSocket {
    WebSocket::accept(listener.accept().unwrap().0).unwrap()
}

fn until(chat: &Background, is_it: impl Fn(&Event) -> bool) {
    while !is_it(&chat.events().recv_timeout(LONG).expect("an event")) {}
}

/// Waits until there are as many threads and files as before.
fn wait_until_ended(before: (usize, usize)) {
    let start = Instant::now();
    while (count("task"), count("fd")) != before {
        assert!(start.elapsed() < LONG, "{before:?} threads and files became {:?}", (count("task"), count("fd")));
        thread::yield_now();
    }
}

fn count(what: &str) -> usize {
    fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}
