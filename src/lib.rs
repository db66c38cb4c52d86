//! Blocking WebSockets for plain threads: client and server, `ws` and `wss`, RFC 6455 with permessage-deflate (RFC 7692),
//! no async runtime.
//!
//! For scripts that read a feed, servers with a thread for each connection, and GUI programs. One thread waits in
//! [`recv`](WebSocket::recv) while any number of others [`send`](WebSocket::send), over TLS as without.
//!
//! | to | use |
//! |---|---|
//! | connect, as a client | [`WebSocket::connect`], [`ConnectOptions`] |
//! | connect, and cancel that from another thread | [`CancelToken`] |
//! | be a server, with a thread for each connection | [`Server`], [`AcceptOptions`] |
//! | accept one connection, from a listener of your own | [`WebSocket::accept`], [`AcceptOptions`] |
//! | send to many connections, and close them together | [`Group`] |
//! | have a connection for a GUI, which is made again when it is lost | [`Background`] |
//! | call a function with each message, or queue them | [`WebSocket::spawn_reader`], [`WebSocket::events`] |
//! | have many connections on one thread | [`WebSocket::try_recv`], [`WebSocket::pollable`] |
//! | send in parts or without compression | [`Outgoing`] |
//! | send or receive messages larger than memory | [`WebSocket::send_writer`], [`WebSocket::recv_reader`] |
//! | test without a network | [`Stream::pair`] |
//! | take over a connection from an HTTP server | [`WebSocket::upgraded`] |
//!
//! # Quick start
//!
//! A script:
//!
//! ```
//! use wsync::{CloseCode, Message, WebSocket};
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let url = format!("ws://{}/feed", listener.local_addr()?);
//! # let server = std::thread::spawn(move || -> std::io::Result<()> {
//! #     let ws = WebSocket::accept(listener.accept()?.0)?;
//! #     while let Some(message) = ws.recv()? {
//! #         ws.send(&message)?;
//! #         ws.close(CloseCode::NORMAL, "")?;
//! #     }
//! #     Ok(())
//! # });
//! let ws = WebSocket::connect(&url)?;
//! ws.send("subscribe")?;
//! while let Some(message) = ws.recv()? {
//!     match message {
//!         Message::Text(text) => println!("{text}"),
//!         Message::Binary(bytes) => println!("{} bytes", bytes.len()),
//!     }
//! }
//! assert_eq!(ws.close_code(), Some(CloseCode::NORMAL));
//! # server.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Sending and receiving at once. A [`WebSocket`] is a handle; clone it for each thread:
//!
//! ```
//! use std::thread;
//! use wsync::{CloseCode, Message, WebSocket};
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let url = format!("ws://{}/echo", listener.local_addr()?);
//! # let server = thread::spawn(move || -> std::io::Result<()> {
//! #     let ws = WebSocket::accept(listener.accept()?.0)?;
//! #     while let Some(message) = ws.recv()? {
//! #         ws.send(&message)?;
//! #     }
//! #     Ok(())
//! # });
//! let ws = WebSocket::connect(&url)?;
//! let reader = ws.clone();
//! let receiving = thread::spawn(move || reader.messages().collect::<wsync::Result<Vec<Message>>>());
//!
//! for number in 0..1000 {
//!     ws.send(format!("message {number}"))?;
//! }
//! ws.close(CloseCode::NORMAL, "")?;
//! assert_eq!(receiving.join().unwrap()?.len(), 1000);
//! # server.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A timeout loses nothing, wherever in a frame it falls:
//!
//! ```
//! use std::time::Duration;
//! use wsync::{ErrorKind, WebSocket};
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let url = format!("ws://{}/", listener.local_addr()?);
//! # let server = std::thread::spawn(move || WebSocket::accept(listener.accept().unwrap().0)?.recv());
//! let ws = WebSocket::connect(&url)?;
//! match ws.recv_timeout(Duration::from_millis(10)) {
//!     Ok(Some(message)) => println!("{message:?}"),
//!     Ok(None) => println!("closed"),
//!     Err(error) if error.kind() == ErrorKind::Timeout => println!("nothing yet"),
//!     Err(error) => return Err(error.into()),
//! }
//! # ws.close(1000, "")?;
//! # assert_eq!(server.join().unwrap()?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Servers
//!
//! [`Server`] has one thread for each connection, which does its handshake and then calls the program's handler. It bounds how
//! many there are, and [`ServerHandle::shutdown`] stops it. [`AcceptOptions::on_request`] decides about each request before it
//! is answered, [`allowed_origins`](AcceptOptions::allowed_origins) which pages may connect, and
//! [`on_http`](AcceptOptions::on_http) answers a health check on the same port. Three kinds of server:
//!
//! - Each connection is for itself, such as an echo server: [`Server`] has the example.
//! - Broadcast: what one sends, or what happens elsewhere, goes to many. The connections are in a [`Group`], the message is
//!   [`Prepared`] once, and none waits for a slow one.
//! - Request and response: each answer carries its request's number, and any thread may send it:
//!
//! ```
//! use std::thread;
//! use wsync::{CloseCode, Message, WebSocket};
//!
//! fn serve(ws: &WebSocket) -> wsync::Result<()> {
//!     thread::scope(|scope| {
//!         while let Some(message) = ws.recv()? {
//!             scope.spawn(move || {
//!                 let (number, question) = message.as_text()?.split_once(' ')?;
//!                 ws.send(format!("{number} {}", question.to_uppercase())).ok()
//!             });
//!         }
//!         Ok(())
//!     })
//! }
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let url = format!("ws://{}/", listener.local_addr()?);
//! # let server = thread::spawn(move || serve(&WebSocket::accept(listener.accept().unwrap().0)?));
//! # let ws = WebSocket::connect(&url)?;
//! ws.send("7 why?")?;
//! assert_eq!(ws.recv()?, Some(Message::from("7 WHY?")));
//! # ws.close(CloseCode::NORMAL, "")?;
//! # server.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program that has its own listener and threads calls [`WebSocket::accept`] in place of [`Server`], and stops by
//! [`Group::close`], which tells all clients and is bounded.
//!
//! # Threads
//!
//! - Receiving never waits for a send, and a send never waits for a receive. [`WebSocket`] says how calls of several threads go
//!   together.
//! - Pings are answered, keepalive pings are sent, and a close by the peer is answered by whoever is in a receiving call.
//! - The crate starts no thread on an open connection, with one exception: when the peer does not take what
//!   [`try_send`](WebSocket::try_send) or another call that must not wait has accepted, a thread writes it and then ends. While
//!   connecting, resolving a name has a thread, and so has each attempt where a name has several addresses.
//!   [`Server`], [`Background`], [`WebSocket::events`] and [`WebSocket::spawn_reader`] have threads, as they say.
//! - No call is stuck for good: [`abort`](WebSocket::abort) from any thread wakes all others, [`close`](WebSocket::close) has a
//!   bound by default, and [`send_timeout`](ConnectOptions::send_timeout) bounds a `send`. A call that would wait for its own
//!   thread is an error of kind [`InvalidInput`](ErrorKind::InvalidInput).
//! - A program whose `main` is not Rust's may have to ignore the signal SIGPIPE: see the README's section on platforms.
//!
//! How it works inside is described in ARCHITECTURE.md in the repository.
//!
//! # Limits
//!
//! Defaults, so that a peer cannot exhaust memory or time:
//!
//! | what | limit | set by |
//! |---|---|---|
//! | connecting: name, TCP, proxy, TLS, upgrade and redirects together | 30 s | [`connect_timeout`](ConnectOptions::connect_timeout) |
//! | accepting: TLS and upgrade together | 30 s | [`accept_timeout`](AcceptOptions::accept_timeout) |
//! | closing | 5 s | [`close_timeout`](ConnectOptions::close_timeout) |
//! | sending | none | [`send_timeout`](ConnectOptions::send_timeout) |
//! | receiving | none | [`recv_timeout`](WebSocket::recv_timeout), or [`ping_interval`](ConnectOptions::ping_interval) to notice a dead peer |
//! | a message, after inflation | 64 MiB | [`max_message_size`](ConnectOptions::max_message_size) |
//! | a message in parts ([`recv_reader`](WebSocket::recv_reader)) | none; 16 KiB of memory | |
//! | fragments of a message | no largest count; tiny ones: 131,072 more than one for every 16 bytes of it | |
//! | accepted to be sent, and not taken by the system yet | 256 KiB, then `send` waits and `try_send` fails; one larger message alone is accepted | [`send_queue_limit`](ConnectOptions::send_queue_limit) |
//! | received during [`close`](WebSocket::close), and kept for `recv` | 1 MiB or the largest message, whichever is more | [`max_message_size`](ConnectOptions::max_message_size) |
//! | pongs that wait to be sent | 64, the latest | |
//! | redirects | 5 | [`max_redirects`](ConnectOptions::max_redirects) |
//! | request or response head | 64 KiB, 128 headers | |
//! | body of a rejection that is kept | 64 KiB | |
//! | a [`Server`]: connections | 10,000, then clients wait in the backlog | [`max_connections`](Server::max_connections), [`turn_away`](Server::turn_away) |
//! | a [`Server`]: handshakes at once | 256, then the oldest is cut | [`max_handshakes`](Server::max_handshakes) |
//! | a [`Background`]: events, messages that wait to be sent | 64 each | [`event_capacity`](BackgroundOptions::event_capacity), [`send_capacity`](BackgroundOptions::send_capacity) |
//!
//! [`AcceptOptions`] has the same setters, except for what only clients do.
//!
//! A message over its limit is refused while it is inflated, not after. A declared length allocates nothing.
//!
//! # Features
//!
//! - `native-tls` (default): TLS by the system's library (OpenSSL, SChannel, Secure Transport). Without it
//!   (`default-features = false`) the crate is for `ws` alone and needs no OpenSSL; `wss` is then an error of kind
//!   [`Url`](ErrorKind::Url) that names the feature.
//! - `vendored`: builds OpenSSL from source, for machines without its headers. Windows and macOS use the system's TLS and
//!   need neither.
//!
//! # Logging
//!
//! Through the [`log`](https://docs.rs/log) crate: `debug` for the stages of connecting and closing, `trace` for messages
//! (their length, not their content), `warn` for peers that break the protocol and headers that were ignored. User
//! information, the query of a URL and header values are not logged.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod arguments;
mod background;
mod bounds;
mod client;
mod close_code;
mod compression;
mod connection;
mod copy;
mod deadline;
mod error;
mod group;
#[cfg_attr(any(wsync_internals, fuzzing), allow(missing_docs))]
mod handshake;
#[cfg_attr(any(wsync_internals, fuzzing), allow(missing_docs))]
mod http;
#[cfg(any(wsync_internals, fuzzing))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod internals;
mod memory_limit;
mod message;
mod message_stream;
mod outgoing;
mod prepared;
#[cfg_attr(any(wsync_internals, fuzzing), allow(missing_docs))]
mod protocol;
mod random;
mod server;
mod sleep_detector;
mod statistics;
mod sync;
mod transport;
mod upgrade;
mod websocket;
mod ws_url;

pub use background::{
    Attempt, Background, BackgroundOptions, ConnectionEnd, Event, EventIter, Events, ReaderThread, Reconnect,
    SendError, WhenFull,
};
pub use client::Proxy;
pub use client::cancel::CancelToken;
pub use client::options::ConnectOptions;
pub use close_code::{CloseCode, ReadyState};
pub use compression::Compression;
pub use error::{Error, ErrorKind, Result};
pub use group::{Group, Missed};
pub use handshake::accept_key;
pub use http::{Request, Response, ResponseBuilder};
pub use message::Message;
pub use message_stream::{MessageReader, MessageWriter};
#[cfg(feature = "native-tls")]
pub use native_tls;
pub use outgoing::Outgoing;
pub use prepared::Prepared;
pub use protocol::{MessageKind, Role};
pub use server::acceptance::Acceptance;
pub use server::connections::ServerStatistics;
pub use server::listener::{Server, ServerHandle};
pub use server::options::AcceptOptions;
pub use server::upgraded::Upgraded;
pub use statistics::{Statistics, Traffic};
pub use transport::{Listener, Pollable, Stream, TlsClient, TlsServer};
pub use websocket::{IntoMessages, Messages, WebSocket};
pub use ws_url::Url;

/// Compiles the README's examples.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
