//! What the interface promises beyond sending and receiving: forms of a message, statistics, iterators, groups.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use wsync::{
    AcceptOptions, Acceptance, Background, Compression, Error, ErrorKind, Event, Group, Message, MessageKind, Outgoing,
    Prepared, ReadyState, Reconnect, Role, Server, Stream, WebSocket,
};

fn ends(compression: Compression) -> (WebSocket, WebSocket) {
    both_ends(Layer::Plain, &options().compression(compression), &AcceptOptions::new())
}

#[test]
fn parts_become_one_message_of_any_size() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        // Through the queue, and past it.
        for length in [0, 1, 3, 1000, 70_000, 3 << 20] {
            let (a, b) = (pattern(length, 1), pattern(length / 2 + 1, 2));
            let frame = std::thread::scope(|scope| {
                let frame = scope.spawn(|| peer.frame());
                ws.send(Outgoing::binary_parts(&[b"h", &a, b"", &b])).unwrap();
                frame.join().unwrap()
            });
            assert!(frame == Frame::new(FIN | BINARY, &[b"h", &a[..], &b].concat()), "{length}");
        }
        let many: Vec<Vec<u8>> = (0..5000).map(|number| pattern(number % 50, number as u32)).collect();
        let parts: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        ws.send(Outgoing::binary_parts(&parts)).unwrap();
        assert!(peer.frame() == Frame::new(FIN | BINARY, &many.concat()));
        ws.send(Outgoing::text_parts(&["κό", "σμε"])).unwrap();
        assert_eq!(peer.frame(), Frame::new(FIN | TEXT, "κόσμε".as_bytes()));
    });
}

#[test]
fn parts_are_compressed_together_and_uncompressed_where_asked() {
    let (client, server) = ends(Compression::default());
    let text = "a word and ".repeat(100);
    for uncompressed in [false, true] {
        let before = client.statistics().sent;
        let parts = [text.as_str(), &text];
        let outgoing = Outgoing::text_parts(&parts);
        client.send(if uncompressed { outgoing.uncompressed() } else { outgoing }).unwrap();
        assert_eq!(server.recv().unwrap(), Some(Message::from(text.repeat(2))));
        let after = client.statistics().sent;
        assert_eq!(after.messages - before.messages, 1);
        assert_eq!(after.payload_bytes - before.payload_bytes, 2 * text.len() as u64);
        let wire = after.wire_bytes - before.wire_bytes;
        assert_eq!(wire > text.len() as u64, uncompressed, "{wire}");
    }
    let mut writer = client.send_writer(MessageKind::Text).unwrap().uncompressed();
    std::io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
    let before = client.statistics().sent.wire_bytes;
    writer.finish().unwrap();
    assert!(client.statistics().sent.wire_bytes - before > text.len() as u64);
    assert_eq!(server.recv().unwrap(), Some(Message::from(&text)));
    // The compressor is back.
    client.send(&text).unwrap();
    assert_eq!(server.recv().unwrap(), Some(Message::from(&text)));
}

/// Both sides count the same, whatever way a message takes.
#[test]
fn statistics_of_both_sides_agree() {
    for compression in [Compression::off(), Compression::default()] {
        let (client, server) = ends(compression);
        let large = pattern(2 << 20, 1);
        let receiver = spawn("receiver", move || {
            let mut buffer = Vec::new();
            server.recv_into(&mut buffer).unwrap();
            server.recv().unwrap();
            let mut reader = server.recv_reader().unwrap().unwrap();
            std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
            drop(reader);
            server.recv().unwrap();
            server
        });
        client.send("short").unwrap();
        client.send("compressible ".repeat(50)).unwrap();
        let mut writer = client.send_writer(MessageKind::Binary).unwrap();
        std::io::Write::write_all(&mut writer, &large).unwrap();
        writer.finish().unwrap();
        client.send(&large).unwrap();
        let server = wait_for(receiver);
        let (sent, received) = (client.statistics().sent, server.statistics().received);
        assert_eq!(sent, received);
        assert_eq!((sent.messages, sent.payload_bytes), (4, 5 + 13 * 50 + 2 * large.len() as u64));
        assert!(sent.wire_bytes > 0);
        assert_eq!(client.buffered_amount(), 0);
    }
}

#[test]
fn what_the_peer_does_not_take_is_buffered_up_to_the_limit() {
    let (ws, mut peer) = connected(Layer::Plain, &options().compression(Compression::off()).send_queue_limit(1000));
    // One message larger than the limit is taken, and fills the socket's buffers.
    ws.try_send(vec![0; 32 << 20]).unwrap();
    assert!(ws.buffered_amount() > 1000);
    assert_eq!(kind(ws.try_send("more")), Err(ErrorKind::WouldBlock));
    assert_eq!(peer.frame().payload.len(), 32 << 20);
    // Whatever is left goes out by itself.
    while ws.buffered_amount() > 0 {
        std::thread::yield_now();
    }
    ws.try_send("more").unwrap();
    assert_eq!(peer.frame(), Frame::new(FIN | TEXT, b"more"));
}

/// The bound of the queue and that of the wait for a pong, of an accepted and of an upgraded connection.
#[test]
fn every_way_to_a_connection_has_the_same_bounds() {
    bounded(|| {
        let accept = AcceptOptions::new().compression(Compression::off()).send_queue_limit(1000);
        let (accepted, _peer) = accepted(Layer::Plain, &accept);
        let (stream, _other_end) = sockets();
        let upgraded = WebSocket::upgraded(stream, Role::Server).send_queue_limit(1000);
        let upgraded = upgraded.ping_interval(Duration::from_millis(100)).pong_timeout(Duration::from_millis(200));
        let upgraded = upgraded.open().unwrap();
        let error = upgraded.recv().unwrap_err();
        assert!(error.to_string().contains("200ms (pong_timeout)"), "{error}");
        let (stream, _other_end) = sockets();
        let upgraded = WebSocket::upgraded(stream, Role::Server).send_queue_limit(1000).open().unwrap();
        for ws in [accepted, upgraded] {
            ws.try_send(vec![0; 32 << 20]).unwrap();
            assert!(ws.buffered_amount() > 1000);
            assert_eq!(kind(ws.try_send("more")), Err(ErrorKind::WouldBlock));
            ws.abort();
        }
    });
}

#[test]
fn debug_output_shows_the_state_and_no_payload() {
    let (ws, mut peer) = connected(Layer::Plain, &options());
    let mut writer = ws.send_writer(MessageKind::Text).unwrap();
    std::io::Write::write_all(&mut writer, b"secret").unwrap();
    assert_eq!(format!("{writer:?}"), "MessageWriter { kind: Text, .. }");
    writer.finish().unwrap();
    peer.send(FIN | BINARY, b"secret");
    let mut reader = ws.recv_reader().unwrap().unwrap();
    assert_eq!(format!("{reader:?}"), "MessageReader { kind: Binary, .. }");
    assert_eq!(std::io::Read::read(&mut reader, &mut []).unwrap(), 0, "no room, no bytes");
    drop(reader);
    let prepared = Prepared::new("secret");
    assert_eq!(format!("{prepared:?}"), "Prepared { len: 6, compressed: 0 }");
    let acceptance = Acceptance::new().header("Set-Cookie", "secret").protocol("chat");
    assert_eq!(format!("{acceptance:?}"), r#"Acceptance { headers: ["Set-Cookie"], protocol: Some("chat"), .. }"#);
    let reconnect = format!("{:?}", Reconnect::new().max_attempts(Some(7)));
    assert!(
        reconnect.starts_with("Reconnect { first_delay: ") && reconnect.contains("max_attempts: Some(7)"),
        "{reconnect}"
    );
    let reader = ws.spawn_reader(|_| std::ops::ControlFlow::Break(())).unwrap();
    peer.send(FIN | BINARY, b"secret");
    while !reader.is_finished() {
        std::thread::yield_now();
    }
    let shown = format!("{reader:?}");
    assert!(shown.contains("is_finished: true") && !shown.contains("secret"), "{shown}");
    reader.join().unwrap();
}

#[test]
fn debug_output_of_what_runs_beside_the_program_shows_its_state_and_no_secret() {
    let options = Background::options()
        .connect_options(options().header("Authorization", "secret"))
        .before_connect(|attempt| {
            assert!(!format!("{:?} {attempt:?}", attempt.options()).contains("secret"));
            Err(Error::other("not today"))
        })
        .reconnect(Reconnect::new().max_attempts(0))
        .send_capacity(1);
    assert!(format!("{options:?}").contains("when_full: Refuse"));
    let chat = options.connect("ws://127.0.0.1:1/", || {}).unwrap();
    while chat.ready_state() != ReadyState::Closed {
        std::thread::yield_now();
    }
    assert!(format!("{chat:?}").contains("Closed"));
    let error = chat.send("secret").unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
    assert_eq!(error.message(), &Message::from("secret"));

    let server = Server::bind("127.0.0.1:0").unwrap();
    assert!(format!("{server:?}").contains("connections: 10000"), "{server:?}");
    let handle = server.handle();
    assert_eq!(format!("{handle:?}"), "ServerHandle { connections: 0, .. }");
    handle.shutdown(Duration::ZERO);
    assert!(format!("{server:?}").contains("stopped"), "{server:?}");
}

#[test]
fn the_socket_to_watch_is_the_connections() {
    #[cfg(unix)]
    use std::os::fd::{AsFd as AsSocket, AsRawFd as AsRawSocket};
    #[cfg(windows)]
    use std::os::windows::io::{AsRawSocket, AsSocket};
    #[cfg(unix)]
    fn numbers(socket: &(impl AsSocket + AsRawSocket)) -> [std::os::fd::RawFd; 2] {
        [socket.as_fd().as_raw_fd(), socket.as_raw_fd()]
    }
    #[cfg(windows)]
    fn numbers(socket: &(impl AsSocket + AsRawSocket)) -> [std::os::windows::io::RawSocket; 2] {
        [socket.as_socket().as_raw_socket(), socket.as_raw_socket()]
    }
    let (stream, _other_end) = sockets();
    let expected = numbers(&stream);
    let stream = Stream::from(stream);
    assert!(format!("{stream:?}").starts_with("Tcp(TcpStream"), "{stream:?}");
    let ws = WebSocket::upgraded(stream, Role::Client).open().unwrap();
    assert_eq!(numbers(&ws.pollable().unwrap()), expected);
}

#[test]
fn owned_text_and_bytes_may_be_a_cow() {
    let (client, server) = ends(Compression::off());
    let (text, bytes): (Cow<str>, Cow<[u8]>) = (Cow::Owned("text".to_string()), Cow::Owned(vec![1]));
    client.send(text).unwrap();
    client.send(bytes).unwrap();
    assert_eq!(server.recv().unwrap(), Some(Message::from("text")));
    assert_eq!(server.recv().unwrap(), Some(Message::from(vec![1])));
}

#[test]
fn every_form_of_receiving_can_be_bounded_and_polled() {
    on_every_pair(|side, layer| {
        let (ws, mut peer) = pair(side, layer);
        let short = Duration::from_millis(5);
        let mut buffer = b"old".to_vec();
        assert_eq!(kind(ws.recv_timeout(Duration::ZERO)), Err(ErrorKind::Timeout));
        assert_eq!(kind(ws.recv_into_timeout(&mut buffer, short)), Err(ErrorKind::Timeout));
        assert_eq!(kind(ws.try_recv_into(&mut buffer)), Err(ErrorKind::WouldBlock));
        assert_eq!(ws.recv_reader_timeout(short).unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(ws.try_recv_reader().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(ws.ready_state(), ReadyState::Open);
        // Half a message, by every form, and then the rest.
        peer.send(TEXT, b"ha");
        assert_eq!(kind(ws.recv_into_timeout(&mut buffer, short)), Err(ErrorKind::Timeout));
        assert_eq!(kind(ws.try_recv()), Err(ErrorKind::WouldBlock));
        peer.send(FIN, b"lf");
        assert_eq!(kind(ws.recv_timeout(Duration::from_secs(30))), Ok(text("half")));
        peer.send(FIN | BINARY, b"parts");
        let mut reader = ws.recv_reader_timeout(Duration::from_secs(30)).unwrap().unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        assert_eq!(bytes, b"parts");
    });
}

/// A reader that timed out has seen a header for which there is no limit; the call after it has one.
#[test]
fn a_message_that_began_for_a_reader_is_limited_for_recv() {
    let (ws, mut peer) = connected(Layer::Plain, &options().max_message_size(1000));
    let frame = frame(FIN | BINARY, &[7; 5000]);
    peer.write(&frame[..4]);
    assert_eq!(ws.recv_reader_timeout(Duration::from_millis(20)).unwrap_err().kind(), ErrorKind::Timeout);
    peer.write(&frame[4..]);
    assert_eq!(kind(ws.recv()), Err(ErrorKind::TooBig));
}

#[test]
fn messages_and_events_are_iterators() {
    let (client, server) = ends(Compression::off());
    for word in ["one", "two", "three"] {
        server.send(word).unwrap();
    }
    let closer = spawn("closer", move || server.close(1000, "done").unwrap());
    assert_eq!(client.messages().next().unwrap().unwrap(), Message::from("one"));
    assert_eq!((&client).into_iter().next().unwrap().unwrap(), Message::from("two"));
    let owned = client.clone().into_iter();
    let rest = spawn("reader", move || owned.map(Result::unwrap).collect::<Vec<_>>());
    assert_eq!(wait_for(rest), [Message::from("three")]);
    assert_eq!(client.messages().count(), 0);
    wait_for(closer);

    let (client, server) = ends(Compression::off());
    server.send("one").unwrap();
    let closer = spawn("closer", move || server.close(1000, "done").unwrap());
    let events = client.events(10, || {}).unwrap();
    let mut seen = Vec::new();
    for event in &events {
        seen.push(matches!(event, Event::End(_)));
    }
    assert_eq!(seen, [false, true]);
    wait_for(closer);
}

#[test]
fn a_group_sends_to_all_but_one_and_says_who_missed_what() {
    let group = Group::new();
    let members: Vec<_> = (0..3).map(|_| ends(Compression::default())).collect();
    for (_, server) in &members {
        group.add(server);
        group.add(server);
    }
    assert_eq!((group.len(), group.is_empty()), (3, false));
    let [(a, in_a), (b, in_b), (c, in_c)] = &members[..] else { panic!() };
    assert!(group.send_except(in_a, &Prepared::new("hello ".repeat(100))).is_empty());
    for member in [b, c] {
        assert_eq!(member.recv().unwrap(), Some(Message::from("hello ".repeat(100))));
    }
    assert_eq!(kind(a.try_recv()), Err(ErrorKind::WouldBlock), "neither that nor twice");
    group.remove(in_b);
    in_c.abort();
    let missed = group.send(Outgoing::text("bye"));
    assert_eq!(missed.len(), 1);
    assert_eq!(missed[0].error().kind(), ErrorKind::Closed);
    assert_eq!(missed[0].connection().ready_state(), ReadyState::Closed);
    assert_eq!(a.recv().unwrap(), Some(Message::from("bye")));
    assert_eq!(kind(b.try_recv()), Err(ErrorKind::WouldBlock));
}

#[test]
fn what_is_shared_can_be_sent() {
    let (client, server) = ends(Compression::off());
    let shared: Arc<str> = Arc::from("shared");
    client.send(Arc::clone(&shared)).unwrap();
    client.send(&shared).unwrap();
    client.send_all(vec![Message::from("owned"), Message::from(b"bytes")]).unwrap();
    let received: Vec<Message> = (0..4).map(|_| server.recv().unwrap().unwrap()).collect();
    let expected = ["shared", "shared", "owned"].map(Message::from).into_iter().chain([Message::from(b"bytes")]);
    assert_eq!(received, expected.collect::<Vec<_>>());
}

/// A receive that finds nothing says so often: it allocates no error.
#[test]
fn errors_are_small_and_say_what_they_are() {
    assert!(size_of::<wsync::Error>() <= 32);
    let (client, server) = ends(Compression::off());
    let error = client.recv_timeout(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.to_string(), "no message came within 1ms (recv_timeout)");
    assert_eq!((error.is_timeout(), error.status(), error.kind().to_string()), (true, None, "timeout".to_string()));
    assert_eq!(client.try_recv().unwrap_err().to_string(), "no message is there (try_recv)");
    drop(server);
}
