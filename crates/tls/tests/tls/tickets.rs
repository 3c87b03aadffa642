//! Promise 4: a ticket is no way around a change of trust.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use tls::{ClientAuth, PeerError, ServerTls, StaleCrl};

use crate::authority::{Authority, Leaf, year};
use crate::handshake::{client, host, listener, mesh, shake, shake_at, spec, trust_named};

const ALICE: &str = "spiffe://lab.test/alice";
const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[tokio::test]
async fn a_ticket_resumes_with_its_client_while_nothing_has_changed() {
    let ca = Authority::root("clients");
    let (alice, (_writer, trust)) = (ca.issue(&Leaf::client(ALICE)), mesh(&[&ca], &[]));
    for version in VERSIONS {
        let (tls, config) =
            (listener(ClientAuth::Required(vec![trust.clone()])), client(Some(&alice), version));
        assert!(!shake(&tls, &config, "gw.test").await.handshake().resumed);
        let again = shake(&tls, &config, "gw.test").await.handshake();
        assert!(again.resumed, "{:?}", version.version);
        assert_eq!(again.peer.unwrap().certificate.principal.id.to_string(), ALICE);
    }
}

#[tokio::test]
async fn a_ticket_from_before_its_authority_was_removed_does_not_authenticate() {
    let (ca, other) = (Authority::root("clients"), Authority::root("others"));
    let alice = ca.issue(&Leaf::client(ALICE));
    for version in VERSIONS {
        let (mut writer, trust) = mesh(&[&ca, &other], &[]);
        let (tls, config) = (listener(ClientAuth::Optional(vec![trust])), client(Some(&alice), version));
        shake(&tls, &config, "gw.test").await.handshake();
        writer.publish(Arc::new(trust_named("mesh", &[&other], &[], StaleCrl::Reject)));
        assert_eq!(shake(&tls, &config, "gw.test").await.code(), "untrusted");
    }
}

#[tokio::test]
async fn a_new_generation_of_trust_takes_no_older_ticket_even_if_nothing_in_it_differs() {
    let ca = Authority::root("clients");
    let alice = ca.issue(&Leaf::client(ALICE));
    for version in VERSIONS {
        let (mut writer, trust) = mesh(&[&ca], &[]);
        let (tls, config) = (listener(ClientAuth::Required(vec![trust])), client(Some(&alice), version));
        shake(&tls, &config, "gw.test").await.handshake();
        writer.publish(Arc::new(trust_named("mesh", &[&ca], &[], StaleCrl::Reject)));
        assert!(!shake(&tls, &config, "gw.test").await.handshake().resumed);
        assert!(shake(&tls, &config, "gw.test").await.handshake().resumed);
    }
}

#[tokio::test]
async fn a_ticket_from_before_its_certificate_was_revoked_does_not_authenticate() {
    let ca = Authority::root("clients");
    let alice = ca.issue(&Leaf::client(ALICE));
    for version in VERSIONS {
        let (mut writer, trust) = mesh(&[&ca], &[ca.crl(&[])]);
        let (tls, config) = (listener(ClientAuth::Required(vec![trust])), client(Some(&alice), version));
        shake(&tls, &config, "gw.test").await.handshake();
        let revoking = trust_named("mesh", &[&ca], &[ca.crl(&[alice.serial])], StaleCrl::Reject);
        writer.publish(Arc::new(revoking));
        assert_eq!(shake(&tls, &config, "gw.test").await.code(), "revoked");
    }
}

#[tokio::test]
async fn a_ticket_from_before_mtls_was_required_does_not_get_in() {
    let (_writer, trust) = mesh(&[&Authority::root("clients")], &[]);
    for version in VERSIONS {
        let config = client(None, version);
        shake(&listener(ClientAuth::Off), &config, "gw.test").await.handshake();
        let now_required = listener(ClientAuth::Required(vec![trust.clone()]));
        assert_eq!(shake(&now_required, &config, "gw.test").await.code(), "no_certificate");
    }
}

#[tokio::test]
async fn a_ticket_of_another_listener_is_not_taken() {
    let ca = Authority::root("clients");
    let (alice, (_writer, trust)) = (ca.issue(&Leaf::client(ALICE)), mesh(&[&ca], &[]));
    for version in VERSIONS {
        let config = client(Some(&alice), version);
        let rule = || ClientAuth::Required(vec![trust.clone()]);
        shake(&listener(rule()), &config, "gw.test").await.handshake();
        assert!(!shake(&listener(rule()), &config, "gw.test").await.handshake().resumed);
    }
}

#[tokio::test]
async fn a_ticket_of_a_public_name_is_not_taken_for_a_guarded_one() {
    let (_writer, trust) = mesh(&[&Authority::root("clients")], &[]);
    let mut spec = spec(host(ClientAuth::Off));
    spec.hosts.push(("admin.test".to_owned(), host(ClientAuth::Required(vec![trust]))));
    spec.hosts.push(("public.test".to_owned(), host(ClientAuth::Off)));
    for version in VERSIONS {
        let (tls, config) = (ServerTls::new(&spec).unwrap(), client(None, version));
        shake(&tls, &config, "gw.test").await.handshake();
        assert_eq!(shake(&tls, &config, "admin.test").await.code(), "no_certificate");
        shake(&tls, &config, "gw.test").await.handshake();
        assert!(!shake(&tls, &config, "public.test").await.handshake().resumed);
    }
}

#[tokio::test]
async fn a_resumed_session_does_not_outlive_its_certificate() {
    let ca = Authority::root("clients");
    let alice = ca.issue(&Leaf::client(ALICE).valid(2020, 2060));
    for version in VERSIONS {
        let (_writer, trust) = mesh(&[&ca], &[]);
        let (tls, config) = (listener(ClientAuth::Required(vec![trust])), client(Some(&alice), version));
        shake(&tls, &config, "gw.test").await.handshake();
        let late = shake_at(&tls, &config, "gw.test", year(2061)).await;
        let error = late.server.unwrap_err();
        assert!(matches!(error, tls::HandshakeError::Peer(PeerError::Expired)), "{error}");
    }
}
