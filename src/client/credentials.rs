//! User information in URLs: removed, used, and never shown.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

/// A user and a password, percent-decoded. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub user: Vec<u8>,
    pub password: Vec<u8>,
}

impl Credentials {
    /// Takes the user information out of the URL.
    pub fn take(url: &mut Url) -> Option<Credentials> {
        if url.username().is_empty() && url.password().is_none() {
            return None;
        }
        let user = percent_decoded(url.username());
        let password = percent_decoded(url.password().unwrap_or_default());
        // These fail only for a URL without a host, which has no user information either.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Some(Credentials { user, password })
    }

    /// The value of `Authorization` or `Proxy-Authorization` (RFC 7617).
    pub fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode([&self.user, b":" as &[u8], &self.password].concat()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// A URL for an error's text, also one that does not parse. The end of its user information is then not known (a bare `/` in
/// a password is a common reason), so everything up to the last `@` is hidden, and the query and the fragment, which hold
/// tokens.
pub(crate) fn shown(url: &str) -> String {
    const MOST: usize = 200;
    let visible = match url.rsplit_once('@') {
        Some((hidden, rest)) => {
            // Only what looks like a scheme: `user:p://w@host` must not show a user.
            let scheme = ["ws", "wss", "http", "https", "socks5", "socks5h"].into_iter().find(|scheme| {
                hidden.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                    && hidden[scheme.len()..].starts_with("://")
            });
            match scheme {
                Some(scheme) => format!("{scheme}://…@{rest}"),
                None => format!("…@{rest}"),
            }
        }
        None => url.to_owned(),
    };
    let visible = match visible.find(['?', '#']) {
        Some(at) if at + 1 < visible.len() => format!("{}…", &visible[..=at]),
        _ => visible,
    };
    match visible.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &visible[..end]),
        None => visible,
    }
}

/// RFC 3986 §2.1; a `%` without two digits behind it stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        decoded.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &rest[3..] } else { after };
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_is_percent_decoded_and_gone_from_the_url() {
        for (url, user, password) in [
            ("ws://u%40:p%3A@h/", "u@", "p:"),
            ("ws://u@h/", "u", ""),
            ("ws://:p@h/", "", "p"),
            ("ws://u:a:b@h/", "u", "a:b"),
            ("ws://100%:%4@h/", "100%", "%4"),
            ("ws://%c3%BC:ü@h/", "ü", "ü"),
        ] {
            let mut url = Url::parse(url).unwrap();
            let taken = Credentials::take(&mut url).unwrap();
            assert_eq!(String::from_utf8(taken.user).unwrap(), user);
            assert_eq!(String::from_utf8(taken.password).unwrap(), password);
            assert_eq!(url.as_str(), "ws://h/");
        }
        assert_eq!(Credentials::take(&mut Url::parse("ws://h/").unwrap()), None);
    }

    #[test]
    fn basic_authentication_is_that_of_rfc_7617() {
        let credentials = Credentials { user: b"Aladdin".into(), password: b"open sesame".into() };
        assert_eq!(credentials.basic(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{credentials:?}"), "Credentials");
    }

    #[test]
    fn no_user_information_is_ever_shown() {
        for (url, visible) in [
            ("ws://h:8a/p", "ws://h:8a/p"),
            ("wss://user:secret@h:8a/p", "wss://…@h:8a/p"),
            ("WS://user:sec/ret@h/p", "ws://…@h/p"),
            ("ws://user:sec#r?et@h/p", "ws://…@h/p"),
            ("ws://user:sec@ret@h/p", "ws://…@h/p"),
            ("user:secret@h", "…@h"),
            ("user:secret://x@h", "…@h"),
            ("ü:secret://x@h", "…@h"),
        ] {
            assert_eq!(shown(url), visible);
        }
        assert_eq!(shown(&"ä".repeat(300)).chars().count(), 201);
    }
}
