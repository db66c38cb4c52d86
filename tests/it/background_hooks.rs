//! The program's part in a connection in the background: hooks before each attempt and on each new connection, attempts that
//! are asked for, closing at any time, a full queue, and what can be asked meanwhile. No test sleeps: every wait is for an
//! event, and `LONG` only turns a hang into a failure.

use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::background::{accept, background_options as options, ended, listen, next, opened, uncompressed};
use crate::support::read_head;
use wsync::{
    AcceptOptions, Background, BackgroundOptions, CloseCode, ConnectionEnd, Error, ErrorKind, Event, Message,
    ReadyState, Reconnect, Response, WebSocket, WhenFull,
};

const LONG: Duration = Duration::from_secs(30);

/// Waits for the next attempt for ever.
fn waits_for_ever() -> BackgroundOptions {
    options().reconnect(Reconnect::new().first_delay(Duration::MAX).max_delay(Duration::MAX))
}

#[track_caller]
fn reconnecting(chat: &Background) -> (u32, Duration, ConnectionEnd) {
    match next(chat.events()) {
        Event::Reconnecting { attempt, delay, cause, .. } => (attempt, delay, cause),
        other => panic!("{other:?} instead of reconnecting"),
    }
}

// on_open

#[test]
fn what_on_open_sends_is_ahead_of_every_queued_message_on_each_connection() {
    let (listener, url) = listen();
    let chat = options().on_open(|ws| ws.send_all(["auth", "subscribe"])).connect(&url, || {}).unwrap();
    for round in ["first", "second"] {
        chat.send(round).unwrap();
        let server = accept(&listener);
        for expected in ["auth", "subscribe", round] {
            assert_eq!(server.recv().unwrap(), Some(expected.into()));
        }
        opened(chat.events());
        server.abort();
        reconnecting(&chat);
    }
}

#[test]
fn an_answer_that_on_open_receives_does_not_become_an_event() {
    let (listener, url) = listen();
    let on_open = |ws: &WebSocket| {
        ws.send("auth")?;
        assert_eq!(ws.recv_timeout(LONG)?, Some("welcome".into()));
        Ok(())
    };
    let chat = options().on_open(on_open).connect(&url, || {}).unwrap();
    let server = accept(&listener);
    assert_eq!(server.recv().unwrap(), Some("auth".into()));
    assert_eq!(chat.ready_state(), ReadyState::Connecting);
    server.send_all(["welcome", "news"]).unwrap();
    opened(chat.events());
    assert!(matches!(next(chat.events()), Event::Message(news) if news == Message::from("news")));
}

#[test]
fn an_error_of_on_open_is_a_failed_attempt_with_that_cause() {
    let (listener, url) = listen();
    let on_open = |ws: &WebSocket| match ws.recv()? {
        Some(welcome) if welcome == Message::from("welcome") => Ok(()),
        other => Err(Error::other(format!("not welcome: {other:?}"))),
    };
    let chat = options().on_open(on_open).connect(&url, || {}).unwrap();
    chat.send("a message").unwrap();
    for (attempt, refusal) in [(1, "no"), (2, "go away")] {
        let server = accept(&listener);
        server.send(refusal).unwrap();
        let (number, _, cause) = reconnecting(&chat);
        let error = cause.error().unwrap();
        assert_eq!((number, error.kind()), (attempt, ErrorKind::Other));
        assert!(error.to_string().contains(refusal), "{error}");
        assert!(!matches!(server.recv(), Ok(Some(_))), "the message was sent");
    }
    let server = accept(&listener);
    server.send("welcome").unwrap();
    opened(chat.events());
    assert_eq!(server.recv().unwrap(), Some("a message".into()));
}

#[test]
fn close_ends_what_on_open_waits_for_on_the_connection() {
    let (listener, url) = listen();
    let (sender, results) = channel();
    let on_open = move |ws: &WebSocket| {
        sender.send(None).unwrap();
        sender.send(Some(ws.recv())).unwrap();
        Ok(())
    };
    let chat = options().on_open(on_open).connect(&url, || {}).unwrap();
    chat.send("never sent").unwrap();
    let server = accept(&listener);
    assert!(results.recv_timeout(LONG).unwrap().is_none(), "on_open has begun");
    chat.close(4001, "changed my mind").unwrap();
    assert_eq!(server.recv().unwrap(), None);
    assert_eq!(server.close_code(), Some(CloseCode::from(4001)));
    assert_eq!(results.recv_timeout(LONG).unwrap().unwrap().unwrap(), None);
    assert_eq!(ended(chat.events()).to_string(), "closed with 4001: changed my mind");
    assert_eq!(chat.unsent(), [Message::from("never sent")]);
}

#[test]
fn a_hook_that_does_not_return_does_not_hold_up_the_end() {
    let (listener, url) = listen();
    let (begun, has_begun) = channel();
    let (release, released) = channel::<()>();
    let released = std::sync::Mutex::new(released);
    let block = {
        let released = std::sync::Arc::new(released);
        move || {
            begun.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
        }
    };
    // In before_connect there is nothing to close.
    let blocked = block.clone();
    let before_connect = move |_: &mut wsync::Attempt<'_>| {
        blocked();
        Ok(())
    };
    let chat = options().before_connect(before_connect).connect(&url, || {}).unwrap();
    has_begun.recv_timeout(LONG).unwrap();
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(ended(chat.events()).to_string(), "closed by this side before it was open");
    release.send(()).unwrap();
    // In on_open the closing handshake has its bound.
    let bounded = uncompressed().close_timeout(Duration::from_millis(50));
    let on_open = move |_: &WebSocket| {
        block();
        Ok(())
    };
    let chat = options().connect_options(bounded).on_open(on_open).connect(&url, || {}).unwrap();
    let _server = accept(&listener);
    has_begun.recv_timeout(LONG).unwrap();
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert!(ended(chat.events()).error().is_some());
    release.send(()).unwrap();
}

#[test]
fn a_hook_that_panics_ends_the_connection_and_is_named() {
    let (listener, url) = listen();
    let chat = options().before_connect(|_| panic!("no token")).connect(&url, || {}).unwrap();
    assert_eq!(ended(chat.events()).to_string(), "before_connect panicked: no token");
    let chat = options().on_open(|_| panic!("no login")).connect(&url, || {}).unwrap();
    let server = accept(&listener);
    assert_eq!(ended(chat.events()).to_string(), "on_open panicked: no login");
    assert_eq!((server.recv().unwrap(), server.close_code()), (None, Some(CloseCode::INTERNAL_ERROR)));
}

// before_connect

#[test]
fn before_connect_changes_url_and_options_of_each_attempt_and_learns_how_the_last_one_ended() {
    let ((first, first_url), (second, second_url)) = (listen(), listen());
    let urls = [first_url.clone(), second_url];
    let (sender, seen) = channel();
    let before_connect = move |attempt: &mut wsync::Attempt<'_>| {
        let error = attempt.last_end().and_then(ConnectionEnd::error);
        let hint = error.and_then(Error::response).and_then(|response| response.header("X-Hint"));
        sender.send((attempt.number(), error.and_then(Error::status), hint.map(str::to_string))).unwrap();
        assert_eq!(attempt.url(), urls[0], "a change holds for one attempt");
        attempt.set_url(format!("{}?attempt={}", urls[attempt.number() as usize % 2], attempt.number()));
        let token = format!("token {}", attempt.number());
        attempt.options_mut().set_header("Authorization", token);
        Ok(())
    };
    let chat = options().before_connect(before_connect).connect(&first_url, || {}).unwrap();
    let request = |listener: &TcpListener, accepts: bool| {
        let (sender, seen) = channel();
        let options = AcceptOptions::new().on_request(move |request| {
            let token = request.header("Authorization").map(str::to_string);
            sender.send((request.query("attempt").map(|number| number.into_owned()), token)).unwrap();
            if accepts { Ok(Default::default()) } else { Err(Response::new(401).header("X-Hint", "log in")) }
        });
        let result = options.accept(listener.accept().unwrap().0);
        assert_eq!(result.is_ok(), accepts);
        (seen.recv().unwrap(), result)
    };
    let (seen_by_first, _) = request(&first, false);
    assert_eq!(seen_by_first, (Some("0".into()), Some("token 0".into())));
    assert_eq!(reconnecting(&chat).2.error().unwrap().status(), Some(401), "it can heal, as the request may change");
    let (seen_by_second, server) = request(&second, true);
    assert_eq!(seen_by_second, (Some("1".into()), Some("token 1".into())));
    opened(chat.events());
    assert_eq!(seen.recv().unwrap(), (0, None, None));
    assert_eq!(seen.recv().unwrap(), (1, Some(401), Some("log in".into())));
    drop(server);
}

#[test]
fn an_error_of_before_connect_is_retried_or_final_by_the_policy() {
    let (listener, url) = listen();
    let fails_once = |attempt: &mut wsync::Attempt<'_>| match attempt.number() {
        0 => Err(Error::other(std::io::Error::other("no network"))),
        _ => Ok(()),
    };
    let chat = options().before_connect(fails_once).connect(&url, || {}).unwrap();
    let (_, _, cause) = reconnecting(&chat);
    assert_eq!((cause.error().unwrap().kind(), cause.to_string().as_str()), (ErrorKind::Other, "no network"));
    let _server = accept(&listener);
    opened(chat.events());
    let never = Reconnect::new().retry_if(|end| end.error().is_none_or(|error| error.kind() != ErrorKind::Other));
    let chat = options().reconnect(never).before_connect(fails_once).connect(&url, || {}).unwrap();
    assert_eq!(ended(chat.events()).to_string(), "no network");
}

// reconnect_now

#[test]
fn reconnect_now_ends_the_wait_an_attempt_under_way_and_a_doubted_connection() {
    let (listener, url) = listen();
    let chat = waits_for_ever().connect(&url, || {}).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(reconnecting(&chat).0, 1);
    // It waits, for ever.
    chat.reconnect_now();
    // The attempt is under way, and gets no answer.
    let mut hanging = listener.accept().unwrap().0;
    read_head(&mut hanging);
    chat.reconnect_now();
    let (attempt, delay, cause) = reconnecting(&chat);
    assert_eq!((attempt, delay), (2, Duration::ZERO), "{cause}");
    let server = accept(&listener);
    opened(chat.events());
    // The connection is up.
    chat.reconnect_now();
    let (attempt, delay, cause) = reconnecting(&chat);
    assert_eq!((attempt, delay, cause.error().unwrap().kind()), (3, Duration::ZERO, ErrorKind::Closed));
    assert!(cause.to_string().contains("reconnect_now"), "{cause}");
    assert_eq!((server.recv().unwrap(), server.close_code()), (None, Some(CloseCode::GOING_AWAY)));
    let server = accept(&listener);
    opened(chat.events());
    chat.send("still there").unwrap();
    assert_eq!(server.recv().unwrap(), Some("still there".into()));
    chat.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(server.recv().unwrap(), None);
    ended(chat.events());
    chat.reconnect_now();
}

#[test]
fn reconnect_now_does_nothing_where_nothing_reconnects() {
    let (listener, url) = listen();
    let chat = options().no_reconnect().connect(&url, || {}).unwrap();
    let server = accept(&listener);
    opened(chat.events());
    chat.reconnect_now();
    server.send("still open").unwrap();
    assert!(matches!(next(chat.events()), Event::Message(_)));
}

// Closing

#[test]
fn close_and_wait_returns_the_end_in_every_state() {
    let (listener, url) = listen();
    // While an attempt hangs.
    let start = Instant::now();
    let chat = waits_for_ever().connect(&url, || {}).unwrap();
    let mut hanging = listener.accept().unwrap().0;
    read_head(&mut hanging);
    let end = chat.close_and_wait(CloseCode::NORMAL, "", LONG).unwrap();
    assert_eq!(end.error().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(hanging.read(&mut [0]).unwrap(), 0, "the attempt ended, too");
    // While it waits for the next attempt.
    let chat = waits_for_ever().connect(&url, || {}).unwrap();
    drop(listener.accept().unwrap());
    reconnecting(&chat);
    assert!(chat.close_and_wait(CloseCode::NORMAL, "", LONG).unwrap().error().is_some());
    // While it is open. What is queued goes out first.
    let chat = waits_for_ever().connect(&url, || {}).unwrap();
    let server = accept(&listener);
    opened(chat.events());
    chat.send("last").unwrap();
    let reading = std::thread::spawn(move || (server.recv(), server.recv()));
    assert_eq!(chat.close_and_wait(4002, "done", LONG).unwrap().to_string(), "closed with 4002: done");
    let (last, none) = reading.join().unwrap();
    assert_eq!((last.unwrap(), none.unwrap()), (Some("last".into()), None));
    // After the end.
    assert_eq!(chat.clone().close_and_wait(CloseCode::NORMAL, "", LONG).unwrap().to_string(), "closed with 4002: done");
    assert!(start.elapsed() < LONG, "nothing waited for a bound");
    // A peer that takes no part.
    let chat = waits_for_ever().connect(&url, || {}).unwrap();
    let _server = accept(&listener);
    opened(chat.events());
    let end = chat.close_and_wait(CloseCode::NORMAL, "", Duration::from_millis(50)).unwrap();
    assert!(end.to_string().contains("50ms"), "{end}");
    assert_eq!(chat.close_and_wait(1005, "", LONG).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn close_and_wait_does_not_wait_for_a_wake_function_that_does_not_return_nor_for_events_that_nobody_takes() {
    let (listener, url) = listen();
    let (release, released) = channel::<()>();
    let released = std::sync::Mutex::new(released);
    let blocks = move || {
        let _ = released.lock().unwrap().recv();
    };
    let chat = options().connect(&url, blocks).unwrap();
    let _server = accept(&listener);
    opened(chat.events());
    let error = chat.close_and_wait(CloseCode::NORMAL, "", Duration::from_millis(10)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    drop(release);
    let chat = options().connect(&url, || panic!("no window")).unwrap();
    let server = accept(&listener);
    assert!(!matches!(server.recv(), Ok(Some(_))));
    let end = chat.close_and_wait(CloseCode::NORMAL, "", LONG).unwrap();
    assert_eq!(end.error().unwrap().kind(), ErrorKind::Closed);
}

#[test]
fn the_last_clone_ends_the_connection() {
    let (listener, url) = listen();
    let chat = options().connect(&url, || {}).unwrap();
    let server = accept(&listener);
    let clone = chat.clone();
    drop(chat);
    clone.send("by the clone").unwrap();
    assert_eq!(server.recv().unwrap(), Some("by the clone".into()));
    // Until the thread that has sent it is done.
    while clone.buffered_amount() > 0 {
        std::thread::yield_now();
    }
    drop(clone);
    assert_eq!((server.recv().unwrap(), server.close_code()), (None, Some(CloseCode::GOING_AWAY)));
}

// What can be asked

#[test]
fn a_full_queue_drops_what_was_chosen_and_counts_it() {
    for (when_full, expected) in [(WhenFull::DropOldest, ["2", "3"]), (WhenFull::DropNewest, ["1", "2"])] {
        let (listener, url) = listen();
        let chat = options().send_capacity(2).when_full(when_full).connect(&url, || {}).unwrap();
        ["1", "2", "3"].into_iter().for_each(|text| chat.send(text).unwrap());
        assert_eq!((chat.dropped(), chat.buffered_amount()), (1, 2));
        let server = accept(&listener);
        for text in expected {
            assert_eq!(server.recv().unwrap(), Some(text.into()));
        }
    }
}

#[test]
fn statistics_go_on_over_connections() {
    let (listener, url) = listen();
    let chat = options().connect(&url, || {}).unwrap();
    assert_eq!((chat.latency(), chat.statistics().sent.messages), (None, 0));
    for round in 1..=2 {
        let server = accept(&listener);
        let ws = opened(chat.events());
        chat.send("four").unwrap();
        assert_eq!(server.recv().unwrap(), Some("four".into()));
        server.send("seven!!").unwrap();
        assert!(matches!(next(chat.events()), Event::Message(_)));
        let statistics = chat.statistics();
        assert_eq!((statistics.sent.messages, statistics.sent.payload_bytes), (round, 4 * round));
        let received = (statistics.received.messages, statistics.received.payload_bytes);
        assert_eq!(received, (2 * round - 1, 7 * round + 15 * (round - 1)));
        ws.ping(b"").unwrap();
        // The answer comes before the message.
        server.recv_timeout(Duration::from_millis(1)).unwrap_err();
        server.send("behind the pong").unwrap();
        next(chat.events());
        assert!(chat.latency().is_some());
        server.abort();
        reconnecting(&chat);
        assert_eq!(chat.latency(), None);
    }
}

#[test]
fn keepalive_is_on_unless_the_program_has_chosen() {
    for (options, expected) in [
        (uncompressed(), Some(20)),
        (uncompressed().ping_interval(None), None),
        (uncompressed().ping_interval(Duration::ZERO), None),
        (uncompressed().ping_interval(Duration::from_secs(7)), Some(7)),
    ] {
        let (listener, url) = listen();
        let chat = Background::options().connect_options(options).connect(&url, || {}).unwrap();
        let _server = accept(&listener);
        assert_eq!(opened(chat.events()).ping_interval(), expected.map(Duration::from_secs));
    }
}

#[test]
fn a_message_that_was_not_taken_becomes_an_error_by_the_question_mark() {
    fn send(chat: &Background) -> wsync::Result<()> {
        chat.send("one")?;
        chat.send("two")?;
        Ok(())
    }
    let (_listener, url) = listen();
    let chat = options().send_capacity(1).connect(&url, || {}).unwrap();
    let error = send(&chat).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(error.to_string().contains("send_capacity"), "{error}");
}
