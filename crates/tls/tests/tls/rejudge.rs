//! A connection is judged by the trust and the policy of now, not of when it began.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::version::{TLS12, TLS13};
use tls::{ClientAuth, Handshake, PeerError, ServerTls, StaleCrl, Version, WithoutSni};

use crate::authority::{Authority, Issued, Leaf, year};
use crate::handshake::{client, host, listener, mesh, shake, slot, spec, trust_named};

const ALICE: &str = "spiffe://lab.test/alice";

async fn connected(tls: &ServerTls, certificate: Option<&Issued>) -> Handshake {
    shake(tls, &client(certificate, &TLS13), "gw.test").await.handshake()
}

#[tokio::test]
async fn an_unchanged_connection_passes_until_its_certificate_ends() {
    let ca = Authority::root("clients");
    let alice = ca.issue(&Leaf::client(ALICE).valid(2020, 2060));
    let (_writer, trust) = mesh(&[&ca], &[]);
    let tls = listener(ClientAuth::Required(vec![trust]));
    let handshake = connected(&tls, Some(&alice)).await;
    assert_eq!(tls.rejudge(&handshake, SystemTime::now()), Ok(()));
    assert_eq!(tls.rejudge(&handshake, year(2059)), Ok(()));
    assert_eq!(tls.rejudge(&handshake, year(2061)), Err(PeerError::Expired));
    let ends = handshake.proof_ends().unwrap();
    assert!(year(2059) < ends && ends < year(2061));
}

#[tokio::test]
async fn a_removed_authority_a_revocation_and_withdrawn_trust_end_a_connection() {
    let (ca, other) = (Authority::root("clients"), Authority::root("others"));
    let alice = ca.issue(&Leaf::client(ALICE));
    let (mut writer, trust) = mesh(&[&ca, &other], &[]);
    let tls = listener(ClientAuth::Optional(vec![trust]));
    let (handshake, unproven) = (connected(&tls, Some(&alice)).await, connected(&tls, None).await);
    let now = SystemTime::now();
    let publish = |writer: &mut tls::SlotWriter<_>, ca: &[&Authority], crl: &[Vec<u8>]| {
        writer.publish(Arc::new(trust_named("mesh", ca, crl, StaleCrl::Reject)));
    };
    publish(&mut writer, &[&ca], &[ca.crl(&[])]);
    assert_eq!(tls.rejudge(&handshake, now), Ok(()));
    publish(&mut writer, &[&ca], &[ca.crl(&[alice.serial])]);
    assert_eq!(tls.rejudge(&handshake, now), Err(PeerError::Revoked));
    assert_eq!(tls.rejudge(&handshake, now), Err(PeerError::Revoked));
    publish(&mut writer, &[&other], &[]);
    assert_eq!(tls.rejudge(&handshake, now), Err(PeerError::Untrusted));
    assert_eq!(tls.rejudge(&unproven, now), Ok(()));
    publish(&mut writer, &[&ca], &[]);
    assert_eq!(tls.rejudge(&handshake, now), Ok(()));
    writer.withdraw();
    assert_eq!(tls.rejudge(&handshake, now), Err(PeerError::NoTrust));
    assert_eq!(tls.rejudge(&unproven, now), Err(PeerError::NoTrust));
}

#[tokio::test]
async fn a_crl_that_turns_stale_ends_a_connection_where_stale_is_refused() {
    let ca = Authority::root("clients");
    let alice = ca.issue(&Leaf::client(ALICE));
    for (when_stale, expected) in [(StaleCrl::Reject, Err(PeerError::StaleCrl)), (StaleCrl::Accept, Ok(()))] {
        let crl = ca.crl_with(&[], 2060, None);
        let (_writer, trust) = slot(trust_named("mesh", &[&ca], &[crl], when_stale));
        let tls = listener(ClientAuth::Required(vec![trust]));
        let handshake = connected(&tls, Some(&alice)).await;
        assert_eq!(tls.rejudge(&handshake, year(2059)), Ok(()));
        assert_eq!(tls.rejudge(&handshake, year(2061)), expected);
    }
}

#[tokio::test]
async fn a_reload_judges_old_connections_by_the_new_rules() {
    let ca = Authority::root("clients");
    let (alice, now) = (ca.issue(&Leaf::client(ALICE)), SystemTime::now());
    let (_writer, trust) = mesh(&[&ca], &[]);
    let (_other_writer, other) = slot(trust_named("other", &[&ca], &[], StaleCrl::Reject));
    let optional = listener(ClientAuth::Optional(vec![trust.clone()]));
    let (proven, unproven) = (connected(&optional, Some(&alice)).await, connected(&optional, None).await);

    let required = listener(ClientAuth::Required(vec![trust.clone()]));
    assert_eq!(required.rejudge(&proven, now), Ok(()));
    assert_eq!(required.rejudge(&unproven, now), Err(PeerError::NoCertificate));
    let off = listener(ClientAuth::Off);
    assert_eq!(off.rejudge(&proven, now), Err(PeerError::NoTrust));
    assert_eq!(off.rejudge(&unproven, now), Ok(()));
    let renamed = listener(ClientAuth::Required(vec![other]));
    assert_eq!(renamed.rejudge(&proven, now), Err(PeerError::Changed));

    let mut by_name = spec(host(ClientAuth::Off));
    by_name.hosts.push(("gw.test".to_owned(), host(ClientAuth::Required(vec![trust]))));
    let by_name = ServerTls::new(&by_name).unwrap();
    assert_eq!(by_name.rejudge(&unproven, now), Err(PeerError::NoCertificate));
    assert_eq!(by_name.policy_of(&unproven), by_name.policy_for_host("gw.test"));
}

#[tokio::test]
async fn a_reload_that_raises_the_minimum_or_wants_a_name_ends_what_lacks_it() {
    let mut spec = spec(host(ClientAuth::Off));
    let tls = ServerTls::new(&spec).unwrap();
    let old = shake(&tls, &client(None, &TLS12), "gw.test").await.handshake();
    let nameless = shake(&tls, &client(None, &TLS13), "127.0.0.1").await.handshake();
    (spec.min_version, spec.without_sni) = (Version::Tls13, WithoutSni::Refuse);
    let stricter = ServerTls::new(&spec).unwrap();
    let now = SystemTime::now();
    assert_eq!(stricter.rejudge(&old, now), Err(PeerError::OldVersion));
    assert_eq!(stricter.rejudge(&nameless, now), Err(PeerError::NoServerName));
}

#[tokio::test]
async fn a_connection_serves_hosts_of_the_same_client_rule_only() {
    let (_a, mesh_trust) = mesh(&[&Authority::root("clients")], &[]);
    let (_b, other_trust) = mesh(&[&Authority::root("others")], &[]);
    let optional = |trust: &tls::Trusts| host(ClientAuth::Optional(vec![trust.clone()]));
    let mut spec = spec(optional(&mesh_trust));
    spec.hosts.push(("same.test".to_owned(), optional(&mesh_trust)));
    spec.hosts.push(("other.test".to_owned(), optional(&other_trust)));
    spec.hosts.push(("*.strict.test".to_owned(), host(ClientAuth::Required(vec![mesh_trust.clone()]))));
    spec.hosts.push(("open.test".to_owned(), host(ClientAuth::Off)));
    let tls = ServerTls::new(&spec).unwrap();
    let handshake = connected(&tls, None).await;
    for (host, served) in [
        ("gw.test", true),
        ("unknown.test", true),
        ("same.test", true),
        ("other.test", false),
        ("a.strict.test", false),
        ("A.Strict.Test.", false),
        ("open.test", false),
    ] {
        assert_eq!(tls.serves(&handshake, host), served, "{host}");
    }
}
