//! TLS over pairs in memory, of which every byte is under the test's control.

use std::io;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use native_tls::{Identity, TlsAcceptor, TlsConnector};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::X509Builder;

use crate::deadline::Deadline;
use crate::error::ErrorKind;
use crate::transport::{
    ReadState, Received, Stream, TlsClient, TlsServer, Transport, WriteState, accept_tls, connect_tls,
};

const NOW: Option<Duration> = Some(Duration::ZERO);
/// So many plain bytes are in a record.
const RECORD: usize = 16 * 1024;

fn acceptor() -> &'static TlsServer {
    static ACCEPTOR: LazyLock<TlsServer> = LazyLock::new(|| {
        let key = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
        let key = PKey::from_ec_key(key).unwrap();
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let (certificate, key) = (builder.build().to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap());
        TlsAcceptor::new(Identity::from_pkcs8(&certificate, &key).unwrap()).unwrap().into()
    });
    &ACCEPTOR
}

fn connector() -> TlsClient {
    TlsConnector::builder().danger_accept_invalid_certs(true).build().unwrap().into()
}

fn handshake_bound() -> Deadline {
    Deadline::after("bound", Some(Duration::from_secs(30)))
}

/// Client and server over a pair with so much buffer.
fn pair(capacity: usize) -> (Transport, Transport) {
    let (ours, theirs) = Stream::pair_with_capacity(capacity);
    let server = thread::spawn(move || accept_tls(acceptor(), theirs, &handshake_bound()).unwrap());
    let client = connect_tls(&connector(), "localhost", ours, &handshake_bound()).unwrap();
    (client, server.join().unwrap())
}

/// All plain bytes that can be read, up to the end or the first pause.
fn read_all(transport: &Transport, incoming: &mut ReadState) -> usize {
    let mut total = 0;
    loop {
        let received = transport.read(incoming, NOW);
        let unread = incoming.plain.unread().len();
        incoming.plain.consume(unread);
        total += unread;
        match received {
            Ok(Received::Bytes | Received::Partial) => {}
            // An end without close_notify is an error.
            Ok(_) | Err(_) => return total,
        }
    }
}

#[test]
fn what_the_peer_can_decrypt_is_what_counts_as_sent() {
    // Room for one record and a part of the next.
    let (client, server) = pair(RECORD + RECORD / 2);
    let (mut wire, mut incoming) = (WriteState::default(), ReadState::default());
    let bytes = vec![7; 3 * RECORD + 5];
    assert_eq!(client.write(&mut wire, &bytes, NOW).unwrap(), bytes.len());
    assert_eq!(wire.unsent_plain(), bytes.len() - RECORD, "one whole record is out");
    let mut received = read_all(&server, &mut incoming);
    assert_eq!(received, RECORD);

    // The rest of the second record, and part of the third.
    assert_eq!(client.write(&mut wire, b"not yet", NOW).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    assert_eq!(wire.unsent_plain(), RECORD + 5);

    // The server goes: the error changes nothing of it.
    received += read_all(&server, &mut incoming);
    drop(server);
    assert_eq!(client.write(&mut wire, b"never", NOW).map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
    assert_eq!(received, bytes.len() - wire.unsent_plain());
}

#[test]
fn a_first_write_that_fails_has_taken_nothing() {
    let (client, server) = pair(1 << 20);
    let mut wire = WriteState::default();
    assert_eq!(client.write(&mut wire, &[7; 100], NOW).unwrap(), 100);
    assert_eq!((wire.unsent_plain(), wire.is_empty()), (0, true));
    drop(server);
    assert_eq!(client.write(&mut wire, &[7; 100], NOW).map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
    assert_eq!((wire.unsent_plain(), wire.is_empty()), (0, true));
}

#[test]
fn a_write_that_is_taken_in_small_steps_loses_nothing() {
    let (client, server) = pair(1000);
    let reader = thread::spawn(move || {
        let mut incoming = ReadState::default();
        let mut total = 0;
        while total < 5 * RECORD {
            server.read(&mut incoming, None).unwrap();
            let unread = incoming.plain.unread().len();
            incoming.plain.consume(unread);
            total += unread;
        }
        total
    });
    let bytes = vec![7; 5 * RECORD];
    let (mut wire, mut taken) = (WriteState::default(), 0);
    while taken < bytes.len() || !wire.is_empty() {
        match client.write(&mut wire, &bytes[taken..], Some(Duration::from_millis(1))) {
            Ok(count) => taken += count,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        assert!(wire.unsent_plain() <= taken);
    }
    assert_eq!(wire.unsent_plain(), 0);
    assert_eq!(reader.join().unwrap(), bytes.len());
}

#[test]
fn a_handshake_with_a_silent_peer_ends_at_its_deadline() {
    let (ours, _theirs) = Stream::pair();
    let bound = Deadline::after("connect_timeout", Some(Duration::from_millis(20)));
    let error = connect_tls(&connector(), "localhost", ours, &bound).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[test]
fn debug_output_of_settings_has_no_key() {
    assert_eq!(format!("{:?}", acceptor()), "TlsServer { .. }");
    assert_eq!(format!("{:?}", TlsClient::from(TlsConnector::new().unwrap())), "TlsClient { .. }");
}
