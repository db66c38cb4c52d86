//! Connecting: URL, proxy, name, TCP, TLS, upgrade, redirect: one straight line under one deadline.

mod addresses;
pub(crate) mod cancel;
mod credentials;
pub(crate) mod options;
mod proxy;
mod redirect;
mod target;

use std::io;
use std::net::{SocketAddr, TcpStream};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::{self, Negotiated, UpgradeRequest};
use crate::http::{Body, Head, HeadParser, Response, clip, is_informational};
use crate::protocol::Role;
use crate::random;
use crate::transport::{ShutdownHandle, Stream, TlsClient, Transport, connect_tls};
use crate::upgrade::{EXPECTS_TLS, Upgrade};
use crate::websocket::{HandshakeInfo, WebSocket};
use crate::ws_url::Url;
use cancel::{CancellableWait, Cancellation};
use options::{ConnectOptions, ProxyChoice};
pub use proxy::Proxy;
use redirect::Redirect;
use target::Target;
pub(crate) use target::normalized as normalized_host;

impl WebSocket {
    /// Connects to a `ws://` or `wss://` URL with the default options; blocks until the connection is open, at most 30
    /// seconds. User information in the URL becomes basic authentication (RFC 7617).
    ///
    /// # Errors
    /// See [`ConnectOptions::connect`].
    ///
    /// ```no_run
    /// let ws = wsync::WebSocket::connect("wss://example.com/chat")?;
    /// ws.send("hello")?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn connect(url: impl AsRef<str>) -> Result<WebSocket> {
        WebSocket::options().connect(url)
    }

    /// Options for connecting, with a setter for each.
    ///
    /// ```
    /// let options = wsync::WebSocket::options().protocols(["v1.chat"]).max_redirects(0);
    /// ```
    pub fn options() -> ConnectOptions {
        ConnectOptions::new()
    }
}

/// All of [`ConnectOptions::connect`].
fn connect(options: &ConnectOptions, url: &str) -> Result<WebSocket> {
    let mut connecting = Connecting::new(options, url)?;
    let result = connecting.run();
    connecting.check_not_cancelled().and(result)
}

/// All of [`ConnectOptions::connect_over`].
fn connect_over(options: &ConnectOptions, url: &str, stream: Stream) -> Result<WebSocket> {
    let connecting = Connecting::new(options, url)?;
    let result = connecting.upgrade(stream).and_then(|answer| match answer {
        Answer::Upgraded(websocket) => Ok(*websocket),
        Answer::Other(response) => Err(connecting.rejected(response)),
    });
    connecting.check_not_cancelled().and(result)
}

/// One call of connect: what stays the same over its redirects, and the target of the next attempt.
struct Connecting<'a> {
    options: &'a ConnectOptions,
    deadline: Deadline,
    target: Target,
    /// The caller's headers, without credentials once a redirect has left their origin.
    headers: Vec<(String, String)>,
    /// The URLs that redirected, in order.
    redirects: Vec<Url>,
}

/// The server's answer to the upgrade.
enum Answer {
    Upgraded(Box<WebSocket>),
    Other(Response),
}

impl<'a> Connecting<'a> {
    fn new(options: &'a ConnectOptions, url: &str) -> Result<Connecting<'a>> {
        options.check()?;
        let deadline = Deadline::after("connect_timeout", options.connect_timeout);
        let target = Target::parse(url)?;
        if target.secure {
            TlsClient::check_available()?;
        }
        let headers = options.headers.clone();
        let connecting = Connecting { options, deadline, target, headers, redirects: Vec::new() };
        connecting.check_not_cancelled()?;
        Ok(connecting)
    }

    fn run(&mut self) -> Result<WebSocket> {
        loop {
            let stream = self.open()?;
            match self.upgrade(stream.into())? {
                Answer::Upgraded(websocket) => return Ok(*websocket),
                Answer::Other(response) => self.follow(response)?,
            }
        }
    }

    /// The error if a token has ended the call: then whatever else failed, failed because of that.
    fn check_not_cancelled(&self) -> Result<()> {
        if self.options.cancellation.is_cancelled() {
            return Err(Cancellation::error(format_args!("connecting to {}", self.target.authority())));
        }
        Ok(())
    }

    /// Until the result is dropped, a token that is cancelled shuts the stream down, so that whoever waits for it goes on.
    fn cancellable(&self, handle: impl FnOnce() -> io::Result<ShutdownHandle>) -> Result<Option<CancellableWait<'_>>> {
        let cancellation = &self.options.cancellation;
        if cancellation.is_none() {
            return Ok(None);
        }
        let unusable = |error| Error::caused(ErrorKind::Io, "the system gives no second handle of the stream", error);
        let handle = handle().map_err(unusable)?;
        Ok(Some(cancellation.during(move || handle.shutdown())))
    }

    /// A TCP connection to the target, or through a proxy to it.
    fn open(&self) -> Result<TcpStream> {
        let Connecting { options, target, deadline, .. } = self;
        let proxy = match &options.proxy {
            ProxyChoice::None => None,
            ProxyChoice::Fixed(proxy) => Some((proxy.clone(), "ConnectOptions::proxy".to_owned())),
            ProxyChoice::Environment => Proxy::from_environment(target)?
                .map(|(proxy, variable)| (proxy, format!("the environment variable {variable}"))),
        };
        match proxy {
            None => {
                let overrides = addresses_for(options, target);
                addresses::connect(&target.host, target.port, overrides, deadline, &options.cancellation)
            }
            Some((proxy, origin)) => {
                self.open_through(&proxy).map_err(|error| in_proxy_context(error, &proxy, &origin, target))
            }
        }
    }

    fn open_through(&self, proxy: &Proxy) -> Result<TcpStream> {
        let stream = addresses::connect(&proxy.host, proxy.port, None, &self.deadline, &self.options.cancellation)?;
        let _wait = self.cancellable(|| ShutdownHandle::of_tcp(&stream))?;
        proxy::tunnel(proxy, &stream, &self.target, &self.deadline, &self.options.cancellation)?;
        Ok(stream)
    }

    /// TLS where the scheme asks for it, then the upgrade (RFC 6455 §4.1).
    fn upgrade(&self, stream: Stream) -> Result<Answer> {
        let request = self.request()?;
        let _wait = self.cancellable(|| stream.shutdown_handle())?;
        let mut upgrade = Upgrade::new(self.secure(stream)?, Role::Client, self.target.authority());
        upgrade.explain_silence(self.silence_hint());
        upgrade.write(&request.to_bytes(), &self.deadline)?;
        log::debug!("asked for {}", without_query(self.target.url.as_str()));
        let head = read_final_head(&mut upgrade, &self.deadline)?;
        log::debug!("{} answered {} {}", self.target.authority(), head.start.status, head.start.reason);
        if head.start.status != 101 {
            let body = upgrade.read_body(Body::of(&head), &self.deadline);
            return Ok(Answer::Other(Response::received(head, body)));
        }
        let negotiated = request.check(&head)?;
        Ok(Answer::Upgraded(Box::new(self.upgraded(upgrade, negotiated, head))))
    }

    /// The transport for the upgrade: with TLS for `wss`.
    fn secure(&self, stream: Stream) -> Result<Transport> {
        if !self.target.secure {
            let unusable = |error| Error::caused(ErrorKind::Io, "the stream is not usable", error);
            return Transport::plain(stream).map_err(unusable);
        }
        let name = self.target.server_name();
        let transport = connect_tls(self.tls()?, name, stream, &self.deadline)?;
        log::debug!("TLS with {name} is up");
        Ok(transport)
    }

    /// The caller's TLS settings, or the default ones.
    fn tls(&self) -> Result<&TlsClient> {
        match &self.options.tls {
            Some(tls) => Ok(tls),
            None => TlsClient::system(),
        }
    }

    /// The likely reason why a server ends the connection without an answer after it has read the request.
    fn silence_hint(&self) -> &'static str {
        match (self.target.secure, self.options.protocols.is_empty()) {
            (_, false) => " (perhaps it knows none of the subprotocols)",
            (true, true) => "",
            (false, true) => EXPECTS_TLS,
        }
    }

    fn request(&self) -> Result<UpgradeRequest> {
        let Connecting { options, target, .. } = self;
        Ok(UpgradeRequest {
            host: target.host_header().to_owned(),
            target: target.path_and_query().to_owned(),
            key: new_key()?,
            protocols: options.protocols.clone(),
            compression: options.compression.clone(),
            headers: own_headers(&self.headers),
            user_agent: options.user_agent.clone(),
            basic: target.basic.clone(),
        })
    }

    /// The open connection, after a 101 that passed every check.
    fn upgraded(&self, upgrade: Upgrade, negotiated: Negotiated, head: Head) -> WebSocket {
        let connection = upgrade.into_connection(&negotiated, &self.options.compression, self.options.bounds.clone());
        let Negotiated { protocol, extensions, .. } = negotiated;
        let info = HandshakeInfo {
            protocol,
            extensions,
            response: Some(Response::received(head, Vec::new())),
            url: Some(Url::new(self.target.url.clone())),
            redirects: self.redirects.clone(),
            ..HandshakeInfo::default()
        };
        WebSocket::new(connection, info)
    }

    /// Moves on to where a redirect leads; any other answer is the error that connecting ends with.
    fn follow(&mut self, response: Response) -> Result<()> {
        let Some(Redirect { target, drop_credentials }) = self.redirect(&response)? else {
            return Err(self.rejected(response));
        };
        self.redirects.push(Url::new(self.target.url.clone()));
        let max = self.options.max_redirects;
        if self.redirects.len() > max as usize {
            let text = format!("more than {max} redirects (max_redirects): {}", chain(&self.redirects));
            return Err(Error::with_response(ErrorKind::Redirect, text, response));
        }
        log::debug!("redirected with {} to {}", response.status(), without_query(target.url.as_str()));
        if drop_credentials {
            self.headers.retain(|(name, _)| !belongs_to_origin(name));
        }
        self.target = target;
        Ok(())
    }

    /// Where the answer leads, if it is a redirect that is to be followed.
    fn redirect(&self, response: &Response) -> Result<Option<Redirect>> {
        if self.options.max_redirects == 0 {
            return Ok(None);
        }
        let location = response.header("location");
        let redirect = redirect::follow(&self.target, response.status(), location).map_err(|error| {
            let text = format!("{error}{}", after(&self.redirects));
            Error::with_response(error.kind(), text, response.clone())
        })?;
        let may_follow = |to: &Redirect| {
            self.options.follow.as_ref().is_none_or(|ask| ask(response, &Url::new(to.target.url.clone())))
        };
        Ok(redirect.filter(may_follow))
    }

    fn rejected(&self, response: Response) -> Error {
        let (url, status) = (without_query(self.target.url.as_str()), shown_status(&response));
        let line = first_line(&response).map(|line| format!(": {line}")).unwrap_or_default();
        let text = format!("{url} answered the upgrade with {status}{line}{}", after(&self.redirects));
        Error::with_response(ErrorKind::Rejected, text, response)
    }
}

/// An error on the way through a proxy: names the target and where the proxy came from, a setter or a variable of the
/// environment.
fn in_proxy_context(error: Error, proxy: &Proxy, origin: &str, target: &Target) -> Error {
    let kind = match error.kind() {
        ErrorKind::Resolve | ErrorKind::Connect => ErrorKind::Proxy,
        kind => kind,
    };
    error.in_context(kind, format_args!("connecting to {} through {proxy} (from {origin})", target.authority()))
}

/// What [`ConnectOptions::resolve`] says about the target; the last call for a host counts.
fn addresses_for<'a>(options: &'a ConnectOptions, target: &Target) -> Option<&'a [SocketAddr]> {
    options.resolve.iter().rfind(|(host, _)| *host == target.host).map(|(_, addresses)| addresses.as_slice())
}

/// Skips informational answers such as 103 (RFC 9110 §15.2); all heads together stay within one parser's limit.
fn read_final_head(upgrade: &mut Upgrade, deadline: &Deadline) -> Result<Head> {
    let mut parser = HeadParser::response();
    loop {
        let head = upgrade.read_head(&mut parser, deadline)?;
        if !is_informational(&head) {
            return Ok(head);
        }
    }
}

/// The caller's headers without those that the handshake sets.
fn own_headers(headers: &[(String, String)]) -> Vec<(String, String)> {
    let (ignored, own): (Vec<_>, Vec<_>) =
        headers.iter().cloned().partition(|(name, _)| handshake::is_controlled(name));
    if !ignored.is_empty() {
        let names: Vec<&str> = ignored.iter().map(|(name, _)| name.as_str()).collect();
        log::warn!("ignored headers that the handshake sets itself: {}", names.join(", "));
    }
    own
}

fn new_key() -> Result<String> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)
        .map_err(|error| Error::caused(ErrorKind::Io, "the system gives no random bytes for a key", error))?;
    Ok(handshake::key(bytes))
}

/// Whether a header must not be sent to another scheme, host or port.
fn belongs_to_origin(name: &str) -> bool {
    ["authorization", "cookie", "host", "proxy-authorization"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// The first line of a rejection's body that is not empty, escaped and clipped: it often says why.
fn first_line(response: &Response) -> Option<String> {
    if response.header("Content-Encoding").is_some() {
        return None;
    }
    // Enough for what is shown; a character cut at the end does not matter.
    let start = &response.body()[..response.body().len().min(1024)];
    let text = String::from_utf8_lossy(start);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(clip)
}

fn shown_status(response: &Response) -> String {
    format!("{} {}", response.status(), response.reason()).trim_end().to_owned()
}

/// The end of an error's text where there were redirects.
fn after(redirects: &[Url]) -> String {
    if redirects.is_empty() { String::new() } else { format!(", after redirects: {}", chain(redirects)) }
}

fn chain(redirects: &[Url]) -> String {
    let urls: Vec<String> = redirects.iter().map(|url| without_query(url.as_str())).collect();
    urls.join(" -> ")
}

/// The URL as errors and the log show it: queries often hold tokens.
fn without_query(url: &str) -> String {
    match url.split_once('?') {
        Some((start, _)) => format!("{start}?…"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_through_a_proxy_names_the_proxy_its_origin_and_the_target() {
        let (proxy, target) = (Proxy::new("http://u:secret@p:1").unwrap(), Target::parse("ws://h/").unwrap());
        let shown = |kind| {
            let error = Error::new(kind, "cannot");
            format!("{:?}", in_proxy_context(error, &proxy, "the environment variable http_proxy", &target))
        };
        let text = "connecting to h:80 through http://p:1 (from the environment variable http_proxy): cannot";
        for kind in [ErrorKind::Connect, ErrorKind::Resolve, ErrorKind::Proxy] {
            assert_eq!(shown(kind), format!("Proxy: {text}"));
        }
        assert_eq!(shown(ErrorKind::Timeout), format!("Timeout: {text}"));
    }

    #[test]
    fn without_random_bytes_there_is_no_key() {
        let error = random::refusal::with(new_key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().starts_with("the system gives no random bytes for a key: "), "{error}");
        assert_ne!(new_key().unwrap(), new_key().unwrap());
    }
}
