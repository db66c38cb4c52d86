//! wsync

mod close;
mod compression;
mod connect;
mod deadline;
mod error;
mod handshake;
mod message;
mod protocol;

pub use close::{CloseCode, ReadyState};
pub use compression::Compression;
pub use connect::Proxy;
pub use error::{Error, ErrorKind, Result};
pub use handshake::{Request, Response};
pub use message::{Message, MessageRef};
pub use native_tls;
pub use protocol::Role;
pub use url::Url;
