//! Servers that stop sending, disconnect, or have a wrong certificate, at each stage of connecting.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::*;
use wsync::ErrorKind;

/// The server stops sending, or sends single bytes.
#[test]
fn connect_timeout_holds_at_every_stage() {
    /// Sends single bytes until the connection ends.
    fn send_single_bytes(peer: &mut Peer) {
        while peer.try_write(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    type Script = fn(&mut Peer);
    let http: [(&str, Script); 4] = [
        ("nothing", |_| ()),
        ("half a head", |peer| peer.write(b"HTTP/1.1 101 Switching")),
        ("byte by byte", |peer| (peer.write(b"HTTP/1.1 101 x\r\nX: "), send_single_bytes(peer)).1),
        ("reading nothing more", |_| ()),
    ];
    let tcp: [(&str, Script); 3] = [
        ("no TLS", |_| ()),
        ("half a record", |peer| peer.write(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03")),
        ("a record byte by byte", |peer| {
            (peer.write(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"), send_single_bytes(peer)).1
        }),
    ];
    let bound = Duration::from_millis(900);
    let timed_out = move |name: &str, url: String| {
        let start = Instant::now();
        let error = options().connect_timeout(Some(bound)).connect(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{name}: {error}");
        assert!(
            error.to_string().contains("connect_timeout") && error.to_string().contains("900ms"),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("127.0.0.1"), "{name}: {error}");
        assert!(start.elapsed() >= bound && start.elapsed() < Duration::from_secs(5), "{name}: {:?}", start.elapsed());
    };
    let mut jobs = Vec::new();
    for &layer in LAYERS {
        for (name, script) in http {
            jobs.push(spawn(&format!("{layer:?}: {name}"), move || {
                let server = Server::new(layer, move |mut peer| {
                    peer.read_head();
                    script(&mut peer);
                    peer.rest();
                });
                timed_out(name, server.url.clone());
                server.join();
            }));
        }
    }
    if LAYERS.len() > 1 {
        for (name, script) in tcp {
            jobs.push(spawn(name, move || {
                let server = Server::tcp(move |stream| {
                    let mut peer = Peer::serve(stream, Layer::Plain);
                    script(&mut peer);
                    peer.rest();
                });
                timed_out(name, server.url.replace("ws:", "wss:"));
                server.join();
            }));
        }
    }
    for scheme in ["ws", "wss"] {
        jobs.push(spawn("in the backlog", move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            timed_out("backlog", format!("{scheme}://{}/", listener.local_addr().unwrap()));
        }));
    }
    jobs.into_iter().for_each(wait_for);
}

/// The response is returned with the part of its body that arrived in time.
#[test]
fn connect_timeout_ends_the_wait_for_a_body() {
    bounded(|| {
        let server = Server::new(Layer::Plain, |mut peer| {
            peer.read_head();
            peer.write(b"HTTP/1.1 429 x\r\nContent-Length: 10\r\n\r\nwait");
            peer.rest()
        });
        let error = options().connect_timeout(Some(Duration::from_millis(100))).connect(&server.url).unwrap_err();
        assert_eq!((error.kind(), error.response().unwrap().body()), (ErrorKind::Rejected, &b"wait"[..]));
        server.join();
    });
}

#[test]
fn a_connection_that_ends_during_the_handshake_is_an_error_that_names_the_stage() {
    on_every_layer(|layer| {
        type Script = fn(Peer);
        let ends: [(&str, Script, &str); 4] = [
            ("FIN", |mut peer| (peer.read_head(), peer.cut(), peer.rest(), ()).3, "before"),
            ("proper end", |mut peer| (peer.read_head(), peer.end(), peer.rest(), ()).3, "before"),
            ("half and FIN", |mut peer| half(&mut peer, Peer::cut), "middle"),
            ("half and proper end", |mut peer| half(&mut peer, Peer::end), "middle"),
        ];
        fn half(peer: &mut Peer, end: fn(&mut Peer)) {
            peer.read_head();
            peer.write(b"HTTP/1.1 101 Swit");
            end(peer);
            peer.rest();
        }
        for (name, script, place) in ends {
            check_end(layer, name, script, ErrorKind::Handshake, place);
        }
    });
}

#[test]
fn a_reset_during_the_handshake_is_an_error_that_names_the_stage() {
    on_every_layer(|layer| {
        check_end(layer, "RST", Peer::reset, ErrorKind::Io, "handshake");
        let half = |mut peer: Peer| (peer.write(b"HTTP/1.1 101 Swit"), peer.reset()).1;
        check_end(layer, "half and RST", half, ErrorKind::Io, "handshake");
    });
}

fn check_end(layer: Layer, name: &str, script: fn(Peer), expected: ErrorKind, place: &str) {
    let server = Server::new(layer, script);
    let error = options().connect(&server.url).unwrap_err();
    assert_eq!(error.kind(), expected, "{name}: {error}");
    let shown = error.to_string();
    assert!(shown.contains(place) && shown.contains("127.0.0.1"), "{name}: {error}");
    server.join();
}

#[test]
fn a_connection_that_ends_during_tls_is_an_error() {
    bounded(|| {
        if LAYERS.len() == 1 {
            return;
        }
        type Script = fn(Peer);
        let ends: [(&str, Script); 4] = [
            ("FIN", |peer| drop(peer.end_and_read_all())),
            ("RST", Peer::reset),
            ("half a record", |mut peer| {
                peer.write(b"\x16\x03\x03\x00\x7a\x02");
                drop(peer.end_and_read_all());
            }),
            ("junk", |mut peer| {
                peer.write(&[b'j'; 100]);
                drop(peer.end_and_read_all());
            }),
        ];
        for (name, script) in ends {
            let server = Server::tcp(move |stream| script(Peer::serve(stream, Layer::Plain)));
            let error = options().connect(server.url.replace("ws:", "wss:")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls, "{name}: {error}");
            assert!(error.to_string().contains("TLS handshake with 127.0.0.1"), "{name}: {error}");
            server.join();
        }
    });
}

trait EndAndReadAll {
    fn end_and_read_all(self) -> Self;
}

impl EndAndReadAll for Peer {
    /// Ends this side's output and reads until the end.
    fn end_and_read_all(mut self) -> Peer {
        self.cut();
        self.rest();
        self
    }
}

/// Closing a listener resets the connections in its backlog.
#[test]
fn a_server_that_closes_its_listener_is_an_error() {
    bounded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        drop(listener);
        let error = options().connect_over("ws://h:9001/", stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("h:9001"), "{error}");

        let error = options().connect(format!("ws://{address}/")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    });
}

#[cfg(target_os = "linux")]
mod certificates {
    use super::*;
    use crate::support::tls::*;

    /// A server with an invalid certificate receives no byte of HTTP.
    #[test]
    fn invalid_certificates_are_rejected() {
        on_every_layer(|layer| {
            if layer == Layer::Plain {
                return;
            }
            type Case = (&'static std::sync::LazyLock<Identified>, &'static str);
            let cases: [Case; 3] =
                [(&EXPIRED, "expired"), (&WRONG_HOST, "127.0.0.1"), (&SELF_SIGNED, "ConnectOptions::tls")];
            for (identity, named) in cases {
                let server = Server::tcp(move |stream| {
                    let mut byte = [0];
                    // A TLS 1.3 server completes its handshake before it receives the client's alert.
                    accept_as(identity, stream, layer).is_ok_and(|mut tls| tls.ssl_read(&mut byte).is_ok())
                });
                let error = options().connect(server.url.replace("ws:", "wss:")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
                assert!(error.to_string().contains(named), "{error}");
                assert!(!server.join(), "the server received data");
            }
        });
    }

    #[test]
    fn a_mismatch_of_tls_and_plain_tcp_names_the_other_scheme() {
        bounded(|| {
            let server = Server::tcp(|stream| {
                let mut peer = Peer::serve(stream, Layer::Plain);
                peer.wait_for_bytes();
                peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                peer.end_and_read_all();
            });
            let error = options().connect(server.url.replace("ws:", "wss:")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
            assert!(error.to_string().contains("ws://"), "{error}");
            server.join();

            let server = Server::tcp(|stream| {
                let mut peer = Peer::serve(stream, Layer::Plain);
                peer.read_head();
                peer.write(b"\x15\x03\x03\x00\x02\x02\x0a"); // a fatal alert, "unexpected message"
                peer.end_and_read_all();
            });
            let error = options().connect(&server.url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
            assert!(error.to_string().contains("wss://"), "{error}");
            server.join();
        });
    }
}
