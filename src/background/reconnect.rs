//! Whether and when to connect again. Randomness and time come in as arguments.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::event::End;
use crate::close_code::CloseCode;
use crate::error::{Error, ErrorKind, Result};

/// When a [`Background`](crate::Background) connection is tried again: which ends are worth it, and how long to wait.
///
/// The wait before each attempt is random between zero and a bound that doubles with each attempt, up to a cap ("full
/// jitter"): so the clients of a server that went down do not all come back at the same moment. It starts anew after a
/// connection that held for a while.
///
/// ```
/// use std::time::Duration;
/// use wsync::{CloseCode, End, Reconnect};
///
/// let reconnect = Reconnect::new().max_delay(Duration::from_secs(10)).worth(|end| match end {
///     End::Closed { code, .. } => *code == CloseCode::from(4001), // this server's "come back"
///     other => Reconnect::is_worth(other),
/// });
/// ```
#[derive(Clone)]
pub struct Reconnect {
    first_delay: Duration,
    max_delay: Duration,
    stable_after: Duration,
    max_attempts: Option<u32>,
    worth: Arc<dyn Fn(&End) -> bool + Send + Sync>,
}

impl Default for Reconnect {
    fn default() -> Reconnect {
        Reconnect {
            first_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
            max_attempts: None,
            worth: Arc::new(Reconnect::is_worth),
        }
    }
}

impl Reconnect {
    /// The defaults, as each setter names them.
    pub fn new() -> Reconnect {
        Reconnect::default()
    }

    /// The longest wait before the first attempt, which doubles from there (default: 1 s).
    pub fn first_delay(mut self, delay: Duration) -> Reconnect {
        self.first_delay = delay;
        self
    }

    /// The longest wait before any attempt (default: 30 s).
    pub fn max_delay(mut self, delay: Duration) -> Reconnect {
        self.max_delay = delay;
        self
    }

    /// How long a connection must have held for the waits to start anew (default: 10 s).
    pub fn stable_after(mut self, length: Duration) -> Reconnect {
        self.stable_after = length;
        self
    }

    /// How many attempts to make in a row, without a stable connection between them (default: `None`, no bound).
    pub fn max_attempts(mut self, count: Option<u32>) -> Reconnect {
        self.max_attempts = count;
        self
    }

    /// Which ends are worth another attempt (default: [`is_worth`](Reconnect::is_worth)). Called on a thread of the
    /// connection. It is not asked after [`Background::close`](crate::Background::close).
    pub fn worth(mut self, policy: impl Fn(&End) -> bool + Send + Sync + 'static) -> Reconnect {
        self.worth = Arc::new(policy);
        self
    }

    /// The default policy: what may be better the next time.
    ///
    /// - Yes: the connection was lost, also before the server's answer was whole, a bound of time was reached, the name did not resolve or nobody was there
    ///   ([`Io`](ErrorKind::Io), [`Timeout`](ErrorKind::Timeout), [`Resolve`](ErrorKind::Resolve),
    ///   [`Connect`](ErrorKind::Connect)); the server answered 408, 429 or 5xx; it closed with 1001, 1011, 1012, 1013 or
    ///   1014.
    /// - No: everything else, such as a close with 1000 or a code of the server's own, a refusal by 401 or 403, a wrong
    ///   certificate, a broken protocol, an unusable URL or option.
    ///
    /// ```
    /// # use wsync::{CloseCode, End, Reconnect};
    /// assert!(Reconnect::is_worth(&End::Closed { code: CloseCode::SERVICE_RESTART, reason: "".into() }));
    /// assert!(!Reconnect::is_worth(&End::Closed { code: CloseCode::NORMAL, reason: "".into() }));
    /// ```
    pub fn is_worth(end: &End) -> bool {
        match end {
            End::Closed { code, .. } => matches!(
                *code,
                CloseCode::GOING_AWAY
                    | CloseCode::INTERNAL_ERROR
                    | CloseCode::SERVICE_RESTART
                    | CloseCode::TRY_AGAIN_LATER
                    | CloseCode::BAD_GATEWAY
            ),
            End::Failed(error) => match error.kind() {
                ErrorKind::Io | ErrorKind::Timeout | ErrorKind::Resolve | ErrorKind::Connect => true,
                // The server hung up before its answer was whole, as when it restarts.
                ErrorKind::Handshake => {
                    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
                }
                // Nobody was there to be the proxy, either.
                ErrorKind::Proxy => std::error::Error::source(error)
                    .and_then(|source| source.downcast_ref::<Error>())
                    .is_some_and(|source| matches!(source.kind(), ErrorKind::Resolve | ErrorKind::Connect)),
                ErrorKind::Rejected => {
                    matches!(error.response().map(|response| response.status()), Some(408 | 429 | 500..=599))
                }
                _ => false,
            },
        }
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("first_delay", &self.first_delay)
            .field("max_delay", &self.max_delay)
            .field("stable_after", &self.stable_after)
            .field("max_attempts", &self.max_attempts)
            .finish_non_exhaustive()
    }
}

/// The attempts made so far, and what they ask for next.
pub(super) struct Backoff {
    reconnect: Option<Reconnect>,
    attempts: u32,
}

impl Backoff {
    pub fn new(reconnect: Option<Reconnect>) -> Backoff {
        Backoff { reconnect, attempts: 0 }
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A connection that came about has ended after `lasted`.
    pub fn connection_ended(&mut self, lasted: Duration) {
        if self.reconnect.as_ref().is_some_and(|reconnect| lasted >= reconnect.stable_after) {
            self.attempts = 0;
        }
    }

    /// Whether there is to be another attempt after this end.
    pub fn goes_on(&self, end: &End) -> bool {
        self.reconnect.as_ref().is_some_and(|reconnect| {
            reconnect.max_attempts.is_none_or(|most| self.attempts < most) && (reconnect.worth)(end)
        })
    }

    /// Counts an attempt; how long to wait before it, by a number that is random over its whole range.
    pub fn next(&mut self, random: u64) -> Duration {
        let Some(reconnect) = &self.reconnect else { return Duration::ZERO };
        let doubled = reconnect.first_delay.saturating_mul(1 << self.attempts.min(31));
        self.attempts = self.attempts.saturating_add(1);
        // 53 bits make a fraction below one exactly, so that the product is never above the bound.
        let fraction = (random >> 11) as f64 / (1u64 << 53) as f64;
        doubled.min(reconnect.max_delay).mul_f64(fraction)
    }
}

pub(super) fn random() -> Result<u64> {
    getrandom::u64().map_err(|error| Error::caused(ErrorKind::Io, "the system gives no random number", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(reconnect: Reconnect) -> Backoff {
        Backoff::new(Some(reconnect.first_delay(SECOND).max_delay(10 * SECOND).stable_after(60 * SECOND)))
    }

    fn lost() -> End {
        End::Failed(Error::new(ErrorKind::Io, "connection lost"))
    }

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let mut backoff = backoff(Reconnect::new());
        let longest: Vec<f64> = (0..6).map(|_| backoff.next(u64::MAX).as_secs_f64().round()).collect();
        assert_eq!(longest, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(backoff.attempts(), 6);
        (0..100).for_each(|_| assert!(backoff.next(u64::MAX) <= 10 * SECOND));
    }

    #[test]
    fn the_jitter_is_full() {
        assert_eq!(backoff(Reconnect::new()).next(0), Duration::ZERO);
        assert_eq!(backoff(Reconnect::new()).next(1 << 63), SECOND / 2);
        assert_eq!(backoff(Reconnect::new()).next(1 << 62), SECOND / 4);
    }

    #[test]
    fn only_a_stable_connection_starts_anew() {
        let mut backoff = backoff(Reconnect::new());
        (0..3).for_each(|_| {
            backoff.next(0);
        });
        backoff.connection_ended(59 * SECOND);
        assert_eq!(backoff.next(1 << 63), 4 * SECOND);
        backoff.connection_ended(60 * SECOND);
        assert_eq!(backoff.attempts(), 0);
        assert_eq!(backoff.next(1 << 63), SECOND / 2);
    }

    #[test]
    fn extreme_lengths_do_not_overflow() {
        let reconnect = Reconnect::new().first_delay(Duration::MAX).max_delay(Duration::MAX);
        let mut backoff = Backoff::new(Some(reconnect));
        (0..100).for_each(|_| assert!(backoff.next(u64::MAX) <= Duration::MAX));
        let mut none = Backoff::new(Some(Reconnect::new().first_delay(Duration::ZERO)));
        assert_eq!(none.next(u64::MAX), Duration::ZERO);
    }

    #[test]
    fn attempts_end_by_number_and_by_policy() {
        assert!(!Backoff::new(None).goes_on(&lost()));
        let mut few = backoff(Reconnect::new().max_attempts(Some(2)));
        (0..2).for_each(|_| {
            assert!(few.goes_on(&lost()));
            few.next(0);
        });
        assert!(!few.goes_on(&lost()));
        few.connection_ended(60 * SECOND);
        assert!(few.goes_on(&lost()));
        assert!(!backoff(Reconnect::new().worth(|_| false)).goes_on(&lost()));
    }

    #[test]
    fn the_default_policy_tries_again_what_may_get_better() {
        let closed = |code: u16| End::Closed { code: code.into(), reason: String::new() };
        let worth: Vec<u16> = (1000..5000).filter(|code| Reconnect::is_worth(&closed(*code))).collect();
        assert_eq!(worth, [1001, 1011, 1012, 1013, 1014]);
        use ErrorKind::*;
        let kinds = [
            Url, Options, Resolve, Connect, Tls, Proxy, Rejected, Redirect, Handshake, Timeout, Protocol, Utf8, TooBig,
            Closed, Io,
        ];
        let worth: Vec<ErrorKind> =
            kinds.into_iter().filter(|kind| Reconnect::is_worth(&End::Failed(Error::new(*kind, "")))).collect();
        assert_eq!(worth, [Resolve, Connect, Timeout, Io]);
        let through_proxy = |kind| End::Failed(Error::new(kind, "").in_context(Proxy, ""));
        assert!(Reconnect::is_worth(&through_proxy(Connect)) && Reconnect::is_worth(&through_proxy(Resolve)));
        assert!(!Reconnect::is_worth(&through_proxy(Proxy)));
    }
}
