//! A server with a thread for each connection: an accept loop that goes on after errors, and an end that all clients
//! are told of.

use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::connections::{AcceptLoop, Connections, Limits, Place, Room, ServerStatistics};
use super::options::AcceptOptions;
use super::{Accepted, Admission, accept_or_answer};
use crate::close_code::CloseCode;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::http::Response;
use crate::memory_limit::MemoryLimit;
use crate::sync::{Arc, Mutex, OnceLock, lock, spawn_sized};
use crate::transport::{Listener, Stream};
use crate::websocket::WebSocket;

/// How long the server waits after an error of the listener, such as when it has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server with a thread for each connection. It accepts on one thread, does each handshake on the connection's own, and calls
/// the handler there.
///
/// ```
/// use wsync::{Server, WebSocket};
///
/// let server = Server::bind("127.0.0.1:0")?.spawn(|ws| {
///     while let Some(message) = ws.recv()? {
///         ws.send(&message)?;
///     }
///     Ok(())
/// })?;
///
/// let ws = WebSocket::connect(format!("ws://{}/", server.local_addr()?))?;
/// ws.send("hello")?;
/// assert_eq!(ws.recv()?, Some("hello".into()));
/// # let client = std::thread::spawn(move || ws.recv());
/// assert_eq!(server.shutdown(std::time::Duration::from_secs(5)), 0);
/// # Ok::<(), wsync::Error>(())
/// ```
///
/// # The handler
///
/// It gets each open connection. When it returns `Ok`, the connection is closed with 1000; after an error with 1011, if it has
/// not ended anyway. If it panics, the connection is closed with 1011, the panic is logged and counted, and the server goes on.
///
/// # Errors of the listener, and silent clients
///
/// An error of the listener, such as when the process has no descriptors left, is logged; the server pauses for 100 ms and goes
/// on. Clients that send nothing cannot keep others out: see [`max_handshakes`](Server::max_handshakes).
///
/// # Stopping by Ctrl-C
///
/// The main thread waits for the signal, here with the crate `ctrlc`, and then stops the server:
///
/// ```no_run
/// use std::{sync::mpsc, time::Duration};
/// use wsync::Server;
///
/// let server = Server::bind("0.0.0.0:9001")?.spawn(|ws| ws.send("hello"))?;
/// let (stop, stopped) = mpsc::channel();
/// ctrlc::set_handler(move || {
///     let _ = stop.send(());
/// })?;
/// stopped.recv()?;
/// println!("{} clients were not done", server.shutdown(Duration::from_secs(5)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # systemd and the like
///
/// A listener from a descriptor of the service manager is a [`TcpListener`] made of it (`TcpListener::from(owned_fd)`), for
/// [`over`](Server::over).
#[must_use = "a server does nothing until `spawn` or `run` is called"]
pub struct Server {
    handle: ServerHandle,
    options: AcceptOptions,
    limits: Limits,
    turns_away: bool,
    memory_limit: Option<usize>,
    thread_name: String,
    stack_size: Option<usize>,
}

impl Server {
    /// A server at this address, such as `"0.0.0.0:9001"`; port 0 lets the system choose.
    ///
    /// ```
    /// let server = wsync::Server::bind("127.0.0.1:0")?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the address cannot be listened at.
    pub fn bind(address: impl ToSocketAddrs + fmt::Debug) -> Result<Server> {
        let cannot = format!("cannot listen at {address:?}");
        let listener = TcpListener::bind(address).map_err(|error| Error::caused(ErrorKind::Io, cannot, error))?;
        Server::over(listener)
    }

    /// A server over a listener of the program's: a [`TcpListener`] or, on Unix, a `UnixListener`.
    ///
    /// ```
    /// let server = wsync::Server::over(std::net::TcpListener::bind("127.0.0.1:0")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when it cannot be made blocking.
    pub fn over(listener: impl Into<Listener>) -> Result<Server> {
        let listener = listener.into();
        listener
            .set_blocking()
            .map_err(|error| Error::caused(ErrorKind::Io, "the listener cannot be made blocking", error))?;
        let inner = Inner {
            listener: Mutex::new(Some(Arc::new(listener))),
            connections: Arc::default(),
            memory: OnceLock::new(),
        };
        Ok(Server {
            handle: ServerHandle(Arc::new(inner)),
            options: AcceptOptions::new(),
            limits: Limits { connections: 10_000, handshakes: 256 },
            turns_away: false,
            memory_limit: None,
            thread_name: "wsync connection".to_string(),
            stack_size: None,
        })
    }

    /// How each connection is accepted (default: [`AcceptOptions::new`]).
    ///
    /// ```
    /// use wsync::{AcceptOptions, Response, Server};
    ///
    /// let options = AcceptOptions::new().on_http(|request| match request.path() {
    ///     "/health" => Response::new(200).body("ok"),
    ///     _ => Response::new(404),
    /// });
    /// let server = Server::bind("127.0.0.1:0")?.options(options);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn options(mut self, options: AcceptOptions) -> Server {
        self.options = options;
        self
    }

    /// How many clients may be connected, those in their handshake included (default: 10,000; at least one). Each has a thread.
    /// Further ones wait in the system's backlog, or get 503 with [`turn_away`](Server::turn_away).
    ///
    /// ```
    /// let server = wsync::Server::bind("127.0.0.1:0")?.max_connections(1000);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn max_connections(mut self, count: usize) -> Server {
        self.limits.connections = count.max(1);
        self
    }

    /// Answers further clients with 503 and `Retry-After: 10` while the server is full (default: `false`, they wait).
    ///
    /// ```
    /// let server = wsync::Server::bind("127.0.0.1:0")?.max_connections(1000).turn_away(true);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn turn_away(mut self, turns_away: bool) -> Server {
        self.turns_away = turns_away;
        self
    }

    /// How many clients may be in their handshake at once (default: 256; at least one). When all places are taken, the one that
    /// has taken longest is cut to make room, so that clients that send nothing cannot keep others out. While the server is full, a
    /// handshake that has taken a second makes room, too.
    ///
    /// ```
    /// let server = wsync::Server::bind("127.0.0.1:0")?.max_handshakes(50);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn max_handshakes(mut self, count: usize) -> Server {
        self.limits.handshakes = count.max(1);
        self
    }

    /// How many bytes the clients may hold together because of what they send or do not read (default: no limit): long heads of
    /// requests, read buffers, inflaters, unfinished messages, messages that wait for [`recv`](WebSocket::recv) while a
    /// [`close`](WebSocket::close) is under way, and frames that a client does not take. [`max_message_size`](AcceptOptions::max_message_size) and
    /// [`send_queue_limit`](AcceptOptions::send_queue_limit) bound one client; this bounds all of them.
    ///
    /// When more is needed, the client who holds most is dropped, then the next, until the others fit: with close code 1009 in the
    /// middle of a message, or else 1013. Its `recv` fails with [`TooBig`](ErrorKind::TooBig), and
    /// [`evicted`](ServerStatistics::evicted) counts it. The others go on; a receiving call may wait up to a second, longer than its own
    /// timeout, for what a dropped client gives back.
    ///
    /// What does not count: about 32 KiB for each connection, 100 KiB with TLS; the compressor of a connection to which compressed
    /// messages were sent; messages that the program holds, or that it is sending. A message that grows is copied, so that for this moment half of it
    /// is there twice.
    ///
    /// ```
    /// let server = wsync::Server::bind("127.0.0.1:0")?.memory_limit(256 << 20); // 256 MiB
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn memory_limit(mut self, bytes: usize) -> Server {
        self.memory_limit = Some(bytes);
        self
    }

    /// The name of the threads of connections (default: `wsync connection`).
    ///
    /// ```
    /// let server = wsync::Server::bind("127.0.0.1:0")?.thread_name("chat");
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn thread_name(mut self, name: impl Into<String>) -> Server {
        self.thread_name = name.into();
        self
    }

    /// The size of the stack of the threads of connections, in bytes (default: that of [`std::thread`], 2 MiB). The system gives
    /// memory only for what is used.
    ///
    /// ```
    /// let server = wsync::Server::bind("127.0.0.1:0")?.stack_size(256 * 1024);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Server {
        self.stack_size = Some(bytes);
        self
    }

    /// Serves on a thread of its own, until the handle ends it.
    ///
    /// The [example](Server) has it.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for options that cannot be used; [`Io`](ErrorKind::Io) when the system gives no
    /// thread.
    pub fn spawn(self, handler: impl Fn(WebSocket) -> Result<()> + Send + Sync + 'static) -> Result<ServerHandle> {
        let handle = self.handle.clone();
        let serving = self.start(handler)?;
        spawn_sized("wsync server", None, move || serving.accept_all())
            .map_err(|error| Error::caused(ErrorKind::Io, "the system gives no thread for the server", error))?;
        Ok(handle)
    }

    /// The handle that ends the server, before it runs: for a thread or a handler for signals beside [`run`](Server::run).
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use wsync::Server;
    ///
    /// let server = Server::bind("0.0.0.0:9001")?;
    /// let handle = server.handle();
    /// std::thread::spawn(move || {
    ///     let _ = std::io::stdin().read_line(&mut String::new()); // Enter ends it
    ///     handle.shutdown(Duration::from_secs(5));
    /// });
    /// server.run(|ws| ws.send("hello"))?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Serves on this thread, until the [`handle`](Server::handle) ends the server and every handler has returned. See the example
    /// there. It may return a moment before [`shutdown`](ServerHandle::shutdown) does on another thread: a program that shows
    /// the result of `shutdown` uses [`spawn`](Server::spawn), as [above](Server#stopping-by-ctrl-c).
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for options that cannot be used.
    pub fn run(self, handler: impl Fn(WebSocket) -> Result<()> + Send + Sync + 'static) -> Result<()> {
        let handle = self.handle.clone();
        self.start(handler)?.accept_all();
        handle.join();
        Ok(())
    }

    fn start<F>(self, handler: F) -> Result<Serving<F>> {
        self.options.check()?;
        let memory =
            self.memory_limit.map(|bytes| Arc::clone(self.handle.0.memory.get_or_init(|| MemoryLimit::new(bytes))));
        Ok(Serving {
            listener: self.handle.listener()?,
            connections: Arc::clone(&self.handle.0.connections),
            options: Arc::new(self.options),
            limits: self.limits,
            turns_away: self.turns_away,
            memory,
            thread_name: self.thread_name,
            stack_size: self.stack_size,
            handler: Arc::new(handler),
            _loop: self.handle.0.connections.begin_loop(),
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.handle.local_addr())
            .field("options", &self.options)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A [`Server`] that runs, or is about to. A cheap handle, shared by its clones; when the last one is dropped the server ends: it
/// accepts no more, and each client gets a close frame with 1001 if it takes that at once.
///
/// The example of [`Server`] has it.
#[derive(Clone)]
#[must_use = "dropping the last handle ends the server"]
pub struct ServerHandle(Arc<Inner>);

struct Inner {
    /// `None` once the server stops: then its port is free.
    listener: Mutex<Option<Arc<Listener>>>,
    connections: Arc<Connections>,
    /// What the clients may hold together, from when the server starts.
    memory: OnceLock<Arc<MemoryLimit>>,
}

impl ServerHandle {
    /// The address that the server listens at.
    ///
    /// ```
    /// # let server = wsync::Server::bind("127.0.0.1:0")?.spawn(|ws| ws.send("hello"))?;
    /// println!("ws://{}/", server.local_addr()?);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) for a Unix socket; [`Closed`](ErrorKind::Closed) when the server stops.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener()?.local_addr().map_err(|error| Error::caused(ErrorKind::Io, "there is no address", error))
    }

    fn listener(&self) -> Result<Arc<Listener>> {
        let listener = lock(&self.0.listener).clone();
        listener.ok_or_else(|| Error::new(ErrorKind::Closed, "the server has stopped"))
    }

    /// How many connections are open.
    ///
    /// ```
    /// # let server = wsync::Server::bind("127.0.0.1:0")?.spawn(|ws| ws.send("hello"))?;
    /// assert_eq!(server.connections(), 0);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn connections(&self) -> usize {
        self.0.connections.open()
    }

    /// What was counted since the server began. See the example of [`ServerStatistics`].
    pub fn statistics(&self) -> ServerStatistics {
        let evicted = self.0.memory.get().map_or(0, |memory| memory.evicted());
        ServerStatistics { evicted, ..self.0.connections.statistics() }
    }

    /// Stops the server: accepts no more, tells each client 1001, waits for their answers and for the handlers to return, and
    /// drops the connections that are left when `timeout` is over. Blocks until then, at most `timeout`. Returns how many
    /// clients were not done: their connection was dropped or lost, or their handler still runs.
    ///
    /// The example of [`Server`] has it.
    pub fn shutdown(&self, timeout: Duration) -> usize {
        let deadline = Deadline::after("timeout", Some(timeout));
        let Inner { connections, .. } = &*self.0;
        self.0.stop();
        connections.cut_handshakes();
        let members = connections.members();
        let group = Group::of(&members);
        drop(members);
        let dropped = group.close_all(CloseCode::GOING_AWAY, "", deadline.left().unwrap_or_default());
        let left = connections.wait_until_idle(|| deadline.left(), &dropped);
        connections.members().iter().for_each(WebSocket::abort);
        left
    }

    /// Waits until the server has stopped and every handler has returned. A handler must not call it.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let server = wsync::Server::bind("127.0.0.1:0")?.spawn(|ws| ws.send("hello"))?;
    /// let stopping = server.clone();
    /// std::thread::spawn(move || stopping.shutdown(Duration::from_secs(1)));
    /// server.join();
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn join(&self) {
        self.0.connections.wait_until_stopped();
        self.0.connections.wait_until_idle(|| None, &[]);
    }
}

impl Inner {
    /// Lets no client begin any more, and ends the accept loop.
    fn stop(&self) {
        let is_accepting = self.connections.stop();
        let Some(listener) = lock(&self.listener).take() else { return };
        // Not while it waits for room: who connects to a full backlog waits, too.
        if is_accepting {
            if let Err(error) = listener.wake() {
                log::debug!("the accept loop does not end at once: {error}");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
        self.connections.cut_handshakes();
        self.connections.members().iter().for_each(WebSocket::close_now);
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// What the accept loop and the threads of connections have.
struct Serving<F> {
    listener: Arc<Listener>,
    connections: Arc<Connections>,
    options: Arc<AcceptOptions>,
    limits: Limits,
    turns_away: bool,
    memory: Option<Arc<MemoryLimit>>,
    thread_name: String,
    stack_size: Option<usize>,
    handler: Arc<F>,
    /// Dropped behind the listener: then the port is free.
    _loop: AcceptLoop,
}

impl<F: Fn(WebSocket) -> Result<()> + Send + Sync + 'static> Serving<F> {
    /// The accept loop, until the server stops.
    fn accept_all(self) {
        let mut is_failing = false;
        loop {
            if !self.turns_away && self.connections.wait_for_room(&self.limits) == Room::Stopping {
                return;
            }
            let Some(accepted) = self.connections.accepting(|| self.listener.accept()) else { return };
            if accepted.as_ref().is_err_and(is_of_one_client) {
                continue;
            }
            let served = accepted.and_then(|stream| self.serve_on_a_thread(stream));
            match (served, is_failing) {
                (Ok(()), _) => is_failing = false,
                (Err(error), was_failing) => {
                    // One line for errors that follow each other.
                    if !was_failing {
                        log::error!("the server cannot accept, and goes on trying: {error}");
                    }
                    is_failing = true;
                    self.connections.pause(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn serve_on_a_thread(&self, stream: Stream) -> std::io::Result<()> {
        let room = self.connections.make_room(&self.limits);
        let is_full = room == Room::Full;
        let Some(place) = self.connections.begin(stream.shutdown_handle()?, room, &self.limits) else { return Ok(()) };
        let (options, handler, connections) =
            (Arc::clone(&self.options), Arc::clone(&self.handler), Arc::clone(&self.connections));
        let memory = self.memory.clone();
        let serve = move || match is_full {
            true => turn_away(&options, &connections, stream, place),
            false => serve(&options, &connections, memory.as_ref(), &*handler, stream, place),
        };
        let spawned = spawn_sized(&self.thread_name, self.stack_size, serve);
        if spawned.is_err() {
            // The client is gone with its place.
            self.connections.count(|counts| counts.failed += 1);
        }
        spawned.map(drop)
    }
}

/// Whether an error of `accept` says nothing of the listener: a client has gone before it was accepted, or nobody came for a
/// while.
fn is_of_one_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut | WouldBlock)
}

/// Serves one client, from its first byte to the end of its connection.
fn serve(
    options: &AcceptOptions,
    connections: &Connections,
    memory: Option<&Arc<MemoryLimit>>,
    handler: &impl Fn(WebSocket) -> Result<()>,
    stream: Stream,
    place: Place,
) {
    let may_open = || place.may_open();
    let admission = Admission { memory: memory.map(|limit| place.memory_share(limit)), may_open: Some(&may_open) };
    let Some(ws) = open(options, connections, stream, admission) else { return };
    match place.opened(&ws) {
        true => handle(connections, handler, &ws),
        false => ws.close_now(),
    }
}

/// The handshake of one client. `None`: there is no connection; that is counted.
fn open(
    options: &AcceptOptions,
    connections: &Connections,
    stream: Stream,
    admission: Admission<'_>,
) -> Option<WebSocket> {
    match catch_unwind(AssertUnwindSafe(|| accept_or_answer(options, stream, admission))) {
        Ok(Ok(Accepted::WebSocket(ws))) => return Some(ws),
        Ok(Ok(Accepted::Answered(_))) => connections.count(|counts| counts.answered += 1),
        Ok(Err(error)) => {
            log::debug!("a client was not accepted: {error}");
            connections.count(|counts| counts.failed += 1);
        }
        Err(_) => {
            log::error!("on_request, on_http or tls_with panicked");
            connections.count(|counts| (counts.failed, counts.panicked) = (counts.failed + 1, counts.panicked + 1));
        }
    }
    None
}

/// Calls the handler for an open connection, and closes that behind it.
fn handle(connections: &Connections, handler: &impl Fn(WebSocket) -> Result<()>, ws: &WebSocket) {
    let code = match catch_unwind(AssertUnwindSafe(|| handler(ws.clone()))) {
        Ok(Ok(())) => CloseCode::NORMAL,
        Ok(Err(error)) => {
            log::debug!("a handler failed: {error}");
            CloseCode::INTERNAL_ERROR
        }
        Err(_) => {
            log::error!("a handler panicked: closing its connection with 1011");
            connections.count(|counts| counts.panicked += 1);
            CloseCode::INTERNAL_ERROR
        }
    };
    // If it has not ended, it ends within its close_timeout.
    if let Err(error) = ws.close(code, "") {
        log::debug!("a connection did not close cleanly: {error}");
    }
}

/// Answers a client with 503.
fn turn_away(options: &AcceptOptions, connections: &Connections, stream: Stream, _place: Place) {
    let full = || Response::new(503).header("Retry-After", "10").body("the server is full");
    let options = options.clone().on_request(move |_| Err(full())).on_http(move |_| full());
    connections.count(|counts| counts.turned_away += 1);
    if let Err(error) = accept_or_answer(&options, stream, Admission::default()) {
        log::debug!("a client was turned away, as the server is full: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;

    use super::*;
    use crate::sync::thread_limit;

    #[test]
    fn a_client_for_whom_there_is_no_thread_counts_and_the_server_goes_on() {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let handle = server.handle();
        let address = handle.local_addr().unwrap();
        let clients = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut client = TcpStream::connect(address).unwrap();
                assert_eq!(client.read(&mut [0]).unwrap(), 0, "dropped");
            }
            while handle.statistics().failed < 2 {
                std::thread::yield_now();
            }
            handle.shutdown(Duration::from_secs(30))
        });
        thread_limit::with(0, || server.run(|ws| ws.send("never"))).unwrap();
        assert_eq!(clients.join().unwrap(), 0);
    }
}
