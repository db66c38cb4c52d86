//! TLS by native-tls over memory, so that one thread can wait for the socket while another encrypts.
//!
//! During the TLS handshake native-tls reads and writes the socket itself (over memory, the alert of a failed certificate
//! check would be lost). Afterwards it works on memory: [`Engine`] feeds it encrypted bytes and collects what it writes.

mod engine;
mod engine_io;
mod hint;
mod record_marks;

use std::io;

use native_tls::{HandshakeError, TlsAcceptor, TlsConnector, TlsStream};

use super::deadline_stream::DeadlineStream;
use super::stream::Stream;
use super::wait::Socket;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
pub(super) use engine::Engine;
use engine_io::EngineIo;
pub(super) use record_marks::RecordMarks;

/// Does the client's TLS handshake on `stream`.
pub(super) fn connect(
    connector: &TlsConnector,
    server_name: &str,
    stream: Stream,
    deadline: &Deadline,
) -> Result<(Socket, Engine)> {
    let doing = format!("TLS handshake with {server_name}");
    handshake(stream, deadline, &doing, hint::hint, |io| connector.connect(server_name, io))
}

/// Does the server's TLS handshake on `stream`.
pub(super) fn accept(acceptor: &TlsAcceptor, stream: Stream, deadline: &Deadline) -> Result<(Socket, Engine)> {
    handshake(stream, deadline, "TLS handshake with the client", |_| "", |io| acceptor.accept(io))
}

fn handshake(
    stream: Stream,
    deadline: &Deadline,
    doing: &str,
    hint: impl FnOnce(&str) -> &'static str,
    shake_hands: impl FnOnce(EngineIo) -> std::result::Result<TlsStream<EngineIo>, HandshakeError<EngineIo>>,
) -> Result<(Socket, Engine)> {
    let failed = |error: io::Error| Error::caused(ErrorKind::Io, doing, error);
    let stream = DeadlineStream::new(stream, *deadline).map_err(failed)?;
    match shake_hands(EngineIo::over_stream(stream)) {
        Ok(mut tls) => {
            let stream = tls.get_mut().switch_to_memory().expect("the handshake was over a stream");
            Ok((stream.into_socket(), Engine::new(tls)))
        }
        // The stream says so only at the deadline.
        Err(HandshakeError::WouldBlock(_)) => Err(deadline.error(doing)),
        Err(HandshakeError::Failure(_)) if deadline.is_over() => Err(deadline.error(doing)),
        Err(HandshakeError::Failure(error)) => {
            let hint = hint(&error.to_string());
            Err(Error::caused(ErrorKind::Tls, format!("{doing} failed{hint}"), error))
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
