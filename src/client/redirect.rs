//! The target of a redirect (RFC 9110 §15.4).

use super::credentials::shown;
use super::target::Target;
use crate::error::{Error, ErrorKind, Result};

/// The next target.
#[derive(Debug)]
pub(crate) struct Redirect {
    /// It keeps `basic` of the target before while the origin stays the same; user information in `Location` is ignored,
    /// because it is not the caller's.
    pub target: Target,
    /// Scheme, host or port changed: `Authorization` and `Cookie` must not be sent to this target or a later one.
    pub drop_credentials: bool,
}

/// The redirect in an answer with this status and `Location`; `None` if it is none. The caller counts them.
pub(crate) fn follow(from: &Target, status: u16, location: Option<&str>) -> Result<Option<Redirect>> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let error =
        |why: String| Error::new(ErrorKind::Redirect, format!("{} answered {status} but {why}", from.authority()));
    let location = location.map(str::trim).filter(|location| !location.is_empty());
    let location = location.ok_or_else(|| error("did not say where to go: Location is missing or empty".into()))?;
    let unusable = |why: &str| error(format!("its Location {:?} cannot be used: {why}", shown(location)));

    if location.contains(char::is_control) {
        return Err(unusable("it contains a control character"));
    }
    let mut url = from.url.join(location).map_err(|error| unusable(&error.to_string()))?;
    url.set_fragment(None);
    let scheme = match url.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return Err(unusable("only ws, wss, http and https can be followed")),
    };
    // Cannot fail: all four schemes have a host. Of each pair both have the same default port.
    let _ = url.set_scheme(scheme);
    let mut target = Target::from_url(url).map_err(unusable)?;
    if from.secure && !target.secure {
        return Err(unusable("it leads from wss to ws, out of TLS; connect to that URL if it is meant"));
    }
    let drop_credentials = !from.same_origin(&target);
    target.basic = if drop_credentials { None } else { from.basic.clone() };
    Ok(Some(Redirect { target, drop_credentials }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn a_redirect_leads_to_its_location() {
        for (url, location, leads_to, drop) in [
            ("ws://h/a/b?q", "c", "ws://h/a/c", false),
            ("ws://h/a", "/c?d", "ws://h/c?d", false),
            ("ws://h/a", "?d", "ws://h/a?d", false),
            ("ws://h/a", " /c ", "ws://h/c", false),
            ("ws://h/a", "//other/c", "ws://other/c", true),
            ("ws://h/a", "http://h/c", "ws://h/c", false),
            ("ws://h/a", "http://H:80/c", "ws://h/c", false),
            ("ws://h:80/a", "ws://h/c#f", "ws://h/c", false),
            ("ws://h/a", "http://h:443/c", "ws://h:443/c", true),
            ("ws://h/a", "https://h/c", "wss://h/c", true),
            ("ws://h:443/a", "https://h/c", "wss://h/c", true),
            ("wss://h/a", "https://h:443/c", "wss://h/c", false),
            ("wss://h/a", "wss://sub.h/c", "wss://sub.h/c", true),
            ("wss://h/a", "wss://h:8443/c", "wss://h:8443/c", true),
            ("ws://h/a", "ws://eve:x@h/c", "ws://h/c", false),
            ("ws://h/a", "ws://[::1]:9/c", "ws://[::1]:9/c", true),
        ] {
            for status in [301, 302, 303, 307, 308] {
                let mut before = from(url);
                before.basic = Some("Basic mine".into());
                let redirect = follow(&before, status, Some(location)).unwrap().unwrap();
                assert_eq!(redirect.target.url.as_str(), leads_to, "{location}");
                assert_eq!(redirect.drop_credentials, drop, "{location}");
                assert_eq!(redirect.target.basic, before.basic.filter(|_| !drop), "{location}");
            }
        }
    }

    #[test]
    fn other_statuses_are_no_redirects() {
        for status in [100, 101, 200, 300, 304, 305, 306, 309, 400, 401, 503] {
            assert!(follow(&from("ws://h/"), status, Some("/x")).unwrap().is_none());
        }
    }

    #[test]
    fn a_location_that_cannot_be_followed_is_an_error() {
        for (url, location, says) in [
            ("ws://h/", None, "missing or empty"),
            ("ws://h/", Some(""), "missing or empty"),
            ("ws://h/", Some("  "), "missing or empty"),
            ("wss://h/", Some("ws://h/x"), "wss to ws"),
            ("wss://h/", Some("http://h/x"), "wss to ws"),
            ("wss://h/", Some("http://h:443/x"), "wss to ws"),
            ("ws://h/", Some("ftp://h/x"), "only ws, wss, http and https"),
            ("ws://h/", Some("file:///etc/passwd"), "only ws, wss, http and https"),
            ("ws://h/", Some("javascript:alert(1)"), "only ws, wss, http and https"),
            ("ws://h/", Some("http://h:8a/"), "invalid port"),
            ("ws://h/", Some("http://h:0/"), "port is 0"),
            ("ws://h/", Some("http://"), "empty host"),
            ("ws://h/", Some("/a\tb"), "control character"),
            ("ws://h/", Some("http://eve:secret@h:8a/"), "…@h:8a/"),
        ] {
            let error = follow(&from(url), 302, location).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Redirect);
            assert!(text.contains(says) && text.contains("302") && !text.contains("secret"), "{text}");
        }
    }
}
