//! The server with a thread for each connection: it starts, serves, refuses what is too much, and stops. No test sleeps: each
//! waits for what the other side does.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bounded;
use wsync::{
    AcceptOptions, CloseCode, ConnectOptions, Error, ErrorKind, Message, Response, Server, ServerHandle, WebSocket,
};

const LONG: Duration = Duration::from_secs(30);

fn echo(ws: WebSocket) -> wsync::Result<()> {
    while let Some(message) = ws.recv()? {
        ws.send(&message)?;
    }
    Ok(())
}

fn server() -> Server {
    Server::bind("127.0.0.1:0").unwrap()
}

fn options() -> ConnectOptions {
    ConnectOptions::new().no_proxy()
}

fn connect(server: &ServerHandle) -> WebSocket {
    options().connect(url(server)).unwrap()
}

fn url(server: &ServerHandle) -> String {
    format!("ws://{}/", server.local_addr().unwrap())
}

/// A client that says nothing.
fn silent(server: &ServerHandle) -> TcpStream {
    TcpStream::connect(server.local_addr().unwrap()).unwrap()
}

/// Sends a request, and returns the whole answer.
fn http(server: &ServerHandle, request: &str) -> String {
    let mut stream = silent(server);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG);
        thread::yield_now();
    }
}

/// A gate that handlers wait at.
fn gate() -> (Sender<()>, Mutex<Receiver<()>>) {
    let (open, opened) = channel();
    (open, Mutex::new(opened))
}

#[test]
fn it_serves_and_its_end_is_clean() {
    let server = server().spawn(echo).unwrap();
    let address = server.local_addr().unwrap();
    let clients: Vec<WebSocket> = (0..5).map(|_| connect(&server)).collect();
    for ws in &clients {
        ws.send("hello").unwrap();
        assert_eq!(ws.recv().unwrap(), Some("hello".into()));
    }
    assert_eq!((server.connections(), server.statistics().opened), (5, 5));
    let receiving: Vec<_> = clients.iter().cloned().map(|ws| thread::spawn(move || ws.recv())).collect();
    assert_eq!(server.shutdown(LONG), 0);
    for (ws, receiving) in clients.iter().zip(receiving) {
        assert_eq!(receiving.join().unwrap().unwrap(), None);
        assert_eq!(ws.close_code(), Some(CloseCode::GOING_AWAY));
    }
    server.join();
    assert_eq!((server.connections(), server.local_addr().unwrap_err().kind()), (0, ErrorKind::Closed));
    TcpListener::bind(address).expect("the port is free");
    assert_eq!(server.shutdown(LONG), 0, "again");
}

#[test]
fn how_a_handler_ends_decides_the_close_code_and_a_panic_is_contained() {
    let server = server().spawn(|ws| match ws.recv()?.as_ref().and_then(Message::as_text) {
        Some("ok") => Ok(()),
        Some("error") => Err(Error::other("no")),
        _ => panic!("a bug in the handler"),
    });
    let server = server.unwrap();
    for (text, code) in [("ok", 1000), ("error", 1011), ("panic", 1011), ("ok", 1000)] {
        let ws = connect(&server);
        ws.send(text).unwrap();
        assert_eq!((ws.recv().unwrap(), ws.close_code().map(u16::from)), (None, Some(code)), "{text}");
    }
    wait_until(|| server.connections() == 0);
    assert_eq!((server.statistics().opened, server.statistics().panicked), (4, 1));
}

#[test]
fn further_clients_wait_while_the_server_is_full() {
    let server = server().max_connections(1).spawn(echo).unwrap();
    let first = connect(&server);
    let address = url(&server);
    let waiting = thread::spawn(move || options().connect(address).unwrap());
    first.send("still served").unwrap();
    assert_eq!(first.recv().unwrap(), Some("still served".into()));
    assert_eq!(server.statistics().opened, 1);
    first.close(1000, "").unwrap();
    let second = waiting.join().unwrap();
    second.send("served").unwrap();
    assert_eq!(second.recv().unwrap(), Some("served".into()));
}

#[test]
fn further_clients_get_503_by_choice() {
    let server = server().max_connections(1).turn_away(true).spawn(echo).unwrap();
    let first = connect(&server);
    let error = options().connect(url(&server)).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Rejected, Some(503)));
    assert_eq!(error.response().unwrap().header("Retry-After"), Some("10"));
    first.close(1000, "").unwrap();
    wait_until(|| server.connections() == 0);
    // The thread that has answered ends a moment later.
    wait_until(|| options().connect(url(&server)).is_ok());
    assert!(server.statistics().turned_away >= 1);
}

/// The thread that was to answer it ends, and no other client notices.
#[test]
fn a_client_that_is_gone_before_it_is_turned_away_harms_nobody() {
    let server = server().max_connections(1).turn_away(true).spawn(echo).unwrap();
    let first = connect(&server);
    drop(silent(&server));
    wait_until(|| server.statistics().turned_away == 1);
    first.send("still served").unwrap();
    assert_eq!(first.recv().unwrap(), Some("still served".into()));
    first.close(1000, "").unwrap();
    bounded(move || assert_eq!(server.shutdown(LONG), 0));
}

#[test]
fn a_client_that_does_not_answer_the_close_gives_its_place_back_all_the_same() {
    bounded(|| {
        let impatient = AcceptOptions::new().close_timeout(Some(Duration::from_millis(1)));
        let server = server().options(impatient).max_connections(1).spawn(|ws| ws.send("served")).unwrap();
        let mut first = silent(&server);
        first.write_all(UPGRADE.as_bytes()).unwrap();
        wait_until(|| server.statistics().opened == 1);
        assert_eq!(connect(&server).recv().unwrap(), Some("served".into()));
        drop(first);
    });
}

/// To end its loop, the server connects to itself.
#[test]
fn a_server_on_every_address_ends() {
    bounded(|| {
        // Not every machine has IPv6.
        let servers = [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "[::1]")]
            .map(|(address, loopback)| Server::bind(address).ok().zip(Some(loopback)));
        assert!(servers[0].is_some());
        for (server, loopback) in servers.into_iter().flatten() {
            let port = server.handle().local_addr().unwrap().port();
            let server = server.spawn(echo).unwrap();
            let ws = options().connect(format!("ws://{loopback}:{port}/")).unwrap();
            ws.close(1000, "").unwrap();
            assert_eq!(server.shutdown(LONG), 0);
        }
    });
}

#[test]
fn clients_who_say_nothing_keep_nobody_out() {
    // Neither by taking all places for handshakes,
    let full_of_handshakes = server().max_handshakes(2).spawn(echo).unwrap();
    let mut silent_ones: Vec<TcpStream> = (0..10).map(|_| silent(&full_of_handshakes)).collect();
    let ws = connect(&full_of_handshakes);
    ws.send("served").unwrap();
    assert_eq!(ws.recv().unwrap(), Some("served".into()));
    assert_eq!(silent_ones[0].read(&mut [0]).unwrap(), 0, "the first was cut");
    assert!(full_of_handshakes.statistics().cut >= 9);
    // nor by taking all places for connections.
    let full = server().max_connections(2).spawn(echo).unwrap();
    let _silent_ones: Vec<TcpStream> = (0..5).map(|_| silent(&full)).collect();
    let ws = connect(&full);
    ws.send("served").unwrap();
    assert_eq!(ws.recv().unwrap(), Some("served".into()));
}

/// Neither by the places of a full server, nor by being turned away themselves.
#[test]
fn clients_who_say_nothing_keep_nobody_out_of_a_server_that_turns_away() {
    let patient = AcceptOptions::new().accept_timeout(None);
    let server = server().options(patient).max_connections(2).turn_away(true).spawn(echo).unwrap();
    let _silent_ones: Vec<TcpStream> = (0..10).map(|_| silent(&server)).collect();
    wait_until(|| options().connect(url(&server)).is_ok());
    wait_until(|| server.statistics().opened == 1);
    assert!(server.statistics().turned_away >= 8);
}

#[test]
fn shutdown_drops_who_is_not_done_within_its_bound() {
    let (open, gate) = gate();
    let handler = move |ws: WebSocket| {
        if ws.recv()?.as_ref().and_then(Message::as_text) == Some("work") {
            let _ = gate.lock().unwrap().recv();
        }
        echo(ws)
    };
    let server = server().spawn(handler).unwrap();
    let (busy, idle, deaf) = (connect(&server), connect(&server), connect(&server));
    busy.send("work").unwrap();
    idle.send("nothing").unwrap();
    deaf.send("nothing").unwrap();
    let mut handshake = silent(&server);
    wait_until(|| server.connections() == 3);
    let receiving = thread::spawn(move || idle.recv().map(|_| idle.close_code()));
    let start = Instant::now();
    // `busy` answers the close, but its handler does not return; `deaf` reads nothing.
    let answering = thread::spawn(move || busy.recv());
    assert_eq!(server.shutdown(Duration::from_secs(1)), 2);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(receiving.join().unwrap().unwrap(), Some(CloseCode::GOING_AWAY));
    assert_eq!(handshake.read(&mut [0]).unwrap(), 0, "a handshake is cut");
    let _ = answering.join().unwrap();
    open.send(()).unwrap();
    server.join();
    drop(deaf);
}

#[test]
fn dropping_the_last_handle_ends_the_server() {
    let server = server().spawn(echo).unwrap();
    let address = server.local_addr().unwrap();
    let ws = connect(&server);
    wait_until(|| server.connections() == 1);
    let clone = server.clone();
    drop(server);
    ws.send("still served").unwrap();
    assert_eq!(ws.recv().unwrap(), Some("still served".into()));
    wait_until(|| ws.buffered_amount() == 0);
    drop(clone);
    // A close frame if it could go out at once.
    let _ = ws.recv();
    wait_until(|| TcpListener::bind(address).is_ok());
}

#[test]
fn it_runs_on_this_thread_until_its_handle_ends_it() {
    bounded(|| {
        let server = server();
        let handle = server.handle();
        let client = thread::spawn(move || {
            let ws = connect(&handle);
            ws.send("hello").unwrap();
            assert_eq!(ws.recv().unwrap(), Some("hello".into()));
            let receiving = thread::spawn(move || ws.recv());
            assert_eq!(handle.shutdown(LONG), 0);
            receiving.join().unwrap().unwrap();
        });
        server.run(echo).unwrap();
        client.join().unwrap();
        let stopped = self::server();
        stopped.handle().shutdown(Duration::ZERO);
        assert_eq!(stopped.run(echo).unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn plain_requests_are_answered_on_the_same_port() {
    let options = AcceptOptions::new().on_http(|request| match (request.method(), request.path()) {
        ("GET" | "HEAD", "/health") => Response::new(200).body("fine"),
        ("POST", "/") => Response::new(202).body("not read"),
        ("GET", "/wrong") => Response::new(99),
        ("GET", "/panic") => panic!("a bug in on_http"),
        _ => Response::new(404),
    });
    let server = server().options(options).spawn(echo).unwrap();
    let get =
        |method: &str, path: &str, rest: &str| http(&server, &format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{rest}"));
    let answer = get("GET", "/health?x=1", "\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\n") && answer.ends_with("\r\n\r\nfine"),
        "{answer}"
    );
    let answer = get("HEAD", "/health", "\r\n");
    assert!(answer.contains("\r\nContent-Length: 4\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    // A body that nobody reads does not destroy the answer.
    let body = "x".repeat(100_000);
    let answer = get("POST", "/", &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(get("GET", "/", "\r\n").starts_with("HTTP/1.1 404 "));
    assert!(http(&server, "GET /health HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    assert!(get("GET", "/wrong", "\r\n").starts_with("HTTP/1.1 500 "));
    assert!(get("GET", "/panic", "\r\n").starts_with("HTTP/1.1 500 "));
    // An upgrade is one still, and what is neither gets the answer of before.
    assert!(get("GET", "/health", "Upgrade: websocket\r\n\r\n").starts_with("HTTP/1.1 426 "));
    assert!(http(&server, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(http(&server, "GET /health HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "), "without Host");
    let ws = connect(&server);
    ws.send("hello").unwrap();
    assert_eq!(ws.recv().unwrap(), Some("hello".into()));
    wait_until(|| server.statistics().failed >= 5);
    let statistics = server.statistics();
    assert_eq!((statistics.answered, statistics.panicked, statistics.opened), (5, 1, 1));
    // So for what is refused without asking the hook.
    let answer = get("POST", "/", &format!("Upgrade: websocket\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    // Without the hook it is as before.
    let server = self::server().spawn(echo).unwrap();
    assert!(http(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 426 "));
}

#[test]
fn accept_tells_of_a_plain_request_that_was_answered() {
    let (ours, theirs) = crate::support::sockets();
    let mut theirs = theirs;
    theirs.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let error = AcceptOptions::new().on_http(|_| Response::new(204)).accept(ours).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Handshake, Some(204)));
    assert!(error.to_string().contains("on_http"), "{error}");
}

#[test]
fn only_pages_of_allowed_origins_may_connect() {
    let accept = AcceptOptions::new().allowed_origins(["https://example.com", "http://localhost:8080"]);
    let server = server().options(accept).spawn(echo).unwrap();
    for (origin, is_allowed) in [
        (None, true),
        (Some("https://example.com"), true),
        (Some("HTTPS://EXAMPLE.com"), true),
        (Some("http://localhost:8080"), true),
        (Some("http://example.com"), false),
        (Some("https://example.com:8443"), false),
        (Some("https://example.com.evil.example"), false),
        (Some("null"), false),
        (Some(""), false),
    ] {
        let options = match origin {
            Some(origin) => options().header("Origin", origin),
            None => options(),
        };
        match options.connect(url(&server)) {
            Ok(_) => assert!(is_allowed, "{origin:?}"),
            Err(error) => {
                assert!(!is_allowed && error.status() == Some(403), "{origin:?}: {error}");
                assert!(error.to_string().contains(origin.unwrap()), "{error}");
            }
        }
    }
    let none = self::server().options(AcceptOptions::new().allowed_origins([""; 0])).spawn(echo).unwrap();
    assert_eq!(options().header("Origin", "https://a").connect(url(&none)).unwrap_err().status(), Some(403));
}

#[test]
fn options_that_cannot_be_used_are_errors_before_the_server_runs() {
    let wrong = AcceptOptions::new().accept_timeout(Duration::ZERO);
    let error = server().options(wrong).spawn(echo).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let taken = server().spawn(echo).unwrap();
    let error = Server::bind(taken.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_served_too() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let path = std::env::temp_dir().join(format!("wsync-server-{}", std::process::id()));
    let server = Server::over(UnixListener::bind(&path).unwrap()).unwrap().stack_size(128 * 1024).thread_name("unix");
    let server = server.spawn(echo).unwrap();
    assert_eq!(server.local_addr().unwrap_err().kind(), ErrorKind::Io);
    let ws = options().connect_over("ws://localhost/", UnixStream::connect(&path).unwrap()).unwrap();
    ws.send("hello").unwrap();
    assert_eq!(ws.recv().unwrap(), Some("hello".into()));
    let receiving = thread::spawn(move || ws.recv());
    assert_eq!(server.shutdown(LONG), 0);
    receiving.join().unwrap().unwrap();
    server.join();
    std::fs::remove_file(path).unwrap();
}

/// Nobody can connect to it any more, not even the server itself.
#[cfg(target_os = "linux")]
#[test]
fn a_server_ends_though_the_path_of_its_unix_socket_is_gone() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let path = std::env::temp_dir().join(format!("wsync-server-gone-{}", std::process::id()));
    let server = Server::over(UnixListener::bind(&path).unwrap()).unwrap();
    let (alive, ended) = channel::<()>();
    let handler = move |ws| {
        let _alive = &alive;
        echo(ws)
    };
    let server = server.spawn(handler).unwrap();
    let ws = options().connect_over("ws://localhost/", UnixStream::connect(&path).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    // Meanwhile the loop waits for the next client.
    ws.send("hello").unwrap();
    assert_eq!(ws.recv().unwrap(), Some("hello".into()));
    let receiving = thread::spawn(move || ws.recv());
    assert_eq!(server.shutdown(LONG), 0);
    receiving.join().unwrap().unwrap();
    // The loop has dropped the handler.
    bounded(move || ended.recv().unwrap_err());
}

/// Who connects to it waits, and so would the server.
#[cfg(unix)]
#[test]
fn a_server_with_a_full_backlog_ends() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let path = std::env::temp_dir().join(format!("wsync-server-full-{}", std::process::id()));
    let (address, new) = (SockAddr::unix(&path).unwrap(), || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap());
    let listener = new();
    listener.bind(&address).unwrap();
    listener.listen(1).unwrap();
    let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(listener));
    let server = Server::over(listener).unwrap().max_connections(1).spawn(echo).unwrap();
    let first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let first = options().connect_over("ws://localhost/", first).unwrap();
    wait_until(|| server.connections() == 1);
    let mut waiting = Vec::new();
    loop {
        let client = new();
        client.set_nonblocking(true).unwrap();
        if client.connect(&address).is_err() {
            break;
        }
        waiting.push(client);
    }
    let receiving = thread::spawn(move || first.recv());
    bounded(move || assert_eq!(server.shutdown(LONG), 0));
    receiving.join().unwrap().unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_client_that_is_gone_before_it_is_accepted_harms_nobody() {
    let server = server().spawn(echo).unwrap();
    for _ in 0..20 {
        let stream = silent(&server);
        let _ = stream.shutdown(Shutdown::Both);
    }
    let ws = connect(&server);
    ws.send("hello").unwrap();
    assert_eq!(ws.recv().unwrap(), Some("hello".into()));
    wait_until(|| server.statistics().failed == 20);
}

/// In a process of its own, which may open few files.
#[cfg(target_os = "linux")]
#[test]
fn a_process_without_descriptors_serves_again_when_it_has_some() {
    let program = std::env::current_exe().unwrap();
    let name = "server::a_process_without_descriptors_in_this_process";
    let run = "ulimit -n 60 && exec \"$0\" --exact --ignored \"$1\"";
    let output = std::process::Command::new("sh").args(["-c", run]).arg(program).arg(name).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by a_process_without_descriptors_serves_again_when_it_has_some"]
fn a_process_without_descriptors_in_this_process() {
    bounded(|| {
        let server = server().spawn(echo).unwrap();
        let address = server.local_addr().unwrap();
        let mut silent_ones = Vec::new();
        while let Ok(stream) = TcpStream::connect(address) {
            silent_ones.push(stream);
        }
        // The listener fails now, and the server pauses. The places of those who are gone are free again.
        drop(silent_ones);
        wait_until(|| options().connect(url(&server)).is_ok_and(|ws| ws.send("hello").is_ok() && ws.recv().is_ok()));
    });
}

/// A certificate is replaced while the server runs: new clients get it, and who is connected stays.
#[cfg(target_os = "linux")]
#[test]
fn certificates_can_be_replaced() {
    use crate::support::tls;
    use std::sync::Arc;

    bounded(|| {
        let current = Arc::new(Mutex::new(Some(tls::native_acceptor())));
        let shared = Arc::clone(&current);
        let accept = AcceptOptions::new().tls_with(move || {
            let tls = shared.lock().unwrap().clone();
            tls.expect("a certificate")
        });
        let server = server().options(accept).spawn(echo).unwrap();
        let url = format!("wss://localhost:{}/", server.local_addr().unwrap().port());
        let connect = || options().tls(tls::connector()).connect(&url);
        let first = connect().unwrap();
        *current.lock().unwrap() = Some(tls::native_acceptor_as(&tls::WRONG_HOST));
        assert_eq!(connect().unwrap_err().kind(), ErrorKind::Tls);
        *current.lock().unwrap() = None;
        connect().unwrap_err();
        wait_until(|| server.statistics().panicked == 1);
        *current.lock().unwrap() = Some(tls::native_acceptor());
        for ws in [first, connect().unwrap()] {
            ws.send("hello").unwrap();
            assert_eq!(ws.recv().unwrap(), Some("hello".into()));
        }
        server.shutdown(LONG);
    });
}
