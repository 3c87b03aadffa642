//! What an ACME server is shown, and that nobody else is.

use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use tls::acme::{ProofError, key_authorization, renewal_id, show_certificate, show_token};
use tls::{ClientAuth, HandshakeError, HostSpec, ServerTls, SlotWriter, WithoutSni, provider};
use tokio::io::{AsyncReadExt, duplex};
use tokio_rustls::TlsConnector;
use x509_parser::oid_registry::asn1_rs::oid;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::authority::Authority;
use crate::handshake::{client, host, listener, mesh, shake, spec};

/// What both sides make of a connection whose client offers `protocols`.
struct Seen {
    server: &'static str,
    client: Result<Shown, String>,
}

#[derive(Debug)]
struct Shown {
    leaf: CertificateDer<'static>,
    protocol: Option<Vec<u8>>,
    /// Whatever came over the connection.
    said: Vec<u8>,
}

async fn look(
    tls: &ServerTls,
    version: &'static rustls::SupportedProtocolVersion,
    protocols: &[&[u8]],
    name: &str,
) -> Seen {
    let mut config = client(None, version);
    config.dangerous().set_certificate_verifier(Arc::new(AcmeServer));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        let refused = tls.accept(far, SystemTime::now()).await.map(|accepted| accepted.handshake);
        refused.map_or_else(|error| HandshakeError::code(&error), |_| "accepted")
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let ask = async {
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, near).await?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await?;
        let connection = stream.get_ref().1;
        let leaf = connection.peer_certificates().unwrap()[0].clone().into_owned();
        Ok(Shown { leaf, protocol: connection.alpn_protocol().map(<[u8]>::to_vec), said })
    };
    let (server, client) = tokio::join!(serve, ask);
    Seen { server, client: client.map_err(|error: std::io::Error| error.to_string()) }
}

/// Looks at the certificate itself, as an ACME server does: webpki knows no critical `acmeIdentifier`.
#[derive(Debug)]
struct AcmeServer;

impl ServerCertVerifier for AcmeServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, leaf) = X509Certificate::from_der(certificate).unwrap();
        let key = SubjectPublicKeyInfoDer::from(leaf.public_key().raw);
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A listener that has no certificate yet.
fn bare() -> ServerTls {
    let empty = SlotWriter::empty();
    ServerTls::new(&spec(HostSpec { certificates: vec![empty.reader()], client: ClientAuth::Off })).unwrap()
}

#[tokio::test]
async fn a_listener_without_any_certificate_shows_the_proof_and_says_nothing_more() {
    let _proof = show_certificate("Proof.test", &[7; 32]).unwrap();
    for version in [&TLS12, &TLS13] {
        let seen = look(&bare(), version, &[b"acme-tls/1"], "proof.test").await;
        assert_eq!(seen.server, "acme_validation");
        let Shown { leaf, protocol, said } = seen.client.unwrap();
        assert_eq!((protocol.as_deref(), said.as_slice()), (Some(b"acme-tls/1".as_slice()), [].as_slice()));
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        assert_eq!(
            leaf.subject_alternative_name().unwrap().unwrap().value.general_names,
            vec![GeneralName::DNSName("proof.test")]
        );
        let identifier = leaf.get_extension_unique(&oid!(1.3.6.1.5.5.7.1.31)).unwrap().unwrap();
        assert!(identifier.critical);
        assert_eq!(identifier.value, [[4, 32].as_slice(), &[7; 32]].concat());
        leaf.verify_signature(None).unwrap();
    }
}

#[tokio::test]
async fn neither_client_certificates_nor_names_that_are_required_stand_in_a_validations_way() {
    let ca = Authority::root("clients");
    let (_writer, trust) = mesh(&[&ca], &[]);
    let mut strict = spec(host(ClientAuth::Required(vec![trust])));
    strict.without_sni = WithoutSni::Refuse;
    let _proof = show_certificate("strict.test", &[1; 32]).unwrap();
    let seen = look(&ServerTls::new(&strict).unwrap(), &TLS13, &[b"acme-tls/1"], "strict.test").await;
    assert_eq!((seen.server, seen.client.is_ok()), ("acme_validation", true));
}

#[tokio::test]
async fn a_name_that_is_not_proven_or_no_more_is_refused_with_an_alert() {
    let other = show_certificate("other.test", &[1; 32]).unwrap();
    for listener in [bare(), listener(ClientAuth::Off)] {
        let seen = look(&listener, &TLS13, &[b"acme-tls/1"], "unproven.test").await;
        assert_eq!(seen.server, "protocol");
        assert!(seen.client.unwrap_err().contains("NoApplicationProtocol"));
        let nameless = look(&listener, &TLS13, &[b"acme-tls/1"], "127.0.0.1").await;
        assert_eq!(nameless.server, "protocol");
    }
    drop(other);
    let seen = look(&bare(), &TLS13, &[b"acme-tls/1"], "other.test").await;
    assert!(seen.client.unwrap_err().contains("NoApplicationProtocol"));
}

#[tokio::test]
async fn who_offers_anything_beside_the_validation_protocol_is_an_ordinary_client() {
    let _proof = show_certificate("both.test", &[1; 32]).unwrap();
    for protocols in
        [[b"acme-tls/1".as_slice(), b"h2"], [b"h2", b"acme-tls/1"], [b"acme-tls/1", b"acme-tls/1"]]
    {
        assert_eq!(look(&bare(), &TLS13, &protocols, "both.test").await.server, "no_credential");
    }
    let ordinary = look(&listener(ClientAuth::Off), &TLS13, &[b"acme-tls/1", b"h2"], "both.test").await;
    assert_eq!(ordinary.server, "accepted");
    assert_eq!(shake(&bare(), &client(None, &TLS13), "both.test").await.code(), "no_credential");
}

#[test]
fn one_order_proves_a_name_at_a_time_and_a_second_one_takes_nothing_from_it() {
    let first = show_certificate("twice.test", &[1; 32]).unwrap();
    let second = show_certificate("twice.test", &[2; 32]).unwrap_err();
    assert_eq!(second, ProofError::Taken("twice.test".to_owned()));
    drop(first);
    show_certificate("twice.test", &[2; 32]).map(drop).unwrap();
}

#[test]
fn a_token_is_answered_for_its_own_host_while_it_is_being_proven() {
    assert_eq!(key_authorization("token.test", "t0"), None);
    let proof = show_token("Token.test", "t0", "t0.thumb").unwrap();
    assert_eq!(key_authorization("token.test", "t0").as_deref(), Some("t0.thumb"));
    assert_eq!(key_authorization("other.test", "t0"), None);
    assert_eq!(key_authorization("token.test", "t1"), None);
    drop(proof);
    assert_eq!(key_authorization("token.test", "t0"), None);
}

#[test]
fn renewal_information_is_asked_by_the_issuers_key_id_and_the_serial_number_as_encoded() {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_identifier_method = KeyIdMethod::PreSpecified(vec![0xc0, 0xff, 0xee]);
    let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
    let mut leaf = CertificateParams::new(["gw.test".to_owned()]).unwrap();
    leaf.serial_number = Some(SerialNumber::from_slice(&[0xca, 0xfe]));
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let named = leaf.signed_by(&key, &issuer).unwrap().pem();
    assert_eq!(renewal_id(named.as_bytes()), Some((vec![0xc0, 0xff, 0xee], vec![0x00, 0xca, 0xfe])));
    leaf.use_authority_key_identifier_extension = false;
    let nameless = leaf.signed_by(&key, &issuer).unwrap().pem();
    assert_eq!(renewal_id(nameless.as_bytes()), None);
    assert_eq!(renewal_id(b"no certificate"), None);
}
