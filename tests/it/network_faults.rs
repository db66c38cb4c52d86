//! Network faults at every byte of a whole connection: connect, exchange, close, with and without TLS.
//!
//! Both ends are this crate, so both roles see every fault. A relay between them forwards a number of bytes in one
//! direction, and then ends, resets or stalls the connection. In each case both ends terminate, and each has received
//! the first messages that the other sent: none is missing in between, and none is received twice.

use std::io::{ErrorKind as Io, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{LAYERS_OF_BOTH, Layer, Side, acceptor, options, scheme, spawn, wait_for};
use wsync::{AcceptOptions, CloseCode, ErrorKind, Message, WebSocket};

/// What the relay does in one direction after it has forwarded a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Sends FIN to the receiver, and discards what the sender sends afterwards.
    End,
    /// Sends RST to both sides.
    Reset,
    /// Forwards nothing more.
    Stall,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    layer: Layer,
    /// The side that closes the connection.
    closer: Side,
    /// The sender of the direction that has the fault.
    from: Side,
    fault: Fault,
    after: usize,
    /// The number of bytes that the relay forwards at once.
    step: usize,
}

const WHOLE: Case = Case {
    layer: Layer::Plain,
    closer: Side::Client,
    from: Side::Client,
    fault: Fault::End,
    after: usize::MAX,
    step: usize::MAX,
};

/// What one end observed.
#[derive(Debug)]
struct Observed {
    received: Vec<Message>,
    /// How receiving ended. `Ok` is a close frame. `None` if connecting failed.
    end: Option<Result<(), ErrorKind>>,
    connected: Result<(), ErrorKind>,
    closed: Option<Result<(), ErrorKind>>,
}

/// What the client and the server observed, and how many bytes each has sent.
struct Outcome {
    client: Observed,
    server: Observed,
    forwarded: [usize; 2],
}

#[test]
fn a_connection_that_is_forwarded_byte_by_byte_works() {
    for &layer in LAYERS_OF_BOTH {
        for closer in [Side::Client, Side::Server] {
            let case = Case { layer, closer, step: 1, ..WHOLE };
            check_whole(&run(case), case);
        }
    }
}

#[test]
fn a_reset_at_every_byte_is_handled() {
    for closer in [Side::Client, Side::Server] {
        for (from, total) in totals(Layer::Plain, closer) {
            for after in 0..=total {
                check(Case { closer, from, fault: Fault::Reset, after, ..WHOLE });
            }
        }
    }
}

#[test]
fn an_end_at_every_byte_is_handled() {
    for closer in [Side::Client, Side::Server] {
        for (from, total) in totals(Layer::Plain, closer) {
            let mut received = 0;
            for after in 0..=total {
                let now = check(Case { closer, from, fault: Fault::End, after, ..WHOLE });
                assert!(now == received || now == received + 1, "messages before the end are missing, at {after}");
                received = now;
            }
            assert_eq!(received, messages().len());
        }
    }
}

#[cfg(target_os = "linux")] // where the tests have TLS
#[test]
fn an_end_or_a_reset_at_every_byte_of_tls_is_handled() {
    for closer in [Side::Client, Side::Server] {
        for (from, total) in totals(Layer::Tls12, closer) {
            for (i, after) in (0..=total).enumerate() {
                let fault = if i % 2 == 0 { Fault::End } else { Fault::Reset };
                check(Case { layer: Layer::Tls12, closer, from, fault, after, ..WHOLE });
            }
        }
    }
}

#[test]
fn a_stall_ends_with_the_timeout_of_the_call() {
    let mut cases = Vec::new();
    for &layer in LAYERS_OF_BOTH {
        let step = if layer == Layer::Plain { 11 } else { 131 };
        for closer in [Side::Client, Side::Server] {
            for (from, total) in totals(layer, closer) {
                let stalls = (0..total).step_by(step);
                cases.extend(stalls.map(|after| Case { layer, closer, from, fault: Fault::Stall, after, ..WHOLE }));
            }
        }
    }
    // The cases mostly wait, so many run at once.
    for cases in cases.chunks(32) {
        thread::scope(|scope| {
            for &case in cases {
                scope.spawn(move || _ = check(case));
            }
        });
    }
}

/// The number of bytes that each side sends without a fault.
fn totals(layer: Layer, closer: Side) -> [(Side, usize); 2] {
    let case = Case { layer, closer, ..WHOLE };
    let outcome = run(case);
    check_whole(&outcome, case);
    [(Side::Client, outcome.forwarded[0]), (Side::Server, outcome.forwarded[1])]
}

fn check_whole(outcome: &Outcome, case: Case) {
    for (observed, side) in [(&outcome.client, Side::Client), (&outcome.server, Side::Server)] {
        assert_eq!(observed.received, messages(), "{case:?}: {side:?}");
        assert_eq!(observed.end, Some(Ok(())), "{case:?}: {side:?}");
        assert_eq!(observed.closed, (side == case.closer).then_some(Ok(())), "{case:?}: {side:?}");
    }
}

/// Returns how many messages the receiver of the faulty direction received.
fn check(case: Case) -> usize {
    let outcome = run(case);
    let all = messages();
    for (observed, side) in [(&outcome.client, Side::Client), (&outcome.server, Side::Server)] {
        let context = || format!("{case:?}: the {side:?} observed {observed:?}");
        assert!(all.starts_with(&observed.received), "lost or repeated messages: {}", context());
        if observed.end == Some(Ok(())) {
            assert_eq!(observed.received, all, "a close frame before the last message: {}", context());
        }
        if observed.closed == Some(Ok(())) {
            assert_eq!(observed.end, Some(Ok(())), "closed without the other side's close frame: {}", context());
        }
        let errors =
            [observed.connected.err(), observed.end.and_then(Result::err), observed.closed.and_then(Result::err)];
        for kind in errors.into_iter().flatten() {
            let expected: &[ErrorKind] = match case.fault {
                // The side whose call times out ends the connection, which is an I/O error for the other side.
                Fault::Stall => &[ErrorKind::Timeout, ErrorKind::Io, ErrorKind::Handshake, ErrorKind::Tls],
                Fault::Reset => &[ErrorKind::Io, ErrorKind::Handshake, ErrorKind::Tls, ErrorKind::Connect],
                Fault::End => &[ErrorKind::Io, ErrorKind::Handshake, ErrorKind::Tls],
            };
            assert!(expected.contains(&kind), "{kind:?}: {}", context());
        }
        if case.after == 0 && side != case.from {
            assert!(observed.connected.is_err(), "{}", context());
        }
    }
    let observed = if case.from == Side::Client { outcome.server } else { outcome.client };
    observed.received.len()
}

/// What both sides send: text and binary, compressed with history, uncompressed, and empty.
fn messages() -> Vec<Message> {
    let text = "every message once, every message in order";
    vec![text.repeat(3).into(), "".into(), b"\0\xff\x80".to_vec().into(), text.repeat(2).into()]
}

/// Runs the case. Panics if one end hangs.
fn run(case: Case) -> Outcome {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to_server, to_relay) = (server.local_addr().unwrap(), relay.local_addr().unwrap());
    let url = format!("{}://localhost:{}/", scheme(case.layer), to_relay.port());
    // Short only for stalls: other cases must not time out on a busy machine.
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
        serve(acceptor(case.layer, &options).accept(stream), case, bound)
    });
    let client = spawn(&format!("the client in {case:?}"), move || {
        let options = options().connect_timeout(bound).send_timeout(bound).close_timeout(bound);
        converse(options.resolve("localhost", [to_relay]).connect(&url), case, bound)
    });
    let (client, server) = (wait_for(client), wait_for(server));
    is_over.store(true, Ordering::Relaxed);
    Outcome { client, server, forwarded: relay.join().unwrap() }
}

/// Sends all messages, receives them back, and closes or waits for the close.
fn converse(connected: wsync::Result<WebSocket>, case: Case, bound: Option<Duration>) -> Observed {
    let mut observed = Observed::new(&connected);
    let Ok(ws) = connected else { return observed };
    for message in &messages() {
        if ws.send(message).is_err() {
            break;
        }
    }
    let count = messages().len();
    observed.receive(&ws, bound, |observed| case.closer == Side::Client && observed.received.len() == count);
    observed.finish(&ws, bound, case.closer == Side::Client);
    observed
}

/// Sends every message back, and then closes or waits for the close.
fn serve(accepted: wsync::Result<WebSocket>, case: Case, bound: Option<Duration>) -> Observed {
    let mut observed = Observed::new(&accepted);
    let Ok(ws) = accepted else { return observed };
    let count = messages().len();
    observed.receive(&ws, bound, |observed| {
        let _ = ws.send(observed.received.last().unwrap());
        case.closer == Side::Server && observed.received.len() == count
    });
    observed.finish(&ws, bound, case.closer == Side::Server);
    observed
}

impl Observed {
    fn new(connected: &wsync::Result<WebSocket>) -> Observed {
        let connected = connected.as_ref().map(|_| ()).map_err(|error| error.kind());
        Observed { received: Vec::new(), end: None, connected, closed: None }
    }

    /// Receives until the end, or until `is_enough` returns true after a message.
    fn receive(&mut self, ws: &WebSocket, bound: Option<Duration>, mut is_enough: impl FnMut(&Observed) -> bool) {
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

    /// Closes if this side is the closer, receives until the end, and checks that later calls return the same.
    fn finish(&mut self, ws: &WebSocket, bound: Option<Duration>, is_closer: bool) {
        if is_closer && self.end.is_none() {
            self.closed = Some(ws.close(CloseCode::NORMAL, "done").map_err(|error| error.kind()));
        }
        self.receive(ws, bound, |_| false);
        if self.end == Some(Err(ErrorKind::Timeout)) {
            return ws.abort(); // the connection may still be open
        }
        let again = ws.recv_timeout(bound.unwrap()).map(|message| assert_eq!(message, None));
        assert_eq!(Some(again.map_err(|error| error.kind())), self.end);
        match (self.end, ws.close_code()) {
            (Some(Ok(())), Some(CloseCode::NORMAL)) => {}
            // After our close frame is out, a loss is an end, too.
            (Some(Ok(())), Some(CloseCode::ABNORMAL_CLOSURE)) => assert_eq!(self.closed, Some(Ok(()))),
            (Some(Err(_)), Some(CloseCode::ABNORMAL_CLOSURE)) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(ws.send("too late").unwrap_err().kind(), ErrorKind::Closed);
    }
}

/// Forwards bytes in both directions on one thread. The thread has the only handles of the sockets, so that dropping them
/// can reset the connection. Returns how many bytes the client and the server have sent.
fn relay_between(client: TcpStream, server: TcpStream, case: Case, is_over: &AtomicBool) -> [usize; 2] {
    for socket in [&client, &server] {
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    let mut forwarded = [0; 2];
    let mut ended = [false; 2];
    let mut idle = 0;
    let reset = |forwarded| {
        for socket in [&client, &server] {
            let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
        forwarded
    };
    while ended != [true; 2] && !is_over.load(Ordering::Relaxed) {
        idle += 1;
        for (i, side, from, to) in [(0, Side::Client, &client, &server), (1, Side::Server, &server, &client)] {
            let mut left = if case.from == side { case.after - forwarded[i] } else { usize::MAX };
            if left == 0 && case.fault == Fault::Reset {
                return reset(forwarded);
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
                    forwarded[i] += count;
                    // The messages are small, so they always fit in the socket's buffer.
                    if { to }.write_all(&block[..count]).is_err() {
                        return reset(forwarded);
                    }
                }
                Err(error) if error.kind() == Io::WouldBlock => {}
                Err(_) => return reset(forwarded),
            }
        }
        match idle {
            0 => {}
            1..200 => thread::yield_now(),
            _ => thread::sleep(Duration::from_micros(200)),
        }
    }
    forwarded
}
