//! A network that fails at every byte of a whole connection: connect, exchange, close, with and without TLS.
//!
//! Both ends are this crate, so every fault is seen in both roles. Between them stands a relay, which passes on so many
//! bytes in one direction, and then ends, resets or stalls it. Whatever it does, both ends come to an end of their own,
//! and each has received a beginning of what the other has sent, every message once.

use std::io::{ErrorKind as Io, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use crate::support::{Side, spawn, tls, wait_for};
use wsync::native_tls::TlsAcceptor;
use wsync::{AcceptOptions, CloseCode, ErrorKind, Message, WebSocket};

static ACCEPTOR: LazyLock<TlsAcceptor> = LazyLock::new(tls::native_acceptor);

/// What one direction of the relay does once it has passed on so many bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// FIN to the receiver; what the sender says still is taken and lost.
    End,
    /// RST to both.
    Reset,
    /// Nothing any more, for ever.
    Stall,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    tls: bool,
    /// Who closes.
    closer: Side,
    /// The direction that the fault is in, by who sends.
    from: Side,
    fault: Fault,
    after: usize,
    /// How many bytes the relay passes on at once.
    step: usize,
}

const WHOLE: Case = Case {
    tls: false,
    closer: Side::Client,
    from: Side::Client,
    fault: Fault::End,
    after: usize::MAX,
    step: usize::MAX,
};

/// How an end saw the connection.
#[derive(Debug)]
struct Seen {
    received: Vec<Message>,
    /// How receiving ended; `Ok` is a close frame. Absent if connecting failed.
    end: Option<Result<(), ErrorKind>>,
    connected: Result<(), ErrorKind>,
    closed: Option<Result<(), ErrorKind>>,
}

/// A whole connection over the relay: what the client and the server saw, and how many bytes each has sent.
struct Outcome {
    client: Seen,
    server: Seen,
    passed: [usize; 2],
}

#[test]
fn a_connection_that_comes_byte_by_byte_is_whole() {
    for tls in [false, true] {
        for closer in [Side::Client, Side::Server] {
            let case = Case { tls, closer, step: 1, ..WHOLE };
            check_whole(&run(case), case);
        }
    }
}

#[test]
fn an_end_or_a_reset_at_every_byte_is_survived() {
    for closer in [Side::Client, Side::Server] {
        for (from, total) in totals(false, closer) {
            let mut received = 0;
            for after in 0..=total {
                check(Case { closer, from, fault: Fault::Reset, after, ..WHOLE });
                let now = check(Case { closer, from, fault: Fault::End, after, ..WHOLE });
                assert!(now == received || now == received + 1, "what came before the end is there, at {after}");
                received = now;
            }
            assert_eq!(received, messages().len());
        }
    }
}

#[test]
fn an_end_or_a_reset_at_every_byte_of_tls_is_survived() {
    for closer in [Side::Client, Side::Server] {
        for (from, total) in totals(true, closer) {
            for (i, after) in (0..=total).enumerate() {
                let fault = if i % 2 == 0 { Fault::End } else { Fault::Reset };
                check(Case { tls: true, closer, from, fault, after, ..WHOLE });
            }
        }
    }
}

#[test]
fn a_stall_at_any_byte_ends_with_the_bound_of_the_call() {
    let mut cases = Vec::new();
    for (tls, step) in [(false, 11), (true, 131)] {
        for closer in [Side::Client, Side::Server] {
            for (from, total) in totals(tls, closer) {
                let stalls = (0..total).step_by(step);
                cases.extend(stalls.map(|after| Case { tls, closer, from, fault: Fault::Stall, after, ..WHOLE }));
            }
        }
    }
    // They mostly wait: many at once.
    for cases in cases.chunks(32) {
        thread::scope(|scope| {
            for &case in cases {
                scope.spawn(move || _ = check(case));
            }
        });
    }
}

/// How many bytes each side sends when nothing goes wrong.
fn totals(tls: bool, closer: Side) -> [(Side, usize); 2] {
    let case = Case { tls, closer, ..WHOLE };
    let outcome = run(case);
    check_whole(&outcome, case);
    [(Side::Client, outcome.passed[0]), (Side::Server, outcome.passed[1])]
}

fn check_whole(outcome: &Outcome, case: Case) {
    for (seen, side) in [(&outcome.client, Side::Client), (&outcome.server, Side::Server)] {
        assert_eq!(seen.received, messages(), "{case:?}: {side:?}");
        assert_eq!(seen.end, Some(Ok(())), "{case:?}: {side:?}");
        assert_eq!(seen.closed, (side == case.closer).then_some(Ok(())), "{case:?}: {side:?}");
    }
}

/// Returns how many messages the one received whose bytes the fault cuts.
fn check(case: Case) -> usize {
    let outcome = run(case);
    let all = messages();
    for (seen, side) in [(&outcome.client, Side::Client), (&outcome.server, Side::Server)] {
        let context = || format!("{case:?}: the {side:?} saw {seen:?}");
        assert!(all.starts_with(&seen.received), "lost or doubled: {}", context());
        if seen.end == Some(Ok(())) {
            assert_eq!(seen.received, all, "a close frame comes behind all messages: {}", context());
        }
        if seen.closed == Some(Ok(())) {
            assert_eq!(seen.end, Some(Ok(())), "closed without the other's close frame: {}", context());
        }
        let errors = [seen.connected.err(), seen.end.and_then(Result::err), seen.closed.and_then(Result::err)];
        for kind in errors.into_iter().flatten() {
            let expected: &[ErrorKind] = match case.fault {
                // The bound of the one side's call is the end of the other's connection.
                Fault::Stall => &[ErrorKind::Timeout, ErrorKind::Io, ErrorKind::Handshake, ErrorKind::Tls],
                Fault::Reset => &[ErrorKind::Io, ErrorKind::Handshake, ErrorKind::Tls, ErrorKind::Connect],
                Fault::End => &[ErrorKind::Io, ErrorKind::Handshake, ErrorKind::Tls],
            };
            assert!(expected.contains(&kind), "{kind:?}: {}", context());
        }
        if case.after == 0 && side != case.from {
            assert!(seen.connected.is_err(), "{}", context());
        }
    }
    let seen = if case.from == Side::Client { outcome.server } else { outcome.client };
    seen.received.len()
}

/// What both sides send: compressed with history, empty, uncompressed, and of both kinds.
fn messages() -> Vec<Message> {
    let text = "every message once, every message in order";
    vec![text.repeat(3).into(), "".into(), b"\0\xff\x80".to_vec().into(), text.repeat(2).into()]
}

/// Runs the case; panics when one of its ends hangs.
fn run(case: Case) -> Outcome {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to_server, to_relay) = (server.local_addr().unwrap(), relay.local_addr().unwrap());
    let scheme = if case.tls { "wss" } else { "ws" };
    let url = format!("{scheme}://localhost:{}/", to_relay.port());
    // Long enough for a busy machine where nothing stalls.
    let bound = Some(if case.fault == Fault::Stall { Duration::from_millis(60) } else { Duration::from_secs(10) });

    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let relay = thread::spawn(move || {
        let client = relay.accept().unwrap().0;
        relay_between(client, TcpStream::connect(to_server).unwrap(), case, &over)
    });
    let server = spawn(&format!("the server in {case:?}"), move || {
        let stream = server.accept().unwrap().0;
        let options = AcceptOptions::new().accept_timeout(bound).send_timeout(bound).close_timeout(bound);
        let options = if case.tls { options.tls(ACCEPTOR.clone()) } else { options };
        serve(options.accept(stream), case, bound)
    });
    let client = spawn(&format!("the client in {case:?}"), move || {
        let options = WebSocket::options().no_proxy().connect_timeout(bound).send_timeout(bound).close_timeout(bound);
        let options = if case.tls { options.tls(tls::connector()) } else { options };
        converse(options.resolve("localhost", [to_relay]).connect(&url), case, bound)
    });
    let (client, server) = (wait_for(client), wait_for(server));
    is_over.store(true, Ordering::Relaxed);
    Outcome { client, server, passed: relay.join().unwrap() }
}

/// Sends all messages, receives them, and closes or waits for the close.
fn converse(connected: wsync::Result<WebSocket>, case: Case, bound: Option<Duration>) -> Seen {
    let mut seen = Seen::new(&connected);
    let Ok(ws) = connected else { return seen };
    for message in &messages() {
        if ws.send(message).is_err() {
            break;
        }
    }
    let count = messages().len();
    seen.receive(&ws, bound, |seen| case.closer == Side::Client && seen.received.len() == count);
    seen.finish(&ws, bound, case.closer == Side::Client);
    seen
}

/// Sends every message back, and closes behind them or waits for the close.
fn serve(accepted: wsync::Result<WebSocket>, case: Case, bound: Option<Duration>) -> Seen {
    let mut seen = Seen::new(&accepted);
    let Ok(ws) = accepted else { return seen };
    let count = messages().len();
    seen.receive(&ws, bound, |seen| {
        let _ = ws.send(seen.received.last().unwrap());
        case.closer == Side::Server && seen.received.len() == count
    });
    seen.finish(&ws, bound, case.closer == Side::Server);
    seen
}

impl Seen {
    fn new(connected: &wsync::Result<WebSocket>) -> Seen {
        let connected = connected.as_ref().map(|_| ()).map_err(|error| error.kind());
        Seen { received: Vec::new(), end: None, connected, closed: None }
    }

    /// Receives until the end, or until `is_enough` after a message.
    fn receive(&mut self, ws: &WebSocket, bound: Option<Duration>, mut is_enough: impl FnMut(&Seen) -> bool) {
        while self.end.is_none() {
            match ws.recv_timeout(bound.unwrap()) {
                Ok(Some(message)) => {
                    self.received.push(message);
                    if is_enough(self) {
                        return;
                    }
                }
                Ok(None) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error.kind())),
            }
        }
    }

    /// Closes if this side is to, and sees how the connection ended; it says so again and again.
    fn finish(&mut self, ws: &WebSocket, bound: Option<Duration>, is_closer: bool) {
        if is_closer && self.end.is_none() {
            self.closed = Some(ws.close(CloseCode::NORMAL, "done").map_err(|error| error.kind()));
        }
        self.receive(ws, bound, |_| false);
        if self.end == Some(Err(ErrorKind::Timeout)) {
            return ws.abort(); // It may still be open.
        }
        let again = ws.recv_timeout(bound.unwrap()).map(|message| assert_eq!(message, None));
        assert_eq!(Some(again.map_err(|error| error.kind())), self.end);
        let code = if self.end == Some(Ok(())) { CloseCode::NORMAL } else { CloseCode::ABNORMAL_CLOSURE };
        assert_eq!(ws.close_code(), Some(code));
        assert_eq!(ws.send("too late").unwrap_err().kind(), ErrorKind::Closed);
    }
}

/// Passes on bytes in both directions by one thread, so that it can reset: the last handle of a socket does that.
/// Returns how many bytes the client and the server have sent.
fn relay_between(client: TcpStream, server: TcpStream, case: Case, is_over: &AtomicBool) -> [usize; 2] {
    for socket in [&client, &server] {
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    let mut passed = [0; 2];
    let mut ended = [false; 2];
    let mut idle = 0;
    let reset = |passed| {
        for socket in [&client, &server] {
            let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
        passed
    };
    while ended != [true; 2] && !is_over.load(Ordering::Relaxed) {
        idle += 1;
        for (i, side, from, to) in [(0, Side::Client, &client, &server), (1, Side::Server, &server, &client)] {
            let mut left = if case.from == side { case.after - passed[i] } else { usize::MAX };
            if left == 0 && case.fault == Fault::Reset {
                return reset(passed);
            }
            if left == 0 && case.fault == Fault::End && !ended[i] {
                let _ = to.shutdown(Shutdown::Write);
                ended[i] = true;
            }
            let is_lost = left == 0;
            if ended[i] && !is_lost || is_lost && case.fault == Fault::Stall {
                continue;
            }
            if is_lost {
                left = usize::MAX;
            }
            let mut block = [0; 4096];
            let room = left.min(case.step).min(block.len());
            match { from }.read(&mut block[..room]) {
                Ok(0) => {
                    let _ = to.shutdown(Shutdown::Write);
                    ended[i] = true;
                }
                Ok(_) if is_lost => idle = 0,
                Ok(count) => {
                    idle = 0;
                    passed[i] += count;
                    // So little is on its way that it always fits.
                    if { to }.write_all(&block[..count]).is_err() {
                        return reset(passed);
                    }
                }
                Err(error) if error.kind() == Io::WouldBlock => {}
                Err(_) => return reset(passed),
            }
        }
        match idle {
            0 => {}
            1..200 => thread::yield_now(),
            _ => thread::sleep(Duration::from_micros(200)),
        }
    }
    passed
}
