//! A thread that receives, and hands on what comes.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::event::{End, Event};
use super::event_queue::{Events, Queue};
use crate::close_code::CloseCode;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::websocket::WebSocket;

impl WebSocket {
    /// Receives on a thread of its own, and calls `handler` there with each message and then with the
    /// [`End`](Event::End). The next message is read when `handler` has returned: a slow one slows the peer.
    ///
    /// - `handler` ends the thread by [`ControlFlow::Break`]; the connection stays as it is.
    /// - A `handler` that panics is not called again: the connection is closed with code 1011, and
    ///   [`Reader::join`] returns the panic.
    /// - The connection stays open while the thread runs, also without any other handle of it. Who ends it is whoever
    ///   holds the [`Reader`].
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
    /// #     ws.send(&ws.recv()?.unwrap())?; ws.close(1000.into(), "")
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
    /// [`Io`](ErrorKind::Io) when the system gives no thread.
    pub fn spawn_reader(&self, mut handler: impl FnMut(Event) -> ControlFlow<()> + Send + 'static) -> Result<Reader> {
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
        Ok(Reader { ws: self.clone(), is_stopped, thread: Some(thread) })
    }

    /// Receives on a thread of its own, into a queue of at most `capacity` events (at least one) that the program takes
    /// them from when it likes: for event loops and GUIs. After each event, `wake` is called on that thread: it makes the
    /// loop look into the queue, and must not block for long.
    ///
    /// The queue's memory is bounded by `capacity` times [`max_message_size`](crate::ConnectOptions::max_message_size).
    /// What had arrived when the connection ended is queued beyond `capacity`, so that the thread ends then, too.
    ///
    /// A `wake` that panics is not called again: the connection is closed with code 1011, and the end says so.
    ///
    /// [`Events`] has an example, and says what dropping it does.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when the system gives no thread.
    pub fn events(&self, capacity: usize, wake: impl Fn() + Send + Sync + 'static) -> Result<Events> {
        let queue = Queue::new(capacity, wake);
        queue.watch(self);
        let events = Events { queue: Arc::clone(&queue), ws: Some(self.clone()) };
        let ws = self.clone();
        let thread = spawn("wsync reader", move || {
            if let Some(end) = read_into(&queue, &ws) {
                queue.push(Event::End(end));
            } else if queue.has_panicked() {
                let _ = ws.close(CloseCode::INTERNAL_ERROR, "");
            }
        });
        thread.map(|_| events)
    }
}

/// Hands on each message; the end of the connection, or `None` if `handler` broke off before.
pub(super) fn read_all(ws: &WebSocket, mut handler: impl FnMut(Message) -> ControlFlow<()>) -> Option<End> {
    loop {
        match ws.recv() {
            Ok(Some(message)) => {
                if handler(message).is_break() {
                    return None;
                }
            }
            Ok(None) => {
                let code = ws.close_code().unwrap_or(CloseCode::NO_STATUS_RECEIVED);
                return Some(End::Closed { code, reason: ws.close_reason().unwrap_or_default() });
            }
            Err(error) => return Some(End::Failed(error)),
        }
    }
}

/// As `read_all`, into the queue, as fast as there is room.
pub(super) fn read_into(queue: &Queue, ws: &WebSocket) -> Option<End> {
    queue.wait_for_room(Some(ws));
    read_all(ws, |message| {
        if !queue.push(Event::Message(message)) {
            return ControlFlow::Break(());
        }
        queue.wait_for_room(Some(ws));
        ControlFlow::Continue(())
    })
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let unavailable = |error| Error::caused(ErrorKind::Io, format_args!("no thread to be had for the {name}"), error);
    thread::Builder::new().name(name.into()).spawn(run).map_err(unavailable)
}

/// The error for a panic of the program's own function.
pub(super) fn panicked(function: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Closed, format!("{function} panicked: {}", text.unwrap_or("no text")))
}

/// The thread of [`WebSocket::spawn_reader`].
///
/// It ends with the connection, by the handler's `Break`, or by what is done here: [`join`](Reader::join) waits for it,
/// [`detach`](Reader::detach) leaves it to itself, and [`stop`](Reader::stop) or dropping the `Reader` ends it along with
/// the connection, as nothing else can wake a thread that waits for a peer.
#[must_use = "dropping it ends the connection: call detach() to leave the thread to itself"]
pub struct Reader {
    ws: WebSocket,
    is_stopped: Arc<AtomicBool>,
    /// Until it is joined or detached.
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Ends the connection and the thread, without blocking: a close frame with code 1001 goes out if the peer takes it
    /// at once. No call of the handler begins after this but one that may be beginning now; it is not told of the end.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.ws.close_now();
    }

    /// Waits until the thread has ended: with the connection, or by the handler's `Break`.
    ///
    /// # Errors
    /// The handler's panic, for [`std::panic::resume_unwind`].
    pub fn join(mut self) -> thread::Result<()> {
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }

    /// Leaves the thread to itself: it runs until the connection ends or the handler says `Break`.
    pub fn detach(mut self) {
        self.thread = None;
    }

    /// Whether the thread has ended, so that [`join`](Reader::join) would not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("ws", &self.ws).field("is_finished", &self.is_finished()).finish()
    }
}
