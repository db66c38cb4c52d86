//! How much time is left, and which option set the bound.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// The time at which an option's bound ends. Made once, and passed through every step that the bound spans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    bound: &'static str,
    length: Option<Duration>,
    is_renewable: bool,
}

impl Deadline {
    pub const NEVER: Deadline = Deadline { at: None, bound: "", length: None, is_renewable: false };

    /// `bound` is the option's name, which the error shows. `None` never ends.
    pub fn after(bound: &'static str, length: Option<Duration>) -> Deadline {
        // A length beyond the range of the clock never ends either.
        let at = length.and_then(|length| Instant::now().checked_add(length));
        Deadline { at, bound, length, is_renewable: false }
    }

    /// An idle timeout: it restarts on progress.
    pub fn renewed_by_progress(bound: &'static str, length: Option<Duration>) -> Deadline {
        Deadline { is_renewable: true, ..Deadline::after(bound, length) }
    }

    /// There was progress.
    pub fn progress(&mut self) {
        if self.is_renewable {
            *self = Deadline::renewed_by_progress(self.bound, self.length);
        }
    }

    /// The time left: `None` without a bound, zero when it is over.
    pub fn left(&self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The first wait of a write: all of an idle timeout, which is always the same and so costs no system call to set; the
    /// time left of any other.
    pub fn first_wait(&self) -> Option<Duration> {
        if self.is_renewable { self.length } else { self.left() }
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

    /// The error of this bound: "`doing` took longer than …".
    pub fn error(&self, doing: impl std::fmt::Display) -> Error {
        Error::new(
            ErrorKind::Timeout,
            format!("{doing}: not done within {:?} ({})", self.length.unwrap_or_default(), self.bound),
        )
    }
}
