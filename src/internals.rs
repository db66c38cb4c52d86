//! The private modules without I/O, for the repository's fuzz targets and benchmarks. Not part of the interface: it exists
//! only with `--cfg wsync_internals`, which `.cargo/config.toml` sets in the repository, or `--cfg fuzzing`, which
//! cargo-fuzz sets.

pub use crate::handshake::{Negotiated, UpgradeRequest, accept, accept_key, check_request, key, write_accept};
pub use crate::http::{Body, Head, HeadParser, RequestLine, StartLine};
pub use crate::protocol::{
    Decoder, DecoderLimits, DeflateParameters, Encoding, Fin, Fragment, FrameEncoder, FrameEvent, Mask,
    MessageCompressor, Opcode, Sink, Violation, WholeMessage,
};

use crate::compression::Compression;
use crate::http::Response;

/// What an answer with exactly these parameters would agree on.
pub fn deflate_parameters(compression: &Compression) -> Option<DeflateParameters> {
    compression.parameters()
}

pub fn response(head: Head, body: Vec<u8>) -> Response {
    Response::received(head, body)
}

/// A whole response, as it is sent.
pub fn write_response(response: Response) -> Vec<u8> {
    response.closing().to_bytes()
}

/// What tests/schedules needs: the clock, and connections that are made without a network.
#[cfg(wsync_shuttle)]
pub mod explored {
    pub use crate::sync::explored::{
        CLOCK_TASK, Time, elapsed, may_hurry, set_clock_alone, sleep, start_clock, stop_clock, wait_for_threads,
    };
    use std::sync::Arc;

    use crate::memory_limit::MemoryLimit;
    use crate::{Background, BackgroundOptions, Result, Stream, Upgraded, WebSocket};

    /// As `Stream::pair`, with `capacity` bytes of buffer in each direction.
    pub fn pair(capacity: usize) -> (Stream, Stream) {
        Stream::pair_with_capacity(capacity)
    }

    /// The memory of a server, which connections share.
    pub struct Memory(Arc<MemoryLimit>);

    impl Memory {
        pub fn new(bytes: usize) -> Memory {
            Memory(MemoryLimit::new(bytes))
        }

        /// As `Upgraded::open`, with a share of this memory.
        pub fn open(&self, upgraded: Upgraded) -> Result<WebSocket> {
            upgraded.open_with(Some(self.0.share(Arc::new(|_| {}))))
        }

        /// What the connections hold together.
        pub fn held(&self) -> usize {
            self.0.held()
        }

        /// How many were evicted.
        pub fn evicted(&self) -> u64 {
            self.0.evicted()
        }
    }

    /// As `BackgroundOptions::connect`, with connections that `connect` makes.
    pub fn background(
        options: &BackgroundOptions,
        mut connect: impl FnMut() -> Result<WebSocket> + Send + 'static,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Background> {
        options.connect_by(move |_| connect(), wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head_tests::parse;

    #[test]
    fn they_are_what_the_connection_uses() {
        assert!(deflate_parameters(&Compression::off()).is_none());
        assert_eq!(deflate_parameters(&Compression::default()).unwrap().server_max_window_bits, 15);
        let head = parse(HeadParser::response(), b"HTTP/1.1 404 No\r\nX: 1\r\n\r\n").unwrap();
        let written = write_response(response(head, b"body".to_vec()));
        let expected = b"HTTP/1.1 404 No\r\nConnection: close\r\nX: 1\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(written, expected);
    }
}
