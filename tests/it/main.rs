//! The tests of the whole crate over real sockets, one module for each behaviour.
//!
//! Separate binaries hold what needs a process of its own: `memory` (a counting allocator), `soak` (threads and files
//! of the process), `contract` (compiles against the public interface).

mod support;

mod accept;
#[cfg(target_os = "linux")] // the certificates are made with OpenSSL
mod addresses;
mod background;
#[cfg(target_os = "linux")] // the certificates are made with OpenSSL
mod background_breaks;
mod background_hooks;
mod batch;
mod cancel;
mod close;
mod connect;
mod connect_failures;
mod deflate;
mod duplex;
mod errors;
mod examples;
mod frames;
mod from_upgraded;
mod group;
mod interface;
mod invalid_arguments;
mod keepalive;
mod large;
mod memory_stream;
mod network_faults;
#[cfg(target_os = "linux")] // the certificates are made with OpenSSL, and mio watches sockets of others on Unix only
mod poller;
mod promises;
mod promises_background;
mod promises_http;
#[cfg(target_os = "linux")] // the certificates are made with OpenSSL
mod proxies;
mod receive;
mod receive_into;
mod redirects;
mod requests;
mod responses;
mod send;
mod server;
mod streaming;
mod timeouts;
#[cfg(target_os = "linux")] // runs the commands openssl and stdbuf
mod tls_updates;
mod tungstenite;
#[cfg(unix)]
mod unix_sockets;
