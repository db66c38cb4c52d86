//! Connecting.
#![allow(dead_code)] // until wired

mod address;
mod credentials;
mod proxy;
mod redirect;
mod target;

pub use proxy::Proxy;
