//! A response as users see it: received, or made by a program to be sent.

use std::borrow::Cow;
use std::fmt;

use super::headers::header_readers;
use super::{Head, Headers};

/// An HTTP response, of either direction: a server's answer to an upgrade (see
/// [`WebSocket::response`](crate::WebSocket::response) and [`Error::response`](crate::Error::response)), or one that a program
/// sends in place of a 101 ([`AcceptOptions::on_request`](crate::AcceptOptions::on_request)).
///
/// [`Response::new`] begins one to be sent; a [`ResponseBuilder`] has the setters and becomes a `Response` by `into`.
///
/// `Debug` shows the status and the headers' names, not their values, which may be secrets.
///
/// ```
/// use wsync::{AcceptOptions, Response, Stream, WebSocket};
///
/// let options = AcceptOptions::new().on_request(|_request| {
///     Err(Response::new(503).header("Retry-After", "60").header("Via", "a").header("Via", "b").body("come back later"))
/// });
/// let (ours, theirs) = Stream::pair();
/// let server = std::thread::spawn(move || options.accept(theirs));
/// let error = WebSocket::options().connect_over("ws://localhost/", ours).unwrap_err();
///
/// let response = error.response().expect("the server has answered");
/// assert_eq!((response.status(), response.reason()), (503, "Service Unavailable"));
/// assert_eq!((response.body(), response.text().as_ref()), (&b"come back later"[..], "come back later"));
/// assert_eq!(response.header("retry-after"), Some("60"));
/// assert_eq!(response.header_all("Via").collect::<Vec<_>>(), ["a", "b"]);
/// assert!(response.headers().any(|(name, value)| (name, value) == ("Content-Length", "15")));
/// # let refused = server.join().unwrap().unwrap_err();
/// # assert_eq!(refused.kind(), wsync::ErrorKind::Refused);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    reason: String,
    headers: Headers,
    body: Vec<u8>,
}

/// A [`Response`] that a program makes, to be sent. See [`Response::new`].
///
/// ```
/// use wsync::{Response, ResponseBuilder};
///
/// fn unauthorized() -> ResponseBuilder {
///     Response::new(401).header("WWW-Authenticate", "Bearer").body("a token, please")
/// }
/// # unauthorized();
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "it is sent only where it is returned"]
pub struct ResponseBuilder(Response);

impl Response {
    /// Begins a response with this status and its reason phrase (RFC 9110 §15), without headers and body.
    ///
    /// What can be sent: a status from 200 to 599, and no body with 204, 205 and 304. This is checked when it is sent, not
    /// here, and so are its headers. `Connection: close` and `Content-Length` are added then, and a `Content-Type` where
    /// there is a body and no such header: `text/plain; charset=utf-8` for UTF-8, or `application/octet-stream`.
    ///
    /// ```
    /// let response: wsync::Response = wsync::Response::new(404).into();
    /// assert_eq!((response.status(), response.reason(), response.body()), (404, "Not Found", &b""[..]));
    /// ```
    #[allow(clippy::new_ret_no_self)] // The builder's setters and this type's getters have the same names.
    pub fn new(status: u16) -> ResponseBuilder {
        let (reason, headers, body) = (reason_phrase(status).to_owned(), Headers::default(), Vec::new());
        ResponseBuilder(Response { status, reason, headers, body })
    }

    pub(crate) fn received(head: Head, body: Vec<u8>) -> Response {
        Response { status: head.start.status, reason: head.start.reason, headers: head.headers, body }
    }

    /// The status code, such as 401 (RFC 9110 §15).
    /// See [the example](Response).
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase after the status code, such as `Unauthorized`, as it was sent; it may be empty.
    /// See [the example](Response).
    pub fn reason(&self) -> &str {
        &self.reason
    }

    header_readers!();

    /// The body. Of a received one its first 64 KiB; it may be incomplete, if the connection or the time for connecting ended.
    /// See [the example](Response).
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The [`body`](Response::body) as text. What is not UTF-8 in it becomes U+FFFD; `Content-Encoding` is not undone.
    /// See [the example](Response).
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// This response with the headers that every response of ours has, after which the connection closes. It has passed the
    /// checks of what can be sent.
    pub(crate) fn closing(self) -> Response {
        let mut headers = Headers::default();
        headers.push("Connection", "close");
        for (name, value) in self.headers() {
            headers.push(name, value);
        }
        if !self.body.is_empty() && headers.get("Content-Type").is_none() {
            let is_text = std::str::from_utf8(&self.body).is_ok();
            let kind = if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
            headers.push("Content-Type", kind);
        }
        // RFC 9110 §8.6: not with 204. With 304 it would be the length of what was not modified.
        if !matches!(self.status, 204 | 304) {
            headers.push("Content-Length", &self.body.len().to_string());
        }
        Response { headers, ..self }
    }

    /// As it is sent. `with_body`: not for HEAD, whose response has the headers alone (RFC 9110 §9.3.2).
    pub(crate) fn to_bytes_for(&self, with_body: bool) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        if !with_body {
            bytes.truncate(bytes.len() - self.body.len());
        }
        bytes
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // The reason may be empty, but the space before it may not be missing (RFC 9112 §4).
        let mut bytes = self.headers.to_bytes(&format!("HTTP/1.1 {} {}", self.status, self.reason));
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl ResponseBuilder {
    /// Adds a header; may be called again for the same name.
    ///
    /// ```
    /// let response: wsync::Response = wsync::Response::new(503).header("Retry-After", "60").into();
    /// assert_eq!(response.header("retry-after"), Some("60"));
    /// ```
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> ResponseBuilder {
        self.0.headers.push(name.as_ref(), value.as_ref());
        self
    }

    /// Sets the body: text or bytes.
    ///
    /// ```
    /// let response: wsync::Response = wsync::Response::new(403).body("not from there").into();
    /// assert_eq!(response.body(), b"not from there");
    /// ```
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> ResponseBuilder {
        self.0.body = body.into();
        self
    }
}

impl From<ResponseBuilder> for Response {
    fn from(builder: ResponseBuilder) -> Response {
        builder.0
    }
}

/// To send on a response that was received. The headers that belong to its connection and to the length of its body are left
/// out; they are added anew.
impl From<Response> for ResponseBuilder {
    fn from(response: Response) -> ResponseBuilder {
        const LEFT_OUT: [&str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];
        let mut headers = Headers::default();
        for (name, value) in response.headers() {
            if !LEFT_OUT.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                headers.push(name, value);
            }
        }
        ResponseBuilder(Response { headers, ..response })
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers().map(|(name, _)| name).collect();
        f.debug_struct("Response").field("status", &self.status).field("headers", &names).finish_non_exhaustive()
    }
}

/// As that of the [`Response`].
impl fmt::Debug for ResponseBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// RFC 9110 §15, RFC 6585, RFC 7725.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(builder: ResponseBuilder) -> String {
        String::from_utf8_lossy(&Response::from(builder).closing().to_bytes()).into_owned()
    }

    #[test]
    fn what_is_sent_describes_its_body() {
        let text = sent(Response::new(403).header("X", " 1 ").header("X", "2").body("no"));
        let expected = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nX: 1\r\nX: 2\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(text, expected);
        assert!(sent(Response::new(200).body(vec![0xff])).contains("Content-Type: application/octet-stream\r\n"));
        let html = sent(Response::new(200).header("content-type", "text/html").body("<p>"));
        assert!(html.contains("content-type: text/html\r\n") && !html.contains("text/plain"));
    }

    #[test]
    fn without_a_body_there_is_no_type_and_a_length_only_where_allowed() {
        assert_eq!(sent(Response::new(599)), "HTTP/1.1 599 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(sent(Response::new(204)), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        assert!(!sent(Response::new(304)).contains("Content-Length"));
        assert!(sent(Response::new(205)).contains("Content-Length: 0\r\n"));
    }

    #[test]
    fn every_usual_status_has_its_reason_phrase() {
        let phrases = "200 OK|201 Created|202 Accepted|204 No Content|205 Reset Content|206 Partial Content|\
            300 Multiple Choices|301 Moved Permanently|302 Found|303 See Other|304 Not Modified|307 Temporary Redirect|\
            308 Permanent Redirect|400 Bad Request|401 Unauthorized|402 Payment Required|403 Forbidden|404 Not Found|\
            405 Method Not Allowed|406 Not Acceptable|408 Request Timeout|409 Conflict|410 Gone|411 Length Required|\
            412 Precondition Failed|413 Content Too Large|414 URI Too Long|415 Unsupported Media Type|\
            417 Expectation Failed|421 Misdirected Request|422 Unprocessable Content|426 Upgrade Required|\
            428 Precondition Required|429 Too Many Requests|431 Request Header Fields Too Large|\
            451 Unavailable For Legal Reasons|500 Internal Server Error|501 Not Implemented|502 Bad Gateway|\
            503 Service Unavailable|504 Gateway Timeout|505 HTTP Version Not Supported|\
            511 Network Authentication Required";
        let known = (0..1000).map(|status| (status, reason_phrase(status))).filter(|(_, phrase)| !phrase.is_empty());
        let known: Vec<String> = known.map(|(status, phrase)| format!("{status} {phrase}")).collect();
        assert_eq!(known, phrases.split('|').collect::<Vec<_>>());
    }

    #[test]
    fn a_header_may_have_several_lines() {
        let response: Response = Response::new(200).header("Via", "a").header("X", "b").header("VIA", "c").into();
        assert_eq!(response.header_all("via").collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!((response.header("via"), response.header("y")), (Some("a"), None));
    }

    #[test]
    fn a_response_shows_no_values() {
        let response = Response::new(401).header("Set-Cookie", "secret").body("secret");
        assert_eq!(format!("{response:?}"), r#"Response { status: 401, headers: ["Set-Cookie"], .. }"#);
        assert_eq!(Response::from(response.clone()).text(), "secret");
        assert_eq!(
            ResponseBuilder::from(Response::from(response.clone()).closing()),
            response.header("Content-Type", "text/plain; charset=utf-8")
        );
    }
}
