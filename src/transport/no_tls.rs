//! In the place of `tls.rs` without the feature `native-tls`: the same interface, of which nothing can be made or called.

use std::convert::Infallible;
use std::fmt;
use std::io;

use super::Received;
use super::read_buffer::ReadBuffer;
use super::record_marks::RecordMarks;
use super::stream::Stream;
use super::wait::Socket;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// TLS settings of a client. There are none without the feature `native-tls`.
#[derive(Clone)]
pub struct TlsClient(Infallible);

/// TLS settings of a server. There are none without the feature `native-tls`.
#[derive(Clone)]
pub struct TlsServer(Infallible);

impl TlsClient {
    pub(crate) fn check_available() -> Result<()> {
        TlsClient::system().map(drop)
    }

    pub(crate) fn system() -> Result<&'static TlsClient> {
        let text = "wss needs TLS, which this build is without: use wsync's feature `native-tls`, or ws://";
        Err(Error::new(ErrorKind::Url, text))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

pub(super) fn connect(client: &TlsClient, _: &str, _: Stream, _: &Deadline) -> Result<(Socket, Engine)> {
    match client.0 {}
}

pub(super) fn accept(server: &TlsServer, _: Stream, _: &Deadline) -> Result<(Socket, Engine)> {
    match server.0 {}
}

pub(super) enum Engine {}

impl Engine {
    pub fn decrypt(&mut self, _: &mut ReadBuffer, _: &mut ReadBuffer) -> io::Result<Option<Received>> {
        match *self {}
    }

    pub fn encrypt(&mut self, _: &[u8], _: &mut Vec<u8>, _: &mut RecordMarks) -> io::Result<usize> {
        match *self {}
    }

    pub fn take_output(&mut self, _: &mut Vec<u8>) {
        match *self {}
    }

    pub fn release(&mut self) {
        match *self {}
    }

    pub fn end(&mut self) {
        match *self {}
    }

    pub fn close_notify(&mut self) {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use crate::error::ErrorKind;

    #[test]
    fn wss_is_an_error_that_names_the_feature() {
        let error = crate::WebSocket::connect("wss://127.0.0.1:1/").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Url);
        assert!(error.to_string().contains("native-tls"), "{error}");
    }
}
