//! Fuzz targets for the modules without I/O: `http`, `handshake` and `protocol`.
//!
//! The modules are private. `wsync::internals` opens them to the fuzz targets and the benchmarks; it exists only with a cfg
//! that `.cargo/config.toml` of the repository sets for commands inside it, and that cargo-fuzz replaces by its own.
//!
//! Each function here takes a fuzzer's bytes. `cargo test` runs each seed in `seeds/<name>/`; every input that crashed a
//! target belongs there.
//!
//! ```sh
//! cargo test --manifest-path fuzz/Cargo.toml
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run frames fuzz/corpus/frames fuzz/seeds/frames -- -max_total_time=600
//! ```

mod differential;
mod frames;
mod heads;
mod round_trip;

pub use differential::tungstenite;
pub use frames::{frames, frames_deflate};
pub use heads::{extensions, request_head, response_head};
pub use round_trip::round_trip;

use wsync::{Compression, Role};

/// A fuzzer's bytes, taken from the front; zeros after their end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The lengths of the chunks that the input is cut into, used in a cycle.
    fn steps(&mut self) -> Vec<usize> {
        let count = usize::from(self.byte() % 8);
        let steps = self.take(count).iter().map(|&byte| usize::from(byte).max(1)).collect::<Vec<_>>();
        if steps.is_empty() { vec![1] } else { steps }
    }

    /// Parameters of compression within the range for this role.
    fn compression(&mut self, role: Role) -> Compression {
        let flags = self.byte();
        let windows = self.byte();
        let windows = (8 + windows % 8, 8 + windows / 8 % 8);
        let (client, server) = match role {
            Role::Client => (windows.0.max(9), windows.1),
            Role::Server => (windows.0, windows.1.max(9)),
        };
        Compression::default()
            .client_no_context_takeover(flags & 1 != 0)
            .server_no_context_takeover(flags & 2 != 0)
            .client_max_window_bits(client)
            .server_max_window_bits(server)
            .level(1 + flags / 4 % 9)
    }
}
