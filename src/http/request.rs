//! A request as users see it.

use std::fmt;

use super::Headers;

/// A client's upgrade request, for the server's decision. It has passed every check of RFC 6455 §4.2.1.
///
/// `Debug` shows the path and the headers' names, not the query or any value, which may be secrets.
///
/// ```
/// fn may_come_in(request: &wsync::Request) -> bool {
///     request.path() == "/chat" && request.header("Origin") == Some("https://example.com")
/// }
/// ```
#[derive(Clone)]
pub struct Request {
    target: String,
    headers: Headers,
}

impl Request {
    /// `target` is path and query.
    pub(crate) fn new(target: String, headers: Headers) -> Request {
        Request { target, headers }
    }

    pub(crate) fn fields(&self) -> &Headers {
        &self.headers
    }

    /// Path and query, such as `/chat?room=1`, as sent: percent-encoded, and beginning with `/`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The part of [`target`](Request::target) before the `?`.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The part of [`target`](Request::target) behind the `?`, if there is one.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first value of the header with this name, in any case, without the spaces around it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// All headers as (name, value), in order and with the names' case as sent. A name may repeat. A value that is not
    /// UTF-8 is read as Latin-1.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers().map(|(name, _)| name).collect();
        f.debug_struct("Request").field("path", &self.path()).field("headers", &names).finish_non_exhaustive()
    }
}
