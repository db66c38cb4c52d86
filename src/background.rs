//! Threads above a connection, for programs that ask for them: one that receives, or a connection that is made, kept and
//! made again in the background.
//!
//! - A reader ([`WebSocket::spawn_reader`]) is one thread with one loop (`reader_thread.rs`).
//! - [`WebSocket::events`] is the same with a queue as the handler (`event_queue.rs`).
//! - A [`Background`] connection adds a thread that sends and one that closes (`supervisor.rs`). The messages that wait are a
//!   plain value (`outbox.rs`), and what follows an end is decided by a policy that gets time and randomness as arguments
//!   (`reconnect.rs`).

pub(crate) mod attempt;
mod event;
mod event_queue;
mod outbox;
mod reader_thread;
mod reconnect;
mod send_error;
mod supervisor;
mod thread;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::arguments::check_close;
use crate::client::options::ConnectOptions;
use crate::close_code::{CloseCode, ReadyState};
use crate::error::Result;
use crate::message::Message;
use crate::outgoing::Outgoing;
use crate::statistics::Statistics;
use crate::websocket::WebSocket;
pub use attempt::Attempt;
use attempt::AttemptInfo;
pub use event::{ConnectionEnd, Event};
use event_queue::Queue;
pub use event_queue::{EventIter, Events};
pub use outbox::WhenFull;
use outbox::{Outbox, QueuedMessage};
pub use reader_thread::ReaderThread;
use reconnect::Backoff;
pub use reconnect::Reconnect;
pub use send_error::SendError;
use supervisor::{Hooks, OnOpen, Supervisor};
use thread::naming;

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
/// one waits for [`close`](Background::close). After `close` or drop they end at once while there is no connection, also during
/// an attempt, and within [`close_timeout`](ConnectOptions::close_timeout) while there is one. Only what the system cannot stop,
/// its resolver and a TCP connection that it is making, ends later, on threads that nobody waits for. No event and no wake
/// comes after the end.
///
/// The wake function, the policy and the hooks run on these threads, never on one that calls a method of this type. No lock is
/// held meanwhile: they may use this connection, and so may a logger.
///
/// If your wake function, policy or hook panics, the connection ends, with close code 1011 if it is open. The
/// [`End`](Event::End) has the panic's text.
///
/// # Connections that are lost without a trace
///
/// A peer that went away, or a network that did, sends nothing. So keepalive is on by default: a ping after 20 s, and as long
/// for its pong ([`ping_interval`](ConnectOptions::ping_interval), [`pong_timeout`](ConnectOptions::pong_timeout)). When the
/// machine has slept, a ping goes at once and its pong may take 5 s; a wait for the next attempt ends. Sleep is noticed where the
/// system's steady clock stands still meanwhile, by comparing it with the wall clock. A program that knows better calls
/// [`reconnect_now`](Background::reconnect_now).
///
/// # Clones and drop
///
/// A cheap handle, shared by its clones. When the last one is dropped, the connection ends, without blocking: a close frame with
/// code 1001 goes out if the peer takes it at once, and what is queued in either direction is dropped. A program that stops calls
/// [`close_and_wait`](Background::close_and_wait), so that what is queued goes out.
#[derive(Clone)]
#[must_use = "dropping the last handle ends the connection"]
pub struct Background(Arc<Inner>);

struct Inner {
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
        &self.0.events
    }

    /// Queues a message to be sent, also while there is no connection. Takes what [`WebSocket::send`] takes. Never blocks.
    ///
    /// ```
    /// use wsync::ErrorKind;
    /// # let connection = wsync::Background::options().send_capacity(1).connect("ws://127.0.0.1:1/", || {})?;
    ///
    /// connection.send("one")?; // though there is no connection yet
    /// match connection.send("two") {
    ///     Ok(()) => {}
    ///     Err(error) if error.kind() == ErrorKind::WouldBlock => println!("later: {}", error.into_message()),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Each contains the message. By kind: [`WouldBlock`](crate::ErrorKind::WouldBlock) when
    /// [`send_capacity`](BackgroundOptions::send_capacity) messages wait and [`when_full`](BackgroundOptions::when_full) says to
    /// refuse; [`Closed`](crate::ErrorKind::Closed) after [`close`](Background::close) or the end.
    pub fn send<'a>(&self, message: impl Into<Outgoing<'a>>) -> Result<(), SendError> {
        let message = message.into();
        let may_compress = message.may_compress();
        self.0.supervisor.send(QueuedMessage { message: message.into_message(), may_compress })
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
        self.0.supervisor.take_unsent()
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
        self.0.supervisor.close(code, reason);
        Ok(())
    }

    /// Closes as [`close`](Background::close) does, within `timeout` (`None`: no bound) in place of `close_timeout`, and waits
    /// for the end. Events can still be taken; the [`End`](Event::End) is one of them. After an earlier call of `close` it only
    /// waits. For a program that stops. Do not call it from a hook or the wake function: it would wait for itself.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsync::{Background, CloseCode};
    ///
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}/", server.local_addr()?);
    /// # std::thread::spawn(move || -> wsync::Result<()> {
    /// #     let ws = wsync::WebSocket::accept(server.accept().unwrap().0)?;
    /// #     while ws.recv()?.is_some() {}
    /// #     Ok(())
    /// # });
    /// let log = Background::connect(&url, || {})?;
    /// # assert!(matches!(log.events().recv(), Some(wsync::Event::Open(_))));
    /// log.send("the last line")?;
    /// let end = log.close_and_wait(CloseCode::NORMAL, "", Duration::from_secs(2))?;
    /// println!("{end}; not sent: {:?}", log.unsent());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) as `close`; [`Timeout`](crate::ErrorKind::Timeout) when there is no end at
    /// `timeout`, because a hook or the wake function does not return, or an earlier call may take longer.
    pub fn close_and_wait(
        &self,
        code: impl Into<CloseCode>,
        reason: &str,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<ConnectionEnd> {
        let (code, timeout) = (code.into(), timeout.into());
        check_close(code, reason)?;
        self.0.supervisor.close_and_wait(code, reason, timeout)
    }

    /// Begins another attempt now, because a network came up or somebody clicked. It ends the wait for the next attempt; an
    /// attempt that is under way, which may wait for an answer that does not come any more; and a connection, which the caller
    /// doubts: that gets a close frame with code 1001 if the peer takes it at once. The attempt counts, and the policy is not
    /// asked. Nothing happens after [`close`](Background::close) or the end, and with
    /// [`no_reconnect`](BackgroundOptions::no_reconnect). Never blocks.
    ///
    /// ```
    /// # let connection = wsync::Background::connect("ws://127.0.0.1:1/", || {})?;
    /// connection.reconnect_now();
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn reconnect_now(&self) {
        self.0.supervisor.reconnect_now();
    }

    /// The state of the connection: [`Connecting`](ReadyState::Connecting) also while it waits to connect again. Never blocks.
    ///
    /// ```
    /// # let connection = wsync::Background::connect("ws://127.0.0.1:1/", || {})?;
    /// println!("{}", connection.ready_state()); // connecting
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ready_state(&self) -> ReadyState {
        self.0.supervisor.ready_state()
    }

    /// How long the last answered ping took on this connection; `None` while there is none. See [`WebSocket::latency`]. The
    /// first keepalive ping goes after [`ping_interval`](ConnectOptions::ping_interval), 20 s by default; `ws.ping(b"")` in
    /// [`on_open`](BackgroundOptions::on_open) measures at once.
    ///
    /// ```
    /// # let connection = wsync::Background::connect("ws://127.0.0.1:1/", || {})?;
    /// let status = match connection.latency() {
    ///     Some(latency) => format!("{} ({latency:?})", connection.ready_state()),
    ///     None => connection.ready_state().to_string(),
    /// };
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn latency(&self) -> Option<Duration> {
        self.0.supervisor.connection()?.latency()
    }

    /// How many bytes of messages wait to be sent, with those that the connection has accepted and the system has not taken
    /// ([`WebSocket::buffered_amount`]).
    ///
    /// ```
    /// # let connection = wsync::Background::connect("ws://127.0.0.1:1/", || {})?;
    /// connection.send("twelve bytes")?; // nobody listens there
    /// assert_eq!(connection.buffered_amount(), 12);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn buffered_amount(&self) -> usize {
        self.0.supervisor.buffered_amount()
    }

    /// What was sent and received, over all connections so far ([`WebSocket::statistics`]). See the example of [`Statistics`].
    pub fn statistics(&self) -> Statistics {
        self.0.supervisor.statistics()
    }

    /// How many messages were dropped because the queue was full: see [`when_full`](BackgroundOptions::when_full).
    /// The example of [`WhenFull`] has it.
    pub fn dropped(&self) -> u64 {
        self.0.supervisor.dropped()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.supervisor.abandon();
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").field("state", &self.ready_state()).field("events", &self.0.events).finish()
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
#[derive(Clone)]
#[must_use = "options do nothing until `connect` is called"]
pub struct BackgroundOptions {
    connect: ConnectOptions,
    before_connect: Option<Arc<BeforeConnect>>,
    on_open: Option<Arc<OnOpen>>,
    reconnect: Option<Reconnect>,
    event_capacity: usize,
    send_capacity: usize,
    when_full: WhenFull,
}

type BeforeConnect = dyn Fn(&mut Attempt<'_>) -> Result<()> + Send + Sync;

/// A hook that panicked is not called again.
impl std::panic::UnwindSafe for BackgroundOptions {}
impl std::panic::RefUnwindSafe for BackgroundOptions {}

impl Default for BackgroundOptions {
    fn default() -> BackgroundOptions {
        BackgroundOptions {
            connect: ConnectOptions::new(),
            before_connect: None,
            on_open: None,
            reconnect: Some(Reconnect::new()),
            event_capacity: 64,
            send_capacity: 64,
            when_full: WhenFull::default(),
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

    /// How each connection is made (default: [`ConnectOptions::new`], with a
    /// [`ping_interval`](ConnectOptions::ping_interval) of 20 s if none is set, not even `None`). That finds dead connections, and
    /// a [`send_timeout`](ConnectOptions::send_timeout) finds peers that take nothing; both count as lost and are tried again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsync::{Background, WebSocket};
    ///
    /// let connect = WebSocket::options().ping_interval(Duration::from_secs(10)).send_timeout(Duration::from_secs(10));
    /// let options = Background::options().connect_options(connect);
    /// ```
    pub fn connect_options(mut self, options: ConnectOptions) -> BackgroundOptions {
        self.connect = options;
        self
    }

    /// Called before each attempt, on a thread of the connection, with the [`Attempt`]: its number, how the last one ended, and
    /// the URL and the options, to be changed. For a fresh token, another server, a position to resume from. It may block;
    /// closing does not wait for it.
    ///
    /// An error ends the attempt; [`Error::other`](crate::Error::other) makes one from any error. The policy decides whether there
    /// is another attempt ([`Reconnect::retry_if`]).
    ///
    /// ```no_run
    /// use wsync::{Background, Error};
    ///
    /// let feed = Background::options()
    ///     .before_connect(|attempt| {
    ///         let token = std::fs::read_to_string("token").map_err(Error::other)?;
    ///         attempt.options_mut().set_header("Authorization", format!("Bearer {}", token.trim()));
    ///         Ok(())
    ///     })
    ///     .connect("wss://example.com/feed", || {})?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn before_connect(
        mut self,
        hook: impl Fn(&mut Attempt<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> BackgroundOptions {
        self.before_connect = Some(Arc::new(hook));
        self
    }

    /// Called with each new connection, on a thread of the connection, before the [`Open`](Event::Open) event and before any
    /// queued message goes out: what it sends comes first. For authentication and subscriptions. It may also receive; a bound
    /// such as [`recv_timeout`](WebSocket::recv_timeout) belongs there. [`close`](Background::close) ends what it waits for on the
    /// connection.
    ///
    /// An error drops the connection, and counts as a failed attempt with that cause.
    ///
    /// ```no_run
    /// use wsync::Background;
    ///
    /// let feed = Background::options()
    ///     .on_open(|ws| ws.send(r#"{"subscribe": "news"}"#))
    ///     .connect("wss://example.com/feed", || {})?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn on_open(mut self, hook: impl Fn(&WebSocket) -> Result<()> + Send + Sync + 'static) -> BackgroundOptions {
        self.on_open = Some(Arc::new(hook));
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

    /// What [`send`](Background::send) does when [`send_capacity`](BackgroundOptions::send_capacity) messages wait (default:
    /// [`WhenFull::Refuse`]). [`dropped`](Background::dropped) counts the messages that are dropped. The message that is being
    /// sent is never one of them. See the example of [`WhenFull`].
    pub fn when_full(mut self, when_full: WhenFull) -> BackgroundOptions {
        self.when_full = when_full;
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
        let url = url.as_ref().to_string();
        let (options, before_connect) = (self.connect.clone(), self.before_connect.clone());
        let connect = move |info: AttemptInfo<'_>| {
            let mut attempt = Attempt::new(info, &url, &options);
            if let Some(before_connect) = &before_connect {
                naming("before_connect", || before_connect(&mut attempt))?;
            }
            attempt.connect()
        };
        self.connect_by(connect, wake)
    }

    /// The same, with connections that `connect` makes.
    pub(crate) fn connect_by(
        &self,
        connect: impl FnMut(AttemptInfo<'_>) -> Result<WebSocket> + Send + 'static,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Background> {
        let queue = Queue::new(self.event_capacity, wake);
        let outbox = Outbox::new(self.send_capacity, self.when_full);
        let supervisor =
            Supervisor::new(Arc::clone(&queue), outbox, self.connect.bounds.close_timeout, self.reconnect.is_some());
        let backoff = Backoff::new(self.reconnect.clone(), self.before_connect.is_some());
        supervisor.start(Hooks { connect: Box::new(connect), on_open: self.on_open.clone() }, backoff)?;
        Ok(Background(Arc::new(Inner { supervisor, events: Events { queue, ws: None } })))
    }
}

impl fmt::Debug for BackgroundOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundOptions")
            .field("connect", &self.connect)
            .field("reconnect", &self.reconnect)
            .field("event_capacity", &self.event_capacity)
            .field("send_capacity", &self.send_capacity)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
