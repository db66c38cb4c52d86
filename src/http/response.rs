//! A response as users see it.

use std::fmt;

use super::{Head, Headers};

/// A server's HTTP answer to the upgrade: the 101, or another status (see [`Error::response`](crate::Error::response)).
///
/// `Debug` shows the status and the headers' names, not their values, which may be secrets.
///
/// ```
/// fn may_retry(error: &wsync::Error) -> bool {
///     match error.response() {
///         Some(response) => response.status() == 503 && response.header("Retry-After").is_some(),
///         None => false,
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Response {
    status: u16,
    reason: String,
    headers: Headers,
    body: Vec<u8>,
}

impl Response {
    pub(crate) fn new(head: Head, body: Vec<u8>) -> Response {
        Response { status: head.start.status, reason: head.start.reason, headers: head.headers, body }
    }

    /// The status code, such as 401 (RFC 9110 §15).
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase after the status code, such as `Unauthorized`, as it was sent; it may be empty.
    pub fn reason(&self) -> &str {
        &self.reason
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

    /// The body, or its first 64 KiB. It may be incomplete, if the connection or the time for connecting ended.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers().map(|(name, _)| name).collect();
        f.debug_struct("Response").field("status", &self.status).field("headers", &names).finish_non_exhaustive()
    }
}
