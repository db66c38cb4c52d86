//! The proxy from the environment, by curl's rules.

use std::net::IpAddr;

use super::super::target::Target;
use super::Proxy;
use crate::error::{Error, ErrorKind, Result};

/// The proxy and the variable that names it. `variable` looks up an environment variable; an empty one counts as not set.
pub(super) fn proxy(
    target: &Target,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<(Proxy, &'static str)>> {
    let first = |names: &[&'static str]| {
        names.iter().find_map(|&name| Some((name, variable(name).filter(|value| !value.trim().is_empty())?)))
    };
    // Upper-case HTTP_PROXY is what a CGI program gets from a client that sends a header `Proxy` ("httpoxy").
    let candidates: &[&str] = match target.secure {
        true => &["wss_proxy", "WSS_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        false => &["ws_proxy", "WS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"],
    };
    let Some((name, url)) = first(candidates) else { return Ok(None) };
    if first(&["no_proxy", "NO_PROXY"]).is_some_and(|(_, list)| exempts(&list, target)) {
        log::debug!("no_proxy exempts {} from {name}", target.authority());
        return Ok(None);
    }
    match Proxy::new(url.trim()) {
        Ok(proxy) => {
            log::debug!("{name} is {proxy:?}");
            Ok(Some((proxy, name)))
        }
        Err(error) => Err(Error::caused(ErrorKind::InvalidInput, format_args!("environment variable {name}"), error)),
    }
}

fn exempts(no_proxy: &str, target: &Target) -> bool {
    let entries = no_proxy.split(|c: char| c == ',' || c.is_whitespace());
    let host = target.server_name().to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        let (name, port) = split_port(entry);
        if port.is_some_and(|port| port != target.port) {
            return false;
        }
        match address {
            _ if name == "*" => true,
            Some(address) => contains(name, address),
            None => covers(name, &host),
        }
    })
}

/// `name:port`, `1.2.3.4:port`, `[::1]:port`; without a port `::1` too.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    };
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
}

/// A domain covers itself and all below it, with or without a dot in front.
fn covers(domain: &str, host: &str) -> bool {
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    let domain = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
    match host.strip_suffix(&domain) {
        Some(below) => !domain.is_empty() && (below.is_empty() || below.ends_with('.')),
        None => false,
    }
}

/// An address contains itself, a network (`10.0.0.0/8`) every address with the same first bits.
fn contains(network: &str, address: IpAddr) -> bool {
    let (network, length) = match network.split_once('/') {
        Some((network, length)) => match length.parse::<u32>() {
            Ok(length) => (network, Some(length)),
            Err(_) => return false,
        },
        None => (network, None),
    };
    let (network, address, bits) = match (network.parse(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()), u128::from(address.to_bits()), 32u32)
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    match bits.checked_sub(length.unwrap_or(bits)) {
        // The shift of a network of all addresses would be as wide as the type.
        Some(rest) => (network ^ address).checked_shr(rest).unwrap_or(0) == 0,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> String {
        let target = Target::parse(url).unwrap();
        let lookup = |name: &str| Some(variables.iter().find(|(other, _)| *other == name)?.1.to_owned());
        proxy(&target, lookup).unwrap().map_or("direct".into(), |(proxy, name)| {
            assert!(variables.iter().any(|(other, _)| *other == name));
            format!("{}:{}", proxy.host, proxy.port)
        })
    }

    #[test]
    fn the_most_telling_variable_wins() {
        for (url, variables, expected) in [
            ("ws://h/", &[] as &[(&str, &str)], "direct"),
            ("ws://h/", &[("http_proxy", "a:1"), ("all_proxy", "b:1"), ("https_proxy", "c:1")], "a:1"),
            ("ws://h/", &[("ws_proxy", "a:1"), ("http_proxy", "b:1")], "a:1"),
            ("ws://h/", &[("WS_PROXY", "a:1"), ("http_proxy", "b:1")], "a:1"),
            ("ws://h/", &[("WS_PROXY", "b:1"), ("ws_proxy", "a:1")], "a:1"),
            ("ws://h/", &[("HTTP_PROXY", "evil:1")], "direct"),
            ("ws://h/", &[("HTTP_PROXY", "evil:1"), ("ALL_PROXY", "b:1")], "b:1"),
            ("ws://h/", &[("https_proxy", "a:1"), ("wss_proxy", "a:1")], "direct"),
            ("wss://h/", &[("https_proxy", "a:1"), ("all_proxy", "b:1"), ("http_proxy", "c:1")], "a:1"),
            ("wss://h/", &[("HTTPS_PROXY", "a:1"), ("all_proxy", "b:1")], "a:1"),
            ("wss://h/", &[("wss_proxy", "a:1"), ("https_proxy", "b:1")], "a:1"),
            ("wss://h/", &[("wss_proxy", ""), ("https_proxy", " "), ("ALL_PROXY", "b:1")], "b:1"),
            ("wss://h/", &[("https_proxy", "")], "direct"),
            ("wss://h/", &[("http_proxy", "a:1"), ("ws_proxy", "a:1")], "direct"),
            ("wss://h/", &[("https_proxy", " http://u:p@a:1/ ")], "a:1"),
            ("wss://localhost/", &[("https_proxy", "a:1")], "a:1"),
            ("wss://h/", &[("https_proxy", "a:1"), ("NO_PROXY", "h")], "direct"),
            ("wss://h/", &[("https_proxy", "a:1"), ("no_proxy", "x"), ("NO_PROXY", "h")], "a:1"),
            ("wss://h/", &[("https_proxy", "a:1"), ("no_proxy", ""), ("NO_PROXY", "h")], "direct"),
        ] {
            assert_eq!(chosen(url, variables), expected, "{url} {variables:?}");
        }
    }

    #[test]
    fn no_proxy_exempts_names_addresses_networks_and_ports() {
        for (host, no_proxy, direct) in [
            ("h", "", false),
            ("h", "*", true),
            ("h", "x, *", true),
            ("h", "*:80", true),
            ("h", "*:81", false),
            ("h", " , ,", false),
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com.", true),
            ("example.com.", "example.com", true),
            ("example.com", ".example.com", true),
            ("example.com", ".", false),
            ("a.b.example.com", "example.com", true),
            ("a.b.example.com", "x,.example.com", true),
            ("a.b.example.com", "x .example.com y", true),
            ("a.b.example.com", "x,  b.example.com  ,y", true),
            ("notexample.com", "example.com", false),
            ("example.com.evil", "example.com", false),
            ("com", "example.com", false),
            ("example.com", "example.com:80", true),
            ("example.com", "example.com:443", false),
            ("example.com:443", ".example.com:443", true),
            ("example.com", "example.com:", false),
            ("example.com", "example.com:x", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.1:80", true),
            ("127.0.0.1", "127.0.0.1:81", false),
            ("127.0.0.1", "0.0.1", false),
            ("127.0.0.1", ".1", false),
            ("127.0.0.1", "localhost", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "10.0.0.0/8:80", true),
            ("10.1.2.3", "10.255.255.255/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.0/31", false),
            ("10.1.2.3", "10.1.2.2/31", true),
            ("10.1.2.3", "10.1.2.3/32", true),
            ("10.1.2.3", "10.1.2.2/32", false),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.0.0.0/33", false),
            ("10.1.2.3", "10.0.0.0/-1", false),
            ("10.1.2.3", "10.0.0.0/", false),
            ("10.1.2.3", "10/8", false),
            ("10.1.2.3", "::/0", false),
            ("[::1]", "::1", true),
            ("[::1]", "[::1]", true),
            ("[::1]", "[::1]:80", true),
            ("[::1]", "[::1]:81", false),
            ("[::1]", "0:0:0:0:0:0:0:1", true),
            ("[fd00::1]", "fd00::/8", true),
            ("[fe00::1]", "fd00::/8", false),
            ("[fe00::1]", "::/0", true),
            ("[fe00::1]", "::/129", false),
            ("[::1]", "0.0.0.0/0", false),
            ("h", "10.0.0.0/8", false),
            ("h", "0.0.0.0/0", false),
        ] {
            let variables = [("ws_proxy", "proxy:1"), ("no_proxy", no_proxy)];
            let expected = if direct { "direct" } else { "proxy:1" };
            assert_eq!(chosen(&format!("ws://{host}/"), &variables), expected, "{host} in {no_proxy:?}");
        }
    }

    #[test]
    fn an_unusable_variable_is_an_error_that_names_it() {
        let target = Target::parse("wss://h/").unwrap();
        let lookup = |name: &str| (name == "https_proxy").then(|| "https://user:secret@a/".to_owned());
        let error = proxy(&target, lookup).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("https_proxy") && error.to_string().contains("not supported"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
