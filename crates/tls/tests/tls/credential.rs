//! A pair is taken whole or not at all.

use std::time::SystemTime;

use tls::{Credential, CredentialError};

use crate::authority::{Authority, Issued, Leaf, year};

fn issued() -> Issued {
    Authority::root("root").intermediate("middle").issue(&Leaf::server(&["GW.test", "*.gw.test"]))
}

fn read(chain: &str, key: &str) -> Result<Credential, CredentialError> {
    Credential::from_pem(chain.as_bytes(), key.as_bytes(), SystemTime::now())
}

#[test]
fn a_whole_pair_is_taken_and_says_what_it_is() {
    let issued = issued();
    let credential = read(&issued.chain, &issued.key).unwrap();
    assert_eq!(credential.dns_names().collect::<Vec<_>>(), ["gw.test", "*.gw.test"]);
    assert!(credential.not_before() < SystemTime::now() && SystemTime::now() < credential.not_after());
    assert_eq!(u64::from_str_radix(credential.serial(), 16), Ok(issued.serial));
    assert_eq!(credential.fingerprint().len(), 64);
    assert!(!format!("{credential:?}").contains("PRIVATE"));
}

#[test]
fn a_half_written_file_is_refused_wherever_it_ends() {
    let issued = issued();
    let whole = (issued.chain.matches("-----BEGIN").count(), issued.chain.len());
    assert_eq!(whole.0, 2);
    for cut in (0..issued.chain.len()).step_by(7) {
        let Some(part) = issued.chain.get(..cut) else { continue };
        let leaf_alone = part.matches("-----END CERTIFICATE-----").count() == 1
            && part.matches("-----BEGIN CERTIFICATE-----").count() == 1;
        // A file that ends between two certificates cannot be told from one that was meant so.
        let outcome = read(part, &issued.key);
        assert!(outcome.is_err() || leaf_alone, "cut at {cut}");
    }
    for cut in (0..issued.key.len() - 30).step_by(7) {
        let part = issued.key.get(..cut).unwrap();
        assert!(read(&issued.chain, part).is_err(), "cut at {cut}");
    }
}

#[test]
fn another_certificates_key_is_refused() {
    let (one, two) = (issued(), issued());
    assert!(matches!(read(&one.chain, &two.key), Err(CredentialError::KeyMismatch { .. })));
}

#[test]
fn a_chain_out_of_order_or_with_a_stranger_is_refused() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle");
    let issued = middle.issue(&Leaf::server(&["gw.test"]));
    let (leaf, _) = issued.chain.split_once("-----END CERTIFICATE-----").unwrap();
    let leaf = format!("{leaf}-----END CERTIFICATE-----\n");
    let stranger = Authority::root("middle").pem();
    assert!(read(&format!("{leaf}{}{}", middle.pem(), root.pem()), &issued.key).is_ok());
    for wrong in [
        format!("{leaf}{}{}", root.pem(), middle.pem()),
        format!("{leaf}{stranger}"),
        format!("{}{leaf}", middle.pem()),
    ] {
        let error = read(&wrong, &issued.key).unwrap_err();
        assert!(matches!(error, CredentialError::ChainOrder { .. }), "{error}");
        assert!(error.to_string().contains("expected the leaf first"), "{error}");
    }
}

#[test]
fn no_key_an_encrypted_one_and_two_are_refused() {
    let one = issued();
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_eq!(read(&one.chain, &encrypted).unwrap_err(), CredentialError::EncryptedKey);
    assert_eq!(read(&one.chain, "").unwrap_err(), CredentialError::NoKey);
    assert_eq!(read(&one.chain, &one.chain).unwrap_err(), CredentialError::NoKey);
    let twice = format!("{0}{0}", one.key);
    assert_eq!(read(&one.chain, &twice).unwrap_err(), CredentialError::SeveralKeys);
    assert_eq!(read("", &one.key).unwrap_err(), CredentialError::NoCertificate);
    assert_eq!(read(&one.key, &one.key).unwrap_err(), CredentialError::NoCertificate);
}

#[test]
fn a_certificate_outside_of_its_time_is_refused() {
    let issued = Authority::root("root").issue(&Leaf::server(&["gw.test"]).valid(2030, 2040));
    let at = |now| Credential::from_pem(issued.chain.as_bytes(), issued.key.as_bytes(), now);
    assert!(matches!(at(year(2029)), Err(CredentialError::NotYetValid(_))));
    assert!(at(year(2035)).is_ok());
    assert!(matches!(at(year(2041)), Err(CredentialError::Expired(_))));
}

#[test]
fn no_message_repeats_what_stands_in_the_key_file() {
    let one = issued();
    let secret = one.key.lines().nth(1).and_then(|line| line.get(..16)).unwrap();
    for key in [
        one.key.replace("-----END PRIVATE KEY-----", ""),
        one.key.replace("END", "ENDE"),
        one.key.replace('M', "?"),
    ] {
        let error = read(&one.chain, &key).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
}
