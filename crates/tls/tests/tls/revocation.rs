//! Promise 13: what CRLs refuse, and which CRLs are refused.

use std::time::SystemTime;

use rcgen::KeyUsagePurpose;
use tls::{PeerError, StaleCrl, Trust, TrustError};

use crate::authority::{Authority, Leaf, year};
use crate::handshake::{options, trust_named};

const ALICE: &str = "spiffe://lab.test/alice";
const POINT: &str = "http://crl.lab.test/one";

fn load(authorities: &[&Authority], crls: &[Vec<u8>]) -> Result<Trust, TrustError> {
    let ca: String = authorities.iter().map(|one| one.pem()).collect();
    Trust::from_pem("mesh", ca.as_bytes(), crls, options(StaleCrl::Reject), SystemTime::now())
}

fn judge(trust: &Trust, chain: &[rustls_pki_types::CertificateDer<'_>]) -> Result<(), PeerError> {
    trust.verify_client(chain, SystemTime::now()).map(|_| ())
}

#[test]
fn a_revoked_leaf_and_a_revoked_intermediate_are_refused() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle");
    let (alice, bob) = (root.issue(&Leaf::client(ALICE)), root.issue(&Leaf::client(ALICE)));
    let below = middle.issue(&Leaf::client(ALICE));
    let trust = load(&[&root], &[root.crl(&[alice.serial, middle.serial()])]).unwrap();
    assert_eq!(judge(&trust, &alice.ders), Err(PeerError::Revoked));
    assert_eq!(judge(&trust, &bob.ders), Ok(()));
    assert_eq!(judge(&trust, &below.ders), Err(PeerError::Revoked));
    // Also where the intermediate stands in the CA file: it is no root by that.
    let trust = load(&[&root, &middle], &[root.crl(&[middle.serial()])]).unwrap();
    assert_eq!(judge(&trust, &below.ders[..1]), Err(PeerError::Revoked));
}

#[test]
fn an_intermediate_in_the_ca_file_has_a_crl_of_its_own() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle");
    let (alice, bob) = (middle.issue(&Leaf::client(ALICE)), middle.issue(&Leaf::client(ALICE)));
    let trust = load(&[&root, &middle], &[middle.crl(&[alice.serial])]).unwrap();
    assert_eq!(judge(&trust, &alice.ders), Err(PeerError::Revoked));
    assert_eq!(judge(&trust, &bob.ders), Ok(()));
}

#[test]
fn several_issuers_in_one_bundle_each_have_their_own_list() {
    // Same name, other key: an authority that was renewed.
    let (old, new) = (Authority::root("root"), Authority::root("root"));
    let (by_old, by_new) = (old.issue(&Leaf::client(ALICE)), new.issue(&Leaf::client(ALICE)));
    let mut file = old.crl(&[by_old.serial]);
    file.extend(new.crl(&[]));
    let trust = load(&[&old, &new], &[file]).unwrap();
    assert_eq!(judge(&trust, &by_old.ders), Err(PeerError::Revoked));
    assert_eq!(judge(&trust, &by_new.ders), Ok(()));
    assert_eq!(trust.authorities(), (2, 2));
    // One without a list is not checked.
    let trust = load(&[&old, &new], &[old.crl(&[by_old.serial, by_new.serial])]).unwrap();
    assert_eq!(judge(&trust, &by_old.ders), Err(PeerError::Revoked));
    assert_eq!(judge(&trust, &by_new.ders), Ok(()));
    assert_eq!(trust.authorities(), (2, 1));
}

#[test]
fn a_stale_list_is_refused_or_stays_in_force_as_the_entry_says() {
    let root = Authority::root("root");
    let (alice, bob) = (root.issue(&Leaf::client(ALICE)), root.issue(&Leaf::client(ALICE)));
    let stale = root.crl_with(&[alice.serial], 2025, None);
    let reject = trust_named("mesh", &[&root], std::slice::from_ref(&stale), StaleCrl::Reject);
    assert_eq!(judge(&reject, &bob.ders), Err(PeerError::StaleCrl));
    assert_eq!(judge(&reject, &alice.ders), Err(PeerError::Revoked));
    let accept = trust_named("mesh", &[&root], &[stale], StaleCrl::Accept);
    assert_eq!(judge(&accept, &bob.ders), Ok(()));
    assert_eq!(judge(&accept, &alice.ders), Err(PeerError::Revoked));
    let next_update = accept.crl_next_update().unwrap();
    assert!(year(2024) < next_update && next_update < year(2026));
}

#[test]
fn a_list_of_one_distribution_point_says_nothing_about_others() {
    let root = Authority::root("root");
    let covered = root.issue(&Leaf::client(ALICE).distribution_point(POINT));
    let elsewhere = root.issue(&Leaf::client(ALICE).distribution_point("http://crl.lab.test/two"));
    let pointless = root.issue(&Leaf::client(ALICE));
    let trust = load(&[&root], &[root.crl_with(&[], 2098, Some(POINT))]).unwrap();
    assert_eq!(judge(&trust, &covered.ders), Ok(()));
    assert_eq!(judge(&trust, &elsewhere.ders), Err(PeerError::RevocationUnknown));
    assert_eq!(judge(&trust, &pointless.ders), Err(PeerError::RevocationUnknown));
    // A full list beside it speaks for all, in either order.
    let full = || root.crl(&[pointless.serial, covered.serial]);
    let part = || root.crl_with(&[], 2098, Some(POINT));
    for crls in [[part(), full()], [full(), part()]] {
        let trust = load(&[&root], &crls).unwrap();
        assert_eq!(judge(&trust, &pointless.ders), Err(PeerError::Revoked));
        assert_eq!(judge(&trust, &covered.ders), Err(PeerError::Revoked));
        assert_eq!(judge(&trust, &elsewhere.ders), Ok(()));
    }
}

#[test]
fn a_list_that_proves_nothing_is_refused_when_it_is_read() {
    let (root, fake, other) = (Authority::root("root"), Authority::root("root"), Authority::root("other"));
    let garbage = b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n".to_vec();
    assert_eq!(load(&[&root], &[fake.crl(&[])]).unwrap_err(), TrustError::CrlSignature("CN=root".to_owned()));
    assert_eq!(load(&[&root], &[other.crl(&[])]).unwrap_err(), TrustError::CrlIssuer("CN=other".to_owned()));
    assert!(matches!(load(&[&root], &[garbage]), Err(TrustError::Crl(_))));
    assert_eq!(load(&[&root], &[Vec::new()]).unwrap_err(), TrustError::NoCrl);
    let whole = root.crl(&[]);
    for cut in (1..whole.len() - 30).step_by(11) {
        assert!(load(&[&root], &[whole[..cut].to_vec()]).is_err(), "cut at {cut}");
    }
}

#[test]
fn an_issuer_that_may_not_sign_lists_is_not_believed() {
    let root = Authority::root_with("root", &[KeyUsagePurpose::KeyCertSign], (2020, 2099));
    let signer = root.with_usages(&[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
    let error = load(&[&root], &[signer.crl(&[])]).unwrap_err();
    assert_eq!(error, TrustError::CrlUsage("CN=root".to_owned()));
}
