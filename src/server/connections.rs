//! The connections of a [`Server`](crate::Server): who does its handshake, who is open, and how many there may be.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::sync::{Arc, Condvar, Instant, Mutex, lock, wait};
use crate::transport::ShutdownHandle;
use crate::websocket::{WeakWebSocket, WebSocket};

/// While the server is full, a handshake may take this long before it has to make room for another client.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

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
    /// Handshakes that did not come to an open connection, the ones below and those that `on_request` has refused included.
    pub failed: u64,
    /// Handshakes that were cut because others needed their place.
    pub cut: u64,
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
    last_number: u64,
    is_stopping: bool,
    statistics: ServerStatistics,
}

struct Handshake {
    number: u64,
    since: Instant,
    /// `None` once it was cut.
    stream: Option<ShutdownHandle>,
}

/// The place of one client, given back on drop.
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
}

/// Whether a client may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    Full,
    /// The server stops.
    None,
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

    pub fn room(&self, limits: &Limits) -> Room {
        lock(&self.state).room(limits)
    }

    /// Waits while the server is full. A handshake that takes long makes room. `Free`, or `None` when the server stops.
    pub fn wait_for_room(&self, limits: &Limits) -> Room {
        let mut state = lock(&self.state);
        loop {
            match state.room(limits) {
                Room::Full => {}
                other => return other,
            }
            let oldest = state.handshakes.iter().find(|handshake| handshake.stream.is_some());
            let left = oldest.map(|handshake| HANDSHAKE_GRACE.saturating_sub(handshake.since.elapsed()));
            if left == Some(Duration::ZERO) {
                state.cut_oldest();
            }
            state = wait(&self.changed, state, left.filter(|left| !left.is_zero()));
        }
    }

    /// A client begins its handshake. If as many as may are doing theirs, the oldest makes room.
    pub fn begin(self: &Arc<Connections>, stream: ShutdownHandle, limits: &Limits) -> Place {
        let mut state = lock(&self.state);
        if state.handshakes.iter().filter(|handshake| handshake.stream.is_some()).count() >= limits.handshakes {
            state.cut_oldest();
        }
        state.last_number += 1;
        state.running += 1;
        let number = state.last_number;
        state.handshakes.push_back(Handshake { number, since: Instant::now(), stream: Some(stream) });
        Place { connections: Arc::clone(self), number }
    }

    // The end

    /// Lets no client begin any more. Returns whether it was the first call.
    pub fn stop(&self) -> bool {
        let mut state = lock(&self.state);
        self.changed.notify_all();
        !std::mem::replace(&mut state.is_stopping, true)
    }

    /// The open connections.
    pub fn members(&self) -> Vec<WebSocket> {
        lock(&self.state).open.values().filter_map(WeakWebSocket::upgrade).collect()
    }

    pub fn cut_handshakes(&self) {
        let mut state = lock(&self.state);
        while state.cut_oldest() {}
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

    /// Waits until no thread serves a client, at most `left`; returns how many do.
    pub fn wait_until_idle(&self, left: impl Fn() -> Option<Duration>) -> usize {
        let mut state = lock(&self.state);
        while state.running > 0 {
            let left = left();
            if left == Some(Duration::ZERO) {
                break;
            }
            state = wait(&self.changed, state, left);
        }
        state.running
    }
}

impl State {
    fn room(&self, limits: &Limits) -> Room {
        if self.is_stopping {
            Room::None
        } else if self.running < limits.connections {
            Room::Free
        } else {
            Room::Full
        }
    }

    /// Ends the stream of the oldest handshake, if there is one; its thread gives the place back.
    fn cut_oldest(&mut self) -> bool {
        let Some(stream) = self.handshakes.iter_mut().find_map(|handshake| handshake.stream.take()) else {
            return false;
        };
        self.statistics.cut += 1;
        stream.shutdown();
        true
    }
}

impl Place {
    /// The connection is open, and no handshake any more. `false` when the server stops.
    pub fn opened(&self, ws: &WebSocket) -> bool {
        let mut state = lock(&self.connections.state);
        state.handshakes.retain(|handshake| handshake.number != self.number);
        if state.is_stopping {
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
        self.connections.changed.notify_all();
        drop(state);
        drop(ended);
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
        (connections.begin(ours.shutdown_handle().unwrap(), &MANY), theirs)
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
        assert_eq!(connections.wait_until_idle(|| None), 0);
    }

    #[test]
    fn every_client_takes_a_place_until_its_thread_ends() {
        let connections = Arc::<Connections>::default();
        let one = begin(&connections);
        assert_eq!(connections.room(&TWO), Room::Free);
        let other = begin(&connections);
        assert_eq!(connections.room(&TWO), Room::Full);
        assert_eq!(connections.wait_until_idle(|| Some(Duration::ZERO)), 2);
        let waiting = wait_for_room(&connections, TWO);
        drop(one);
        assert_eq!(waiting.join().unwrap(), Room::Free);
        assert!(connections.stop() && !connections.stop());
        assert_eq!(connections.wait_for_room(&TWO), Room::None);
        drop(other);
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
}
