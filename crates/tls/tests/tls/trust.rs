//! What a trust bundle takes, and whom it vouches for.

use std::time::SystemTime;

use identity::certificate::CertificateError;
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
use tls::{PeerError, StaleCrl, Trust, TrustError};

use crate::authority::{Authority, Leaf, year};
use crate::handshake::{options, trust_named};

const ALICE: &str = "spiffe://lab.test/alice";

fn load(ca: &str, crls: &[Vec<u8>]) -> Result<Trust, TrustError> {
    Trust::from_pem("mesh", ca.as_bytes(), crls, options(StaleCrl::Reject), SystemTime::now())
}

fn trust(authorities: &[&Authority]) -> Trust {
    trust_named("mesh", authorities, &[], StaleCrl::Reject)
}

#[test]
fn a_file_without_a_valid_root_is_refused() {
    let root = Authority::root("root");
    let expired = Authority::root_with("old", &[KeyUsagePurpose::KeyCertSign], (2020, 2021));
    assert_eq!(load("", &[]).unwrap_err(), TrustError::NoRoot);
    assert_eq!(load(&expired.pem(), &[]).unwrap_err(), TrustError::NoRoot);
    let half = root.pem().replace("-----END CERTIFICATE-----", "");
    assert!(matches!(load(&half, &[]), Err(TrustError::CaPem(_))));
    assert!(load(&format!("{}{}", expired.pem(), root.pem()), &[]).is_ok());
}

#[test]
fn what_is_no_authority_is_not_trusted() {
    let root = Authority::root("root");
    let leaf = root.issue(&Leaf::client(ALICE)).chain;
    let error = load(&format!("{}{leaf}", root.pem()), &[]).unwrap_err();
    assert!(matches!(error, TrustError::NotAuthority { position: 2, .. }), "{error}");
    let unsigning = Authority::root_with("root", &[KeyUsagePurpose::CrlSign], (2020, 2099));
    assert!(matches!(load(&unsigning.pem(), &[]), Err(TrustError::NotAuthority { position: 1, .. })));
}

#[test]
fn a_chain_passes_to_a_root_only() {
    let (root, other) = (Authority::root("root"), Authority::root("root"));
    let middle = root.intermediate("middle");
    let now = SystemTime::now();
    let direct = root.issue(&Leaf::client(ALICE)).ders;
    let through = middle.issue(&Leaf::client(ALICE)).ders;
    let trust = trust(&[&root]);
    assert_eq!(trust.verify_client(&direct, now).unwrap().principal.id.to_string(), ALICE);
    assert!(trust.verify_client(&through, now).is_ok());
    assert_eq!(trust.verify_client(&through[..1], now), Err(PeerError::Untrusted));
    assert_eq!(trust.verify_client(&other.issue(&Leaf::client(ALICE)).ders, now), Err(PeerError::Untrusted));
    assert_eq!(trust.verify_client(&[], now), Err(PeerError::NoCertificate));
}

#[test]
fn an_intermediate_in_the_ca_file_completes_a_chain() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle");
    let alice = middle.issue(&Leaf::client(ALICE)).ders;
    let trust = trust(&[&middle, &root]);
    assert!(trust.verify_client(&alice[..1], SystemTime::now()).is_ok());
    assert_eq!(trust.authorities(), (2, 0));
    let alone = trust_named("mesh", &[&middle], &[], StaleCrl::Reject);
    assert!(alone.verify_client(&alice[..1], SystemTime::now()).is_ok());
}

#[test]
fn validity_and_usage_are_judged() {
    let root = Authority::root("root");
    let trust = trust(&[&root]);
    let judge = |leaf: Leaf, now| trust.verify_client(&root.issue(&leaf).ders, now).map(|_| ());
    let alice = || Leaf::client(ALICE).valid(2030, 2040);
    assert_eq!(judge(alice(), year(2029)), Err(PeerError::NotYetValid));
    assert_eq!(judge(alice(), year(2035)), Ok(()));
    assert_eq!(judge(alice(), year(2041)), Err(PeerError::Expired));
    let server = Leaf::client(ALICE).usage(ExtendedKeyUsagePurpose::ServerAuth);
    assert!(matches!(judge(server, SystemTime::now()), Err(PeerError::Rules(_))));
    let elsewhere = Leaf::client("spiffe://evil.test/alice");
    assert_eq!(judge(elsewhere, SystemTime::now()), Err(PeerError::Identity(CertificateError::TrustDomain)));
}

#[test]
fn an_expired_root_vouches_for_nobody() {
    let old = Authority::root_with("old", &[KeyUsagePurpose::KeyCertSign], (2020, 2060));
    let alice = old.issue(&Leaf::client(ALICE)).ders;
    let trust = trust(&[&old, &Authority::root("new")]);
    assert!(trust.verify_client(&alice, year(2059)).is_ok());
    assert_eq!(trust.verify_client(&alice, year(2061)), Err(PeerError::Expired));
}
