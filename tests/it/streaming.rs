//! Messages as streams of bytes in both directions, and receiving into the caller's buffer.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use crate::support::{
    CLOSE, FIN, Frame, Layer, TEXT, both_ends, bounded, close_payload, connected, frame, kind, mixed_text, options,
    spawn, wait_for,
};
use wsync::{AcceptOptions, CloseCode, Compression, ErrorKind, Message, MessageKind, Outgoing, Prepared, WebSocket};

fn client_and_server(compression: Compression, max_message_size: usize) -> (WebSocket, WebSocket) {
    let client = options().compression(compression).max_message_size(max_message_size);
    both_ends(Layer::Plain, &client, &AcceptOptions::new().max_message_size(max_message_size))
}

#[test]
fn a_message_larger_than_max_message_size_can_be_streamed() {
    for compression in [Compression::off(), Compression::default()] {
        let (client, server) = client_and_server(compression, 1000);
        let sent = mixed_text(1_250_000);
        let writer = thread::spawn({
            let sent = sent.clone();
            move || {
                let mut message = client.send_writer(MessageKind::Text).unwrap();
                message.write_all(sent.as_bytes()).unwrap();
                message.finish().unwrap();
                client.send("after").unwrap();
                client
            }
        });
        let mut received = String::new();
        let mut message = server.recv_reader().unwrap().unwrap();
        assert_eq!(message.kind(), MessageKind::Text);
        message.read_to_string(&mut received).unwrap();
        drop(message);
        assert!(received == sent);
        assert_eq!(server.recv().unwrap().unwrap(), Message::from("after"));
        // For whole messages the limit still holds.
        let client = writer.join().unwrap();
        client.send(Outgoing::from(&vec![0; 1001]).uncompressed()).unwrap();
        assert_eq!(server.recv().unwrap_err().kind(), ErrorKind::TooBig);
    }
}

#[test]
fn the_unread_rest_of_a_message_is_discarded() {
    let (client, server) = client_and_server(Compression::default(), 1000);
    let writer = thread::spawn(move || {
        let mut message = client.send_writer(MessageKind::Binary).unwrap();
        io::copy(&mut io::repeat(7).take(1_000_000), &mut message).unwrap();
        message.finish().unwrap();
        client.send("after").unwrap();
        client
    });
    let mut byte = [0];
    server.recv_reader().unwrap().unwrap().read_exact(&mut byte).unwrap();
    assert_eq!(byte, [7]);
    assert_eq!(server.recv().unwrap().unwrap(), Message::from("after"));
    drop(writer.join().unwrap());
}

#[test]
fn messages_of_other_threads_wait_and_pings_do_not() {
    for compression in [Compression::off(), Compression::default()] {
        let (client, server) = client_and_server(compression, 1 << 20);
        let mut message = client.send_writer(MessageKind::Text).unwrap();
        message.write_all(b"begin ").unwrap();
        message.flush().unwrap();
        let other = thread::spawn({
            let client = client.clone();
            let long = "other ".repeat(100);
            move || client.send(&long).unwrap()
        });
        client.ping(b"between").unwrap();
        message.write_all(b"end").unwrap();
        message.finish().unwrap();
        assert_eq!(server.recv().unwrap().unwrap(), Message::from("begin end"));
        assert!(server.recv().unwrap().unwrap().as_text().unwrap().starts_with("other"));
        other.join().unwrap();
    }
}

/// `try_send` fails immediately, other sends fail after `send_timeout`.
#[test]
fn while_a_message_is_sent_in_parts_other_sends_time_out() {
    for compression in [Compression::off(), Compression::default()] {
        let bound = Duration::from_millis(50);
        let options = options().compression(compression).send_timeout(Some(bound));
        let (client, server) = both_ends(Layer::Plain, &options, &AcceptOptions::new());

        let mut message = client.send_writer(MessageKind::Text).unwrap();
        message.write_all(b"begin ").unwrap();
        message.flush().unwrap();
        let large = vec![7; 200_000];
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(client.send("short").unwrap_err().kind(), ErrorKind::Timeout));
            scope.spawn(|| assert_eq!(client.send(mixed_text(2500)).unwrap_err().kind(), ErrorKind::Timeout));
            scope.spawn(|| {
                assert_eq!(client.send(Outgoing::from(&large).uncompressed()).unwrap_err().kind(), ErrorKind::Timeout)
            });
            scope.spawn(|| assert_eq!(client.send_writer(MessageKind::Text).unwrap_err().kind(), ErrorKind::Timeout));
        });
        let long = mixed_text(2500);
        for refused in ["short", &long] {
            assert_eq!(client.try_send(refused).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(client.try_send(&Prepared::new(refused)).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        message.write_all(b"end").unwrap();
        message.finish().unwrap();
        client.try_send("tried").unwrap();
        client.send("after").unwrap();
        for expected in ["begin end", "tried", "after"] {
            assert_eq!(server.recv().unwrap().unwrap(), Message::from(expected));
        }
    }
}

/// The earlier messages of the batch are written before the message in parts, the later ones after it.
#[test]
fn a_message_in_parts_may_start_inside_a_batch() {
    let (client, server) = client_and_server(Compression::off(), 1000);
    let parts = client.clone();
    let batch = (0..2).map(|number| {
        if number == 1 {
            let writer = parts.send_writer(MessageKind::Text).unwrap();
            assert_eq!(server.recv_timeout(Duration::from_secs(10)).unwrap(), Some(Message::from("batch")));
            writer.finish().unwrap();
        }
        "batch"
    });
    client.send_all(batch).unwrap();
    assert_eq!(server.recv().unwrap(), Some(Message::from("")));
    assert_eq!(server.recv().unwrap(), Some(Message::from("batch")));
}

#[test]
fn a_close_does_not_wait_for_the_end_of_a_message_in_parts() {
    let (client, server) = client_and_server(Compression::default(), 1 << 20);
    let mut message = client.send_writer(MessageKind::Binary).unwrap();
    message.write_all(&[1; 100]).unwrap();
    message.flush().unwrap();
    let reading = thread::spawn(move || (server.recv().unwrap(), server.close_code()));
    client.close(CloseCode::GOING_AWAY, "").unwrap();
    assert_eq!(reading.join().unwrap(), (None, Some(CloseCode::GOING_AWAY)));
    message.write_all(&[2; 100]).unwrap();
    assert_eq!(message.finish().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_close_inside_a_message_ends_its_reader() {
    let (client, server) = client_and_server(Compression::off(), 1000);
    let mut writer = client.send_writer(MessageKind::Text).unwrap();
    writer.write_all(b"begun").unwrap();
    writer.flush().unwrap();
    let closing = client.clone();
    let closing = spawn("close", move || closing.close(1000, "").unwrap());
    let mut reader = server.recv_reader().unwrap().unwrap();
    let mut bytes = Vec::new();
    let error = reader.read_to_end(&mut bytes).unwrap_err();
    assert!(error.to_string().contains("closed the connection inside a message"), "{error}");
    assert_eq!(bytes, b"begun");
    drop(reader);
    assert_eq!(kind(server.recv()), Ok(None));
    wait_for(closing);
}

/// Both have come before anybody receives. Nothing of the message is lost.
#[test]
fn what_came_before_a_close_inside_a_message_is_read_first() {
    bounded(|| {
        for drops_reader in [false, true] {
            let (ws, mut peer) = connected(Layer::Plain, &options());
            let bytes = [frame(TEXT, b"begun"), frame(FIN | CLOSE, &close_payload(1000, ""))].concat();
            peer.write(&bytes);
            let mut reader = ws.recv_reader().unwrap().unwrap();
            if !drops_reader {
                let mut bytes = Vec::new();
                let error = reader.read_to_end(&mut bytes).unwrap_err();
                assert!(error.to_string().contains("closed the connection inside a message"), "{error}");
                assert_eq!(bytes, b"begun");
            }
            drop(reader);
            assert_eq!(kind(ws.recv()), Ok(None));
            assert_eq!(ws.close_code(), Some(CloseCode::NORMAL));
            assert_eq!(peer.frame(), Frame::close(1000));
        }
    });
}

#[test]
fn the_message_after_a_discarded_one_can_be_read_in_parts() {
    let (client, server) = client_and_server(Compression::off(), 1000);
    let writer = thread::spawn(move || {
        for _ in 0..2 {
            client.send(vec![7; 1_000_000]).unwrap();
        }
        client
    });
    drop(server.recv_reader().unwrap().unwrap());
    let mut bytes = Vec::new();
    server.recv_reader().unwrap().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 1_000_000);
    drop(writer.join().unwrap());
}

#[test]
fn dropping_an_unfinished_message_closes_with_1011_unless_nothing_was_sent() {
    let (client, server) = client_and_server(Compression::off(), 1 << 20);
    drop(client.send_writer(MessageKind::Text).unwrap());
    client.send("still open").unwrap();
    assert_eq!(server.recv().unwrap().unwrap(), Message::from("still open"));
    let mut message = client.send_writer(MessageKind::Text).unwrap();
    message.write_all(b"half").unwrap();
    message.flush().unwrap();
    drop(message);
    assert_eq!(client.send("x").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(server.recv().unwrap(), None);
    assert_eq!(server.close_code(), Some(CloseCode::INTERNAL_ERROR));
}

#[test]
fn text_that_is_not_utf8_is_an_error_before_it_is_sent() {
    let (client, server) = client_and_server(Compression::off(), 1 << 20);
    let mut message = client.send_writer(MessageKind::Text).unwrap();
    message.write_all(b"cut: \xE2\x82").unwrap();
    let error = message.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    client.send("still open").unwrap();
    assert_eq!(server.recv().unwrap().unwrap(), Message::from("still open"));
}

#[test]
fn receiving_into_a_buffer_keeps_its_allocation() {
    let (client, server) = client_and_server(Compression::off(), 1 << 20);
    for size in [300, 0, 200] {
        client.send(vec![1; size]).unwrap();
        client.send(mixed_text(size / 4)).unwrap();
    }
    client.ping(b"").unwrap();
    client.send(b"last").unwrap();
    let mut buffer = Vec::with_capacity(4096);
    let allocation = buffer.as_ptr();
    for size in [300, 0, 200] {
        assert_eq!(server.recv_into(&mut buffer).unwrap(), Some(MessageKind::Binary));
        assert_eq!(buffer, vec![1; size]);
        assert_eq!(server.recv_into(&mut buffer).unwrap(), Some(MessageKind::Text));
        assert_eq!(buffer, mixed_text(size / 4).as_bytes());
        assert_eq!(buffer.as_ptr(), allocation);
    }
    assert_eq!(server.recv_into(&mut buffer).unwrap(), Some(MessageKind::Binary));
    assert_eq!(buffer, b"last");
    assert_eq!(buffer.as_ptr(), allocation);
}

#[test]
fn uncompressed_has_no_effect_once_a_part_was_sent() {
    bounded(|| {
        let compression = Compression::default().threshold(1);
        let (client, server) = client_and_server(compression, 1 << 20);
        let mut message = client.send_writer(MessageKind::Text).unwrap();
        message.write_all(&[b'a'; 10_000]).unwrap();
        message.flush().unwrap();
        let mut message = message.uncompressed();
        message.write_all(&[b'a'; 10_000]).unwrap();
        message.finish().unwrap();
        assert_eq!(server.recv().unwrap(), Some("a".repeat(20_000).into()));
        assert!(client.statistics().sent.wire_bytes < 1000, "{:?}", client.statistics());
    });
}
