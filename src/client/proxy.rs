//! Through a proxy: HTTP `CONNECT` or SOCKS5, after which the stream is as if it led to the target.

mod environment;
mod http;
mod socks;

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::str::FromStr;

use url::{Host, Url};

use super::cancel::Cancellation;
use super::credentials::{Credentials, shown};
use super::target::{Target, authority};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::DeadlineStream;

/// A proxy to connect through.
///
/// Without one set, a connection goes by the environment, as curl's do: for a `wss` URL by `wss_proxy`, `https_proxy` or
/// `all_proxy`, for a `ws` URL by `ws_proxy`, `http_proxy` or `all_proxy`, the first that is set and not empty, each in
/// lower case before upper case. (`HTTP_PROXY` in upper case is not looked at: in a CGI program it comes from the
/// client.) `no_proxy` or `NO_PROXY` lists, between commas or spaces, what to connect to directly: `*` for all, a domain
/// for itself and all below it, an IP address, or a network such as `10.0.0.0/8`; a name or address may end in `:port`.
/// (The port, and `*` beside other entries, are more than curl has.)
///
/// For `wss` the TLS is with the server, through the proxy, and the certificate must be that of the URL's host: the proxy
/// sees host and port. The user and password of the proxy go to the proxy only, and to no error or log.
///
/// `Display` and `Debug` do not show the user and password; `==` compares them.
///
/// ```
/// let proxy = wsync::Proxy::new("socks5h://user:secret@localhost:1080")?;
/// assert_eq!(proxy.to_string(), "socks5h://localhost:1080");
/// assert_eq!(proxy, "socks5h://user:secret@localhost:1080".parse()?);
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    scheme: Scheme,
    /// No brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Socks5,
    Socks5h,
}

impl Proxy {
    /// A proxy by its URL, such as `http://user:password@host:port`, the user information percent-encoded.
    ///
    /// - `http`, which is also meant when there is no scheme: `CONNECT` (RFC 9110 §9.3.6) for `ws` and `wss`
    ///   alike, with basic authentication. The port is 80 by default (curl's is 1080).
    /// - `socks5h`: SOCKS5 (RFC 1928, RFC 1929); the proxy looks up the host's name. The port is 1080 by default.
    /// - `socks5`: the same, but the name is looked up on this machine, as curl does it, and an IPv4 address preferred.
    ///
    /// The same as `parse`.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for anything else, TLS to the proxy itself (`https`) among it.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().proxy(wsync::Proxy::new("http://proxy.example:3128")?);
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn new(url: impl AsRef<str>) -> Result<Proxy> {
        let url = url.as_ref();
        let unusable =
            |why: &str| Error::new(ErrorKind::InvalidInput, format!("cannot use the proxy {:?}: {why}", shown(url)));
        if url.contains(char::is_control) {
            return Err(unusable("it contains a control character; trim or percent-encode it"));
        }
        let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let mut parsed = Url::parse(&with_scheme).map_err(|error| unusable(&error.to_string()))?;
        let (scheme, default_port) = match parsed.scheme() {
            "http" => (Scheme::Http, 80),
            "socks5" => (Scheme::Socks5, 1080),
            "socks5h" => (Scheme::Socks5h, 1080),
            "https" => return Err(unusable("TLS to the proxy itself is not supported; use http:// or socks5h://")),
            _ => return Err(unusable("its scheme must be http, socks5 or socks5h")),
        };
        let credentials = Credentials::take(&mut parsed);
        // The parser does not look into the host of a URL whose scheme it does not know.
        let host = match Host::parse(parsed.host_str().unwrap_or_default()) {
            Ok(Host::Domain(name)) => name,
            Ok(Host::Ipv4(address)) => address.to_string(),
            Ok(Host::Ipv6(address)) => address.to_string(),
            Err(error) => return Err(unusable(&error.to_string())),
        };
        let port = parsed.port().unwrap_or(default_port);
        if port == 0 {
            return Err(unusable("its port is 0; use one from 1 to 65535"));
        }
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(unusable("it must end after the port"));
        }
        let too_long = |part: &[u8]| scheme != Scheme::Http && part.len() > 255;
        if credentials.iter().any(|credentials| too_long(&credentials.user) || too_long(&credentials.password)) {
            return Err(unusable("SOCKS5 allows 255 bytes each for the user and the password"));
        }
        Ok(Proxy { scheme, host, port, credentials })
    }

    /// The proxy that the environment has for this target, and the name of its variable.
    pub(crate) fn from_environment(target: &Target) -> Result<Option<(Proxy, &'static str)>> {
        environment::proxy(target, |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }
}

/// Asks the proxy at the other end of the stream for a connection to the target. Reads nothing that comes behind the proxy's
/// answer. The stream's mode and timeouts are changed: what takes it over next sets its own.
pub(crate) fn tunnel(
    proxy: &Proxy,
    stream: &TcpStream,
    target: &Target,
    deadline: &Deadline,
    cancellation: &Cancellation,
) -> Result<()> {
    log::debug!("asking {proxy:?} for {}", target.authority());
    let unusable = |error| Error::caused(ErrorKind::Io, "the stream to the proxy is not usable", error);
    let own = stream.try_clone().and_then(|stream| DeadlineStream::new(stream, *deadline)).map_err(unusable)?;
    let wire = ProxyStream { proxy, stream: own, deadline };
    match proxy.scheme {
        Scheme::Http => http::connect(&wire, target)?,
        Scheme::Socks5 => {
            socks::connect(&wire, &socks::Destination::resolved(target, deadline, cancellation)?, target.port)?
        }
        Scheme::Socks5h => socks::connect(&wire, &socks::Destination::named(target), target.port)?,
    }
    log::debug!("{proxy:?} leads to {}", target.authority());
    Ok(())
}

/// See [`Proxy::new`].
impl FromStr for Proxy {
    type Err = Error;

    fn from_str(url: &str) -> Result<Proxy> {
        Proxy::new(url)
    }
}

/// Scheme, host and port.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Socks5 => "socks5",
            Scheme::Socks5h => "socks5h",
        };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// The stream to the proxy. Every operation ends at the deadline, and every error names the proxy.
struct ProxyStream<'a> {
    proxy: &'a Proxy,
    stream: DeadlineStream,
    deadline: &'a Deadline,
}

impl ProxyStream<'_> {
    fn write_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let written = self.checked("sending a request to", self.stream.write(bytes))?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    fn read_exact(&self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let read = self.checked("waiting for the answer of", self.stream.read(buffer))?;
            buffer = &mut buffer[read..];
        }
        Ok(())
    }

    /// At least one byte of what `read_exact` will read.
    fn peek(&self, buffer: &mut [u8]) -> Result<usize> {
        self.checked("waiting for the answer of", self.stream.peek(buffer))
    }

    fn checked(&self, doing: &str, result: io::Result<usize>) -> Result<usize> {
        let doing = || format!("{doing} {}", self.name());
        match result {
            Ok(0) => Err(self.error("closed the connection before its answer was complete")),
            Ok(count) => Ok(count),
            // The stream says so only at the deadline.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(self.deadline.error(doing())),
            Err(error) => Err(Error::caused(ErrorKind::Proxy, doing(), error)),
        }
    }

    fn error(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Proxy, format!("{} {what}", self.name()))
    }

    fn name(&self) -> String {
        format!("the proxy {}", authority(&self.proxy.host, self.proxy.port))
    }
}

#[cfg(test)]
mod tests;
