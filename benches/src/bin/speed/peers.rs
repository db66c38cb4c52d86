//! The other end: bare sockets on threads, whose work is not counted.

use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread::{self, JoinHandle};

use native_tls::{Certificate, Identity, TlsAcceptor, TlsConnector};
use tungstenite::handshake::derive_accept_key;

use crate::job::{Act, Job};

/// Bytes per read or write. Not a multiple of 4096: reads that fill such a buffer keep the kernel's copies at one distance
/// modulo 4096, some of which take three times as long (benches/README.md).
pub const CHUNK: usize = (1 << 20) - 1117;

/// A stream to a peer that does the other half of the job, and the peer, which ends when the stream is closed.
pub fn start(job: &Job) -> Result<(TcpStream, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_nodelay(true)?;
    let job = job.clone();
    let peer = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("it is connected");
        stream.set_nodelay(true).expect("it is TCP");
        // The client decides how it ends.
        let _ = if job.tls {
            TLS.0.accept(stream).map_err(std::io::Error::other).and_then(|stream| play(stream, &job))
        } else {
            play(stream, &job)
        };
    });
    Ok((stream, peer))
}

fn play(mut stream: impl Read + Write, job: &Job) -> Result<()> {
    answer_upgrade(&mut stream)?;
    match job.act {
        Act::Receive | Act::ReceiveInto => {
            let frame = frame(job, false);
            let chunk = frame.repeat(CHUNK.div_ceil(frame.len()));
            loop {
                stream.write_all(&chunk)?;
            }
        }
        Act::Echo => {
            let (mut request, answer) = (frame(job, true), frame(job, false));
            loop {
                stream.read_exact(&mut request)?;
                stream.write_all(&answer)?;
            }
        }
        _ => {
            let mut bytes = vec![0; CHUNK];
            while stream.read(&mut bytes)? > 0 {}
            Ok(())
        }
    }
}

/// An echo server with a thread for each connection.
pub fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let _ = stream.set_nodelay(true);
            thread::spawn(move || {
                let Ok(mut ws) = tungstenite::accept(stream) else { return };
                while ws.read().and_then(|message| ws.send(message)).is_ok() {}
            });
        }
    });
    Ok(address)
}

/// The job's message as a frame, of a client or of a server.
pub fn frame(job: &Job, masked: bool) -> Vec<u8> {
    let payload = job.message();
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x80 | if job.is_text() { 1 } else { 2 }];
    match payload.len() {
        length @ 0..=125 => frame.push(mask_bit | length as u8),
        length @ 126..=0xffff => {
            frame.push(mask_bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(mask_bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend(payload);
    }
    frame
}

pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The client's half of the opening handshake.
pub fn upgrade(stream: &mut (impl Read + Write)) -> Result<()> {
    stream.write_all(REQUEST)?;
    assert!(head(stream)?.starts_with("HTTP/1.1 101 "));
    Ok(())
}

fn answer_upgrade(stream: &mut (impl Read + Write)) -> Result<()> {
    let request = head(stream)?;
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let accept = derive_accept_key(key.expect("it asks for an upgrade").as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Reads byte by byte, to leave what comes behind the head.
fn head(stream: &mut impl Read) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(std::io::Error::other)
}

/// TLS settings of the server, and of a client that trusts it.
pub static TLS: LazyLock<(TlsAcceptor, TlsConnector)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("the name is fine");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = Identity::from_pkcs8(certificate.as_bytes(), key.as_bytes()).expect("just made");
    let root = Certificate::from_pem(certificate.as_bytes()).expect("just made");
    let connector = TlsConnector::builder().add_root_certificate(root).build();
    (TlsAcceptor::new(identity).expect("just made"), connector.expect("just made"))
});
