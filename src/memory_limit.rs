//! What many connections may hold together because of their peers: heads, buffers, unfinished messages, queued frames.
//!
//! Each connection has a share and says what it holds, before it takes more. Where that would be over the limit, the
//! connection that holds most is evicted: it ends, and gives back what it holds. Nothing here knows of connections: how one
//! ends is a function.
//!
//! One lock, which is held by none of these functions while another lock is taken or an `evict` function runs.

use std::collections::HashMap;
use std::time::Duration;

use crate::close_code::CloseCode;
use crate::sync::{Arc, Condvar, Instant, Mutex, MutexGuard, lock, wait};

/// How long a share waits for an evicted one to give back what it holds. A woken thread does that at once. After that
/// another one is evicted.
const GIVE_BACK_WAIT: Duration = Duration::from_secs(1);

/// The limit, shared by the connections of a server.
pub(crate) struct MemoryLimit {
    bytes: usize,
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Default)]
struct State {
    shares: HashMap<u64, Entry>,
    last_number: u64,
    /// What all of them hold, and the evicted ones of them.
    held: usize,
    leaving: usize,
    evicted: u64,
}

struct Entry {
    held: [usize; Kind::COUNT],
    evict: Evict,
    is_evicted: bool,
}

/// Ends a connection; the code says why. It must not wait.
pub(crate) type Evict = Arc<dyn Fn(CloseCode) + Send + Sync>;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Head,
    /// Read buffers and the inflater.
    Reading,
    /// A message that is not complete, and messages that wait for `recv`.
    Message,
    /// Frames that the peer has not taken.
    Queued,
}

/// What one connection holds. Given back on drop.
pub(crate) struct MemoryShare {
    limit: Arc<MemoryLimit>,
    number: u64,
}

/// This share holds most, and was refused: its connection is to end with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicted(pub CloseCode);

/// Who has to go.
enum Victim {
    Own,
    Other(Evict, CloseCode),
}

impl Kind {
    const COUNT: usize = 4;
}

impl MemoryLimit {
    pub fn new(bytes: usize) -> Arc<MemoryLimit> {
        Arc::new(MemoryLimit { bytes, state: Mutex::default(), given_back: Condvar::new() })
    }

    /// How many shares were evicted.
    pub fn evicted(&self) -> u64 {
        lock(&self.state).evicted
    }

    /// What all shares hold.
    #[cfg(any(test, wsync_shuttle))]
    pub fn held(&self) -> usize {
        lock(&self.state).held
    }

    /// Whether so many bytes may be held beside these.
    fn fits(&self, held: usize, more: usize) -> bool {
        more <= self.bytes.saturating_sub(held)
    }

    /// Ends a connection that was evicted.
    fn end(&self, evict: &Evict, code: CloseCode) {
        evict(code);
        // It may itself wait for others to give back, by `hold`.
        self.given_back.notify_all();
    }

    /// A new share, which holds nothing.
    pub fn share(self: &Arc<MemoryLimit>, evict: Evict) -> MemoryShare {
        let mut state = lock(&self.state);
        state.last_number += 1;
        let number = state.last_number;
        state.shares.insert(number, Entry { held: [0; Kind::COUNT], evict, is_evicted: false });
        MemoryShare { limit: Arc::clone(self), number }
    }
}

impl MemoryShare {
    /// Holds so many bytes of this kind from now on, instead of what it held before. Waits, about a second at most for each, until
    /// larger shares have given back enough.
    pub fn hold(&self, kind: Kind, bytes: usize) -> Result<(), Evicted> {
        let mut state = lock(&self.limit.state);
        let mut since = Instant::now();
        loop {
            let entry = state.entry(self.number);
            if entry.is_evicted {
                return Err(Evicted(entry.code()));
            }
            let more = bytes.saturating_sub(entry.held[kind as usize]);
            if more == 0 || self.limit.fits(state.held, more) {
                self.set(&mut state, kind, bytes);
                return Ok(());
            }
            let waited = since.elapsed();
            if self.limit.fits(state.held - state.leaving, more) && waited < GIVE_BACK_WAIT {
                state = wait(&self.limit.given_back, state, Some(GIVE_BACK_WAIT - waited));
                continue;
            }
            match state.evict_largest(self.number, more) {
                Victim::Own => return Err(Evicted(state.entry(self.number).code_for(kind))),
                Victim::Other(evict, code) => {
                    drop(state);
                    self.limit.end(&evict, code);
                    state = lock(&self.limit.state);
                    since = Instant::now();
                }
            }
        }
    }

    /// As `hold`, if there is room now. Returns whether there was.
    pub fn try_hold(&self, kind: Kind, bytes: usize) -> bool {
        let mut state = lock(&self.limit.state);
        let more = bytes.saturating_sub(state.entry(self.number).held[kind as usize]);
        let fits = more == 0 || self.limit.fits(state.held, more);
        if fits {
            self.set(&mut state, kind, bytes);
        }
        fits
    }

    /// Notes what is held already. Returns whether that is too much in all: then call `relieve`, with no lock held.
    #[must_use]
    pub fn note(&self, kind: Kind, bytes: usize) -> bool {
        let mut state = lock(&self.limit.state);
        self.set(&mut state, kind, bytes);
        state.held - state.leaving > self.limit.bytes
    }

    /// Evicts the largest shares, perhaps this one, until the others fit. Does not wait until they have given anything back.
    pub fn relieve(&self) {
        loop {
            let mut state = lock(&self.limit.state);
            if state.held - state.leaving <= self.limit.bytes {
                return;
            }
            let victim = state.evict_largest(self.number, 0);
            let (evict, code) = match victim {
                Victim::Other(evict, code) => (evict, code),
                Victim::Own => {
                    let own = state.entry(self.number);
                    (Arc::clone(&own.evict), own.code())
                }
            };
            drop(state);
            self.limit.end(&evict, code);
        }
    }

    pub fn is_evicted(&self) -> bool {
        lock(&self.limit.state).entry(self.number).is_evicted
    }

    /// From now on the connection ends so. If it was evicted already, it ends now.
    pub fn end_by(&self, evict: Evict) {
        let mut state = lock(&self.limit.state);
        let entry = state.entry(self.number);
        let before = std::mem::replace(&mut entry.evict, Arc::clone(&evict));
        let code = entry.is_evicted.then(|| entry.code());
        drop(state);
        drop(before);
        if let Some(code) = code {
            evict(code);
        }
    }

    fn set(&self, state: &mut MutexGuard<'_, State>, kind: Kind, bytes: usize) {
        let entry = state.entry(self.number);
        let before = std::mem::replace(&mut entry.held[kind as usize], bytes);
        let is_evicted = entry.is_evicted;
        state.held = state.held - before + bytes;
        if is_evicted {
            state.leaving = state.leaving - before + bytes;
        }
        if bytes < before {
            self.limit.given_back.notify_all();
        }
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        let mut state = lock(&self.limit.state);
        let Some(entry) = state.shares.remove(&self.number) else { return };
        state.held -= entry.total();
        if entry.is_evicted {
            state.leaving -= entry.total();
        }
        self.limit.given_back.notify_all();
        drop(state);
        // It may own the program's values: dropped with no lock held.
        drop(entry);
    }
}

impl State {
    fn entry(&mut self, number: u64) -> &mut Entry {
        self.shares.get_mut(&number).expect("removed by the share's drop alone")
    }

    /// Marks the largest share that stays, as if the own one held `more`.
    fn evict_largest(&mut self, own: u64, more: usize) -> Victim {
        let size = |number: u64, entry: &Entry| entry.total().saturating_add(if number == own { more } else { 0 });
        let staying = self.shares.iter().filter(|(_, entry)| !entry.is_evicted);
        // Of equal ones, the own.
        let largest = staying.max_by_key(|(number, entry)| (size(**number, entry), **number == own));
        let number = largest.map_or(own, |(number, _)| *number);
        let entry = self.entry(number);
        if !std::mem::replace(&mut entry.is_evicted, true) {
            let total = entry.total();
            self.leaving += total;
            self.evicted += 1;
        }
        let entry = self.entry(number);
        match number == own {
            true => Victim::Own,
            false => Victim::Other(Arc::clone(&entry.evict), entry.code()),
        }
    }
}

impl Entry {
    fn total(&self) -> usize {
        self.held.iter().sum()
    }

    /// 1009 for a message under way, else 1013 (RFC 6455 §7.4, and the registry of close codes).
    fn code(&self) -> CloseCode {
        if self.held[Kind::Message as usize] > 0 { CloseCode::MESSAGE_TOO_BIG } else { CloseCode::TRY_AGAIN_LATER }
    }

    /// The same, where this kind was refused.
    fn code_for(&self, kind: Kind) -> CloseCode {
        if kind == Kind::Message { CloseCode::MESSAGE_TOO_BIG } else { self.code() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{AtomicU64, Ordering};

    /// A share that counts how often it is evicted, and the code.
    fn share(limit: &Arc<MemoryLimit>) -> (MemoryShare, Arc<AtomicU64>) {
        let evicted = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&evicted);
        let evict = move |code: CloseCode| {
            seen.store(u64::from(u16::from(code)), Ordering::SeqCst);
        };
        (limit.share(Arc::new(evict)), evicted)
    }

    #[test]
    fn within_the_limit_nothing_happens_and_a_drop_gives_back() {
        let limit = MemoryLimit::new(100);
        let ((one, _), (other, _)) = (share(&limit), share(&limit));
        one.hold(Kind::Message, 60).unwrap();
        other.hold(Kind::Head, 40).unwrap();
        one.hold(Kind::Message, 60).unwrap();
        assert!(!other.try_hold(Kind::Reading, 1));
        drop(one);
        assert!(other.try_hold(Kind::Reading, 60));
        assert_eq!((limit.held(), limit.evicted()), (100, 0));
        assert!(!other.note(Kind::Reading, 0));
        assert_eq!(limit.held(), 40);
    }

    #[test]
    fn what_is_too_much_for_the_machine_is_refused() {
        let limit = MemoryLimit::new(usize::MAX);
        let ((one, _), (other, _)) = (share(&limit), share(&limit));
        one.hold(Kind::Message, usize::MAX - 10).unwrap();
        assert!(!other.try_hold(Kind::Reading, 11) && other.try_hold(Kind::Reading, 10));
        assert_eq!(one.hold(Kind::Message, usize::MAX), Err(Evicted(CloseCode::MESSAGE_TOO_BIG)));
    }

    #[test]
    fn the_largest_goes_and_the_others_go_on() {
        let limit = MemoryLimit::new(100);
        let ((large, evicted), (small, _)) = (share(&limit), share(&limit));
        large.hold(Kind::Message, 80).unwrap();
        small.hold(Kind::Message, 20).unwrap();
        let (given, waiter) = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| small.hold(Kind::Message, 40));
            while evicted.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            // What an evicted one asks for is refused.
            let given = large.hold(Kind::Message, 81);
            drop(large);
            (given, waiter.join().unwrap())
        });
        assert_eq!(given, Err(Evicted(CloseCode::MESSAGE_TOO_BIG)));
        assert_eq!(waiter, Ok(()));
        assert_eq!((limit.evicted(), evicted.load(Ordering::SeqCst)), (1, 1009));
    }

    #[test]
    fn who_would_hold_most_is_refused() {
        let limit = MemoryLimit::new(100);
        let ((one, evicted), (other, _)) = (share(&limit), share(&limit));
        one.hold(Kind::Reading, 50).unwrap();
        other.hold(Kind::Reading, 40).unwrap();
        assert_eq!(one.hold(Kind::Message, 11), Err(Evicted(CloseCode::MESSAGE_TOO_BIG)));
        assert_eq!(one.hold(Kind::Reading, 51), Err(Evicted(CloseCode::TRY_AGAIN_LATER)), "it is to end");
        assert_eq!(evicted.load(Ordering::SeqCst), 0, "the caller ends it");
        drop(one);
        other.hold(Kind::Reading, 100).unwrap();
        assert_eq!(limit.evicted(), 1);
    }

    /// An evicted one that does not give back: after a while the next largest goes.
    #[test]
    fn who_gives_nothing_back_does_not_stop_the_others() {
        let limit = MemoryLimit::new(100);
        let ((stuck, first), (next, second), (small, _)) = (share(&limit), share(&limit), share(&limit));
        stuck.hold(Kind::Queued, 50).unwrap();
        next.hold(Kind::Queued, 40).unwrap();
        let next = Mutex::new(Some(next));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while second.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                drop(lock(&next).take());
            });
            small.hold(Kind::Reading, 20).unwrap();
        });
        assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst), limit.evicted()), (1013, 1013, 2));
        drop(stuck);
    }

    /// One that waits for an evicted one is evicted, too: it is told at once.
    #[test]
    fn who_waits_is_told_that_it_is_evicted() {
        let limit = MemoryLimit::new(100);
        let ((stuck, first), (waiting, second), (noting, _)) = (share(&limit), share(&limit), share(&limit));
        waiting.hold(Kind::Message, 55).unwrap();
        assert!(stuck.note(Kind::Queued, 60));
        let start = Instant::now();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| waiting.hold(Kind::Message, 56));
            while first.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert!(noting.note(Kind::Queued, 50));
            noting.relieve();
            assert_eq!(waiter.join().unwrap(), Err(Evicted(CloseCode::MESSAGE_TOO_BIG)));
        });
        assert!(start.elapsed() < GIVE_BACK_WAIT, "{:?}", start.elapsed());
        assert_eq!((second.load(Ordering::SeqCst), limit.evicted()), (1009, 2));
    }

    #[test]
    fn what_is_noted_evicts_without_waiting() {
        let limit = MemoryLimit::new(100);
        let ((one, first), (other, second)) = (share(&limit), share(&limit));
        assert!(!one.note(Kind::Queued, 70));
        assert!(other.note(Kind::Queued, 60));
        other.relieve();
        assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (1013, 0));
        // It has not given back yet: that is no reason to evict another one.
        assert!(!other.note(Kind::Queued, 100));
        assert!(other.note(Kind::Queued, 101));
        other.relieve();
        assert_eq!((second.load(Ordering::SeqCst), limit.evicted()), (1013, 2), "itself");
    }

    #[test]
    fn who_was_evicted_in_its_handshake_ends_when_it_opens() {
        let limit = MemoryLimit::new(10);
        let ((one, before), (other, _)) = (share(&limit), share(&limit));
        one.hold(Kind::Head, 8).unwrap();
        assert!(other.note(Kind::Head, 5));
        other.relieve();
        assert_eq!(before.load(Ordering::SeqCst), 1013);
        let opened = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&opened);
        one.end_by(Arc::new(move |code| seen.store(u64::from(u16::from(code)), Ordering::SeqCst)));
        assert_eq!(opened.load(Ordering::SeqCst), 1013);
    }
}
