//! Header fields (RFC 9110 §5): what was received, and what may be sent.

use crate::error::{Error, ErrorKind, Result};

/// (name, value) in order, with the names' case kept; names compare without case.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all lines of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of this name's line, if there is just one.
    pub fn single(&self, name: &str) -> Option<&str> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// The elements of the comma-separated list that all lines of this name are together (RFC 9110 §5.6.1). Not for
    /// values with quoted strings.
    pub fn tokens(&self, name: &str) -> impl Iterator<Item = &str> {
        self.all(name).flat_map(|value| value.split(',')).map(trim).filter(|token| !token.is_empty())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), trim(value).to_owned()));
    }

    /// Appends a folded line to the last value, the fold read as one space (RFC 9112 §5.2).
    pub fn fold(&mut self, more: &str) {
        let more = trim(more);
        if let Some((_, value)) = self.0.last_mut() {
            if !value.is_empty() && !more.is_empty() {
                value.push(' ');
            }
            value.push_str(more);
        }
    }

    /// A whole head: the start line, these headers and the empty line.
    pub fn to_bytes(&self, start: &str) -> Vec<u8> {
        let mut head = format!("{start}\r\n");
        for (name, value) in self.iter() {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Refuses what would smuggle a line or a body into the handshake. Spaces and tabs around a value are fine: they are
/// no part of it and are not sent. The error never shows the value, which may be a secret.
pub(crate) fn check_header(name: &str, value: &str) -> Result<()> {
    let refuse = |text: String| Err(Error::new(ErrorKind::Options, text));
    if name.is_empty() {
        return refuse("a header has an empty name: give it one".to_owned());
    }
    if let Some(bad) = name.chars().find(|&c| !is_tchar(c)) {
        let hint = "a name is made of letters, digits and !#$%&'*+-.^_`|~";
        return refuse(format!("header name {} contains {bad:?}: {hint}", clip(name)));
    }
    if let Some(bad) = value.chars().find(|&c| c.is_control() && c != '\t') {
        return refuse(format!("the value of header {name} contains {bad:?}: remove control characters and line ends"));
    }
    if ["content-length", "transfer-encoding"].iter().any(|body| name.eq_ignore_ascii_case(body)) {
        return refuse(format!("header {name} cannot be set: a WebSocket handshake has no body, leave it out"));
    }
    Ok(())
}

/// Whether this is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_tchar)
}

pub(super) fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Spaces and tabs are what may surround a value (RFC 9110 §5.6.3).
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// What a peer sent, fit for an error text: escaped and not longer than a line.
pub(super) fn clip(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_keep_it() {
        let mut headers = Headers::default();
        for (name, value) in [("Via", "a, b"), ("X", " 1\t"), ("VIA", ",c ,, d"), ("via", "")] {
            headers.push(name, value);
        }
        assert_eq!(headers.get("vIa"), Some("a, b"));
        assert_eq!(headers.all("via").collect::<Vec<_>>(), ["a, b", ",c ,, d", ""]);
        assert_eq!(headers.tokens("via").collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!((headers.single("via"), headers.single("x"), headers.single("y")), (None, Some("1"), None));
        assert_eq!(headers.iter().map(|(name, _)| name).collect::<String>(), "ViaXVIAvia");
    }

    #[test]
    fn what_a_caller_may_send() {
        let fine = [("Authorization", "Bearer a.b"), ("x", ""), ("!#$%&'*+-.^_`|~", " \"é\"\t,;")];
        for (name, value) in fine {
            check_header(name, value).unwrap();
        }
        for name in ["", " ", "a b", "a:", ":a", "a\r\nb", "a\0", "é", " a", "a ", "a\t", "a/b", "Content-length"] {
            assert_eq!(check_header(name, "x").unwrap_err().kind(), ErrorKind::Options, "{name:?}");
        }
        for value in ["secret\r\nX: y", "\nsecret", "secret\r", "secret\0", "secret\x1b", "secret\x7f", "secret\u{85}"]
        {
            let error = check_header("Authorization", value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Options);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_clip_is_one_short_line() {
        assert_eq!(clip("a\r\n\u{1b}"), "\"a\\r\\n\\u{1b}\"");
        assert_eq!(clip(&"é".repeat(100)), format!("\"{}\"…", "é".repeat(60)));
    }
}
