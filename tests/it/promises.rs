//! What a connection promises about its threads, its bounds and the loss of messages. Many of these tests are races with a
//! forced outcome: a line of known size that nobody reads, or a peer that acts at one known moment.

mod closing;
mod compression;
mod fairness;
mod group;
mod keepalive;
mod mix;
mod parts;
mod try_send;
