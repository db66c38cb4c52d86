//! Masks for frames (RFC 6455 §5.3): unpredictable, from the system's generator.

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{Mask, Role};
use crate::random;

/// Gives each frame a fresh mask.
pub(crate) struct Masks {
    pool: Vec<u8>,
    role: Role,
}

impl Masks {
    /// Random bytes taken from the system at once: 256 masks, so that the call costs little for each (benches/README.md).
    const POOL: usize = 1024;

    pub fn new(role: Role) -> Masks {
        Masks { pool: Vec::new(), role }
    }

    /// The next mask; `None` for a server, which does not mask. Fails without entropy: there is never a mask that is not
    /// random.
    #[inline]
    pub fn next(&mut self) -> Result<Option<Mask>> {
        if self.role == Role::Server {
            return Ok(None);
        }
        if self.pool.is_empty() {
            self.pool.resize(Masks::POOL, 0);
            if let Err(error) = random::fill(&mut self.pool) {
                self.pool.clear();
                return Err(Error::caused(ErrorKind::Io, "the system gives no random bytes for a mask", error));
            }
        }
        let (rest, &mask) = self.pool.split_last_chunk().expect("a multiple of four");
        self.pool.truncate(rest.len());
        Ok(Some(Mask::from(mask)))
    }
}
