//! Many connections that are sent to and closed together, such as a server's clients.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::arguments::check_close;
use crate::close_code::CloseCode;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::outgoing::Outgoing;
use crate::prepared::Prepared;
use crate::sync::{Mutex, lock};
use crate::websocket::{WeakWebSocket, WebSocket};

/// How long closing waits for one member before it goes on to the next.
const TURN: Duration = Duration::from_millis(20);

/// Connections that are sent to, counted and closed together. A cheap handle, shared by its clones.
///
/// It does not keep a connection open: when the last [`WebSocket`] of a connection is dropped, the connection leaves the group.
///
/// ```no_run
/// use std::net::TcpListener;
/// use std::thread;
/// use wsync::{Group, WebSocket};
///
/// let room = Group::new();
/// for stream in TcpListener::bind("127.0.0.1:9001")?.incoming() {
///     let (room, stream) = (room.clone(), stream?);
///     thread::spawn(move || -> wsync::Result<()> {
///         let ws = WebSocket::accept(stream)?;
///         room.add(&ws);
///         while let Some(message) = ws.recv()? {
///             for missed in room.send(&message) {
///                 println!("{:?} missed it: {}", missed.connection(), missed.error());
///             }
///         }
///         Ok(())
///     });
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Group(Arc<Mutex<Members>>);

#[derive(Default)]
struct Members {
    all: Vec<WeakWebSocket>,
    /// How the group was closed.
    closed: Option<(CloseCode, String)>,
}

impl Group {
    /// An empty group. See [the example](Group).
    pub fn new() -> Group {
        Group::default()
    }

    /// A group of connections, none of which is there twice.
    pub(crate) fn of(members: &[WebSocket]) -> Group {
        let all = members.iter().map(WebSocket::downgrade).collect();
        Group(Arc::new(Mutex::new(Members { all, closed: None })))
    }

    /// Adds a connection, unless it is in the group already. If the group is closed, the connection is closed with the same code
    /// and reason, without waiting for the peer.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Server).open()?;
    /// # let client = wsync::WebSocket::upgraded(theirs, wsync::Role::Client).open()?;
    /// let room = wsync::Group::new();
    /// room.add(&ws);
    /// room.add(&ws); // no effect
    /// assert_eq!((room.len(), room.is_empty(), room.members().len()), (1, false, 1));
    ///
    /// room.remove(&ws);
    /// assert!(room.is_empty());
    /// # Ok::<(), wsync::Error>(())
    /// ```
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
    /// See the example of [`add`](Group::add).
    pub fn members(&self) -> Vec<WebSocket> {
        let mut members = lock(&self.0);
        members.all.retain(WeakWebSocket::is_alive);
        members.all.iter().filter_map(WeakWebSocket::upgrade).collect()
    }

    /// How many connections are there now.
    /// See the example of [`add`](Group::add).
    pub fn len(&self) -> usize {
        self.members().len()
    }

    /// Whether there is none.
    /// See the example of [`add`](Group::add).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a connection out; nothing else happens to it.
    /// See the example of [`add`](Group::add).
    pub fn remove(&self, ws: &WebSocket) {
        let member = ws.downgrade();
        lock(&self.0).all.retain(|other| !other.is_same(&member));
    }

    /// Sends a message to all, as [`try_send`](WebSocket::try_send) does: it never waits for a slow receiver, and what is queued
    /// for one stays bounded. The message is compressed once for all.
    ///
    /// Returns who missed it, and why: [`WouldBlock`](crate::ErrorKind::WouldBlock) for a slow receiver, or one to which
    /// another thread is sending a message in parts; [`Closed`](crate::ErrorKind::Closed) for one that is closing or closed,
    /// for which nothing needs to be done.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Server).open()?;
    /// # let client = wsync::WebSocket::upgraded(theirs, wsync::Role::Client).open()?;
    /// use wsync::{ErrorKind, Group};
    ///
    /// fn tell(room: &Group, text: &str) {
    ///     for missed in room.send(text) {
    ///         if missed.error().kind() == ErrorKind::WouldBlock {
    ///             missed.connection().abort(); // too slow for this room
    ///         }
    ///     }
    /// }
    ///
    /// let room = Group::new();
    /// room.add(&ws);
    /// tell(&room, "hello");
    /// assert_eq!(client.recv()?.unwrap().as_text(), Some("hello"));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    #[must_use = "these members did not get the message"]
    pub fn send<'a>(&self, message: impl Into<Outgoing<'a>>) -> Vec<Missed> {
        send_to(self.members(), message.into())
    }

    /// As [`send`](Group::send), to all but one: the sender of what is passed on.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Server).open()?;
    /// # let client = wsync::WebSocket::upgraded(theirs, wsync::Role::Client).open()?;
    /// let room = wsync::Group::new();
    /// room.add(&ws);
    /// assert!(room.send_except(&ws, "to nobody else").is_empty()); // nobody missed it
    /// assert!(client.try_recv().is_err());
    /// # Ok::<(), wsync::Error>(())
    /// ```
    #[must_use = "these members did not get the message"]
    pub fn send_except<'a>(&self, except: &WebSocket, message: impl Into<Outgoing<'a>>) -> Vec<Missed> {
        let except = except.downgrade();
        let members = self.members().into_iter().filter(|ws| !ws.downgrade().is_same(&except));
        send_to(members, message.into())
    }

    /// Closes all, and what is added later: sends each a close frame, waits for the answers, and drops the connections
    /// that have not answered when `timeout` is over. Returns how many connections were dropped, or were lost before their close
    /// frame was out. Blocks until all have answered, at most `timeout`. For a server that stops: [`CloseCode::GOING_AWAY`].
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Server).open()?;
    /// # let client = wsync::WebSocket::upgraded(theirs, wsync::Role::Client).open()?;
    /// # let room = wsync::Group::new();
    /// # room.add(&ws);
    /// # std::thread::spawn(move || client.recv());
    /// use std::time::Duration;
    /// use wsync::CloseCode;
    ///
    /// let dropped = room.close(CloseCode::GOING_AWAY, "restart", Duration::from_secs(5))?;
    /// println!("{dropped} clients were dropped or lost");
    /// # assert_eq!(dropped, 0);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a code or a reason that must not be sent.
    pub fn close(&self, code: impl Into<CloseCode>, reason: &str, timeout: Duration) -> Result<usize> {
        let code = code.into();
        check_close(code, reason)?;
        Ok(self.close_all(code, reason, timeout).len())
    }

    /// The same; returns those that were dropped or lost.
    pub(crate) fn close_all(&self, code: CloseCode, reason: &str, timeout: Duration) -> Vec<WebSocket> {
        lock(&self.0).closed = Some((code, reason.to_string()));
        let deadline = Deadline::after("timeout", Some(timeout));
        let mut waiting = self.members();
        for ws in &waiting {
            ws.begin_close_by(code, reason, deadline);
        }
        // In turns: a member that is stuck must not keep the answers of the others from being read.
        let mut failed = Vec::new();
        loop {
            waiting.retain(|ws| match ws.try_finish_close(&deadline) {
                None => true,
                Some(Ok(())) => false,
                Some(Err(_)) => {
                    failed.push(ws.clone());
                    false
                }
            });
            let Some(first) = waiting.first() else { return failed };
            first.wait_to_finish_close(&Deadline::after("timeout", Some(TURN)).or_earlier(Some(deadline)));
            waiting.rotate_left(1);
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A member of a [`Group`] that did not get a message, and why. See the example of [`Group::send`].
#[derive(Clone, Debug)]
pub struct Missed {
    ws: WebSocket,
    error: Error,
}

impl Missed {
    /// The connection. See the example of [`Group::send`].
    pub fn connection(&self) -> &WebSocket {
        &self.ws
    }

    /// Why it missed the message: [`WouldBlock`](crate::ErrorKind::WouldBlock) if it is slow,
    /// [`Closed`](crate::ErrorKind::Closed) if it is closing or closed. See the example of [`Group::send`].
    pub fn error(&self) -> &Error {
        &self.error
    }
}

fn send_to(members: impl IntoIterator<Item = WebSocket>, message: Outgoing<'_>) -> Vec<Missed> {
    let may_compress = message.may_compress();
    let own;
    let prepared = match message.prepared() {
        Some(prepared) => prepared,
        None => {
            own = Prepared::new(message.into_message());
            &own
        }
    };
    let outgoing = if may_compress { prepared.into() } else { Outgoing::from(prepared).uncompressed() };
    let send = |ws: WebSocket| ws.try_send(outgoing.clone()).err().map(|error| Missed { ws, error });
    members.into_iter().filter_map(send).collect()
}
