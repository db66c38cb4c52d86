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

/// How long closing waits for one member before it looks at the others.
const TURN: Duration = Duration::from_millis(20);

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

    /// Adds a connection, once. To a group that is closed already, it is closed in the same way, without waiting for the peer.
    pub fn add(&self, ws: &WebSocket) {
        let closed = {
            let mut members = lock(&self.0);
            members.all.retain(WeakWebSocket::is_alive);
            let member = ws.downgrade();
            if members.closed.is_none() && !members.all.iter().any(|other| other.is_same(&member)) {
                members.all.push(member);
            }
            members.closed.clone()
        };
        if let Some((code, reason)) = closed {
            ws.begin_close(code, &reason);
        }
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
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a code or a reason that must not be sent.
    pub fn close(&self, code: CloseCode, reason: &str, timeout: Duration) -> Result<usize> {
        check_close(code, reason)?;
        lock(&self.0).closed = Some((code, reason.to_string()));
        let deadline = Deadline::after("timeout", Some(timeout));
        let mut waiting = self.members();
        for ws in &waiting {
            ws.begin_close_by(code, reason, deadline);
        }
        // In turns: a member that is stuck must not keep the answers of the others from being read.
        let mut failed = 0;
        loop {
            let is_over = deadline.is_over();
            waiting.retain(|ws| match ws.try_finish_close() {
                None => true,
                Some(Ok(())) => false,
                Some(Err(_)) => {
                    failed += 1;
                    false
                }
            });
            let Some(first) = waiting.first() else { return Ok(failed) };
            if is_over {
                let error = deadline.error("waiting for the peer to answer the close");
                waiting.iter().for_each(|ws| ws.close_failed(&error));
                return Ok(failed + waiting.len());
            }
            first.wait_for_peer_close(&Deadline::after("timeout", Some(TURN)).or_earlier(Some(deadline)));
            waiting.rotate_left(1);
        }
    }
}
