//! Reader threads, event queues and background connections. No test sleeps: every wait is for an event, and `LONG` only
//! turns a hang into a failure.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{Layer, both_ends, read_beside};
use wsync::{
    AcceptOptions, Background, BackgroundOptions, CloseCode, Compression, ConnectOptions, ConnectionEnd, ErrorKind,
    Event, Events, Message, ReadyState, Reconnect, Response, WebSocket,
};

const LONG: Duration = Duration::from_secs(30);

/// A listener, and its address as a URL.
pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    (listener, url)
}

pub fn accept(listener: &TcpListener) -> WebSocket {
    WebSocket::accept(listener.accept().unwrap().0).unwrap()
}

/// A client and a server, connected to each other.
fn client_and_server() -> (WebSocket, WebSocket) {
    both_ends(Layer::Plain, &uncompressed(), &AcceptOptions::new())
}

/// Options without compression, so that a large message is also large on the network.
pub fn uncompressed() -> ConnectOptions {
    ConnectOptions::new().no_proxy().compression(Compression::off())
}

/// Connects again at once.
pub fn background_options() -> BackgroundOptions {
    let immediately = Reconnect::new().first_delay(Duration::ZERO);
    Background::options().connect_options(uncompressed()).reconnect(immediately)
}

/// A wake function that sends to this channel.
fn wake_by(sender: Sender<()>) -> impl Fn() + Send + Sync {
    move || {
        let _ = sender.send(());
    }
}

#[track_caller]
pub fn next(events: &Events) -> Event {
    events.recv_timeout(LONG).expect("an event")
}

#[track_caller]
pub fn opened(events: &Events) -> WebSocket {
    match next(events) {
        Event::Open(ws) => ws,
        other => panic!("{other:?} instead of open"),
    }
}

#[track_caller]
pub fn ended(events: &Events) -> ConnectionEnd {
    match next(events) {
        Event::End(end) => {
            assert!(events.recv().is_none(), "an event after the end");
            end
        }
        other => panic!("{other:?} instead of the end"),
    }
}

fn failed(end: &ConnectionEnd) -> ErrorKind {
    match end {
        ConnectionEnd::Failed(error) => error.kind(),
        ConnectionEnd::Closed { .. } => panic!("{end}"),
    }
}

fn event_message(event: Event) -> Message {
    match event {
        Event::Message(message) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

fn event_text(event: Event) -> String {
    event_message(event).as_text().unwrap().to_string()
}

/// Why a message was not taken; the error has it.
fn not_taken(chat: &Background, text: &str) -> ErrorKind {
    let error = chat.send(text).unwrap_err();
    let kind = error.kind();
    assert_eq!(error.message().as_text(), Some(text));
    assert_eq!(error.into_message(), Message::from(text));
    kind
}

/// Receives until the end, and returns the close code.
fn close_code(peer: &WebSocket) -> u16 {
    while let Ok(Some(_)) = peer.recv() {}
    peer.close_code().unwrap().into()
}

// Readers

#[test]
fn a_reader_passes_messages_and_the_end_to_its_handler() {
    let (client, server) = client_and_server();
    let (sender, events) = channel();
    let reader = client.spawn_reader(move |event| {
        sender.send(event).unwrap();
        ControlFlow::Continue(())
    });
    server.send("one").unwrap();
    server.send("two").unwrap();
    server.close(4000, "done").unwrap();
    reader.unwrap().join().unwrap();
    assert_eq!(event_text(events.recv().unwrap()), "one");
    assert_eq!(event_text(events.recv().unwrap()), "two");
    let Event::End(end) = events.recv().unwrap() else { panic!() };
    assert_eq!(end.to_string(), "closed with 4000: done");
    assert!(events.recv().is_err(), "the handler was called after the end, or not dropped");
}

#[test]
fn a_handler_that_returns_break_leaves_the_connection_open() {
    let (client, server) = client_and_server();
    let reader = client.spawn_reader(|_| ControlFlow::Break(())).unwrap();
    server.send("one").unwrap();
    server.send("two").unwrap();
    reader.join().unwrap();
    assert_eq!(client.recv().unwrap(), Some("two".into()));
}

#[test]
fn a_handler_that_panics_closes_with_1011_and_join_returns_the_panic() {
    let (client, server) = client_and_server();
    let reader = client.spawn_reader(|_| panic!("a bug in the handler")).unwrap();
    server.send("one").unwrap();
    assert_eq!(close_code(&server), 1011);
    let panic = reader.join().unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug in the handler"));
}

#[test]
fn stopping_or_dropping_a_reader_ends_the_connection_without_another_event() {
    for is_dropped in [false, true] {
        let (client, server) = client_and_server();
        let (sender, events) = channel();
        let reader = client.spawn_reader(move |event| {
            sender.send(event).unwrap();
            ControlFlow::Continue(())
        });
        let reader = reader.unwrap();
        server.send("one").unwrap();
        assert_eq!(event_text(events.recv().unwrap()), "one");
        if is_dropped {
            drop(reader);
        } else {
            reader.stop();
            reader.join().unwrap();
        }
        assert_eq!(close_code(&server), 1001);
        assert!(events.recv().is_err(), "the handler was called again, or not dropped");
    }
}

#[test]
fn a_reader_may_be_dropped_by_its_own_handler() {
    let (client, server) = client_and_server();
    let slot = Arc::new(Mutex::new(None));
    let own = Arc::clone(&slot);
    let (sender, calls) = channel();
    let reader = client.spawn_reader(move |_| {
        own.lock().unwrap().take();
        sender.send(()).unwrap();
        ControlFlow::Continue(())
    });
    *slot.lock().unwrap() = Some(reader.unwrap());
    server.send("one").unwrap();
    server.send("two").unwrap();
    assert_eq!(close_code(&server), 1001);
    assert_eq!(calls.iter().count(), 1);
}

#[test]
fn a_detached_reader_keeps_the_connection_open() {
    let (client, server) = client_and_server();
    let (sender, events) = channel();
    let reader = client.spawn_reader(move |event| {
        sender.send(event).unwrap();
        ControlFlow::Continue(())
    });
    reader.unwrap().detach();
    drop(client);
    server.send("one").unwrap();
    assert_eq!(event_text(events.recv().unwrap()), "one");
    server.abort();
    assert!(
        matches!(events.recv().unwrap(), Event::End(ConnectionEnd::Failed(error)) if error.kind() == ErrorKind::Io)
    );
    assert!(events.recv().is_err());
}

// Queues of events

#[test]
fn events_come_in_order_then_the_end_once() {
    let (client, server) = client_and_server();
    let events = client.events(8, || {}).unwrap();
    assert!(events.try_recv().is_none());
    assert!(events.recv_timeout(Duration::from_millis(1)).is_none());
    server.send("one").unwrap();
    server.send("two").unwrap();
    server.close(CloseCode::NORMAL, "").unwrap();
    let all: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(all[..2], [r#"Message(Text("one"))"#, r#"Message(Text("two"))"#]);
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[2].starts_with("End(Closed"), "{}", all[2]);
    assert!(events.try_recv().is_none() && events.recv().is_none());
}

#[test]
fn a_full_queue_makes_the_peer_wait_and_loses_nothing() {
    let server = AcceptOptions::new().send_timeout(Some(Duration::from_millis(50)));
    let (client, server) = both_ends(Layer::Plain, &uncompressed(), &server);
    let events = client.events(1, || {}).unwrap();
    let piece = vec![7; 1 << 20];
    let sent = (0..1000).position(|_| server.send(&piece).is_err()).expect("the peer never had to wait");
    drop(server);
    let received = events.iter().filter(|event| matches!(event, Event::Message(_))).count();
    assert_eq!(received, sent, "messages were lost");
}

/// Fills a queue of capacity 1, and returns when its thread waits for space.
fn full_queue(client: &WebSocket, server: &WebSocket) -> (Events, Receiver<()>) {
    let (sender, woken) = channel();
    let events = client.events(1, wake_by(sender)).unwrap();
    server.send("one").unwrap();
    server.send("two").unwrap();
    woken.recv_timeout(LONG).unwrap();
    (events, woken)
}

#[test]
fn the_thread_of_a_full_queue_ends_with_the_connection_and_loses_nothing() {
    let (client, server) = client_and_server();
    let (events, woken) = full_queue(&client, &server);
    let server = thread::spawn(move || close_code(&server));
    client.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(server.join().unwrap(), 1000);
    // The queue takes the last two events although it is full.
    (0..2).for_each(|_| woken.recv_timeout(LONG).unwrap());
    assert_eq!(event_text(next(&events)), "one");
    assert_eq!(event_text(next(&events)), "two");
    assert!(matches!(ended(&events), ConnectionEnd::Closed { .. }));
}

#[test]
fn the_thread_of_a_full_queue_ends_with_an_abort() {
    let (client, server) = client_and_server();
    let (events, woken) = full_queue(&client, &server);
    client.abort();
    // The channel closes after the thread and this test have dropped their handles of the queue.
    let last = events.recv_timeout(LONG);
    assert_eq!(event_text(last.unwrap()), "one");
    let rest: Vec<Event> = events.iter().collect();
    assert!(matches!(rest.last(), Some(Event::End(ConnectionEnd::Failed(error))) if error.kind() == ErrorKind::Closed));
    drop(events);
    while woken.recv_timeout(LONG).is_ok() {}
    drop(client);
    assert!(server.recv().is_err());
}

#[test]
fn dropping_events_ends_the_thread_while_it_waits_for_space() {
    let (client, server) = client_and_server();
    let (events, woken) = full_queue(&client, &server);
    drop(events);
    assert_eq!(close_code(&server), 1001);
    drop(client);
    assert!(woken.recv_timeout(LONG).is_err(), "the wake function was called, or not dropped");
}

#[test]
fn dropping_events_ends_the_thread_while_it_receives() {
    let (client, server) = client_and_server();
    let (sender, woken) = channel();
    drop(client.events(1, move || sender.send(()).unwrap()).unwrap());
    assert_eq!(close_code(&server), 1001);
    assert!(woken.recv().is_err());
}

#[test]
fn a_wake_function_that_panics_closes_with_1011_and_the_end_says_so() {
    let (client, server) = client_and_server();
    let events = client.events(8, || panic!("no window")).unwrap();
    server.send("one").unwrap();
    assert_eq!(close_code(&server), 1011);
    assert_eq!(event_text(next(&events)), "one");
    let end = ended(&events);
    assert_eq!(failed(&end), ErrorKind::Closed);
    assert_eq!(end.to_string(), "the wake function panicked: no window");
}

// Connections in the background

#[test]
fn messages_sent_before_the_connection_is_open_are_sent_in_order() {
    let (listener, url) = listen();
    let chat = background_options().connect(&url, || {}).unwrap();
    assert_eq!(chat.ready_state(), ReadyState::Connecting);
    for word in ["one", "two", "three"] {
        chat.send(word).unwrap();
    }
    let server = accept(&listener);
    for word in ["one", "two", "three"] {
        assert_eq!(server.recv().unwrap(), Some(word.into()));
    }
    server.send("four").unwrap();
    let ws = opened(chat.events());
    assert_eq!(ws.url().unwrap().as_str(), url);
    assert_eq!(chat.ready_state(), ReadyState::Open);
    assert_eq!(event_text(next(chat.events())), "four");
    chat.send("five").unwrap();
    chat.close(4001, "bye").unwrap();
    assert_eq!(not_taken(&chat, "six"), ErrorKind::Closed);
    assert_eq!(server.recv().unwrap(), Some("five".into()), "not sent before the close frame");
    assert_eq!((close_code(&server), server.close_reason().unwrap()), (4001, "bye"));
    assert_eq!(ended(chat.events()).to_string(), "closed with 4001: bye");
    assert_eq!(chat.ready_state(), ReadyState::Closed);
    assert!(chat.unsent().is_empty());
    chat.close(CloseCode::NORMAL, "").unwrap();
}

#[test]
fn a_lost_connection_is_reconnected_and_keeps_queued_messages() {
    let (listener, url) = listen();
    let chat = background_options().connect(&url, || {}).unwrap();
    accept(&listener).abort();
    opened(chat.events());
    let Event::Reconnecting { attempt, delay, cause, .. } = next(chat.events()) else { panic!() };
    assert_eq!((attempt, delay, failed(&cause)), (1, Duration::ZERO, ErrorKind::Io));
    chat.send("one").unwrap();
    chat.send("two").unwrap();
    let server = accept(&listener);
    assert_eq!(server.recv().unwrap(), Some("one".into()));
    assert_eq!(server.recv().unwrap(), Some("two".into()));
    opened(chat.events());
    server.close(CloseCode::SERVICE_RESTART, "").unwrap();
    let Event::Reconnecting { attempt, cause, .. } = next(chat.events()) else { panic!() };
    assert_eq!((attempt, cause.to_string().as_str()), (2, "closed with 1012 service restart"));
    accept(&listener).close(CloseCode::NORMAL, "").unwrap();
    opened(chat.events());
    assert_eq!(ended(chat.events()).to_string(), "closed with 1000 normal closure");
    assert_eq!(not_taken(&chat, "three"), ErrorKind::Closed);
}

#[test]
fn a_partly_sent_message_is_sent_first_on_the_next_connection() {
    let (listener, url) = listen();
    let chat = background_options().connect(&url, || {}).unwrap();
    let stream = listener.accept().unwrap().0;
    let server = WebSocket::accept(stream.try_clone().unwrap()).unwrap();
    opened(chat.events());
    let large = vec![7; 12 << 20];
    chat.send(large.clone()).unwrap();
    chat.send("next").unwrap();
    // Sending has begun, and the message is larger than the buffers of the system.
    read_beside(&stream, &mut [0]);
    server.abort();
    assert!(matches!(next(chat.events()), Event::Reconnecting { .. }));
    let server = accept(&listener);
    assert!(server.recv().unwrap().unwrap().as_bytes() == large);
    assert_eq!(server.recv().unwrap(), Some("next".into()));
}

#[test]
fn a_send_that_times_out_ends_the_connection_and_is_the_cause() {
    let (listener, url) = listen();
    let connect_options = uncompressed().send_timeout(Some(Duration::from_millis(50)));
    let chat = background_options().connect_options(connect_options).connect(&url, || {}).unwrap();
    let _server = accept(&listener);
    opened(chat.events());
    chat.send(vec![7; 12 << 20]).unwrap();
    let Event::Reconnecting { cause, .. } = next(chat.events()) else { panic!() };
    assert_eq!(failed(&cause), ErrorKind::Timeout, "{cause}");
    assert_eq!(chat.unsent().len(), 1);
}

#[test]
fn a_full_send_queue_returns_the_message() {
    let (_listener, url) = listen();
    let chat = background_options().send_capacity(2).connect(&url, || {}).unwrap();
    chat.send("one").unwrap();
    chat.send("two").unwrap();
    assert_eq!(not_taken(&chat, "three"), ErrorKind::WouldBlock);
    assert_eq!(chat.unsent(), ["one".into(), "two".into()]);
    chat.send("three").unwrap();
}

#[test]
fn closing_while_connecting_ends_immediately_and_returns_unsent_messages() {
    let (listener, url) = listen();
    let connect_options = uncompressed().connect_timeout(None);
    let (sender, wakes) = channel();
    let chat = background_options().connect_options(connect_options).connect(&url, wake_by(sender)).unwrap();
    let handshake = listener.accept().unwrap().0;
    chat.send("one").unwrap();
    chat.close(CloseCode::NORMAL, "").unwrap();
    let end = ended(chat.events());
    assert_eq!((failed(&end), end.to_string()), (ErrorKind::Closed, "closed by this side before it was open".into()));
    assert_eq!(chat.unsent(), [Message::from("one")]);
    // The attempt ends, too.
    handshake.take(100_000).read_to_end(&mut Vec::new()).unwrap();
    drop(chat);
    assert_eq!(wakes.iter().count(), 1, "the wake function was called again after the end");
}

#[test]
fn closing_while_waiting_to_reconnect_ends_immediately() {
    let (listener, url) = listen();
    let long_delay = Reconnect::new().first_delay(Duration::MAX).max_delay(Duration::MAX);
    let chat = background_options().reconnect(long_delay).connect(&url, || {}).unwrap();
    drop(listener.accept().unwrap());
    let event = next(chat.events());
    assert!(matches!(event, Event::Reconnecting { .. }), "{event:?}");
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(failed(&ended(chat.events())), ErrorKind::Closed);
}

#[test]
fn dropping_a_background_connection_ends_its_threads_in_every_state() {
    // While open. The wake function is dropped with the last thread.
    let (listener, url) = listen();
    let (sender, wakes) = channel();
    let chat = background_options().connect(&url, wake_by(sender)).unwrap();
    let server = accept(&listener);
    wakes.recv().unwrap();
    drop(chat);
    assert_eq!(close_code(&server), 1001);
    assert_eq!(wakes.iter().count(), 0);

    // With a full event queue.
    let (sender, wakes) = channel();
    let chat = background_options().event_capacity(1).connect(&url, wake_by(sender)).unwrap();
    let server = accept(&listener);
    server.send("one").unwrap();
    wakes.recv().unwrap();
    drop(chat);
    // If "one" was not read, the system resets the connection. On Windows the peer may then lose the close frame.
    let codes: &[u16] = if cfg!(windows) { &[1001, 1006] } else { &[1001] };
    assert!(codes.contains(&close_code(&server)));
    assert_eq!(wakes.iter().count(), 0);

    // While waiting to reconnect.
    let long_delay = Reconnect::new().first_delay(Duration::MAX).max_delay(Duration::MAX);
    let (sender, wakes) = channel();
    let chat = background_options().reconnect(long_delay).connect(&url, wake_by(sender)).unwrap();
    drop(listener.accept().unwrap());
    wakes.recv().unwrap();
    drop(chat);
    assert_eq!(wakes.iter().count(), 0);

    // While sending to a peer that reads nothing.
    let (sender, wakes) = channel();
    let chat = background_options().connect(&url, wake_by(sender)).unwrap();
    let _server = accept(&listener);
    wakes.recv().unwrap();
    chat.send(vec![7; 12 << 20]).unwrap();
    drop(chat);
    assert_eq!(wakes.iter().count(), 0);
}

#[test]
fn closing_ends_within_close_timeout_when_the_peer_reads_nothing() {
    let (listener, url) = listen();
    let connect_options = uncompressed().close_timeout(Some(Duration::from_millis(100)));
    let chat = background_options().connect_options(connect_options).connect(&url, || {}).unwrap();
    let _server = accept(&listener);
    opened(chat.events());
    let large = Message::from(vec![7; 12 << 20]);
    chat.send(large.clone()).unwrap();
    chat.send("next").unwrap();
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert!(matches!(ended(chat.events()), ConnectionEnd::Failed(_)));
    assert!(chat.unsent() == [large, "next".into()], "not returned in order");
}

#[test]
fn a_503_is_retried_and_a_403_is_not() {
    let (listener, url) = listen();
    let chat = background_options().connect(&url, || {}).unwrap();
    let reject = |status: u16| {
        let options = AcceptOptions::new().on_request(move |_| Err(Response::new(status).body("not now")));
        assert!(options.accept(listener.accept().unwrap().0).is_err());
    };
    reject(503);
    let Event::Reconnecting { cause, .. } = next(chat.events()) else { panic!() };
    assert_eq!(failed(&cause), ErrorKind::Rejected);
    reject(403);
    assert_eq!(failed(&ended(chat.events())), ErrorKind::Rejected);
}

#[test]
fn max_attempts_limits_the_attempts() {
    let (listener, url) = listen();
    drop(listener);
    let thrice = Reconnect::new().first_delay(Duration::ZERO).max_attempts(Some(3));
    let chat = background_options().reconnect(thrice).connect(&url, || {}).unwrap();
    for expected in 1..=3 {
        assert!(matches!(next(chat.events()), Event::Reconnecting { attempt, .. } if attempt == expected));
    }
    assert_eq!(failed(&ended(chat.events())), ErrorKind::Connect);
    let never = background_options().no_reconnect().connect(&url, || {}).unwrap();
    assert_eq!(failed(&ended(never.events())), ErrorKind::Connect);
    let unusable = background_options().connect("http://example.com/", || {}).unwrap();
    assert_eq!(failed(&ended(unusable.events())), ErrorKind::Url);
}

#[test]
fn attempts_wait_while_the_event_queue_is_full() {
    let (listener, url) = listen();
    let (sender, wakes) = channel();
    let chat = background_options().event_capacity(1).connect(&url, wake_by(sender)).unwrap();
    drop(listener.accept().unwrap());
    wakes.recv().unwrap();
    assert!(matches!(next(chat.events()), Event::Reconnecting { attempt: 1, .. }));
    drop(listener.accept().unwrap());
    assert!(matches!(next(chat.events()), Event::Reconnecting { attempt: 2, .. }));
    chat.close(CloseCode::NORMAL, "").unwrap();
}

#[test]
fn panics_in_the_wake_function_and_the_policy_end_the_connection() {
    let (listener, url) = listen();
    let chat = background_options().connect(&url, || panic!("no window")).unwrap();
    let server = accept(&listener);
    assert_eq!(close_code(&server), 1011);
    opened(chat.events());
    assert_eq!(ended(chat.events()).to_string(), "the wake function panicked: no window");

    let broken = Reconnect::new().retry_if(|_| panic!("no policy"));
    let chat = background_options().reconnect(broken).connect(&url, || {}).unwrap();
    let server: TcpStream = listener.accept().unwrap().0;
    drop(server);
    assert_eq!(ended(chat.events()).to_string(), "the reconnect policy panicked: no policy");
}
