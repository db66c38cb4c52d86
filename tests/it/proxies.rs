//! Scripted HTTP and SOCKS5 proxies in front of this crate's server: what the proxy receives, what the server receives,
//! and that no secret is logged.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;

use crate::support::log::Capture;
use crate::support::tls::{GOOD, Identified, WRONG_HOST};
use crate::support::*;
use wsync::native_tls::{Identity, TlsAcceptor};
use wsync::{AcceptOptions, ErrorKind, Proxy};

type Headers = Vec<(String, String)>;

/// This crate's echo server for one connection, and its port. Its job returns the request's headers.
fn server(identity: Option<&LazyLock<Identified>>) -> (u16, Job<wsync::Result<Headers>>) {
    let mut options = AcceptOptions::new();
    if let Some(identity) = identity {
        let certificate = identity.certificate.to_pem().unwrap();
        let key = identity.key.private_key_to_pem_pkcs8().unwrap();
        options = options.tls(TlsAcceptor::new(Identity::from_pkcs8(&certificate, &key).unwrap()).unwrap());
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let job = spawn("server", move || {
        let ws = options.accept(listener.accept().unwrap().0)?;
        while let Some(message) = ws.recv()? {
            ws.send(&message)?;
        }
        let headers = ws.request().unwrap().headers();
        Ok(headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect())
    });
    (port, job)
}

/// What a proxy was asked for: the target and the user.
type ProxyRequest = (String, String);

/// A proxy for one connection. It connects to this port of loopback, whatever name it is asked for.
fn proxy(script: fn(&mut TcpStream) -> ProxyRequest, answer: &'static [u8], port: u16) -> (u16, Job<ProxyRequest>) {
    let server = Server::tcp(move |mut client| {
        let request = script(&mut client);
        let target = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(answer).unwrap();
        let back = thread::spawn({
            let (client, target) = (client.try_clone().unwrap(), target.try_clone().unwrap());
            move || relay(target, client)
        });
        relay(client, target);
        back.join().unwrap();
        request
    });
    (server.port, spawn("proxy", || server.join()))
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to); // a reset counts as an end
    let _ = to.shutdown(Shutdown::Write);
}

const CONNECTED: &[u8] = b"HTTP/1.0 200 Connection established\r\nContent-Length: 5\r\n\r\n";
const SUCCEEDED: &[u8] = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";

fn http(client: &mut TcpStream) -> ProxyRequest {
    let mut peer = Peer::serve(client.try_clone().unwrap(), Layer::Plain);
    let head = peer.read_head();
    let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(peer.header("Host"), [&target]);
    for origins in ["\r\nCookie", "\r\nAuthorization", "Sec-WebSocket", "User-Agent", "the/path"] {
        assert!(!head.contains(origins), "{head}");
    }
    (target, peer.header("Proxy-Authorization").concat())
}

fn socks(client: &mut TcpStream) -> ProxyRequest {
    let mut write = client.try_clone().unwrap();
    let mut read = |count: usize| {
        let mut bytes = vec![0; count];
        client.read_exact(&mut bytes).unwrap();
        bytes
    };
    let greeting = read(2);
    assert_eq!(greeting[0], 5);
    let methods = read(greeting[1].into());
    let method = *methods.last().unwrap();
    write.write_all(&[5, method]).unwrap();
    let mut user = String::new();
    if method == 2 {
        assert_eq!(read(1), [1]);
        for _ in 0..2 {
            let length = read(1)[0].into();
            user += &String::from_utf8(read(length)).unwrap();
            user += "/";
        }
        write.write_all(&[1, 0]).unwrap();
    }
    let request = read(4);
    assert_eq!(request[..3], [5, 1, 0]);
    let host = match request[3] {
        1 => read(4).iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        3 => {
            let length = read(1)[0].into();
            String::from_utf8(read(length)).unwrap()
        }
        other => panic!("address of type {other}"),
    };
    let port = read(2);
    (format!("{host}:{}", u16::from_be_bytes([port[0], port[1]])), user)
}

/// Scheme, user information, script, the last reply of the proxy, and what the proxy receives about the user.
type Kind = (&'static str, &'static str, fn(&mut TcpStream) -> ProxyRequest, &'static [u8], &'static str);
const KINDS: [Kind; 5] = [
    ("http", "", http, CONNECTED, ""),
    ("http", "user:pr0xy%40pass@", http, CONNECTED, "Basic dXNlcjpwcjB4eUBwYXNz"),
    ("socks5h", "", socks, SUCCEEDED, ""),
    ("socks5h", "user:pr0xy%40pass@", socks, SUCCEEDED, "user/pr0xy@pass/"),
    ("socks5", "user:pr0xy%40pass@", socks, SUCCEEDED, "user/pr0xy@pass/"),
];

#[test]
fn ws_and_wss_work_through_a_proxy_and_the_server_learns_nothing_about_it() {
    let log = Capture::start();
    bounded(|| {
        for (scheme, user, script, answer, expected) in KINDS {
            let good = if scheme == "socks5" { &GOOD } else { &WRONG_HOST };
            for identity in [None, Some(good)] {
                let (port, server) = server(identity);
                let (proxy_port, proxy) = proxy(script, answer, port);
                // Only the proxy knows this name, so the proxy must resolve it. With `socks5` this machine resolves.
                let host = if scheme == "socks5" { "127.0.0.1" } else { "elsewhere.example" };
                let options = options()
                    .proxy(Proxy::new(format!("{scheme}://{user}127.0.0.1:{proxy_port}")).unwrap())
                    .header("Cookie", "a=b")
                    .header("Authorization", "Bearer mine");
                let url = format!("{}://{host}:{port}/the/path", if identity.is_some() { "wss" } else { "ws" });
                let ws = options.connect(&url).unwrap();
                assert_eq!(ws.peer_addr().unwrap().port(), proxy_port);
                let long = "long ".repeat(20_000);
                for message in ["hello", &long] {
                    ws.send(message).unwrap();
                    assert_eq!(kind(ws.recv()), Ok(text(message)), "{url} through {scheme}");
                }
                ws.close(1000, "").unwrap();
                drop(ws);
                assert_eq!(wait_for(proxy), (format!("{host}:{port}"), expected.to_owned()));
                let headers = wait_for(server).unwrap();
                let header = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..]);
                assert_eq!(header("host"), Some(&format!("{host}:{port}")[..]));
                assert_eq!((header("cookie"), header("authorization")), (Some("a=b"), Some("Bearer mine")));
                for (name, value) in &headers {
                    assert!(
                        !name.contains("proxy") && !value.contains("pr0xy") && !value.contains("cjB4"),
                        "{name}: {value}"
                    );
                }
            }
        }
    });
    let lines = log.lines();
    assert!(
        lines.contains("asking Proxy(http://127.0.0.1:") && lines.contains("leads to elsewhere.example:"),
        "{lines}"
    );
    for secret in ["pr0xy", "user", "cjB4", "Bearer", "a=b"] {
        assert!(!lines.contains(secret), "{lines}");
    }
}

#[test]
fn the_servers_certificate_is_checked_through_a_proxy() {
    bounded(|| {
        for (scheme, user, script, answer, _) in KINDS {
            if scheme == "socks5" {
                continue; // this machine cannot resolve the name
            }
            let (port, server) = server(Some(&GOOD));
            let (proxy_port, proxy) = proxy(script, answer, port);
            let through = Proxy::new(format!("{scheme}://{user}127.0.0.1:{proxy_port}")).unwrap();
            let error = options().proxy(through).connect(format!("wss://elsewhere.example:{port}/")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
            assert!(error.to_string().contains("TLS handshake with elsewhere.example"), "{error}");
            wait_for(proxy);
            assert!(wait_for(server).is_err(), "the server received a request");
        }
    });
}

/// Each redirect uses the proxy, and only the proxy receives its credentials.
#[test]
fn redirects_use_the_proxy() {
    bounded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let through = format!("http://user:pr0xy-pass@{}", listener.local_addr().unwrap());
        let job = spawn("proxy", move || {
            let mut heads = Vec::new();
            for answer in ["HTTP/1.1 302 x\r\nLocation: ws://b.example:81/x\r\nContent-Length: 0\r\n\r\n", ""] {
                let mut peer = Peer::serve(listener.accept().unwrap().0, Layer::Plain);
                heads.push(peer.read_head());
                peer.write(b"HTTP/1.1 200 x\r\n\r\n");
                match answer {
                    "" => peer.upgrade(""),
                    _ => {
                        peer.read_head();
                        peer.write(answer.as_bytes());
                    }
                }
                heads.push(peer.head.clone());
            }
            heads
        });
        let ws = options().proxy(Proxy::new(&through).unwrap()).connect("ws://a.example/").unwrap();
        assert_eq!(ws.url().unwrap().as_str(), "ws://b.example:81/x");
        let heads = wait_for(job);
        for (head, start) in heads.iter().zip(["CONNECT a.example:80 ", "GET / ", "CONNECT b.example:81 ", "GET /x "]) {
            assert!(head.starts_with(start), "{head}");
            assert_eq!(head.contains("\r\nProxy-Authorization: Basic "), start.starts_with("CONNECT"), "{head}");
        }
    });
}

/// A rejection, invalid data and an end are errors of the proxy, not of the server behind it.
#[test]
fn other_replies_of_a_proxy_are_errors() {
    bounded(|| {
        for (answer, expected, named) in [
            ("HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n", ErrorKind::Proxy, "put them in the proxy's URL"),
            ("HTTP/1.0 503 x\r\n\r\n", ErrorKind::Proxy, "answered 503 to CONNECT h:80"),
            ("HTTP/1.1 302 x\r\nLocation: http://evil.example/\r\n\r\n", ErrorKind::Proxy, "answered 302"),
            ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", ErrorKind::Proxy, "answered 101"),
            ("SSH-2.0-OpenSSH_9.2\r\n", ErrorKind::Proxy, "does not speak HTTP"),
            ("\x05\x00", ErrorKind::Proxy, "does not speak HTTP"),
            ("HTTP/1.1 200 x\r\n", ErrorKind::Proxy, "before its answer was complete"),
            ("", ErrorKind::Proxy, "before its answer was complete"),
            ("HTTP/1.1 200 x\r\n\r\n", ErrorKind::Handshake, "h:80 closed the connection"),
            ("HTTP/1.1 200 x\r\n\r\nextra junk\r\n\r\n", ErrorKind::Handshake, "extra"),
        ] {
            let server = Server::new(Layer::Plain, move |mut peer| {
                peer.read_head();
                peer.write(answer.as_bytes());
                let _ = peer.tcp().shutdown(Shutdown::Write); // fails if the client has already disconnected
                peer.rest();
            });
            let through = Proxy::new(format!("127.0.0.1:{}", server.port)).unwrap();
            let error = options().proxy(through).connect("ws://h/").unwrap_err();
            assert_eq!(error.kind(), expected, "{answer:?}: {error}");
            assert!(error.to_string().contains(named), "{answer:?}: {error}");
            server.join();
        }
    });
}
