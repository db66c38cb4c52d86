//! The connections of a [`Server`](crate::Server): who does its handshake, who is open, and how many there may be.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::memory_limit::{MemoryLimit, MemoryShare};
use crate::sync::{Arc, Condvar, Instant, Mutex, lock, wait};
use crate::transport::ShutdownHandle;
use crate::websocket::{WeakWebSocket, WebSocket};

/// While the server is full, a handshake may take this long before it has to make room for another client.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);
/// How long a client that would be turned away waits for the end of a handshake that was cut for it.
const CUT_WAIT: Duration = Duration::from_millis(100);

/// What a [`Server`](crate::Server) has counted since it began.
///
/// ```no_run
/// # fn run(server: wsync::ServerHandle) {
/// let statistics = server.statistics();
/// println!("{} connections were opened, {} handlers panicked", statistics.opened, statistics.panicked);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatistics {
    /// Connections that were opened.
    pub opened: u64,
    /// Plain requests that `on_http` has answered.
    pub answered: u64,
    /// Clients that got 503, because the server was full.
    pub turned_away: u64,
    /// Further handshakes that did not come to an open connection: wrong, refused by `on_request`, lost or cut.
    pub failed: u64,
    /// Clients who were cut before they had a connection or an answer, because others needed their place or their memory, or the
    /// server stopped. Each counts above, too.
    pub cut: u64,
    /// Clients who were dropped because all together held as much as they may ([`memory_limit`](crate::Server::memory_limit)). Of
    /// these, handshakes count in `failed`, too.
    pub evicted: u64,
    /// Handlers and hooks that panicked.
    pub panicked: u64,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub connections: usize,
    pub handshakes: usize,
}

#[derive(Default)]
pub(super) struct Connections {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    handshakes: VecDeque<Handshake>,
    open: HashMap<u64, WeakWebSocket>,
    /// Threads that serve a client: in its handshake, in the handler, or behind it.
    running: usize,
    /// Those of them that take a place: all but those that turn a client away.
    places: usize,
    /// Accept loops, which have the listener.
    loops: usize,
    /// A loop waits for a client.
    is_accepting: bool,
    last_number: u64,
    is_stopping: bool,
    statistics: ServerStatistics,
}

struct Handshake {
    number: u64,
    since: Instant,
    takes_place: bool,
    /// `None` once it was cut.
    stream: Option<ShutdownHandle>,
}

/// The place of one client, given back on drop.
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
    takes_place: bool,
}

/// An accept loop, until it is dropped.
pub(super) struct AcceptLoop(Arc<Connections>);

/// Whether a client may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    Full,
    /// There is none any more: the server stops.
    Stopping,
}

impl Connections {
    /// How many connections are open.
    pub fn open(&self) -> usize {
        lock(&self.state).open.len()
    }

    pub fn statistics(&self) -> ServerStatistics {
        lock(&self.state).statistics
    }

    pub fn count(&self, count: impl FnOnce(&mut ServerStatistics)) {
        count(&mut lock(&self.state).statistics);
    }

    #[cfg(test)]
    fn room(&self, limits: &Limits) -> Room {
        lock(&self.state).room(limits)
    }

    /// Waits while the server is full. A handshake that takes long makes room. `Free`, or `Stopping`.
    pub fn wait_for_room(&self, limits: &Limits) -> Room {
        let mut state = lock(&self.state);
        loop {
            match state.room(limits) {
                Room::Full => {}
                other => return other,
            }
            let mut left = state.time_to_cut();
            if left == Some(Duration::ZERO) {
                state.cut(|handshake| handshake.takes_place);
                // Its thread may be in a hook of the program, and keep the place: then it is the next one's turn.
                left = Some(HANDSHAKE_GRACE);
            }
            state = wait(&self.changed, state, left);
        }
    }

    /// Whether there is room for a client who is there. While the server is full, a handshake that takes long makes room.
    pub fn make_room(&self, limits: &Limits) -> Room {
        let mut state = lock(&self.state);
        if state.room(limits) == Room::Full && state.time_to_cut() == Some(Duration::ZERO) {
            state.cut(|handshake| handshake.takes_place);
            let deadline = Deadline::after("cut", Some(CUT_WAIT));
            while state.room(limits) == Room::Full && !deadline.is_over() {
                state = wait(&self.changed, state, deadline.left());
            }
        }
        state.room(limits)
    }

    /// A client begins its handshake, to be served in a `Free` room, or to be turned away. If as many as may are doing theirs,
    /// the oldest makes room. `None` when the server stops: who stops it cuts the handshakes that have begun.
    pub fn begin(self: &Arc<Connections>, stream: ShutdownHandle, room: Room, limits: &Limits) -> Option<Place> {
        let mut state = lock(&self.state);
        if state.is_stopping {
            return None;
        }
        if state.handshakes.iter().filter(|handshake| handshake.stream.is_some()).count() >= limits.handshakes {
            state.cut(|_| true);
        }
        let takes_place = room == Room::Free;
        state.last_number += 1;
        state.running += 1;
        state.places += usize::from(takes_place);
        let number = state.last_number;
        state.handshakes.push_back(Handshake { number, since: Instant::now(), takes_place, stream: Some(stream) });
        Some(Place { connections: Arc::clone(self), number, takes_place })
    }

    // The accept loop

    pub fn begin_loop(self: &Arc<Connections>) -> AcceptLoop {
        lock(&self.state).loops += 1;
        AcceptLoop(Arc::clone(self))
    }

    /// Waits for a client, by `accept`. `None` when the server stops: [`stop`](Connections::stop) says whether this is to be woken.
    pub fn accepting<T>(&self, accept: impl FnOnce() -> T) -> Option<T> {
        {
            let mut state = lock(&self.state);
            if state.is_stopping {
                return None;
            }
            state.is_accepting = true;
        }
        let accepted = accept();
        let mut state = lock(&self.state);
        state.is_accepting = false;
        (!state.is_stopping).then_some(accepted)
    }

    // The end

    /// Lets no client begin any more. Returns whether a loop waits for one, and is to be woken.
    pub fn stop(&self) -> bool {
        let mut state = lock(&self.state);
        self.changed.notify_all();
        state.is_stopping = true;
        state.is_accepting
    }

    /// The open connections.
    pub fn members(&self) -> Vec<WebSocket> {
        lock(&self.state).open.values().filter_map(WeakWebSocket::upgrade).collect()
    }

    pub fn cut_handshakes(&self) {
        let mut state = lock(&self.state);
        while state.cut(|_| true) {}
    }

    /// Waits so long, less when the server stops.
    pub fn pause(&self, length: Duration) {
        let state = lock(&self.state);
        if !state.is_stopping {
            drop(wait(&self.changed, state, Some(length)));
        }
    }

    /// Waits until the server stops.
    pub fn wait_until_stopped(&self) {
        let mut state = lock(&self.state);
        while !state.is_stopping {
            state = wait(&self.changed, state, None);
        }
    }

    /// Waits until no thread serves a client and no loop has the listener, at most `left`. Returns how many clients are not
    /// done: those of the threads, and the dropped ones, of which the threads may end at any moment.
    pub fn wait_until_idle(&self, left: impl Fn() -> Option<Duration>, dropped: &[WebSocket]) -> usize {
        let mut state = lock(&self.state);
        while state.running > 0 || state.loops > 0 {
            let left = left();
            if left == Some(Duration::ZERO) {
                break;
            }
            state = wait(&self.changed, state, left);
        }
        let has_thread = |ws: &&WebSocket| {
            let ws = ws.downgrade();
            state.open.values().any(|other| other.is_same(&ws))
        };
        state.running + dropped.iter().filter(|ws| !has_thread(ws)).count()
    }
}

impl State {
    fn room(&self, limits: &Limits) -> Room {
        if self.is_stopping {
            Room::Stopping
        } else if self.places < limits.connections {
            Room::Free
        } else {
            Room::Full
        }
    }

    /// How long the oldest handshake that takes a place may still take while the server is full.
    fn time_to_cut(&self) -> Option<Duration> {
        let oldest = self.handshakes.iter().find(|handshake| handshake.takes_place && handshake.stream.is_some());
        oldest.map(|handshake| HANDSHAKE_GRACE.saturating_sub(handshake.since.elapsed()))
    }

    /// Ends the stream of the oldest handshake of these, if there is one; its thread gives the place back.
    fn cut(&mut self, is_one: impl Fn(&Handshake) -> bool) -> bool {
        let mut all = self.handshakes.iter_mut().filter(|handshake| is_one(handshake));
        let Some(stream) = all.find_map(|handshake| handshake.stream.take()) else {
            return false;
        };
        self.statistics.cut += 1;
        stream.shutdown();
        true
    }
}

impl Place {
    /// What this client holds of the server's memory. In its handshake it is evicted by a cut.
    pub fn memory_share(&self, limit: &Arc<MemoryLimit>) -> MemoryShare {
        let (connections, number) = (Arc::clone(&self.connections), self.number);
        limit.share(Arc::new(move |_| {
            lock(&connections.state).cut(|handshake| handshake.number == number);
        }))
    }

    /// Before the client is told that its connection is open: from now on the handshake is not cut any more. `false` when it was
    /// cut, or the server stops.
    pub fn may_open(&self) -> bool {
        let mut state = lock(&self.connections.state);
        let is_cut = state.handshakes.iter().any(|other| other.number == self.number && other.stream.is_none());
        state.handshakes.retain(|handshake| handshake.number != self.number);
        !is_cut && !state.is_stopping
    }

    /// The connection is open. `false` when the server has begun to stop meanwhile.
    pub fn opened(&self, ws: &WebSocket) -> bool {
        let mut state = lock(&self.connections.state);
        if state.is_stopping {
            state.statistics.failed += 1;
            return false;
        }
        state.open.insert(self.number, ws.downgrade());
        state.statistics.opened += 1;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.connections.state);
        state.handshakes.retain(|handshake| handshake.number != self.number);
        let ended = state.open.remove(&self.number);
        state.running -= 1;
        state.places -= usize::from(self.takes_place);
        self.connections.changed.notify_all();
        drop(state);
        drop(ended);
    }
}

impl Drop for AcceptLoop {
    fn drop(&mut self) {
        lock(&self.0.state).loops -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Stream;

    const TWO: Limits = Limits { connections: 2, handshakes: 2 };
    const MANY: Limits = Limits { connections: 10, ..TWO };
    const ONE: Limits = Limits { connections: 1, ..TWO };

    fn begin(connections: &Arc<Connections>) -> (Place, Stream) {
        let (ours, theirs) = Stream::pair();
        (connections.begin(ours.shutdown_handle().unwrap(), Room::Free, &MANY).unwrap(), theirs)
    }

    fn wait_for_room(connections: &Arc<Connections>, limits: Limits) -> std::thread::JoinHandle<Room> {
        let connections = Arc::clone(connections);
        std::thread::spawn(move || connections.wait_for_room(&limits))
    }

    #[test]
    fn the_oldest_handshake_makes_room_for_another() {
        let connections = Arc::<Connections>::default();
        let places = [begin(&connections), begin(&connections), begin(&connections)];
        assert_eq!(connections.statistics().cut, 1);
        connections.cut_handshakes();
        assert_eq!(connections.statistics().cut, 3);
        assert_eq!(connections.room(&MANY), Room::Free);
        drop(places);
        assert_eq!(connections.wait_until_idle(|| None, &[]), 0);
    }

    #[test]
    fn every_client_takes_a_place_until_its_thread_ends() {
        let connections = Arc::<Connections>::default();
        let one = begin(&connections);
        assert_eq!(connections.room(&TWO), Room::Free);
        let other = begin(&connections);
        assert_eq!(connections.room(&TWO), Room::Full);
        assert_eq!(connections.wait_until_idle(|| Some(Duration::ZERO), &[]), 2);
        let waiting = wait_for_room(&connections, TWO);
        drop(one);
        assert_eq!(waiting.join().unwrap(), Room::Free);
        connections.stop();
        assert_eq!(connections.wait_for_room(&TWO), Room::Stopping);
        drop(other);
    }

    /// Nobody would cut it, nor drop its connection.
    #[test]
    fn no_handshake_begins_after_the_stop_and_a_wait_for_a_client_is_to_be_woken() {
        let connections = Arc::<Connections>::default();
        assert!(!connections.stop(), "nobody waits");
        let (ours, _theirs) = Stream::pair();
        assert!(connections.begin(ours.shutdown_handle().unwrap(), Room::Free, &MANY).is_none());
        assert!(connections.accepting(|| panic!("waits")).is_none_or(|()| false));
        let connections = Arc::<Connections>::default();
        assert!(connections.accepting(|| connections.stop()).is_none());
        let connections = Arc::<Connections>::default();
        assert!(connections.accepting(|| ()).is_some() && !connections.stop());
    }

    /// Nor is one cut that may open: its client is told that it is open.
    #[test]
    fn a_handshake_that_was_cut_does_not_open() {
        let connections = Arc::<Connections>::default();
        let (place, _client) = begin(&connections);
        connections.cut_handshakes();
        assert!(!place.may_open());
        let (place, _client) = begin(&connections);
        assert!(place.may_open());
        connections.cut_handshakes();
        let counted = connections.statistics();
        assert_eq!((counted.opened, counted.cut, connections.open()), (0, 1, 0));
    }

    #[test]
    fn a_client_that_was_dropped_counts_once_whether_its_thread_has_ended_or_not() {
        let connections = Arc::<Connections>::default();
        let (place, _client) = begin(&connections);
        let (ws, _peer) = Stream::pair();
        let ws = WebSocket::upgraded(ws, crate::Role::Server).open().unwrap();
        assert!(place.opened(&ws));
        let dropped = [ws];
        assert_eq!(connections.wait_until_idle(|| Some(Duration::ZERO), &dropped), 1);
        drop(place);
        assert_eq!(connections.wait_until_idle(|| Some(Duration::ZERO), &dropped), 1);
    }

    #[test]
    fn the_end_waits_for_the_last_thread() {
        let connections = Arc::<Connections>::default();
        let (place, _client) = begin(&connections);
        let (looks, looked) = std::sync::mpsc::channel();
        let ending = Arc::clone(&connections);
        let ending = std::thread::spawn(move || {
            let left = || {
                looks.send(()).unwrap();
                None
            };
            ending.wait_until_idle(left, &[])
        });
        looked.recv().unwrap();
        drop(place);
        assert_eq!(ending.join().unwrap(), 0);
    }

    #[test]
    fn who_opens_when_the_server_stops_is_not_served() {
        let connections = Arc::<Connections>::default();
        let (place, _client) = begin(&connections);
        assert!(place.may_open());
        connections.stop();
        let (ws, _peer) = Stream::pair();
        let ws = WebSocket::upgraded(ws, crate::Role::Server).open().unwrap();
        assert!(!place.opened(&ws) && connections.members().is_empty());
        let counted = connections.statistics();
        assert_eq!((counted.opened, counted.failed), (0, 1));
    }

    #[test]
    fn who_is_turned_away_takes_no_place() {
        let connections = Arc::<Connections>::default();
        let (ours, _theirs) = Stream::pair();
        let place = connections.begin(ours.shutdown_handle().unwrap(), Room::Full, &ONE).unwrap();
        assert_eq!(connections.room(&ONE), Room::Free);
        assert_eq!(connections.wait_until_idle(|| Some(Duration::ZERO), &[]), 1);
        drop(place);
        assert_eq!(connections.wait_until_idle(|| None, &[]), 0);
    }

    #[test]
    fn while_the_server_is_full_a_handshake_that_takes_long_is_cut() {
        let connections = Arc::<Connections>::default();
        let place = begin(&connections);
        let waiting = wait_for_room(&connections, ONE);
        while connections.statistics().cut == 0 {
            std::thread::yield_now();
        }
        drop(place);
        assert_eq!(waiting.join().unwrap(), Room::Free);
    }

    /// The first is in a hook of the program, which the end of the stream does not end.
    #[test]
    fn a_handshake_that_stays_after_its_cut_does_not_keep_the_next_from_being_cut() {
        let connections = Arc::<Connections>::default();
        let (_stays, (ends, client)) = (begin(&connections), begin(&connections));
        let waiting = wait_for_room(&connections, TWO);
        while connections.statistics().cut < 2 {
            std::thread::yield_now();
        }
        drop((ends, client));
        assert_eq!(waiting.join().unwrap(), Room::Free);
    }
}
