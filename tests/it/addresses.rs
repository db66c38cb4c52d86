//! The address that a connection goes to, the host names in the request and in TLS, and streams from the caller.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::support::tls::{GOOD, Identified, WRONG_HOST, accept_as};
use crate::support::*;
use openssl::ssl::NameType;
use wsync::{ConnectOptions, ErrorKind, Proxy, WebSocket};

/// A TLS server with this certificate that answers 403. Its job returns the client's server name (SNI) and request.
fn tls_server(address: &str, identity: &'static LazyLock<Identified>) -> (SocketAddr, Job<(Option<String>, String)>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let job = spawn("server", move || {
        let Ok(mut stream) = accept_as(identity, listener.accept().unwrap().0, Layer::Tls13) else {
            return (None, String::new());
        };
        let name = stream.ssl().servername(NameType::HOST_NAME).map(str::to_owned);
        let head = read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"); // fails if the client has disconnected
        (name, head)
    });
    (address, job)
}

#[test]
fn resolve_changes_neither_the_host_header_nor_the_name_that_tls_checks() {
    bounded(|| {
        for (url, host, sni) in [
            ("wss://elsewhere.example:9/", "elsewhere.example", "elsewhere.example:9"),
            ("wss://ELSEWHERE.example/", "Elsewhere.Example", "elsewhere.example"),
            ("wss://bücher.example/", "bücher.example", "xn--bcher-kva.example"),
            ("wss://bücher.example/", "xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("wss://xn--bcher-kva.example/", "BÜCHER.example", "xn--bcher-kva.example"),
        ] {
            let (address, server) = tls_server("127.0.0.1:0", &WRONG_HOST);
            let error = options().resolve(host, [address]).connect(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Rejected, "{url}: {error}");
            let (name, head) = wait_for(server);
            assert_eq!(name.as_deref(), Some(sni.trim_end_matches(":9")), "{url}");
            assert!(head.contains(&format!("\r\nHost: {sni}\r\n")), "{url}: {head}");
        }
        // The last call for a host counts, and does not affect other hosts.
        let (address, server) = tls_server("127.0.0.1:0", &WRONG_HOST);
        let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let options = options().resolve("elsewhere.example", [nowhere]).resolve("example.com", [nowhere]);
        let options = options.resolve("elsewhere.example", [nowhere, address]);
        assert_eq!(kind(options.connect("wss://elsewhere.example/")).unwrap_err(), ErrorKind::Rejected);
        wait_for(server);
    });
}

#[test]
fn the_port_of_a_resolved_address_is_used_unless_it_is_0() {
    bounded(|| {
        let server = Server::new(Layer::Plain, |mut peer| peer.upgrade(""));
        let (ip, port) = ([127, 0, 0, 1], server.port);
        options().resolve("h", [(ip, 0).into()]).connect(format!("ws://h:{port}/")).unwrap();
        server.join();
        let server = Server::new(Layer::Plain, |mut peer| peer.upgrade(""));
        options().resolve("h", [(ip, server.port).into()]).connect(format!("ws://h:{port}/")).unwrap();
        server.join();
        let error = options().resolve("h", []).connect("ws://h/").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve, "{error}");
    });
}

#[test]
fn the_certificate_of_another_host_is_rejected_with_resolve() {
    bounded(|| {
        let (address, server) = tls_server("127.0.0.1:0", &GOOD);
        let error = options().resolve("elsewhere.example", [address]).connect("wss://elsewhere.example/").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(error.to_string().contains("elsewhere.example"), "{error}");
        assert_eq!(wait_for(server).1, "", "the request was sent");
    });
}

#[test]
fn an_ipv6_address_in_the_url_is_connected_to_and_checked_by_tls() {
    bounded(|| {
        if TcpListener::bind("[::1]:0").is_err() {
            return; // this machine has no IPv6
        }
        let (address, server) = tls_server("[::1]:0", &WRONG_HOST);
        let error = options().connect(format!("wss://[::1]:{}/", address.port())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
        let (_, head) = wait_for(server);
        assert!(head.contains(&format!("\r\nHost: [::1]:{}\r\n", address.port())), "{head}");

        let (address, server) = tls_server("[::1]:0", &GOOD);
        let error = options().connect(format!("wss://[::1]:{}/", address.port())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        wait_for(server);
    });
}

/// The extensions of the ClientHello that connecting sends, each with its type (RFC 8446 §4.1.2).
fn client_hello(options: &ConnectOptions, url: &str) -> Vec<(u16, Vec<u8>)> {
    let server = Server::tcp(|mut stream| {
        let mut record = [0; 5];
        stream.read_exact(&mut record).unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([record[3], record[4]]))];
        stream.read_exact(&mut hello).unwrap();
        hello
    });
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    assert_eq!(options.connect_over(url, stream).unwrap_err().kind(), ErrorKind::Tls);
    let hello = server.join();

    fn vector<'a>(rest: &mut &'a [u8], length_bytes: usize) -> &'a [u8] {
        let (length, after) = rest.split_at(length_bytes);
        let (vector, after) = after.split_at(length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)));
        *rest = after;
        vector
    }
    let mut rest = &hello[4 + 2 + 32..]; // the message's type and length, version, random
    vector(&mut rest, 1); // session
    vector(&mut rest, 2); // cipher suites
    vector(&mut rest, 1); // compression methods
    let mut extensions = vector(&mut rest, 2);
    let mut list = Vec::new();
    while let [high, low, after @ ..] = extensions {
        extensions = after;
        list.push((u16::from_be_bytes([*high, *low]), vector(&mut extensions, 2).to_vec()));
    }
    list
}

#[test]
fn tls_sends_the_host_name_and_no_alpn() {
    bounded(|| {
        const SERVER_NAME: u16 = 0;
        const ALPN: u16 = 16;
        let default = WebSocket::options().no_proxy();
        for options in [default, options()] {
            for (url, name) in [
                ("wss://example.com/", Some("example.com")),
                ("wss://EXAMPLE.com:9001/", Some("example.com")),
                ("wss://example.com./", Some("example.com")),
                ("wss://bücher.example/", Some("xn--bcher-kva.example")),
                ("wss://127.0.0.1/", None),
                ("wss://[::1]/", None),
            ] {
                let extensions = client_hello(&options, url);
                let named = extensions.iter().find(|(kind, _)| *kind == SERVER_NAME);
                // A list with one name, of type 0 (RFC 6066 §3).
                let named = named.map(|(_, value)| String::from_utf8(value[5..].into()).unwrap());
                assert_eq!(named.as_deref(), name, "{url}");
                assert!(extensions.iter().all(|(kind, _)| *kind != ALPN), "{url} sends ALPN");
            }
        }
    });
}

#[test]
fn connect_over_uses_only_the_given_stream() {
    on_every_layer(|layer| {
        let options = options().proxy(Proxy::new("http://127.0.0.1:1").unwrap());
        let server = Server::new(layer, |mut peer| {
            peer.upgrade("");
            let frame = peer.frame();
            peer.send(frame.first, &frame.payload);
            peer
        });
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let url = format!("{}://localhost/there", scheme(layer));
        let ws = options.connect_over(&url, stream).unwrap();
        ws.send("hello").unwrap();
        let peer = server.join();
        assert_eq!(kind(ws.recv()), Ok(text("hello")));
        assert!(peer.head.starts_with("GET /there "), "{}", peer.head);
        assert_eq!(peer.header("Host"), ["localhost"]);
        assert_eq!((ws.url().unwrap().as_str(), ws.redirects()), (url.as_str(), &[][..]));

        let server = Server::new(layer, |mut peer| {
            peer.read_head();
            peer.write(b"HTTP/1.1 302 x\r\nLocation: /here\r\nContent-Length: 0\r\n\r\n");
        });
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let error = options.connect_over(&url, stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
        assert_eq!(error.response().unwrap().status(), 302);
        server.join();
    });
}

/// Each redirect is fast; only their sum exceeds the limit.
#[test]
fn connect_timeout_spans_all_redirects() {
    bounded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let server = spawn("server", move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if read_head(&mut stream).starts_with("GET /stop ") {
                    break;
                }
                let _ = stream.write_all(b"HTTP/1.1 307 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let start = Instant::now();
        let bound = Duration::from_millis(300);
        let error = options().max_redirects(u32::MAX).connect_timeout(Some(bound)).connect(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("connect_timeout"), "{error}");
        assert!(start.elapsed() >= bound && start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        options().connect(format!("{url}stop")).unwrap_err();
        wait_for(server);
    });
}
