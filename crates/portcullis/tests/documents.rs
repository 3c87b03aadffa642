//! What README.md and deploy/ say is so: the samples pass `check`, the configuration that the README shows is one, and
//! its table of refusals names every code that the gateway has and no other.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use portcullis::config::{
    self,
    model::{CertificateSource, Config, TrustSource},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

#[test]
fn each_sample_of_deploy_passes_the_check_without_a_warning() {
    for sample in ["minimal", "ingress", "sidecar", "vault", "other-proxies"] {
        let place = tempfile::tempdir().unwrap();
        let source = top().join("deploy").join(sample);
        fs::create_dir(place.path().join("policies")).unwrap();
        for entry in fs::read_dir(source.join("policies")).unwrap() {
            let policy = entry.unwrap();
            fs::copy(policy.path(), place.path().join("policies").join(policy.file_name())).unwrap();
        }
        let file = place.path().join("portcullis.yaml");
        let text = fs::read_to_string(source.join("portcullis.yaml")).unwrap();
        fs::write(&file, &text).unwrap();
        let (config, problems) = config::read(sample, text, place.path());
        make_what_is_named(&config.unwrap_or_else(|| panic!("{sample}:\n{problems}")));
        let checked = config::load(&file, now()).unwrap_or_else(|problems| panic!("{sample}:\n{problems}"));
        assert_eq!(checked.warnings.to_string(), "", "{sample}");
    }
}

#[test]
fn the_configuration_in_the_readme_is_one() {
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    let blocks: Vec<_> =
        readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (config, problems) = config::read("README.md", block.to_owned(), Path::new("/etc/portcullis"));
        assert!(config.is_some(), "{problems}");
        assert_eq!(problems.to_string(), "");
    }
}

#[test]
fn the_readme_shows_the_policy_that_deploy_has() {
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    let policy = fs::read_to_string(top().join("deploy/vault/portcullis.hcl")).unwrap();
    assert!(readme.contains(policy.trim_end()));
}

#[test]
fn the_readme_lists_every_refusal_and_no_other() {
    let in_code: BTreeSet<String> =
        ["crates/proxy/src/refusal.rs", "crates/identity/src/jwt/error.rs", "crates/policy/src/decide.rs"]
            .iter()
            .flat_map(|file| codes(&fs::read_to_string(top().join(file)).unwrap(), '"'))
            .collect();
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    let table: String =
        readme.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).collect();
    assert_eq!(codes(&table, '`').into_iter().collect::<BTreeSet<_>>(), in_code);
}

/// The words in quotes that are written as codes are.
fn codes(text: &str, quote: char) -> Vec<String> {
    let is_code = |word: &&str| word.len() > 5 && word.chars().all(|c| c == '_' || c.is_ascii_uppercase());
    text.split(quote).filter(is_code).map(str::to_owned).collect()
}

/// One authority vouches for everything that a sample names.
fn make_what_is_named(config: &Config) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    for source in config.certificates.values() {
        let CertificateSource::Files(files) = source else { continue };
        let key = KeyPair::generate().unwrap();
        let leaf = leaf().signed_by(&key, &issuer).unwrap().pem();
        write(&files.certificate.path, &leaf);
        write(&files.key.path, &key.serialize_pem());
    }
    for entry in config.trust.values() {
        let TrustSource::Files { ca: authorities, crl: lists } = &entry.source else { continue };
        write(&authorities.path, &ca);
        for file in lists {
            write(&file.path, &crl(&issuer));
        }
    }
}

fn leaf() -> CertificateParams {
    let names = ["api.example.com", "admin.example.com", "shop.example.com"].map(str::to_owned);
    let mut params = CertificateParams::new(names).unwrap();
    params
        .subject_alt_names
        .push(SanType::URI("spiffe://example.org/ns/edge/sa/gateway".try_into().unwrap()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn crl(issuer: &Issuer<'_, KeyPair>) -> String {
    let now = date_time_ymd(1970, 1, 1) + now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let params = CertificateRevocationListParams {
        this_update: now - Duration::from_secs(60),
        next_update: now + Duration::from_secs(3600),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[expect(clippy::disallowed_methods, reason = "certificates that servers of today take")]
fn now() -> SystemTime {
    SystemTime::now()
}
