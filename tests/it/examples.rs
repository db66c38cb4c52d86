//! The examples: `echo` runs, `server --chat` forwards messages, `wscat` works in a pipe and exits as `--help` says.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use wsync::{AcceptOptions, CloseCode, WebSocket};

/// The command that runs this example.
fn example(name: &str) -> Command {
    static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(build_examples);
    Command::new(DIRECTORY.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// Builds the examples into the target directory of this test, and returns their directory. Plain `cargo test` has built
/// them already, but `cargo test --tests` and `cargo test --test it` have not. Where no cargo runs (under Wine),
/// `WSYNC_EXAMPLES` is the directory.
fn build_examples() -> PathBuf {
    if let Some(directory) = std::env::var_os("WSYNC_EXAMPLES") {
        return directory.into();
    }
    // TARGET/PROFILE/deps/it-HASH
    let test = std::env::current_exe().unwrap();
    let output = test.ancestors().nth(2).unwrap();
    let profile = match output.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--examples", "--profile", profile, "--target-dir"]).arg(output.parent().unwrap());
    if cfg!(feature = "vendored") {
        cargo.args(["--features", "vendored"]);
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    let status = status.unwrap_or_else(|error| panic!("these tests run the examples, but cannot build them: {error}"));
    assert!(status.success(), "these tests run the examples, but `cargo build --examples` failed");
    output.join("examples")
}

fn wscat(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut wscat = example("wscat");
    wscat.arg("--no-proxy").args(arguments);
    let mut child = wscat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Fails if it has already exited. Then the caller sees its exit code.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The URL of a server that accepts one connection and runs this function with it.
fn server(serve: impl FnOnce(WebSocket) -> wsync::Result<()> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || serve(WebSocket::accept(listener.accept().unwrap().0)?));
    url
}

fn echo(ws: WebSocket) -> wsync::Result<()> {
    while let Some(message) = ws.recv()? {
        ws.send(&message)?;
    }
    Ok(())
}

#[test]
fn echo_runs_to_its_end() {
    let output = example("echo").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("closed with 1000"));
}

/// A feed that breaks once, and a token that is refused once.
fn serve_feed(listener: &TcpListener, token_file: &std::path::Path) -> wsync::Result<()> {
    let accept = |after: &'static str, token: &'static str| {
        let check = move |request: &wsync::Request| {
            assert_eq!(request.query("after").as_deref(), Some(after));
            if request.header("Authorization") == Some(token) {
                Ok(Default::default())
            } else {
                Err(wsync::Response::new(401))
            }
        };
        AcceptOptions::new().on_request(check).accept(listener.accept().unwrap().0)
    };
    let ws = accept("0", "Bearer old")?;
    assert_eq!(ws.recv()?, Some("subscribe".into()));
    ws.send_all(["1 one", "2 two"])?;
    ws.close(CloseCode::SERVICE_RESTART, "")?;
    assert_eq!(accept("2", "Bearer new").unwrap_err().status(), Some(401));
    std::fs::write(token_file, "new\n").unwrap();
    let ws = accept("2", "Bearer new")?;
    assert_eq!(ws.recv()?, Some("subscribe".into()));
    ws.send("3 three")?;
    ws.close(CloseCode::NORMAL, "")
}

#[test]
fn a_feed_is_resumed_with_a_fresh_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let token_file = std::env::temp_dir().join(format!("wsync-feed-{}", std::process::id()));
    std::fs::write(&token_file, "old\n").unwrap();
    let mut feed = example("feed");
    feed.arg(&url).env("TOKEN_FILE", &token_file).env("no_proxy", "*").stderr(Stdio::null());
    let feed = thread::spawn(move || feed.output().unwrap());
    serve_feed(&listener, &token_file).unwrap();
    let output = feed.join().unwrap();
    std::fs::remove_file(token_file).unwrap();
    assert_eq!((output.status.success(), output.stdout.as_slice()), (true, &b"one\ntwo\nthree\n"[..]));
}

#[test]
fn the_chat_server_forwards_to_all_but_the_sender() {
    let mut server = example("server");
    server.args(["--chat", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let connect = || WebSocket::options().no_proxy().connect(line.trim().strip_prefix("listening at ").unwrap());
    let (one, other) = (connect().unwrap(), connect().unwrap());
    // A connection whose messages are forwarded has joined the chat.
    let has_joined = |from: &WebSocket, to: &WebSocket| {
        (0..200).any(|_| {
            from.send("are you there?").unwrap();
            to.recv_timeout(Duration::from_millis(50)).is_ok()
        })
    };
    assert!(has_joined(&one, &other) && has_joined(&other, &one));
    one.send("from one").unwrap();
    other.send("from the other").unwrap();
    let last = |ws: &WebSocket| ws.messages().map(|message| message.unwrap()).find(|m| *m != "are you there?".into());
    assert_eq!(last(&one), Some("from the other".into()));
    assert_eq!(last(&other), Some("from one".into()));
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn wscat_sends_lines_and_prints_messages() {
    let lines: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(wscat(&[&server(echo)], lines.as_bytes()), (0, lines, String::new()));
    let hex = wscat(&["--binary", &server(echo)], b"\xc3\xa4b\r\n");
    assert_eq!(hex, (0, "äb".into(), String::new()));
}

#[test]
fn wscat_prints_binary_messages_in_hex() {
    let url = server(|ws| {
        ws.send(&[0, 255])?;
        ws.close(CloseCode::NORMAL, "")
    });
    assert_eq!(wscat(&[&url], b""), (0, "[2 bytes] 00 ff\n".into(), String::new()));
}

#[test]
fn the_exit_code_of_wscat_tells_how_the_connection_ended() {
    let busy = server(|ws| ws.close(CloseCode::INTERNAL_ERROR, "busy"));
    let (code, _, stderr) = wscat(&[&busy], b"");
    assert_eq!((code, stderr.as_str()), (0, "wscat: closed with 1011 internal error: busy\n"));

    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(wscat(&[&format!("ws://{unused}/")], b"").0, 1);

    for wrong in [&[][..], &["http://localhost/"], &["--close-code", "1006", "ws://localhost/"], &["--bogus"]] {
        assert_eq!(wscat(wrong, b"").0, 2, "{wrong:?}");
    }

    let lost = server(|ws| {
        ws.recv()?;
        ws.abort();
        Ok(())
    });
    assert_eq!(wscat(&[&lost], b"hello\n").0, 3);

    let (code, _, stderr) = wscat(&[&server(echo)], b"\xff\n");
    assert_eq!(code, 4);
    assert!(stderr.contains("line 1 of stdin is not UTF-8"), "{stderr}");
}
