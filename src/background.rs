//! Threads above a connection, for programs that ask for them: one that receives, or a connection that is made, kept and
//! made again in the background.
//!
//! - A reader ([`WebSocket::spawn_reader`]) is one thread with one loop (`reader_thread.rs`).
//! - [`WebSocket::events`] is the same with a queue as the handler (`event_queue.rs`).
//! - A [`Background`] connection adds a thread that sends and one that closes (`supervisor.rs`). What follows an end is decided by
//!   a policy that gets time and randomness as arguments (`reconnect.rs`).

mod event;
mod event_queue;
mod reader_thread;
mod reconnect;
mod supervisor;
mod thread;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;

use crate::arguments::check_close;
use crate::client::options::ConnectOptions;
use crate::close_code::{CloseCode, ReadyState};
use crate::error::Result;
use crate::message::Message;
use crate::outgoing::Outgoing;
use crate::websocket::WebSocket;
pub use event::{ConnectionEnd, Event};
use event_queue::Queue;
pub use event_queue::{EventIter, Events};
pub use reader_thread::ReaderThread;
use reconnect::Backoff;
pub use reconnect::Reconnect;
use supervisor::{QueuedMessage, Supervisor};

/// A connection in the background, for programs whose main thread must not block: connecting, sending, receiving, closing
/// and connecting again happen on threads of its own. No method blocks, except [`Events`]' waiting ones.
///
/// ```
/// use wsync::{Background, CloseCode, ConnectionEnd, Event};
///
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let url = format!("ws://{}/", server.local_addr()?);
/// # std::thread::spawn(move || -> wsync::Result<()> {
/// #     let ws = wsync::WebSocket::accept(server.accept().unwrap().0)?;
/// #     while let Some(message) = ws.recv()? { ws.send(&message)?; }
/// #     Ok(())
/// # });
/// let chat = Background::connect(&url, || { /* request a repaint, post to the event loop */ })?;
/// chat.send("hello")?; // goes out when the connection is open
///
/// // In each frame this would be `while let Some(event) = chat.events().try_recv()`.
/// for event in chat.events().iter() {
///     match event {
///         Event::Open(ws) => println!("open: {ws:?}"),
///         Event::Message(message) => {
///             println!("{message:?}");
///             chat.close(CloseCode::NORMAL, "")?;
///         }
///         Event::Reconnecting { delay, cause, .. } => println!("{cause}; again in {delay:?}"),
///         Event::End(end) => println!("{end}"),
///         _ => {}
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Event loops
///
/// `wake` is called from other threads, so it is what an event loop has for being woken from there, and the loop then takes the
/// events. egui: `request_repaint` of its `Context`, and take them in each frame. glib: `MainContext::invoke`. winit: an
/// `EventLoopProxy`, whose `send_event` comes back as `user_event` (`examples/chat-window/examples/winit.rs` in the repository
/// is a whole program, which the tests run):
///
/// ```ignore
/// struct Wake; // the user event
///
/// let event_loop = EventLoop::<Wake>::with_user_event().build()?;
/// let proxy = event_loop.create_proxy();
/// let connection = Background::connect(url, move || drop(proxy.send_event(Wake)))?;
/// event_loop.run_app(&mut App { connection, window: None })?;
///
/// impl ApplicationHandler<Wake> for App {
///     fn user_event(&mut self, event_loop: &ActiveEventLoop, Wake: Wake) {
///         while let Some(event) = self.connection.events().try_recv() {
///             self.show(event);
///         }
///     }
///     // resumed, window_event …
/// }
/// ```
///
/// [`WebSocket::events`] takes the same `wake`, for a connection that is open already.
///
/// # What is sent, and what is lost
///
/// A message is kept until the system has taken all of it. If the connection is lost before, the peer cannot have received
/// the message, and it goes out first on the next connection; the order is kept. What the system had taken and the peer had
/// not read when the connection was lost is lost, as with any connection: nothing is ever sent twice. To know what arrived,
/// let the peer confirm it. What is still queued at the end is in [`unsent`](Background::unsent).
///
/// # Threads
///
/// Three, from [`connect`](BackgroundOptions::connect) to the [`End`](Event::End): one connects and receives, one sends, and
/// one waits for [`close`](Background::close). After `close` or drop they end at once while waiting to reconnect, within
/// [`close_timeout`](ConnectOptions::close_timeout) while connected, and within
/// [`connect_timeout`](ConnectOptions::connect_timeout) while connecting: the system's resolver cannot be cancelled, so do not
/// set that to `None`. No event and no wake comes after the end.
///
/// The wake function and the policy run on these threads, never on one that calls a method of this type. No lock is held
/// meanwhile: they may use this connection, and so may a logger.
///
/// If your wake function or policy panics, the connection ends, with close code 1011 if it is open. The [`End`](Event::End) has
/// the panic's text.
#[must_use = "dropping it ends the connection"]
pub struct Background {
    supervisor: Arc<Supervisor>,
    events: Events,
}

impl Background {
    /// Connects in the background, with the default options. `wake` is called on a thread of the connection after each
    /// event: pass whatever wakes your event loop, so that it takes the [`events`](Background::events). It must not block for
    /// long.
    ///
    /// ```
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}/", listener.local_addr()?);
    /// # std::thread::spawn(move || {
    /// #     let ws = wsync::WebSocket::accept(listener.accept().unwrap().0)?;
    /// #     while let Some(message) = ws.recv()? { ws.send(&message)?; }
    /// #     Ok::<_, wsync::Error>(())
    /// # });
    /// let (wake, woken) = std::sync::mpsc::channel(); // in the place of an event loop
    /// let connection = wsync::Background::connect(&url, move || drop(wake.send(())))?;
    /// woken.recv()?;
    /// assert!(matches!(connection.events().try_recv(), Some(wsync::Event::Open(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`BackgroundOptions::connect`].
    pub fn connect(url: impl AsRef<str>, wake: impl Fn() + Send + Sync + 'static) -> Result<Background> {
        Background::options().connect(url, wake)
    }

    /// Options, with a setter for each.
    ///
    /// ```
    /// let options = wsync::Background::options().no_reconnect().send_capacity(1000);
    /// ```
    pub fn options() -> BackgroundOptions {
        BackgroundOptions::default()
    }

    /// The events, in their order. The queue is bounded: while it is full, nothing is received (see [`Events`]) and no new
    /// attempt to connect begins.
    /// The example of [`Background`] takes them.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Queues a message to be sent, also while there is no connection. Takes what [`WebSocket::send`] takes. Never blocks.
    ///
    /// ```
    /// use std::sync::mpsc::TrySendError;
    /// # let connection = wsync::Background::options().send_capacity(1).connect("ws://127.0.0.1:1/", || {})?;
    ///
    /// connection.send("one")?; // though there is no connection yet
    /// match connection.send("two") {
    ///     Ok(()) => {}
    ///     Err(TrySendError::Full(message)) => println!("not queued, try later: {message}"),
    ///     Err(TrySendError::Disconnected(message)) => println!("not queued, closed: {message}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Both contain the message: [`Full`](TrySendError::Full) when
    /// [`send_capacity`](BackgroundOptions::send_capacity) messages wait, [`Disconnected`](TrySendError::Disconnected) after
    /// [`close`](Background::close) or the end.
    pub fn send<'a>(&self, message: impl Into<Outgoing<'a>>) -> Result<(), TrySendError<Message>> {
        let message = message.into();
        let may_compress = message.may_compress();
        self.supervisor.send(QueuedMessage { message: message.into_message(), may_compress })
    }

    /// Takes what is queued out of the queue, in its order. After the [`End`](Event::End) that is all that was accepted and
    /// not sent.
    ///
    /// ```
    /// # let connection = wsync::Background::connect("ws://127.0.0.1:1/", || {})?;
    /// connection.send("one")?; // nobody listens at this port
    /// connection.close(1000, "")?;
    /// while connection.events().recv().is_some() {}
    /// assert_eq!(connection.unsent(), [wsync::Message::from("one")]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "what is not used of it is lost"]
    pub fn unsent(&self) -> Vec<Message> {
        self.supervisor.take_unsent()
    }

    /// Closes for good, in the background: what is queued goes out, then the closing handshake (RFC 6455 §7) runs, all
    /// within [`close_timeout`](ConnectOptions::close_timeout), and the [`End`](Event::End) has the result. While there
    /// is no connection the end comes at once. Never blocks; only the first call counts.
    ///
    /// ```
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}/", listener.local_addr()?);
    /// # std::thread::spawn(move || {
    /// #     let ws = wsync::WebSocket::accept(listener.accept().unwrap().0)?;
    /// #     while let Some(message) = ws.recv()? { ws.send(&message)?; }
    /// #     Ok::<_, wsync::Error>(())
    /// # });
    /// # let connection = wsync::Background::connect(&url, || {})?;
    /// # connection.events().recv(); // Open
    /// connection.close(wsync::CloseCode::NORMAL, "done")?;
    /// for event in connection.events() {
    ///     if let wsync::Event::End(end) = event {
    ///         println!("{end}"); // closed with 1000 normal closure: done
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a code or a reason that must not be sent.
    pub fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<()> {
        let code = code.into();
        check_close(code, reason)?;
        self.supervisor.close(code, reason);
        Ok(())
    }

    /// The state of the connection: [`Connecting`](ReadyState::Connecting) also while it waits to connect again. Never blocks.
    ///
    /// ```
    /// # let connection = wsync::Background::connect("ws://127.0.0.1:1/", || {})?;
    /// println!("{}", connection.ready_state()); // connecting
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ready_state(&self) -> ReadyState {
        self.supervisor.ready_state()
    }
}

impl Drop for Background {
    /// Ends the connection now, without blocking: a close frame with code 1001 goes out if the peer takes it at once. What is
    /// queued in either direction is dropped.
    fn drop(&mut self) {
        self.supervisor.abandon();
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Background { events, .. } = self;
        f.debug_struct("Background").field("state", &self.ready_state()).field("events", events).finish()
    }
}

/// How a [`Background`] connection is made and kept. Call [`connect`](BackgroundOptions::connect) any number of times.
///
/// ```no_run
/// use std::time::Duration;
/// use wsync::{Background, Reconnect, WebSocket};
///
/// let connection = Background::options()
///     .connect_options(WebSocket::options().ping_interval(Duration::from_secs(20)))
///     .reconnect(Reconnect::new().max_delay(Duration::from_secs(10)))
///     .connect("wss://example.com/feed", || println!("an event"))?;
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `connect` is called"]
pub struct BackgroundOptions {
    connect: ConnectOptions,
    reconnect: Option<Reconnect>,
    event_capacity: usize,
    send_capacity: usize,
}

impl Default for BackgroundOptions {
    fn default() -> BackgroundOptions {
        BackgroundOptions {
            connect: ConnectOptions::new(),
            reconnect: Some(Reconnect::new()),
            event_capacity: 64,
            send_capacity: 64,
        }
    }
}

impl BackgroundOptions {
    /// The defaults, as each setter names them; the same as [`Background::options`].
    ///
    /// ```
    /// let options = wsync::BackgroundOptions::new();
    /// ```
    pub fn new() -> BackgroundOptions {
        BackgroundOptions::default()
    }

    /// How each connection is made (default: [`ConnectOptions::new`]). A
    /// [`ping_interval`](ConnectOptions::ping_interval) finds dead connections, and a
    /// [`send_timeout`](ConnectOptions::send_timeout) finds peers that take nothing; both count as lost and are tried again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsync::{Background, WebSocket};
    ///
    /// let connect = WebSocket::options().ping_interval(Duration::from_secs(20)).send_timeout(Duration::from_secs(10));
    /// let options = Background::options().connect_options(connect);
    /// ```
    pub fn connect_options(mut self, options: ConnectOptions) -> BackgroundOptions {
        self.connect = options;
        self
    }

    /// When to connect again (default: [`Reconnect::new`]).
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsync::{Background, Reconnect};
    ///
    /// let options = Background::options().reconnect(Reconnect::new().max_delay(Duration::from_secs(10)));
    /// ```
    pub fn reconnect(mut self, reconnect: Reconnect) -> BackgroundOptions {
        self.reconnect = Some(reconnect);
        self
    }

    /// Never connect again: the first end is the last.
    ///
    /// ```
    /// let options = wsync::Background::options().no_reconnect();
    /// ```
    pub fn no_reconnect(mut self) -> BackgroundOptions {
        self.reconnect = None;
        self
    }

    /// How many events may wait to be taken (default: 64; at least one).
    ///
    /// ```
    /// let options = wsync::Background::options().event_capacity(1000);
    /// ```
    pub fn event_capacity(mut self, count: usize) -> BackgroundOptions {
        self.event_capacity = count;
        self
    }

    /// How many messages may wait to be sent (default: 64; at least one).
    ///
    /// ```
    /// let options = wsync::Background::options().send_capacity(1000);
    /// ```
    pub fn send_capacity(mut self, count: usize) -> BackgroundOptions {
        self.send_capacity = count;
        self
    }

    /// Connects in the background; see [`Background::connect`]. Never blocks. Failures are events, even an unusable URL.
    ///
    /// ```
    /// use wsync::{Background, ConnectionEnd, ErrorKind, Event};
    ///
    /// let connection = Background::options().no_reconnect().connect("http://example.com/", || {})?;
    /// match connection.events().recv() {
    ///     Some(Event::End(ConnectionEnd::Failed(error))) => assert_eq!(error.kind(), ErrorKind::Url),
    ///     event => panic!("{event:?}"),
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system gives no thread.
    pub fn connect(&self, url: impl AsRef<str>, wake: impl Fn() + Send + Sync + 'static) -> Result<Background> {
        let (options, url) = (self.connect.clone(), url.as_ref().to_string());
        self.connect_by(move || options.connect(&url), wake)
    }

    /// The same, with connections that `connect` makes.
    pub(crate) fn connect_by(
        &self,
        connect: impl FnMut() -> Result<WebSocket> + Send + 'static,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Background> {
        let queue = Queue::new(self.event_capacity, wake);
        let supervisor = Supervisor::new(Arc::clone(&queue), self.send_capacity, self.connect.bounds.close_timeout);
        supervisor.start(connect, Backoff::new(self.reconnect.clone()))?;
        Ok(Background { supervisor, events: Events { queue, ws: None } })
    }
}

#[cfg(test)]
mod tests;
