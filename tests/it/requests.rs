//! What a server's hook sees of a request, and what it decides: `Request`, `Acceptance`, `Response`.

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::*;
use wsync::{
    AcceptOptions, Acceptance, ConnectOptions, ErrorKind, Proxy, ReadyState, Request, Response, Role, Stream, WebSocket,
};

/// Both ends of a connection in memory, or the errors.
fn both(
    url: &str,
    client: &ConnectOptions,
    server: &AcceptOptions,
) -> (wsync::Result<WebSocket>, wsync::Result<WebSocket>) {
    let (ours, theirs) = Stream::pair();
    let server = server.clone();
    let server = spawn("accept", move || server.accept(theirs));
    let client = client.connect_over(url, ours);
    (client, wait_for(server))
}

#[test]
fn the_hook_sees_the_parts_of_the_request() {
    bounded(|| {
        let seen = Arc::new(Mutex::new(None));
        let see = seen.clone();
        let options = AcceptOptions::new().on_request(move |request: &Request| {
            assert_eq!(request.target(), "/a%20b?room=caf%C3%A9+1&room=2&flag");
            assert_eq!((request.path(), request.query_string()), ("/a%20b", Some("room=caf%C3%A9+1&room=2&flag")));
            assert_eq!(request.query("room").as_deref(), Some("café 1"));
            assert_eq!((request.query("flag").as_deref(), request.query("none")), (Some(""), None));
            let rooms = request.query_pairs().filter(|(name, _)| name == "room");
            assert_eq!(rooms.map(|(_, value)| value.into_owned()).collect::<Vec<_>>(), ["café 1", "2"]);
            assert_eq!((request.header("x-a"), request.header("x-none")), (Some("1"), None));
            assert_eq!(request.header_all("X-A").collect::<Vec<_>>(), ["1", "2"]);
            assert_eq!((request.cookie("b"), request.cookie("B")), (Some("s3cr3t"), None));
            assert_eq!(request.cookies().collect::<Vec<_>>(), [("a", "1"), ("b", "s3cr3t")]);
            assert_eq!(request.protocols().collect::<Vec<_>>(), ["v1", "v2"]);
            let shown = format!("{request:?}");
            assert!(!shown.contains("s3cr3t") && !shown.contains("room"), "{shown}");
            *see.lock().unwrap() = Some(request.clone());
            Ok(Acceptance::new())
        });
        let client = options_with_headers();
        let (client, server) = both("ws://h/a%20b?room=caf%C3%A9+1&room=2&flag", &client, &options);
        let server = (client.unwrap(), server.unwrap()).1;
        let seen = seen.lock().unwrap().take().unwrap();
        assert_eq!(server.request().unwrap().target(), seen.target());
        assert_eq!(seen.peer_addr(), None, "a pair in memory has no addresses");
    });
}

fn options_with_headers() -> ConnectOptions {
    options()
        .headers([("X-A", "1"), ("X-A", "2")])
        .headers(vec![(String::from("Cookie"), String::from("a=1; b=s3cr3t"))])
        .protocols(["v1", "v2"])
}

#[test]
fn the_request_knows_the_peers_address() {
    bounded(|| {
        for layer in server_layers() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("{}://{}", scheme(layer), listener.local_addr().unwrap());
            let server = acceptor(layer, &AcceptOptions::new()).on_request(|request| {
                assert!(request.peer_addr().unwrap().ip().is_loopback());
                Ok(Acceptance::new())
            });
            let server = spawn("accept", move || server.accept(listener.accept().unwrap().0).unwrap());
            let client = options().connect(url).unwrap();
            let server = wait_for(server);
            assert_eq!(server.request().unwrap().peer_addr(), Some(client.local_addr().unwrap()));
        }
    });
}

#[test]
fn the_subprotocol_may_be_chosen_by_hand() {
    bounded(|| {
        let options = AcceptOptions::new().protocols(["v1", "v2"]).on_request(|request| {
            Ok(match request.path() {
                "/second" => Acceptance::new().protocol("v2"),
                "/unknown" => Acceptance::new().protocol("v3"),
                "/ignored" => Acceptance::new().header("Sec-WebSocket-Protocol", "v2"),
                _ => Acceptance::new(),
            })
        });
        let offer = crate::support::options().protocols(["v1", "v2", "v9"]);
        for (path, chosen) in [("first", "v1"), ("second", "v2"), ("ignored", "v1")] {
            let (client, server) = both(&format!("ws://h/{path}"), &offer, &options);
            let (client, server) = (client.unwrap(), server.unwrap());
            assert_eq!((client.protocol(), server.protocol()), (Some(chosen), Some(chosen)), "{path}");
        }
        let (client, server) = both("ws://h/unknown", &offer, &options);
        assert_eq!(client.unwrap_err().status(), Some(500));
        let error = server.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("\"v3\""), "{error}");
    });
}

#[derive(Debug, PartialEq)]
struct User(u64);

#[test]
fn data_of_the_hook_stays_with_the_connection() {
    bounded(|| {
        let dropped = Arc::new(());
        let held = dropped.clone();
        let options = AcceptOptions::new().on_request(move |request| {
            let id = request.query("user").and_then(|user| user.parse().ok());
            let id = id.ok_or(Response::new(401).body("who are you?"))?;
            Ok(Acceptance::new().data(User(0)).data(String::from("lobby")).data(held.clone()).data(User(id)))
        });
        let (client, server) = both("ws://h/?user=7", &crate::support::options(), &options);
        let (client, server) = (client.unwrap(), server.unwrap());
        let other = server.clone();
        assert_eq!(other.data(), Some(&User(7)), "the later value of a type replaces the earlier");
        assert_eq!(other.data::<String>().map(String::as_str), Some("lobby"));
        assert_eq!((server.data::<u64>(), client.data::<User>()), (None, None));
        drop(options);
        assert_eq!(Arc::strong_count(&dropped), 2);
        drop((server, other));
        assert_eq!(Arc::strong_count(&dropped), 1, "the data is dropped with the connection");

        let (client, server) = both("ws://h/", &crate::support::options(), &AcceptOptions::new());
        assert_eq!((client.unwrap().data::<User>(), server.unwrap().data::<User>()), (None, None));
    });
}

#[test]
fn a_refusal_is_sent_and_returned() {
    bounded(|| {
        let options = AcceptOptions::new().on_request(|request| {
            Err(match request.path() {
                "/text" => Response::new(429).header("Retry-After", "60").body("slow down\nand more"),
                "/bytes" => Response::new(403).body(vec![0xff; 10]),
                "/typed" => Response::new(403).header("Content-Type", "application/json").body("{}"),
                "/no-content" => Response::new(204),
                "/redirect" => Response::new(302).header("Location", "ws://other/"),
                _ => Response::new(200).body("fine, but no WebSocket"),
            })
        });
        let client = crate::support::options();
        for (path, status, kind) in [
            ("text", 429, Some("text/plain; charset=utf-8")),
            ("bytes", 403, Some("application/octet-stream")),
            ("typed", 403, Some("application/json")),
            ("no-content", 204, None),
            ("redirect", 302, None),
            ("other", 200, Some("text/plain; charset=utf-8")),
        ] {
            let (rejected, refused) = both(&format!("ws://h/{path}"), &client, &options);
            let (rejected, refused) = (rejected.unwrap_err(), refused.unwrap_err());
            assert_eq!((rejected.kind(), refused.kind()), (ErrorKind::Rejected, ErrorKind::Refused), "{path}");
            let (got, sent) = (rejected.response().unwrap(), refused.response().unwrap());
            assert_eq!(got, sent, "{path}: both sides have the same response");
            assert_eq!((got.status(), got.header("content-type")), (status, kind), "{path}");
            assert_eq!(got.header("Connection"), Some("close"), "{path}");
            assert_eq!(refused.kind().to_string(), "refused by this side");
            let text = refused.to_string();
            assert!(text.contains(&status.to_string()) && !text.contains("and more"), "{text}");
        }
    });
}

/// The client is answered, the connection is closed, and the caller of `accept` gets the panic.
#[test]
fn a_panic_of_the_hook_goes_on_to_the_caller() {
    bounded(|| {
        let options = AcceptOptions::new().on_request(|_| panic!("a bug in the hook"));
        let (ours, theirs) = Stream::pair();
        let server = spawn("accept", move || {
            let panic = catch_unwind(AssertUnwindSafe(|| options.accept(theirs))).unwrap_err();
            panic.downcast_ref::<&str>().map(|text| text.to_string())
        });
        let error = crate::support::options().connect_over("ws://h/", ours).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Rejected, Some(500)), "{error}");
        assert_eq!(wait_for(server).as_deref(), Some("a bug in the hook"));
    });
}

/// No lock is held: the hook may use the library, even these very options.
#[test]
fn the_hook_may_connect_by_itself() {
    bounded(|| {
        let inner = AcceptOptions::new();
        let options = AcceptOptions::new().on_request(move |_| {
            let (client, server) = both("ws://inner/", &crate::support::options(), &inner);
            client.unwrap().send("from the hook").unwrap();
            Ok(Acceptance::new().data(server.unwrap()))
        });
        let (client, server) = both("ws://h/", &crate::support::options(), &options);
        let server = (client.unwrap(), server.unwrap()).1;
        let inner: &WebSocket = server.data().unwrap();
        assert_eq!(kind(inner.recv()), Ok(text("from the hook")));
    });
}

#[test]
fn an_upgraded_stream_has_what_was_agreed() {
    bounded(|| {
        let (ours, theirs) = Stream::pair();
        let server = WebSocket::upgraded(theirs, Role::Server)
            .protocol("v1.chat")
            .already_read(masked(FIN | TEXT, b"read before"))
            .send_timeout(Duration::from_secs(5))
            .close_timeout(Duration::from_secs(5))
            .ping_interval(Duration::from_secs(20))
            .max_message_size(100)
            .open()
            .unwrap();
        assert_eq!((server.protocol(), server.ping_interval()), (Some("v1.chat"), Some(Duration::from_secs(20))));
        assert_eq!(kind(server.recv()), Ok(text("read before")));
        let client = WebSocket::upgraded(ours, Role::Client).ping_interval(Duration::ZERO).open().unwrap();
        assert_eq!((client.protocol(), client.ping_interval()), (None, None));
        client.send("x".repeat(101)).unwrap();
        assert_eq!(kind(server.recv()), Err(ErrorKind::TooBig));
        for (upgraded, named) in [
            (WebSocket::upgraded(Stream::pair().0, Role::Client).send_timeout(Duration::ZERO), "send_timeout"),
            (WebSocket::upgraded(Stream::pair().0, Role::Client).close_timeout(Duration::ZERO), "close_timeout"),
            (WebSocket::upgraded(Stream::pair().0, Role::Client).protocol("a b"), "a b"),
        ] {
            assert!(!format!("{upgraded:?}").is_empty());
            let error = upgraded.open().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(named), "{error}");
        }
    });
}

/// A server that answers the upgrade by itself needs no more than the key.
#[test]
fn accept_key_is_what_clients_expect() {
    bounded(|| {
        let server = Server::new(Layer::Plain, |mut peer| {
            peer.read_head();
            let accept = wsync::accept_key(peer.header("Sec-WebSocket-Key")[0]);
            let lines = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept";
            peer.write(format!("{lines}: {accept}\r\n\r\n").as_bytes());
            peer.send(FIN | TEXT, b"hi");
        });
        let ws = options().connect(&server.url).unwrap();
        assert_eq!(kind(ws.recv()), Ok(text("hi")));
        server.join();
    });
}

#[test]
fn zero_means_no_pings_in_every_place() {
    bounded(|| {
        let (client, server) = both(
            "ws://h/",
            &options().ping_interval(Duration::ZERO),
            &AcceptOptions::new().ping_interval(Duration::from_secs(9)).ping_interval(Duration::ZERO),
        );
        assert_eq!((client.unwrap().ping_interval(), server.unwrap().ping_interval()), (None, None));
    });
}

#[test]
fn set_header_replaces_and_header_adds() {
    bounded(|| {
        let mut client = options().header("X-A", "1").header("x-a", "2").header("X-B", "3");
        client.set_header("X-a", "4").set_header("X-C", String::from("5")).set_header("x-c", "6");
        let (ours, server) = both("ws://h/", &client.user_agent(String::from("me/1.0")), &AcceptOptions::new());
        let server = (ours.unwrap(), server.unwrap()).1;
        let request = server.request().unwrap();
        for (name, values) in [("X-A", &["4"][..]), ("X-B", &["3"]), ("X-C", &["6"]), ("User-Agent", &["me/1.0"])] {
            assert_eq!(request.header_all(name).collect::<Vec<_>>(), values, "{name}");
        }
    });
}

#[test]
fn urls_are_given_as_text() {
    bounded(|| {
        let (client, _server) = both("WS://user:secret@Example.COM/a?b", &options(), &AcceptOptions::new());
        let client = client.unwrap();
        let url = client.url().unwrap();
        let text = "ws://example.com/a?b";
        assert_eq!((url.as_str(), url.to_string().as_str(), url.as_ref()), (text, text, text));
        assert_eq!((url.scheme(), url.host(), url.port()), ("ws", "example.com", 80));
        assert_eq!((url.path(), url.query()), ("/a", Some("b")));
        assert!(client.redirects().is_empty());
        // It is what `connect` takes.
        fn takes(_: impl AsRef<str>) {}
        takes(url);
    });
}

#[test]
fn a_proxy_is_parsed_compared_and_shown_without_its_password() {
    let proxy: Proxy = "http://user:s3cr3t@proxy.example".parse().unwrap();
    assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy.example:80 Proxy(http://proxy.example:80)");
    assert_eq!(proxy, Proxy::new(String::from("http://user:s3cr3t@proxy.example:80/")).unwrap());
    for other in ["http://proxy.example", "http://user:other@proxy.example", "socks5://user:s3cr3t@proxy.example:80"] {
        assert_ne!(proxy, Proxy::new(other).unwrap(), "{other}");
    }
    let error = "https://user:s3cr3t@proxy.example".parse::<Proxy>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!error.to_string().contains("s3cr3t"), "{error}");
}

#[test]
fn debug_of_a_connection_shows_no_query() {
    let (ours, theirs) = Stream::pair();
    let server = std::thread::spawn(move || WebSocket::accept(theirs).unwrap());
    let ws = WebSocket::options().connect_over("ws://localhost/chat?token=s3cr3t", ours).unwrap();
    let shown = format!("{ws:?} {:?}", server.join().unwrap());
    assert!(shown.contains("ws://localhost/chat") && !shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn states_are_shown_in_words() {
    let shown = [ReadyState::Connecting, ReadyState::Open, ReadyState::Closing, ReadyState::Closed];
    assert_eq!(shown.map(|state| state.to_string()), ["connecting", "open", "closing", "closed"]);
    assert_eq!(format!("{:>6}", ReadyState::Open), "  open");
}

#[test]
fn handles_options_and_errors_may_cross_catch_unwind() {
    fn check<T: UnwindSafe + RefUnwindSafe + Send + Sync>() {}
    check::<wsync::AcceptOptions>();
    check::<wsync::Acceptance>();
    check::<wsync::Background>();
    check::<wsync::BackgroundOptions>();
    check::<wsync::CloseCode>();
    check::<wsync::Compression>();
    check::<wsync::ConnectionEnd>();
    check::<wsync::ConnectOptions>();
    check::<wsync::Error>();
    check::<wsync::ErrorKind>();
    check::<wsync::Event>();
    check::<wsync::EventIter<'_>>();
    check::<wsync::Events>();
    check::<wsync::Group>();
    check::<wsync::IntoMessages>();
    check::<wsync::Message>();
    check::<wsync::MessageKind>();
    check::<wsync::Messages<'_>>();
    check::<wsync::Missed>();
    check::<wsync::Outgoing<'_>>();
    check::<wsync::Pollable<'_>>();
    check::<wsync::Prepared>();
    check::<wsync::Proxy>();
    check::<wsync::ReadyState>();
    check::<wsync::ReaderThread>();
    check::<wsync::Reconnect>();
    check::<wsync::Request>();
    check::<wsync::Response>();
    check::<wsync::ResponseBuilder>();
    check::<wsync::Role>();
    check::<wsync::Statistics>();
    check::<wsync::Stream>();
    check::<wsync::TlsClient>();
    check::<wsync::TlsServer>();
    check::<wsync::Traffic>();
    check::<wsync::Upgraded>();
    check::<wsync::Url>();
    check::<wsync::WebSocket>();
    // Not MessageReader and MessageWriter: a panic may leave them in the middle of a message, and they stay on one thread.
}
