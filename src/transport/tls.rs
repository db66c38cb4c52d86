//! TLS by native-tls over memory, so that one thread can wait for the socket while another encrypts.
//!
//! During the TLS handshake native-tls reads and writes the socket itself (over memory, the alert of a failed certificate
//! check would be lost). Afterwards it works on memory: [`Engine`] feeds it encrypted bytes and collects what it writes.

mod engine;
mod engine_io;
mod hint;

use crate::sync::OnceLock;
use std::fmt;
use std::io;

use native_tls::{HandshakeError, TlsAcceptor, TlsConnector, TlsStream};

use super::deadline_stream::DeadlineStream;
use super::stream::Stream;
use super::wait::Socket;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, AtomicBool, Ordering};
pub(super) use engine::Engine;
use engine_io::EngineIo;

/// TLS settings of a client, for [`ConnectOptions::tls`](crate::ConnectOptions::tls): private roots, a client certificate,
/// versions. With the feature `native-tls`, which is on by default, it is made of a `wsync::native_tls::TlsConnector`.
///
/// ```
/// use wsync::native_tls::{Protocol, TlsConnector};
///
/// let connector = TlsConnector::builder().min_protocol_version(Some(Protocol::Tlsv12)).build()?;
/// let options = wsync::WebSocket::options().tls(connector);
/// # Ok::<(), wsync::native_tls::Error>(())
/// ```
#[derive(Clone)]
pub struct TlsClient(TlsConnector);

/// TLS settings of a server, for [`AcceptOptions::tls`](crate::AcceptOptions::tls): its certificate and key, versions. With
/// the feature `native-tls`, which is on by default, it is made of a `wsync::native_tls::TlsAcceptor`.
///
/// ```no_run
/// use wsync::native_tls::{Identity, TlsAcceptor};
///
/// let identity = Identity::from_pkcs8(&std::fs::read("cert.pem")?, &std::fs::read("key.pem")?)?;
/// let options = wsync::AcceptOptions::new().tls(TlsAcceptor::new(identity)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TlsServer(TlsAcceptor);

impl From<TlsConnector> for TlsClient {
    fn from(connector: TlsConnector) -> TlsClient {
        TlsClient(connector)
    }
}

impl From<TlsAcceptor> for TlsServer {
    fn from(acceptor: TlsAcceptor) -> TlsServer {
        TlsServer(acceptor)
    }
}

impl TlsClient {
    /// Whether `wss` can be connected to. Without the feature it cannot.
    pub(crate) fn check_available() -> Result<()> {
        Ok(())
    }

    /// The default settings. They are made once for the process: making them reads the system's root certificates, 42 ms of
    /// CPU time (144 certificates of Debian 12, OpenSSL 3.0).
    pub(crate) fn system() -> Result<&'static TlsClient> {
        static SYSTEM: OnceLock<TlsClient> = OnceLock::new();
        if let Some(client) = SYSTEM.get() {
            return Ok(client);
        }
        let connector = TlsConnector::new()
            .map_err(|error| Error::caused(ErrorKind::Tls, "the default TLS settings cannot be made", error))?;
        Ok(SYSTEM.get_or_init(|| TlsClient(connector)))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

/// Does the client's TLS handshake on `stream`.
pub(super) fn connect(
    client: &TlsClient,
    server_name: &str,
    stream: Stream,
    deadline: &Deadline,
) -> Result<(Socket, Engine)> {
    let doing = format!("TLS handshake with {server_name}");
    handshake(stream, deadline, &doing, hint::hint, |io| client.0.connect(server_name, io))
}

/// Does the server's TLS handshake on `stream`.
pub(super) fn accept(server: &TlsServer, stream: Stream, deadline: &Deadline) -> Result<(Socket, Engine)> {
    handshake(stream, deadline, "TLS handshake with the client", |_| "", |io| server.0.accept(io))
}

fn handshake(
    stream: Stream,
    deadline: &Deadline,
    doing: &str,
    hint: impl FnOnce(&str) -> &'static str,
    start_handshake: impl FnOnce(EngineIo) -> std::result::Result<TlsStream<EngineIo>, HandshakeError<EngineIo>>,
) -> Result<(Socket, Engine)> {
    let failed = |error: io::Error| Error::caused(ErrorKind::Io, doing, error);
    let stream = DeadlineStream::new(stream, *deadline).map_err(failed)?;
    let is_stream_lost = Arc::new(AtomicBool::new(false));
    match start_handshake(EngineIo::over_stream(stream, Arc::clone(&is_stream_lost))) {
        Ok(mut tls) => {
            let stream = tls.get_mut().switch_to_memory().expect("the handshake was over a stream");
            Ok((stream.into_socket(), Engine::new(tls)))
        }
        // A `DeadlineStream` returns `WouldBlock` only at the deadline.
        Err(HandshakeError::WouldBlock(_)) => Err(deadline.error(doing)),
        Err(HandshakeError::Failure(_)) if deadline.is_over() => Err(deadline.error(doing)),
        Err(HandshakeError::Failure(error)) => {
            let failed = format!("{doing} failed{}", hint(&error.to_string()));
            Err(if is_stream_lost.load(Ordering::Relaxed) {
                // The source tells it from a refusal: here another attempt may succeed.
                let lost = io::Error::new(io::ErrorKind::UnexpectedEof, error);
                Error::caused(ErrorKind::Tls, failed, lost)
            } else {
                Error::caused(ErrorKind::Tls, failed, error)
            })
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
