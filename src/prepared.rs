//! One message for many connections.

use std::fmt;
use std::sync::Arc;

use crate::message::Message;
use crate::protocol::Preparation;
use crate::sync::{Mutex, lock};

/// A message that is to be sent on many connections: compressed once for all that agreed on the same parameters, where
/// [`send`](crate::WebSocket::send) would compress it for each. A cheap handle, shared by its clones.
///
/// It is compressed without the history of any connection, which costs some of the ratio, and each connection's own
/// compressor starts a new history behind it.
///
/// ```
/// use wsync::{Message, Prepared, WebSocket};
///
/// fn to_all(connections: &[WebSocket], text: &str) {
///     let message = Prepared::new(text);
///     for ws in connections {
///         if let Err(error) = ws.try_send(&message) {
///             println!("{:?} missed it: {error}", ws.peer_addr());
///         }
///     }
/// }
/// # to_all(&[], "");
///
/// assert_eq!(Prepared::new("text").message(), &Message::from("text"));
/// ```
#[derive(Clone)]
pub struct Prepared(Arc<Inner>);

struct Inner {
    message: Message,
    compressed: Mutex<Vec<(Preparation, Arc<[u8]>)>>,
}

impl Prepared {
    /// Prepares a message. Nothing is compressed before a connection needs it so.
    /// See [the example](Prepared).
    pub fn new(message: impl Into<Message>) -> Prepared {
        Prepared(Arc::new(Inner { message: message.into(), compressed: Mutex::new(Vec::new()) }))
    }

    /// The message itself.
    /// See [the example](Prepared).
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// The message compressed with these parameters. It is compressed with no lock held: of two threads that come at once,
    /// both compress rather than wait for each other.
    pub(crate) fn compressed(&self, preparation: Preparation) -> Arc<[u8]> {
        if let Some(bytes) = find(&lock(&self.0.compressed), preparation) {
            return bytes;
        }
        let bytes: Arc<[u8]> = preparation.compress(self.0.message.as_bytes()).into();
        let mut compressed = lock(&self.0.compressed);
        if let Some(bytes) = find(&compressed, preparation) {
            return bytes;
        }
        compressed.push((preparation, Arc::clone(&bytes)));
        bytes
    }
}

fn find(compressed: &[(Preparation, Arc<[u8]>)], preparation: Preparation) -> Option<Arc<[u8]>> {
    compressed.iter().find(|(made_with, _)| *made_with == preparation).map(|(_, bytes)| Arc::clone(bytes))
}

impl<M: Into<Message>> From<M> for Prepared {
    fn from(message: M) -> Prepared {
        Prepared::new(message)
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = lock(&self.0.compressed).len();
        f.debug_struct("Prepared").field("len", &self.0.message.len()).field("compressed", &kinds).finish()
    }
}
