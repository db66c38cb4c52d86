//! What a connection does to which the system gives no thread, no random bytes, or not enough addresses for a length; and one
//! whose server has little memory.

use std::thread;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::memory_limit::MemoryLimit;
use crate::random::refusal;
use crate::sync::thread_limit;
use crate::transport::Stream;

const LONG: Option<Duration> = Some(Duration::from_secs(30));

fn open(stream: Stream, role: Role) -> Connection {
    let handshake = HandshakeEnd::of(Transport::plain(stream).unwrap());
    let deflate = DeflateParameters {
        client_no_context_takeover: false,
        server_no_context_takeover: false,
        client_max_window_bits: 15,
        server_max_window_bits: 15,
    };
    let compression = Compression::default().threshold(1000);
    Connection::new(handshake, role, Some(deflate), &compression, ConnectionConfig::default())
}

/// A client and its server, with so many bytes of buffer in each direction.
fn pair(capacity: usize) -> (Connection, Connection) {
    let (ours, theirs) = Stream::pair_with_capacity(capacity);
    (open(ours, Role::Client), open(theirs, Role::Server))
}

/// A client and its server, which has a share of this memory; without compression, whose inflater would count.
fn counted(limit: &Arc<MemoryLimit>) -> (Connection, Connection) {
    let (ours, theirs) = Stream::pair_with_capacity(1 << 20);
    let open = |stream, role, memory| {
        let handshake = HandshakeEnd { memory, ..HandshakeEnd::of(Transport::plain(stream).unwrap()) };
        Connection::new(handshake, role, None, &Compression::off(), ConnectionConfig::default())
    };
    (open(ours, Role::Client, None), open(theirs, Role::Server, Some(limit.share(Arc::new(|_| {})))))
}

fn kind<T>(result: Result<T>) -> std::result::Result<T, ErrorKind> {
    result.map_err(|error| error.kind())
}

#[test]
fn a_receiving_call_writes_what_no_thread_can_be_had_for() {
    let (ours, theirs) = pair(10);
    thread_limit::with(0, || {
        ours.try_send(&"longer than the buffer".into()).unwrap();
        assert!(ours.buffered() > 0);
        // It answers only what it has received.
        let peer = thread::spawn(move || {
            let message = theirs.receive(&Deadline::NEVER).unwrap().unwrap();
            theirs.send_message(&(&message).into()).unwrap();
            theirs
        });
        let answer = ours.receive(&Deadline::after("bound", LONG)).unwrap();
        assert_eq!(answer, Some("longer than the buffer".into()));
        peer.join().unwrap();
    });
}

#[test]
fn who_waits_until_all_is_written_writes_it_where_no_thread_can_be_had() {
    let (ours, theirs) = pair(10);
    thread_limit::with(0, || {
        ours.try_send(&"longer than the buffer".into()).unwrap();
        let peer = thread::spawn(move || theirs.receive(&Deadline::NEVER).unwrap());
        ours.send().flush(&Deadline::after("bound", LONG)).unwrap();
        assert_eq!(ours.buffered(), 0);
        assert_eq!(peer.join().unwrap(), Some("longer than the buffer".into()));
    });
}

/// Nobody writes, and nobody will: then the caller itself gives up the frames.
#[test]
fn a_message_that_is_left_behind_can_be_withdrawn() {
    let (ours, theirs) = pair(10);
    thread_limit::with(0, || ours.try_send(&"longer than the buffer".into()).unwrap());
    let end = lock(&ours.send().queue).end();
    let error = Error::new(ErrorKind::Timeout, "no room");
    let withdrawn = ours.send().withdraw(end, error, || panic!("nobody holds the write half"));
    assert_eq!(kind(withdrawn), Err(ErrorKind::Timeout));
    assert_eq!(kind(ours.send_message(&"again".into())), Err(ErrorKind::Closed));
    drop(ours);
    assert_eq!(kind(theirs.receive(&Deadline::after("bound", LONG))), Err(ErrorKind::Io), "a part of it");
}

/// Our answer to the peer's close does not fit, and the call may not wait.
#[test]
fn without_a_thread_the_answer_to_a_close_is_given_up() {
    let (ours, theirs) = pair(4);
    theirs.begin_close_within(CloseCode::NORMAL, "");
    thread_limit::with(0, || assert_eq!(kind(ours.receive(&Deadline::now("try_recv"))), Ok(None)));
    assert_eq!((ours.close_code(), ours.ready_state()), (Some(CloseCode::NORMAL), ReadyState::Closed));
    assert_eq!(kind(theirs.receive(&Deadline::after("bound", LONG))), Ok(None));
    assert_eq!(theirs.close_code(), Some(CloseCode::ABNORMAL_CLOSURE), "part of the answer came, and then the end");
}

/// A frame whose mask is not random would be worse than none. Masks that were made before serve.
#[test]
fn without_random_bytes_nothing_is_sent() {
    let (ours, theirs) = pair(1 << 20);
    refusal::with(|| {
        let (long, large) = ([7; 2000], [7; 100_000]);
        let large = Outgoing::from(&large).uncompressed();
        for message in ["short".into(), Outgoing::from(&long)] {
            assert_eq!(kind(ours.send_message(&message)), Err(ErrorKind::Io));
            assert_eq!(kind(ours.try_send(&message)), Err(ErrorKind::Io));
            assert_eq!(kind(ours.send_all([message].into_iter())), Err(ErrorKind::Io));
        }
        assert_eq!(kind(ours.ping(b"")), Err(ErrorKind::Io));
        ours.set_ping_interval(Some(Duration::from_secs(60)));
        // It is compressed: the mask is taken before its fragment.
        let mut parts = ours.send_parts(MessageKind::Text).unwrap();
        assert_eq!(kind(parts.send(&[b'x'; 2000], crate::protocol::Fin::Last)), Err(ErrorKind::Io));
        parts.uncompressed();
        assert_eq!(kind(parts.send(&[b'x'; 2000], crate::protocol::Fin::Last)), Err(ErrorKind::Io));
        drop(parts);
        assert_eq!((ours.buffered(), ours.ready_state()), (0, ReadyState::Open), "nothing of it was queued");
        assert_eq!(kind(theirs.receive(&Deadline::now("try_recv"))), Err(ErrorKind::WouldBlock));
        // The header of a direct message would stand in a batch without its payload.
        assert_eq!(kind(ours.send_message(&large)), Err(ErrorKind::Io));
        assert_eq!(ours.ready_state(), ReadyState::Closing);
    });
    assert_eq!(kind(ours.send_message(&"again".into())), Err(ErrorKind::Closed));
}

#[test]
fn without_random_bytes_a_ping_is_answered_by_no_pong_and_a_close_by_no_frame() {
    let (ours, theirs) = pair(1 << 20);
    theirs.ping(b"ping").unwrap();
    refusal::with(|| {
        assert_eq!(kind(ours.receive(&Deadline::now("try_recv"))), Err(ErrorKind::WouldBlock));
        assert_eq!(ours.ready_state(), ReadyState::Closing, "the pong was given up, and so sending");
    });
    let (ours, theirs) = pair(1 << 20);
    theirs.begin_close_within(CloseCode::NORMAL, "");
    refusal::with(|| assert_eq!(kind(ours.receive(&Deadline::after("bound", LONG))), Ok(None)));
    assert_eq!(ours.close_code(), Some(CloseCode::NORMAL));
}

/// Parts may be the same memory, so that their sum is more than can be counted.
#[cfg(target_pointer_width = "32")]
#[test]
fn a_message_that_is_too_long_for_the_machine_is_refused() {
    let (ours, theirs) = pair(1 << 10);
    let block = vec![0; 1 << 26];
    for count in [32, 64, 65] {
        let parts = vec![&block[..]; count];
        let message = Outgoing::binary_parts(&parts);
        assert_eq!(kind(ours.send_message(&message)), Err(ErrorKind::InvalidInput));
        assert_eq!(kind(ours.try_send(&message)), Err(ErrorKind::InvalidInput));
        assert_eq!(kind(ours.send_all([message].into_iter())), Err(ErrorKind::InvalidInput));
    }
    ours.send_message(&"a short one".into()).unwrap();
    assert_eq!(theirs.receive(&Deadline::after("bound", LONG)).unwrap(), Some("a short one".into()));
}

/// `close` keeps what fits, and says how many messages did not.
#[test]
fn messages_that_wait_for_recv_count() {
    let limit = MemoryLimit::new(15_000);
    let (client, server) = counted(&limit);
    for number in 0..6 {
        client.send_message(&number.to_string().repeat(3000).into()).unwrap();
    }
    client.begin_close_within(CloseCode::NORMAL, "");
    let closed = server.close(CloseCode::NORMAL, "").unwrap_err();
    assert!(closed.kind() == ErrorKind::TooBig && closed.to_string().contains("2 messages"), "{closed}");
    assert!((12_000..15_000).contains(&limit.held()), "{}", limit.held());
    for number in 0..4 {
        assert_eq!(server.receive(&Deadline::NEVER).unwrap(), Some(number.to_string().repeat(3000).into()));
    }
    assert_eq!(kind(server.receive(&Deadline::NEVER)), Ok(None));
    assert_eq!((limit.held(), limit.evicted()), (0, 0));
}

#[test]
fn an_idle_line_gives_its_buffers_back() {
    let limit = MemoryLimit::new(1 << 20);
    let (client, server) = counted(&limit);
    for _ in 0..20 {
        client.send_message(&"x".repeat(20_000).into()).unwrap();
    }
    for _ in 0..20 {
        assert_eq!(server.receive(&Deadline::NEVER).unwrap(), Some("x".repeat(20_000).into()));
    }
    let large = limit.held();
    assert!(large > 64 * 1024, "{large}");
    let bound = Deadline::after("bound", Some(Duration::from_millis(300)));
    assert_eq!(kind(server.receive(&bound)), Err(ErrorKind::Timeout));
    assert_eq!(limit.held(), 0);
}
