//! Connecting: URL, proxy, name, TCP, TLS, upgrade, redirect, one straight line under one deadline.

mod addresses;
mod credentials;
pub(crate) mod options;
mod proxy;
mod redirect;
mod target;

use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;

use native_tls::TlsConnector;
use url::Url;

use crate::client::options::{ConnectOptions, ProxyChoice};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::{self, Body, Head, HeadParser, Negotiated, Response, UpgradeRequest};
use crate::protocol::Role;
use crate::transport::{Stream, Transport, connect_tls};
use crate::upgrade::Upgrade;
use crate::websocket::{HandshakeInfo, WebSocket};
pub use proxy::Proxy;
use redirect::Redirect;
use target::Target;
pub(crate) use target::normalized as normalized_host;

/// What the server made of the upgrade.
enum Answer {
    Upgraded(Box<WebSocket>),
    Other(Response),
}

pub(crate) fn connect(options: &ConnectOptions, url: &str) -> Result<WebSocket> {
    options.check()?;
    let deadline = Deadline::after("connect_timeout", options.connect_timeout);
    let mut target = Target::parse(url)?;
    let mut headers = options.headers.clone();
    let mut redirects: Vec<Url> = Vec::new();
    loop {
        let stream = open(options, &target, &deadline)?;
        let response = match upgrade(options, &target, &headers, redirects.clone(), stream.into(), &deadline)? {
            Answer::Upgraded(websocket) => return Ok(*websocket),
            Answer::Other(response) => response,
        };
        let Some(redirect) = next_hop(options, &target, &redirects, &response)? else {
            return Err(rejected(&target, &redirects, response));
        };
        redirects.push(target.url.clone());
        if redirects.len() > options.max_redirects as usize {
            let text = format!("more than {} redirects (max_redirects): {}", options.max_redirects, chain(&redirects));
            return Err(Error::rejected(ErrorKind::Redirect, text, response));
        }
        log::debug!("redirected with {} to {}", response.status(), without_query(&redirect.target.url));
        let Redirect { target: next, drop_credentials } = redirect;
        if drop_credentials {
            headers.retain(|(name, _)| !belongs_to_origin(name));
        }
        target = next;
    }
}

/// Where the answer leads, if it is a redirect that is to be followed.
fn next_hop(
    options: &ConnectOptions,
    from: &Target,
    redirects: &[Url],
    response: &Response,
) -> Result<Option<Redirect>> {
    if options.max_redirects == 0 {
        return Ok(None);
    }
    let redirect = redirect::follow(from, response.status(), response.header("location")).map_err(|error| {
        let text = format!("{error}{}", after(redirects));
        Error::rejected(error.kind(), text, response.clone())
    })?;
    let may_follow = |to: &Redirect| options.follow.as_ref().is_none_or(|follow| follow(response, &to.target.url));
    Ok(redirect.filter(may_follow))
}

pub(crate) fn connect_over(options: &ConnectOptions, url: &str, stream: Stream) -> Result<WebSocket> {
    options.check()?;
    let deadline = Deadline::after("connect_timeout", options.connect_timeout);
    let target = Target::parse(url)?;
    match upgrade(options, &target, &options.headers, Vec::new(), stream, &deadline)? {
        Answer::Upgraded(websocket) => Ok(*websocket),
        Answer::Other(response) => Err(rejected(&target, &[], response)),
    }
}

/// A TCP connection to the target, or through a proxy to it.
fn open(options: &ConnectOptions, target: &Target, deadline: &Deadline) -> Result<TcpStream> {
    let from_environment;
    let proxy = match &options.proxy {
        ProxyChoice::None => None,
        ProxyChoice::Fixed(proxy) => Some(proxy),
        ProxyChoice::Environment => {
            from_environment = Proxy::from_environment(target)?;
            from_environment.as_ref()
        }
    };
    match proxy {
        None => addresses::connect(&target.host, target.port, addresses_for(options, target), deadline),
        Some(proxy) => {
            let stream = addresses::connect(&proxy.host, proxy.port, None, deadline)?;
            proxy::tunnel(proxy, &stream, target, deadline)?;
            Ok(stream)
        }
    }
}

/// What [`ConnectOptions::resolve`] says about the target; the last call for a host counts.
fn addresses_for<'a>(options: &'a ConnectOptions, target: &Target) -> Option<&'a [SocketAddr]> {
    options.resolve.iter().rfind(|(host, _)| *host == target.host).map(|(_, addresses)| addresses.as_slice())
}

/// TLS where the scheme asks for it, then the upgrade (RFC 6455 §4.1).
fn upgrade(
    options: &ConnectOptions,
    target: &Target,
    headers: &[(String, String)],
    redirects: Vec<Url>,
    stream: Stream,
    deadline: &Deadline,
) -> Result<Answer> {
    let transport = if target.secure {
        connect_tls(connector(options)?, target.server_name(), stream, deadline)?
    } else {
        let unusable = |error| Error::caused(ErrorKind::Io, "the stream is not usable", error);
        Transport::plain(stream).map_err(unusable)?
    };
    if transport.is_tls() {
        log::debug!("TLS with {} is up", target.server_name());
    }
    let request = UpgradeRequest {
        host: target.host_header().to_owned(),
        target: target.path_and_query().to_owned(),
        key: new_key()?,
        protocols: options.protocols.clone(),
        compression: options.compression.clone(),
        headers: own_headers(headers),
        user_agent: options.user_agent.clone(),
        basic: target.basic.clone(),
    };
    let mut upgrade = Upgrade::new(transport, Role::Client, target.authority());
    upgrade.write(&request.to_bytes(), deadline)?;
    log::debug!("asked for {}", without_query(&target.url));
    let head = read_final_head(&mut upgrade, deadline)?;
    log::debug!("{} answered {} {}", target.authority(), head.start.status, head.start.reason);
    if head.start.status != 101 {
        let body = upgrade.read_body(Body::of(&head), deadline);
        return Ok(Answer::Other(Response::new(head, body)));
    }
    let negotiated = request.check(&head)?;
    let bounds = options.bounds.clone();
    let connection = upgrade.into_connection(&negotiated, &options.compression, bounds);
    let Negotiated { protocol, extensions, .. } = negotiated;
    let response = Some(Response::new(head, Vec::new()));
    let url = Some(target.url.clone());
    let facts = HandshakeInfo { protocol, extensions, response, request: None, url, redirects };
    Ok(Answer::Upgraded(Box::new(WebSocket::new(connection, facts))))
}

/// Interim answers such as 103 are passed over (RFC 9110 §15.2); all heads together stay within one parser's limit.
fn read_final_head(upgrade: &mut Upgrade, deadline: &Deadline) -> Result<Head> {
    let mut parser = HeadParser::response();
    loop {
        let head = upgrade.read_head(&mut parser, deadline)?;
        if !handshake::is_informational(&head) {
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
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Error::caused(ErrorKind::Io, "the system gives no random bytes for a key", error))?;
    Ok(handshake::key(random))
}

/// The caller's TLS settings, or the default ones: made once for the process, as making them reads the system's root
/// certificates (with Debian 12's 144 of them and OpenSSL 3.0, 42 ms of CPU time).
fn connector(options: &ConnectOptions) -> Result<&TlsConnector> {
    static DEFAULT: OnceLock<TlsConnector> = OnceLock::new();
    if let Some(connector) = &options.tls {
        return Ok(connector);
    }
    if let Some(connector) = DEFAULT.get() {
        return Ok(connector);
    }
    let connector = TlsConnector::new()
        .map_err(|error| Error::caused(ErrorKind::Tls, "the default TLS settings cannot be made", error))?;
    Ok(DEFAULT.get_or_init(|| connector))
}

/// What must not be told to another scheme, host or port.
fn belongs_to_origin(name: &str) -> bool {
    ["authorization", "cookie", "host", "proxy-authorization"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

fn rejected(target: &Target, redirects: &[Url], response: Response) -> Error {
    let (url, status) = (without_query(&target.url), shown_status(&response));
    let text = format!("{url} answered the upgrade with {status}{}", after(redirects));
    Error::rejected(ErrorKind::Rejected, text, response)
}

fn shown_status(response: &Response) -> String {
    format!("{} {}", response.status(), response.reason()).trim_end().to_owned()
}

/// How an error's text ends when there were redirects.
fn after(redirects: &[Url]) -> String {
    if redirects.is_empty() { String::new() } else { format!(", after redirects: {}", chain(redirects)) }
}

fn chain(redirects: &[Url]) -> String {
    let urls: Vec<String> = redirects.iter().map(without_query).collect();
    urls.join(" -> ")
}

/// The URL as errors and the log show it: queries often hold tokens.
fn without_query(url: &Url) -> String {
    match url.query() {
        Some(_) => format!("{}?…", url.as_str().split('?').next().unwrap_or_default()),
        None => url.to_string(),
    }
}
