//! A terminal for WebSockets: lines from stdin go out while messages come in on stdout.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use lexopt::{Arg, ValueExt};
use wsync::native_tls::{Certificate, Identity, TlsConnector};
use wsync::{CloseCode, Compression, ConnectOptions, ErrorKind, Message, Proxy, WebSocket};

const HELP: &str = "\
Connects to a WebSocket server. Each line of stdin goes out as a message, each message that comes in is printed as a
line: text as it is, binary as \"[3 bytes] 01 02 03\". When stdin ends, the connection is closed; what the server still
has on its way is printed. Only messages go to stdout, everything else to stderr.

Usage: wscat [OPTIONS] URL

  -H, --header 'NAME: VALUE'     add a header to the request; may be repeated
  -p, --protocol NAME            offer a subprotocol; may be repeated, the most wanted first
      --no-compression           do not offer permessage-deflate
      --insecure                 take any certificate, for any host
      --cacert FILE              trust the certificates in this PEM file, too
      --cert FILE --key FILE     show this certificate chain; the key is PKCS#8 (BEGIN PRIVATE KEY); PEM files
      --proxy URL                http://, socks5:// or socks5h://, with user:password@ if it wants them
      --no-proxy                 connect directly, whatever the environment says
      --resolve HOST:PORT:ADDR   connect to ADDR, port PORT, when HOST is the host; may be repeated
      --timeout SECONDS          give up connecting after this long (default: 30)
      --ping SECONDS             send a ping this long after the last pong, and give up when no pong comes as long
      --binary                   lines go out as binary messages; binary messages come to stdout as bare bytes
      --close-code N             close with this code (default: 1000)
  -v, --verbose                  tell each stage with its time
  -h, --help                     this text

Exit codes:
  0  closed by a close frame, whatever its code and whoever began, or nobody reads stdout any more
  1  no connection: the name, TCP, the proxy, TLS, the server's answer or the time for it
  2  wrong usage: an option, a file, the URL
  3  the connection was lost, a side broke the protocol, or the close was not answered
  4  stdin or stdout failed";

fn main() {
    let options = Options::parse().unwrap_or_else(|error| exit(2, &format!("{error} (--help shows the usage)")));
    if options.verbose {
        Trace::start();
    }
    let ws = options.connect.connect(&options.url).unwrap_or_else(|error| match error.kind() {
        ErrorKind::Url | ErrorKind::InvalidInput => exit(2, &error.to_string()),
        _ => {
            show_body(&error);
            exit(1, &error.to_string())
        }
    });
    if options.verbose {
        log::debug!(target: "wscat", "subprotocol {:?}, extensions {:?}", ws.protocol(), ws.extensions());
    } else if io::stdin().is_terminal() {
        eprintln!("wscat: connected; Ctrl-D closes");
    }

    let (binary, close_code) = (options.binary, options.close_code);
    let is_closing = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let (ws, is_closing) = (ws.clone(), is_closing.clone());
        move || send_lines(&ws, binary, close_code, &is_closing)
    });
    print_messages(&ws, binary, close_code);
    // Unless the server has closed first: then the sender still waits for a line.
    if is_closing.load(Ordering::SeqCst) {
        sender.join().expect("the sender does not panic");
    }
    let (code, reason) = (ws.close_code().unwrap_or(close_code), ws.close_reason().unwrap_or_default());
    if code == CloseCode::ABNORMAL_CLOSURE {
        exit(3, "the server ended the connection without a close frame");
    }
    if options.verbose || code != close_code || !reason.is_empty() {
        eprintln!("wscat: closed with {code}{}{reason}", if reason.is_empty() { "" } else { ": " });
    }
}

fn exit(code: i32, text: &str) -> ! {
    eprintln!("wscat: {text}");
    process::exit(code)
}

/// Sends stdin line by line, and closes when it ends; the receiving thread sees whatever else happens.
fn send_lines(ws: &WebSocket, binary: bool, code: CloseCode, is_closing: &AtomicBool) {
    let mut input = io::stdin().lock();
    for number in 1.. {
        let mut line = Vec::new();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => exit(4, &format!("cannot read stdin: {error}")),
        }
        if line.ends_with(b"\n") {
            line.truncate(line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 });
        }
        let message = match binary {
            true => Message::Binary(line),
            false => String::from_utf8(line)
                .map(Message::Text)
                .unwrap_or_else(|_| exit(4, &format!("line {number} of stdin is not UTF-8; --binary sends any bytes"))),
        };
        match ws.send(&message) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => exit(3, &error.to_string()),
        }
    }
    is_closing.store(true, Ordering::SeqCst);
    if let Err(error) = ws.close(code, "") {
        exit(3, &error.to_string());
    }
}

/// Prints messages until the connection has ended.
fn print_messages(ws: &WebSocket, binary: bool, close_code: CloseCode) {
    for message in ws.messages() {
        let message = message.unwrap_or_else(|error| exit(3, &error.to_string()));
        match print(&message, binary) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                let _ = ws.close(close_code, "");
                process::exit(0);
            }
            Err(error) => exit(4, &format!("cannot write to stdout: {error}")),
        }
    }
}

fn print(message: &Message, binary: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match message {
        Message::Text(text) => writeln!(output, "{text}")?,
        Message::Binary(bytes) if binary => output.write_all(bytes)?,
        Message::Binary(bytes) => {
            let mut hex = String::with_capacity(3 * bytes.len());
            for byte in bytes {
                let _ = write!(hex, " {byte:02x}");
            }
            writeln!(output, "[{} bytes]{hex}", bytes.len())?;
        }
    }
    output.flush()
}

/// What a server has to say about its refusal mostly stands in the body.
fn show_body(error: &wsync::Error) {
    if let Some(response) = error.response() {
        let body = String::from_utf8_lossy(response.body());
        for line in body.lines().take(20) {
            eprintln!("wscat: | {}", line.replace(|c: char| c.is_control() && c != '\t', "?"));
        }
    }
}

struct Options {
    url: String,
    connect: ConnectOptions,
    binary: bool,
    close_code: CloseCode,
    verbose: bool,
}

impl Options {
    fn parse() -> Result<Options, lexopt::Error> {
        let mut url = None;
        let mut connect = WebSocket::options();
        let (mut binary, mut verbose) = (false, false);
        let mut close_code = CloseCode::NORMAL;
        let mut protocols: Vec<String> = Vec::new();
        let mut tls = Tls::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('H') | Arg::Long("header") => {
                    let header = parser.value()?.string()?;
                    let (name, value) = header.split_once(':').ok_or("--header wants 'NAME: VALUE'")?;
                    connect = connect.header(name, value.trim());
                }
                Arg::Short('p') | Arg::Long("protocol") => protocols.push(parser.value()?.string()?),
                Arg::Long("no-compression") => connect = connect.compression(Compression::off()),
                Arg::Long("insecure") => tls.is_insecure = true,
                Arg::Long("cacert") => tls.roots = Some(read(parser.value()?)?),
                Arg::Long("cert") => tls.certificates = Some(read(parser.value()?)?),
                Arg::Long("key") => tls.key = Some(read(parser.value()?)?),
                Arg::Long("proxy") => {
                    let proxy = Proxy::new(&parser.value()?.string()?).map_err(|error| error.to_string())?;
                    connect = connect.proxy(proxy);
                }
                Arg::Long("no-proxy") => connect = connect.no_proxy(),
                Arg::Long("resolve") => {
                    let (host, address) = parser.value()?.parse_with(host_and_address)?;
                    connect = connect.resolve(&host, [address]);
                }
                Arg::Long("timeout") => connect = connect.connect_timeout(Some(parser.value()?.parse_with(seconds)?)),
                Arg::Long("ping") => connect = connect.ping_interval(Some(parser.value()?.parse_with(seconds)?)),
                Arg::Long("binary") => binary = true,
                Arg::Long("close-code") => close_code = parser.value()?.parse_with(sendable_code)?,
                Arg::Short('v') | Arg::Long("verbose") => verbose = true,
                Arg::Short('h') | Arg::Long("help") => {
                    println!("{HELP}");
                    process::exit(0);
                }
                Arg::Value(value) if url.is_none() => url = Some(value.string()?),
                other => return Err(other.unexpected()),
            }
        }
        connect = connect.protocols(protocols);
        if let Some(connector) = tls.connector()? {
            connect = connect.tls(connector);
        }
        Ok(Options { url: url.ok_or("the URL is missing")?, connect, binary, close_code, verbose })
    }
}

fn read(path: std::ffi::OsString) -> Result<Vec<u8>, String> {
    fs::read(&path).map_err(|error| format!("cannot read {path:?}: {error}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn sendable_code(text: &str) -> Result<CloseCode, String> {
    let code = text.parse::<u16>().map(CloseCode::from).ok().filter(|code| code.is_sendable());
    code.ok_or_else(|| "use 1000 to 1003, 1007 to 1014, or 3000 to 4999".into())
}

fn host_and_address(text: &str) -> Result<(String, SocketAddr), String> {
    let parse = || {
        let (host, rest) = text.split_once(':')?;
        let (port, address) = rest.split_once(':')?;
        let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some((host.to_string(), SocketAddr::new(address, port.parse().ok()?)))
    };
    parse().ok_or_else(|| "it must be HOST:PORT:ADDR, with an IP address".into())
}

#[derive(Default)]
struct Tls {
    is_insecure: bool,
    roots: Option<Vec<u8>>,
    certificates: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl Tls {
    /// `None` when the default settings will do.
    fn connector(self) -> Result<Option<TlsConnector>, String> {
        let mut builder = TlsConnector::builder();
        let mut is_default = true;
        if self.is_insecure {
            builder.danger_accept_invalid_certs(true).danger_accept_invalid_hostnames(true);
            is_default = false;
        }
        if let Some(roots) = self.roots {
            let roots = Certificate::stack_from_pem(&roots).map_err(|error| format!("--cacert: {error}"))?;
            if roots.is_empty() {
                return Err("--cacert: there is no PEM certificate in it".into());
            }
            for root in roots {
                builder.add_root_certificate(root);
            }
            is_default = false;
        }
        match (self.certificates, self.key) {
            (None, None) => {}
            (Some(certificates), Some(key)) => {
                let identity = Identity::from_pkcs8(&certificates, &key);
                builder.identity(identity.map_err(|error| format!("--cert and --key: {error}"))?);
                is_default = false;
            }
            _ => return Err("--cert and --key go together".into()),
        }
        if is_default {
            return Ok(None);
        }
        builder.build().map(Some).map_err(|error| format!("TLS cannot be set up: {error}"))
    }
}

/// Prints what the crate logs, with the time since the start.
struct Trace(Instant);

impl Trace {
    fn start() {
        log::set_logger(Box::leak(Box::new(Trace(Instant::now())))).expect("there is no other logger");
        log::set_max_level(log::LevelFilter::Debug);
    }
}

impl log::Log for Trace {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        matches!(metadata.target().split("::").next(), Some("wsync" | "wscat"))
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("wscat: {:9.3} ms  {}", self.0.elapsed().as_secs_f64() * 1000.0, record.args());
        }
    }

    fn flush(&self) {}
}
