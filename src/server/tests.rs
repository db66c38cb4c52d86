//! What the accept loop asks of a handshake.

use std::thread;

use super::*;
use crate::memory_limit::MemoryLimit;
use crate::sync::Arc;

/// What the server finds, and what a client sees that sends this header.
fn meet(admission: Admission<'_>, header: &str) -> (Result<Accepted>, Result<WebSocket>) {
    let (ours, theirs) = Stream::pair();
    let client = WebSocket::options().header("X-Long", header);
    let client = thread::spawn(move || client.connect_over("ws://localhost/", theirs));
    let accepted = accept_or_answer(&AcceptOptions::new(), ours, admission);
    (accepted, client.join().unwrap())
}

/// Its client must not be told that it is open.
#[test]
fn a_handshake_that_may_not_open_ends_without_a_101() {
    let admission = Admission { may_open: Some(&|| false), memory: None };
    let (accepted, client) = meet(admission, "");
    assert_eq!(accepted.err().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(client.unwrap_err().kind(), ErrorKind::Handshake);
}

#[test]
fn a_head_that_takes_more_than_the_servers_memory_ends_the_handshake() {
    let limit = MemoryLimit::new(10_000);
    let admission = || Admission { may_open: None, memory: Some(limit.share(Arc::new(|_| {}))) };
    let (accepted, client) = meet(admission(), &"x".repeat(4000));
    let error = accepted.err().unwrap();
    assert!(error.kind() == ErrorKind::TooBig && error.to_string().contains("memory_limit"), "{error}");
    assert!(client.is_err());
    assert_eq!((limit.held(), limit.evicted()), (0, 1));
    let (accepted, client) = meet(admission(), &"x".repeat(3000));
    assert!(accepted.is_ok() && client.is_ok());
    assert!(limit.held() > 9000, "the program can ask for the head");
}
