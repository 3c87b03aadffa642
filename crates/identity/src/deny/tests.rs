use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::Principal;

const ISSUER: &str = "https://id.example.com";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn list(entries: &[(Denied, Option<u64>)]) -> DenyList {
    let entries: Vec<DenyEntry> = entries
        .iter()
        .map(|(denied, until)| DenyEntry::new(denied.clone(), until.map(at), Some("a test")).unwrap())
        .collect();
    DenyList::new(&entries)
}

fn certificate(serial: &str) -> PeerCertificate {
    PeerCertificate {
        principal: Arc::new(Principal::anonymous()),
        serial: serial.to_owned(),
        not_before: at(0),
        not_after: at(10),
        fingerprint_sha256: [0; 32],
        subject: "CN=web".to_owned(),
        issuer: "CN=mesh root".to_owned(),
        uri: None,
        dns: Vec::new(),
    }
}

#[test]
fn a_principal_is_denied_under_the_id_that_it_has_in_logs_and_under_no_other() {
    let id = PrincipalId::new(PrincipalKind::Jwt, ISSUER, "alice#b");
    let denied = Denied::principal(&id.to_string()).unwrap();
    let list = list(&[(denied, None)]);
    assert!(list.denies_principal(&id, at(1)));
    for other in [
        PrincipalId::new(PrincipalKind::Jwt, ISSUER, "alice"),
        PrincipalId::new(PrincipalKind::Jwt, "https://other", "alice#b"),
        PrincipalId::new(PrincipalKind::Dns, ISSUER, "alice#b"),
    ] {
        assert!(!list.denies_principal(&other, at(1)), "{other}");
    }
}

#[test]
fn a_spiffe_id_is_denied_in_a_certificate_and_as_the_subject_of_a_token() {
    let list = list(&[(Denied::spiffe("spiffe://example.org/web").unwrap(), None)]);
    let of = |kind, authority, subject| PrincipalId::new(kind, authority, subject);
    assert!(list.denies_principal(&of(PrincipalKind::Spiffe, "example.org", "/web"), at(1)));
    assert!(list.denies_principal(&of(PrincipalKind::Jwt, ISSUER, "spiffe://example.org/web"), at(1)));
    assert!(!list.denies_principal(&of(PrincipalKind::Spiffe, "example.org", "/web/x"), at(1)));
    assert!(!list.denies_principal(&of(PrincipalKind::Subject, ISSUER, "spiffe://example.org/web"), at(1)));
}

#[test]
fn a_token_is_denied_for_its_issuer_or_for_all() {
    let list = list(&[
        (Denied::token("one", Some(ISSUER)).unwrap(), None),
        (Denied::token("two", None).unwrap(), None),
    ]);
    assert!(list.denies_token("one", ISSUER, at(1)) && !list.denies_token("one", "https://other", at(1)));
    assert!(list.denies_token("two", ISSUER, at(1)) && list.denies_token("two", "https://other", at(1)));
    assert!(!list.denies_token("three", ISSUER, at(1)));
}

#[test]
fn a_serial_number_counts_for_its_issuer_alone_however_it_is_spelled() {
    for spelling in ["0a:0B:0c", "A0B0C", "0a 0b 0c"] {
        let under = Denied::certificate(spelling, Issued::Under("mesh".to_owned())).unwrap();
        let by = Denied::certificate(spelling, Issued::By("CN=mesh root".to_owned())).unwrap();
        assert!(list(&[(under.clone(), None)]).denies_certificate(&certificate("0A0B0C"), "mesh", at(1)));
        assert!(!list(&[(under.clone(), None)]).denies_certificate(&certificate("0A0B0C"), "edge", at(1)));
        assert!(!list(&[(under, None)]).denies_certificate(&certificate("0A0B0D"), "mesh", at(1)));
        assert!(list(&[(by, None)]).denies_certificate(&certificate("0A0B0C"), "any", at(1)));
    }
    let other = Denied::certificate("0a0b0c", Issued::By("CN=other root".to_owned())).unwrap();
    assert!(!list(&[(other, None)]).denies_certificate(&certificate("0A0B0C"), "mesh", at(1)));
}

#[test]
fn an_entry_counts_until_its_end_and_of_two_the_longer_one() {
    let denied = Denied::token("one", None).unwrap();
    let ends = list(&[(denied, Some(10))]);
    assert!(ends.denies_token("one", ISSUER, at(9)) && !ends.denies_token("one", ISSUER, at(10)));
    let alice = Denied::principal("jwt:i#alice").unwrap();
    let id = PrincipalId::new(PrincipalKind::Jwt, "i", "alice");
    for ends in [[Some(5), Some(10)], [Some(10), Some(5)], [Some(5), None], [None, Some(5)]] {
        let list = list(&ends.map(|until| (alice.clone(), until)));
        assert!(list.denies_principal(&id, at(9)), "{ends:?}");
    }
}

#[test]
fn what_names_nothing_is_refused() {
    for text in [
        "",
        "anonymous",
        "alice",
        "jwt:alice",
        "jwt:#alice",
        "jwt:i#",
        "saml:i#alice",
        "spiffe://Example.org/a",
    ] {
        assert!(Denied::principal(text).is_err(), "{text}");
    }
    for serial in ["", "0", "00:00", "12xz", "-1"] {
        assert!(Denied::certificate(serial, Issued::Under("mesh".to_owned())).is_err(), "{serial}");
    }
    assert!(Denied::token("", None).is_err() && Denied::token("one", Some("")).is_err());
    assert!(Denied::spiffe("spiffe://example.org").is_err(), "a trust domain is no workload");
    assert!(Denied::certificate("1", Issued::By(String::new())).is_err());
}
