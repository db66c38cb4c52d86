//! Ending `connect` from another thread.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::sync::{Mutex, lock};

/// Ends calls of `connect` from another thread: pass it to [`ConnectOptions::cancel_token`](crate::ConnectOptions::cancel_token).
/// A cheap handle, shared by its clones.
///
/// A call that waits, for the resolver, the network or the server, returns at once with kind
/// [`Cancelled`](ErrorKind::Cancelled), and so does every later one with the same token. An open connection is not changed: that
/// is ended by [`abort`](crate::WebSocket::abort) or [`close`](crate::WebSocket::close).
///
/// The system's resolver, and a TCP connection that the system is making, cannot be stopped. They end on threads that nobody
/// waits for.
///
/// ```
/// use wsync::{CancelToken, ErrorKind, WebSocket};
///
/// // A server that says nothing.
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let url = format!("ws://{}/", listener.local_addr()?);
///
/// let token = CancelToken::new();
/// let options = WebSocket::options().connect_timeout(None).cancel_token(&token);
/// let connecting = std::thread::spawn(move || options.connect(url));
/// token.cancel(); // from a handler for Ctrl-C, or a button
/// let error = connecting.join().unwrap().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Cancelled);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_cancelled: bool,
    /// What ends the waits that are under way, by the number of the wait.
    waits: Vec<(u64, EndWait)>,
    last_number: u64,
}

type EndWait = Arc<dyn Fn() + Send + Sync>;

/// The tokens of one call of connect: any of them ends it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancellation(Vec<CancelToken>);

/// A wait that the tokens end, until this is dropped.
pub(super) struct CancellableWait<'a>(Vec<(&'a CancelToken, u64)>);

impl CancelToken {
    /// A token that is not cancelled. See [the example](CancelToken).
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends the calls of connect that have this token, those under way and later ones. Never blocks, from any
    /// thread. See [the example](CancelToken).
    pub fn cancel(&self) {
        let waits = {
            let mut state = lock(&self.0);
            state.is_cancelled = true;
            std::mem::take(&mut state.waits)
        };
        waits.iter().for_each(|(_, end)| end());
    }

    /// Whether [`cancel`](CancelToken::cancel) was called.
    ///
    /// ```
    /// let token = wsync::CancelToken::new();
    /// token.cancel();
    /// assert!(token.clone().is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        lock(&self.0).is_cancelled
    }

    /// Calls `end` when the token is cancelled, or now if it is already. Returns the number to forget it by.
    fn on_cancel(&self, end: EndWait) -> u64 {
        let mut state = lock(&self.0);
        state.last_number += 1;
        let number = state.last_number;
        if state.is_cancelled {
            drop(state);
            end();
        } else {
            state.waits.push((number, end));
        }
        number
    }

    fn forget(&self, number: u64) {
        lock(&self.0).waits.retain(|(other, _)| *other != number);
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

impl Cancellation {
    pub fn add(&mut self, token: CancelToken) {
        self.0.push(token);
    }

    /// Whether no token was given, so that waits need not be cancellable.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.iter().any(CancelToken::is_cancelled)
    }

    /// From now until the result is dropped, a token that is cancelled calls `end`, which must not block.
    pub(super) fn during(&self, end: impl Fn() + Send + Sync + 'static) -> CancellableWait<'_> {
        let end: EndWait = Arc::new(end);
        CancellableWait(self.0.iter().map(|token| (token, token.on_cancel(Arc::clone(&end)))).collect())
    }

    pub(super) fn error(doing: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Cancelled, format!("{doing} was cancelled by its CancelToken"))
    }
}

impl Drop for CancellableWait<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|(token, number)| token.forget(*number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_wait_is_ended_once_by_any_token_also_by_one_cancelled_before_and_not_after_it() {
        let ended = Arc::new(AtomicUsize::new(0));
        let count = || {
            let ended = Arc::clone(&ended);
            move || {
                ended.fetch_add(1, Ordering::Relaxed);
            }
        };
        let tokens = [CancelToken::new(), CancelToken::new()];
        let mut cancellation = Cancellation::default();
        assert!(cancellation.is_none());
        tokens.iter().for_each(|token| cancellation.add(token.clone()));
        drop(cancellation.during(count()));
        assert!(!cancellation.is_none() && !cancellation.is_cancelled());
        let wait = cancellation.during(count());
        tokens[1].cancel();
        tokens[1].cancel();
        assert_eq!(ended.load(Ordering::Relaxed), 1, "not by the wait that was over");
        assert!(cancellation.is_cancelled() && !tokens[0].is_cancelled());
        drop(wait);
        drop(cancellation.during(count()));
        assert_eq!(ended.load(Ordering::Relaxed), 2);
        assert_eq!(format!("{tokens:?}"), "[CancelToken { is_cancelled: false }, CancelToken { is_cancelled: true }]");
    }
}
