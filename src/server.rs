//! The server's side of the opening handshake (RFC 6455 §4.2): TLS, request, answer, one straight line.

pub(crate) mod options;

use crate::compression::Compression;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::{self, Negotiated, Refusal};
use crate::http::{HeadParser, Request};
use crate::protocol::Role;
use crate::transport::{ReadState, Stream, Transport, WriteState, accept_tls};
use crate::upgrade::Upgrade;
use crate::websocket::{HandshakeInfo, WebSocket};
use options::AcceptOptions;

/// Headers that the program adds to the 101.
type ExtraHeaders = Vec<(String, String)>;

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

    /// Takes over a stream on which somebody else did the opening handshake, such as an HTTP server. `compression` is
    /// what was agreed: [`Compression::off`], or on with exactly the parameters of the answer.
    /// [`AcceptOptions::from_upgraded`] sets bounds, and takes what was read of the stream already.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a subprotocol or compression that cannot be, [`Io`](ErrorKind::Io) for a stream
    /// that is not usable.
    pub fn from_upgraded(
        stream: impl Into<Stream>,
        role: Role,
        protocol: Option<&str>,
        compression: Compression,
    ) -> Result<WebSocket> {
        AcceptOptions::new().compression(compression).from_upgraded(stream, role, protocol, &[])
    }
}

/// All of [`AcceptOptions::accept`].
fn accept(options: &AcceptOptions, stream: Stream) -> Result<WebSocket> {
    options.check()?;
    let deadline = Deadline::after("accept_timeout", options.accept_timeout);
    let mut upgrade = Upgrade::new(open(options, stream, &deadline)?, Role::Server, "the client");
    match read_request(options, &mut upgrade, &deadline) {
        Ok((request, extra)) => agree(options, upgrade, request, &extra, &deadline),
        Err(AcceptError::Refused(refusal)) => Err(refuse(upgrade, &refusal, &deadline)?),
        Err(AcceptError::Failed(error)) => Err(error),
    }
}

/// TLS where the options have it.
fn open(options: &AcceptOptions, stream: Stream, deadline: &Deadline) -> Result<Transport> {
    match &options.tls {
        Some(acceptor) => accept_tls(acceptor, stream, deadline),
        None => Transport::plain(stream).map_err(unusable),
    }
}

/// The request, and the headers to add to its answer.
fn read_request(
    options: &AcceptOptions,
    upgrade: &mut Upgrade,
    deadline: &Deadline,
) -> Result<(Request, ExtraHeaders), AcceptError> {
    let head = match upgrade.read_head(&mut HeadParser::request(), deadline) {
        // Bytes that are not HTTP get an answer that says what is wrong, if the client can still read it.
        Err(error) if error.kind() == ErrorKind::Handshake && !upgrade.has_ended() => {
            return Err(Refusal::new(400, error.to_string()).into());
        }
        read => read?,
    };
    let request = handshake::check_request(head)?;
    let extra = match &options.inspect {
        Some(decide) => decide(&request)?,
        None => Vec::new(),
    };
    for (name, value) in &extra {
        handshake::check_header(name, value)?;
    }
    Ok((request, extra))
}

/// Answers with a 101.
fn agree(
    options: &AcceptOptions,
    mut upgrade: Upgrade,
    request: Request,
    extra: &[(String, String)],
    deadline: &Deadline,
) -> Result<WebSocket> {
    let negotiated = handshake::accept(&request, &options.protocols, &options.compression);
    upgrade.write(&handshake::write_accept(&request, &negotiated, extra), deadline)?;
    log::debug!("accepted {} ({})", request.path(), negotiated.extensions);
    let connection = upgrade.into_connection(&negotiated, &options.compression, options.bounds.clone());
    let Negotiated { protocol, extensions, .. } = negotiated;
    let info = HandshakeInfo { protocol, extensions, request: Some(request), ..HandshakeInfo::default() };
    Ok(WebSocket::new(connection, info))
}

/// Answers with the refusal and ends the stream; returns the error for the caller.
fn refuse(mut upgrade: Upgrade, refusal: &Refusal, deadline: &Deadline) -> Result<Error> {
    refusal.check()?;
    let text = format!("the request was refused with {}: {}", refusal.status(), refusal.reason());
    log::debug!("{text}");
    upgrade.write(&handshake::write_refusal(refusal), deadline)?;
    upgrade.end(deadline);
    Ok(Error::new(ErrorKind::Handshake, text))
}

/// All of [`AcceptOptions::from_upgraded`].
fn from_upgraded(
    options: &AcceptOptions,
    stream: Stream,
    role: Role,
    protocol: Option<&str>,
    read: &[u8],
) -> Result<WebSocket> {
    options.compression.check(role)?;
    options.check_bounds()?;
    let protocol: Option<String> = protocol.map(Into::into);
    handshake::check_protocols(protocol.as_slice())?;
    let deflate = options.compression.parameters();
    let transport = Transport::plain(stream).map_err(unusable)?;
    let mut incoming = ReadState::default();
    incoming.plain.push(read);
    let connection = Connection::new(
        transport,
        incoming,
        WriteState::default(),
        role,
        deflate,
        &options.compression,
        options.bounds.clone(),
    );
    let extensions = deflate.as_ref().map(handshake::describe_extensions).unwrap_or_default();
    Ok(WebSocket::new(connection, HandshakeInfo { protocol, extensions, ..HandshakeInfo::default() }))
}

/// Why accepting ends without a connection.
enum AcceptError {
    /// The client is told.
    Refused(Refusal),
    Failed(Error),
}

impl From<Refusal> for AcceptError {
    fn from(refusal: Refusal) -> AcceptError {
        AcceptError::Refused(refusal)
    }
}

impl From<Error> for AcceptError {
    fn from(error: Error) -> AcceptError {
        AcceptError::Failed(error)
    }
}

fn unusable(error: std::io::Error) -> Error {
    Error::caused(ErrorKind::Io, "the stream is not usable", error)
}
