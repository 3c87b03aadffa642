//! What an upstream is shown.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName};
use tls::{Alpn, ClientSpec, ClientTls, UpstreamTrust, Version};

use super::{Rig, Scene};
use crate::upstream::{CredentialWriter, FieldCredential};

fn publish(writer: &mut CredentialWriter, name: HeaderName, value: &str) {
    writer.publish(FieldCredential::new(name, value).unwrap());
}

#[test]
fn every_request_carries_the_credential_and_nobody_elses() {
    let mut writer = CredentialWriter::empty();
    publish(&mut writer, HeaderName::from_static("x-api-key"), "ours");
    let rig = Rig::start(&Scene { credential: Some(writer.reader()), ..Scene::default() });
    let sent = rig
        .sent("X-Api-Key: theirs\r\nx_api_key: theirs\r\nx.api.key: theirs\r\nAuthorization: Bearer t\r\n");
    assert_eq!(sent.field("x-api-key"), Some("ours"));
    assert!(!sent.head.contains("theirs") && sent.field("authorization").is_none(), "{}", sent.head);

    let mut writer = CredentialWriter::empty();
    publish(&mut writer, AUTHORIZATION, "Basic b3Vyczo=");
    let rig = Rig::start(&Scene { credential: Some(writer.reader()), ..Scene::default() });
    let sent = rig.sent("authorization: Basic dGhlaXJzOg==\r\n");
    assert_eq!(sent.head.to_lowercase().matches("authorization").count(), 1, "{}", sent.head);
    assert_eq!(sent.field("authorization"), Some("Basic b3Vyczo="));
}

#[test]
fn without_the_credential_the_upstream_is_not_asked() {
    let mut writer = CredentialWriter::empty();
    let rig = Rig::start(&Scene { credential: Some(writer.reader()), ..Scene::default() });
    let answer = rig.ask("");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains("UPSTREAM_CREDENTIAL_UNAVAILABLE") && answer.contains("retry-after: 1"),
        "{answer}"
    );
    publish(&mut writer, AUTHORIZATION, "Bearer one");
    assert_eq!(rig.sent("").field("authorization"), Some("Bearer one"), "it heals by itself");
}

#[test]
fn a_certificate_or_trust_that_has_not_come_yet_is_our_lack_and_not_the_upstreams() {
    let certificate = tls::SlotWriter::<tls::Credential>::empty();
    let trust = tls::SlotWriter::<tls::Trust>::empty();
    let spec = |trust, present| ClientSpec {
        server_name: "upstream.test".to_owned(),
        expect: None,
        trust,
        present,
        min_version: Version::Tls12,
        alpn: vec![Alpn::Http1],
    };
    for spec in [
        spec(UpstreamTrust::System, Some(certificate.reader())),
        spec(UpstreamTrust::Trusts(vec![trust.reader()]), None),
    ] {
        let tls = Some(Arc::new(ClientTls::new(&spec).unwrap()));
        let rig = Rig::start(&Scene { tls, ..Scene::default() });
        let answer = rig.ask("");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("UPSTREAM_CREDENTIAL_UNAVAILABLE"), "{answer}");
    }
}

#[test]
fn a_swap_is_used_at_once_on_a_new_connection_while_what_is_in_flight_ends_with_the_former() {
    let mut writer = CredentialWriter::empty();
    publish(&mut writer, AUTHORIZATION, "Bearer one");
    let rig = Rig::start(&Scene { credential: Some(writer.reader()), ..Scene::default() });
    let first = rig.sent("");
    assert_eq!(rig.sent("").connection, first.connection, "pooled");

    let mut slow = TcpStream::connect(rig.address).unwrap();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(rig.upstream.next().field("authorization"), Some("Bearer one"));
    publish(&mut writer, AUTHORIZATION, "Bearer two");
    let after = rig.sent("");
    assert_eq!(after.field("authorization"), Some("Bearer two"));
    assert_ne!(after.connection, first.connection, "not a connection of before");
    assert!(writer.is_former_in_use(), "an answer is still on its way");

    rig.upstream.go_on.send(()).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello\n"), "{answer}");
    super::eventually(|| !writer.is_former_in_use());
}
