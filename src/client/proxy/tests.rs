use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::Duration;

use super::*;

/// What a scripted proxy expects (only its length counts while it plays) and what it answers.
type Script<'a> = &'a [(&'a [u8], &'a [u8])];

/// How the answers are sent.
#[derive(Clone, Copy)]
enum Sent {
    Whole,
    ByByte,
    /// Only that many bytes of all answers together, then FIN.
    Cut(usize),
    /// The same, then silence.
    Silent(usize),
}

/// Behind the last answer, in the same write, come the first bytes from the target.
const GLUED: &[u8] = b"first bytes of the target";

/// Plays the script against `tunnel`; returns its result and all requests that the proxy has read.
fn play(proxy: &str, target: &str, script: Script, sent: Sent) -> (Result<()>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_nodelay(true).unwrap();
    let length = match sent {
        Sent::Silent(_) => Duration::from_millis(20),
        _ => Duration::from_secs(60),
    };
    let deadline = Deadline::after("connect_timeout", Some(length));
    let (proxy, target) = (Proxy::new(proxy).unwrap(), Target::parse(target).unwrap());

    thread::scope(|scope| {
        let requests = scope.spawn(move || {
            let mut requests = Vec::new();
            let mut budget = match sent {
                Sent::Cut(most) | Sent::Silent(most) => most,
                _ => usize::MAX,
            };
            for (turn, (request, answer)) in script.iter().enumerate() {
                let mut received = vec![0; request.len()];
                if server.read_exact(&mut received).is_err() {
                    break;
                }
                requests.extend(received);
                let glued: &[u8] = if turn + 1 == script.len() { GLUED } else { b"" };
                let mut answer = [answer, glued].concat();
                answer.truncate(budget);
                budget -= answer.len();
                // Errors: the client may have given up.
                let _ = match sent {
                    Sent::ByByte => answer.chunks(1).try_for_each(|byte| server.write_all(byte)),
                    _ => server.write_all(&answer),
                };
                if budget == 0 {
                    break;
                }
            }
            if !matches!(sent, Sent::Silent(_)) {
                let _ = server.shutdown(Shutdown::Write);
            }
            let _ = server.read_to_end(&mut requests);
            requests
        });
        let outcome = tunnel(&proxy, &client, &target, &deadline, &Cancellation::default());
        if outcome.is_ok() {
            client.set_nonblocking(false).unwrap(); // as what takes it over does
            client.set_read_timeout(None).unwrap();
            let mut rest = [0; GLUED.len()];
            (&client).read_exact(&mut rest).unwrap();
            assert_eq!(rest, GLUED, "the tunnel read too much or too little");
        }
        drop(client);
        (outcome, requests.join().unwrap())
    })
}

/// A good script: whole, byte by byte, and cut or silent after every byte.
fn good(proxy: &str, target: &str, script: Script) {
    let requests: Vec<u8> = script.iter().flat_map(|(request, _)| request.iter().copied()).collect();
    for sent in [Sent::Whole, Sent::ByByte] {
        let (outcome, received) = play(proxy, target, script, sent);
        outcome.unwrap();
        assert_eq!(received, requests, "{}", String::from_utf8_lossy(&received));
    }
    let answers: usize = script.iter().map(|(_, answer)| answer.len()).sum();
    for cut in 0..answers {
        let error = play(proxy, target, script, Sent::Cut(cut)).0.expect_err("cut");
        assert_eq!(error.kind(), ErrorKind::Proxy, "{cut}: {error}");
        assert!(error.to_string().starts_with("the proxy proxy.example:7"), "{error}");
    }
    for cut in [0, answers / 2, answers - 1] {
        let error = play(proxy, target, script, Sent::Silent(cut)).0.expect_err("silent");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{cut}: {error}");
        assert!(error.to_string().contains("the proxy proxy.example:7"), "{error}");
    }
}

/// A bad script: the same error, whole and byte by byte.
fn bad(proxy: &str, target: &str, script: Script, says: &str) {
    for sent in [Sent::Whole, Sent::ByByte] {
        let error = play(proxy, target, script, sent).0.expect_err(says);
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), ErrorKind::Proxy, "{error}");
        assert!(text.starts_with("the proxy proxy.example:7") && text.contains(says), "{says}: {error}");
        assert!(!text.contains("secret") && !text.contains("user:"), "{error}");
    }
}

const SOCKS: &str = "socks5h://proxy.example:7";
const SOCKS_WITH_USER: &str = "socks5h://us%65r:secret@proxy.example:7";
const OFFER: &[u8] = b"\x05\x01\x00";
const OFFER_USER: &[u8] = b"\x05\x02\x00\x02";
const USER: &[u8] = b"\x01\x04user\x06secret";
const TO_NAME: &[u8] = b"\x05\x01\x00\x03\x09a.example\x01\xbb";
const DONE: &[u8] = b"\x05\x00\x00\x01\x01\x02\x03\x04\x00\x50";

#[test]
fn socks_connects_to_names_and_addresses() {
    let to_v4: &[u8] = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90";
    let to_v6: &[u8] = b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50";
    for (target, request) in [("wss://a.example/", TO_NAME), ("ws://127.0.0.1:8080/", to_v4), ("ws://[::1]/", to_v6)] {
        good(SOCKS, target, &[(OFFER, b"\x05\x00"), (request, DONE)]);
    }
    // `socks5` looks the name up itself, and prefers IPv4.
    let proxy = "socks5://proxy.example:7";
    let script: Script = &[(OFFER, b"\x05\x00"), (to_v4, DONE)];
    let (outcome, received) = play(proxy, "ws://localhost:8080/", script, Sent::Whole);
    outcome.unwrap();
    assert_eq!(received, [OFFER, to_v4].concat());
}

#[test]
fn socks_answers_have_addresses_of_three_types() {
    let v6: &[u8] = b"\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50";
    let name: &[u8] = b"\x05\x00\x00\x03\x05proxy\x00\x50";
    let no_name: &[u8] = b"\x05\x00\x00\x03\x00\x00\x50";
    for answer in [v6, name, no_name] {
        good(SOCKS, "wss://a.example/", &[(OFFER, b"\x05\x00"), (TO_NAME, answer)]);
    }
    let longest = [b"\x05\x00\x00\x03\xff", &[b'x'; 255] as &[u8], b"\x00\x50"].concat();
    play(SOCKS, "wss://a.example/", &[(OFFER, b"\x05\x00"), (TO_NAME, &longest)], Sent::Whole).0.unwrap();
    bad(
        SOCKS,
        "wss://a.example/",
        &[(OFFER, b"\x05\x00"), (TO_NAME, b"\x05\x00\x00\x02")],
        "unknown type of address, 2",
    );
}

#[test]
fn socks_authenticates_when_asked_to() {
    good(SOCKS_WITH_USER, "wss://a.example/", &[(OFFER_USER, b"\x05\x02"), (USER, b"\x01\x00"), (TO_NAME, DONE)]);
    good(SOCKS_WITH_USER, "wss://a.example/", &[(OFFER_USER, b"\x05\x00"), (TO_NAME, DONE)]);
    for (proxy, script, says) in [
        (SOCKS, &[(OFFER, b"\x05\xff" as &[u8])] as Script, "put them in the proxy's URL"),
        (SOCKS, &[(OFFER, b"\x05\x02")], "method 2, which was not offered"),
        (SOCKS, &[(OFFER, b"\x05\x01")], "method 1, which was not offered"),
        (SOCKS_WITH_USER, &[(OFFER_USER, b"\x05\xff")], "neither"),
        (SOCKS_WITH_USER, &[(OFFER_USER, b"\x05\x02"), (USER, b"\x01\x01")], "did not accept the user and password"),
        (SOCKS_WITH_USER, &[(OFFER_USER, b"\x05\x02"), (USER, b"\x05\x00")], "RFC 1929"),
    ] {
        bad(proxy, "wss://a.example/", script, says);
    }
}

#[test]
fn socks_refusals_and_garbage_are_named() {
    for (reply, says) in [
        (1, "general failure"),
        (2, "not allowed"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
        (7, "command not supported"),
        (8, "address type not supported"),
        (9, "unknown reply 9"),
        (255, "unknown reply 255"),
    ] {
        let refusal = [5, reply, 0, 1, 0, 0, 0, 0, 0, 0];
        bad(SOCKS, "wss://a.example/", &[(OFFER, b"\x05\x00"), (TO_NAME, &refusal)], says);
    }
    bad(SOCKS, "wss://a.example/", &[(OFFER, b"HTTP/1.1 400 Bad Request\r\n\r\n")], "is it an http:// proxy");
    bad(SOCKS, "wss://a.example/", &[(OFFER, b"\x04\x00")], "does not speak SOCKS5");
    bad(SOCKS, "wss://a.example/", &[(OFFER, b"\x05\x00"), (TO_NAME, b"\x00\x00")], "does not speak SOCKS5");
}

#[test]
fn a_name_too_long_for_socks_is_refused_before_anything_is_sent() {
    let target = format!("ws://{}example/", "a.".repeat(130));
    let (outcome, received) = play(SOCKS, &target, &[], Sent::Whole);
    let error = outcome.unwrap_err();
    assert!(error.kind() == ErrorKind::Proxy && error.to_string().contains("267 bytes"), "{error}");
    assert_eq!(received, b"");
}

const HTTP: &str = "proxy.example:7";
const HTTP_WITH_USER: &str = "http://us%65r:secret@proxy.example:7";
const CONNECT: &[u8] = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
const CONNECT_AS_USER: &[u8] = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\
    Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n";

#[test]
fn connect_asks_for_the_target() {
    good(HTTP, "wss://a.example/", &[(CONNECT, b"HTTP/1.1 200 Connection established\r\nVia: 1.1 p\r\n\r\n")]);
    good(HTTP_WITH_USER, "wss://a.example/", &[(CONNECT_AS_USER, b"HTTP/1.0 200\r\n\r\n")]);
    let to_v6 = b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n";
    // Interim answers come before it, and RFC 9110 §9.3.6 makes nothing of a length.
    good(HTTP, "ws://[::1]/", &[(to_v6, b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 204 OK\r\nContent-Length: 9\r\n\r\n")]);
    // Longer than one look at the socket.
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(5000));
    play(HTTP, "wss://a.example/", &[(CONNECT, long.as_bytes())], Sent::Whole).0.unwrap();
}

#[test]
fn connect_refusals_have_the_response() {
    for (proxy, request, answer, says) in [
        (HTTP, CONNECT, b"HTTP/1.1 407 No\r\nX: y\r\n\r\n" as &[u8], "put them in the proxy's URL"),
        (HTTP_WITH_USER, CONNECT_AS_USER, b"HTTP/1.1 407 No\r\nX: y\r\n\r\n", "did not accept the user and password"),
        (HTTP_WITH_USER, CONNECT_AS_USER, b"HTTP/1.1 401 No\r\nX: y\r\n\r\n", "did not accept the user and password"),
        (HTTP, CONNECT, b"HTTP/1.1 403 No\r\nX: y\r\nContent-Length: 99\r\n\r\n", "403 to CONNECT a.example:443"),
        (HTTP, CONNECT, b"HTTP/1.0 502 No\r\nX: y\r\n\r\n", "502"),
        (HTTP, CONNECT, b"HTTP/1.1 302 No\r\nX: y\r\n\r\n", "302"),
        (HTTP, CONNECT, b"HTTP/1.1 101 No\r\nX: y\r\n\r\n", "101"),
    ] {
        bad(proxy, "wss://a.example/", &[(request, answer)], says);
        let error = play(proxy, "wss://a.example/", &[(request, answer)], Sent::Whole).0.unwrap_err();
        let response = error.response().unwrap();
        assert!(error.to_string().contains(&response.status().to_string()));
        assert_eq!(response.header("x"), Some("y"));
    }
}

#[test]
fn connect_garbage_is_named() {
    let endless = [b"HTTP/1.1 200 OK\r\nX: ", &[b'x'; 70_000] as &[u8]].concat();
    for (answer, says) in [
        (b"\x05\x00" as &[u8], "does not speak HTTP"),
        (b"SSH-2.0-OpenSSH_9\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/2 200\r\n\r\n", "does not speak HTTP"),
        (b"\r\n", "does not speak HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS"),
    ] {
        bad(HTTP, "wss://a.example/", &[(CONNECT, answer)], says);
    }
    let error = play(HTTP, "wss://a.example/", &[(CONNECT, &endless)], Sent::Whole).0.unwrap_err();
    assert!(error.kind() == ErrorKind::Proxy && error.to_string().contains("65536"), "{error}");
}

#[test]
fn a_proxy_is_a_url() {
    for (url, shown) in [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("HTTP://user:secret@Proxy.example:3128/", "http://proxy.example:3128"),
        ("http://proxy", "http://proxy:80"),
        ("proxy:3128", "http://proxy:3128"),
        ("proxy", "http://proxy:80"),
        ("user:secret@proxy:3128", "http://proxy:3128"),
        ("127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("[::1]:3128", "http://[::1]:3128"),
        ("socks5://proxy", "socks5://proxy:1080"),
        ("socks5://Bücher.example:80", "socks5://xn--bcher-kva.example:80"),
        ("socks5h://user:secret@[2001:DB8::1]/", "socks5h://[2001:db8::1]:1080"),
        ("socks5h://127.0.0.1", "socks5h://127.0.0.1:1080"),
    ] {
        assert_eq!(format!("{:?}", Proxy::new(url).unwrap()), format!("Proxy({shown})"), "{url}");
    }
    let long = format!("socks5://u:{}@h", "p".repeat(256));
    for (url, says) in [
        ("", "empty host"),
        ("http://", "empty host"),
        ("socks5://", "host"),
        ("socks5://:1080", "host"),
        ("https://user:secret@proxy", "TLS to the proxy itself is not supported"),
        ("socks4://user:secret@proxy", "http, socks5 or socks5h"),
        ("socks://proxy", "http, socks5 or socks5h"),
        ("file:///proxy", "http, socks5 or socks5h"),
        ("http://user:secret@proxy:0", "port is 0"),
        ("socks5://user:secret@proxy:0", "port is 0"),
        ("http://user:sec/ret@proxy:3128", "invalid port"),
        ("user:secret@proxy:8a", "invalid port"),
        ("http://proxy:65536", "invalid port"),
        ("http://proxy/proxy.pac", "end after the port"),
        ("http://proxy?x", "end after the port"),
        ("socks5://proxy#x", "end after the port"),
        ("http://proxy\r\nX: y", "control character"),
        ("socks5://a b", "invalid"),
        (&long, "255 bytes"),
    ] {
        let error = Proxy::new(url).expect_err(url);
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        assert!(text.contains(says) && !text.contains("sec") && !text.contains("user:"), "{text}");
    }
}
