use identity::certificate::{CertificateSummary, NameForm, inspect};
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use tls::{Credential, StaleCrl, Trust, TrustOptions};

use super::*;

const DAY: u64 = 86_400;

fn request(key: &KeyPair, ttl: Duration) -> CertificateRequest {
    let mut csr = CertificateParams::new(vec!["evil.test".to_owned()]).unwrap();
    csr.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertificateRequest {
        mount: String::new(),
        role: String::new(),
        csr_pem: csr.serialize_request(key).unwrap().pem().unwrap(),
        common_name: Some("gateway".to_owned()),
        dns_names: vec!["a.test".to_owned()],
        addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        uris: vec!["spiffe://example.org/gateway".to_owned()],
        ttl,
    }
}

fn summary(pem: &str) -> CertificateSummary {
    inspect(&tls::certificates(pem.as_bytes()).unwrap()[0]).unwrap()
}

fn trusted(issued: &IssuedCertificate, at: SystemTime) -> bool {
    let options = TrustOptions { names: NameForm::Dns, when_stale: StaleCrl::Reject };
    let trust = Trust::from_pem("embedded", issued.authorities_pem.as_bytes(), &[], options, at).unwrap();
    trust.verify_client(&tls::certificates(issued.chain_pem.as_bytes()).unwrap(), at).is_ok()
}

#[test]
fn a_certificate_has_the_names_of_the_request_and_the_key_of_the_csr() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    let algorithms: [&SignatureAlgorithm; 3] =
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    for algorithm in algorithms {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let issued = store.sign_certificate(&request(&pair, Duration::from_secs(DAY))).unwrap();
        Credential::from_pem(issued.chain_pem.as_bytes(), pair.serialize_pem().as_bytes(), now()).unwrap();
        let leaf = summary(&issued.chain_pem);
        assert_eq!(leaf.names, ["DNS:a.test", "URI:spiffe://example.org/gateway", "IP:127.0.0.1", "IP:::1"]);
        assert!(leaf.subject.ends_with("gateway") && !leaf.is_ca, "{leaf:?}");
        assert_eq!(leaf.issuer, "CN=Portcullis embedded authority");
        assert_eq!(leaf.extended_key_usage.unwrap().len(), 2);
        assert_eq!((issued.expires, issued.warnings.len()), (Some(now() + Duration::from_secs(DAY)), 0));
        assert_eq!(issued.authorities_pem, store.authorities().unwrap());
    }
}

#[test]
fn a_certificate_proves_itself_to_the_authority_from_a_minute_ago_until_its_end() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    let pair = KeyPair::generate().unwrap();
    let mut request = request(&pair, Duration::from_secs(20));
    request.uris.clear();
    let issued = store.sign_certificate(&request).unwrap();
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    assert!(trusted(&issued, now() - minute) && trusted(&issued, now() + 20 * second));
    assert!(!trusted(&issued, now() - minute - second) && !trusted(&issued, now() + 21 * second));
    let serials =
        [issued, store.sign_certificate(&request).unwrap()].map(|one| summary(&one.chain_pem).serial);
    assert_ne!(serials[0], serials[1]);
    let other = opened(&directory.join("other"), &key).unwrap().sign_certificate(&request).unwrap();
    let mixed = IssuedCertificate { authorities_pem: store.authorities().unwrap(), ..other };
    assert!(!trusted(&mixed, now()), "another store's authority is trusted");
}

#[test]
fn the_authority_is_made_once_and_kept_with_the_values() {
    let (_above, directory, key) = fresh();
    let made = std::thread::scope(|scope| {
        let make = || opened(&directory, &key).unwrap().authorities().unwrap();
        let makers = [(); 4].map(|()| scope.spawn(make));
        makers.map(|maker| maker.join().unwrap())
    });
    assert!(made.iter().all(|one| *one == made[0]));
    let store = opened(&directory, &key).unwrap();
    store.write("a", &"1".into()).unwrap();
    assert!(store.names().unwrap() == ["a"] && store.authorities().unwrap() == made[0]);
    let authority = summary(&made[0]);
    assert!(authority.is_ca && authority.subject == "CN=Portcullis embedded authority", "{authority:?}");
    assert_eq!(authority.key_usage.unwrap(), ["keyCertSign", "cRLSign"]);
}

#[test]
fn a_lifetime_is_cut_to_ninety_days_and_to_the_authority_s_end() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    let pair = KeyPair::generate().unwrap();
    let issued = store.sign_certificate(&request(&pair, Duration::from_secs(365 * DAY))).unwrap();
    assert_eq!(issued.expires, Some(now() + Duration::from_secs(90 * DAY)));
    assert_eq!(issued.warnings, ["the lifetime is cut to 7776000 seconds"]);
    let later = |days: u64| {
        let clock: Clock = Arc::new(move || now() + Duration::from_secs(days * DAY));
        let store = Embedded::open("local", directory.clone(), key.clone(), clock).unwrap();
        store.sign_certificate(&request(&pair, Duration::from_secs(30 * DAY)))
    };
    assert_eq!(later(3649).unwrap().expires, Some(now() + Duration::from_secs(3650 * DAY)));
    assert!(later(3650).unwrap_err().to_string().ends_with("the authority has ended"));
}

#[test]
fn what_cannot_be_signed_is_refused_with_the_reason() {
    let (_above, directory, key) = fresh();
    let store = opened(&directory, &key).unwrap();
    let pair = KeyPair::generate().unwrap();
    let right = request(&pair, Duration::from_secs(DAY));
    let said = |request: CertificateRequest| {
        let error = store.sign_certificate(&request).unwrap_err();
        assert!(matches!(error.cause, Cause::Refused(_)), "{error}");
        error.to_string()
    };
    assert!(said(CertificateRequest { ttl: Duration::ZERO, ..right.clone() }).contains("no lifetime"));
    let nameless = CertificateRequest {
        dns_names: Vec::new(),
        addresses: Vec::new(),
        uris: Vec::new(),
        ..right.clone()
    };
    assert!(said(nameless).contains("no name"));
    said(CertificateRequest { dns_names: vec!["ä.test".to_owned()], ..right.clone() });
    said(CertificateRequest { csr_pem: "no PEM".to_owned(), ..right.clone() });
    // The same request with another's signature: the last byte of the DER belongs to it.
    let mut lines: Vec<&str> = right.csr_pem.lines().collect();
    let last = lines.len() - 2;
    let flipped: String = lines[last]
        .char_indices()
        .map(|(at, c)| if at == 8 { if c == 'A' { 'B' } else { 'A' } } else { c })
        .collect();
    lines[last] = &flipped;
    said(CertificateRequest { csr_pem: lines.join("\n"), ..right });
}
