//! The handle that programs hold.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::arguments::check_close;
use crate::close_code::{CloseCode, ReadyState};
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Request, Response};
use crate::message::Message;
use crate::message_stream::{MessageReader, MessageWriter};
use crate::outgoing::Outgoing;
use crate::protocol::MessageKind;
use crate::statistics::Statistics;
use crate::transport::Pollable;
use crate::ws_url::Url;

/// A WebSocket connection: a cheap handle that can be cloned and used from any thread.
///
/// ```
/// use wsync::WebSocket;
///
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let url = format!("ws://{}/", server.local_addr()?);
/// # std::thread::spawn(move || -> wsync::Result<()> {
/// #     let ws = WebSocket::accept(server.accept().unwrap().0)?;
/// #     while let Some(message) = ws.recv()? { ws.send(&message)?; ws.close(1000, "")?; }
/// #     Ok(())
/// # });
/// let ws = WebSocket::connect(&url)?;
/// ws.send("hello")?;
/// while let Some(message) = ws.recv()? {
///     println!("{message:?}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Threads
///
/// - One thread may block in [`recv`](WebSocket::recv) while any number of others [`send`](WebSocket::send), over `wss`
///   exactly as over `ws`. Receiving never waits for a send, and a send never waits for a receive.
/// - Several threads may call `recv`: each message goes to one of them.
/// - Messages of one thread are sent in their order. A `send` returns when its message is handed to the system, or to the
///   thread that is writing at this moment; it waits when the peer does not take what is sent (bounded by
///   [`send_timeout`](crate::ConnectOptions::send_timeout)).
/// - [`close`](WebSocket::close) from any thread ends a blocked `recv` cleanly; [`abort`](WebSocket::abort) from any
///   thread wakes every blocked call at once.
/// - Pings are answered, and the closing handshake and keepalive run, while some thread is in a receiving call. A program
///   that only sends should have a thread that receives, or its peer sees neither pongs nor a close.
///
/// The last handle to be dropped closes the connection with code 1001, as far as that goes without waiting; call
/// [`close`](WebSocket::close) to be sure that all that was sent has arrived.
///
/// `Debug` shows the URL without its query, which may hold secrets.
///
/// # The end
///
/// After the connection has ended, every later `recv` reports the same end: `Ok(None)` after the peer's close frame, whatever
/// its code, and after any end by the peer once our close frame was out; otherwise an error of the same kind. Messages that had
/// arrived before come first.
///
/// # What is known of a connection
///
/// ```
/// use wsync::{AcceptOptions, ReadyState, WebSocket};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let accepting = std::thread::spawn(move || {
///     AcceptOptions::new().protocols(["v1.chat"]).accept(listener.accept().unwrap().0)
/// });
/// let ws = WebSocket::options().no_proxy().protocols(["v1.chat"]).connect(format!("ws://{address}/chat"))?;
/// let server = accepting.join().unwrap()?;
///
/// assert_eq!((ws.ready_state(), ws.close_code(), ws.close_reason()), (ReadyState::Open, None, None));
/// assert_eq!((ws.protocol(), ws.extensions()), (Some("v1.chat"), "permessage-deflate"));
/// assert_eq!(ws.url().map(|url| url.path()), Some("/chat"));
/// assert!(ws.redirects().is_empty());
/// assert_eq!(ws.response().map(|response| response.status()), Some(101));
/// assert_eq!(server.request().map(|request| request.path()), Some("/chat"));
/// assert_eq!((ws.peer_addr()?, server.peer_addr()?), (address, ws.local_addr()?));
///
/// let closing = std::thread::spawn(move || server.close(4000, "done"));
/// assert_eq!(ws.recv()?, None);
/// assert_eq!((ws.ready_state(), ws.close_reason()), (ReadyState::Closed, Some("done")));
/// assert_eq!(ws.close_code().map(u16::from), Some(4000));
/// # closing.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WebSocket(Arc<Shared>);

struct Shared {
    connection: Connection,
    handshake: HandshakeInfo,
}

/// What the opening handshake came to.
#[derive(Default)]
pub(crate) struct HandshakeInfo {
    pub protocol: Option<String>,
    pub extensions: String,
    pub response: Option<Response>,
    pub request: Option<Request>,
    pub url: Option<Url>,
    pub redirects: Vec<Url>,
    pub data: ProgramData,
}

/// Values of the program's, one for each type: see [`Acceptance::data`](crate::Acceptance::data).
#[derive(Default)]
pub(crate) struct ProgramData(Vec<AssertUnwindSafe<Box<dyn Any + Send + Sync>>>);

impl ProgramData {
    pub fn set<T: Any + Send + Sync>(&mut self, value: T) {
        self.0.retain(|other| !other.is::<T>());
        self.0.push(AssertUnwindSafe(Box::new(value)));
    }

    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.iter().find_map(|value| value.downcast_ref())
    }
}

impl WebSocket {
    pub(crate) fn new(connection: Connection, handshake: HandshakeInfo) -> WebSocket {
        WebSocket(Arc::new(Shared { connection, handshake }))
    }

    /// Sends a message: text or bytes, borrowed or owned, a [`Message`] or a [`Prepared`](crate::Prepared) one; [`Outgoing`]
    /// lists what can be sent, and how (RFC 6455 §5.6). Compressed where that was agreed and the message is not shorter than
    /// the [`threshold`](crate::Compression::threshold).
    ///
    /// Blocks while the peer does not take what is sent; [`abort`](WebSocket::abort) from another thread wakes it, and
    /// [`send_timeout`](crate::ConnectOptions::send_timeout) bounds it. `Ok` does not mean that the peer has read the message.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// ws.send("text")?;
    /// ws.send(format!("number {}", 7))?;
    /// ws.send(b"binary")?;
    /// assert_eq!(peer.recv()?.unwrap().as_text(), Some("text"));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) when the connection is closing or closed, or an earlier send failed;
    /// [`Timeout`](ErrorKind::Timeout) when `send_timeout` ends; [`Io`](ErrorKind::Io) when the connection is lost;
    /// [`InvalidInput`](ErrorKind::InvalidInput) when this thread holds an unfinished [`MessageWriter`] of the connection,
    /// which the message would wait for. After `Timeout` while writing, and after `Io`, nothing more can be sent, and
    /// [`ready_state`](WebSocket::ready_state) is no longer [`Open`](ReadyState::Open).
    pub fn send<'a>(&self, message: impl Into<Outgoing<'a>>) -> Result<()> {
        self.0.connection.send_message(&message.into())
    }

    /// As [`send`](WebSocket::send), but `Ok` only when the system has taken all of the message, and an error only when it has
    /// not.
    pub(crate) fn send_through(&self, message: &Outgoing<'_>) -> Result<()> {
        self.0.connection.send_through(message)
    }

    /// Sends messages in their order, many with each system call: much faster than one call for each, where there are many
    /// small ones. They are written when 64 KiB of them are queued, and at the end; other threads' messages may go between them.
    /// Blocks as [`send`](WebSocket::send) does, and where `messages` does. The items are what `send` takes.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// let lines = vec!["one".to_string(), "two".to_string()];
    /// ws.send_all(&lines)?;
    /// ws.send_all(["three", "four"])?;
    /// assert_eq!(peer.recv()?.unwrap().as_text(), Some("one"));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](WebSocket::send), for the first message that cannot be sent; `messages` is not asked for more.
    pub fn send_all<'a, M: Into<Outgoing<'a>>>(&self, messages: impl IntoIterator<Item = M>) -> Result<()> {
        self.0.connection.send_all(messages.into_iter().map(Into::into))
    }

    /// As [`send`](WebSocket::send), but never waits. What the system does not take at once is queued, up to
    /// [`send_queue_limit`](crate::ConnectOptions::send_queue_limit) (256 KiB by default; one message may be larger by itself).
    /// It is written as soon as the peer takes it, whatever the program does meanwhile: if no other call writes it, a thread of
    /// the connection does, which ends with the last byte. For GUIs, and for sending to many peers when one of them may be slow.
    /// It does not wait for another thread's compression either, and then sends uncompressed.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// match ws.try_send("position 7") {
    ///     Err(error) if error.kind() == wsync::ErrorKind::WouldBlock => println!("the peer is slow: left out"),
    ///     result => result?,
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WouldBlock`](ErrorKind::WouldBlock) when the queue is full, or while a [`MessageWriter`] of the connection is
    /// unfinished, this thread's included: nothing of this message is sent, and a later call may succeed. Otherwise as
    /// [`send`](WebSocket::send).
    pub fn try_send<'a>(&self, message: impl Into<Outgoing<'a>>) -> Result<()> {
        self.0.connection.try_send(&message.into())
    }

    /// Waits for the next message, without a bound. `Ok(None)`, from then on at every call: the connection is closed
    /// ([`close_code`](WebSocket::close_code) has the code).
    ///
    /// [`close`](WebSocket::close) and [`abort`](WebSocket::abort) from another thread wake it.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # peer.send("hello")?;
    /// # std::thread::spawn(move || peer.close(1000, "bye"));
    /// while let Some(message) = ws.recv()? {
    ///     println!("{message}");
    /// }
    /// assert_eq!(ws.close_reason(), Some("bye"));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the connection is lost; [`Protocol`](ErrorKind::Protocol), [`Utf8`](ErrorKind::Utf8) and
    /// [`TooBig`](ErrorKind::TooBig) for what the peer must not send; [`Unresponsive`](ErrorKind::Unresponsive) when no pong
    /// came in time ([`set_ping_interval`](WebSocket::set_ping_interval)); [`Closed`](ErrorKind::Closed) after
    /// [`abort`](WebSocket::abort); [`InvalidInput`](ErrorKind::InvalidInput) when this thread holds a [`MessageReader`] of the
    /// connection, which the call would wait for.
    pub fn recv(&self) -> Result<Option<Message>> {
        self.0.connection.receive(&Deadline::NEVER)
    }

    /// As [`recv`](WebSocket::recv), waiting at most `timeout`. It may expire inside a frame; nothing is lost: the next call
    /// continues there. With zero it does not wait, as [`try_recv`](WebSocket::try_recv).
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// match ws.recv_timeout(std::time::Duration::from_millis(10)) {
    ///     Ok(Some(message)) => println!("{message:?}"),
    ///     Ok(None) => println!("closed with {:?}", ws.close_code()),
    ///     Err(error) if error.is_timeout() => println!("nothing yet"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](WebSocket::recv), and [`Timeout`](ErrorKind::Timeout) when nothing came in time: the connection goes on,
    /// [`ready_state`](WebSocket::ready_state) is [`Open`](ReadyState::Open), or [`Closing`](ReadyState::Closing) while a
    /// close is under way.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message>> {
        self.0.connection.receive(&Deadline::after("recv_timeout", Some(timeout)))
    }

    /// As [`recv`](WebSocket::recv), but never waits: for event loops and frames of a GUI.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # peer.send("hello")?;
    /// loop {
    ///     match ws.try_recv() {
    ///         Ok(Some(message)) => println!("{message:?}"),
    ///         Ok(None) => break, // closed
    ///         Err(error) if error.kind() == wsync::ErrorKind::WouldBlock => break, // nothing yet
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](WebSocket::recv), and [`WouldBlock`](ErrorKind::WouldBlock) when no message is there. A poller can tell when
    /// to ask again: see [`pollable`](WebSocket::pollable).
    pub fn try_recv(&self) -> Result<Option<Message>> {
        self.0.connection.receive(&Deadline::now("try_recv"))
    }

    /// As [`recv`](WebSocket::recv), into the caller's buffer. It is cleared first, and its allocation is used again, so that
    /// receiving many messages allocates nothing. Returns the message's kind; text is valid UTF-8. After an error the
    /// buffer is empty.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # peer.send(b"four")?;
    /// # std::thread::spawn(move || peer.close(1000, ""));
    /// let mut buffer = Vec::new();
    /// while let Some(kind) = ws.recv_into(&mut buffer)? {
    ///     println!("{kind:?}, {} bytes", buffer.len());
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](WebSocket::recv).
    pub fn recv_into(&self, buffer: &mut Vec<u8>) -> Result<Option<MessageKind>> {
        self.0.connection.receive_into(buffer, &Deadline::NEVER)
    }

    /// As [`recv_into`](WebSocket::recv_into), waiting at most `timeout`, with nothing lost when that ends.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # peer.send("text")?;
    /// let mut buffer = Vec::new();
    /// let kind = ws.recv_into_timeout(&mut buffer, std::time::Duration::from_secs(5))?;
    /// assert_eq!((kind, &buffer[..]), (Some(wsync::MessageKind::Text), &b"text"[..]));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv_timeout`](WebSocket::recv_timeout).
    pub fn recv_into_timeout(&self, buffer: &mut Vec<u8>, timeout: Duration) -> Result<Option<MessageKind>> {
        self.0.connection.receive_into(buffer, &Deadline::after("recv_into_timeout", Some(timeout)))
    }

    /// As [`recv_into`](WebSocket::recv_into), but never waits.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// let mut buffer = Vec::new();
    /// let error = ws.try_recv_into(&mut buffer).unwrap_err();
    /// assert_eq!(error.kind(), wsync::ErrorKind::WouldBlock);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`try_recv`](WebSocket::try_recv).
    pub fn try_recv_into(&self, buffer: &mut Vec<u8>) -> Result<Option<MessageKind>> {
        self.0.connection.receive_into(buffer, &Deadline::now("try_recv_into"))
    }

    /// Waits for the next message to begin and returns it as a stream of bytes, for messages larger than memory (RFC 6455 §5.4).
    /// `Ok(None)` as for [`recv`](WebSocket::recv). The connection's other receiving calls wait until the [`MessageReader`] is
    /// dropped; the same thread's are refused.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # peer.send(vec![0; 10_000])?;
    /// if let Some(mut message) = ws.recv_reader()? {
    ///     let size = std::io::copy(&mut message, &mut std::io::sink())?; // or into a file
    ///     assert_eq!(size, 10_000);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](WebSocket::recv).
    pub fn recv_reader(&self) -> Result<Option<MessageReader<'_>>> {
        Ok(self.0.connection.receive_parts(&Deadline::NEVER)?.map(MessageReader::new))
    }

    /// As [`recv_reader`](WebSocket::recv_reader), waiting at most `timeout` for a message to begin. Reading from the
    /// [`MessageReader`] has no bound.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// match ws.recv_reader_timeout(std::time::Duration::from_millis(10)) {
    ///     Ok(Some(message)) => println!("{:?} begins", message.kind()),
    ///     Ok(None) => println!("closed"),
    ///     Err(error) if error.is_timeout() => println!("nothing yet"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv_timeout`](WebSocket::recv_timeout).
    pub fn recv_reader_timeout(&self, timeout: Duration) -> Result<Option<MessageReader<'_>>> {
        let deadline = Deadline::after("recv_reader_timeout", Some(timeout));
        Ok(self.0.connection.receive_parts(&deadline)?.map(MessageReader::new))
    }

    /// As [`recv_reader`](WebSocket::recv_reader), but never waits for a message to begin. Reading from the [`MessageReader`]
    /// waits.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # peer.send("a text")?;
    /// if let Some(mut message) = ws.try_recv_reader()? {
    ///     assert_eq!(std::io::read_to_string(&mut message)?, "a text");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`try_recv`](WebSocket::try_recv).
    pub fn try_recv_reader(&self) -> Result<Option<MessageReader<'_>>> {
        Ok(self.0.connection.receive_parts(&Deadline::now("try_recv_reader"))?.map(MessageReader::new))
    }

    /// Begins a message that is written as a stream of bytes, for messages larger than memory (RFC 6455 §5.4). Waits while
    /// another thread does the same. Other threads' messages wait until it is finished.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// use std::io::Write;
    /// use wsync::MessageKind;
    ///
    /// let mut message = ws.send_writer(MessageKind::Text)?;
    /// for line in ["one", "two"] {
    ///     writeln!(message, "{line}")?;
    /// }
    /// message.finish()?;
    /// assert_eq!(peer.recv()?.unwrap().as_text(), Some("one\ntwo\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](WebSocket::send).
    pub fn send_writer(&self, kind: MessageKind) -> Result<MessageWriter<'_>> {
        Ok(MessageWriter::new(self.0.connection.send_parts(kind)?, kind))
    }

    /// The messages as an iterator: blocks for each, ends at a clean close, and after the first error. `for message in &ws`
    /// is the same, and `for message in ws` owns its handle, for a thread.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # peer.send("hello")?;
    /// # std::thread::spawn(move || peer.close(1000, ""));
    /// for message in ws.messages() {
    ///     println!("{:?}", message?);
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn messages(&self) -> Messages<'_> {
        Messages { ws: self, is_over: false }
    }

    /// What a poller (`mio`, `polling`, `rustix`) can watch, for programs with many connections on one thread; `None` over a
    /// stream in memory.
    ///
    /// Call [`try_recv`](WebSocket::try_recv), [`try_recv_into`](WebSocket::try_recv_into) or
    /// [`try_recv_reader`](WebSocket::try_recv_reader) until the error is [`WouldBlock`](ErrorKind::WouldBlock), also once before
    /// the first wait: messages may be in the connection's buffer, which no poller sees. After that the socket becomes readable
    /// when it is time to call again, with and without TLS, also for a poller that reports only changes (edge-triggered). One
    /// exception: if the peer floods the connection with control frames or tiny fragments, `WouldBlock` comes before the socket
    /// is empty, so that the call does not take long; where that matters, use a poller that reports states (level-triggered).
    /// Keepalive needs a call at least every [`ping_interval`](WebSocket::ping_interval), whatever the poller reports.
    ///
    /// Send with [`try_send`](WebSocket::try_send), which needs no poller.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use std::os::fd::AsFd;
    /// # fn watch(_: std::os::fd::BorrowedFd<'_>) {}
    /// # fn run(ws: &wsync::WebSocket) {
    /// if let Some(pollable) = ws.pollable() {
    ///     watch(pollable.as_fd());
    /// }
    /// # }
    /// # }
    /// ```
    ///
    /// On Windows it has `as_socket` and `as_raw_socket` in place of `as_fd` and `as_raw_fd`. There, a poller does not notice an
    /// [`abort`](WebSocket::abort) by another thread until the peer ends its side, too.
    ///
    /// An event loop that cannot watch a socket, such as winit's or egui's, needs a thread that receives:
    /// [`Background`](crate::Background#event-loops) and [`events`](WebSocket::events) have it. A glib main loop, such as GTK's,
    /// can watch: here `receive` runs once and then whenever the socket is readable. (Not compiled here; it was tried with
    /// glib 0.21.)
    ///
    /// ```ignore
    /// let descriptor = ws.pollable().unwrap().as_raw_fd();
    /// let mut receive = move || loop {
    ///     match ws.try_recv() {
    ///         Ok(Some(message)) => show(message),
    ///         Err(error) if error.kind() == ErrorKind::WouldBlock => return glib::ControlFlow::Continue,
    ///         Ok(None) | Err(_) => return glib::ControlFlow::Break,
    ///     }
    /// };
    /// if receive().is_continue() {
    ///     glib::source::unix_fd_add_local(descriptor, glib::IOCondition::IN, move |_, _| receive());
    /// }
    /// ```
    pub fn pollable(&self) -> Option<Pollable<'_>> {
        self.0.connection.transport().pollable()
    }

    /// How many bytes were accepted to be sent and are not yet taken by the system, frame headers included. What another
    /// thread's blocked [`send`](WebSocket::send) still has to write of a large message does not count. Never blocks.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// ws.try_send("hello")?;
    /// assert_eq!(ws.buffered_amount(), 0, "all is with the system");
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn buffered_amount(&self) -> usize {
        self.0.connection.buffered()
    }

    /// How many messages and bytes went through, in each direction. Never blocks. [`Statistics`] has an example.
    pub fn statistics(&self) -> Statistics {
        self.0.connection.statistics()
    }

    /// Sends a ping with up to 125 bytes (RFC 6455 §5.5.2), also while a [`MessageWriter`] is unfinished. A receiving call
    /// handles the pong, which gives [`latency`](WebSocket::latency). Blocks as [`send`](WebSocket::send) does.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # std::thread::spawn(move || peer.recv());
    /// ws.ping(b"payload")?;
    /// while ws.latency().is_none() {
    ///     let _ = ws.recv_timeout(std::time::Duration::from_millis(10)); // handles the pong
    /// }
    /// println!("{:?}", ws.latency());
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a longer payload, otherwise as [`send`](WebSocket::send).
    pub fn ping(&self, payload: &[u8]) -> Result<()> {
        if payload.len() > 125 {
            let text = format!("a ping may carry at most 125 bytes, this one has {}: shorten it", payload.len());
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        self.0.connection.ping(payload)
    }

    /// The keepalive interval; `None` when there is no keepalive. See the example of
    /// [`set_ping_interval`](WebSocket::set_ping_interval).
    pub fn ping_interval(&self) -> Option<Duration> {
        self.0.connection.ping_interval()
    }

    /// Sets or ends keepalive: a ping is sent when the last pong is `interval` ago. When its pong does not come in time (the
    /// interval, or [`pong_timeout`](crate::ConnectOptions::pong_timeout)), the connection is dropped: receiving fails with kind
    /// [`Unresponsive`](ErrorKind::Unresponsive), and [`close_code`](WebSocket::close_code) is 1001.
    ///
    /// A slow connection that makes progress is not dropped: the time starts when the ping has left, and restarts before that
    /// whenever the peer takes bytes, and with received bytes inside a frame, where no pong can stand. Bytes that were sent
    /// shortly before the ping and may still be on their way give the pong more time.
    ///
    /// A thread in a receiving call drives it. Setting an interval also sends a ping at once, so that its pong wakes a blocked
    /// [`recv`](WebSocket::recv). `None` or zero ends keepalive.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// use std::time::Duration;
    ///
    /// ws.set_ping_interval(Duration::from_secs(20));
    /// assert_eq!(ws.ping_interval(), Some(Duration::from_secs(20)));
    /// ws.set_ping_interval(None);
    /// assert_eq!(ws.ping_interval(), None);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn set_ping_interval(&self, interval: impl Into<Option<Duration>>) {
        self.0.connection.set_ping_interval(interval.into());
    }

    /// How long the last answered ping took to come back, of keepalive or of [`ping`](WebSocket::ping), which has an example;
    /// `None` before the first.
    pub fn latency(&self) -> Option<Duration> {
        self.0.connection.latency()
    }

    /// Closes the connection with a code and a reason of at most 123 bytes: sends all that is queued and a close frame,
    /// waits for the peer's, ends TLS and TCP (RFC 6455 §7). All within
    /// [`close_timeout`](crate::ConnectOptions::close_timeout); blocks that long at most, and reads meanwhile: messages that
    /// come can still be received afterwards. `Ok` at once if the connection has ended already.
    ///
    /// Once the close frame is out, the peer may end the connection in any way: that is `Ok`, and
    /// [`close_code`](WebSocket::close_code) says how, 1006 where it sent no close frame.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # let answering = std::thread::spawn(move || { peer.recv()?; Ok::<_, wsync::Error>(peer) });
    /// ws.close(4000, "done")?;
    /// assert_eq!(ws.ready_state(), wsync::ReadyState::Closed);
    /// # let peer = answering.join().unwrap()?;
    /// assert_eq!((peer.close_code(), peer.close_reason()), (Some(4000.into()), Some("done")));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a code or reason that must not be sent, and when this thread holds a
    /// [`MessageReader`] of the connection; [`Timeout`](ErrorKind::Timeout) when the peer did not answer in time, or if an
    /// earlier send had run into its `send_timeout`; [`Io`](ErrorKind::Io) when the connection was lost before the close
    /// frame was out; [`TooBig`](ErrorKind::TooBig) when the peer sent more meanwhile than is kept (1 MiB or the largest
    /// message, whichever is more). After each but `InvalidInput` the connection is down.
    pub fn close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<()> {
        let code = code.into();
        check_close(code, reason)?;
        self.0.connection.close(code, reason)
    }

    /// Drops the connection now, without a closing handshake, and wakes every blocked call. That call and later ones fail with
    /// [`Closed`](ErrorKind::Closed); messages that had arrived can still be received. Never blocks. A peer that is stuck in
    /// sending may notice only when the last handle is dropped.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// let waiting = ws.clone();
    /// let waiting = std::thread::spawn(move || waiting.recv());
    /// ws.abort();
    /// assert_eq!(waiting.join().unwrap().unwrap_err().kind(), wsync::ErrorKind::Closed);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn abort(&self) {
        self.0.connection.abort();
    }

    /// Lets the memory limit of the server, if it has one, end this connection.
    pub(crate) fn allow_eviction(&self) {
        let ws = self.downgrade();
        self.0.connection.evict_by(Arc::new(move |code| {
            if let Some(ws) = ws.upgrade() {
                ws.0.connection.evict(code);
            }
        }));
    }

    /// Begins the closing handshake, without waiting for anything.
    pub(crate) fn begin_close(&self, code: CloseCode, reason: &str) {
        self.0.connection.begin_close_within(code, reason);
    }

    /// The same; the closing ends by `deadline`.
    pub(crate) fn begin_close_by(&self, code: CloseCode, reason: &str, deadline: Deadline) {
        self.0.connection.begin_close(code, reason, deadline);
    }

    /// Continues a closing handshake without waiting. `None`: it is not done, and there is time left.
    pub(crate) fn try_finish_close(&self, deadline: &Deadline) -> Option<Result<()>> {
        self.0.connection.try_finish_close(deadline)
    }

    /// Waits until `try_finish_close` can go on, at most until the deadline.
    pub(crate) fn wait_to_finish_close(&self, deadline: &Deadline) {
        self.0.connection.wait_to_finish_close(deadline);
    }

    pub(crate) fn downgrade(&self) -> WeakWebSocket {
        WeakWebSocket(Arc::downgrade(&self.0))
    }

    /// Ends the connection as dropping the last handle does, and wakes every blocked call. Never blocks.
    pub(crate) fn close_now(&self) {
        self.0.connection.close_now();
    }

    pub(crate) fn close_by(&self, code: CloseCode, reason: &str, deadline: Deadline) -> Result<()> {
        self.0.connection.close_by(code, reason, deadline)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.connection.has_ended()
    }

    pub(crate) fn watch_end(&self, watcher: impl Fn() + Send + Sync + 'static) {
        self.0.connection.watch_end(watcher);
    }

    /// The state of the connection: open, closing or closed.
    /// See [the example](WebSocket#what-is-known-of-a-connection).
    pub fn ready_state(&self) -> ReadyState {
        self.0.connection.ready_state()
    }

    /// The code of the peer's close frame: 1005 if it had none, 1006 if the connection ended without one, 1001 if no pong
    /// came. `None` while the connection is up.
    /// See [the example](WebSocket#what-is-known-of-a-connection).
    pub fn close_code(&self) -> Option<CloseCode> {
        self.0.connection.close_code()
    }

    /// The reason in the peer's close frame, which may be empty. `None` while the connection is up.
    /// See [the example](WebSocket#what-is-known-of-a-connection).
    pub fn close_reason(&self) -> Option<&str> {
        self.0.connection.close_reason()
    }

    /// The agreed subprotocol, if any (RFC 6455 §1.9).
    /// See [the example](WebSocket#what-is-known-of-a-connection).
    pub fn protocol(&self) -> Option<&str> {
        self.0.handshake.protocol.as_deref()
    }

    /// The agreed extensions with their parameters, as in the header; empty if there are none.
    /// See [the example](WebSocket#what-is-known-of-a-connection).
    pub fn extensions(&self) -> &str {
        &self.0.handshake.extensions
    }

    /// The server's 101, on connections that this side has opened.
    /// See [the example](WebSocket#what-is-known-of-a-connection).
    pub fn response(&self) -> Option<&Response> {
        self.0.handshake.response.as_ref()
    }

    /// The client's request, on connections that were accepted.
    /// See [the example](WebSocket#what-is-known-of-a-connection).
    pub fn request(&self) -> Option<&Request> {
        self.0.handshake.request.as_ref()
    }

    /// The value of this type that [`Acceptance::data`](crate::Acceptance::data) has left with the connection, on connections
    /// that were accepted.
    ///
    /// ```
    /// struct User(u64);
    ///
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let server = std::thread::spawn(move || {
    /// #     wsync::AcceptOptions::new().on_request(|_| Ok(wsync::Acceptance::new().data(User(7)))).accept(theirs)
    /// # });
    /// # wsync::WebSocket::options().connect_over("ws://localhost/", ours)?;
    /// # let ws = server.join().unwrap()?;
    /// if let Some(User(id)) = ws.data() {
    ///     println!("user {id}");
    /// }
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.handshake.data.get()
    }

    /// The URL that was connected to, after redirects and without user information.
    /// See [the example](WebSocket#what-is-known-of-a-connection).
    pub fn url(&self) -> Option<&Url> {
        self.0.handshake.url.as_ref()
    }

    /// The URLs that redirected here, the first one asked for first; without user information. See
    /// [the example](WebSocket#what-is-known-of-a-connection).
    pub fn redirects(&self) -> &[Url] {
        &self.0.handshake.redirects
    }

    /// This side's address. See [the example](WebSocket#what-is-known-of-a-connection).
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the system does not tell, and over a stream without addresses: in memory, or a Unix socket.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        let address = self.0.connection.transport().local_addr();
        address.map_err(|error| Error::caused(ErrorKind::Io, "no local address", error))
    }

    /// The other side's address: the proxy's, where there is one. See [the example](WebSocket#what-is-known-of-a-connection).
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the system does not tell, such as after the end, and over a stream without addresses: in
    /// memory, or a Unix socket.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        let address = self.0.connection.transport().peer_addr();
        address.map_err(|error| Error::caused(ErrorKind::Io, "no peer address", error))
    }
}

/// The messages of a connection, one after the other: made by [`WebSocket::messages`], which has an example. Each `next` blocks
/// as [`recv`](WebSocket::recv) does.
#[derive(Debug)]
#[must_use = "an iterator does nothing by itself"]
pub struct Messages<'a> {
    ws: &'a WebSocket,
    is_over: bool,
}

/// As [`Messages`], with a handle of its own: made by [`WebSocket::into_iter`](IntoIterator::into_iter), for a thread.
///
/// ```
/// # let (ours, theirs) = wsync::Stream::pair();
/// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
/// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
/// # peer.send("hello")?;
/// # std::thread::spawn(move || peer.close(1000, ""));
/// let received = std::thread::spawn(move || ws.into_iter().collect::<wsync::Result<Vec<_>>>());
/// assert_eq!(received.join().unwrap()?.len(), 1);
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "an iterator does nothing by itself"]
pub struct IntoMessages {
    ws: WebSocket,
    is_over: bool,
}

/// The next message, unless an error was the last item.
fn next_message(ws: &WebSocket, is_over: &mut bool) -> Option<Result<Message>> {
    if *is_over {
        return None;
    }
    let item = ws.recv().transpose();
    *is_over = !matches!(item, Some(Ok(_)));
    item
}

impl Iterator for Messages<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        next_message(self.ws, &mut self.is_over)
    }
}

impl Iterator for IntoMessages {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        next_message(&self.ws, &mut self.is_over)
    }
}

impl<'a> IntoIterator for &'a WebSocket {
    type Item = Result<Message>;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.messages()
    }
}

impl IntoIterator for WebSocket {
    type Item = Result<Message>;
    type IntoIter = IntoMessages;

    fn into_iter(self) -> IntoMessages {
        IntoMessages { ws: self, is_over: false }
    }
}

/// A handle that does not keep the connection open.
#[derive(Debug)]
pub(crate) struct WeakWebSocket(Weak<Shared>);

impl WeakWebSocket {
    pub fn upgrade(&self) -> Option<WebSocket> {
        self.0.upgrade().map(WebSocket)
    }

    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Whether both are handles of one connection.
    pub fn is_same(&self, other: &WeakWebSocket) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("url", &self.url().map(Url::without_query))
            .field("peer", &self.0.connection.transport().peer_addr().ok())
            .field("state", &self.ready_state())
            .field("protocol", &self.protocol())
            .field("extensions", &self.extensions())
            .finish()
    }
}
