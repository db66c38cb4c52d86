//! Groups: one message to many connections, and closing many connections at once.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Layer, both_ends, options, sockets};
use wsync::{AcceptOptions, CloseCode, Compression, ErrorKind, Group, Message, Outgoing, Prepared, Role, WebSocket};

fn client_and_server(compression: Compression) -> (WebSocket, WebSocket) {
    both_ends(Layer::Plain, &options().compression(compression), &AcceptOptions::new())
}

#[test]
fn a_prepared_message_arrives_between_others_with_every_compression() {
    let kinds = [
        Compression::off(),
        Compression::default(),
        Compression::default().server_max_window_bits(9),
        Compression::default().server_no_context_takeover(true),
    ];
    let pairs: Vec<_> = kinds.into_iter().map(client_and_server).collect();
    let lines = |from: u32| (from..from + 40).map(|line| format!("{{\"line\": {line}}}")).collect::<String>();
    for round in 0..5 {
        let shared = Prepared::new(lines(round * 3));
        for (_, server) in &pairs {
            server.send(lines(round)).unwrap();
            server.send(&shared).unwrap();
            server.try_send(&shared).unwrap();
            server.send(lines(round * 3)).unwrap();
        }
        for (client, _) in &pairs {
            assert_eq!(client.recv().unwrap().unwrap(), Message::from(lines(round)));
            for _ in 0..3 {
                assert_eq!(client.recv().unwrap().unwrap(), Message::from(lines(round * 3)));
            }
        }
    }
}

#[test]
fn a_slow_receiver_misses_messages_and_does_not_delay_others() {
    let (slow, slow_server) = client_and_server(Compression::off());
    let (quick, quick_server) = client_and_server(Compression::off());
    let group = Group::new();
    group.add(&slow_server);
    group.add(&quick_server);
    let message = Prepared::new(vec![7; 100_000]);
    let mut sent = 0;
    // The slow client reads nothing, the quick client reads each message before the next.
    let missed = loop {
        let missed = group.send(&message);
        sent += 1;
        assert_eq!(quick.recv().unwrap().unwrap().len(), 100_000);
        if !missed.is_empty() {
            break missed;
        }
    };
    assert_eq!(missed.len(), 1);
    assert_eq!(missed[0].connection().peer_addr().unwrap(), slow.local_addr().unwrap());
    // The messages that were queued for the slow client arrive when it reads.
    for _ in 1..sent {
        if let Err(error) = slow_server.try_recv() {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
        assert_eq!(slow.recv_timeout(Duration::from_secs(10)).unwrap().unwrap().len(), 100_000);
    }
    slow_server.try_send("space again").unwrap();
    assert_eq!(slow.recv().unwrap().unwrap(), Message::from("space again"));
}

#[test]
fn a_group_closes_members_that_answer_and_aborts_the_others_after_the_timeout() {
    let group = Group::new();
    let (polite, polite_server) = client_and_server(Compression::off());
    let (silent, silent_server) = client_and_server(Compression::off());
    let (gone, gone_server) = client_and_server(Compression::off());
    for server in [&polite_server, &silent_server, &gone_server] {
        group.add(server);
    }
    drop((gone, gone_server));
    assert_eq!(group.members().len(), 2);
    assert_eq!(format!("{group:?}"), "Group { len: 2, .. }");
    let (started, is_started) = mpsc::channel();
    let reading = thread::spawn(move || {
        started.send(()).unwrap();
        let end = polite.recv();
        (end, polite.close_code())
    });
    is_started.recv().unwrap();
    assert_eq!(group.close(CloseCode::GOING_AWAY, "restart", Duration::from_millis(200)).unwrap(), 1);
    let (end, code) = reading.join().unwrap();
    assert_eq!((end.unwrap(), code), (None, Some(CloseCode::GOING_AWAY)));
    assert_eq!(polite_server.recv().unwrap(), None);
    assert_eq!(silent_server.recv().unwrap_err().kind(), ErrorKind::Io);
    drop(silent);
    // A connection that is added later is closed with the same code.
    let (late, late_server) = client_and_server(Compression::off());
    group.add(&late_server);
    assert_eq!(late.recv().unwrap(), None);
    assert_eq!(late.close_code(), Some(CloseCode::GOING_AWAY));
    assert_eq!(group.close(1006, "", Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Members that do not answer do not delay the close of the others, whatever the server's threads are doing.
#[test]
fn close_reaches_all_members_within_its_timeout() {
    let group = Group::new();
    let serve = |run: fn(WebSocket)| {
        let (client, server) = client_and_server(Compression::default());
        group.add(&server);
        (client, thread::spawn(move || run(server)))
    };
    // These clients read nothing. One server thread is blocked in a send, the other in a receive.
    let silent = [
        serve(|ws| while ws.send(Outgoing::from(&[0; 100_000]).uncompressed()).is_ok() {}),
        serve(|ws| assert!(ws.recv().is_err())),
    ];
    // Of the other servers, half have a thread that receives.
    let (stop, stopped) = mpsc::channel::<()>();
    let mut idle = Vec::new();
    let polite: Vec<_> = (0..40)
        .map(|number| {
            let (client, server) = client_and_server(Compression::default());
            group.add(&server);
            if number % 2 == 0 {
                thread::spawn(move || server.recv());
            } else {
                idle.push(server);
            }
            thread::spawn(move || {
                (client.recv().unwrap(), client.close_code(), client.close_reason().map(str::to_string))
            })
        })
        .collect();
    let idle = thread::spawn(move || drop((stopped.recv(), idle)));

    let start = Instant::now();
    assert_eq!(group.close(CloseCode::GOING_AWAY, "stop", Duration::from_secs(1)).unwrap(), 2);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for client in polite {
        assert_eq!(client.join().unwrap(), (None, Some(CloseCode::GOING_AWAY), Some("stop".into())));
    }
    for (client, server) in silent {
        server.join().unwrap();
        drop(client);
    }
    drop(stop);
    idle.join().unwrap();
    assert_eq!(group.members().len(), 0);
}

#[test]
fn bytes_read_after_another_librarys_handshake_are_received_first() {
    let (client, stream) = sockets();
    let upgraded = WebSocket::upgraded(stream, Role::Client).protocol("v1").already_read(b"\x81\x02hi\x81");
    let server = upgraded.open().unwrap();
    assert_eq!(server.protocol(), Some("v1"));
    assert_eq!(server.recv().unwrap().unwrap(), Message::from("hi"));
    std::io::Write::write_all(&mut &client, b"\x01!").unwrap();
    assert_eq!(server.recv().unwrap().unwrap(), Message::from("!"));
}
