//! Connections whose opening handshake another library has done.

use crate::support::*;
use wsync::{Compression, ErrorKind, ReadyState, Role, WebSocket};

fn upgraded_ends(compression: &Compression) -> (WebSocket, WebSocket) {
    let (client, server) = sockets();
    let client = WebSocket::from_upgraded(client, Role::Client, Some("v1.chat"), compression.clone()).unwrap();
    let server = WebSocket::from_upgraded(server, Role::Server, Some("v1.chat"), compression.clone()).unwrap();
    (client, server)
}

#[test]
fn both_roles_exchange_messages_with_every_compression() {
    bounded(|| {
        let on = Compression::default().threshold(0);
        for (compression, shown) in [
            (Compression::off(), ""),
            (on.clone(), "permessage-deflate"),
            (
                on.clone().client_no_context_takeover(true).server_no_context_takeover(true),
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ),
            (
                on.client_max_window_bits(9).server_max_window_bits(10),
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
            ),
        ] {
            let (client, server) = upgraded_ends(&compression);
            assert_eq!((client.extensions(), server.extensions()), (shown, shown));
            assert_eq!((client.protocol(), server.protocol()), (Some("v1.chat"), Some("v1.chat")));
            assert!(client.url().is_none() && client.response().is_none() && server.request().is_none());
            let words = "the same words again and again ".repeat(200);
            for (from, to) in [(&client, &server), (&server, &client)] {
                for message in ["", "a", &words, &words] {
                    from.send(message).unwrap();
                    assert_eq!(kind(to.recv()), Ok(text(message)), "{shown}");
                }
            }
            let other = server.clone();
            let echo = spawn("server", move || kind(other.recv()));
            client.close(1000, "done").unwrap();
            assert_eq!(wait_for(echo), Ok(None));
            assert_eq!(server.close_reason(), Some("done"));
        }
    });
}

/// The role decides about masking.
#[test]
fn two_ends_with_the_same_role_are_a_protocol_error() {
    bounded(|| {
        for role in [Role::Client, Role::Server] {
            let (a, b) = sockets();
            let a = WebSocket::from_upgraded(a, role, None, Compression::off()).unwrap();
            let b = WebSocket::from_upgraded(b, role, None, Compression::off()).unwrap();
            a.send("x").unwrap();
            assert_eq!(kind(b.recv()), Err(ErrorKind::Protocol));
        }
    });
}

/// Receiving blocks although the stream was non-blocking.
#[test]
fn earlier_settings_of_the_stream_have_no_effect() {
    bounded(|| {
        let (ours, other) = sockets();
        ours.set_nonblocking(true).unwrap();
        let ws = WebSocket::from_upgraded(ours, Role::Client, None, Compression::off()).unwrap();
        let receiver = ws.clone();
        let receiver = spawn("receiver", move || kind(receiver.recv()));
        let mut peer = Peer::serve(other, Layer::Plain);
        wait_for_receiver(&mut peer);
        assert_eq!((receiver.is_running(), ws.ready_state()), (true, ReadyState::Open));
        peer.send(FIN | TEXT, b"x");
        assert_eq!(wait_for(receiver), Ok(text("x")));
    });
}
