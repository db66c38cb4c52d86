//! Time left, and which bound it belongs to.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// A point in time that some bound of the caller's ends at; made once and handed through every step that it spans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    bound: &'static str,
    length: Option<Duration>,
    is_renewable: bool,
}

impl Deadline {
    pub const NEVER: Deadline = Deadline { at: None, bound: "", length: None, is_renewable: false };

    /// `bound` is the option's name, as the error will show it. `None` never ends.
    pub fn after(bound: &'static str, length: Option<Duration>) -> Deadline {
        // A length beyond what the clock can add never ends either.
        let at = length.and_then(|length| Instant::now().checked_add(length));
        Deadline { at, bound, length, is_renewable: false }
    }

    /// One that bounds standing still: it starts again whenever something has moved.
    pub fn renewed_by_progress(bound: &'static str, length: Option<Duration>) -> Deadline {
        Deadline { is_renewable: true, ..Deadline::after(bound, length) }
    }

    /// Something has moved.
    pub fn progress(&mut self) {
        if self.is_renewable {
            *self = Deadline::renewed_by_progress(self.bound, self.length);
        }
    }

    /// What is left: `None` is for ever, zero is over.
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

    /// What is left, or the error that says what was being done when it ran out.
    pub fn check(&self, doing: impl std::fmt::Display) -> Result<Option<Duration>> {
        match self.left() {
            Some(Duration::ZERO) => Err(self.error(doing)),
            left => Ok(left),
        }
    }

    /// The error of this bound: "`doing` took longer than …".
    pub fn error(&self, doing: impl std::fmt::Display) -> Error {
        Error::new(
            ErrorKind::Timeout,
            format!("{doing}: not done within {:?} ({})", self.length.unwrap_or_default(), self.bound),
        )
    }
}
