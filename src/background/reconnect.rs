//! Whether and when to connect again. Randomness and time are arguments.

use std::fmt;
use std::io;
use std::num::IntErrorKind;
use std::sync::Arc;
use std::time::Duration;

use super::event::ConnectionEnd;
use super::thread::naming;
use crate::close_code::CloseCode;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Response, parse_date};
use crate::sync::SystemTime;

/// When a [`Background`](crate::Background) connection is made again: after which ends, and after how long.
///
/// The wait before each attempt is random between zero and a bound that doubles with each attempt, up to a maximum ("full
/// jitter"), so that the clients of a server that went down do not all come back at the same moment. The bound starts from
/// the beginning after a connection that was stable. A server that answers 429 or 503 with `Retry-After` (RFC 9110 §10.2.3) is
/// waited for as long as it says, up to the maximum.
///
/// A delay of zero is no wait.
///
/// ```
/// use std::time::Duration;
/// use wsync::{CloseCode, ConnectionEnd, Reconnect};
///
/// let reconnect = Reconnect::new()
///     .first_delay(Duration::from_millis(500))
///     .max_delay(Duration::from_secs(10))
///     .stable_after(Duration::from_secs(60))
///     .max_attempts(20)
///     .retry_if(|end| match end {
///         ConnectionEnd::Closed { code, .. } => *code == CloseCode::from(4001), // this server's "come back"
///         other => Reconnect::retries_by_default(other),
///     });
/// ```
#[derive(Clone)]
#[must_use = "it has an effect only in BackgroundOptions::reconnect"]
pub struct Reconnect {
    first_delay: Duration,
    max_delay: Duration,
    stable_after: Duration,
    max_attempts: Option<u32>,
    /// `None`: the default policy.
    retry_if: Option<Arc<Policy>>,
}

type Policy = dyn Fn(&ConnectionEnd) -> bool + Send + Sync;

impl Default for Reconnect {
    fn default() -> Reconnect {
        Reconnect {
            first_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
            max_attempts: None,
            retry_if: None,
        }
    }
}

/// A policy that panicked is not called again.
impl std::panic::UnwindSafe for Reconnect {}
impl std::panic::RefUnwindSafe for Reconnect {}

impl Reconnect {
    /// The defaults, as each setter names them. See [the example](Reconnect).
    pub fn new() -> Reconnect {
        Reconnect::default()
    }

    /// The longest wait before the first attempt; it doubles with each further attempt (default: 1 s). See
    /// [the example](Reconnect).
    pub fn first_delay(mut self, delay: Duration) -> Reconnect {
        self.first_delay = delay;
        self
    }

    /// The longest wait before any attempt (default: 30 s). See [the example](Reconnect).
    pub fn max_delay(mut self, delay: Duration) -> Reconnect {
        self.max_delay = delay;
        self
    }

    /// How long a connection must last to count as stable: after it, the waits start from the beginning (default: 10 s).
    /// See [the example](Reconnect).
    pub fn stable_after(mut self, length: Duration) -> Reconnect {
        self.stable_after = length;
        self
    }

    /// How many attempts to make in a row, without a stable connection between them (default: `None`, no bound). After the
    /// last one the [`End`](crate::Event::End) comes. With 0 there is none. See [the example](Reconnect).
    pub fn max_attempts(mut self, count: impl Into<Option<u32>>) -> Reconnect {
        self.max_attempts = count.into();
        self
    }

    /// After which ends another attempt is made (default: [`retries_by_default`](Reconnect::retries_by_default), and with a
    /// [`before_connect`](crate::BackgroundOptions::before_connect) after every rejection, as that can change the request). Called
    /// on a thread of the connection. It is not asked after [`Background::close`](crate::Background::close).
    pub fn retry_if(mut self, policy: impl Fn(&ConnectionEnd) -> bool + Send + Sync + 'static) -> Reconnect {
        self.retry_if = Some(Arc::new(policy));
        self
    }

    /// The default policy: ends after which another attempt may succeed.
    ///
    /// - Yes: the connection was lost, also before the server's answer or its TLS handshake was complete ([`Io`](ErrorKind::Io),
    ///   or a [`Handshake`](ErrorKind::Handshake) or [`Tls`](ErrorKind::Tls) whose cause is an
    ///   [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof)); no pong came
    ///   ([`Unresponsive`](ErrorKind::Unresponsive)); a bound was reached ([`Timeout`](ErrorKind::Timeout)); the name did not
    ///   resolve, or no address could be connected to, also the proxy's ([`Resolve`](ErrorKind::Resolve),
    ///   [`Connect`](ErrorKind::Connect)); the server answered 408, 429 or 5xx; it closed with 1001, 1011, 1012, 1013 or 1014; a
    ///   hook of the program failed with an error of its own ([`Other`](ErrorKind::Other)).
    /// - No: everything else, such as a close with 1000 or a code of the server's own, a rejection with 400, 401, 403, 404 or 426,
    ///   a wrong certificate or a missing one of the client, a broken protocol, an unusable URL or option.
    ///
    /// ```
    /// # use wsync::{CloseCode, ConnectionEnd, Reconnect};
    /// assert!(Reconnect::retries_by_default(&ConnectionEnd::Closed { code: CloseCode::SERVICE_RESTART, reason: "".into() }));
    /// assert!(!Reconnect::retries_by_default(&ConnectionEnd::Closed { code: CloseCode::NORMAL, reason: "".into() }));
    /// ```
    pub fn retries_by_default(end: &ConnectionEnd) -> bool {
        match end {
            ConnectionEnd::Closed { code, .. } => matches!(
                *code,
                CloseCode::GOING_AWAY
                    | CloseCode::INTERNAL_ERROR
                    | CloseCode::SERVICE_RESTART
                    | CloseCode::TRY_AGAIN_LATER
                    | CloseCode::BAD_GATEWAY
            ),
            ConnectionEnd::Failed(error) => match error.kind() {
                ErrorKind::Io
                | ErrorKind::Timeout
                | ErrorKind::Unresponsive
                | ErrorKind::Resolve
                | ErrorKind::Connect
                | ErrorKind::Other => true,
                // The server ended the connection before its answer or its TLS handshake was complete, as when it restarts.
                ErrorKind::Handshake | ErrorKind::Tls => error
                    .get_ref()
                    .and_then(|cause| cause.downcast_ref::<io::Error>())
                    .is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof),
                // The proxy itself could not be resolved or connected to.
                ErrorKind::Proxy => error
                    .get_ref()
                    .and_then(|cause| cause.downcast_ref::<Error>())
                    .is_some_and(|cause| matches!(cause.kind(), ErrorKind::Resolve | ErrorKind::Connect)),
                ErrorKind::Rejected => {
                    matches!(error.response().map(|response| response.status()), Some(408 | 429 | 500..=599))
                }
                ErrorKind::Url
                | ErrorKind::InvalidInput
                | ErrorKind::Redirect
                | ErrorKind::Refused
                | ErrorKind::WouldBlock
                | ErrorKind::Cancelled
                | ErrorKind::Protocol
                | ErrorKind::Utf8
                | ErrorKind::TooBig
                | ErrorKind::Closed => false,
            },
        }
    }
}

impl Reconnect {
    /// The wait after so many attempts, by a number that is random over its whole range.
    fn delay(&self, attempts: u32, random: u64) -> Duration {
        let doubled = self.first_delay.saturating_mul(1 << attempts.min(31));
        // 53 bits make a fraction below one exactly, so that the product is never above the bound.
        let fraction = (random >> 11) as f64 / (1u64 << 53) as f64;
        doubled.min(self.max_delay).mul_f64(fraction)
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

/// What follows the end of a connection, or of an attempt to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Another attempt after `delay`; the number counts from the last stable connection.
    Retry { attempt: u32, delay: Duration },
    /// It was the last.
    Stop,
}

/// Counts the attempts, and decides on the next one.
pub(super) struct Backoff {
    reconnect: Option<Reconnect>,
    /// The program has a hook before each attempt: a rejected request may be another one the next time.
    may_change_request: bool,
    attempts: u32,
}

impl Backoff {
    pub fn new(reconnect: Option<Reconnect>, may_change_request: bool) -> Backoff {
        Backoff { reconnect, may_change_request, attempts: 0 }
    }

    /// How many attempts were decided on since the last stable connection.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A connection has ended that lasted so long.
    pub fn connection_ended(&mut self, lasted: Duration) {
        if self.reconnect.as_ref().is_some_and(|reconnect| lasted >= reconnect.stable_after) {
            self.attempts = 0;
        }
    }

    /// Decides what follows an end, and counts the attempt. `random` is asked for a number that is random over its whole
    /// range; without one, there is no attempt. `now`: the time of the day.
    pub fn decide(&mut self, end: &ConnectionEnd, random: impl FnOnce() -> Result<u64>, now: SystemTime) -> Decision {
        let Some(reconnect) = &self.reconnect else { return Decision::Stop };
        let has_attempts = reconnect.max_attempts.is_none_or(|most| self.attempts < most);
        if !has_attempts || !self.is_worth_an_attempt(reconnect, end) {
            return Decision::Stop;
        }
        let Ok(random) = random() else { return Decision::Stop };
        let asked = end.error().and_then(Error::response).and_then(|response| retry_after(response, now));
        let delay = reconnect.delay(self.attempts, random).max(asked.unwrap_or_default().min(reconnect.max_delay));
        self.attempts = self.attempts.saturating_add(1);
        Decision::Retry { attempt: self.attempts, delay }
    }

    /// The program asks for an attempt now: it counts, and no policy is asked.
    pub fn retry_now(&mut self) -> Decision {
        self.attempts = self.attempts.saturating_add(1);
        Decision::Retry { attempt: self.attempts, delay: Duration::ZERO }
    }

    fn is_worth_an_attempt(&self, reconnect: &Reconnect, end: &ConnectionEnd) -> bool {
        match &reconnect.retry_if {
            Some(policy) => naming("the reconnect policy", || policy(end)),
            None => {
                let is_rejected = end.error().is_some_and(|error| error.kind() == ErrorKind::Rejected);
                (is_rejected && self.may_change_request) || Reconnect::retries_by_default(end)
            }
        }
    }
}

/// How long the server asks to wait, in seconds or until a date (RFC 9110 §10.2.3), with the statuses that say "later".
fn retry_after(response: &Response, now: SystemTime) -> Option<Duration> {
    if !matches!(response.status(), 429 | 503) {
        return None;
    }
    let value = response.header("Retry-After")?.trim();
    match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // However large the number is, it asks for patience.
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(Duration::MAX),
        Err(_) => (SystemTime::UNIX_EPOCH + Duration::from_secs(parse_date(value)?)).duration_since(now).ok(),
    }
}

pub(super) fn random() -> Result<u64> {
    crate::random::number().map_err(|error| Error::caused(ErrorKind::Io, "the system gives no random number", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(reconnect: Reconnect) -> Backoff {
        Backoff::new(Some(reconnect.first_delay(SECOND).max_delay(10 * SECOND).stable_after(60 * SECOND)), false)
    }

    fn lost() -> ConnectionEnd {
        ConnectionEnd::Failed(Error::new(ErrorKind::Io, "connection lost"))
    }

    /// The delay of the next attempt.
    fn next(backoff: &mut Backoff, random: u64) -> Duration {
        let decision = backoff.decide(&lost(), || Ok(random), SystemTime::UNIX_EPOCH);
        let Decision::Retry { delay, .. } = decision else { panic!("no attempt") };
        delay
    }

    #[test]
    fn the_bound_doubles_up_to_the_maximum() {
        let mut backoff = backoff(Reconnect::new());
        let longest: Vec<f64> = (0..6).map(|_| next(&mut backoff, u64::MAX).as_secs_f64().round()).collect();
        assert_eq!(longest, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        (0..100).for_each(|_| assert!(next(&mut backoff, u64::MAX) <= 10 * SECOND));
    }

    #[test]
    fn the_jitter_is_full() {
        for (random, delay) in [(0, Duration::ZERO), (1 << 63, SECOND / 2), (1 << 62, SECOND / 4)] {
            assert_eq!(next(&mut backoff(Reconnect::new()), random), delay);
        }
    }

    #[test]
    fn only_a_stable_connection_starts_from_the_beginning() {
        let mut backoff = backoff(Reconnect::new());
        (0..3).for_each(|_| assert_eq!(next(&mut backoff, 0), Duration::ZERO));
        backoff.connection_ended(59 * SECOND);
        let fourth = backoff.decide(&lost(), || Ok(1 << 63), SystemTime::UNIX_EPOCH);
        assert_eq!(fourth, Decision::Retry { attempt: 4, delay: 4 * SECOND });
        backoff.connection_ended(60 * SECOND);
        let first = backoff.decide(&lost(), || Ok(1 << 63), SystemTime::UNIX_EPOCH);
        assert_eq!(first, Decision::Retry { attempt: 1, delay: SECOND / 2 });
    }

    #[test]
    fn extreme_lengths_do_not_overflow() {
        let reconnect = Reconnect::new().first_delay(Duration::MAX).max_delay(Duration::MAX);
        let mut backoff = Backoff::new(Some(reconnect), false);
        (0..100).for_each(|_| assert!(next(&mut backoff, u64::MAX) <= Duration::MAX));
        let mut none = Backoff::new(Some(Reconnect::new().first_delay(Duration::ZERO)), false);
        assert_eq!(next(&mut none, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn attempts_end_by_number_by_policy_and_for_want_of_randomness() {
        let stops = |backoff: &mut Backoff| backoff.decide(&lost(), || Ok(0), SystemTime::UNIX_EPOCH) == Decision::Stop;
        assert!(stops(&mut Backoff::new(None, false)));
        let mut few = backoff(Reconnect::new().max_attempts(Some(2)));
        (0..2).for_each(|_| assert!(!stops(&mut few)));
        assert!(stops(&mut few));
        few.connection_ended(60 * SECOND);
        assert!(!stops(&mut few));
        assert!(stops(&mut backoff(Reconnect::new().retry_if(|_| false))));
        let no_random = || Err(Error::new(ErrorKind::Io, "no random number"));
        assert_eq!(backoff(Reconnect::new()).decide(&lost(), no_random, SystemTime::UNIX_EPOCH), Decision::Stop);
    }

    #[test]
    fn the_policy_is_not_asked_without_attempts_left() {
        let mut none = backoff(Reconnect::new().max_attempts(Some(0)).retry_if(|_| panic!("asked")));
        assert_eq!(none.decide(&lost(), || Ok(0), SystemTime::UNIX_EPOCH), Decision::Stop);
    }

    #[test]
    fn the_default_policy_tries_again_what_may_get_better() {
        let closed = |code: u16| ConnectionEnd::Closed { code: code.into(), reason: String::new() };
        let retried: Vec<u16> = (1000..5000).filter(|code| Reconnect::retries_by_default(&closed(*code))).collect();
        assert_eq!(retried, [1001, 1011, 1012, 1013, 1014]);
        use ErrorKind::*;
        let kinds = [
            Url,
            InvalidInput,
            Resolve,
            Connect,
            Tls,
            Proxy,
            Rejected,
            Redirect,
            Handshake,
            Refused,
            Timeout,
            WouldBlock,
            Unresponsive,
            Cancelled,
            Other,
            Protocol,
            Utf8,
            TooBig,
            Closed,
            Io,
        ];
        let retried: Vec<ErrorKind> = kinds
            .into_iter()
            .filter(|kind| Reconnect::retries_by_default(&ConnectionEnd::Failed(Error::new(*kind, ""))))
            .collect();
        assert_eq!(retried, [Resolve, Connect, Timeout, Unresponsive, Other, Io]);
        let through_proxy = |kind| ConnectionEnd::Failed(Error::new(kind, "").in_context(Proxy, ""));
        assert!(
            Reconnect::retries_by_default(&through_proxy(Connect))
                && Reconnect::retries_by_default(&through_proxy(Resolve))
        );
        assert!(!Reconnect::retries_by_default(&through_proxy(Proxy)));
    }

    fn rejected(status: u16, retry_after: &str) -> ConnectionEnd {
        let response = Response::new(status).header("Retry-After", retry_after).into();
        ConnectionEnd::Failed(Error::with_response(ErrorKind::Rejected, "rejected", response))
    }

    #[test]
    fn a_rejected_request_is_made_again_only_if_it_may_change_or_the_status_may() {
        for (status, heals) in
            [(400, false), (401, false), (403, false), (404, false), (426, false), (429, true), (503, true)]
        {
            for (may_change, is_retried) in [(false, heals), (true, true)] {
                let mut backoff = Backoff::new(Some(Reconnect::new()), may_change);
                let decision = backoff.decide(&rejected(status, ""), || Ok(0), SystemTime::UNIX_EPOCH);
                assert_eq!(decision != Decision::Stop, is_retried, "{status} {may_change}");
            }
            let mut backoff = Backoff::new(Some(Reconnect::new().retry_if(|_| false)), true);
            assert_eq!(backoff.decide(&rejected(status, ""), || Ok(0), SystemTime::UNIX_EPOCH), Decision::Stop);
        }
        let mut backoff = Backoff::new(Some(Reconnect::new()), true);
        let mut tls = |cause: io::Error| {
            let error = ConnectionEnd::Failed(Error::caused(ErrorKind::Tls, "TLS handshake failed", cause));
            backoff.decide(&error, || Ok(0), SystemTime::UNIX_EPOCH) != Decision::Stop
        };
        assert!(!tls(io::Error::other("untrusted, or an alert")));
        assert!(tls(io::ErrorKind::UnexpectedEof.into()), "lost");
    }

    #[test]
    fn retry_after_is_kept_up_to_the_longest_delay() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(parse_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap());
        let delay = |status, value: &str| {
            let decision = backoff(Reconnect::new()).decide(&rejected(status, value), || Ok(0), now);
            let Decision::Retry { delay, .. } = decision else { panic!("no attempt") };
            delay
        };
        for status in [429, 503] {
            assert_eq!(delay(status, "7"), 7 * SECOND);
            assert_eq!(delay(status, "3600"), 10 * SECOND, "max_delay");
            assert_eq!(delay(status, "99999999999999999999"), 10 * SECOND, "more than 64 bits");
            assert_eq!(delay(status, "Sun, 06 Nov 1994 08:49:40 GMT"), 3 * SECOND);
            for past_or_wrong in ["Sun, 06 Nov 1994 08:49:30 GMT", "soon", "-1", ""] {
                assert_eq!(delay(status, past_or_wrong), Duration::ZERO, "{past_or_wrong}");
            }
        }
        assert_eq!(delay(500, "7"), Duration::ZERO);
    }

    #[test]
    fn an_attempt_that_is_asked_for_counts_and_does_not_wait() {
        let mut backoff = backoff(Reconnect::new().retry_if(|_| panic!("asked")));
        assert_eq!(backoff.retry_now(), Decision::Retry { attempt: 1, delay: Duration::ZERO });
        assert_eq!(backoff.attempts(), 1);
    }

    /// All clients of a server that has restarted would come back at once.
    #[test]
    fn without_a_random_number_there_is_no_attempt() {
        let decision =
            crate::random::refusal::with(|| backoff(Reconnect::new()).decide(&lost(), random, SystemTime::UNIX_EPOCH));
        assert_eq!(decision, Decision::Stop);
        assert!(matches!(
            backoff(Reconnect::new()).decide(&lost(), random, SystemTime::UNIX_EPOCH),
            Decision::Retry { .. }
        ));
    }
}
