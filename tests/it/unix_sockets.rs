//! Connections over Unix sockets.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use crate::support::*;
use wsync::{AcceptOptions, CloseCode, Compression, ErrorKind, Group, Message, Outgoing, ReadyState, Role, WebSocket};

/// The server listens at a path in the file system.
#[test]
fn an_echo_server_works() {
    bounded(|| {
        let path = env::temp_dir().join(format!("wsync-test-{}.socket", process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = spawn("server", move || {
            for _ in 0..2 {
                let ws = WebSocket::accept(listener.accept().unwrap().0).unwrap();
                while let Some(message) = ws.recv().unwrap() {
                    ws.send(&message).unwrap();
                }
                assert_eq!(ws.close_code(), code(3001));
            }
        });
        for compression in [Compression::off(), Compression::default()] {
            let stream = UnixStream::connect(&path).unwrap();
            let ws = options().compression(compression).connect_over("ws://localhost/", stream).unwrap();
            for message in [Message::from(""), Message::from("grüße"), Message::from(pattern(1 << 20, 6))] {
                let sender = ws.clone();
                let sent = message.clone();
                let sender = spawn("sender", move || sender.send(&sent).unwrap());
                assert!(ws.recv().unwrap() == Some(message));
                wait_for(sender);
            }
            let start = Instant::now();
            assert_eq!(kind(ws.recv_timeout(Duration::from_millis(20))), Err(ErrorKind::Timeout));
            assert!(start.elapsed() >= Duration::from_millis(20));
            assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
            assert_eq!(kind(ws.local_addr()), Err(ErrorKind::Io));
            ws.close(3001, "bye").unwrap();
            assert_eq!((kind(ws.recv()), ws.ready_state()), (Ok(None), ReadyState::Closed));
        }
        wait_for(server);
        fs::remove_file(&path).unwrap();
    });
}

#[test]
fn timeouts_group_close_and_abort_work() {
    bounded(|| {
        let bound = Some(Duration::from_millis(50));
        let (_silent, stream) = UnixStream::pair().unwrap();
        let error = AcceptOptions::new().accept_timeout(bound).accept(stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");

        let connect = || {
            let (one, other) = UnixStream::pair().unwrap();
            let server = spawn("accept", move || AcceptOptions::new().send_timeout(bound).accept(other).unwrap());
            (options().connect_over("ws://localhost/", one).unwrap(), wait_for(server))
        };
        let (client, server) = connect();
        let group = Group::new();
        group.add(&server);
        let receiver = server.clone();
        let receiver = spawn("receiver", move || kind(receiver.recv()));
        let closed = spawn("client", move || (kind(client.recv()), client.close_code()));
        assert_eq!(group.close(CloseCode::GOING_AWAY, "", Duration::from_secs(10)).unwrap(), 0);
        assert_eq!(wait_for(closed), (Ok(None), Some(CloseCode::GOING_AWAY)));
        assert_eq!(wait_for(receiver), Ok(None));

        let (client, server) = connect();
        assert_eq!(kind(server.send(Outgoing::from(&vec![0; 32 << 20]).uncompressed())), Err(ErrorKind::Timeout));
        let receiver = spawn("receiver", move || kind(server.recv()));
        client.abort();
        assert_eq!(wait_for(receiver), Err(ErrorKind::Io));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn tls_works() {
    bounded(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let server = acceptor(Layer::Tls12, &AcceptOptions::new());
        let server = spawn("accept", move || {
            let ws = server.accept(other).unwrap();
            let message = ws.recv().unwrap().unwrap();
            ws.send(&message).unwrap();
            kind(ws.recv())
        });
        let ws = options().connect_over("wss://localhost/", one).unwrap();
        ws.send("over TLS").unwrap();
        assert_eq!(ws.recv().unwrap(), text("over TLS"));
        ws.close(CloseCode::NORMAL, "").unwrap();
        assert_eq!(wait_for(server), Ok(None));
    });
}

/// The types do not rule it out.
#[test]
fn what_is_no_socket_is_an_error() {
    bounded(|| {
        let file = || TcpStream::from(OwnedFd::from(fs::File::open("/dev/null").unwrap()));
        assert_eq!(kind(WebSocket::accept(file()).map(drop)), Err(ErrorKind::Io));
        assert_eq!(kind(WebSocket::upgraded(file(), Role::Client).open().map(drop)), Err(ErrorKind::Io));
        let error = options().connect_over("ws://localhost/", file()).unwrap_err();
        assert!(error.get_ref().is_some(), "{error}");
    });
}
