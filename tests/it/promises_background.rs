//! What a connection in the background promises: nothing is lost in silence, and the program's functions may use it.

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use wsync::{Background, BackgroundOptions, CloseCode, Event, Message, ReadyState, Reconnect, WebSocket};

use crate::background::{listen, next, opened, uncompressed};
use crate::support::read_beside;

/// Turns a hang into a failure.
const LONG: Duration = Duration::from_secs(30);

fn accept(listener: &TcpListener) -> (WebSocket, TcpStream) {
    let stream = listener.accept().unwrap().0;
    (WebSocket::accept(stream.try_clone().unwrap()).unwrap(), stream)
}

/// Without compression, so that a large message is large on its way.
fn in_background(reconnect: Reconnect) -> BackgroundOptions {
    Background::options().connect_options(uncompressed()).reconnect(reconnect.first_delay(Duration::ZERO))
}

#[test]
fn messages_behind_another_send_that_fails_are_sent_on_the_next_connection() {
    let (listener, url) = listen();
    let chat = in_background(Reconnect::new()).connect(&url, || {}).unwrap();
    let (server, stream) = accept(&listener);
    let ws = opened(chat.events());
    let own = thread::spawn(move || ws.send(vec![7; 30 << 20]));
    // It has begun, and cannot be in the buffers of the system as a whole.
    read_beside(&stream, &mut [0]);
    let words = ["one", "two", "three", "four", "five"];
    words.iter().for_each(|word| chat.send(*word).unwrap());
    // The sender has time to take them; the large message is still far from its end.
    read_beside(&stream, &mut vec![0; 8 << 20]);
    server.abort();
    assert!(matches!(next(chat.events()), Event::Reconnecting { .. }));
    assert!(own.join().unwrap().is_err());
    let (server, _stream) = accept(&listener);
    for word in words {
        assert_eq!(server.recv().unwrap(), Some(word.into()));
    }
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(server.recv().unwrap(), None, "and nothing is sent twice");
    assert_eq!(chat.unsent(), []);
}

#[test]
fn messages_behind_another_send_that_fails_are_handed_back_at_the_end() {
    let (listener, url) = listen();
    let chat = in_background(Reconnect::new()).no_reconnect().connect(&url, || {}).unwrap();
    let (server, stream) = accept(&listener);
    let ws = opened(chat.events());
    let own = thread::spawn(move || ws.send(vec![7; 30 << 20]));
    read_beside(&stream, &mut [0]);
    let words = ["one", "two", "three", "four", "five"];
    words.iter().for_each(|word| chat.send(*word).unwrap());
    // The sender has time to take them; the large message is still far from its end.
    read_beside(&stream, &mut vec![0; 8 << 20]);
    server.abort();
    assert!(matches!(next(chat.events()), Event::End(_)));
    assert!(own.join().unwrap().is_err());
    assert_eq!(chat.unsent(), words.map(Message::from));
}

#[test]
fn a_policy_may_use_the_connection() {
    let (listener, url) = listen();
    let slot: Arc<OnceLock<Background>> = Arc::default();
    let own = Arc::clone(&slot);
    let policy = move |_: &_| {
        let chat = own.wait_for();
        assert_eq!(chat.ready_state(), ReadyState::Open);
        chat.send("from the policy").is_ok()
    };
    let chat = in_background(Reconnect::new().retry_if(policy)).connect(&url, || {}).unwrap();
    let chat = slot.get_or_init(|| chat);
    accept(&listener).0.abort();
    opened(chat.events());
    assert!(matches!(next(chat.events()), Event::Reconnecting { attempt: 1, .. }));
    let (server, _stream) = accept(&listener);
    assert_eq!(server.recv().unwrap(), Some("from the policy".into()));
    // The policy is not asked about this end.
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(server.recv().unwrap(), None);
}

/// The connection may end before the program has put it where its functions look.
trait WaitFor<T> {
    fn wait_for(&self) -> &T;
}

impl<T> WaitFor<T> for OnceLock<T> {
    fn wait_for(&self) -> &T {
        loop {
            match self.get() {
                Some(value) => return value,
                None => thread::yield_now(),
            }
        }
    }
}

#[test]
fn a_wake_function_may_use_the_connection() {
    let (listener, url) = listen();
    let slot: Arc<OnceLock<Background>> = Arc::default();
    let own = Arc::clone(&slot);
    let wake = move || {
        let chat = own.wait_for();
        let _ = (chat.send("awake"), chat.ready_state(), format!("{chat:?}"));
    };
    let chat = in_background(Reconnect::new()).connect(&url, wake).unwrap();
    let chat = slot.get_or_init(|| chat);
    let (server, _stream) = accept(&listener);
    assert_eq!(server.recv().unwrap(), Some("awake".into()));
    server.send("once more").unwrap();
    assert_eq!(server.recv().unwrap(), Some("awake".into()));
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(server.recv().unwrap(), None);
    // One wake for each: open, the message, the end.
    assert_eq!((0..3).filter(|_| chat.events().recv_timeout(LONG).is_some()).count(), 3);
}
