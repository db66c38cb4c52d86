//! The server's side of the opening handshake (RFC 6455 §4.2): TLS, request, answer, one straight line.

pub(crate) mod acceptance;
pub(crate) mod connections;
pub(crate) mod listener;
pub(crate) mod options;
pub(crate) mod upgraded;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::compression::Compression;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::{self, Negotiated};
use crate::http::{HeadParser, Request, Response, clip};
use crate::memory_limit::MemoryShare;
use crate::protocol::Role;
use crate::transport::{Stream, Transport, accept_tls};
use crate::upgrade::Upgrade;
use crate::websocket::{HandshakeInfo, WebSocket};
use acceptance::Acceptance;
use options::AcceptOptions;
use upgraded::Upgraded;

impl WebSocket {
    /// Accepts a connection as a server: reads the request, checks it (RFC 6455 §4.2) and answers. Blocks, at most 30
    /// seconds. [`AcceptOptions`] has more to choose.
    ///
    /// ```no_run
    /// use wsync::WebSocket;
    ///
    /// for stream in std::net::TcpListener::bind("127.0.0.1:9001")?.incoming() {
    ///     let stream = stream?;
    ///     std::thread::spawn(move || -> wsync::Result<()> {
    ///         let ws = WebSocket::accept(stream)?;
    ///         while let Some(message) = ws.recv()? {
    ///             ws.send(&message)?;
    ///         }
    ///         Ok(())
    ///     });
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`AcceptOptions::accept`].
    pub fn accept(stream: impl Into<Stream>) -> Result<WebSocket> {
        AcceptOptions::new().accept(stream)
    }

    /// Takes over a stream on which somebody else did the opening handshake, such as an HTTP server: a builder for what was
    /// agreed, and for bounds.
    ///
    /// ```
    /// use wsync::{Role, Stream, WebSocket};
    ///
    /// let (stream, _client) = Stream::pair();
    /// let ws = WebSocket::upgraded(stream, Role::Server).protocol("v1.chat").open()?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn upgraded(stream: impl Into<Stream>, role: Role) -> Upgraded {
        Upgraded::new(stream.into(), role)
    }

    /// The short form of [`upgraded`](WebSocket::upgraded). `compression` is what was agreed: [`Compression::off`], or on
    /// with exactly the parameters of the answer.
    ///
    /// ```
    /// use wsync::{Compression, Role, Stream, WebSocket};
    ///
    /// let (stream, _client) = Stream::pair();
    /// let ws = WebSocket::from_upgraded(stream, Role::Server, Some("v1.chat"), Compression::off())?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Upgraded::open`].
    pub fn from_upgraded(
        stream: impl Into<Stream>,
        role: Role,
        protocol: Option<&str>,
        compression: Compression,
    ) -> Result<WebSocket> {
        let upgraded = WebSocket::upgraded(stream, role).compression(compression);
        match protocol {
            Some(protocol) => upgraded.protocol(protocol).open(),
            None => upgraded.open(),
        }
    }
}

/// What became of a stream.
pub(crate) enum Accepted {
    WebSocket(WebSocket),
    /// It asked for no WebSocket, and the program's `on_http` has answered.
    Answered(Response),
}

/// What a [`Server`](crate::Server) has to do with the handshake of one client.
#[derive(Default)]
pub(crate) struct Admission<'a> {
    memory: Option<MemoryShare>,
    /// Asked before the 101 is sent: from then on the connection counts as open.
    may_open: Option<&'a dyn Fn() -> bool>,
}

/// All of [`AcceptOptions::accept`].
fn accept(options: &AcceptOptions, stream: Stream) -> Result<WebSocket> {
    match accept_or_answer(options, stream, Admission::default())? {
        Accepted::WebSocket(ws) => Ok(ws),
        Accepted::Answered(response) => {
            let text = format!("the request asked for no WebSocket; on_http answered with {}", response.status());
            Err(Error::with_response(ErrorKind::Handshake, text, response))
        }
    }
}

fn accept_or_answer(options: &AcceptOptions, stream: Stream, admission: Admission<'_>) -> Result<Accepted> {
    options.check()?;
    let deadline = Deadline::after("accept_timeout", options.accept_timeout);
    let mut upgrade = Upgrade::new(open(options, stream, &deadline)?, Role::Server, "the client");
    let Admission { memory, may_open } = admission;
    if let Some(memory) = memory {
        upgrade.count_memory(memory);
    }
    let request = match read_request(options, &mut upgrade, &deadline)? {
        Ask::Upgrade(request) => request,
        Ask::Plain(request) => return answer(options, upgrade, &request, &deadline).map(Accepted::Answered),
        Ask::Wrong(response) => return Err(refuse(upgrade, ErrorKind::Handshake, response, &deadline)?),
    };
    let (upgrade, decision) = ask_program(upgrade, &deadline, || options.decide(&request));
    match decision {
        Ok(acceptance) => agree(options, upgrade, request, acceptance, may_open, &deadline).map(Accepted::WebSocket),
        Err(response) => match handshake::check_response(&response) {
            Ok(()) => Err(refuse(upgrade, ErrorKind::Refused, response, &deadline)?),
            Err(error) => Err(fail(upgrade, &error, &deadline)),
        },
    }
}

/// Calls a hook of the program, with no lock held: it may use any part of this crate. If it panics, the client is answered with
/// 500, and the panic goes on.
fn ask_program<T>(upgrade: Upgrade, deadline: &Deadline, ask: impl FnOnce() -> T) -> (Upgrade, T) {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(answer) => (upgrade, answer),
        Err(panic) => {
            let _ = send_response(upgrade, internal_error(), true, deadline);
            resume_unwind(panic)
        }
    }
}

/// Answers a request that asks for no WebSocket.
fn answer(options: &AcceptOptions, upgrade: Upgrade, request: &Request, deadline: &Deadline) -> Result<Response> {
    let (upgrade, response) = ask_program(upgrade, deadline, || options.answer(request));
    let response = response.unwrap_or_else(internal_error);
    if let Err(error) = handshake::check_response(&response) {
        return Err(fail(upgrade, &error, deadline));
    }
    log::debug!("answered {} {} with {}", request.method(), request.path(), response.status());
    send_response(upgrade, response, request.method() != "HEAD", deadline)
}

/// TLS where the options have it.
fn open(options: &AcceptOptions, stream: Stream, deadline: &Deadline) -> Result<Transport> {
    match &options.tls {
        Some(tls) => accept_tls(&tls.current(), stream, deadline),
        None => Transport::plain(stream).map_err(unusable),
    }
}

/// What a client asks for.
enum Ask {
    Upgrade(Request),
    /// No WebSocket, and the program answers that.
    Plain(Request),
    /// It is no correct upgrade; with the response to that.
    Wrong(Response),
}

fn read_request(options: &AcceptOptions, upgrade: &mut Upgrade, deadline: &Deadline) -> Result<Ask> {
    let head = match upgrade.read_head(&mut HeadParser::request(), deadline) {
        // Bytes that are not HTTP get an answer that says what is wrong, if the client can still read it.
        Err(error) if error.kind() == ErrorKind::Handshake && !upgrade.has_ended() => {
            return Ok(Ask::Wrong(Response::new(400).body(error.to_string()).into()));
        }
        read => read?,
    };
    if head.headers.announce_body() {
        upgrade.expect_body();
    }
    let peer_addr = upgrade.peer_addr();
    let plain = if options.has_answers() { handshake::plain_request(&head) } else { None };
    if let Some(request) = plain {
        return Ok(Ask::Plain(request.with_peer_addr(peer_addr)));
    }
    Ok(match handshake::check_request(head) {
        Ok(request) => Ask::Upgrade(request.with_peer_addr(peer_addr)),
        Err(response) => Ask::Wrong(response.into()),
    })
}

/// Answers with a 101.
fn agree(
    options: &AcceptOptions,
    mut upgrade: Upgrade,
    request: Request,
    acceptance: Acceptance,
    may_open: Option<&dyn Fn() -> bool>,
    deadline: &Deadline,
) -> Result<WebSocket> {
    if let Err(error) = check_acceptance(&acceptance, &request) {
        return Err(fail(upgrade, &error, deadline));
    }
    let Acceptance { headers, protocol, data } = acceptance;
    warn_of_ignored(&headers);
    let mut negotiated = handshake::accept(&request, &options.protocols, &options.compression);
    negotiated.protocol = protocol.or(negotiated.protocol);
    if !may_open.is_none_or(|may_open| may_open()) {
        let text = "the handshake was cut: another client needed its place, or the server stops";
        return Err(Error::new(ErrorKind::Closed, text));
    }
    upgrade.write(&handshake::write_accept(&request, &negotiated, &headers), deadline)?;
    log::debug!("accepted {} ({})", request.path(), negotiated.extensions);
    let connection = upgrade.into_connection(&negotiated, &options.compression, options.bounds.clone());
    let Negotiated { protocol, extensions, .. } = negotiated;
    let info = HandshakeInfo { protocol, extensions, request: Some(request), data, ..HandshakeInfo::default() };
    let ws = WebSocket::new(connection, info);
    ws.allow_eviction();
    Ok(ws)
}

/// Logs the names of the program's headers that the handshake sets itself: they are not sent.
fn warn_of_ignored(headers: &[(String, String)]) {
    let ignored: Vec<&str> =
        headers.iter().map(|(name, _)| name.as_str()).filter(|name| handshake::is_controlled(name)).collect();
    if !ignored.is_empty() {
        log::warn!("ignored headers that the handshake sets itself: {}", ignored.join(", "));
    }
}

/// Refuses what cannot be in a 101 to this request.
fn check_acceptance(acceptance: &Acceptance, request: &Request) -> Result<()> {
    for (name, value) in &acceptance.headers {
        handshake::check_header(name, value)?;
    }
    match &acceptance.protocol {
        Some(chosen) if !request.protocols().any(|offered| offered == chosen) => {
            let text = format!("the subprotocol {} was chosen, which the client does not offer", clip(chosen));
            Err(Error::new(ErrorKind::InvalidInput, text))
        }
        _ => Ok(()),
    }
}

/// Sends the response and ends the stream; returns the error for the caller.
fn refuse(upgrade: Upgrade, kind: ErrorKind, response: Response, deadline: &Deadline) -> Result<Error> {
    let response = send_response(upgrade, response, true, deadline)?;
    let text = format!("the request was refused with {}{}", response.status(), first_line(&response));
    log::debug!("{text}");
    Ok(Error::with_response(kind, text, response))
}

/// The first line of the body for an error's text, at most 200 characters of it.
fn first_line(response: &Response) -> String {
    let body = response.text();
    match body.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!(": {}", line.chars().filter(|c| !c.is_control()).take(200).collect::<String>()),
        None => String::new(),
    }
}

/// Answers with 500, because the program's decision cannot be sent; returns the error that says so.
fn fail(upgrade: Upgrade, error: &Error, deadline: &Deadline) -> Error {
    let text = format!("the request was answered with 500: {error}");
    log::warn!("{text}");
    // The caller gets `error`, which must be fixed, also when the 500 does not reach the client.
    let response = send_response(upgrade, internal_error(), true, deadline).unwrap_or_else(|_| internal_error());
    Error::with_response(error.kind(), text, response)
}

fn internal_error() -> Response {
    Response::new(500).into()
}

/// Sends a response, after which the stream ends; returns what was sent.
fn send_response(mut upgrade: Upgrade, response: Response, with_body: bool, deadline: &Deadline) -> Result<Response> {
    let response = response.closing();
    upgrade.write(&response.to_bytes_for(with_body), deadline)?;
    upgrade.end(deadline);
    Ok(response)
}

fn unusable(error: std::io::Error) -> Error {
    Error::caused(ErrorKind::Io, "the stream is not usable", error)
}

#[cfg(test)]
mod tests;
