//! Random bytes of the system: the one place that asks for them, so that unit tests can do without.

use getrandom::Error;

pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    #[cfg(test)]
    refusal::check()?;
    getrandom::fill(bytes)
}

pub(crate) fn number() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Lets unit tests run out of random bytes.
#[cfg(test)]
pub(crate) mod refusal {
    use std::cell::Cell;

    use super::Error;

    thread_local! {
        static IS_REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `body`, in which this thread gets no random bytes.
    pub fn with<T>(body: impl FnOnce() -> T) -> T {
        IS_REFUSED.set(true);
        let result = body();
        IS_REFUSED.set(false);
        result
    }

    pub fn check() -> Result<(), Error> {
        if IS_REFUSED.get() { Err(Error::UNSUPPORTED) } else { Ok(()) }
    }
}
