//! A thread that receives, and passes on what comes.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::event::{ConnectionEnd, Event};
use super::event_queue::{Events, Queue};
use super::thread::{panicked, spawn};
use crate::close_code::CloseCode;
use crate::error::Result;
use crate::message::Message;
use crate::sync::{AtomicBool, JoinHandle, Ordering, ThreadResult};
use crate::websocket::WebSocket;

impl WebSocket {
    /// Receives on a thread of its own, and calls `handler` there with each message and then with the
    /// [`End`](Event::End). The next message is read when `handler` has returned: a slow one slows the peer.
    ///
    /// - `handler` ends the thread by [`ControlFlow::Break`]; the connection stays as it is.
    /// - A `handler` that panics is not called again: the connection is closed with code 1011, and
    ///   [`ReaderThread::join`] returns the panic.
    /// - The connection stays open while the thread runs, also without any other handle of it: the [`ReaderThread`] ends it.
    ///
    /// Keepalive and the answers to pings are driven by the thread while it is not in `handler`.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use wsync::{Event, WebSocket};
    ///
    /// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}/", server.local_addr()?);
    /// # std::thread::spawn(move || -> wsync::Result<()> {
    /// #     let ws = WebSocket::accept(server.accept().unwrap().0)?;
    /// #     ws.send(&ws.recv()?.unwrap())?; ws.close(1000, "")
    /// # });
    /// let ws = WebSocket::connect(&url)?;
    /// let reader = ws.spawn_reader(|event| {
    ///     if let Event::Message(message) = event {
    ///         println!("{message:?}");
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// ws.send("hello")?;
    /// reader.join().expect("the handler does not panic");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system gives no thread; the connection stays as it is.
    pub fn spawn_reader(
        &self,
        mut handler: impl FnMut(Event) -> ControlFlow<()> + Send + 'static,
    ) -> Result<ReaderThread> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (ws, stop) = (self.clone(), Arc::clone(&is_stopped));
        let thread = spawn("wsync reader", move || {
            let handled = catch_unwind(AssertUnwindSafe(|| {
                let mut handle = |event| {
                    if stop.load(Ordering::Acquire) { ControlFlow::Break(()) } else { handler(event) }
                };
                if let Some(end) = read_all(&ws, |message| handle(Event::Message(message))) {
                    let _ = handle(Event::End(end));
                }
            }));
            if let Err(panic) = handled {
                log::error!("closing with 1011: {}", panicked("the handler", &*panic));
                let _ = ws.close(CloseCode::INTERNAL_ERROR, "");
                drop(ws);
                resume_unwind(panic);
            }
        })?;
        Ok(ReaderThread { ws: self.clone(), is_stopped, thread: Some(thread) })
    }

    /// Receives on a thread of its own, into a queue of at most `capacity` events (at least one), from which the program
    /// takes them when it likes: for event loops and GUIs. After each event, `wake` is called on that thread: pass whatever
    /// wakes your event loop. It must not block for long.
    ///
    /// The queue's memory is bounded by `capacity` times [`max_message_size`](crate::ConnectOptions::max_message_size).
    /// What had arrived when the connection ended is queued even beyond `capacity`, so that the thread can end.
    ///
    /// A `wake` that panics is not called again: the connection is closed with code 1011, and the [`End`](Event::End) has the
    /// panic's text.
    ///
    /// [`Events`] says more, and [`Background`](crate::Background#event-loops) what `wake` is in some event loops.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # peer.send("hello")?;
    /// let (wake, woken) = std::sync::mpsc::channel(); // in the place of an event loop
    /// let events = ws.events(64, move || drop(wake.send(())))?;
    /// woken.recv()?;
    /// assert!(matches!(events.try_recv(), Some(wsync::Event::Message(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system gives no thread; the connection stays as it is.
    pub fn events(&self, capacity: usize, wake: impl Fn() + Send + Sync + 'static) -> Result<Events> {
        let queue = Queue::new(capacity, wake);
        let (ws, filled) = (self.clone(), Arc::clone(&queue));
        spawn("wsync reader", move || {
            filled.watch(&ws);
            if let Some(end) = read_into(&filled, &ws) {
                filled.push(Event::End(end));
            } else if filled.has_wake_panicked() {
                let _ = ws.close(CloseCode::INTERNAL_ERROR, "");
            }
        })?;
        // Not before there is a thread: dropping the events ends the connection.
        Ok(Events { queue, ws: Some(self.clone()) })
    }
}

/// Calls `handler` with each message. Returns the end of the connection, or `None` if `handler` stopped before.
pub(super) fn read_all(ws: &WebSocket, mut handler: impl FnMut(Message) -> ControlFlow<()>) -> Option<ConnectionEnd> {
    loop {
        match ws.recv() {
            Ok(Some(message)) => {
                if handler(message).is_break() {
                    return None;
                }
            }
            Ok(None) => return Some(ConnectionEnd::of_closed(ws)),
            Err(error) => return Some(ConnectionEnd::Failed(error)),
        }
    }
}

/// As `read_all`, into the queue, waiting for room there.
pub(super) fn read_into(queue: &Queue, ws: &WebSocket) -> Option<ConnectionEnd> {
    queue.wait_for_room(Some(ws));
    read_all(ws, |message| {
        if !queue.push(Event::Message(message)) {
            return ControlFlow::Break(());
        }
        queue.wait_for_room(Some(ws));
        ControlFlow::Continue(())
    })
}

/// The thread of [`WebSocket::spawn_reader`].
///
/// It ends with the connection or by the handler's `Break`. [`join`](ReaderThread::join) waits for that, [`detach`](ReaderThread::detach)
/// lets the thread run on its own, and [`stop`](ReaderThread::stop) or dropping the `ReaderThread` ends both the connection and the
/// thread: a thread that waits for the peer cannot be woken otherwise.
///
/// ```
/// use std::ops::ControlFlow;
/// # let (ours, theirs) = wsync::Stream::pair();
/// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
/// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
///
/// let reader = ws.spawn_reader(|event| {
///     println!("{event:?}");
///     ControlFlow::Continue(())
/// })?;
/// assert!(!reader.is_finished());
/// reader.stop();
/// reader.join().expect("the handler does not panic");
/// # Ok::<(), wsync::Error>(())
/// ```
#[must_use = "dropping it ends the connection: call detach() to let the thread run on its own"]
pub struct ReaderThread {
    ws: WebSocket,
    is_stopped: Arc<AtomicBool>,
    /// `None` once it is joined or detached.
    thread: Option<JoinHandle<()>>,
}

impl ReaderThread {
    /// Ends the connection and the thread, without blocking: a close frame with code 1001 goes out if the peer takes it
    /// at once. The handler is not called any more, except for a call that begins at this moment; it does not get the end.
    /// See [the example](ReaderThread).
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.ws.close_now();
    }

    /// Waits until the thread has ended: with the connection, or by the handler's `Break`. See [the example](ReaderThread).
    ///
    /// # Errors
    /// The handler's panic, for [`std::panic::resume_unwind`].
    pub fn join(mut self) -> ThreadResult<()> {
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }

    /// Lets the thread run on its own, until the connection ends or the handler returns `Break`.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # use std::ops::ControlFlow;
    /// ws.spawn_reader(|_| ControlFlow::Continue(()))?.detach();
    /// assert_eq!(ws.ready_state(), wsync::ReadyState::Open);
    /// # drop(peer);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn detach(mut self) {
        self.thread = None;
    }

    /// Whether the thread has ended, so that [`join`](ReaderThread::join) would not wait. Never
    /// blocks. See [the example](ReaderThread).
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for ReaderThread {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}

/// A panic of its holder changes nothing of the thread.
impl std::panic::UnwindSafe for ReaderThread {}
impl std::panic::RefUnwindSafe for ReaderThread {}

impl std::fmt::Debug for ReaderThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReaderThread").field("ws", &self.ws).field("is_finished", &self.is_finished()).finish()
    }
}
