//! Connections over pairs of streams in memory.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::*;
use wsync::{AcceptOptions, CloseCode, Compression, ConnectOptions, ErrorKind, Message, ReadyState, Stream, WebSocket};

/// Client and server.
fn connect() -> (WebSocket, WebSocket) {
    connect_by(&uncompressed(), AcceptOptions::new(), "ws://localhost/")
}

fn connect_by(options: &ConnectOptions, accept: AcceptOptions, url: &str) -> (WebSocket, WebSocket) {
    let (ours, theirs) = Stream::pair();
    let server = spawn("accept", move || accept.accept(theirs).unwrap());
    (options.connect_over(url, ours).unwrap(), wait_for(server))
}

/// So that a large message is large on its way.
fn uncompressed() -> ConnectOptions {
    options().compression(Compression::off())
}

fn echo(server: WebSocket) -> Job<Option<CloseCode>> {
    spawn("echo", move || {
        while let Some(message) = server.recv().unwrap() {
            server.send(&message).unwrap();
        }
        server.close_code()
    })
}

/// Sends and receives messages of all sizes, and closes.
fn use_echo(client: &WebSocket, server: WebSocket) {
    let server = echo(server);
    for message in [Message::from(""), Message::from("grüße"), Message::from(pattern(1 << 20, 6))] {
        let (sender, sent) = (client.clone(), message.clone());
        let sender = spawn("sender", move || sender.send(&sent).unwrap());
        assert!(client.recv().unwrap() == Some(message));
        wait_for(sender);
    }
    client.close(3001, "bye").unwrap();
    assert_eq!((kind(client.recv()), client.ready_state()), (Ok(None), ReadyState::Closed));
    assert_eq!(wait_for(server), code(3001));
}

#[test]
fn an_echo_server() {
    bounded(|| {
        for compression in [Compression::off(), Compression::default()] {
            let options = options().compression(compression);
            let (client, server) = connect_by(&options, AcceptOptions::new(), "ws://localhost/");
            use_echo(&client, server);
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn an_echo_server_with_tls() {
    bounded(|| {
        let accept = acceptor(Layer::Tls12, &AcceptOptions::new());
        let (client, server) = connect_by(&uncompressed(), accept, "wss://localhost/");
        use_echo(&client, server);
    });
}

#[test]
fn there_are_no_addresses() {
    bounded(|| {
        let (client, _server) = connect();
        for error in [client.peer_addr().unwrap_err(), client.local_addr().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains("a stream in memory has no network address"), "{error}");
        }
        let (stream, _other) = Stream::pair();
        assert_eq!(format!("{stream:?}"), "Memory");
    });
}

#[test]
fn large_messages_pass_both_ways_at_once() {
    bounded(|| {
        let (client, server) = connect();
        let ends = [(client.clone(), 1), (server.clone(), 2)];
        let senders = ends.map(|(ws, seed)| spawn("sender", move || ws.send(pattern(16 << 20, seed)).unwrap()));
        let receivers = [(client, 2), (server, 1)].map(|(ws, seed)| {
            spawn("receiver", move || assert!(ws.recv().unwrap() == binary(&pattern(16 << 20, seed))))
        });
        senders.into_iter().chain(receivers).for_each(wait_for);
    });
}

#[test]
fn a_timeout_inside_a_frame_loses_nothing() {
    bounded(|| {
        let (client, server) = connect();
        let wait = Duration::from_millis(20);
        let start = Instant::now();
        assert_eq!(kind(client.recv_timeout(wait)), Err(ErrorKind::Timeout));
        assert!(start.elapsed() >= wait);
        assert_eq!(kind(client.try_recv()), Err(ErrorKind::WouldBlock));
        // More than the buffer holds: the server cannot be further than in the middle of it until the client reads on.
        let sender = spawn("sender", move || server.send(pattern(1 << 20, 3)).unwrap());
        let mut timeouts = 0;
        let message = loop {
            match client.recv_timeout(Duration::from_micros(50)) {
                Err(error) if error.kind() == ErrorKind::Timeout => timeouts += 1,
                other => break other.unwrap(),
            }
        };
        assert!(message == binary(&pattern(1 << 20, 3)), "after {timeouts} timeouts");
        wait_for(sender);
    });
}

#[test]
fn a_send_to_a_peer_that_takes_nothing_ends_by_its_timeout() {
    bounded(|| {
        let bound = Some(Duration::from_millis(50));
        let (client, _stalled) =
            connect_by(&uncompressed().send_timeout(bound), AcceptOptions::new(), "ws://localhost/");
        let start = Instant::now();
        assert_eq!(kind(client.send(vec![0; 1 << 20])), Err(ErrorKind::Timeout));
        assert!(start.elapsed() >= Duration::from_millis(50));
    });
}

#[test]
fn an_abort_wakes_both_sides() {
    bounded(|| {
        let (client, server) = connect();
        let (begun, has_begun) = channel();
        let (receiver, sender) = (client.clone(), client.clone());
        let receiver = spawn("receiver", move || kind(receiver.recv()));
        let sender = spawn("sender", move || kind(sender.send(vec![0; 1 << 20])));
        let peer = server.clone();
        let peer = spawn("peer", move || {
            let mut reader = peer.recv_reader().unwrap().unwrap();
            std::io::Read::read_exact(&mut reader, &mut [0]).unwrap();
            begun.send(()).unwrap();
            drop(reader);
            kind(peer.recv())
        });
        has_begun.recv().unwrap();
        client.abort();
        assert_eq!(wait_for(receiver), Err(ErrorKind::Closed));
        // Unless the peer took all of it before.
        assert!(matches!(wait_for(sender), Ok(()) | Err(ErrorKind::Closed)));
        assert_eq!(wait_for(peer), Err(ErrorKind::Io));
        assert_eq!(kind(server.send("more")), Err(ErrorKind::Closed));
    });
}

#[test]
fn dropping_the_last_handle_closes() {
    bounded(|| {
        let (client, server) = connect();
        let receiver = spawn("receiver", move || (kind(server.recv()), server.close_code()));
        drop(client);
        assert_eq!(wait_for(receiver), (Ok(None), code(1001)));

        let (stream, other) = Stream::pair();
        drop(stream);
        let error = WebSocket::accept(other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
    });
}
