//! The threads of a connection in the background, and what they share.
//!
//! - The supervisor connects, receives, and connects again. It decides what follows an end. The program's hooks and policy run
//!   on it.
//! - The sender sends the queued messages while there is a connection.
//! - The closer waits for [`Supervisor::close`], then runs the closing handshake: at that time the supervisor may be
//!   in a hook of the program, and the sender may be blocked.
//!
//! ```text
//!              an attempt begins        connected            on_open is done
//!   Waiting ───────────────────▶ Connecting ──────▶ Opening ─────────────────▶ Connected
//!      ▲                             │ failed          │ failed                     │ ended
//!      └─────────────────────────────┴─────────────────┴────────────────────────────┘
//!   Each of them: `close` ─▶ Closing ─▶ Over; the last end, a panic, or dropping the Background ─▶ Over
//! ```
//!
//! All three threads run from the start to the end, so that a close cannot fail because no thread can be started.
//! [`Phase::Over`] ends them; it is set once, by the thread that delivers the end.
//!
//! The lock is not held while a function of the program runs, while a log line is written (a logger may send it through this
//! very connection), or while a message, an event or a connection is dropped.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::attempt::AttemptInfo;
use super::event::{ConnectionEnd, Event};
use super::event_queue::Queue;
use super::outbox::{Outbox, Queued, QueuedMessage};
use super::reader_thread::read_into;
use super::reconnect::{Backoff, Decision, random};
use super::send_error::SendError;
use super::thread::{named, naming, spawn};
use crate::client::cancel::CancelToken;
use crate::close_code::{CloseCode, ReadyState};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::sleep_detector::SleepDetector;
use crate::statistics::Statistics;
use crate::sync::{Condvar, Instant, Mutex, lock, wait, wall_clock};
use crate::websocket::WebSocket;

/// How often the wait for the next attempt checks whether the machine has slept.
const SLEEP_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How much longer than its bound `close_and_wait` waits for the end, which comes when the bound is over.
const END_ALLOWANCE: Duration = Duration::from_secs(1);

pub(super) struct Supervisor {
    pub queue: Arc<Queue>,
    close_timeout: Option<Duration>,
    /// `false`: the first end is the last.
    reconnects: bool,
    state: Mutex<State>,
    changed: Condvar,
}

/// The program's part in each connection.
pub(super) struct Hooks {
    /// Makes a connection, `before_connect` included.
    pub connect: Box<dyn FnMut(AttemptInfo<'_>) -> Result<WebSocket> + Send>,
    pub on_open: Option<Arc<OnOpen>>,
}

pub(super) type OnOpen = dyn Fn(&WebSocket) -> Result<()> + Send + Sync;

struct State {
    outbox: Outbox,
    phase: Phase,
    /// `reconnect_now` was called, and no attempt has begun since.
    is_reconnect_asked: bool,
    /// What went through the connections that have ended.
    past: Statistics,
}

enum Phase {
    /// Until the next attempt begins.
    Waiting,
    /// An attempt to connect is under way.
    Connecting(CancelToken),
    /// There is a connection, and `on_open` runs.
    Opening(WebSocket),
    /// There is a connection: it is open, or what follows its end is not decided yet.
    Connected(WebSocket),
    /// `close` was called.
    Closing(Closing),
    /// The end is delivered, or the program has dropped the `Background`: then there is none.
    Over(Option<ConnectionEnd>),
}

#[derive(Clone)]
struct CloseRequest {
    code: CloseCode,
    reason: String,
    deadline: Deadline,
}

/// What the closer has to do.
#[derive(Clone)]
struct Closing {
    /// The connection, if there was one.
    ws: Option<WebSocket>,
    /// `on_open` was running.
    was_opening: bool,
    request: CloseRequest,
}

/// What becomes of a new connection.
enum Opening {
    Wanted,
    /// `reconnect_now` was called meanwhile.
    Doubted,
    /// It is over, or being closed.
    Unwanted,
}

impl Phase {
    fn connection(&self) -> Option<&WebSocket> {
        match self {
            Phase::Opening(ws) | Phase::Connected(ws) => Some(ws),
            Phase::Closing(closing) => closing.ws.as_ref(),
            Phase::Waiting | Phase::Connecting(_) | Phase::Over(_) => None,
        }
    }

    /// Whether the next end is the last.
    fn is_ending(&self) -> bool {
        match self {
            Phase::Closing(_) | Phase::Over(_) => true,
            Phase::Waiting | Phase::Connecting(_) | Phase::Opening(_) | Phase::Connected(_) => false,
        }
    }

    fn ready_state(&self) -> ReadyState {
        match self {
            Phase::Waiting | Phase::Connecting(_) | Phase::Opening(_) => ReadyState::Connecting,
            Phase::Connected(_) => ReadyState::Open,
            Phase::Closing(_) => ReadyState::Closing,
            Phase::Over(_) => ReadyState::Closed,
        }
    }
}

impl Supervisor {
    pub fn new(
        queue: Arc<Queue>,
        outbox: Outbox,
        close_timeout: Option<Duration>,
        reconnects: bool,
    ) -> Arc<Supervisor> {
        let state = State { outbox, phase: Phase::Waiting, is_reconnect_asked: false, past: Statistics::default() };
        Arc::new(Supervisor { queue, close_timeout, reconnects, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Starts the three threads, or none.
    pub fn start(self: &Arc<Supervisor>, mut hooks: Hooks, mut backoff: Backoff) -> Result<()> {
        let (sender, closer, supervisor) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let started = spawn("wsync sender", move || sender.send_queued())
            .and_then(|_| spawn("wsync closer", move || closer.close_when_asked()))
            .and_then(|_| {
                spawn("wsync supervisor", move || {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| supervisor.drive(&mut hooks, &mut backoff))) {
                        supervisor.fail(named(&*panic));
                    }
                })
            });
        if started.is_err() {
            self.abandon();
        }
        started.map(drop)
    }

    /// Queues a message, or returns it in the error. Never blocks.
    pub fn send(&self, queued: QueuedMessage) -> Result<(), SendError> {
        let mut state = lock(&self.state);
        if state.phase.is_ending() {
            drop(state);
            let text = "cannot send: the connection in the background is closing or closed";
            return Err(SendError::new(queued.message, ErrorKind::Closed, text));
        }
        let result = state.outbox.push(queued);
        self.changed.notify_all();
        drop(state);
        match result {
            Queued::Taken { dropped } => {
                drop(dropped);
                Ok(())
            }
            Queued::Refused(queued) => {
                let text = "cannot send: the queue is full (send_capacity); try again later, or choose what to drop (when_full)";
                Err(SendError::new(queued.message, ErrorKind::WouldBlock, text))
            }
        }
    }

    pub fn take_unsent(&self) -> Vec<Message> {
        let unsent = lock(&self.state).outbox.take_all();
        self.changed.notify_all();
        unsent.into_iter().map(|queued| queued.message).collect()
    }

    pub fn ready_state(&self) -> ReadyState {
        lock(&self.state).phase.ready_state()
    }

    /// The connection that there is now.
    pub fn connection(&self) -> Option<WebSocket> {
        lock(&self.state).phase.connection().cloned()
    }

    /// The bytes of the messages that wait to be sent, and of those that the connection has accepted.
    pub fn buffered_amount(&self) -> usize {
        let (ws, bytes) = {
            let state = lock(&self.state);
            (state.phase.connection().cloned(), state.outbox.bytes())
        };
        bytes + ws.map_or(0, |ws| ws.buffered_amount())
    }

    pub fn dropped(&self) -> u64 {
        lock(&self.state).outbox.dropped()
    }

    /// Of all connections, those that have ended included.
    pub fn statistics(&self) -> Statistics {
        let (mut statistics, ws) = {
            let state = lock(&self.state);
            (state.past, state.phase.connection().cloned())
        };
        if let Some(ws) = ws {
            statistics += ws.statistics();
        }
        statistics
    }

    /// Begins the next attempt now: ends the wait for it, the attempt that is under way, or the connection. Never blocks.
    pub fn reconnect_now(&self) {
        let (cancel, ws) = {
            let mut state = lock(&self.state);
            if state.phase.is_ending() || !self.reconnects {
                return;
            }
            state.is_reconnect_asked = true;
            self.changed.notify_all();
            match &state.phase {
                Phase::Connecting(cancel) => (Some(cancel.clone()), None),
                phase => (None, phase.connection().cloned()),
            }
        };
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
        if let Some(ws) = ws {
            ws.close_now();
        }
    }

    /// Asks the closer to close within `close_timeout`. Only the first call counts. Never blocks.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.close_by(code, reason, Deadline::after("close_timeout", self.close_timeout));
    }

    /// The same, within `timeout`, and waits for the end.
    pub fn close_and_wait(&self, code: CloseCode, reason: &str, timeout: Option<Duration>) -> Result<ConnectionEnd> {
        let deadline = Deadline::after("timeout", timeout);
        self.close_by(code, reason, deadline);
        let longer = Deadline::after("timeout", timeout.map(|timeout| timeout.saturating_add(END_ALLOWANCE)));
        let untaken =
            || ConnectionEnd::Failed(Error::new(ErrorKind::Closed, "it has ended, and nobody takes its events"));
        match self.wait_until_over(&longer) {
            Some(end) => Ok(end.unwrap_or_else(untaken)),
            None => {
                let why = "closing: a function of the program does not return, or an earlier close may take longer";
                Err(deadline.error(why))
            }
        }
    }

    fn close_by(&self, code: CloseCode, reason: &str, deadline: Deadline) {
        let request = CloseRequest { code, reason: reason.to_string(), deadline };
        let cancel = {
            let mut state = lock(&self.state);
            let before = mem::replace(&mut state.phase, Phase::Waiting);
            let was_opening = matches!(before, Phase::Opening(_));
            let closing = |ws| Phase::Closing(Closing { ws, was_opening, request });
            let (phase, cancel) = match before {
                Phase::Waiting => (closing(None), None),
                Phase::Connecting(cancel) => (closing(None), Some(cancel)),
                Phase::Opening(ws) | Phase::Connected(ws) => (closing(Some(ws)), None),
                unchanged @ (Phase::Closing(_) | Phase::Over(_)) => (unchanged, None),
            };
            state.phase = phase;
            self.changed.notify_all();
            cancel
        };
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
    }

    /// Ends everything without another event. Never blocks.
    pub fn abandon(&self) {
        self.queue.stop();
        self.drop_connection();
    }

    // The supervisor

    fn drive(&self, hooks: &mut Hooks, backoff: &mut Backoff) {
        let mut last_end: Option<ConnectionEnd> = None;
        while let Some(cancel) = self.begin_attempt() {
            let info = AttemptInfo { number: backoff.attempts(), last_end: last_end.as_ref(), cancel };
            let end = match (hooks.connect)(info) {
                Ok(ws) => {
                    let Some(end) = self.serve(ws, hooks.on_open.as_deref(), backoff) else { return };
                    end
                }
                Err(error) => ConnectionEnd::Failed(error),
            };
            let (decision, end) = self.decide(end, backoff);
            if !self.follow(decision, &end) {
                return;
            }
            last_end = Some(end);
        }
    }

    /// `None` when no attempt is wanted any more.
    fn begin_attempt(&self) -> Option<CancelToken> {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Waiting) {
            return None;
        }
        let cancel = CancelToken::new();
        state.phase = Phase::Connecting(cancel.clone());
        state.is_reconnect_asked = false;
        Some(cancel)
    }

    /// Opens a new connection, and passes on all that comes on it, until its end. `None` when nobody wants that any more.
    fn serve(&self, ws: WebSocket, on_open: Option<&OnOpen>, backoff: &mut Backoff) -> Option<ConnectionEnd> {
        self.queue.watch(&ws);
        match self.begin_opening(&ws) {
            Opening::Wanted => {}
            Opening::Doubted => {
                ws.close_now();
                return Some(given_up());
            }
            Opening::Unwanted => {
                ws.close_now();
                return None;
            }
        }
        if let Some(Err(error)) = on_open.map(|on_open| naming("on_open", || on_open(&ws))) {
            if !lock(&self.state).phase.is_ending() {
                log::debug!("on_open failed: {error}");
                ws.close_now();
                return Some(ConnectionEnd::Failed(error));
            }
        }
        let since = Instant::now();
        let end = self.receive(&ws)?;
        backoff.connection_ended(since.elapsed());
        Some(end)
    }

    fn begin_opening(&self, ws: &WebSocket) -> Opening {
        let mut state = lock(&self.state);
        match state.phase {
            // It was called when the connection was there, and nobody knew of it yet.
            Phase::Connecting(_) if state.is_reconnect_asked => Opening::Doubted,
            Phase::Connecting(_) => {
                state.phase = Phase::Opening(ws.clone());
                Opening::Wanted
            }
            _ => Opening::Unwanted,
        }
    }

    /// Passes on all that comes.
    fn receive(&self, ws: &WebSocket) -> Option<ConnectionEnd> {
        // A connection that is being closed already does not become an event.
        let is_wanted = !self.open(ws) || self.queue.push(Event::Open(ws.clone()));
        let Some(end) = is_wanted.then(|| read_into(&self.queue, ws)).flatten() else {
            drop(self.finish(None));
            if self.queue.has_wake_panicked() {
                let _ = ws.close(CloseCode::INTERNAL_ERROR, "");
            } else {
                // The sender may be blocked on it, and who dropped the events may have found that it is over already.
                ws.close_now();
            }
            return None;
        };
        Some(match (end, self.stop_sending(ws)) {
            (ConnectionEnd::Failed(error), Some(failure)) if error.kind() == ErrorKind::Closed => {
                ConnectionEnd::Failed(failure)
            }
            (end, _) => end,
        })
    }

    /// Lets the sender begin. `false` if the connection is being closed.
    fn open(&self, ws: &WebSocket) -> bool {
        let mut state = lock(&self.state);
        let is_open = matches!(state.phase, Phase::Opening(_));
        if is_open {
            let before = mem::replace(&mut state.phase, Phase::Connected(ws.clone()));
            state.outbox.resume();
            self.changed.notify_all();
            drop(state);
            drop(before);
        }
        is_open
    }

    /// Pauses the sender after the end of a connection, and waits until the message that it could not send is back in its
    /// place. Returns why the connection was dropped, if a send was the reason.
    fn stop_sending(&self, ws: &WebSocket) -> Option<Error> {
        let holds_message = {
            let mut state = lock(&self.state);
            self.changed.notify_all();
            state.outbox.pause()
        };
        if holds_message {
            // The peer may have ended only its own side: the send must not go on.
            ws.abort();
        }
        let mut state = lock(&self.state);
        loop {
            if let Some(failure) = state.outbox.failure_once_paused() {
                return failure;
            }
            state = wait(&self.changed, state, None);
        }
    }

    /// What follows an end; the end as the program sees it.
    fn decide(&self, end: ConnectionEnd, backoff: &mut Backoff) -> (Decision, ConnectionEnd) {
        {
            let state = lock(&self.state);
            match &state.phase {
                // The attempt failed because it was cancelled.
                Phase::Closing(Closing { ws: None, .. }) => return (Decision::Stop, closed_before_open()),
                phase if phase.is_ending() => return (Decision::Stop, end),
                _ if state.is_reconnect_asked => {
                    return (backoff.retry_now(), given_up());
                }
                _ => {}
            }
        }
        // The program's policy runs in there.
        (backoff.decide(&end, random, wall_clock()), end)
    }

    /// Does what was decided; returns whether to connect again, now.
    fn follow(&self, decision: Decision, end: &ConnectionEnd) -> bool {
        let (attempt, delay) = match decision {
            Decision::Retry { attempt, delay } if self.disconnect() => (attempt, delay),
            Decision::Retry { .. } | Decision::Stop => {
                self.end(end.clone());
                return false;
            }
        };
        log::debug!("connecting again in {delay:?}: {end}");
        if !self.queue.push(Event::Reconnecting { attempt, delay, cause: end.clone() }) {
            drop(self.finish(None));
            return false;
        }
        self.sleep(delay);
        self.queue.wait_for_room(None);
        true
    }

    /// Forgets the connection, to make another; `false` when that is not wanted any more.
    fn disconnect(&self) -> bool {
        let ended = self.connection().map(|ws| ws.statistics()).unwrap_or_default();
        let mut state = lock(&self.state);
        if state.phase.is_ending() {
            return false;
        }
        state.past += ended;
        let before = mem::replace(&mut state.phase, Phase::Waiting);
        self.changed.notify_all();
        drop(state);
        drop(before);
        true
    }

    /// Waits until the next attempt is due, or asked for, or none is wanted, or the machine has slept: then the network may be
    /// another.
    fn sleep(&self, delay: Duration) {
        let deadline = Deadline::after("delay", Some(delay));
        let mut sleep = SleepDetector::default();
        let mut state = lock(&self.state);
        while matches!(state.phase, Phase::Waiting)
            && !state.is_reconnect_asked
            && !deadline.is_over()
            && !sleep.has_slept(Instant::now(), wall_clock())
        {
            state = wait(&self.changed, state, Some(deadline.left_at_most(SLEEP_CHECK_INTERVAL)));
        }
    }

    // The sender

    fn send_queued(&self) {
        while let Some((ws, queued)) = self.next_to_send() {
            match ws.send_through(&queued.as_outgoing()) {
                Ok(()) => {
                    let length = queued.message.len();
                    drop(queued);
                    let mut state = lock(&self.state);
                    state.outbox.sent(length);
                    self.changed.notify_all();
                }
                Err(error) => self.not_sent(&ws, queued, error),
            }
        }
    }

    /// Waits for a message and a connection; `None` at the end.
    fn next_to_send(&self) -> Option<(WebSocket, QueuedMessage)> {
        let mut state = lock(&self.state);
        loop {
            if matches!(state.phase, Phase::Over(_)) {
                return None;
            }
            if let Some(ws) = state.phase.connection().cloned() {
                if let Some(queued) = state.outbox.begin() {
                    return Some((ws, queued));
                }
            }
            state = wait(&self.changed, state, None);
        }
    }

    fn not_sent(&self, ws: &WebSocket, queued: QueuedMessage, error: Error) {
        log::debug!("kept a message that was not sent: {error}");
        let failure = (error.kind() == ErrorKind::Timeout).then_some(error);
        if failure.is_some() {
            // A peer that takes nothing may still send: drop the connection, so that there is a next one.
            ws.abort();
        }
        let mut state = lock(&self.state);
        state.outbox.not_sent(queued, failure);
        self.changed.notify_all();
    }

    // The closer

    fn close_when_asked(&self) {
        let Some(Closing { ws, was_opening, request }) = self.wait_for_close() else { return };
        let Some(ws) = ws else {
            return self.end(closed_before_open());
        };
        self.wait_until_sent(&request.deadline);
        // The supervisor receives how this ends, and delivers it.
        let result = ws.close_by(request.code, &request.reason, request.deadline);
        if was_opening && self.wait_until_over(&request.deadline).is_none() {
            // The supervisor does not come back from on_open.
            self.end(match result {
                Ok(()) => ConnectionEnd::of_closed(&ws),
                Err(error) => ConnectionEnd::Failed(error),
            });
        }
    }

    fn wait_for_close(&self) -> Option<Closing> {
        let mut state = lock(&self.state);
        loop {
            match &state.phase {
                Phase::Closing(closing) => return Some(closing.clone()),
                Phase::Over(_) => return None,
                Phase::Waiting | Phase::Connecting(_) | Phase::Opening(_) | Phase::Connected(_) => {
                    state = wait(&self.changed, state, None);
                }
            }
        }
    }

    /// Waits until the queued messages are sent, or the deadline is over.
    fn wait_until_sent(&self, deadline: &Deadline) {
        let mut state = lock(&self.state);
        while state.outbox.has_more() && !deadline.is_over() && !matches!(state.phase, Phase::Over(_)) {
            state = wait(&self.changed, state, deadline.left());
        }
    }

    /// Waits until it is over, by the deadline; returns the end that was delivered, if there was one. `None`: it is not over.
    fn wait_until_over(&self, deadline: &Deadline) -> Option<Option<ConnectionEnd>> {
        let mut state = lock(&self.state);
        loop {
            if let Phase::Over(end) = &state.phase {
                return Some(end.clone());
            }
            let left = deadline.left();
            if left == Some(Duration::ZERO) {
                return None;
            }
            state = wait(&self.changed, state, left);
        }
    }

    // The end

    /// Delivers the end, unless it is over already.
    fn end(&self, end: ConnectionEnd) {
        if let Some(before) = self.finish(Some(end.clone())) {
            drop(before);
            self.queue.push(Event::End(end));
        }
    }

    /// Ends everything because a function of the program has panicked.
    fn fail(&self, error: Error) {
        let end = ConnectionEnd::Failed(error);
        let before = self.finish(Some(end.clone()));
        self.queue.push(Event::End(end));
        // A connection that is being closed is left to the closer.
        if let Some(Phase::Opening(ws) | Phase::Connected(ws)) = before {
            let _ = ws.close(CloseCode::INTERNAL_ERROR, "");
        }
    }

    fn drop_connection(&self) {
        match self.finish(None) {
            Some(Phase::Connecting(cancel)) => cancel.cancel(),
            Some(before) => {
                if let Some(ws) = before.connection() {
                    ws.close_now();
                }
            }
            None => {}
        }
    }

    /// Ends every thread, once; returns the phase before, to be dropped.
    fn finish(&self, end: Option<ConnectionEnd>) -> Option<Phase> {
        let ended = self.connection().map(|ws| ws.statistics()).unwrap_or_default();
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Over(_)) {
            return None;
        }
        state.past += ended;
        let before = mem::replace(&mut state.phase, Phase::Over(end));
        self.changed.notify_all();
        Some(before)
    }
}

fn given_up() -> ConnectionEnd {
    ConnectionEnd::Failed(Error::new(ErrorKind::Closed, "given up for another attempt, by reconnect_now"))
}

fn closed_before_open() -> ConnectionEnd {
    ConnectionEnd::Failed(Error::new(ErrorKind::Closed, "closed by this side before it was open"))
}
