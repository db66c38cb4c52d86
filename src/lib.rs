//! wsync

mod accept;
mod close;
mod compression;
mod connect;
mod connection;
mod deadline;
mod error;
mod exchange;
mod handshake;
mod message;
mod options;
mod protocol;
mod streaming;
mod transport;
mod websocket;

pub use accept::AcceptOptions;
pub use close::{CloseCode, ReadyState};
pub use compression::Compression;
pub use connect::Proxy;
pub use error::{Error, ErrorKind, Result};
pub use handshake::{Refusal, Request, Response};
pub use message::{Message, MessageRef};
pub use native_tls;
pub use options::ConnectOptions;
pub use protocol::{Kind as MessageKind, Role};
pub use streaming::{MessageReader, MessageWriter};
pub use url::Url;
pub use websocket::WebSocket;
