//! SOCKS5: RFC 1928, with user and password after RFC 1929.

use std::net::IpAddr;

use super::super::addresses;
use super::super::cancel::Cancellation;
use super::super::credentials::Credentials;
use super::super::target::Target;
use super::ProxyStream;
use crate::deadline::Deadline;
use crate::error::Result;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xFF;

/// What the proxy is asked to connect to.
pub(super) enum Destination<'a> {
    Address(IpAddr),
    Name(&'a str),
}

impl Destination<'_> {
    /// The proxy looks the name up.
    pub fn named(target: &Target) -> Destination<'_> {
        match target.host.parse() {
            Ok(address) => Destination::Address(address),
            Err(_) => Destination::Name(&target.host),
        }
    }

    /// This machine does. The proxy tries only the one address it is given, and IPv4 is what it has most likely.
    pub fn resolved(target: &Target, deadline: &Deadline, cancellation: &Cancellation) -> Result<Destination<'static>> {
        let addresses = addresses::resolve(&target.host, target.port, deadline, cancellation)?;
        let best = addresses.iter().find(|address| address.is_ipv4()).unwrap_or(&addresses[0]);
        Ok(Destination::Address(best.ip()))
    }
}

pub(super) fn connect(wire: &ProxyStream<'_>, destination: &Destination<'_>, port: u16) -> Result<()> {
    let request = request(wire, destination, port)?;
    authenticate(wire, wire.proxy.credentials.as_ref())?;
    wire.write_all(&request)?;

    let [version, reply] = read(wire)?;
    expect_version(wire, version)?;
    if reply != 0 {
        return Err(wire.error(format_args!("could not connect: {}", meaning(reply))));
    }
    // The address that the proxy connected from; of no use here, but it is to be read to its end.
    let [_reserved, kind] = read(wire)?;
    let length = match kind {
        1 => 4,
        3 => usize::from(read::<1>(wire)?[0]),
        4 => 16,
        _ => return Err(wire.error(format_args!("answered with an unknown type of address, {kind}"))),
    };
    let port = 2;
    wire.read_exact(&mut [0; 255 + 2][..length + port])
}

/// Before anything is sent, whether all of it can be.
fn request(wire: &ProxyStream<'_>, destination: &Destination<'_>, port: u16) -> Result<Vec<u8>> {
    let mut request = vec![VERSION, 1, 0];
    match destination {
        Destination::Address(IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Destination::Address(IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        Destination::Name(name) => {
            let Ok(length) = u8::try_from(name.len()) else {
                let text = format!("cannot be asked for a name of {} bytes; SOCKS5 allows 255", name.len());
                return Err(wire.error(text));
            };
            request.extend([3, length]);
            request.extend(name.as_bytes());
        }
    }
    request.extend(port.to_be_bytes());
    Ok(request)
}

fn authenticate(wire: &ProxyStream<'_>, credentials: Option<&Credentials>) -> Result<()> {
    match credentials {
        None => wire.write_all(&[VERSION, 1, NO_AUTHENTICATION])?,
        Some(_) => wire.write_all(&[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD])?,
    }
    let [version, method] = read(wire)?;
    expect_version(wire, version)?;
    match (method, credentials) {
        (NO_AUTHENTICATION, _) => Ok(()),
        (USER_AND_PASSWORD, Some(credentials)) => {
            let mut message = vec![1];
            for part in [&credentials.user, &credentials.password] {
                message.push(part.len() as u8); // at most 255, as `Proxy::new` sees to
                message.extend(part);
            }
            wire.write_all(&message)?;
            match read(wire)? {
                [1, 0] => Ok(()),
                [1, _] => Err(wire.error("did not accept the user and password")),
                [other, _] => {
                    Err(wire.error(format_args!("does not speak RFC 1929: its answer begins with {other:#04x}")))
                }
            }
        }
        (NONE_ACCEPTABLE, None) => Err(wire.error("wants a user and password: put them in the proxy's URL")),
        (NONE_ACCEPTABLE, Some(_)) => Err(wire.error("accepts neither a user and password nor to go without")),
        (other, _) => Err(wire.error(format_args!("chose authentication method {other}, which was not offered"))),
    }
}

fn expect_version(wire: &ProxyStream<'_>, version: u8) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    // Not kept in a variable: Rust before 1.89 refuses that for the arguments of a format.
    Err(wire
        .error(format_args!("does not speak SOCKS5: its answer begins with {version:#04x}; is it an http:// proxy?")))
}

/// RFC 1928 §6
fn meaning(reply: u8) -> String {
    let known = match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => return format!("unknown reply {reply}"),
    };
    format!("{known} (reply {reply})")
}

fn read<const N: usize>(wire: &ProxyStream<'_>) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    wire.read_exact(&mut bytes)?;
    Ok(bytes)
}
