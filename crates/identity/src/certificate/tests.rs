//! Certificates made at test time: one that passes for each name form, and one for each way to be refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair, KeyUsagePurpose as Usage, SanType,
    date_time_ymd,
};

use super::{
    CertificateError, KeyAlgorithm, NameForm, PeerCertificate, ServerIdentity, inspect, vet, vet_client,
    vet_server,
};
use crate::{SpiffeId, SpiffeIdError, sha256};

const ID: &str = "spiffe://lab.test/ns/a/sa/client1";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn spiffe() -> NameForm {
    NameForm::Spiffe { trust_domain: "lab.test".into() }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// A leaf that passes in every form, after `change`. Its signature is nobody's business here.
fn leaf(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "client1");
    params.subject_alt_names = vec![uri(ID), dns("Client1.lab.test")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![Usage::DigitalSignature];
    params.extended_key_usages = vec![Purpose::ClientAuth];
    params.serial_number = Some(vec![0x80, 0x0a].into());
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

/// An intermediate, after `change`.
fn issuer(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let root_key = KeyPair::generate().unwrap();
    let root = Issuer::new(CertificateParams::default(), root_key);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![Usage::KeyCertSign];
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), &root).unwrap().der().to_vec()
}

fn vet(chain: &[&[u8]], form: &NameForm) -> Result<PeerCertificate, CertificateError> {
    vet_client(chain.iter().copied(), form, "mesh", now())
}

fn vet_leaf(change: impl FnOnce(&mut CertificateParams)) -> Result<PeerCertificate, CertificateError> {
    vet(&[&leaf(change)], &spiffe())
}

fn names(names: Vec<SanType>, form: &NameForm) -> Result<String, CertificateError> {
    let peer = vet(&[&leaf(|params| params.subject_alt_names = names)], form)?;
    Ok(peer.principal.id.to_string())
}

#[test]
fn a_certificate_becomes_the_principal_that_the_trust_entry_asks_for() {
    let der = leaf(|_| {});
    let peer = vet(&[&der], &spiffe()).unwrap();
    assert_eq!(peer.principal.id.to_string(), ID);
    assert_eq!(peer.principal.id.authority(), "lab.test");
    assert_eq!((peer.serial.as_str(), peer.subject.as_str()), ("800A", "CN=client1"));
    assert_eq!((peer.uri.as_deref(), peer.dns), (Some(ID), vec!["client1.lab.test".to_owned()]));
    assert_eq!(peer.fingerprint_sha256, sha256(&der));
    assert_eq!(vet(&[&der], &NameForm::Dns).unwrap().principal.id.to_string(), "dns:mesh#client1.lab.test");
    assert_eq!(vet(&[&der], &NameForm::Subject).unwrap().principal.id.to_string(), "subject:mesh#CN=client1");
}

#[test]
fn one_name_form_never_stands_in_for_another() {
    assert_eq!(names(vec![dns("a.lab.test")], &spiffe()), Err(CertificateError::NameMissing));
    assert_eq!(names(vec![uri(ID)], &NameForm::Dns), Err(CertificateError::NameMissing));
    assert_eq!(names(Vec::new(), &spiffe()), Err(CertificateError::NameMissing));
    let mail = SanType::Rfc822Name("spiffe@lab.test".try_into().unwrap());
    assert_eq!(names(vec![mail], &spiffe()), Err(CertificateError::NameMissing));
    let nameless = leaf(|params| params.distinguished_name = DistinguishedName::new());
    assert_eq!(vet(&[&nameless], &NameForm::Subject), Err(CertificateError::NameMissing));
    let misplaced = leaf(|params| {
        params.subject_alt_names = Vec::new();
        params.distinguished_name.push(DnType::CommonName, ID);
    });
    assert_eq!(vet(&[&misplaced], &spiffe()), Err(CertificateError::NameMissing));
}

#[test]
fn spiffe_names_are_exactly_one_workload_of_the_trust_domain() {
    let cases = [
        (vec![uri(ID), uri("spiffe://lab.test/b")], CertificateError::NameAmbiguous),
        (vec![uri(ID), uri("https://lab.test/")], CertificateError::NameAmbiguous),
        (vec![uri("spiffe://evil.test/a")], CertificateError::TrustDomain),
        (vec![uri("spiffe://sub.lab.test/a")], CertificateError::TrustDomain),
        (vec![uri("https://lab.test/a")], CertificateError::Spiffe(SpiffeIdError::Scheme)),
        (vec![uri("spiffe://lab.test")], CertificateError::Spiffe(SpiffeIdError::NoPath)),
        (vec![uri("spiffe://lab.test/a/../b")], CertificateError::Spiffe(SpiffeIdError::DotSegment)),
        (vec![uri("spiffe://lab.test/%61")], CertificateError::Spiffe(SpiffeIdError::Path)),
        (vec![uri("spiffe://LAB.test/a")], CertificateError::Spiffe(SpiffeIdError::TrustDomain)),
    ];
    for (sans, error) in cases {
        assert_eq!(names(sans.clone(), &spiffe()), Err(error), "{sans:?}");
    }
}

#[test]
fn dns_names_are_exactly_one_host_name() {
    for name in
        ["*.lab.test", "a.lab.test\0.evil.test", "a_b.test", "-a.test", "a..test", "a.test.", "", "10.0.0.1"]
    {
        assert_eq!(names(vec![dns(name)], &NameForm::Dns), Err(CertificateError::DnsName), "{name:?}");
    }
    let two = vec![dns("a.test"), dns("b.test")];
    assert_eq!(names(two, &NameForm::Dns), Err(CertificateError::NameAmbiguous));
    assert_eq!(
        names(vec![dns("xn--bcher-kva.test")], &NameForm::Dns).unwrap(),
        "dns:mesh#xn--bcher-kva.test"
    );
}

#[test]
fn names_that_could_match_nothing_are_left_out_of_the_facts() {
    let sans = vec![uri(ID), dns("*.Lab.test"), dns("a\0b.test"), dns("a b"), dns("ok.test")];
    let peer = vet_leaf(|params| params.subject_alt_names = sans).unwrap();
    assert_eq!(peer.dns, ["*.lab.test", "ok.test"]);
}

#[test]
fn a_thousand_names_cost_little() {
    let mut sans: Vec<SanType> = (0..1000).map(|number| dns(&format!("n{number}.lab.test"))).collect();
    sans.push(uri(ID));
    assert_eq!(vet_leaf(|params| params.subject_alt_names = sans).unwrap().dns.len(), 1000);
}

#[test]
fn a_subject_breaks_no_line_and_no_header() {
    let hostile = "x\",By=spiffe://lab.test/admin;URI=\"y\r\nX-Gateway-User: root";
    let der = leaf(|params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Bücher, Söhne ");
        params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "#1");
        params.distinguished_name.push(DnType::CommonName, hostile);
    });
    let subject = vet(&[&der], &NameForm::Subject).unwrap().subject;
    assert_eq!(
        subject,
        "CN=x\\\"\\,By=spiffe://lab.test/admin\\;URI=\\\"y\\0D\\0AX-Gateway-User: root,1.2.3.4=\\#1,\
         O=B\\C3\\BCcher\\, S\\C3\\B6hne\\ ,C=DE"
    );
}

#[test]
fn a_subject_in_an_old_encoding_is_shown_as_its_bytes() {
    let peer = vet_leaf(|params| {
        let value = DnValue::BmpString("ab".try_into().unwrap());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, value);
    });
    assert_eq!(peer.unwrap().subject, "CN=#1E0400610062");
}

#[test]
fn a_subject_that_is_too_long_is_no_principal() {
    let der = leaf(|params| params.distinguished_name.push(DnType::OrganizationName, "a".repeat(2100)));
    assert_eq!(vet(&[&der], &NameForm::Subject), Err(CertificateError::SubjectTooLong));
}

#[test]
fn a_leaf_must_be_for_signatures_by_clients() {
    let usages = |usages: Vec<Usage>| vet_leaf(|params| params.key_usages = usages).err();
    assert_eq!(usages(vec![]), None);
    assert_eq!(usages(vec![Usage::DigitalSignature, Usage::KeyEncipherment]), None);
    assert_eq!(usages(vec![Usage::KeyEncipherment]), Some(CertificateError::KeyUsage));
    let signing = vec![Usage::DigitalSignature, Usage::KeyCertSign];
    assert_eq!(usages(signing), Some(CertificateError::LeafIsAuthority));
    let revoking = vec![Usage::DigitalSignature, Usage::CrlSign];
    assert_eq!(usages(revoking), Some(CertificateError::LeafIsAuthority));

    let purposes = |purposes: Vec<Purpose>| vet_leaf(|params| params.extended_key_usages = purposes).err();
    assert_eq!(purposes(vec![]), None);
    assert_eq!(purposes(vec![Purpose::ServerAuth, Purpose::ClientAuth]), None);
    for refused in [Purpose::ServerAuth, Purpose::CodeSigning, Purpose::Any] {
        assert_eq!(purposes(vec![refused]), Some(CertificateError::ExtendedKeyUsage));
    }
    let authority = vet_leaf(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(authority, Err(CertificateError::LeafIsAuthority));
}

#[test]
fn an_issuer_must_be_an_authority_that_signs_certificates() {
    let leaf = leaf(|_| {});
    let chain = |issuer: Vec<u8>| vet(&[&leaf, &issuer], &spiffe()).err();
    assert_eq!(chain(issuer(|_| {})), None);
    assert_eq!(chain(issuer(|params| params.is_ca = IsCa::NoCa)), Some(CertificateError::IssuerNotAuthority));
    assert_eq!(
        chain(issuer(|params| params.is_ca = IsCa::ExplicitNoCa)),
        Some(CertificateError::IssuerNotAuthority)
    );
    for usages in [vec![], vec![Usage::CrlSign]] {
        let chain = chain(issuer(|params| params.key_usages = usages));
        assert_eq!(chain, Some(CertificateError::IssuerKeyUsage));
    }
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = Vec::new();
    let old_root = root.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert_eq!(chain(old_root), None);
}

#[test]
fn every_presented_certificate_must_be_valid_now() {
    let ended = |params: &mut CertificateParams| params.not_after = date_time_ymd(2027, 1, 14);
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2027, 1, 16);
    assert_eq!(vet_leaf(ended).err(), Some(CertificateError::Expired));
    assert_eq!(vet_leaf(future).err(), Some(CertificateError::NotYetValid));
    let leaf = leaf(|params| params.not_after = date_time_ymd(2055, 1, 1));
    assert_eq!(vet(&[&leaf, &issuer(ended)], &spiffe()), Err(CertificateError::Expired));
    assert_eq!(vet(&[&leaf, &issuer(future)], &spiffe()), Err(CertificateError::NotYetValid));
    let short = issuer(|params| params.not_after = date_time_ymd(2027, 1, 16));
    let peer = vet(&[&leaf, &short], &spiffe()).unwrap();
    assert_eq!(peer.not_after, UNIX_EPOCH + Duration::from_secs(1_800_057_600));
    assert_eq!(vet_leaf(|params| params.not_before = date_time_ymd(1960, 1, 1)).err(), None);
}

#[test]
fn what_is_no_certificate_or_has_an_extension_twice_is_refused() {
    assert_eq!(vet(&[], &spiffe()), Err(CertificateError::Missing));
    assert_eq!(vet(&[b"x"], &spiffe()), Err(CertificateError::Malformed));
    let der = leaf(|_| {});
    assert_eq!(vet(&[&[der.as_slice(), b"x"].concat()], &spiffe()), Err(CertificateError::Malformed));
    assert_eq!(vet(&[&der[..der.len() - 1]], &spiffe()), Err(CertificateError::Malformed));
    let intermediate = issuer(|_| {});
    let mut chain = vec![der.as_slice()];
    chain.extend(vec![intermediate.as_slice(); 9]);
    assert!(vet(&chain, &spiffe()).is_ok());
    chain.push(&intermediate);
    assert_eq!(vet(&chain, &spiffe()), Err(CertificateError::ChainTooLong));
    let with = |oid: &[u64], content: &[u8]| {
        let extension = CustomExtension::from_oid_content(oid, content.to_vec());
        vet_leaf(|params| params.custom_extensions.push(extension)).err()
    };
    assert_eq!(with(&[2, 5, 29, 17], &[0x30, 0]), Some(CertificateError::DuplicateExtension));
    assert_eq!(with(&[2, 5, 29, 15], &[3, 2, 7, 0x80]), Some(CertificateError::DuplicateExtension));
    assert_eq!(with(&[1, 3, 6, 1, 4, 1, 99999, 1], &[5, 0]), None);
}

#[test]
fn an_extension_that_decides_and_cannot_be_read_is_refused() {
    for oid in [[2, 5, 29, 15], [2, 5, 29, 17], [2, 5, 29, 19], [2, 5, 29, 37]] {
        let error = vet_leaf(|params| {
            params.subject_alt_names = Vec::new();
            params.is_ca = IsCa::NoCa;
            params.key_usages = Vec::new();
            params.extended_key_usages = Vec::new();
            params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, vec![0x13, 1, b'x'])];
        });
        assert_eq!(error, Err(CertificateError::MalformedExtension), "{oid:?}");
    }
}

#[test]
fn a_server_must_be_exactly_the_expected_one() {
    let expect = ServerIdentity::Spiffe(SpiffeId::parse(ID).unwrap());
    let server = |change: fn(&mut CertificateParams)| {
        let der = leaf(|params| {
            params.extended_key_usages = vec![Purpose::ServerAuth];
            change(params);
        });
        vet_server(&der, &expect, now()).err()
    };
    assert_eq!(server(|_| {}), None);
    assert_eq!(server(|params| params.extended_key_usages = Vec::new()), None);
    assert_eq!(
        server(|params| params.extended_key_usages = vec![Purpose::ClientAuth]),
        Some(CertificateError::ExtendedKeyUsage)
    );
    assert_eq!(
        server(|params| params.subject_alt_names = vec![uri("spiffe://lab.test/other")]),
        Some(CertificateError::WrongServer)
    );
    assert_eq!(
        server(|params| params.subject_alt_names.push(uri(ID))),
        Some(CertificateError::NameAmbiguous)
    );
    assert_eq!(
        server(|params| params.not_after = date_time_ymd(2020, 1, 1)),
        Some(CertificateError::Expired)
    );
    let by_name = ServerIdentity::Dns("anything.test".into());
    let der = leaf(|params| params.extended_key_usages = vec![Purpose::ServerAuth]);
    assert_eq!(vet_server(&der, &by_name, now()), Ok(()));
}

#[test]
fn a_summary_shows_the_facts() {
    let summary = inspect(&leaf(|params| {
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.extended_key_usages.push(Purpose::Other(vec![1, 2, 3]));
        params.not_after = date_time_ymd(2055, 2, 3);
    }))
    .unwrap();
    assert_eq!(summary.names, [&format!("URI:{ID}"), "DNS:Client1.lab.test", "IP:127.0.0.1"]);
    assert_eq!((summary.key, summary.key_bits, summary.is_ca), (KeyAlgorithm::Ec, 256, false));
    assert_eq!(summary.key_usage, Some(vec!["digitalSignature"]));
    assert_eq!(summary.extended_key_usage, Some(vec!["clientAuth".to_owned(), "1.2.3".to_owned()]));
    assert_eq!(
        (summary.not_before.as_str(), summary.not_after.as_str()),
        ("1975-01-01T00:00:00Z", "2055-02-03T00:00:00Z")
    );
    assert_eq!((summary.spiffe.as_deref(), summary.serial.as_str()), (Some(ID), "800A"));
    assert_eq!((summary.subject.as_str(), summary.issuer.as_str()), ("CN=client1", "CN=client1"));
    assert_eq!(summary.fingerprint_sha256.len(), 64);
    assert_eq!(inspect(b""), Err(CertificateError::Malformed));
}

#[test]
fn the_size_of_a_modulus_counts_from_its_first_bit() {
    assert_eq!(vet::bits(&[]), 0);
    assert_eq!(vet::bits(&[0, 0]), 0);
    assert_eq!(vet::bits(&[0, 0x80]), 8);
    assert_eq!(vet::bits(&[1, 0]), 9);
}

proptest::proptest! {
    #[test]
    fn a_changed_byte_never_makes_it_panic(position in 0_usize..400, byte: u8) {
        let mut der = leaf(|_| {});
        if let Some(place) = der.get_mut(position) {
            *place = byte;
        }
        let _ = vet(&[&der, &der], &spiffe());
        let _ = inspect(&der);
    }
}
