//! Header fields (RFC 9110 §5).

/// Pairs of name and value in order. Names keep their case and are compared without it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Whether those of a request announce a body (RFC 9112 §6.3).
    pub fn announce_body(&self) -> bool {
        self.all("Content-Length").any(|length| length != "0") || self.get("Transfer-Encoding").is_some()
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all lines of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of this name, if exactly one line has it.
    pub fn single(&self, name: &str) -> Option<&str> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// The elements of the comma-separated list in all lines of this name (RFC 9110 §5.6.1). Not for values with quoted
    /// strings.
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

/// The methods of `Request` and `Response` that read their headers, for an `impl` block of a type with a field `headers`.
macro_rules! header_readers {
    () => {
        /// The first value of the header with this name, in any case, without the spaces around it. See
        /// [the example](Self).
        pub fn header(&self, name: &str) -> Option<&str> {
            self.headers.get(name)
        }

        /// The values of all header lines with this name, in any case, in their order. See [the example](Self).
        pub fn header_all(&self, name: &str) -> impl Iterator<Item = &str> {
            self.headers.all(name)
        }

        /// All headers as (name, value), in order and with the names' case as sent. A name may repeat. A value that is
        /// not UTF-8 is read as Latin-1. See [the example](Self).
        pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
            self.headers.iter()
        }
    };
}

pub(super) use header_readers;

/// Whether this is a token (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_tchar)
}

pub fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Without the optional white space around a value, spaces and tabs (RFC 9110 §5.6.3).
pub fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Text from a peer for an error's text: escaped, and at most 60 characters of it.
pub fn clip(text: &str) -> String {
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
    fn a_clip_is_one_short_line() {
        assert_eq!(clip("a\r\n\u{1b}"), "\"a\\r\\n\\u{1b}\"");
        assert_eq!(clip(&"é".repeat(100)), format!("\"{}\"…", "é".repeat(60)));
    }
}
