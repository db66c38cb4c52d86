//! Both roles against tungstenite.

use std::net::{TcpListener, TcpStream};

use crate::support::*;
use tungstenite::Message as Theirs;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::{Frame as TheirFrame, coding::*};
use wsync::{Message, WebSocket};

fn ours_as_client() -> (WebSocket, tungstenite::WebSocket<TcpStream>) {
    let server = Server::tcp(|stream| tungstenite::accept(stream).unwrap());
    (options().connect(&server.url).unwrap(), server.join())
}

fn ours_as_server() -> (WebSocket, tungstenite::WebSocket<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn("accept", move || WebSocket::accept(listener.accept().unwrap().0).unwrap());
    let stream = TcpStream::connect(address).unwrap();
    let (theirs, response) = tungstenite::client(format!("ws://{address}/"), stream).unwrap();
    assert_eq!(response.status(), 101);
    (wait_for(server), theirs)
}

fn in_both_roles(test: fn(WebSocket, tungstenite::WebSocket<TcpStream>)) {
    for pair in [ours_as_client, ours_as_server] {
        bounded(move || {
            let (ours, theirs) = pair();
            test(ours, theirs);
        });
    }
}

#[test]
fn messages_arrive_in_both_directions() {
    in_both_roles(|ours, mut theirs| {
        let large = "é".repeat(100_000);
        for message in ["", "text", "𝄞", &large] {
            ours.send(message).unwrap();
            assert_eq!(theirs.read().unwrap(), Theirs::text(message));
            theirs.send(Theirs::text(message)).unwrap();
            assert_eq!(ours.recv().unwrap(), text(message));
        }
        for length in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let payload = pattern(length, 4);
            let (other, sent) = (ours.clone(), payload.clone());
            let sender = spawn("sender", move || other.send(&sent).unwrap());
            assert!(theirs.read().unwrap() == Theirs::binary(payload.clone()));
            wait_for(sender);
            let other = ours.clone();
            let receiver = spawn("receiver", move || other.recv().unwrap());
            theirs.send(Theirs::binary(payload.clone())).unwrap();
            assert!(wait_for(receiver) == Some(Message::Binary(payload)));
        }
    });
}

#[test]
fn fragments_and_pings_are_understood() {
    in_both_roles(|ours, mut theirs| {
        let fragment =
            |opcode, fin, bytes: &'static [u8]| Theirs::Frame(TheirFrame::message(bytes, OpCode::Data(opcode), fin));
        theirs.send(fragment(Data::Text, false, b"one ")).unwrap();
        theirs.send(Theirs::Ping(b"ping"[..].into())).unwrap();
        theirs.send(fragment(Data::Continue, false, b"two ")).unwrap();
        theirs.send(fragment(Data::Continue, true, b"three")).unwrap();
        assert_eq!(ours.recv().unwrap(), text("one two three"));
        assert_eq!(theirs.read().unwrap(), Theirs::Pong(b"ping"[..].into()));

        ours.ping(b"ours").unwrap();
        assert_eq!(theirs.read().unwrap(), Theirs::Ping(b"ours"[..].into()));
        theirs.flush().unwrap(); // the pong
        theirs.send(Theirs::text("after")).unwrap();
        assert_eq!(ours.recv().unwrap(), text("after"));
        assert!(ours.latency().is_some());
    });
}

#[test]
fn our_close_is_understood() {
    in_both_roles(|ours, mut theirs| {
        let closer = ours.clone();
        let closer = spawn("closer", move || closer.close(4000, "reason").unwrap());
        let frame = CloseFrame { code: CloseCode::Library(4000), reason: "reason".into() };
        assert_eq!(theirs.read().unwrap(), Theirs::Close(Some(frame)));
        assert!(matches!(theirs.read(), Err(tungstenite::Error::ConnectionClosed)));
        drop(theirs);
        wait_for(closer);
        assert_eq!((ours.close_code(), ours.recv().unwrap()), (code(4000), None));
    });
}

#[test]
fn their_close_is_understood() {
    in_both_roles(|ours, mut theirs| {
        let frame = CloseFrame { code: CloseCode::Again, reason: "later".into() };
        theirs.close(Some(frame)).unwrap();
        assert_eq!(ours.recv().unwrap(), None);
        assert_eq!((ours.close_code(), ours.close_reason()), (code(1013), Some("later")));
        assert!(matches!(theirs.read(), Ok(Theirs::Close(_)) | Err(tungstenite::Error::ConnectionClosed)));
    });
    in_both_roles(|ours, mut theirs| {
        theirs.close(None).unwrap();
        assert_eq!((ours.recv().unwrap(), ours.close_code()), (None, code(1005)));
    });
}

#[test]
fn a_drop_on_either_side_ends_the_other() {
    in_both_roles(|ours, mut theirs| {
        drop(ours);
        let frame = CloseFrame { code: CloseCode::Away, reason: "".into() };
        assert_eq!(theirs.read().unwrap(), Theirs::Close(Some(frame)));
    });
    in_both_roles(|ours, theirs| {
        drop(theirs);
        assert_eq!(kind(ours.recv()), Err(wsync::ErrorKind::Io));
        assert_eq!(ours.close_code(), code(1006));
    });
}
