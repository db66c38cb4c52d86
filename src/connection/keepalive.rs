//! When to ping, when to give up, and how long the last ping took. Time and progress come in as arguments.
//!
//! ```text
//!            the interval is over            its last byte has left             no pong in time
//!   Quiet ────────────────────────▶ Leaving ────────────────────────▶ Awaiting ────────────────▶ Dead
//!     ▲                               │  nothing moves for pong_timeout ───────────────────────────▲
//!     └───────────── pong ────────────┴───────────────────────────────────┘
//! ```
//!
//! When the machine has slept, the line may be gone without a trace: a ping is due at once, and its pong has a short bound.
//!
//! Progress renews the bound: while the ping waits to leave, bytes that the system takes; at all times, received bytes inside
//! an unfinished frame, as no pong can stand inside a frame. A complete frame that is no pong does not renew it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sleep_detector::SleepDetector;
use crate::sync::{Instant, SystemTime};

/// Pings of which the pong is awaited; older ones are forgotten.
const MAX_AWAITED: usize = 16;
/// How long the first pong after a sleep of the machine may take: a line that has survived answers soon.
const PONG_AFTER_SLEEP: Duration = Duration::from_secs(5);

/// Bytes that the system has taken may still lie in buffers of the network, in front of the ping. Until a pong shows that
/// they have arrived, the bound of the pong is longer by the time that these bytes need on a slow line. The most that such
/// buffers are taken to hold is `MAX_BYTES_ON_THE_WAY`.
const SLOW_LINE_BYTES_PER_SECOND: u64 = 100_000;
const MAX_BYTES_ON_THE_WAY: u64 = 4 << 20;

pub(crate) struct Keepalive {
    interval: Option<Duration>,
    /// `None`: as long as the interval.
    pong_timeout: Option<Duration>,
    phase: Phase,
    sleep: SleepDetector,
    /// The machine has slept, and no pong has come since.
    is_doubted: bool,
    count: u64,
    sent: VecDeque<SentPing>,
    /// How many bytes the peer has received for sure, as a pong came back from behind them.
    arrived: u64,
    latency: Option<Duration>,
}

enum Phase {
    /// No keepalive ping is under way.
    Quiet { due: Option<Instant> },
    /// The ping is queued. `since`: when something moved last, which was when the system had taken `sent` bytes.
    Leaving { payload: Vec<u8>, since: Instant, sent: u64 },
    /// The system has all of the ping.
    Awaiting { payload: Vec<u8>, until: Instant },
}

struct SentPing {
    payload: Vec<u8>,
    /// When its last byte left; until then, when it was queued.
    at: Instant,
    /// How many bytes the system had taken then.
    sent: u64,
}

/// What has moved on the line, as the caller saw it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineProgress {
    /// Bytes that the system has taken in all.
    pub sent: u64,
    /// Bytes came since the last look, and the last of them stands inside an unfinished frame.
    pub is_receiving_frame: bool,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeepaliveAction {
    Wait(Option<Duration>),
    Ping(Vec<u8>),
    /// No pong came within this time.
    Dead(Duration),
}

impl Keepalive {
    pub fn new(interval: Option<Duration>, pong_timeout: Option<Duration>) -> Keepalive {
        Keepalive {
            interval: interval.filter(|interval| !interval.is_zero()),
            pong_timeout: pong_timeout.filter(|timeout| !timeout.is_zero()),
            phase: Phase::Quiet { due: None },
            sleep: SleepDetector::default(),
            is_doubted: false,
            count: 0,
            sent: VecDeque::new(),
            arrived: 0,
            latency: None,
        }
    }

    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// What bounds the wait for a pong.
    pub fn pong_bound(&self) -> &'static str {
        match (self.is_doubted, self.pong_timeout) {
            (true, _) => "the bound after a sleep of the machine",
            (false, Some(_)) => "pong_timeout",
            (false, None) => "ping_interval",
        }
    }

    pub fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// The new interval counts from the next look on.
    pub fn set_interval(&mut self, interval: Option<Duration>) {
        self.interval = interval.filter(|interval| !interval.is_zero());
        self.phase = Phase::Quiet { due: None };
    }

    /// What is due at `now`. After `Dead`, read once more before giving up: the pong may have come and not be read.
    /// `wall_clock` is asked only while there is an interval.
    pub fn look(
        &mut self,
        now: Instant,
        wall_clock: impl FnOnce() -> SystemTime,
        progress: LineProgress,
    ) -> KeepaliveAction {
        let Some(interval) = self.interval else { return KeepaliveAction::Wait(None) };
        if self.sleep.has_slept(now, wall_clock()) {
            self.doubt(now);
        }
        let timeout = self.timeout(interval);
        let until = match &mut self.phase {
            Phase::Quiet { due } => {
                let due = *due.get_or_insert_with(|| after(now, interval));
                if now < due {
                    return KeepaliveAction::Wait(Some(due - now));
                }
                let payload = self.next_payload();
                self.phase = Phase::Leaving { payload: payload.clone(), since: now, sent: progress.sent };
                return KeepaliveAction::Ping(payload);
            }
            Phase::Leaving { since, sent, .. } => {
                if *sent != progress.sent || progress.is_receiving_frame {
                    (*since, *sent) = (now, progress.sent);
                }
                after(*since, timeout)
            }
            Phase::Awaiting { until, .. } => {
                if progress.is_receiving_frame {
                    *until = (*until).max(after(now, timeout));
                }
                *until
            }
        };
        if now < until { KeepaliveAction::Wait(Some(until - now)) } else { KeepaliveAction::Dead(timeout) }
    }

    /// The machine has slept: a ping is due, or the one under way gets the short bound.
    fn doubt(&mut self, now: Instant) {
        self.is_doubted = true;
        match &mut self.phase {
            Phase::Quiet { due } => *due = Some(now),
            Phase::Leaving { since, .. } => *since = now,
            Phase::Awaiting { until, .. } => *until = now + PONG_AFTER_SLEEP,
        }
    }

    /// How long a pong may take now.
    fn timeout(&self, interval: Duration) -> Duration {
        let timeout = self.pong_timeout.unwrap_or(interval);
        if self.is_doubted { timeout.min(PONG_AFTER_SLEEP) } else { timeout }
    }

    /// The payload of a ping that differs from every other.
    pub fn next_payload(&mut self) -> Vec<u8> {
        self.count += 1;
        format!("wsync {}", self.count).into_bytes()
    }

    /// A ping is in the queue, the program's or ours.
    pub fn ping_queued(&mut self, payload: &[u8], now: Instant) {
        if self.sent.len() == MAX_AWAITED {
            self.sent.pop_front();
        }
        self.sent.push_back(SentPing { payload: payload.to_vec(), at: now, sent: 0 });
    }

    /// Instead of `payload`, an earlier ping that still waits to leave is to be answered.
    pub fn await_instead(&mut self, payload: &[u8], waiting: &[u8]) {
        match &mut self.phase {
            Phase::Leaving { payload: ours, .. } if ours == payload => *ours = waiting.to_vec(),
            _ => {}
        }
    }

    /// The system has all of the ping, and `sent` bytes in all.
    pub fn ping_left(&mut self, payload: &[u8], now: Instant, sent: u64) {
        if let Some(ping) = self.sent.iter_mut().rev().find(|ping| ping.payload == payload) {
            (ping.at, ping.sent) = (now, sent);
        }
        let Some(timeout) = self.interval.map(|interval| self.timeout(interval)) else { return };
        if matches!(&self.phase, Phase::Leaving { payload: ours, .. } if ours == payload) {
            let on_the_way = sent.saturating_sub(self.arrived).min(MAX_BYTES_ON_THE_WAY);
            let allowance = Duration::from_micros(on_the_way * 1_000_000 / SLOW_LINE_BYTES_PER_SECOND);
            self.phase =
                Phase::Awaiting { payload: payload.to_vec(), until: after(now, timeout.saturating_add(allowance)) };
        }
    }

    /// A pong answers the ping with its payload and all before it (RFC 6455 §5.5.3); others are unsolicited.
    pub fn pong_received(&mut self, payload: &[u8], now: Instant) {
        let awaited = match &self.phase {
            Phase::Quiet { .. } => None,
            Phase::Leaving { payload, .. } | Phase::Awaiting { payload, .. } => Some(payload),
        };
        let position = self.sent.iter().rposition(|ping| ping.payload == payload);
        let awaited_position = self.sent.iter().position(|ping| Some(&ping.payload) == awaited);
        let is_answered = match (position, awaited_position) {
            (Some(position), Some(awaited)) => awaited <= position,
            // Pushed out of the list by pings of the program's, so older than all in it.
            (Some(_), None) => awaited.is_some(),
            (None, _) => awaited.is_some_and(|awaited| awaited == payload),
        };
        if is_answered {
            self.is_doubted = false;
            self.phase = Phase::Quiet { due: self.interval.map(|interval| after(now, interval)) };
        }
        if let Some(position) = position {
            let ping = &self.sent[position];
            self.latency = Some(now.saturating_duration_since(ping.at));
            self.arrived = self.arrived.max(ping.sent);
            self.sent.drain(..=position);
        }
    }
}

/// An interval beyond what the clock can add is as good as a century.
fn after(now: Instant, interval: Duration) -> Instant {
    now.checked_add(interval).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const STILL: LineProgress = LineProgress { sent: 0, is_receiving_frame: false };

    /// A wall clock that stands still: no sleep.
    fn awake() -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sent(bytes: u64) -> LineProgress {
        LineProgress { sent: bytes, ..STILL }
    }

    /// A keepalive of 10 s whose first ping is queued at `start` + 10 s.
    fn pinging(pong_timeout: Option<Duration>, start: Instant) -> (Keepalive, Vec<u8>) {
        let mut keepalive = Keepalive::new(Some(10 * SECOND), pong_timeout);
        assert_eq!(keepalive.look(start, awake, STILL), KeepaliveAction::Wait(Some(10 * SECOND)));
        let KeepaliveAction::Ping(payload) = keepalive.look(start + 10 * SECOND, awake, STILL) else { panic!() };
        keepalive.ping_queued(&payload, start + 10 * SECOND);
        (keepalive, payload)
    }

    #[test]
    fn pings_wait_for_their_pong_and_give_up_after_an_interval() {
        let start = Instant::now();
        let (mut keepalive, payload) = pinging(None, start);
        keepalive.ping_left(&payload, start + 10 * SECOND, 0);
        assert_eq!(keepalive.look(start + 11 * SECOND, awake, STILL), KeepaliveAction::Wait(Some(9 * SECOND)));
        keepalive.pong_received(b"unsolicited", start + 11 * SECOND);
        assert_eq!(keepalive.latency(), None);
        keepalive.pong_received(&payload, start + 12 * SECOND);
        assert_eq!(keepalive.latency(), Some(2 * SECOND));
        assert_eq!(keepalive.look(start + 12 * SECOND, awake, STILL), KeepaliveAction::Wait(Some(10 * SECOND)));
        let KeepaliveAction::Ping(payload) = keepalive.look(start + 22 * SECOND, awake, STILL) else { panic!() };
        keepalive.ping_left(&payload, start + 22 * SECOND, 0);
        assert_eq!(keepalive.look(start + 32 * SECOND, awake, STILL), KeepaliveAction::Dead(10 * SECOND));
    }

    #[test]
    fn the_pong_has_a_timeout_of_its_own_that_starts_when_the_ping_has_left() {
        let start = Instant::now();
        assert_eq!(Keepalive::new(Some(SECOND), None).pong_bound(), "ping_interval");
        let (mut keepalive, payload) = pinging(Some(2 * SECOND), start);
        assert_eq!(keepalive.pong_bound(), "pong_timeout");
        keepalive.ping_left(&payload, start + 11 * SECOND, 0);
        assert_eq!(keepalive.look(start + 12 * SECOND, awake, STILL), KeepaliveAction::Wait(Some(SECOND)));
        assert_eq!(keepalive.look(start + 13 * SECOND, awake, STILL), KeepaliveAction::Dead(2 * SECOND));
    }

    #[test]
    fn while_the_ping_waits_to_leave_progress_is_life_and_standing_still_is_not() {
        let start = Instant::now();
        let (mut keepalive, _) = pinging(Some(2 * SECOND), start);
        for second in 11..100 {
            let action = keepalive.look(start + second * SECOND, awake, sent(second.into()));
            assert_eq!(action, KeepaliveAction::Wait(Some(2 * SECOND)));
        }
        assert_eq!(keepalive.look(start + 100 * SECOND, awake, sent(99)), KeepaliveAction::Wait(Some(SECOND)));
        assert_eq!(keepalive.look(start + 101 * SECOND, awake, sent(99)), KeepaliveAction::Dead(2 * SECOND));
    }

    #[test]
    fn bytes_inside_a_frame_are_life_and_complete_frames_are_not() {
        let start = Instant::now();
        let inside = LineProgress { sent: 0, is_receiving_frame: true };
        for has_left in [false, true] {
            let (mut keepalive, payload) = pinging(Some(2 * SECOND), start);
            if has_left {
                keepalive.ping_left(&payload, start + 10 * SECOND, 0);
            }
            for second in 11..50 {
                let action = keepalive.look(start + second * SECOND, awake, inside);
                assert_eq!(action, KeepaliveAction::Wait(Some(2 * SECOND)));
            }
            assert_eq!(keepalive.look(start + 51 * SECOND, awake, STILL), KeepaliveAction::Dead(2 * SECOND));
        }
    }

    #[test]
    fn a_pong_gets_the_time_that_what_was_sent_before_it_needs_on_a_slow_line() {
        let start = Instant::now();
        let (mut keepalive, payload) = pinging(Some(SECOND), start);
        keepalive.ping_left(&payload, start + 10 * SECOND, 1_000_000);
        assert_eq!(keepalive.look(start + 10 * SECOND, awake, STILL), KeepaliveAction::Wait(Some(11 * SECOND)));
        keepalive.pong_received(&payload, start + 20 * SECOND);
        let KeepaliveAction::Ping(payload) = keepalive.look(start + 30 * SECOND, awake, STILL) else { panic!() };
        keepalive.ping_queued(&payload, start + 30 * SECOND);
        keepalive.ping_left(&payload, start + 30 * SECOND, 1_000_000);
        // What the first pong has proved to have arrived needs no time any more.
        assert_eq!(keepalive.look(start + 30 * SECOND, awake, STILL), KeepaliveAction::Wait(Some(SECOND)));
    }

    #[test]
    fn a_pong_may_come_before_the_writer_says_that_its_ping_has_left() {
        let start = Instant::now();
        let (mut keepalive, payload) = pinging(None, start);
        keepalive.pong_received(&payload, start + 11 * SECOND);
        keepalive.ping_left(&payload, start + 12 * SECOND, 7);
        assert_eq!(keepalive.latency(), Some(SECOND));
        assert_eq!(keepalive.look(start + 12 * SECOND, awake, STILL), KeepaliveAction::Wait(Some(9 * SECOND)));
    }

    #[test]
    fn a_programs_own_pings_do_not_hide_the_pong() {
        let start = Instant::now();
        for answered in [0, 1, 99] {
            let (mut keepalive, ours) = pinging(None, start);
            let theirs: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number]).collect();
            theirs.iter().for_each(|payload| keepalive.ping_queued(payload, start + 10 * SECOND));
            keepalive.ping_left(&ours, start + 10 * SECOND, 0);
            keepalive.pong_received(if answered == 0 { &ours } else { &theirs[answered] }, start + 10 * SECOND);
            let is_forgotten = answered == 1;
            let action = keepalive.look(start + 20 * SECOND, awake, STILL);
            assert_eq!(matches!(action, KeepaliveAction::Dead(_)), is_forgotten, "{answered}");
        }
    }

    #[test]
    fn a_ping_that_waits_already_may_take_the_keepalives_place() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(Some(10 * SECOND), None);
        keepalive.look(start, awake, STILL);
        keepalive.ping_queued(b"own", start);
        let KeepaliveAction::Ping(payload) = keepalive.look(start + 10 * SECOND, awake, STILL) else { panic!() };
        keepalive.await_instead(b"another", b"no");
        keepalive.ping_left(b"no", start + 10 * SECOND, 0);
        assert_eq!(
            keepalive.look(start + 15 * SECOND, awake, sent(1)),
            KeepaliveAction::Wait(Some(10 * SECOND)),
            "not left"
        );
        keepalive.await_instead(&payload, b"own");
        keepalive.ping_left(b"own", start + 16 * SECOND, 0);
        assert_eq!(keepalive.look(start + 16 * SECOND, awake, sent(1)), KeepaliveAction::Wait(Some(10 * SECOND)));
        assert_eq!(keepalive.look(start + 26 * SECOND, awake, sent(2)), KeepaliveAction::Dead(10 * SECOND));
        keepalive.pong_received(b"own", start + 26 * SECOND);
        assert_eq!(keepalive.look(start + 26 * SECOND, awake, STILL), KeepaliveAction::Wait(Some(10 * SECOND)));
    }

    #[test]
    fn no_interval_never_pings_and_a_new_one_starts_afresh() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(None, None);
        assert_eq!(keepalive.look(start, awake, STILL), KeepaliveAction::Wait(None));
        keepalive.set_interval(Some(SECOND));
        assert_eq!(keepalive.interval(), Some(SECOND));
        assert_eq!(keepalive.look(start + 9 * SECOND, awake, STILL), KeepaliveAction::Wait(Some(SECOND)));
        keepalive.set_interval(Some(Duration::ZERO));
        assert_eq!(keepalive.interval(), None);
        let mut endless = Keepalive::new(Some(Duration::MAX), None);
        let century = 3_000_000_000 * SECOND;
        assert!(matches!(endless.look(start, awake, STILL), KeepaliveAction::Wait(Some(left)) if left > century));
    }

    #[test]
    fn the_pong_of_an_older_ping_does_not_answer_the_keepalives() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(Some(10 * SECOND), None);
        keepalive.look(start, awake, STILL);
        keepalive.ping_queued(b"older", start);
        let KeepaliveAction::Ping(payload) = keepalive.look(start + 10 * SECOND, awake, STILL) else { panic!() };
        keepalive.ping_queued(&payload, start + 10 * SECOND);
        keepalive.ping_left(&payload, start + 10 * SECOND, 0);
        keepalive.pong_received(b"older", start + 11 * SECOND);
        assert_eq!(keepalive.look(start + 20 * SECOND, awake, STILL), KeepaliveAction::Dead(10 * SECOND));
    }

    /// A look after the machine has slept for an hour.
    fn woken(keepalive: &mut Keepalive, now: Instant) -> KeepaliveAction {
        keepalive.look(now, || awake() + 3600 * SECOND, STILL)
    }

    #[test]
    fn after_a_sleep_of_the_machine_a_ping_goes_at_once_and_its_pong_has_a_short_bound() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(Some(60 * SECOND), Some(20 * SECOND));
        assert_eq!(keepalive.look(start, awake, STILL), KeepaliveAction::Wait(Some(60 * SECOND)));
        let KeepaliveAction::Ping(payload) = woken(&mut keepalive, start + SECOND) else { panic!() };
        keepalive.ping_queued(&payload, start + SECOND);
        assert_eq!(woken(&mut keepalive, start + SECOND), KeepaliveAction::Wait(Some(PONG_AFTER_SLEEP)), "not left");
        keepalive.ping_left(&payload, start + 2 * SECOND, 0);
        assert_eq!(woken(&mut keepalive, start + 2 * SECOND), KeepaliveAction::Wait(Some(PONG_AFTER_SLEEP)));
        assert_eq!(woken(&mut keepalive, start + 7 * SECOND), KeepaliveAction::Dead(PONG_AFTER_SLEEP));
        assert_eq!(keepalive.pong_bound(), "the bound after a sleep of the machine");
        keepalive.pong_received(&payload, start + 7 * SECOND);
        assert_eq!(keepalive.pong_bound(), "pong_timeout");
        assert_eq!(woken(&mut keepalive, start + 8 * SECOND), KeepaliveAction::Wait(Some(59 * SECOND)));
    }

    #[test]
    fn a_ping_that_was_under_way_before_a_sleep_of_the_machine_gets_the_short_bound() {
        let start = Instant::now();
        let (mut keepalive, payload) = pinging(Some(60 * SECOND), start);
        assert_eq!(woken(&mut keepalive, start + 30 * SECOND), KeepaliveAction::Wait(Some(PONG_AFTER_SLEEP)));
        keepalive.ping_left(&payload, start + 31 * SECOND, 0);
        assert_eq!(woken(&mut keepalive, start + 36 * SECOND), KeepaliveAction::Dead(PONG_AFTER_SLEEP));
        let (mut keepalive, payload) = pinging(Some(60 * SECOND), start);
        keepalive.ping_left(&payload, start + 11 * SECOND, 0);
        assert_eq!(woken(&mut keepalive, start + 20 * SECOND), KeepaliveAction::Wait(Some(PONG_AFTER_SLEEP)));
        assert_eq!(woken(&mut keepalive, start + 25 * SECOND), KeepaliveAction::Dead(PONG_AFTER_SLEEP));
    }

    #[test]
    fn every_ping_has_a_payload_of_its_own() {
        let mut keepalive = Keepalive::new(None, None);
        let payloads = [keepalive.next_payload(), keepalive.next_payload(), keepalive.next_payload()];
        assert!(payloads[0] != payloads[1] && payloads[1] != payloads[2] && payloads[0] != payloads[2]);
    }

    #[test]
    fn latency_is_of_the_newest_answered_ping() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(None, None);
        for (number, payload) in [b"a", b"b", b"c"].iter().enumerate() {
            keepalive.ping_queued(*payload, start + number as u32 * SECOND);
        }
        keepalive.pong_received(b"b", start + 5 * SECOND);
        assert_eq!(keepalive.latency(), Some(4 * SECOND));
        keepalive.pong_received(b"a", start + 6 * SECOND);
        assert_eq!(keepalive.latency(), Some(4 * SECOND));
    }
}
