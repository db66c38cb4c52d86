//! The bounded queue between a thread that receives and a program that looks in now and then.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::event::{End, Event};
use super::reader_thread::panicked;
use crate::sync::{Condvar, Mutex, lock, wait};
use crate::websocket::WebSocket;

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
    /// Called after each event, with no lock held.
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// The end is in, or nobody wants to know.
    is_sealed: bool,
    has_panicked: bool,
}

impl Queue {
    pub fn new(capacity: usize, wake: impl Fn() + Send + Sync + 'static) -> Arc<Queue> {
        let state = Mutex::new(State::default());
        Arc::new(Queue { state, changed: Condvar::new(), capacity: capacity.max(1), wake: Box::new(wake) })
    }

    /// Adds an event and wakes the program; `false` when nothing more is wanted. Does not wait for room: call
    /// [`wait_for_room`](Queue::wait_for_room) before there is more to add.
    pub fn push(&self, event: Event) -> bool {
        if !self.add(event) {
            return false;
        }
        let Err(panic) = catch_unwind(AssertUnwindSafe(&self.wake)) else { return true };
        let error = panicked("the wake function", &*panic);
        log::error!("{error}");
        lock(&self.state).has_panicked = true;
        self.add(Event::End(End::Failed(error)));
        false
    }

    /// Whether the program's wake function has, after which it is not called again.
    pub fn has_panicked(&self) -> bool {
        lock(&self.state).has_panicked
    }

    fn add(&self, event: Event) -> bool {
        let mut state = lock(&self.state);
        if state.is_sealed {
            return false;
        }
        state.is_sealed = matches!(event, Event::End(_));
        state.events.push_back(event);
        self.changed.notify_all();
        true
    }

    /// Waits while the queue is full: until the program takes an event, wants none, or `ws` has ended, after which there
    /// is little to come. This is the backpressure: the peer is not read from meanwhile.
    pub fn wait_for_room(&self, ws: Option<&WebSocket>) {
        let mut state = lock(&self.state);
        while state.events.len() >= self.capacity && !state.is_sealed && !ws.is_some_and(WebSocket::has_ended) {
            state = wait(&self.changed, state, None);
        }
    }

    /// Ends such a wait also when `ws` has ended.
    pub fn watch(self: &Arc<Queue>, ws: &WebSocket) {
        // An event in the queue may hold the connection: no circle.
        let queue: Weak<Queue> = Arc::downgrade(self);
        ws.watch_end(move || {
            if let Some(queue) = queue.upgrade() {
                queue.nudge();
            }
        });
    }

    /// Nobody wants to know any more.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.is_sealed = true;
        let unwanted = std::mem::take(&mut state.events);
        self.changed.notify_all();
        drop(state);
        drop(unwanted);
    }

    pub fn nudge(&self) {
        drop(lock(&self.state));
        self.changed.notify_all();
    }

    /// The next event, waiting for it until `until` (`None`: without a bound); `None` then, and after the end.
    fn take(&self, until: Option<Instant>) -> Option<Event> {
        let mut state = lock(&self.state);
        loop {
            if let Some(event) = state.events.pop_front() {
                self.changed.notify_all();
                return Some(event);
            }
            if state.is_sealed {
                return None;
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return None,
                Some(left) => wait(&self.changed, state, Some(left)),
                None => wait(&self.changed, state, None),
            };
        }
    }
}

/// Events to be taken when it suits: the bounded queue of [`WebSocket::events`] and [`Background`](crate::Background).
///
/// While it is full the connection is not read: the peer's sends slow down, and pings are neither sent nor answered
/// until there is room. Events can be taken from several threads; each goes to one of them.
///
/// Dropping the events of [`WebSocket::events`] ends the connection: a close frame with code 1001 goes out if the peer
/// takes it at once, and the thread ends. Nothing of this blocks.
///
/// ```
/// # fn main() -> wsync::Result<()> {
/// use std::time::Duration;
/// use wsync::{End, Event, WebSocket};
///
/// # let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let url = format!("ws://{}/", server.local_addr().unwrap());
/// # std::thread::spawn(move || {
/// #     let ws = WebSocket::accept(server.accept().unwrap().0).unwrap();
/// #     ws.send("one").unwrap(); ws.send("two").unwrap(); ws.close(1000.into(), "done")
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
pub struct Events {
    pub(super) queue: Arc<Queue>,
    /// The connection that goes with it, if nobody else sees to that.
    pub(super) ws: Option<WebSocket>,
}

impl Events {
    /// The next event, if one is there. Never blocks.
    pub fn try_recv(&self) -> Option<Event> {
        self.queue.take(Some(Instant::now()))
    }

    /// Waits for the next event, without a bound. `None` after the [`End`](Event::End).
    pub fn recv(&self) -> Option<Event> {
        self.queue.take(None)
    }

    /// Waits for the next event, at most `timeout`. `None` when none came, and after the [`End`](Event::End).
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Event> {
        self.queue.take(Instant::now().checked_add(timeout))
    }

    /// The events as an iterator that waits for each and stops after the [`End`](Event::End).
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.recv())
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
        f.debug_struct("Events").field("waiting", &lock(&self.queue.state).events.len()).finish_non_exhaustive()
    }
}
