//! What happens when the system gives no thread, and on which threads the program's functions run.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::sync::moved::sleep_of_the_machine;
use crate::sync::thread_limit;
use crate::sync::{Mutex, lock};
use crate::transport::Stream;
use crate::websocket::WebSocket;

/// Turns a hang into a failure.
const LONG: Duration = Duration::from_secs(30);

/// Client and server.
fn pair() -> (WebSocket, WebSocket) {
    let (ours, theirs) = Stream::pair();
    let server = thread::spawn(move || WebSocket::accept(theirs).unwrap());
    let client = WebSocket::options().connect_over("ws://localhost/", ours).unwrap();
    (client, server.join().unwrap())
}

/// A connection in the background by `connect`, and the threads that call its wake function.
fn in_background(mut connect: impl FnMut() -> Result<WebSocket> + Send + 'static) -> (Background, Receiver<ThreadId>) {
    let (sender, wakes) = channel();
    let queue = Queue::new(8, move || sender.send(thread::current().id()).unwrap());
    let supervisor = Supervisor::new(Arc::clone(&queue), Outbox::new(8, WhenFull::Refuse), Some(LONG), false);
    let hooks = Hooks { connect: Box::new(move |_| connect()), on_open: None };
    supervisor.start(hooks, Backoff::new(None, false)).unwrap();
    (Background(Arc::new(Inner { supervisor, events: Events { queue, ws: None } })), wakes)
}

fn next(chat: &Background) -> Event {
    chat.events().recv_timeout(LONG).expect("an event")
}

#[test]
fn events_and_readers_that_get_no_thread_leave_the_connection_open() {
    let (client, server) = pair();
    let failed = [
        thread_limit::with(0, || client.events(1, || {}).map(drop)),
        thread_limit::with(0, || client.spawn_reader(|_| ControlFlow::Break(())).map(drop)),
    ];
    for error in failed.map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
    server.send("still open").unwrap();
    assert_eq!(client.recv().unwrap(), Some("still open".into()));
}

#[test]
fn a_connection_in_the_background_that_does_not_get_all_its_threads_leaves_none() {
    for threads in 0..3 {
        let (sender, wakes) = channel();
        let wake = move || sender.send(()).unwrap();
        let error = thread_limit::with(threads, || Background::connect("ws://localhost/", wake)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        // The wake function is dropped with the last thread.
        assert_eq!(wakes.iter().count(), 0);
    }
}

#[test]
fn closing_before_it_is_open_needs_no_thread_and_wakes_on_another() {
    let (go_on, blocked) = channel::<()>();
    let (chat, wakes) = in_background(move || {
        let _ = blocked.recv();
        Err(Error::new(ErrorKind::Connect, "too late"))
    });
    thread_limit::with(0, || chat.close(CloseCode::NORMAL, "")).unwrap();
    let Event::End(ConnectionEnd::Failed(error)) = next(&chat) else { panic!() };
    assert_eq!((error.kind(), chat.ready_state()), (ErrorKind::Closed, ReadyState::Closed), "{error}");
    assert_ne!(wakes.recv_timeout(LONG).unwrap(), thread::current().id());
    drop((go_on, chat));
    assert_eq!(wakes.iter().count(), 0, "nothing comes after the end");
}

#[test]
fn closing_an_open_connection_needs_no_thread_and_wakes_on_another() {
    let (client, server) = pair();
    let mut client = Some(client);
    let (chat, wakes) = in_background(move || Ok(client.take().unwrap()));
    assert!(matches!(next(&chat), Event::Open(_)));
    chat.send("last").unwrap();
    thread_limit::with(0, || chat.close(4001, "bye")).unwrap();
    assert_eq!(chat.ready_state(), ReadyState::Closing, "the server has not answered");
    assert_eq!(server.recv().unwrap(), Some("last".into()));
    assert_eq!((server.recv().unwrap(), server.close_code()), (None, Some(CloseCode::from(4001))));
    let Event::End(end) = next(&chat) else { panic!() };
    assert_eq!(end.to_string(), "closed with 4001: bye");
    drop(chat);
    let threads: Vec<ThreadId> = wakes.iter().collect();
    assert_eq!(threads.len(), 2, "open and end");
    assert!(!threads.contains(&thread::current().id()));
}

#[test]
fn options_begin_with_the_defaults() {
    let options = BackgroundOptions::new();
    assert_eq!((options.event_capacity, options.send_capacity, options.reconnect.is_some()), (64, 64, true));
}

#[test]
fn a_wait_for_the_next_attempt_ends_when_the_machine_has_slept() {
    let (sender, attempts) = channel();
    let connect = move |_: AttemptInfo<'_>| {
        sender.send(()).unwrap();
        Err(Error::new(ErrorKind::Connect, "no network"))
    };
    let for_ever = Reconnect::new().first_delay(Duration::MAX).max_delay(Duration::MAX);
    let _chat = BackgroundOptions::new().reconnect(for_ever).connect_by(connect, || {}).unwrap();
    attempts.recv_timeout(LONG).unwrap();
    // Moved again until it is noticed: the wait may not have begun.
    while attempts.recv_timeout(Duration::from_millis(100)).is_err() {
        sleep_of_the_machine(Duration::from_secs(3600));
    }
}

#[test]
fn a_connection_is_asked_whether_it_is_still_there_when_the_machine_has_slept() {
    let (client, server) = pair();
    client.set_ping_interval(Duration::from_secs(86_400));
    let receiving = thread::spawn(move || server.recv());
    let mut connection = Some(client.clone());
    let (chat, _wakes) = in_background(move || Ok(connection.take().unwrap()));
    assert!(matches!(next(&chat), Event::Open(_)));
    let start = std::time::Instant::now();
    while client.latency().is_none() {
        sleep_of_the_machine(Duration::from_secs(3600));
        assert!(start.elapsed() < LONG, "no ping");
        thread::yield_now();
    }
    drop((chat, client));
    receiving.join().unwrap().unwrap();
}

/// The call comes after the last look at the token, and before the connection is known.
#[test]
fn a_connection_that_is_made_while_reconnect_now_is_called_is_given_up() {
    let (sender, supervisors) = channel::<Arc<Supervisor>>();
    let mut peers = Vec::new();
    let connect = move |info: AttemptInfo<'_>| {
        let (client, server) = pair();
        peers.push(server);
        if info.number == 0 {
            supervisors.recv().unwrap().reconnect_now();
        }
        Ok(client)
    };
    let chat = Background::options().connect_by(connect, || {}).unwrap();
    sender.send(Arc::clone(&chat.0.supervisor)).unwrap();
    let event = next(&chat);
    let Event::Reconnecting { attempt: 1, delay: Duration::ZERO, cause } = &event else { panic!("{event:?}") };
    assert!(cause.to_string().contains("reconnect_now"), "{cause}");
    assert!(matches!(next(&chat), Event::Open(_)));
}

/// The call comes when the connection is made, and before it is known.
#[test]
fn a_connection_that_is_made_while_close_is_called_is_given_up() {
    let (sender, supervisors) = channel::<Arc<Supervisor>>();
    let (give, given) = channel();
    let (chat, _wakes) = in_background(move || {
        let (client, server) = pair();
        give.send(server).unwrap();
        supervisors.recv().unwrap().close(CloseCode::NORMAL, "");
        Ok(client)
    });
    sender.send(Arc::clone(&chat.0.supervisor)).unwrap();
    let Event::End(ConnectionEnd::Failed(error)) = next(&chat) else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    let server = given.recv().unwrap();
    assert_eq!((server.recv().unwrap(), server.close_code()), (None, Some(CloseCode::GOING_AWAY)));
}

/// What `on_open` returns after a call of `close` does not matter: the connection is closed as was asked.
#[test]
fn an_on_open_that_fails_while_it_is_closed_does_not_hide_the_close() {
    let (client, server) = pair();
    let answering = thread::spawn(move || (server.recv().unwrap(), server.close_code()));
    let (sender, supervisors) = channel::<Arc<Supervisor>>();
    let supervisors = Mutex::new(supervisors);
    let on_open = move |_: &WebSocket| {
        lock(&supervisors).recv().unwrap().close(4001.into(), "bye");
        Err(Error::other("no greeting"))
    };
    let mut client = Some(client);
    let chat = Background::options().on_open(on_open).connect_by(move |_| Ok(client.take().unwrap()), || {}).unwrap();
    sender.send(Arc::clone(&chat.0.supervisor)).unwrap();
    let Event::End(end) = next(&chat) else { panic!() };
    assert_eq!(end.to_string(), "closed with 4001: bye");
    assert_eq!(answering.join().unwrap(), (None, Some(CloseCode::from(4001))));
}

/// The last look at what the program wants comes behind its policy.
#[test]
fn a_policy_that_drops_the_connection_in_the_background_ends_it() {
    let (sender, chats) = channel::<Background>();
    let chats = Mutex::new(chats);
    let (counter, attempts) = channel();
    let policy = move |_: &ConnectionEnd| {
        drop(lock(&chats).recv().unwrap());
        true
    };
    let connect = move |_: AttemptInfo<'_>| {
        counter.send(()).unwrap();
        Err(Error::new(ErrorKind::Connect, "no network"))
    };
    let reconnect = Reconnect::new().first_delay(Duration::ZERO).retry_if(policy);
    let chat = BackgroundOptions::new().reconnect(reconnect).connect_by(connect, || {}).unwrap();
    sender.send(chat).unwrap();
    assert_eq!(attempts.iter().count(), 1, "and then the supervisor ends");
}

#[test]
fn a_wake_function_that_panics_when_an_attempt_failed_ends_all() {
    let connect = |_: AttemptInfo<'_>| Err(Error::new(ErrorKind::Connect, "no network"));
    let for_ever = Reconnect::new().first_delay(Duration::MAX).max_delay(Duration::MAX);
    let wake = || panic!("wakes nobody");
    let chat = BackgroundOptions::new().reconnect(for_ever).connect_by(connect, wake).unwrap();
    assert!(matches!(next(&chat), Event::Reconnecting { attempt: 1, .. }));
    let Event::End(ConnectionEnd::Failed(error)) = next(&chat) else { panic!() };
    assert!(error.to_string().contains("wakes nobody"), "{error}");
    chat.close_and_wait(CloseCode::NORMAL, "", LONG).unwrap();
    assert_eq!(chat.ready_state(), ReadyState::Closed);
}
