//! Many connections as one: a server's clients, a chat's room.

use std::sync::Arc;
use std::time::Duration;

use crate::arguments::check_close;
use crate::close_code::CloseCode;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::prepared::Prepared;
use crate::sync::{Mutex, lock};
use crate::websocket::{WeakWebSocket, WebSocket};

/// Connections that are sent to, counted and closed together. A cheap handle, shared by its clones.
///
/// It does not keep a connection open: one of which the last [`WebSocket`] is dropped leaves it by itself.
///
/// ```no_run
/// use std::net::TcpListener;
/// use std::thread;
/// use wsync::{Group, Prepared, WebSocket};
///
/// let room = Group::new();
/// for stream in TcpListener::bind("127.0.0.1:9001")?.incoming() {
///     let (room, stream) = (room.clone(), stream?);
///     thread::spawn(move || -> wsync::Result<()> {
///         let ws = WebSocket::accept(stream)?;
///         room.add(&ws);
///         while let Some(message) = ws.recv()? {
///             for slow in room.send(&Prepared::new(&message)) {
///                 slow.abort(); // or let it miss the message
///             }
///         }
///         Ok(())
///     });
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Group(Arc<Mutex<Members>>);

#[derive(Debug, Default)]
struct Members {
    all: Vec<WeakWebSocket>,
    /// How the group was closed.
    closed: Option<(CloseCode, String)>,
}

impl Group {
    /// A group of none.
    pub fn new() -> Group {
        Group::default()
    }

    /// Adds a connection. To a group that is closed already, it is closed in the same way, without waiting for the peer.
    pub fn add(&self, ws: &WebSocket) {
        let mut members = lock(&self.0);
        if let Some((code, reason)) = &members.closed {
            ws.begin_close(*code, reason);
            return;
        }
        members.all.retain(WeakWebSocket::is_alive);
        members.all.push(ws.downgrade());
    }

    /// The connections that are there now.
    pub fn members(&self) -> Vec<WebSocket> {
        let mut members = lock(&self.0);
        members.all.retain(WeakWebSocket::is_alive);
        members.all.iter().filter_map(WeakWebSocket::upgrade).collect()
    }

    /// Sends a message to all, as [`try_send_prepared`](WebSocket::try_send_prepared) does: nobody waits for a slow
    /// receiver, and what is queued for it stays bounded. Returns those that did not get it: the slow ones, and those
    /// that are closing. Never blocks for a peer.
    pub fn send(&self, message: &Prepared) -> Vec<WebSocket> {
        self.members().into_iter().filter(|ws| ws.try_send_prepared(message).is_err()).collect()
    }

    /// Closes all, and what is added later: sends each a close frame, waits for the answers, and drops the connections
    /// that have not answered within `timeout` altogether. Returns how many those were. For a server that stops:
    /// [`CloseCode::GOING_AWAY`].
    ///
    /// # Errors
    /// [`Options`](crate::ErrorKind::Options) for a code or a reason that must not be sent.
    pub fn close(&self, code: CloseCode, reason: &str, timeout: Duration) -> Result<usize> {
        check_close(code, reason)?;
        lock(&self.0).closed = Some((code, reason.to_string()));
        let members = self.members();
        for ws in &members {
            ws.begin_close(code, reason);
        }
        let deadline = Deadline::after("timeout", Some(timeout));
        Ok(members.iter().filter(|ws| ws.close_by(code, reason, deadline).is_err()).count())
    }
}
