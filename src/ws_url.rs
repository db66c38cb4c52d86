//! A URL as users see it. The crate that parses URLs does not show in the interface.

use std::fmt;

/// The URL of a connection: normalized, and without user information. [`as_str`](Url::as_str) gives its text, which any URL
/// library can parse. It may hold secrets in its query, which `Display` and `Debug` show.
///
/// ```
/// # let (ours, theirs) = wsync::Stream::pair();
/// # std::thread::spawn(move || wsync::WebSocket::accept(theirs));
/// let ws = wsync::WebSocket::options().connect_over("ws://me:secret@Example.com/a b?room=1", ours)?;
/// let url = ws.url().expect("this side has connected");
/// assert_eq!(url.as_str(), "ws://example.com/a%20b?room=1");
/// assert_eq!((url.scheme(), url.host(), url.port()), ("ws", "example.com", 80));
/// assert_eq!((url.path(), url.query()), ("/a%20b", Some("room=1")));
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url(url::Url);

impl Url {
    /// Of a `ws` or `wss` URL, which has a host.
    pub(crate) fn new(url: url::Url) -> Url {
        Url(url)
    }

    /// The whole text, such as `wss://example.com/chat?room=1`. The query may hold secrets.
    /// See [the example](Url).
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// For logs and `Debug`: queries often hold tokens.
    pub(crate) fn without_query(&self) -> &str {
        self.as_str().split('?').next().unwrap_or_default()
    }

    /// `ws` or `wss`.
    /// See [the example](Url).
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// The host: a name in lower case and punycode, or an address, with brackets if it is IPv6.
    /// See [the example](Url).
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The port: the URL's, or the scheme's (80 for `ws`, 443 for `wss`).
    /// See [the example](Url).
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// The path, percent-encoded; it begins with `/`.
    /// See [the example](Url).
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// What is behind the `?`, percent-encoded, if there is one. It may hold secrets.
    /// See [the example](Url).
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }
}

impl AsRef<str> for Url {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_url() {
        let url = |text: &str| Url::new(url::Url::parse(text).unwrap());
        let full = url("wss://Example.com:8443/a%20b?c=d");
        assert_eq!((full.scheme(), full.host(), full.port()), ("wss", "example.com", 8443));
        assert_eq!(full.without_query(), "wss://example.com:8443/a%20b");
        assert_eq!((full.path(), full.query()), ("/a%20b", Some("c=d")));
        assert_eq!(full.as_str(), "wss://example.com:8443/a%20b?c=d");
        assert_eq!(format!("{full} {full:?}"), format!("{} Url({})", full.as_str(), full.as_str()));
        let short = url("ws://[::1]");
        assert_eq!((short.host(), short.port(), short.path(), short.query()), ("[::1]", 80, "/", None));
        assert_eq!(url("wss://h").port(), 443);
    }
}
