//! The opening handshake without I/O.

/// placeholder
#[derive(Clone, Debug)]
pub struct Response;
