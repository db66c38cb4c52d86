//! What a ws or wss URL says, checked before any I/O (RFC 6455 §3).

use std::fmt;

use url::{Host, Position, Url};

use super::credentials::{Credentials, shown};
use crate::error::{Error, ErrorKind, Result};

/// Where to connect to.
#[derive(Clone)]
pub(crate) struct Target {
    /// Without user information.
    pub url: Url,
    /// wss rather than ws.
    pub secure: bool,
    /// A name (in punycode where it needs to be, a trailing dot kept: it matters to DNS) or an address without brackets.
    pub host: String,
    pub port: u16,
    /// The user information as the value of `Authorization`.
    pub basic: Option<String>,
}

impl Target {
    pub fn parse(text: &str) -> Result<Target> {
        // The URL standard drops tabs and line ends without a word; a URL that has one is not what somebody meant.
        if text.contains(char::is_control) {
            return Err(unusable(text, "it contains a control character; trim or percent-encode it"));
        }
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => unusable(text, "it must start with ws:// or wss://"),
            error => Error::caused(ErrorKind::Url, format_args!("cannot use the URL {:?}", shown(text)), error),
        })?;
        // It also takes `ws:host` and `ws:///host` for `ws://host`.
        let after_scheme = text.split_once(':').map_or("", |(_, rest)| rest);
        let lacks_host = match after_scheme.strip_prefix("//") {
            Some(rest) => rest.starts_with(['/', '\\']),
            None => true,
        };
        if matches!(url.scheme(), "ws" | "wss") && lacks_host {
            return Err(unusable(text, "it has no host; write ws://host/path"));
        }
        Target::from_url(url).map_err(|why| unusable(text, why))
    }

    /// The error says only what is wrong; the caller adds the URL's text.
    pub fn from_url(mut url: Url) -> Result<Target, &'static str> {
        let secure = match url.scheme() {
            "ws" => false,
            "wss" => true,
            "http" => return Err("its scheme is http; use ws://"),
            "https" => return Err("its scheme is https; use wss://"),
            _ => return Err("it must start with ws:// or wss://"),
        };
        if url.fragment().is_some() {
            return Err("it has a fragment, which RFC 6455 §3 forbids; drop it, or write %23 for a # in the path");
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.trim_end_matches('.').is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err("it has no host; write ws://host/path"),
        };
        let port = match url.port_or_known_default() {
            Some(port) if port != 0 => port,
            _ => return Err("its port is 0; use one from 1 to 65535"),
        };
        let basic = Credentials::take(&mut url).map(|credentials| credentials.basic());
        Ok(Target { url, secure, host, port, basic })
    }

    /// The value of `Host`: brackets around IPv6, the port unless it is the scheme's own.
    pub fn host_header(&self) -> &str {
        &self.url[Position::BeforeHost..Position::AfterPort]
    }

    /// The target of the request line; starts with a slash and has no line end.
    pub fn path_and_query(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// The name that the certificate must have: no brackets, no trailing dot (RFC 6066 §3).
    pub fn server_name(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(&self.host)
    }

    /// `host:port`, for `CONNECT` and for messages.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Whether credentials for one may be sent to the other.
    pub fn same_origin(&self, other: &Target) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.url)
    }
}

/// A host as in [`Target::host`]. Text that is not a host stays as it is and equals no target's.
pub(crate) fn normalized(host: &str) -> String {
    let bare = |host: Host| match host {
        Host::Ipv6(address) => address.to_string(),
        other => other.to_string(),
    };
    Host::parse(host).map_or_else(|_| host.to_owned(), bare)
}

/// `host:port`, with brackets around IPv6.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn unusable(url: &str, why: &str) -> Error {
    Error::new(ErrorKind::Url, format!("cannot use the URL {:?}: {why}", shown(url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_in_one_form() {
        for (host, expected) in
            [("[2001:DB8::1]", "2001:db8::1"), ("EXAMPLE.com", "example.com"), ("127.1", "127.0.0.1"), ("a b", "a b")]
        {
            assert_eq!(normalized(host), expected);
        }
    }

    #[test]
    fn a_url_says_where_to_connect_and_what_to_ask_for() {
        for (url, secure, host, port, header, path) in [
            ("ws://example.com", false, "example.com", 80, "example.com", "/"),
            ("wss://example.com", true, "example.com", 443, "example.com", "/"),
            ("WS://EXAMPLE.com:80/A?b=c", false, "example.com", 80, "example.com", "/A?b=c"),
            ("ws://h:443/", false, "h", 443, "h:443", "/"),
            ("wss://h:80/", true, "h", 80, "h:80", "/"),
            ("wss://h:/", true, "h", 443, "h", "/"),
            ("ws://h:65535?q", false, "h", 65535, "h:65535", "/?q"),
            ("ws://h./", false, "h.", 80, "h.", "/"),
            ("ws://127.0.0.1:9000/", false, "127.0.0.1", 9000, "127.0.0.1:9000", "/"),
            ("ws://[::1]/", false, "::1", 80, "[::1]", "/"),
            ("wss://[2001:DB8::1]:9000/", true, "2001:db8::1", 9000, "[2001:db8::1]:9000", "/"),
            (
                "ws://bücher.example/ü x?y z",
                false,
                "xn--bcher-kva.example",
                80,
                "xn--bcher-kva.example",
                "/%C3%BC%20x?y%20z",
            ),
            ("ws://h/a/../%23%0d%0A", false, "h", 80, "h", "/%23%0d%0A"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.secure, target.host.as_str(), target.port), (secure, host, port), "{url}");
            assert_eq!((target.host_header(), target.path_and_query()), (header, path), "{url}");
            assert_eq!(target.basic, None, "{url}");
        }
    }

    #[test]
    fn names_for_tls_and_for_people() {
        let of = |url| Target::parse(url).unwrap();
        assert_eq!(of("wss://example.com./").server_name(), "example.com");
        assert_eq!(of("wss://[::1]/").server_name(), "::1");
        assert_eq!(of("wss://[::1]/").authority(), "[::1]:443");
        assert_eq!(of("ws://example.com/").authority(), "example.com:80");
    }

    #[test]
    fn user_information_becomes_basic_authentication_and_is_not_shown() {
        let target = Target::parse("ws://u%40:p%3A@h/x").unwrap();
        assert_eq!(target.basic.as_deref(), Some("Basic dUA6cDo=")); // "u@:p:"
        assert_eq!(target.url.as_str(), "ws://h/x");
        assert_eq!(target.host_header(), "h");
        assert_eq!(format!("{target:?}"), "Target(ws://h/x)");
    }

    #[test]
    fn an_unusable_url_is_an_error_that_names_it_and_the_mend() {
        for (url, says) in [
            ("", "ws://"),
            ("example.com", "must start with ws:// or wss://"),
            ("//example.com", "must start with ws:// or wss://"),
            ("localhost:8080", "must start with ws:// or wss://"),
            ("ftp://h/", "must start with ws:// or wss://"),
            ("mailto:a", "must start with ws:// or wss://"),
            ("http://h/", "use ws://"),
            ("https://h/", "use wss://"),
            ("ws:", "empty host"),
            ("ws://", "empty host"),
            ("ws:///", "empty host"),
            ("ws:///path", "no host"),
            ("ws:\\\\h", "no host"),
            ("ws:h", "no host"),
            ("ws:/h", "no host"),
            ("ws://.", "no host"),
            ("ws://:80/", "empty host"),
            ("ws://?", "empty host"),
            ("ws://h:0/", "port is 0"),
            ("ws://h:65536/", "invalid port"),
            ("ws://h:8a/", "invalid port"),
            ("ws://h:-1/", "invalid port"),
            ("ws://h/#", "fragment"),
            ("ws://::1/", "empty host"),
            ("ws://[::1/", "invalid IPv6"),
            ("ws://a b/", "invalid"),
            ("ws://h/\r\nX: y", "control character"),
            ("ws://h/\n", "control character"),
            ("ws://h/\t", "control character"),
            ("ws://h/\0", "control character"),
            ("\u{b}ws://h/", "control character"),
        ] {
            let error = Target::parse(url).expect_err(url);
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Url, "{url:?}");
            assert!(text.contains(says), "{text}");
            assert!(text.contains(&format!("{url:?}")) && !text.contains(char::is_control), "{text}");
        }
    }

    #[test]
    fn an_error_never_shows_user_information() {
        for end in ["h:8a/", "h:0/?key=sec", "h/#sec", "h/\n", "", ":1/", "a b/"] {
            for start in ["ws://", "http://", "ws:", "", "ws:///"] {
                for user_info in ["user:secret@", "user:sec/ret@", "user:sec@ret@", "user:sec#ret@", "user%3asecret@"] {
                    let error = Target::parse(&format!("{start}{user_info}{end}")).unwrap_err();
                    let text = format!("{error} {error:?}");
                    assert!(!text.contains("sec") && !text.contains("user:"), "{text}");
                }
            }
        }
    }
}
