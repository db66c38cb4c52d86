//! The threads of a connection in the background, and what they share.
//!
//! - The supervisor connects, receives, and connects again. It decides what follows an end.
//! - The sender sends the queued messages while there is a connection.
//! - The closer waits for [`Supervisor::close`], then runs the closing handshake: at that time the supervisor may be
//!   connecting, and the sender may be blocked.
//!
//! All three run from the start to the end, so that a close cannot fail because no thread can be started. [`Phase::Over`]
//! ends them; it is set once, by the thread that delivers the end.
//!
//! The lock is not held while a function of the program runs, while a log line is written (a logger may send it through this
//! very connection), or while a message, an event or a connection is dropped.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use super::event::{ConnectionEnd, Event};
use super::event_queue::Queue;
use super::reader_thread::read_into;
use super::reconnect::{Backoff, Decision, random};
use super::thread::{panicked, spawn};
use crate::close_code::{CloseCode, ReadyState};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::outgoing::Outgoing;
use crate::sync::{Condvar, Instant, Mutex, lock, wait};
use crate::websocket::WebSocket;

pub(super) struct Supervisor {
    pub queue: Arc<Queue>,
    send_capacity: usize,
    close_timeout: Option<Duration>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The message that the sender holds is not in here.
    outgoing: VecDeque<QueuedMessage>,
    delivery: Delivery,
    phase: Phase,
}

/// A message that waits to be sent.
pub(super) struct QueuedMessage {
    pub message: Message,
    pub may_compress: bool,
}

impl QueuedMessage {
    fn as_outgoing(&self) -> Outgoing<'_> {
        let outgoing = Outgoing::from(&self.message);
        if self.may_compress { outgoing } else { outgoing.uncompressed() }
    }
}

enum Phase {
    /// Connecting, or waiting to connect again.
    Connecting,
    /// There is a connection: it is open, or what follows its end is not decided yet.
    Connected(WebSocket),
    /// `close` was called. `ws`: the connection, if there was one.
    Closing { ws: Option<WebSocket>, request: CloseRequest },
    /// The end is delivered, or the program has dropped the `Background`.
    Over,
}

#[derive(Clone)]
struct CloseRequest {
    code: CloseCode,
    reason: String,
    deadline: Deadline,
}

/// What the sender does.
enum Delivery {
    /// It waits for a connection. The error is why the last one was dropped, if a send was the reason.
    Paused(Option<Error>),
    /// It sends the next message as soon as there is one.
    Ready,
    /// It sends a message. If that fails, the message goes back to the front.
    Sending,
    /// The same, on a connection that has ended.
    Failing,
}

impl Phase {
    fn connection(&self) -> Option<&WebSocket> {
        match self {
            Phase::Connected(ws) | Phase::Closing { ws: Some(ws), .. } => Some(ws),
            Phase::Connecting | Phase::Closing { ws: None, .. } | Phase::Over => None,
        }
    }
}

impl Delivery {
    fn holds_message(&self) -> bool {
        matches!(self, Delivery::Sending | Delivery::Failing)
    }
}

impl Supervisor {
    pub fn new(queue: Arc<Queue>, send_capacity: usize, close_timeout: Option<Duration>) -> Arc<Supervisor> {
        let state = State { outgoing: VecDeque::new(), delivery: Delivery::Paused(None), phase: Phase::Connecting };
        Arc::new(Supervisor {
            queue,
            send_capacity: send_capacity.max(1),
            close_timeout,
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// Starts the three threads, or none.
    pub fn start(
        self: &Arc<Supervisor>,
        mut connect: impl FnMut() -> Result<WebSocket> + Send + 'static,
        mut backoff: Backoff,
    ) -> Result<()> {
        let (sender, closer, supervisor) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let started = spawn("wsync sender", move || sender.send_queued())
            .and_then(|_| spawn("wsync closer", move || closer.close_when_asked()))
            .and_then(|_| {
                spawn("wsync supervisor", move || {
                    // The program's policy runs in there.
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| supervisor.drive(&mut connect, &mut backoff)))
                    {
                        supervisor.fail(panicked("the reconnect policy", &*panic));
                    }
                })
            });
        if started.is_err() {
            self.abandon();
        }
        started.map(drop)
    }

    /// Queues a message, or returns it in the error. Never blocks.
    pub fn send(&self, queued: QueuedMessage) -> Result<(), TrySendError<Message>> {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Closing { .. } | Phase::Over) {
            return Err(TrySendError::Disconnected(queued.message));
        }
        if state.outgoing.len() + usize::from(state.delivery.holds_message()) >= self.send_capacity {
            return Err(TrySendError::Full(queued.message));
        }
        state.outgoing.push_back(queued);
        self.changed.notify_all();
        Ok(())
    }

    pub fn take_unsent(&self) -> Vec<Message> {
        let unsent = mem::take(&mut lock(&self.state).outgoing);
        self.changed.notify_all();
        unsent.into_iter().map(|queued| queued.message).collect()
    }

    pub fn ready_state(&self) -> ReadyState {
        match lock(&self.state).phase {
            Phase::Connecting => ReadyState::Connecting,
            Phase::Connected(_) => ReadyState::Open,
            Phase::Closing { .. } => ReadyState::Closing,
            Phase::Over => ReadyState::Closed,
        }
    }

    /// Asks the closer to close. Only the first call counts. Never blocks.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let deadline = Deadline::after("close_timeout", self.close_timeout);
        let request = CloseRequest { code, reason: reason.to_string(), deadline };
        let mut state = lock(&self.state);
        state.phase = match mem::replace(&mut state.phase, Phase::Over) {
            Phase::Connecting => Phase::Closing { ws: None, request },
            Phase::Connected(ws) => Phase::Closing { ws: Some(ws), request },
            unchanged @ (Phase::Closing { .. } | Phase::Over) => unchanged,
        };
        self.changed.notify_all();
    }

    /// Ends everything without another event. Never blocks.
    pub fn abandon(&self) {
        self.queue.stop();
        self.drop_connection();
    }

    // The supervisor

    fn drive(&self, connect: &mut dyn FnMut() -> Result<WebSocket>, backoff: &mut Backoff) {
        while self.is_connecting() {
            let end = match connect() {
                Ok(ws) => {
                    let since = Instant::now();
                    let Some(end) = self.receive(ws) else { return };
                    backoff.connection_ended(since.elapsed());
                    end
                }
                Err(error) => ConnectionEnd::Failed(error),
            };
            let decision = if self.is_closing() { Decision::Stop } else { backoff.decide(&end, random) };
            if !self.follow(decision, end) {
                return;
            }
        }
    }

    fn is_connecting(&self) -> bool {
        matches!(lock(&self.state).phase, Phase::Connecting)
    }

    /// Whether the next end is the last: no policy is asked.
    fn is_closing(&self) -> bool {
        matches!(lock(&self.state).phase, Phase::Closing { .. } | Phase::Over)
    }

    /// Passes on all that comes on a new connection. `None` when nobody wants events any more.
    fn receive(&self, ws: WebSocket) -> Option<ConnectionEnd> {
        self.queue.watch(&ws);
        if !self.open(&ws) {
            ws.close_now();
            return None;
        }
        let is_wanted = self.queue.push(Event::Open(ws.clone()));
        let Some(end) = is_wanted.then(|| read_into(&self.queue, &ws)).flatten() else {
            drop(self.finish());
            if self.queue.has_wake_panicked() {
                let _ = ws.close(CloseCode::INTERNAL_ERROR, "");
            } else {
                // The sender may be blocked on it, and who dropped the events may have found that it is over already.
                ws.close_now();
            }
            return None;
        };
        Some(match (end, self.stop_sending(&ws)) {
            (ConnectionEnd::Failed(error), Some(failure)) if error.kind() == ErrorKind::Closed => {
                ConnectionEnd::Failed(failure)
            }
            (end, _) => end,
        })
    }

    fn open(&self, ws: &WebSocket) -> bool {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Connecting) {
            return false;
        }
        state.phase = Phase::Connected(ws.clone());
        state.delivery = Delivery::Ready;
        self.changed.notify_all();
        true
    }

    /// Pauses the sender after the end of a connection, and waits until the message that it could not send is back in its
    /// place. Returns why the connection was dropped, if a send was the reason.
    fn stop_sending(&self, ws: &WebSocket) -> Option<Error> {
        if self.pause_sending() {
            // The peer may have ended only its own side: the send must not go on.
            ws.abort();
        }
        let mut state = lock(&self.state);
        loop {
            if let Delivery::Paused(failure) = &mut state.delivery {
                return failure.take();
            }
            state = wait(&self.changed, state, None);
        }
    }

    /// Lets the sender begin no more messages; returns whether it holds one.
    fn pause_sending(&self) -> bool {
        let mut state = lock(&self.state);
        match state.delivery {
            Delivery::Sending => state.delivery = Delivery::Failing,
            Delivery::Ready => state.delivery = Delivery::Paused(None),
            Delivery::Failing | Delivery::Paused(_) => {}
        }
        self.changed.notify_all();
        state.delivery.holds_message()
    }

    /// Does what was decided; returns whether to connect again, now.
    fn follow(&self, decision: Decision, end: ConnectionEnd) -> bool {
        let (attempt, delay) = match decision {
            Decision::Retry { attempt, delay } if self.disconnect() => (attempt, delay),
            Decision::Retry { .. } | Decision::Stop => {
                self.end(end);
                return false;
            }
        };
        log::debug!("connecting again in {delay:?}: {end}");
        if !self.queue.push(Event::Reconnecting { attempt, delay, cause: end }) {
            drop(self.finish());
            return false;
        }
        self.sleep(delay);
        self.queue.wait_for_room(None);
        true
    }

    /// Forgets the connection, to make another; `false` when that is not wanted any more.
    fn disconnect(&self) -> bool {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Closing { .. } | Phase::Over) {
            return false;
        }
        let before = mem::replace(&mut state.phase, Phase::Connecting);
        self.changed.notify_all();
        drop(state);
        drop(before);
        true
    }

    /// Waits until the next attempt is due, or none is wanted.
    fn sleep(&self, delay: Duration) {
        let deadline = Deadline::after("delay", Some(delay));
        let mut state = lock(&self.state);
        while matches!(state.phase, Phase::Connecting) && !deadline.is_over() {
            state = wait(&self.changed, state, deadline.left());
        }
    }

    // The sender

    fn send_queued(&self) {
        while let Some((ws, message)) = self.next_to_send() {
            match ws.send_through(&message.as_outgoing()) {
                Ok(()) => {
                    drop(message);
                    self.sent();
                }
                Err(error) => self.not_sent(&ws, message, error),
            }
        }
    }

    /// Waits for a message and a connection; `None` at the end.
    fn next_to_send(&self) -> Option<(WebSocket, QueuedMessage)> {
        let mut state = lock(&self.state);
        loop {
            if matches!(state.phase, Phase::Over) {
                return None;
            }
            if matches!(state.delivery, Delivery::Ready) && !state.outgoing.is_empty() {
                if let Some(ws) = state.phase.connection().cloned() {
                    let message = state.outgoing.pop_front()?;
                    state.delivery = Delivery::Sending;
                    return Some((ws, message));
                }
            }
            state = wait(&self.changed, state, None);
        }
    }

    fn sent(&self) {
        let mut state = lock(&self.state);
        state.delivery = match state.delivery {
            Delivery::Failing => Delivery::Paused(None),
            Delivery::Sending | Delivery::Ready | Delivery::Paused(_) => Delivery::Ready,
        };
        self.changed.notify_all();
    }

    fn not_sent(&self, ws: &WebSocket, message: QueuedMessage, error: Error) {
        log::debug!("kept a message that was not sent: {error}");
        let failure = (error.kind() == ErrorKind::Timeout).then_some(error);
        if failure.is_some() {
            // A peer that takes nothing may still send: drop the connection, so that there is a next one.
            ws.abort();
        }
        let mut state = lock(&self.state);
        state.outgoing.push_front(message);
        state.delivery = Delivery::Paused(failure);
        self.changed.notify_all();
    }

    // The closer

    fn close_when_asked(&self) {
        let Some(CloseRequest { code, reason, deadline }) = self.wait_for_close() else { return };
        match self.wait_until_sent(&deadline) {
            // The supervisor receives how this ends.
            Some(ws) => drop(ws.close_by(code, &reason, deadline)),
            None => {
                self.end(ConnectionEnd::Failed(Error::new(ErrorKind::Closed, "closed by this side before it was open")))
            }
        }
    }

    fn wait_for_close(&self) -> Option<CloseRequest> {
        let mut state = lock(&self.state);
        loop {
            match &state.phase {
                Phase::Closing { request, .. } => return Some(request.clone()),
                Phase::Over => return None,
                Phase::Connecting | Phase::Connected(_) => state = wait(&self.changed, state, None),
            }
        }
    }

    /// Waits until the queued messages are sent, or the deadline is over; returns the connection, if there is one.
    fn wait_until_sent(&self, deadline: &Deadline) -> Option<WebSocket> {
        let mut state = lock(&self.state);
        loop {
            let ws = state.phase.connection()?;
            let has_more = match state.delivery {
                Delivery::Sending => true,
                Delivery::Ready => !state.outgoing.is_empty(),
                Delivery::Paused(_) | Delivery::Failing => false,
            };
            if !has_more || deadline.is_over() {
                return Some(ws.clone());
            }
            state = wait(&self.changed, state, deadline.left());
        }
    }

    // The end

    /// Delivers the end, unless it is over already.
    fn end(&self, end: ConnectionEnd) {
        if let Some(before) = self.finish() {
            drop(before);
            self.queue.push(Event::End(end));
        }
    }

    /// Ends everything because a function of the program has panicked.
    fn fail(&self, error: Error) {
        self.drop_connection();
        self.queue.push(Event::End(ConnectionEnd::Failed(error)));
    }

    fn drop_connection(&self) {
        if let Some(ws) = self.finish().as_ref().and_then(Phase::connection) {
            ws.close_now();
        }
    }

    /// Ends every thread, once; returns the phase before, to be dropped.
    fn finish(&self) -> Option<Phase> {
        let mut state = lock(&self.state);
        let before = mem::replace(&mut state.phase, Phase::Over);
        self.changed.notify_all();
        match before {
            Phase::Over => None,
            before @ (Phase::Connecting | Phase::Connected(_) | Phase::Closing { .. }) => Some(before),
        }
    }
}
