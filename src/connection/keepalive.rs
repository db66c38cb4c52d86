//! When to ping, when to give up, and how long the last ping took. Time comes in as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Pings of which the pong is awaited; older ones are forgotten.
const MOST_AWAITED: usize = 16;

pub(crate) struct Keepalive {
    interval: Option<Duration>,
    /// When the next ping is due, or by when the pong of the last one must be there.
    due: Option<Instant>,
    /// The last keepalive ping, while its pong is awaited.
    awaited: Option<Vec<u8>>,
    count: u64,
    sent: VecDeque<(Vec<u8>, Instant)>,
    latency: Option<Duration>,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeepaliveAction {
    Wait(Option<Duration>),
    Ping(Vec<u8>),
    /// No pong came within the interval.
    Dead(Duration),
}

impl Keepalive {
    pub fn new(interval: Option<Duration>) -> Keepalive {
        Keepalive { interval, due: None, awaited: None, count: 0, sent: VecDeque::new(), latency: None }
    }

    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    pub fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// The new interval counts from the next turn on.
    pub fn set_interval(&mut self, interval: Option<Duration>) {
        self.interval = interval.filter(|interval| !interval.is_zero());
        self.due = None;
        self.awaited = None;
    }

    /// What the clock asks for. A pong may lie unread: believe `Dead` only after a read found nothing.
    pub fn turn(&mut self, now: Instant) -> KeepaliveAction {
        let Some(interval) = self.interval else { return KeepaliveAction::Wait(None) };
        let due = *self.due.get_or_insert_with(|| after(now, interval));
        if now < due {
            return KeepaliveAction::Wait(Some(due - now));
        }
        if self.awaited.is_some() {
            return KeepaliveAction::Dead(interval);
        }
        self.due = Some(after(now, interval));
        let payload = self.payload();
        self.awaited = Some(payload.clone());
        KeepaliveAction::Ping(payload)
    }

    /// A keepalive ping out of turn.
    pub fn ping_now(&mut self) -> Vec<u8> {
        self.payload()
    }

    fn payload(&mut self) -> Vec<u8> {
        self.count += 1;
        format!("wsync {}", self.count).into_bytes()
    }

    pub fn ping_sent(&mut self, payload: &[u8], now: Instant) {
        if self.sent.len() == MOST_AWAITED {
            self.sent.pop_front();
        }
        self.sent.push_back((payload.to_vec(), now));
    }

    /// A pong answers the ping with its payload and all before it (RFC 6455 §5.5.3); others are unsolicited.
    pub fn pong_received(&mut self, payload: &[u8], now: Instant) {
        let position = self.sent.iter().rposition(|(sent, _)| sent == payload);
        let awaited = self.sent.iter().position(|(sent, _)| Some(sent) == self.awaited.as_ref());
        let is_answered = match (position, awaited) {
            (Some(position), Some(awaited)) => awaited <= position,
            // Pushed out of the list by pings of the program's, so older than all in it.
            (Some(_), None) => self.awaited.is_some(),
            (None, _) => self.awaited.as_deref() == Some(payload),
        };
        if is_answered {
            self.awaited = None;
            self.due = self.interval.map(|interval| after(now, interval));
        }
        if let Some(position) = position {
            self.latency = Some(now.saturating_duration_since(self.sent[position].1));
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

    #[test]
    fn pings_wait_for_their_pong_and_give_up_after_an_interval() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(Some(10 * SECOND));
        assert_eq!(keepalive.turn(start), KeepaliveAction::Wait(Some(10 * SECOND)));
        assert_eq!(keepalive.turn(start + 4 * SECOND), KeepaliveAction::Wait(Some(6 * SECOND)));
        let KeepaliveAction::Ping(payload) = keepalive.turn(start + 10 * SECOND) else { panic!() };
        keepalive.ping_sent(&payload, start + 10 * SECOND);
        assert_eq!(keepalive.turn(start + 11 * SECOND), KeepaliveAction::Wait(Some(9 * SECOND)));
        keepalive.pong_received(b"unsolicited", start + 11 * SECOND);
        assert_eq!(keepalive.latency(), None);
        keepalive.pong_received(&payload, start + 12 * SECOND);
        assert_eq!(keepalive.latency(), Some(2 * SECOND));
        assert_eq!(keepalive.turn(start + 12 * SECOND), KeepaliveAction::Wait(Some(10 * SECOND)));
        assert!(matches!(keepalive.turn(start + 22 * SECOND), KeepaliveAction::Ping(_)));
        assert_eq!(keepalive.turn(start + 32 * SECOND), KeepaliveAction::Dead(10 * SECOND));
    }

    #[test]
    fn a_programs_own_pings_do_not_hide_the_pong() {
        let start = Instant::now();
        for answered in [0, 1, 99] {
            let mut keepalive = Keepalive::new(Some(SECOND));
            keepalive.turn(start);
            let KeepaliveAction::Ping(ours) = keepalive.turn(start + SECOND) else { panic!() };
            keepalive.ping_sent(&ours, start + SECOND);
            let theirs: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number]).collect();
            theirs.iter().for_each(|payload| keepalive.ping_sent(payload, start + SECOND));
            keepalive.pong_received(if answered == 0 { &ours } else { &theirs[answered] }, start + SECOND);
            let is_forgotten = answered == 1;
            assert_eq!(matches!(keepalive.turn(start + 2 * SECOND), KeepaliveAction::Dead(_)), is_forgotten);
        }
    }

    #[test]
    fn no_interval_never_pings_and_a_new_one_starts_afresh() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(None);
        assert_eq!(keepalive.turn(start), KeepaliveAction::Wait(None));
        keepalive.set_interval(Some(SECOND));
        assert_eq!(keepalive.turn(start + 9 * SECOND), KeepaliveAction::Wait(Some(SECOND)));
        keepalive.set_interval(Some(Duration::ZERO));
        assert_eq!(keepalive.interval(), None);
    }

    #[test]
    fn latency_is_of_the_newest_answered_ping() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(None);
        for (number, payload) in [b"a", b"b", b"c"].iter().enumerate() {
            keepalive.ping_sent(*payload, start + number as u32 * SECOND);
        }
        keepalive.pong_received(b"b", start + 5 * SECOND);
        assert_eq!(keepalive.latency(), Some(4 * SECOND));
        keepalive.pong_received(b"a", start + 6 * SECOND);
        assert_eq!(keepalive.latency(), Some(4 * SECOND));
    }
}
