//! From a host to a TCP connection: resolve, and race the addresses (RFC 8305).

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::cancel::Cancellation;
use super::target::authority;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use crate::sync::{Arc, spawn};

/// The time between the starts of two attempts (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to one of the host's addresses, or of `overrides` in place of them (port 0 there means `port`).
///
/// With a single address, and if no token may cancel this, no thread is started. Otherwise each attempt has one, because the
/// standard library connects only in a blocking way. The threads of attempts that nobody waits for end with them, at the
/// deadline at the latest.
pub(crate) fn connect(
    host: &str,
    port: u16,
    overrides: Option<&[SocketAddr]>,
    deadline: &Deadline,
    cancellation: &Cancellation,
) -> Result<TcpStream> {
    let mut addresses = match overrides {
        Some(addresses) => addresses.to_vec(),
        None => resolve(host, port, deadline, cancellation)?,
    };
    for address in addresses.iter_mut().filter(|address| address.port() == 0) {
        address.set_port(port);
    }
    let whole = *deadline;
    let attempt = move |address| attempt(address, &whole);
    let stream = match interleaved(&addresses)[..] {
        [] => return Err(no_address(host, port)),
        [address] if cancellation.is_none() => attempt(address).map_err(|error| vec![(address, error)]),
        ref addresses => race(addresses, ATTEMPT_DELAY, deadline, cancellation, attempt),
    }
    .map_err(|failures| failed(&authority(host, port), failures, deadline))?;
    // Small frames are sent at once. A failure does not matter.
    let _ = stream.set_nodelay(true);
    match stream.peer_addr() {
        Ok(address) => log::debug!("connected to {} at {address}", authority(host, port)),
        Err(_) => log::debug!("connected to {}", authority(host, port)),
    }
    Ok(stream)
}

/// The addresses of a name or an IP literal, at least one, in the system's order.
pub(crate) fn resolve(
    host: &str,
    port: u16,
    deadline: &Deadline,
    cancellation: &Cancellation,
) -> Result<Vec<SocketAddr>> {
    resolve_with(host, port, deadline, cancellation, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

/// The system's resolver cannot be stopped: it runs on a thread of its own, which nobody waits for after the deadline or a
/// cancellation.
fn resolve_with(
    host: &str,
    port: u16,
    deadline: &Deadline,
    cancellation: &Cancellation,
    lookup: impl FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    log::debug!("resolving {host}");
    let doing = || format!("resolving the host of {}", authority(host, port));
    let outcome = match deadline.check(doing())? {
        None if cancellation.is_none() => lookup(host, port),
        left => {
            let (sender, answer) = mpsc::channel();
            let sender = Arc::new(sender);
            let _wait = cancellation.during(stop_waiting(&sender));
            let name = host.to_owned();
            // Sending fails if the caller has stopped waiting.
            spawn("wsync resolve", move || sender.send(Some(lookup(&name, port))).ok()).and_then(|_| {
                match receive(&answer, left) {
                    Ok(Some(outcome)) => outcome,
                    Ok(None) => Err(io::ErrorKind::Interrupted.into()),
                    Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
                    Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the resolver panicked")),
                }
            })
        }
    };
    match outcome {
        Ok(addresses) if addresses.is_empty() => Err(no_address(host, port)),
        Ok(addresses) => {
            log::debug!("{host} is {addresses:?}");
            Ok(addresses)
        }
        Err(_) if deadline.is_over() => Err(deadline.error(doing())),
        Err(error) => Err(Error::caused(
            ErrorKind::Resolve,
            format_args!("cannot resolve the host of {}", authority(host, port)),
            error,
        )),
    }
}

/// The families in turn, beginning with that of the first address, each in the resolver's order, and no address twice. The
/// resolver knows the machine's routes and settings (RFC 6724), so its first address stays first (RFC 8305 §4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(preferred) = addresses.first().map(SocketAddr::is_ipv6) else { return Vec::new() };
    let mut seen = HashSet::new();
    let distinct = addresses.iter().copied().filter(|&address| seen.insert(address));
    let (first, second): (Vec<SocketAddr>, Vec<_>) = distinct.partition(|address| address.is_ipv6() == preferred);
    let turns = first.len().max(second.len());
    (0..turns).flat_map(|turn| [first.get(turn), second.get(turn)]).flatten().copied().collect()
}

type Failures = Vec<(SocketAddr, io::Error)>;

/// Starts an attempt every `delay`, or at once after a failure; returns the first connection. The others are closed when
/// they connect, because their results are dropped.
fn race<S: Send + 'static>(
    addresses: &[SocketAddr],
    delay: Duration,
    deadline: &Deadline,
    cancellation: &Cancellation,
    attempt: impl Fn(SocketAddr) -> io::Result<S> + Clone + Send + 'static,
) -> Result<S, Failures> {
    let (sender, results) = mpsc::channel();
    let sender = Arc::new(sender);
    let _wait = cancellation.during(stop_waiting(&sender));
    let mut waiting = addresses.iter().copied();
    let mut running = Vec::new();
    let mut failures = Failures::new();
    loop {
        if let Some(address) = waiting.next() {
            let (sender, attempt) = (Arc::clone(&sender), attempt.clone());
            let spawned = spawn("wsync connect", move || sender.send(Some((address, attempt(address)))).ok());
            match spawned {
                Ok(_) => running.push(address),
                Err(error) => {
                    failures.push((address, error));
                    continue;
                }
            }
        } else if running.is_empty() {
            return Err(failures);
        }
        let left = deadline.left();
        let patience = if waiting.len() == 0 { left } else { Some(left.map_or(delay, |left| left.min(delay))) };
        match receive(&results, patience) {
            Ok(None) => return Err(failures),
            Ok(Some((_, Ok(stream)))) => return Ok(stream),
            Ok(Some((address, Err(error)))) => {
                running.retain(|&other| other != address);
                failures.push((address, error));
            }
            Err(_) if deadline.is_over() => {
                let unanswered = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
                failures.extend(running.iter().map(|&address| (address, unanswered())));
                return Err(failures);
            }
            Err(_) => {} // The next attempt starts.
        }
    }
}

fn attempt(address: SocketAddr, deadline: &Deadline) -> io::Result<TcpStream> {
    log::debug!("connecting to {address}");
    match deadline.left() {
        None => TcpStream::connect(address),
        // `connect_timeout` rejects zero.
        Some(Duration::ZERO) => Err(io::Error::new(io::ErrorKind::TimedOut, "no time left to try")),
        Some(left) => TcpStream::connect_timeout(&address, left),
    }
}

/// Tells the thread that waits for results, by `None`, that nobody wants them any more. It keeps the channel open no longer
/// than those who send results.
fn stop_waiting<T: Send + 'static>(sender: &Arc<Sender<Option<T>>>) -> impl Fn() + Send + Sync + 'static {
    let sender = Arc::downgrade(sender);
    move || {
        if let Some(sender) = sender.upgrade() {
            let _ = sender.send(None);
        }
    }
}

fn receive<T>(results: &Receiver<T>, patience: Option<Duration>) -> Result<T, RecvTimeoutError> {
    match patience {
        Some(patience) => results.recv_timeout(patience),
        None => results.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// Names every address that was tried with its error; the last error is the source.
fn failed(authority: &str, mut failures: Failures, deadline: &Deadline) -> Error {
    let list = |failures: &Failures| -> Vec<String> {
        failures.iter().map(|(address, error)| format!("{address}: {error}")).collect()
    };
    if deadline.is_over() {
        return deadline.error(format_args!("connecting to {authority} ({})", list(&failures).join("; ")));
    }
    let cannot = format!("cannot connect to {authority}");
    match failures.pop() {
        // The host is an address, which is named already.
        Some((address, error)) if failures.is_empty() && address.to_string() == authority => {
            Error::caused(ErrorKind::Connect, cannot, error)
        }
        Some((address, error)) => {
            let mut tried = list(&failures);
            tried.push(address.to_string());
            Error::caused(ErrorKind::Connect, format_args!("{cannot}: {}", tried.join("; ")), error)
        }
        None => Error::new(ErrorKind::Connect, cannot),
    }
}

fn no_address(host: &str, port: u16) -> Error {
    Error::new(ErrorKind::Resolve, format!("the host of {} has no address", authority(host, port)))
}

#[cfg(test)]
mod tests;
