//! TLS 1.3 in front of a server without TLS: native-tls's acceptor stops at 1.2 on OpenSSL.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use openssl::ssl::{ErrorCode, SslStream};

use super::{Layer, sockets, tls};

/// Accepts TLS 1.3 on `encrypted`. Returns a connection that carries the same without TLS, for as long as both are open.
pub fn accept_tls13(encrypted: TcpStream) -> TcpStream {
    let (plain, theirs) = sockets();
    thread::spawn(move || {
        let mut bridge = Bridge {
            tls: tls::accept_as(&tls::GOOD, encrypted, Layer::Tls13).unwrap(),
            plain,
            to_plain: Forwarded::default(),
            to_tls: Forwarded::default(),
        };
        // An error is the end of one side: dropping the bridge ends the other.
        let _ = bridge.run();
    });
    theirs
}

struct Bridge {
    tls: SslStream<TcpStream>,
    plain: TcpStream,
    to_plain: Forwarded,
    to_tls: Forwarded,
}

/// Bytes that were read and are to be written.
#[derive(Default)]
struct Forwarded {
    bytes: Vec<u8>,
    written: usize,
    has_ended: bool,
}

impl Bridge {
    fn run(&mut self) -> Result<()> {
        let mut poll = Poll::new()?;
        for (token, socket) in [self.tls.get_ref(), &self.plain].into_iter().enumerate() {
            socket.set_nonblocking(true)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(token), interest)?;
        }
        let mut events = Events::with_capacity(2);
        let (mut is_plain_shut, mut is_tls_shut) = (false, false);
        while !(is_plain_shut && is_tls_shut) {
            if !is_plain_shut && forward(&mut self.tls, &mut self.plain, &mut self.to_plain)? {
                self.plain.shutdown(Shutdown::Write)?;
                is_plain_shut = true;
            }
            if !is_tls_shut && forward(&mut self.plain, &mut self.tls, &mut self.to_tls)? {
                is_tls_shut = self.shut_tls()?;
            }
            if !(is_plain_shut && is_tls_shut) {
                poll.poll(&mut events, None)?;
            }
        }
        Ok(())
    }

    /// Sends close_notify and ends the output; `false` if there is no room yet.
    fn shut_tls(&mut self) -> Result<bool> {
        match self.tls.shutdown() {
            Err(error) if error.code() == ErrorCode::WANT_WRITE => return Ok(false),
            // An error behind our close_notify is the peer's.
            Ok(_) | Err(_) => self.tls.get_ref().shutdown(Shutdown::Write)?,
        }
        Ok(true)
    }
}

/// Forwards as much as there is, and as there is room for; returns whether all is written, up to the end.
fn forward(from: &mut impl Read, to: &mut impl Write, forwarded: &mut Forwarded) -> Result<bool> {
    let Forwarded { bytes, written, has_ended } = forwarded;
    loop {
        while *written < bytes.len() {
            match to.write(&bytes[*written..]) {
                Ok(count) => *written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if *has_ended {
            return Ok(true);
        }
        bytes.resize(16 * 1024, 0);
        let read = from.read(bytes);
        bytes.truncate(*read.as_ref().unwrap_or(&0));
        *written = 0;
        match read {
            Ok(0) => *has_ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
