//! The data framing without I/O.

/// Which side of the connection this is (RFC 6455 §1.2): the client masks what it sends, the server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that connected.
    Client,
    /// The side that accepted.
    Server,
}
