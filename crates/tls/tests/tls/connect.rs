//! Upstreams prove who they are, by name or by SPIFFE id, under the trust of now.

use std::sync::Arc;
use std::time::SystemTime;

use identity::SpiffeId;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tls::{
    Alpn, ClientSpec, ClientTls, Expect, HandshakeError, PeerError, SlotWriter, SpecError, StaleCrl, Trusts,
    UpstreamTrust, Version, provider,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, Issued, Leaf, year};
use crate::handshake::{credential, mesh, slot, trust_named};

fn spec(trust: &Trusts) -> ClientSpec {
    ClientSpec {
        server_name: "orders.lab.test".to_owned(),
        expect: None,
        trust: UpstreamTrust::Trusts(vec![trust.clone()]),
        present: None,
        min_version: Version::Tls12,
        alpn: vec![Alpn::Http1],
    }
}

/// An upstream that shows `issued` and asks for a certificate by `clients`, if given.
fn upstream(issued: &Issued, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(ca.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    Arc::new(builder.with_single_cert(issued.ders.clone(), issued.key_der.clone_key()).unwrap())
}

/// Whether the session was resumed, and how many certificates the server saw.
async fn reach(
    tls: &ClientTls,
    upstream: &Arc<ServerConfig>,
    now: SystemTime,
) -> Result<(bool, usize), HandshakeError> {
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::clone(upstream)).accept(far).await.ok()?;
        let seen = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
        stream.write_all(b"x").await.ok()?;
        stream.shutdown().await.ok()?;
        Some(seen)
    };
    let ask = async {
        let mut stream = tls.connect(near, now).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        stream.read_u8().await.map_err(HandshakeError::from)?;
        Ok(resumed)
    };
    let (seen, asked) = tokio::join!(serve, ask);
    asked.map(|resumed| (resumed, seen.unwrap_or(0)))
}

async fn code(tls: &ClientTls, upstream: &Arc<ServerConfig>) -> &'static str {
    reach(tls, upstream, SystemTime::now()).await.err().map_or("connected", |error| error.code())
}

#[tokio::test]
async fn an_upstream_is_verified_by_its_name() {
    let (ca, stranger) = (Authority::root("servers"), Authority::root("strangers"));
    let (_writer, trust) = mesh(&[&ca], &[]);
    let tls = ClientTls::new(&spec(&trust)).unwrap();
    let of = |ca: &Authority, names: &[&str]| upstream(&ca.issue(&Leaf::server(names)), None);
    assert_eq!(code(&tls, &of(&ca, &["orders.lab.test"])).await, "connected");
    assert_eq!(code(&tls, &of(&ca, &["*.lab.test"])).await, "connected");
    assert_eq!(code(&tls, &of(&ca, &["billing.lab.test"])).await, "wrong_name");
    assert_eq!(code(&tls, &of(&ca, &[])).await, "wrong_name");
    assert_eq!(code(&tls, &of(&stranger, &["orders.lab.test"])).await, "untrusted");
}

#[tokio::test]
async fn the_expected_name_counts_where_it_is_not_the_sent_one() {
    let ca = Authority::root("servers");
    let (_writer, trust) = mesh(&[&ca], &[]);
    let expect = Some(Expect::Name("billing.lab.test".to_owned()));
    let tls = ClientTls::new(&ClientSpec { expect, ..spec(&trust) }).unwrap();
    assert_eq!(
        code(&tls, &upstream(&ca.issue(&Leaf::server(&["billing.lab.test"])), None)).await,
        "connected"
    );
    assert_eq!(
        code(&tls, &upstream(&ca.issue(&Leaf::server(&["orders.lab.test"])), None)).await,
        "wrong_name"
    );
}

#[tokio::test]
async fn an_upstream_is_verified_by_its_spiffe_id_whatever_its_dns_names() {
    let ca = Authority::root("servers");
    let (_writer, trust) = mesh(&[&ca], &[]);
    let id = SpiffeId::parse("spiffe://lab.test/orders").unwrap();
    let tls = ClientTls::new(&ClientSpec { expect: Some(Expect::Spiffe(id)), ..spec(&trust) }).unwrap();
    let of = |id| upstream(&ca.issue(&Leaf::client(id)), None);
    assert_eq!(code(&tls, &of("spiffe://lab.test/orders")).await, "connected");
    assert_eq!(code(&tls, &of("spiffe://lab.test/billing")).await, "bad_certificate");
    assert_eq!(code(&tls, &of("spiffe://evil.test/orders")).await, "bad_certificate");
}

#[tokio::test]
async fn a_revoked_upstream_is_refused() {
    let ca = Authority::root("servers");
    let issued = ca.issue(&Leaf::server(&["orders.lab.test"]));
    let (_writer, trust) = mesh(&[&ca], &[ca.crl(&[issued.serial])]);
    assert_eq!(code(&ClientTls::new(&spec(&trust)).unwrap(), &upstream(&issued, None)).await, "revoked");
}

#[tokio::test]
async fn our_certificate_is_presented_and_its_renewal_or_loss_is_seen() {
    let (servers, clients) = (Authority::root("servers"), Authority::root("clients"));
    let upstream = upstream(&servers.issue(&Leaf::server(&["orders.lab.test"])), Some(&clients));
    let (_writer, trust) = mesh(&[&servers], &[]);
    assert_eq!(code(&ClientTls::new(&spec(&trust)).unwrap(), &upstream).await, "alert");
    let own = || credential(&clients.issue(&Leaf::client("spiffe://lab.test/gateway")));
    let (mut writer, present) = slot(own());
    let tls = ClientTls::new(&ClientSpec { present: Some(present), ..spec(&trust) }).unwrap();
    let before = tls.generation();
    assert_eq!(reach(&tls, &upstream, SystemTime::now()).await.unwrap(), (false, 1));
    assert_eq!(tls.generation(), before);
    writer.publish(Arc::new(own()));
    assert_ne!(tls.generation(), before);
    assert_eq!(reach(&tls, &upstream, SystemTime::now()).await.unwrap(), (false, 1));
    writer.withdraw();
    assert_eq!(code(&tls, &upstream).await, "no_credential");
}

#[tokio::test]
async fn a_change_of_trust_makes_a_new_generation_that_takes_no_old_session() {
    let (ca, other) = (Authority::root("servers"), Authority::root("others"));
    let upstream = upstream(&ca.issue(&Leaf::server(&["orders.lab.test"])), None);
    let (mut writer, trust) = mesh(&[&ca], &[]);
    let tls = ClientTls::new(&spec(&trust)).unwrap();
    let now = SystemTime::now();
    assert!(!reach(&tls, &upstream, now).await.unwrap().0);
    assert!(reach(&tls, &upstream, now).await.unwrap().0);
    let before = tls.generation();
    writer.publish(Arc::new(trust_named("mesh", &[&other], &[], StaleCrl::Reject)));
    assert_ne!(tls.generation(), before);
    assert_eq!(code(&tls, &upstream).await, "untrusted");
    writer.withdraw();
    assert_eq!(code(&tls, &upstream).await, "no_trust");
}

#[tokio::test]
async fn a_resumed_session_does_not_outlive_the_upstreams_certificate() {
    let ca = Authority::root("servers");
    let upstream = upstream(&ca.issue(&Leaf::server(&["orders.lab.test"]).valid(2020, 2060)), None);
    let (_writer, trust) = mesh(&[&ca], &[]);
    let tls = ClientTls::new(&spec(&trust)).unwrap();
    assert!(!reach(&tls, &upstream, year(2059)).await.unwrap().0);
    let error = reach(&tls, &upstream, year(2061)).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Peer(PeerError::Expired)), "{error}");
}

#[test]
fn a_specification_that_could_prove_nothing_is_refused() {
    let trust = SlotWriter::empty().reader();
    let refused = |spec: ClientSpec| ClientTls::new(&spec).unwrap_err();
    let no_trust = ClientSpec { trust: UpstreamTrust::Trusts(Vec::new()), ..spec(&trust) };
    assert_eq!(refused(no_trust), SpecError::NoTrust);
    let bad_name = ClientSpec { server_name: "a b".to_owned(), ..spec(&trust) };
    assert_eq!(refused(bad_name), SpecError::ServerName("a b".to_owned()));
    let id = SpiffeId::parse("spiffe://lab.test/orders").unwrap();
    let system =
        ClientSpec { trust: UpstreamTrust::System, expect: Some(Expect::Spiffe(id)), ..spec(&trust) };
    assert_eq!(refused(system), SpecError::SystemTrust);
}
