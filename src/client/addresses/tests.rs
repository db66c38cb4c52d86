use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use super::*;
use crate::sync::thread_limit;

const HOUR: Duration = Duration::from_secs(3600);

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

/// An address of this machine that refuses connections.
fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn within(length: Duration) -> Deadline {
    Deadline::after("connect_timeout", Some(length))
}

#[test]
fn families_take_turns_and_the_resolver_s_first_begins() {
    for (given, order) in [
        (&[] as &[&str], &[] as &[&str]),
        (&["1.1.1.1:1", "2.2.2.2:1"], &["1.1.1.1:1", "2.2.2.2:1"]),
        (&["1.1.1.1:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1"]),
        (&["[::1]:1", "1.1.1.1:1"], &["[::1]:1", "1.1.1.1:1"]),
        (
            &["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1", "[::1]:1", "[::2]:1"],
            &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1", "[::2]:1", "3.3.3.3:1"],
        ),
        (&["[::1]:1", "[::2]:1", "[::1]:1", "1.1.1.1:1", "1.1.1.1:1"], &["[::1]:1", "1.1.1.1:1", "[::2]:1"]),
    ] {
        assert_eq!(interleaved(&addresses(given)), addresses(order));
    }
}

#[test]
fn literals_need_no_resolver_and_names_do() {
    let never = |_: &str, _| unreachable!();
    let deadline = within(HOUR);
    assert_eq!(
        resolve_with("127.0.0.1", 80, &deadline, &Cancellation::default(), never).unwrap(),
        addresses(&["127.0.0.1:80"])
    );
    assert_eq!(resolve_with("::1", 80, &deadline, &Cancellation::default(), never).unwrap(), addresses(&["[::1]:80"]));
    for deadline in [deadline, Deadline::NEVER] {
        let found = resolve_with("a.example", 80, &deadline, &Cancellation::default(), |host, port| {
            assert_eq!((host, port), ("a.example", 80));
            Ok(addresses(&["1.1.1.1:80", "[::1]:80"]))
        });
        assert_eq!(found.unwrap(), addresses(&["1.1.1.1:80", "[::1]:80"]));
        assert!(
            resolve("localhost", 80, &deadline, &Cancellation::default())
                .unwrap()
                .iter()
                .all(|address| address.ip().is_loopback())
        );
    }
}

#[test]
fn a_name_that_does_not_resolve_is_an_error_that_names_it() {
    type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;
    let fails: Lookup = |_, _| Err(io::Error::other("no such name"));
    let empty: Lookup = |_, _| Ok(Vec::new());
    for deadline in [within(HOUR), Deadline::NEVER] {
        for (lookup, says) in [(fails, "no such name"), (empty, "has no address")] {
            let error = resolve_with("a.example", 80, &deadline, &Cancellation::default(), lookup).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Resolve);
            assert!(error.to_string().contains("a.example:80") && error.to_string().contains(says), "{error}");
        }
    }
    let error = connect("a.example", 80, Some(&[]), &within(HOUR), &Cancellation::default()).unwrap_err();
    assert_eq!(error.to_string(), "the host of a.example:80 has no address");
}

#[test]
fn a_slow_resolver_does_not_outlast_the_deadline() {
    let (release, released) = mpsc::channel::<()>();
    let error =
        resolve_with("a.example", 80, &within(Duration::from_millis(10)), &Cancellation::default(), move |_, _| {
            let _ = released.recv();
            Ok(Vec::new())
        })
        .unwrap_err();
    drop(release);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("a.example:80") && error.to_string().contains("connect_timeout"), "{error}");
    let error = resolve_with("a.example", 80, &within(Duration::ZERO), &Cancellation::default(), |_, _| unreachable!())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// Attempts that end when and how the test says, through one channel each.
#[derive(Clone)]
struct Script(Arc<Mutex<HashMap<SocketAddr, Receiver<Outcome>>>>);

type Outcome = io::Result<Closing>;

/// Tells when it is closed.
struct Closing(&'static str, Sender<&'static str>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.1.send(self.0).ok();
    }
}

impl Script {
    fn of(addresses: &[SocketAddr]) -> (Script, Vec<Sender<Outcome>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = addresses.iter().map(|_| mpsc::channel()).unzip();
        let attempts = addresses.iter().copied().zip(receivers).collect();
        (Script(Arc::new(Mutex::new(attempts))), senders)
    }

    fn attempt(&self, address: SocketAddr) -> Outcome {
        let outcome = self.0.lock().unwrap().remove(&address).unwrap();
        outcome.recv().unwrap_or_else(|_| refused())
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ConnectionRefused.into())
}

#[test]
fn the_first_that_connects_wins_and_late_losers_are_closed() {
    let addresses = addresses(&["[::1]:1", "1.1.1.1:1", "2.2.2.2:1"]);
    let (script, outcomes) = Script::of(&addresses);
    let (closed, closings) = mpsc::channel();
    outcomes[1].send(Ok(Closing("second", closed.clone()))).unwrap();
    // No delay: all are begun without waiting. The other two stay silent until the race is over.
    let won = race(&addresses, Duration::ZERO, &within(HOUR), &Cancellation::default(), move |address| {
        script.attempt(address)
    });
    let won = won.unwrap_or_else(|_| panic!("the second connects"));
    assert_eq!(won.0, "second");
    // The first was begun before the second, so its thread is still there, but nobody waits for it.
    outcomes[0].send(Ok(Closing("first", closed.clone()))).unwrap();
    assert_eq!(closings.recv().unwrap(), "first");
    drop(won);
    assert_eq!(closings.recv().unwrap(), "second");
}

#[test]
fn after_a_failure_the_next_is_tried_at_once() {
    let addresses = addresses(&["[::1]:1", "1.1.1.1:1"]);
    let (script, outcomes) = Script::of(&addresses);
    let (closed, _closings) = mpsc::channel();
    outcomes[0].send(refused()).unwrap();
    outcomes[1].send(Ok(Closing("second", closed))).unwrap();
    // Waiting for the delay would take an hour.
    let won =
        race(&addresses, HOUR, &Deadline::NEVER, &Cancellation::default(), move |address| script.attempt(address));
    assert_eq!(won.unwrap_or_else(|_| panic!("the second connects")).0, "second");
}

#[test]
fn when_the_first_connects_no_other_is_tried() {
    let addresses = addresses(&["[::1]:1", "1.1.1.1:1"]);
    let (closed, _closings) = mpsc::channel();
    let won = race(&addresses, HOUR, &within(HOUR), &Cancellation::default(), move |address| {
        Ok(Closing(if address.is_ipv6() { "first" } else { "other" }, closed.clone()))
    });
    assert_eq!(won.unwrap_or_else(|_| panic!("the first connects")).0, "first");
}

#[test]
fn when_all_fail_each_one_is_named_with_its_end() {
    let addresses = addresses(&["[::1]:1", "1.1.1.1:1", "2.2.2.2:1"]);
    let deadline = within(HOUR);
    let failures =
        race::<TcpStream>(&addresses, HOUR, &deadline, &Cancellation::default(), move |address| match address.port() {
            1 if address.is_ipv6() => Err(io::Error::other("no route")),
            _ => refused(),
        });
    let error = failed("h:1", failures.unwrap_err(), &deadline);
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(
        error.to_string(),
        "cannot connect to h:1: [::1]:1: no route; 1.1.1.1:1: connection refused; 2.2.2.2:1: connection refused"
    );
}

#[test]
fn when_time_is_up_the_unanswered_are_named_too() {
    let addresses = addresses(&["[::1]:1", "1.1.1.1:1"]);
    let (script, _silent) = Script::of(&addresses);
    let deadline = within(Duration::from_millis(10));
    let failures = race(&addresses, HOUR, &deadline, &Cancellation::default(), move |address| script.attempt(address))
        .err()
        .unwrap();
    let error = failed("h:1", failures, &deadline);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), "connecting to h:1 ([::1]:1: no answer): not done within 10ms (connect_timeout)");

    let failures = addresses.into_iter().map(|address| (address, io::ErrorKind::ConnectionRefused.into())).collect();
    assert_eq!(
        failed("h:1", failures, &deadline).to_string(),
        "connecting to h:1 ([::1]:1: connection refused; 1.1.1.1:1: connection refused): \
         not done within 10ms (connect_timeout)"
    );
}

#[test]
fn a_connection_comes_about_over_loopback() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = listener.local_addr().unwrap();
    let port = listening.port();
    for deadline in [within(HOUR), Deadline::NEVER] {
        for overrides in [
            None,
            Some(vec![listening]),
            Some(addresses(&["127.0.0.1:0"])), // the URL's port
            Some(vec![refusing(), listening]),
        ] {
            let stream = connect("localhost", port, overrides.as_deref(), &deadline, &Cancellation::default()).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), listening);
            assert!(stream.nodelay().unwrap());
        }
    }
}

#[test]
fn a_refused_connection_is_an_error_that_names_host_and_address() {
    let (one, other) = (refusing(), refusing());
    for deadline in [within(HOUR), Deadline::NEVER] {
        let error = connect("h.example", 7, Some(&[one]), &deadline, &Cancellation::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().starts_with(&format!("cannot connect to h.example:7: {one}: ")), "{error}");
        assert!(error.get_ref().is_some());
    }
    let error =
        connect("127.0.0.1", one.port(), None, &within(HOUR), &Cancellation::default()).unwrap_err().to_string();
    assert_eq!(error.matches("127.0.0.1").count(), 1, "{error}");
    let error = connect("h.example", 7, Some(&[one, other]), &within(HOUR), &Cancellation::default()).unwrap_err();
    assert!(error.to_string().contains(&one.to_string()) && error.to_string().contains(&other.to_string()), "{error}");
}

#[test]
fn no_time_left_is_a_timeout_and_never_a_panic() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = listener.local_addr().unwrap();
    for overrides in [vec![listening], vec![listening, refusing()]] {
        let error =
            connect("h.example", 7, Some(&overrides), &within(Duration::ZERO), &Cancellation::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("h.example:7"), "{error}");
    }
}

#[test]
fn without_a_thread_no_address_is_tried_and_each_is_named() {
    let list = addresses(&["1.1.1.1:1", "[::1]:1"]);
    let deadline = within(HOUR);
    let failures = thread_limit::with(0, || {
        race(&list, HOUR, &deadline, &Cancellation::default(), |_| -> io::Result<()> { unreachable!() })
    });
    let failures = failures.unwrap_err();
    assert_eq!(failures.iter().map(|(address, _)| *address).collect::<Vec<_>>(), list);
    let error = failed("a.example:1", failures, &deadline);
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().starts_with("cannot connect to a.example:1: 1.1.1.1:1: "), "{error}");
    let error = thread_limit::with(0, || {
        resolve_with("a.example", 1, &deadline, &Cancellation::default(), |_, _| unreachable!())
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Resolve);
    assert_eq!(failed("a.example:1", Failures::new(), &deadline).to_string(), "cannot connect to a.example:1");
}

#[test]
fn a_resolver_that_panics_is_an_error() {
    let error =
        resolve_with("a.example", 1, &within(HOUR), &Cancellation::default(), |_, _| panic!("on purpose")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Resolve);
    assert!(error.to_string().ends_with("the resolver panicked"), "{error}");
}
