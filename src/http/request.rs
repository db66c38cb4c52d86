//! A request as users see it.

use std::borrow::Cow;
use std::fmt;

// An address as a value: nothing here does I/O.
use core::net::SocketAddr;

use url::form_urlencoded;

use super::headers::header_readers;
use super::{Headers, trim};

/// A client's request, for the server's decision. An upgrade has passed every check of RFC 6455 §4.2.1.
///
/// `Debug` shows the method, the path, the peer's address and the headers' names, not the query or any value, which may be secrets.
///
/// ```
/// use wsync::{Acceptance, AcceptOptions, Request, Response, Stream, WebSocket};
///
/// fn look(request: &Request) {
///     assert_eq!(request.method(), "GET");
///     assert_eq!(request.target(), "/chat?room=caf%C3%A9+1&v=2");
///     assert_eq!((request.path(), request.query_string()), ("/chat", Some("room=caf%C3%A9+1&v=2")));
///     assert_eq!(request.query("room").as_deref(), Some("café 1"));
///     assert_eq!(request.query_pairs().count(), 2);
///     assert_eq!(request.header("ORIGIN"), Some("https://example.com"));
///     assert_eq!(request.header_all("Via").collect::<Vec<_>>(), ["a", "b"]);
///     assert!(request.headers().any(|(name, value)| (name, value) == ("Cookie", "session=7; theme=dark")));
///     assert_eq!((request.cookie("session"), request.cookies().count()), (Some("7"), 2));
///     assert_eq!(request.protocols().collect::<Vec<_>>(), ["v2.chat", "v1.chat"]);
///     assert_eq!(request.peer_addr(), None); // the stream is in memory
/// }
///
/// let options = AcceptOptions::new().on_request(|request| {
///     look(request);
///     Ok(Acceptance::new())
/// });
/// let (ours, theirs) = Stream::pair();
/// let server = std::thread::spawn(move || options.accept(theirs));
/// WebSocket::options()
///     .headers([("Origin", "https://example.com"), ("Via", "a"), ("Via", "b"), ("Cookie", "session=7; theme=dark")])
///     .protocols(["v2.chat", "v1.chat"])
///     .connect_over("ws://localhost/chat?room=caf%C3%A9+1&v=2", ours)?;
/// look(server.join().unwrap()?.request().expect("this side has accepted"));
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Headers,
    peer_addr: Option<SocketAddr>,
}

impl Request {
    /// `target` is path and query.
    pub(crate) fn new(method: String, target: String, headers: Headers) -> Request {
        Request { method, target, headers, peer_addr: None }
    }

    pub(crate) fn with_peer_addr(self, peer_addr: Option<SocketAddr>) -> Request {
        Request { peer_addr, ..self }
    }

    pub(crate) fn fields(&self) -> &Headers {
        &self.headers
    }

    /// The method (RFC 9110 §9): `GET` for an upgrade, any for [`AcceptOptions::on_http`](crate::AcceptOptions::on_http).
    /// See [the example](Request).
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Path and query, such as `/chat?room=1`, as sent: percent-encoded, and beginning with `/`.
    /// See [the example](Request).
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The part of [`target`](Request::target) before the `?`, as sent: percent-encoded, and beginning with `/`. A client
    /// that wants `/a b` sends `/a%20b`.
    /// See [the example](Request).
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The part of [`target`](Request::target) behind the `?`, if there is one, as sent.
    /// [`query`](Request::query) finds one value in it and decodes it.
    /// See [the example](Request).
    pub fn query_string(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first value of this name in the query, decoded as browsers encode forms and `URLSearchParams`
    /// (`application/x-www-form-urlencoded`): `+` is a space, `%C3%BC` is `ü`, and bytes that are not UTF-8 become U+FFFD.
    /// Empty for a name without `=`.
    /// See [the example](Request).
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// All pairs of the query in their order, decoded as [`query`](Request::query) does it. A name may repeat.
    /// See [the example](Request).
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query_string().unwrap_or_default().as_bytes())
    }

    header_readers!();

    /// The first cookie with this name (RFC 6265 §5.4). Case counts. The value is as sent: quotes and percent-encoding stay.
    /// See [the example](Request).
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// All cookies as (name, value), in their order. What has no `=` is left out.
    /// See [the example](Request).
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.headers.all("Cookie").flat_map(|line| line.split(';'));
        pairs.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (trim(name), trim(value)))
    }

    /// The address that the request came from. `None` for a stream without addresses, such as a Unix socket. Behind a reverse
    /// proxy it is the proxy's address; `X-Forwarded-For` has the client's, if you trust that proxy.
    /// See [the example](Request).
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer_addr
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers().map(|(name, _)| name).collect();
        let mut shown = f.debug_struct("Request");
        shown
            .field("method", &self.method)
            .field("path", &self.path())
            .field("peer_addr", &self.peer_addr)
            .field("headers", &names);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Request {
        let mut fields = Headers::default();
        for (name, value) in headers {
            fields.push(name, value);
        }
        Request::new("GET".to_owned(), target.to_owned(), fields)
    }

    #[test]
    fn the_query_is_decoded_and_the_path_is_not() {
        let request = request("/a%20b?x=1&x=2&caf%C3%A9=a+b%26c&flag&e=&bad=%FF%zz&=n", &[]);
        assert_eq!((request.path(), request.query_string().unwrap().len()), ("/a%20b", 47));
        for (name, value) in [("x", "1"), ("café", "a b&c"), ("flag", ""), ("e", ""), ("bad", "\u{fffd}%zz"), ("", "n")]
        {
            assert_eq!(request.query(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(request.query("X"), None);
        assert_eq!(request.query_pairs().filter(|(name, _)| name == "x").count(), 2);
    }

    #[test]
    fn the_peers_address_is_kept_and_shown() {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let request = request("/chat", &[("Host", "a")]).with_peer_addr(Some(address));
        assert_eq!(
            (request.peer_addr(), request.target(), request.header("host")),
            (Some(address), "/chat", Some("a"))
        );
        assert_eq!(request.headers().collect::<Vec<_>>(), [("Host", "a")]);
        assert!(format!("{request:?}").contains("192.0.2.1:80"));
    }

    #[test]
    fn without_a_query_there_is_no_value() {
        for (target, query) in [("/", None), ("/?", Some(""))] {
            let request = request(target, &[]);
            assert_eq!((request.path(), request.query_string(), request.query("a")), ("/", query, None));
        }
    }

    #[test]
    fn cookies_of_all_lines_are_found() {
        let lines = [("Cookie", "a=1; b=\"x y\" ;c==;d; A=%20"), ("X", "a=0"), ("cookie", "e=2;a=3")];
        let request = request("/", &lines);
        for (name, value) in [
            ("a", Some("1")),
            ("b", Some("\"x y\"")),
            ("c", Some("=")),
            ("d", None),
            ("A", Some("%20")),
            ("e", Some("2")),
        ] {
            assert_eq!(request.cookie(name), value, "{name}");
        }
        assert_eq!(request.cookies().filter(|(name, _)| *name == "a").count(), 2);
        assert_eq!(request.header_all("COOKIE").count(), 2);
        let shown = format!("{request:?}");
        assert_eq!(
            shown,
            r#"Request { method: "GET", path: "/", peer_addr: None, headers: ["Cookie", "X", "cookie"], .. }"#
        );
    }
}
