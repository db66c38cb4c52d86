//! What a program adds to the 101 for one request.

use std::any::Any;
use std::fmt;

use crate::websocket::ProgramData;

/// The program's yes to a request, from [`AcceptOptions::on_request`](crate::AcceptOptions::on_request): headers for the
/// 101, a subprotocol, and data that stays with the connection.
///
/// `Debug` shows the headers' names, not their values, which may be secrets.
///
/// ```
/// use wsync::{AcceptOptions, Acceptance, Response};
///
/// struct User(u64);
///
/// # fn find_user(token: &str) -> Option<u64> { token.parse().ok() }
/// let options = AcceptOptions::new().on_request(|request| {
///     let token = request.query("token").unwrap_or_default();
///     match find_user(&token) {
///         Some(id) => Ok(Acceptance::new().header("X-Served-By", "wsync").data(User(id))),
///         None => Err(Response::new(401).body("a token, please")),
///     }
/// });
/// // Later, on the connection: `ws.data::<User>()`.
/// ```
#[derive(Default)]
#[must_use = "it counts only where `on_request` returns it"]
pub struct Acceptance {
    pub(super) headers: Vec<(String, String)>,
    pub(super) protocol: Option<String>,
    pub(super) data: ProgramData,
}

impl Acceptance {
    /// An acceptance that adds nothing.
    ///
    /// ```
    /// use wsync::{AcceptOptions, Acceptance};
    /// let options = AcceptOptions::new().on_request(|_| Ok(Acceptance::new()));
    /// ```
    pub fn new() -> Acceptance {
        Acceptance::default()
    }

    /// Adds a header to the 101; may be called again for the same name. What the handshake itself sets is ignored, as by
    /// [`ConnectOptions::header`](crate::ConnectOptions::header), with a line in the log. One that cannot be sent, such as with a line end in its
    /// value, is answered with 500 and ends accepting with [`InvalidInput`](crate::ErrorKind::InvalidInput).
    ///
    /// ```
    /// let acceptance = wsync::Acceptance::new().header("Set-Cookie", "a=1").header("Set-Cookie", "b=2");
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Acceptance {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Chooses the subprotocol, in place of the first of [`AcceptOptions::protocols`](crate::AcceptOptions::protocols) that the
    /// client offers. The client must have offered it ([`Request::protocols`](crate::Request::protocols)): any other is
    /// answered with 500 and ends accepting with [`InvalidInput`](crate::ErrorKind::InvalidInput).
    ///
    /// ```
    /// use wsync::{AcceptOptions, Acceptance};
    ///
    /// let options = AcceptOptions::new().on_request(|request| {
    ///     Ok(match request.protocols().find(|name| name.starts_with("v1.")) {
    ///         Some(name) => Acceptance::new().protocol(name),
    ///         None => Acceptance::new(),
    ///     })
    /// });
    /// ```
    pub fn protocol(mut self, name: impl Into<String>) -> Acceptance {
        self.protocol = Some(name.into());
        self
    }

    /// Leaves a value with the connection, for [`WebSocket::data`](crate::WebSocket::data): what `on_request` has found out
    /// need not be looked up again. There is one value of each type; a second one replaces the first. It is dropped with the
    /// last handle of the connection.
    ///
    /// ```
    /// struct User(u64);
    /// let acceptance = wsync::Acceptance::new().data(User(7)).data(String::from("lobby"));
    /// ```
    pub fn data<T: Any + Send + Sync>(mut self, value: T) -> Acceptance {
        self.data.set(value);
        self
    }
}

impl fmt::Debug for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = f.debug_struct("Acceptance");
        shown.field("headers", &names).field("protocol", &self.protocol).finish_non_exhaustive()
    }
}
