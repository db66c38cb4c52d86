//! What the fuzz targets hold of the two rooms without I/O, `handshake` and `protocol`.
//!
//! The rooms are private, so their source is compiled into this crate: the library's interface needs no back door for
//! it. Each function here takes a fuzzer's bytes; each seed in `seeds/<name>/` is also run by `cargo test`, where every
//! crash that was found belongs.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run frames fuzz/corpus/frames fuzz/seeds/frames -- -max_total_time=600
//! cargo test --manifest-path fuzz/Cargo.toml
//! ```

#[path = "../../src"]
#[allow(dead_code, unused_imports)]
mod library {
    pub mod close_code;
    pub mod compression;
    pub mod copy;
    pub mod error;
    pub mod handshake;
    pub mod protocol;
}
// The rooms name each other from the crate's root.
use library::{close_code, compression, copy, error, handshake, protocol};

mod differential;
mod frames;
mod heads;
mod round_trip;

pub use differential::tungstenite;
pub use frames::{frames, frames_deflate};
pub use heads::{extensions, request_head, response_head};
pub use round_trip::round_trip;

/// A fuzzer's bytes, taken from the front; zeros when they have run out.
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

    /// How long the chunks are that the input comes in, over and over.
    fn steps(&mut self) -> Vec<usize> {
        let count = usize::from(self.byte() % 8);
        let steps = self.take(count).iter().map(|&byte| usize::from(byte).max(1)).collect::<Vec<_>>();
        if steps.is_empty() { vec![1] } else { steps }
    }

    /// All the parameters of compression, in the range that the options allow for this role.
    fn compression(&mut self, role: protocol::Role) -> compression::Compression {
        let flags = self.byte();
        let windows = self.byte();
        let windows = (8 + windows % 8, 8 + windows / 8 % 8);
        let (client, server) = match role {
            protocol::Role::Client => (windows.0.max(9), windows.1),
            protocol::Role::Server => (windows.0, windows.1.max(9)),
        };
        compression::Compression::default()
            .client_no_context_takeover(flags & 1 != 0)
            .server_no_context_takeover(flags & 2 != 0)
            .client_max_window_bits(client)
            .server_max_window_bits(server)
            .level(1 + flags / 4 % 9)
    }
}
