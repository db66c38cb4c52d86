//! The bounded queue between a thread that receives and a program that takes events when it likes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::event::{ConnectionEnd, Event};
use super::thread::panicked;
use crate::error::Error;
use crate::sync::{Condvar, Instant, Mutex, lock, wait};
use crate::websocket::WebSocket;

pub(super) struct Queue {
    /// Separate, so that a watcher of the connection can wake those who wait without owning the events or `wake`.
    shared: Arc<Shared>,
    capacity: usize,
    /// Called after each event, with no lock held.
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    intake: Intake,
}

/// Whether events may still come.
#[derive(Default)]
enum Intake {
    #[default]
    Open,
    /// The end is queued, or the program has dropped the events.
    Closed,
    /// The end is queued because `wake` panicked; it is not called again.
    WakePanicked,
}

/// A wake function that panicked is not called again, and the state is valid between any two statements.
impl std::panic::UnwindSafe for Queue {}
impl std::panic::RefUnwindSafe for Queue {}

impl Queue {
    pub fn new(capacity: usize, wake: impl Fn() + Send + Sync + 'static) -> Arc<Queue> {
        Arc::new(Queue { shared: Arc::default(), capacity: capacity.max(1), wake: Box::new(wake) })
    }

    /// Adds an event and wakes the program; `false` when no more events are taken. Does not wait for room: call
    /// [`wait_for_room`](Queue::wait_for_room) before the next event.
    pub fn push(&self, event: Event) -> bool {
        if !self.shared.add(event) {
            return false;
        }
        let Err(panic) = catch_unwind(AssertUnwindSafe(&self.wake)) else { return true };
        let error = panicked("the wake function", &*panic);
        log::error!("{error}");
        self.shared.end_by_panic(error);
        false
    }

    pub fn has_wake_panicked(&self) -> bool {
        matches!(lock(&self.shared.state).intake, Intake::WakePanicked)
    }

    /// Waits while the queue is full: until the program takes an event or drops the events, or `ws` has ended, after which only
    /// what it has received can come. This is the backpressure: the connection is not read meanwhile.
    pub fn wait_for_room(&self, ws: Option<&WebSocket>) {
        let mut state = lock(&self.shared.state);
        while state.events.len() >= self.capacity
            && matches!(state.intake, Intake::Open)
            && !ws.is_some_and(WebSocket::has_ended)
        {
            state = wait(&self.shared.changed, state, None);
        }
    }

    /// From now on the end of `ws` wakes [`wait_for_room`](Queue::wait_for_room).
    pub fn watch(&self, ws: &WebSocket) {
        // Weak: queued events may own the WebSocket; a strong reference would be a cycle.
        let shared = Arc::downgrade(&self.shared);
        ws.watch_end(move || {
            if let Some(shared) = shared.upgrade() {
                // Passing through the lock makes sure that nobody is between checking for the end and starting to wait.
                drop(lock(&shared.state));
                shared.changed.notify_all();
            }
        });
    }

    /// Drops all events and takes no more.
    pub fn stop(&self) {
        let unwanted = self.shared.stop();
        drop(unwanted);
    }

    /// How many events wait to be taken.
    pub fn len(&self) -> usize {
        lock(&self.shared.state).events.len()
    }

    /// The next event, waiting for it until `until` (`None`: without a bound); `None` then, and after the end.
    fn take(&self, until: Option<Instant>) -> Option<Event> {
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(event) = state.events.pop_front() {
                self.shared.changed.notify_all();
                return Some(event);
            }
            if !matches!(state.intake, Intake::Open) {
                return None;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return None;
            }
            state = wait(&self.shared.changed, state, left);
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn add(&self, event: Event) -> bool {
        let mut state = lock(&self.state);
        if !matches!(state.intake, Intake::Open) {
            drop(state);
            drop(event);
            return false;
        }
        if matches!(event, Event::End(_)) {
            state.intake = Intake::Closed;
        }
        state.events.push_back(event);
        self.changed.notify_all();
        true
    }

    fn end_by_panic(&self, error: Error) {
        let mut state = lock(&self.state);
        if matches!(state.intake, Intake::Open) {
            state.events.push_back(Event::End(ConnectionEnd::Failed(error)));
        }
        state.intake = Intake::WakePanicked;
        self.changed.notify_all();
    }

    /// Takes no more events; returns those that there are.
    fn stop(&self) -> VecDeque<Event> {
        let mut state = lock(&self.state);
        if matches!(state.intake, Intake::Open) {
            state.intake = Intake::Closed;
        }
        self.changed.notify_all();
        std::mem::take(&mut state.events)
    }
}

/// Events to be taken when the program likes: the bounded queue of [`WebSocket::events`] and [`Background`](crate::Background).
///
/// While it is full the connection is not read: the peer's sends slow down, and pings are neither sent nor answered
/// until there is room. Events can be taken from several threads; each goes to one of them.
///
/// Dropping the events of [`WebSocket::events`] ends the connection: a close frame with code 1001 goes out if the peer
/// takes it at once, and the thread ends. Dropping them never blocks.
///
/// ```
/// # fn main() -> wsync::Result<()> {
/// use std::time::Duration;
/// use wsync::{ConnectionEnd, Event, WebSocket};
///
/// # let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let url = format!("ws://{}/", server.local_addr().unwrap());
/// # std::thread::spawn(move || {
/// #     let ws = WebSocket::accept(server.accept().unwrap().0).unwrap();
/// #     ws.send("one").unwrap(); ws.send("two").unwrap(); ws.close(1000, "done")
/// # });
/// let ws = WebSocket::connect(&url)?;
/// let events = ws.events(100, || println!("look at the queue"))?;
/// for event in events.iter() {
///     match event {
///         Event::Message(message) => println!("{message:?}"),
///         Event::End(end) => println!("{end}"),
///         _ => {}
///     }
/// }
/// assert!(events.try_recv().is_none(), "nothing comes after the end");
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it ends the connection"]
pub struct Events {
    pub(super) queue: Arc<Queue>,
    /// The connection to end on drop; `None` for [`Background`](crate::Background), which ends its own.
    pub(super) ws: Option<WebSocket>,
}

impl Events {
    /// The next event, if one is there. Never blocks.
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # let events = ws.events(64, || {})?;
    /// # peer.send("hello")?;
    /// while let Some(event) = events.try_recv() {
    ///     println!("{event:?}");
    /// }
    /// // Nothing more now: draw the frame, or wait to be woken.
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn try_recv(&self) -> Option<Event> {
        self.queue.take(Some(Instant::now()))
    }

    /// Waits for the next event, without a bound. `None` after the [`End`](Event::End).
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # let events = ws.events(64, || {})?;
    /// # peer.send("hello")?;
    /// # drop(peer);
    /// while let Some(event) = events.recv() {
    ///     println!("{event:?}");
    /// }
    /// // The connection has ended.
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn recv(&self) -> Option<Event> {
        self.queue.take(None)
    }

    /// Waits for the next event, at most `timeout`. `None` when none came, and after the [`End`](Event::End). With zero it does not
    /// wait, as [`try_recv`](Events::try_recv).
    ///
    /// ```
    /// # let (ours, theirs) = wsync::Stream::pair();
    /// # let ws = wsync::WebSocket::upgraded(ours, wsync::Role::Client).open()?;
    /// # let peer = wsync::WebSocket::upgraded(theirs, wsync::Role::Server).open()?;
    /// # let events = ws.events(64, || {})?;
    /// # peer.send("hello")?;
    /// let event = events.recv_timeout(std::time::Duration::from_secs(5));
    /// assert!(matches!(event, Some(wsync::Event::Message(_))));
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Event> {
        self.queue.take(Instant::now().checked_add(timeout))
    }

    /// The events as an iterator that waits for each and stops after the [`End`](Event::End); `for event in &events` is the same.
    /// The example of [`Events`] uses it.
    pub fn iter(&self) -> EventIter<'_> {
        EventIter(self)
    }
}

/// Events, one after the other: made by [`Events::iter`]. Each `next` blocks as [`Events::recv`] does. See the example of
/// [`Events`].
#[derive(Debug)]
#[must_use = "an iterator does nothing by itself"]
pub struct EventIter<'a>(&'a Events);

impl Iterator for EventIter<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.recv()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = Event;
    type IntoIter = EventIter<'a>;

    fn into_iter(self) -> EventIter<'a> {
        self.iter()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.queue.stop();
        if let Some(ws) = &self.ws {
            ws.close_now();
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.queue.len();
        f.debug_struct("Events").field("waiting", &waiting).finish_non_exhaustive()
    }
}
