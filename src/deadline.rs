//! How much time is left, and which option set the bound.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::Instant;

/// The time at which an option's bound ends. Made once, and passed through every step that the bound spans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    bound: &'static str,
    length: Option<Duration>,
    is_renewable: bool,
    /// The call is not to wait at all, by its name.
    is_poll: bool,
}

impl Deadline {
    pub const NEVER: Deadline = Deadline { at: None, bound: "", length: None, is_renewable: false, is_poll: false };

    /// The bound of a call that never waits.
    pub fn now(bound: &'static str) -> Deadline {
        Deadline { is_poll: true, ..Deadline::after(bound, Some(Duration::ZERO)) }
    }

    /// `bound` is the option's name, which the error shows. `None` never ends.
    pub fn after(bound: &'static str, length: Option<Duration>) -> Deadline {
        // A length beyond the range of the clock never ends either.
        let at = length.and_then(|length| Instant::now().checked_add(length));
        Deadline { at, bound, length, is_renewable: false, is_poll: false }
    }

    /// An idle timeout: it restarts on progress.
    pub fn renewed_by_progress(bound: &'static str, length: Option<Duration>) -> Deadline {
        Deadline { is_renewable: true, ..Deadline::after(bound, length) }
    }

    /// There was progress.
    #[inline]
    pub fn progress(&mut self) {
        if self.is_renewable && self.length.is_some() {
            *self = Deadline::renewed_by_progress(self.bound, self.length);
        }
    }

    /// The time left: `None` without a bound, zero when it is over.
    pub fn left(&self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// One step of a wait: what is left, at most `slice`. A bound that is renewed gives the same step each time, so that
    /// it costs no system call to set.
    pub fn left_at_most(&self, slice: Duration) -> Duration {
        let left = if self.is_renewable { self.length } else { self.left() };
        left.map_or(slice, |left| left.min(slice))
    }

    /// The one that ends first.
    pub fn or_earlier(self, other: Option<Deadline>) -> Deadline {
        match other {
            Some(other) if other.at.is_some_and(|at| self.at.is_none_or(|own| at < own)) => other,
            Some(_) | None => self,
        }
    }

    pub fn is_over(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// The time left, or the error that says what was being done when it was over.
    pub fn check(&self, doing: impl std::fmt::Display) -> Result<Option<Duration>> {
        match self.left() {
            Some(Duration::ZERO) => Err(self.error(doing)),
            left => Ok(left),
        }
    }

    /// Whether the call is not to wait at all.
    pub fn is_poll(&self) -> bool {
        self.is_poll
    }

    /// The error of a receiving call to which no message came: `WouldBlock` if it was not to wait at all.
    pub fn nothing_yet(&self) -> Error {
        let length = self.length.unwrap_or_default();
        let kind = if self.is_poll { ErrorKind::WouldBlock } else { ErrorKind::Timeout };
        Error::nothing_yet(kind, self.bound, length)
    }

    /// The error of this bound: "`doing` took longer than …".
    pub fn error(&self, doing: impl std::fmt::Display) -> Error {
        Error::new(
            ErrorKind::Timeout,
            format!("{doing}: not done within {:?} ({})", self.length.unwrap_or_default(), self.bound),
        )
    }
}
