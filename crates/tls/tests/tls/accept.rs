//! Who gets in, under which policy, and which certificate they see.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use tls::{
    Alpn, ClientAuth, HostSpec, ServerTls, SlotWriter, SpecError, StaleCrl, Version, WithoutSni, provider,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::authority::{Authority, Leaf};
use crate::handshake::{
    client, client_with, credential, host, listener, mesh, shake, shake_in_pieces, shown_for, slot, spec,
    trust_named,
};

const ALICE: &str = "spiffe://lab.test/alice";

#[tokio::test]
async fn the_certificate_is_chosen_by_exact_name_then_wildcard_then_the_first() {
    let (first, first_der) = shown_for(&["first.test"]);
    let (wild, wild_der) = shown_for(&["*.gw.test"]);
    let (exact, exact_der) = shown_for(&["other.test", "a.gw.test"]);
    let certificates = vec![first, wild, exact];
    let tls = ServerTls::new(&spec(HostSpec { certificates, client: ClientAuth::Off })).unwrap();
    for (name, expected) in [
        ("a.gw.test", &exact_der),
        ("A.gw.TEST", &exact_der),
        ("b.gw.test", &wild_der),
        ("c.b.gw.test", &first_der),
        ("nobody.test", &first_der),
        ("127.0.0.1", &first_der),
    ] {
        let outcome = shake(&tls, &client(None, &TLS13), name).await;
        assert_eq!(outcome.shown.as_ref(), Some(expected), "{name}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_handshake_and_a_withdrawn_one_to_nobody() {
    let servers = Authority::root("servers");
    let (old, new) = (servers.issue(&Leaf::server(&["gw.test"])), servers.issue(&Leaf::server(&["gw.test"])));
    let (mut writer, reader) = slot(credential(&old));
    let tls =
        ServerTls::new(&spec(HostSpec { certificates: vec![reader], client: ClientAuth::Off })).unwrap();
    assert_eq!(shake(&tls, &client(None, &TLS13), "gw.test").await.shown, Some(old.ders[0].clone()));
    writer.publish(Arc::new(credential(&new)));
    assert_eq!(shake(&tls, &client(None, &TLS13), "gw.test").await.shown, Some(new.ders[0].clone()));
    writer.withdraw();
    assert_eq!(shake(&tls, &client(None, &TLS13), "gw.test").await.code(), "no_credential");
}

#[tokio::test]
async fn required_refuses_who_has_no_certificate_and_optional_lets_in_unproven() {
    let (ca, stranger) = (Authority::root("clients"), Authority::root("strangers"));
    let (alice, mallory) = (ca.issue(&Leaf::client(ALICE)), stranger.issue(&Leaf::client(ALICE)));
    let (_writer, trust) = mesh(&[&ca], &[]);
    let required = listener(ClientAuth::Required(vec![trust.clone()]));
    let optional = listener(ClientAuth::Optional(vec![trust.clone()]));
    let off = listener(ClientAuth::Off);
    for version in [&TLS12, &TLS13] {
        let proven = shake(&required, &client(Some(&alice), version), "gw.test").await.handshake();
        let peer = proven.peer.unwrap();
        assert_eq!(peer.certificate.principal.id.to_string(), ALICE);
        assert_eq!((&*peer.trust, peer.generation), ("mesh", trust.generation()));
        assert_eq!(shake(&required, &client(None, version), "gw.test").await.code(), "no_certificate");
        assert_eq!(shake(&required, &client(Some(&mallory), version), "gw.test").await.code(), "untrusted");
        assert!(shake(&optional, &client(Some(&alice), version), "gw.test").await.handshake().peer.is_some());
        assert!(shake(&optional, &client(None, version), "gw.test").await.handshake().peer.is_none());
        assert_eq!(shake(&optional, &client(Some(&mallory), version), "gw.test").await.code(), "untrusted");
        assert!(shake(&off, &client(Some(&alice), version), "gw.test").await.handshake().peer.is_none());
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_refused_also_where_none_is_required() {
    let ca = Authority::root("clients");
    let (_writer, trust) = mesh(&[&ca], &[]);
    let optional = listener(ClientAuth::Optional(vec![trust]));
    for id in ["https://lab.test/alice", "spiffe://evil.test/alice", "spiffe://lab.test"] {
        let nobody = ca.issue(&Leaf::client(id));
        assert_eq!(
            shake(&optional, &client(Some(&nobody), &TLS13), "gw.test").await.code(),
            "bad_certificate",
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let ca = Authority::root("clients");
    let (_writer, trust) = mesh(&[&ca], &[]);
    let required = listener(ClientAuth::Required(vec![trust]));
    let (alice, mallory) = (ca.issue(&Leaf::client(ALICE)), ca.issue(&Leaf::client(ALICE)));
    let stolen = CertifiedKey::new(
        alice.ders,
        provider().key_provider.load_private_key(mallory.key_der.clone_key()).unwrap(),
    );
    for version in [&TLS12, &TLS13] {
        let mut config = client(None, version);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(stolen.clone()));
        assert_eq!(shake(&required, &config, "gw.test").await.code(), "bad_certificate");
    }
}

#[tokio::test]
async fn of_several_trust_entries_the_one_that_fits_names_the_client() {
    let (one, two) = (Authority::root("one"), Authority::root("two"));
    let trusts: Vec<_> = [("one", &one), ("two", &two)]
        .map(|(name, ca)| slot(trust_named(name, &[ca], &[], StaleCrl::Reject)).1)
        .into();
    let tls = listener(ClientAuth::Required(trusts));
    for (ca, name) in [(&one, "one"), (&two, "two")] {
        let alice = ca.issue(&Leaf::client(ALICE));
        let handshake = shake(&tls, &client(Some(&alice), &TLS13), "gw.test").await.handshake();
        assert_eq!(&*handshake.peer.unwrap().trust, name);
    }
}

#[tokio::test]
async fn a_policy_whose_trust_is_empty_refuses_everybody() {
    let (mut writer, trust) = mesh(&[&Authority::root("clients")], &[]);
    let empty = SlotWriter::empty().reader();
    for tls in
        [listener(ClientAuth::Optional(vec![empty.clone()])), listener(ClientAuth::Required(vec![empty]))]
    {
        assert_eq!(shake(&tls, &client(None, &TLS13), "gw.test").await.code(), "no_trust");
    }
    let withdrawn = listener(ClientAuth::Optional(vec![trust]));
    assert_eq!(shake(&withdrawn, &client(None, &TLS13), "gw.test").await.code(), "accepted");
    writer.withdraw();
    assert_eq!(shake(&withdrawn, &client(None, &TLS13), "gw.test").await.code(), "no_trust");
}

#[tokio::test]
async fn the_policy_of_a_name_holds_in_every_spelling_and_framing_of_it() {
    let (_writer, trust) = mesh(&[&Authority::root("clients")], &[]);
    let mut spec = spec(host(ClientAuth::Off));
    for pattern in ["admin.gw.test", "*.inner.gw.test"] {
        spec.hosts.push((pattern.to_owned(), host(ClientAuth::Required(vec![trust.clone()]))));
    }
    let tls = ServerTls::new(&spec).unwrap();
    for (name, code) in [
        ("gw.test", "accepted"),
        ("admin.gw.test", "no_certificate"),
        ("ADMIN.gw.Test", "no_certificate"),
        ("admin.gw.test.", "no_certificate"),
        ("a.inner.gw.test", "no_certificate"),
        ("127.0.0.1", "accepted"),
    ] {
        for piece in [1, 5, 64, usize::MAX] {
            let outcome = shake_in_pieces(&tls, &client(None, &TLS13), name, SystemTime::now(), piece).await;
            assert_eq!(outcome.code(), code, "{name} in pieces of {piece}");
        }
    }
}

#[tokio::test]
async fn who_sends_no_name_gets_the_default_or_an_alert() {
    let mut spec = spec(host(ClientAuth::Off));
    let tls = ServerTls::new(&spec).unwrap();
    assert!(shake(&tls, &client(None, &TLS13), "127.0.0.1").await.handshake().sni.is_none());
    spec.without_sni = WithoutSni::Refuse;
    let tls = ServerTls::new(&spec).unwrap();
    assert_eq!(shake(&tls, &client(None, &TLS13), "127.0.0.1").await.code(), "unknown_sni");
    assert_eq!(shake(&tls, &client(None, &TLS13), "gw.test").await.code(), "accepted");
}

#[tokio::test]
async fn a_handshake_says_what_was_agreed() {
    let tls = listener(ClientAuth::Off);
    let mut config = client(None, &TLS13);
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let handshake = shake(&tls, &config, "GW.test").await.handshake();
    assert_eq!(handshake.sni.as_deref(), Some("gw.test"));
    assert_eq!((handshake.alpn, handshake.version.as_str()), (Alpn::Http2, "1.3"));
    assert!(handshake.cipher.starts_with("TLS13_"), "{}", handshake.cipher);
    assert!(!handshake.resumed);
    let group = if cfg!(feature = "aws-lc-rs") { "X25519MLKEM768" } else { "X25519" };
    assert_eq!(handshake.key_exchange, group);
    assert_eq!(shake(&tls, &client(None, &TLS12), "gw.test").await.handshake().alpn, Alpn::None);
}

#[tokio::test]
async fn the_gateway_chooses_the_cipher_suite_whatever_the_client_prefers() {
    let tls = listener(ClientAuth::Off);
    let mut backwards = (*provider()).clone();
    backwards.cipher_suites.reverse();
    for version in [&TLS12, &TLS13] {
        let first = shake(&tls, &client(None, version), "gw.test").await.handshake().cipher;
        let last = client_with(Arc::new(backwards.clone()), None, version);
        assert_eq!(shake(&tls, &last, "gw.test").await.handshake().cipher, first);
    }
}

#[tokio::test]
async fn no_common_protocol_or_version_is_refused() {
    let mut spec = spec(host(ClientAuth::Off));
    spec.min_version = Version::Tls13;
    let tls = ServerTls::new(&spec).unwrap();
    assert_eq!(shake(&tls, &client(None, &TLS12), "gw.test").await.code(), "protocol");
    let mut config = client(None, &TLS13);
    config.alpn_protocols = vec![b"foo".to_vec()];
    assert_eq!(shake(&tls, &config, "gw.test").await.code(), "protocol");
}

#[tokio::test]
async fn what_is_no_client_hello_gets_an_alert() {
    let tls = listener(ClientAuth::Off);
    for (bytes, code) in [(&b"GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n"[..], "protocol"), (b"", "io")] {
        let (mut near, far) = duplex(1024);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(tls.accept(far, SystemTime::now()).await.unwrap_err().code(), code);
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.first().copied(), (code == "protocol").then_some(21));
    }
}

#[tokio::test]
async fn a_flood_of_key_updates_ends_the_connection() {
    let tls = listener(ClientAuth::Off);
    let (near, far) = duplex(1 << 20);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client(None, &TLS13)));
    let name = rustls_pki_types::ServerName::try_from("gw.test").unwrap();
    let (accepted, asked) = tokio::join!(tls.accept(far, SystemTime::now()), connector.connect(name, near));
    let (mut server, mut flood) = (accepted.unwrap().stream, asked.unwrap());
    for _ in 0..1000 {
        flood.get_mut().1.refresh_traffic_keys().unwrap();
    }
    flood.flush().await.unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("TooManyKeyUpdateRequests"), "{error}");
}

#[test]
fn a_specification_without_certificate_trust_or_with_a_bad_name_is_refused() {
    let nothing = HostSpec { certificates: Vec::new(), client: ClientAuth::Off };
    assert_eq!(ServerTls::new(&spec(nothing)).unwrap_err(), SpecError::NoCertificate);
    let untrusting = host(ClientAuth::Required(Vec::new()));
    assert_eq!(ServerTls::new(&spec(untrusting)).unwrap_err(), SpecError::NoTrust);
    let mut bad = spec(host(ClientAuth::Off));
    bad.hosts.push(("a b".to_owned(), host(ClientAuth::Off)));
    assert_eq!(ServerTls::new(&bad).unwrap_err(), SpecError::Host("a b".to_owned()));
}
