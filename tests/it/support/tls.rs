//! Certificates for the tests, and the TLS of the scripted peer, with OpenSSL.

use std::sync::LazyLock;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{self, SslAcceptor, SslConnector, SslMethod, SslStream, SslVersion};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use wsync::native_tls::{Certificate, Identity, TlsAcceptor, TlsConnector};

use super::Layer;
use super::peer::Socket;

/// A certificate and its key.
pub struct Identified {
    pub certificate: X509,
    pub key: PKey<Private>,
}

static AUTHORITY: LazyLock<Identified> = LazyLock::new(|| make("test authority", None, &[], 0));
pub static GOOD: LazyLock<Identified> =
    LazyLock::new(|| make("localhost", Some(&AUTHORITY), &["DNS:localhost", "IP:127.0.0.1"], 0));
pub static EXPIRED: LazyLock<Identified> =
    LazyLock::new(|| make("expired", Some(&AUTHORITY), &["DNS:localhost", "IP:127.0.0.1"], 100));
pub static WRONG_HOST: LazyLock<Identified> = LazyLock::new(|| {
    make("elsewhere", Some(&AUTHORITY), &["DNS:elsewhere.example", "DNS:xn--bcher-kva.example", "IP:::1"], 0)
});
pub static SELF_SIGNED: LazyLock<Identified> =
    LazyLock::new(|| make("localhost", None, &["DNS:localhost", "IP:127.0.0.1"], 0));

/// Makes a certificate that was valid for ten days from the day before `days_ago`.
fn make(name: &str, issuer: Option<&Identified>, names: &[&str], days_ago: i64) -> Identified {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let day = |day: i64| Asn1Time::from_unix(now + (day - days_ago) * 86_400).unwrap();
    let serial = BigNum::from_u32(1 + names.len() as u32 + days_ago as u32).unwrap();

    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&subject, |issuer| issuer.certificate.subject_name())).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&day(-1)).unwrap();
    builder.set_not_after(&day(9)).unwrap();
    if names.is_empty() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    } else {
        let mut alternatives = SubjectAlternativeName::new();
        for name in names {
            match name.split_once(':').unwrap() {
                ("DNS", name) => alternatives.dns(name),
                (_, address) => alternatives.ip(address),
            };
        }
        let context = builder.x509v3_context(issuer.map(|issuer| issuer.certificate.as_ref()), None);
        let extension = alternatives.build(&context).unwrap();
        builder.append_extension(extension).unwrap();
    }
    builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
    Identified { certificate: builder.build(), key }
}

/// A connector that trusts the test authority.
pub fn connector() -> TlsConnector {
    static CONNECTOR: LazyLock<TlsConnector> = LazyLock::new(|| {
        let root = Certificate::from_pem(&AUTHORITY.certificate.to_pem().unwrap()).unwrap();
        TlsConnector::builder().disable_built_in_roots(true).add_root_certificate(root).build().unwrap()
    });
    CONNECTOR.clone()
}

/// An acceptor for [`AcceptOptions::tls`](wsync::AcceptOptions::tls).
pub fn native_acceptor() -> TlsAcceptor {
    static ACCEPTOR: LazyLock<TlsAcceptor> = LazyLock::new(|| native_acceptor_as(&GOOD));
    ACCEPTOR.clone()
}

pub fn native_acceptor_as(identity: &Identified) -> TlsAcceptor {
    let certificate = identity.certificate.to_pem().unwrap();
    let key = identity.key.private_key_to_pem_pkcs8().unwrap();
    TlsAcceptor::new(Identity::from_pkcs8(&certificate, &key).unwrap()).unwrap()
}

/// Accepts TLS as the scripted peer.
pub fn accept(socket: Socket, layer: Layer) -> Result<SslStream<Socket>, ssl::HandshakeError<Socket>> {
    accept_as(&GOOD, socket, layer)
}

pub fn accept_as<S: std::io::Read + std::io::Write>(
    identity: &Identified,
    socket: S,
    layer: Layer,
) -> Result<SslStream<S>, ssl::HandshakeError<S>> {
    let version = if layer == Layer::Tls12 { SslVersion::TLS1_2 } else { SslVersion::TLS1_3 };
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    builder.set_min_proto_version(Some(version)).unwrap();
    builder.set_max_proto_version(Some(version)).unwrap();
    builder.set_certificate(&identity.certificate).unwrap();
    builder.set_private_key(&identity.key).unwrap();
    builder.build().accept(socket)
}

/// Connects with TLS as the scripted peer.
pub fn connect(socket: Socket) -> SslStream<Socket> {
    // Made once: building a connector reads the system's root certificates, which takes long.
    static CONNECTOR: LazyLock<SslConnector> = LazyLock::new(|| {
        let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
        builder.cert_store_mut().add_cert(AUTHORITY.certificate.clone()).unwrap();
        builder.build()
    });
    CONNECTOR.connect("localhost", socket).unwrap()
}
