//! Peers that change the keys of TLS while messages flow both ways: key updates (1.3) and renegotiation (1.2).
//!
//! The peer is `openssl s_server`, which does both on request. It sends what it reads from stdin, except for command
//! letters, and writes what it receives to stdout.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

struct SServer {
    process: Child,
    stdin: ChildStdin,
    output: Arc<Output>,
    port: String,
    commands: usize,
}

/// Everything that arrived on stdout, and how much of it has been searched.
#[derive(Default)]
struct Output {
    state: Mutex<(Vec<u8>, usize)>,
    changed: Condvar,
}

impl Output {
    /// Waits until `find` finds something in the output after the last result. `find` also returns where that ends.
    fn wait<T>(&self, what: &str, mut find: impl FnMut(&[u8]) -> Option<(T, usize)>) -> T {
        let mut state = self.state.lock().unwrap();
        loop {
            let (bytes, at) = &mut *state;
            if let Some((found, end)) = find(&bytes[*at..]) {
                *at += end;
                return found;
            }
            let waited = self.changed.wait_timeout(state, Duration::from_secs(30)).unwrap();
            assert!(!waited.1.timed_out(), "{what} did not arrive within 30 s");
            state = waited.0;
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn count(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).filter(|window| *window == wanted).count()
}

impl SServer {
    fn start(version: &str) -> SServer {
        let directory = std::env::temp_dir().join(format!("wsync-{}-{version}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
        std::fs::write(&certificate, tls::GOOD.certificate.to_pem().unwrap()).unwrap();
        std::fs::write(&key, tls::GOOD.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let mut process = Command::new("stdbuf")
            .args(["-oL", "openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", version, "-cert"])
            .arg(&certificate)
            .arg("-key")
            .arg(&key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs the commands stdbuf and openssl");
        let (stdin, mut stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let output = Arc::new(Output::default());
        let collected = output.clone();
        std::thread::spawn(move || {
            let mut block = [0; 16 * 1024];
            while let Ok(count @ 1..) = stdout.read(&mut block) {
                collected.state.lock().unwrap().0.extend_from_slice(&block[..count]);
                collected.changed.notify_all();
            }
        });
        let port = output.wait("the port", |bytes| {
            let at = find(bytes, b"ACCEPT 127.0.0.1:")? + 17;
            let length = bytes[at..].iter().position(|byte| *byte == b'\n')?;
            Some((String::from_utf8(bytes[at..at + length].into()).unwrap(), at + length))
        });
        std::fs::remove_dir_all(directory).unwrap();
        SServer { process, stdin, output, port, commands: 0 }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stdin.write_all(bytes).unwrap();
        self.stdin.flush().unwrap();
    }

    /// Gives a command and waits until it is done. s_server would lose data after the letter in the same read.
    fn command(&mut self, letter: &[u8]) {
        self.write(letter);
        self.commands += 1;
        // s_server prints this between our messages, so it is counted and not consumed.
        let mut state = self.output.state.lock().unwrap();
        while count(&state.0, b"SSL_do_handshake -> 1") < self.commands {
            state = self.output.changed.wait(state).unwrap();
        }
    }

    fn upgrade(&mut self) {
        let key = self.output.wait("the request", |bytes| {
            let end = find(bytes, b"\r\n\r\n")? + 4;
            let at = find(&bytes[..end], b"Sec-WebSocket-Key: ")? + 19;
            Some((String::from_utf8(bytes[at..at + 24].into()).unwrap(), end))
        });
        let accept = STANDARD.encode(Sha1::digest(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        self.write(&peer::response(&accept, ""));
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns where the first client frame with this payload ends. The mask is unknown.
fn end_of_frame(bytes: &[u8], payload: &[u8]) -> Option<usize> {
    let header = [FIN | BINARY, 0x80 | payload.len() as u8];
    let length = 6 + payload.len();
    bytes
        .windows(length)
        .position(|window| {
            window.starts_with(&header)
                && window[6..]
                    .iter()
                    .zip(window[2..6].iter().cycle())
                    .map(|(byte, mask)| byte ^ mask)
                    .eq(payload.iter().copied())
        })
        .map(|at| at + length)
}

fn assert_messages_arrive(version: &'static str, command: &'static [u8]) {
    bounded(move || {
        const ROUNDS: u32 = 10;
        let mut server = SServer::start(version);
        let url = format!("wss://127.0.0.1:{}/", server.port);
        let connecting = spawn("client", move || options().connect(&url).unwrap());
        server.upgrade();
        let ws = wait_for(connecting);

        let payload = |number: u32| format!("message {number:08}").into_bytes();
        let (receiver, sender) = (ws.clone(), ws.clone());
        // The receiver reports each message, so that the next command waits for the last message.
        let (received, is_received) = std::sync::mpsc::channel();
        let receiver = spawn("receiver", move || {
            for message in receiver.messages() {
                received.send(message.unwrap()).unwrap();
            }
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let sender = spawn("sender", move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                sender.send(payload(number)).unwrap();
                number += 1;
            }
            number
        });
        for round in 0..ROUNDS {
            server.command(command);
            server.write(&frame(FIN | TEXT, format!("round {round}").as_bytes()));
            let message = is_received.recv_timeout(Duration::from_secs(30)).expect("a message with the new keys");
            assert_eq!(Some(message), text(&format!("round {round}")));
        }
        is_over.store(true, Ordering::Relaxed);
        for number in 0..wait_for(sender) {
            server.output.wait("our message", |bytes| Some(((), end_of_frame(bytes, &payload(number))?)));
        }
        // Without a concurrent send, the receiver must write TLS's response to the command.
        server.command(command);
        server.write(&frame(PING, b"quiet"));
        ws.send(b"the end").unwrap();
        server.output.wait("the end", |bytes| Some(((), end_of_frame(bytes, b"the end")?)));
        server.write(&frame(CLOSE, &close_payload(1000, "")));
        wait_for(receiver);
        assert_eq!(ws.close_code(), code(1000));
    });
}

#[test]
fn messages_arrive_across_key_updates() {
    assert_messages_arrive("-tls1_3", b"K\n");
}

#[test]
fn messages_arrive_across_renegotiation() {
    assert_messages_arrive("-tls1_2", b"r\n");
}
