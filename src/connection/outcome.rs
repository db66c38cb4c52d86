//! How a connection ends: one cell, decided once.
//!
//! ```text
//!          the peer's close frame              the answer is out, or given up
//!   Open ──────────────────────────▶ PeerClosed ─────────────────────────────▶ Ended (Closed)
//!     │
//!     └── abort, loss, violation, no pong, no answer to our close ────────────▶ Ended (Failed, or Closed with 1006)
//! ```
//!
//! The first of these events decides code and result. So an `abort` while the peer's close is being answered ends the answer,
//! and changes neither the code nor what `recv` returns (`OutcomeCell::finish`).

use crate::close_code::CloseCode;
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, OnceLock, Ordering};

/// What `close_code` and `close_reason` show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseInfo {
    pub code: CloseCode,
    pub reason: String,
}

/// What a receiving call returns after the end.
#[derive(Clone, Debug)]
pub(crate) enum EndResult {
    /// The peer has ended the connection by a close frame, or in any way after ours was out.
    Closed,
    Failed(Error),
}

/// The state of the connection, as the diagram above shows it.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    Open,
    /// The peer's close frame came, and is being answered.
    PeerClosed,
    Ended(&'a EndResult),
}

/// The only place that has the outcome. It is read without a lock; the first write decides.
#[derive(Default)]
pub(crate) struct OutcomeCell {
    decided: OnceLock<(CloseInfo, EndResult)>,
    /// Nothing is left to be answered.
    is_over: AtomicBool,
}

impl EndResult {
    /// What `recv` returns from now on.
    pub fn result<T>(&self) -> Result<Option<T>> {
        match self {
            EndResult::Closed => Ok(None),
            EndResult::Failed(error) => Err(error.clone()),
        }
    }
}

impl OutcomeCell {
    #[inline]
    pub fn get(&self) -> Outcome<'_> {
        match self.decided.get() {
            None => Outcome::Open,
            Some((_, end @ EndResult::Failed(_))) => Outcome::Ended(end),
            Some((_, end)) if self.is_over.load(Ordering::Acquire) => Outcome::Ended(end),
            Some(_) => Outcome::PeerClosed,
        }
    }

    #[inline]
    pub fn is_open(&self) -> bool {
        self.decided.get().is_none()
    }

    /// The end, if it has come.
    #[inline]
    pub fn end(&self) -> Option<&EndResult> {
        match self.get() {
            Outcome::Ended(end) => Some(end),
            Outcome::Open | Outcome::PeerClosed => None,
        }
    }

    /// The code and reason, once they are known.
    pub fn close_info(&self) -> Option<&CloseInfo> {
        self.decided.get().map(|(close, _)| close)
    }

    /// The peer's close frame came: `Open` becomes `PeerClosed`.
    pub fn peer_closed(&self, close: CloseInfo) {
        let _ = self.decided.set((close, EndResult::Closed));
    }

    /// Nothing more is sent or received. `end` and `code` count if nothing was decided before.
    pub fn finish(&self, end: EndResult, code: CloseCode) {
        let _ = self.decided.set((CloseInfo { code, reason: String::new() }, end));
        self.is_over.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn aborted() -> EndResult {
        EndResult::Failed(Error::new(ErrorKind::Closed, "aborted"))
    }

    fn bye() -> CloseInfo {
        CloseInfo { code: CloseCode::NORMAL, reason: "bye".to_string() }
    }

    #[test]
    fn a_close_frame_is_answered_and_then_the_connection_has_ended() {
        let outcome = OutcomeCell::default();
        assert!(matches!(outcome.get(), Outcome::Open) && outcome.is_open());
        outcome.peer_closed(bye());
        assert!(matches!(outcome.get(), Outcome::PeerClosed));
        assert_eq!(outcome.close_info(), Some(&bye()));
        assert!(outcome.end().is_none() && !outcome.is_open());
        outcome.finish(EndResult::Closed, CloseCode::ABNORMAL_CLOSURE);
        assert!(matches!(outcome.get(), Outcome::Ended(EndResult::Closed)));
        assert_eq!(outcome.close_info(), Some(&bye()));
        assert!(matches!(outcome.end().unwrap().result::<()>(), Ok(None)));
    }

    #[test]
    fn an_abort_while_the_close_is_answered_changes_neither_code_nor_result() {
        let outcome = OutcomeCell::default();
        outcome.peer_closed(bye());
        outcome.finish(aborted(), CloseCode::ABNORMAL_CLOSURE);
        assert_eq!(outcome.close_info(), Some(&bye()));
        assert!(matches!(outcome.end(), Some(EndResult::Closed)));
    }

    #[test]
    fn the_first_end_holds() {
        let outcome = OutcomeCell::default();
        outcome.finish(aborted(), CloseCode::ABNORMAL_CLOSURE);
        outcome.peer_closed(bye());
        outcome.finish(EndResult::Closed, CloseCode::NORMAL);
        assert_eq!(outcome.close_info().unwrap().code, CloseCode::ABNORMAL_CLOSURE);
        assert!(outcome.end().unwrap().result::<()>().is_err());
    }
}
