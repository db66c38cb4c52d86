//! The threads of a connection in the background, and what they share.
//!
//! - The supervisor connects, receives, and connects again. It decides what an end leads to.
//! - The writer sends what is queued, whenever there is a connection.
//! - A closing has a thread of its own for as long as it takes: the supervisor may be connecting and the writer may be stuck.
//!
//! `is_over` is set once, by whoever delivers the end, and ends them all.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::{Duration, Instant};

use super::event::{End, Event};
use super::event_queue::Queue;
use super::reader_thread::{panicked, read_into, spawn};
use super::reconnect::{Backoff, random};
use crate::close_code::{CloseCode, ReadyState};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::sync::{Condvar, Mutex, lock, wait};
use crate::websocket::WebSocket;

pub(super) struct Supervisor {
    pub queue: Arc<Queue>,
    send_capacity: usize,
    close_timeout: Option<Duration>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    outgoing: VecDeque<Message>,
    /// The writer holds one more message, which goes back to the front if it cannot be sent.
    is_sending: bool,
    /// While it is open, or its end is not dealt with yet.
    ws: Option<WebSocket>,
    /// Until sending fails or the connection has ended.
    can_send: bool,
    /// Why sending failed, if the connection was dropped for it.
    send_failure: Option<Error>,
    is_closing: bool,
    /// The end is delivered or not wanted: every thread ends.
    is_over: bool,
}

impl Supervisor {
    pub fn new(queue: Arc<Queue>, send_capacity: usize, close_timeout: Option<Duration>) -> Arc<Supervisor> {
        let state = Mutex::new(State::default());
        let send_capacity = send_capacity.max(1);
        Arc::new(Supervisor { queue, send_capacity, close_timeout, state, changed: Condvar::new() })
    }

    /// Starts the two threads.
    pub fn start(
        self: &Arc<Supervisor>,
        mut connect: impl FnMut() -> Result<WebSocket> + Send + 'static,
        mut backoff: Backoff,
    ) -> Result<()> {
        let writer = Arc::clone(self);
        spawn("wsync writer", move || writer.write())?;
        let supervisor = Arc::clone(self);
        let started = spawn("wsync reader", move || {
            // The program's policy runs in there.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| supervisor.drive(&mut connect, &mut backoff))) {
                supervisor.fail(panicked("the reconnect policy", &*panic));
            }
        });
        if started.is_err() {
            self.abandon();
        }
        started.map(drop)
    }

    /// Queues a message, or hands it back. Never blocks.
    pub fn send(&self, message: Message) -> Result<(), TrySendError<Message>> {
        let mut state = lock(&self.state);
        if state.is_closing || state.is_over {
            return Err(TrySendError::Disconnected(message));
        }
        if state.outgoing.len() + usize::from(state.is_sending) >= self.send_capacity {
            return Err(TrySendError::Full(message));
        }
        state.outgoing.push_back(message);
        self.changed.notify_all();
        Ok(())
    }

    pub fn take_unsent(&self) -> Vec<Message> {
        let mut state = lock(&self.state);
        self.changed.notify_all();
        state.outgoing.drain(..).collect()
    }

    pub fn ready_state(&self) -> ReadyState {
        let state = lock(&self.state);
        match &state.ws {
            _ if state.is_over => ReadyState::Closed,
            _ if state.is_closing => ReadyState::Closing,
            None => ReadyState::Connecting,
            Some(_) => ReadyState::Open,
        }
    }

    /// Starts to close, once. Never blocks.
    pub fn close(self: &Arc<Supervisor>, code: CloseCode, reason: &str) {
        let mut state = lock(&self.state);
        if state.is_closing || state.is_over {
            return;
        }
        state.is_closing = true;
        self.changed.notify_all();
        drop(state);
        let deadline = Deadline::after("close_timeout", self.close_timeout);
        let (closer, reason) = (Arc::clone(self), reason.to_string());
        if let Err(error) = spawn("wsync closing", move || closer.close_by(code, &reason, deadline)) {
            self.fail(error);
        }
    }

    /// Ends everything without a word to the program. Never blocks.
    pub fn abandon(&self) {
        self.queue.stop();
        if let Some(ws) = self.finish() {
            ws.close_now();
        }
    }

    fn drive(&self, connect: &mut dyn FnMut() -> Result<WebSocket>, backoff: &mut Backoff) {
        while !self.is_ending(&lock(&self.state)) {
            let end = match connect() {
                Ok(ws) => {
                    let since = Instant::now();
                    let Some(end) = self.receive(ws) else { return };
                    backoff.connection_ended(since.elapsed());
                    end
                }
                Err(error) => End::Failed(error),
            };
            if !self.goes_on(end, backoff) {
                return;
            }
        }
    }

    /// All that a new connection brings; `None` when nobody wants to know of it any more.
    fn receive(&self, ws: WebSocket) -> Option<End> {
        self.queue.watch(&ws);
        if !self.open(&ws) {
            ws.close_now();
            return None;
        }
        let is_wanted = self.queue.push(Event::Open(ws.clone()));
        let Some(end) = is_wanted.then(|| read_into(&self.queue, &ws)).flatten() else {
            self.finish();
            if self.queue.has_panicked() {
                let _ = ws.close(CloseCode::INTERNAL_ERROR, "");
            }
            return None;
        };
        Some(match (end, self.stop_sending(&ws)) {
            (End::Failed(error), Some(failure)) if error.kind() == ErrorKind::Closed => End::Failed(failure),
            (end, _) => end,
        })
    }

    fn open(&self, ws: &WebSocket) -> bool {
        let mut state = lock(&self.state);
        if state.is_closing || state.is_over {
            return false;
        }
        state.ws = Some(ws.clone());
        state.can_send = true;
        self.changed.notify_all();
        true
    }

    /// After the end of a connection: waits until what the writer could not send is back in its place. Returns why the
    /// connection was dropped, if it was for a failure of sending.
    fn stop_sending(&self, ws: &WebSocket) -> Option<Error> {
        let mut state = lock(&self.state);
        state.can_send = false;
        if state.is_sending {
            ws.abort();
        }
        while state.is_sending {
            state = wait(&self.changed, state, None);
        }
        state.send_failure.take()
    }

    /// What follows an end: the wait for the next attempt, or the end of it all.
    fn goes_on(&self, end: End, backoff: &mut Backoff) -> bool {
        let is_wanted = !self.is_ending(&lock(&self.state)) && backoff.goes_on(&end);
        let random = if is_wanted { random().ok() } else { None };
        let mut state = lock(&self.state);
        state.ws = None;
        let Some(random) = random.filter(|_| !self.is_ending(&state)) else {
            let was_over = std::mem::replace(&mut state.is_over, true);
            self.changed.notify_all();
            drop(state);
            if !was_over {
                self.queue.push(Event::End(end));
            }
            return false;
        };
        self.changed.notify_all();
        drop(state);
        let delay = backoff.next(random);
        log::debug!("connecting again in {delay:?}: {end}");
        if !self.queue.push(Event::Reconnecting { attempt: backoff.attempts(), delay, cause: end }) {
            self.finish();
            return false;
        }
        self.sleep(delay);
        self.queue.wait_for_room(None);
        true
    }

    /// Until the time is over, or all of it is.
    fn sleep(&self, delay: Duration) {
        let deadline = Deadline::after("delay", Some(delay));
        let mut state = lock(&self.state);
        while !self.is_ending(&state) && !deadline.is_over() {
            state = wait(&self.changed, state, deadline.left());
        }
    }

    fn is_ending(&self, state: &State) -> bool {
        state.is_closing || state.is_over
    }

    /// The writer: sends what is queued, while there is a connection that takes it.
    fn write(&self) {
        let mut state = lock(&self.state);
        while !state.is_over {
            let ws = state.ws.clone().filter(|_| state.can_send);
            let Some((ws, message)) = ws.and_then(|ws| Some((ws, state.outgoing.pop_front()?))) else {
                state = wait(&self.changed, state, None);
                continue;
            };
            state.is_sending = true;
            drop(state);
            let failure = ws.send(&message).err();
            let timeout = failure.clone().filter(|error| error.kind() == ErrorKind::Timeout);
            if timeout.is_some() {
                // A peer that takes nothing may still send: end it, so that there is a next one.
                ws.abort();
            }
            state = lock(&self.state);
            state.is_sending = false;
            if let Some(error) = failure {
                log::debug!("kept a message that was not sent: {error}");
                state.outgoing.push_front(message);
                state.can_send = false;
                state.send_failure = timeout;
            }
            self.changed.notify_all();
        }
    }

    /// The closing: what is queued goes out first, as far as the time goes.
    fn close_by(&self, code: CloseCode, reason: &str, deadline: Deadline) {
        let mut state = lock(&self.state);
        while !state.is_over
            && state.ws.is_some()
            && state.can_send
            && (state.is_sending || !state.outgoing.is_empty())
            && !deadline.is_over()
        {
            state = wait(&self.changed, state, deadline.left());
        }
        let Some(ws) = state.ws.clone() else {
            drop(state);
            self.fail(Error::new(ErrorKind::Closed, "closed by this side before it was open"));
            return;
        };
        drop(state);
        // The supervisor receives how this ends.
        let _ = ws.close_by(code, reason, deadline);
    }

    /// The end, unless it is delivered already.
    fn fail(&self, error: Error) {
        if let Some(ws) = self.finish() {
            ws.close_now();
        }
        self.queue.push(Event::End(End::Failed(error)));
    }

    /// Ends every thread; the connection that there was.
    fn finish(&self) -> Option<WebSocket> {
        let mut state = lock(&self.state);
        state.is_over = true;
        self.changed.notify_all();
        state.ws.take()
    }
}
