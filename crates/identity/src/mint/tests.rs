use std::time::Duration;

use rcgen::KeyPair;

use super::*;
use crate::jwks::KeySet;
use crate::jwt::{Issuer, TokenError};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_800_000_000_900)
}

fn claims() -> Claims<'static> {
    Claims {
        issuer: "https://gw.internal",
        audience: "orders",
        subject: "jwt:https://id.test#alice",
        scope: "orders.read orders.write",
        issued: now(),
        expires: now() + Duration::from_secs(60),
        id: "1",
    }
}

fn upstream() -> Issuer {
    Issuer {
        name: "gateway".to_owned(),
        issuer: "https://gw.internal".to_owned(),
        audiences: vec!["orders".to_owned()],
        algorithms: vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256],
        skew: Duration::ZERO,
        types: vec!["at+jwt".to_owned()],
        roles: None,
        scopes: Some("scope".to_owned()),
        claims: Vec::new(),
        max_token_bytes: 8192,
    }
}

fn pairs() -> [KeyPair; 2] {
    [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519].map(|kind| KeyPair::generate_for(kind).unwrap())
}

#[test]
fn a_token_is_what_our_own_strict_verifier_takes() {
    for pair in pairs() {
        let key = SigningKey::from_pem(&pair.serialize_pem()).unwrap();
        let token = key.sign(&claims()).unwrap();
        let keys = KeySet::parse(jwks_json([key.public()]).as_bytes()).unwrap();
        let verified = upstream().verify(&token, &keys, now()).unwrap();
        assert_eq!(verified.principal.id.subject(), "jwt:https://id.test#alice");
        assert_eq!(verified.principal.scopes, ["orders.read", "orders.write"]);
        assert_eq!(verified.jti.as_deref(), Some("1"));
        assert_eq!(verified.expires, UNIX_EPOCH + Duration::from_secs(1_800_000_060), "rounded down");
        assert_eq!(
            upstream().verify(&token, &keys, now() + Duration::from_secs(60)),
            Err(TokenError::Expired)
        );
    }
}

#[test]
fn the_thumbprint_is_that_of_rfc_7638() {
    // The example of its section 3.1.
    let key = PublicKey::new(
        Algorithm::RS256,
        [
            ("kty", "RSA".to_owned()),
            ("e", "AQAB".to_owned()),
            (
                "n",
                "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw".to_owned(),
            ),
        ],
    );
    assert_eq!(key.id(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn the_public_half_is_the_same_from_either_half() {
    for pair in pairs() {
        let own = SigningKey::from_pem(&pair.serialize_pem()).unwrap();
        assert_eq!(PublicKey::from_pem(&pair.public_key_pem()).as_ref(), Ok(own.public()));
    }
}

#[test]
fn a_signature_of_another_key_makes_no_token() {
    let [first, second] = pairs().map(|pair| SigningKey::from_pem(&pair.serialize_pem()).unwrap());
    let input = first.public().signing_input(&claims().to_string());
    let own = provider::signature(Algorithm::ES256, &first.key, input.as_bytes()).unwrap();
    let foreign = provider::signature(Algorithm::EdDSA, &second.key, input.as_bytes()).unwrap();
    assert_eq!(first.public().token(input.clone(), &foreign), Err(MintError::Signature));
    assert!(first.public().token(input, &own).is_ok());
}

#[test]
fn other_keys_are_refused_without_a_word_of_theirs() {
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let public = pairs()[0].public_key_pem();
    for pem in [p384.serialize_pem(), public, String::new(), "secret".to_owned()] {
        let error = SigningKey::from_pem(&pem).unwrap_err();
        assert_eq!(error, MintError::PrivateKey);
    }
    for pem in [p384.public_key_pem(), p384.serialize_pem(), String::new()] {
        assert_eq!(PublicKey::from_pem(&pem), Err(MintError::PublicKey));
    }
}

#[test]
fn a_private_key_shows_nothing_of_itself() {
    let pair = &pairs()[0];
    let key = SigningKey::from_pem(&pair.serialize_pem()).unwrap();
    let shown = format!("{key:?}");
    assert!(shown.contains("redacted"), "{shown}");
}

#[test]
fn without_scopes_the_claim_is_left_out() {
    assert!(claims().to_string().contains(r#""scope":"orders.read orders.write""#));
    assert!(!Claims { scope: "", ..claims() }.to_string().contains("scope"));
}

#[test]
fn a_key_stands_once_in_a_set() {
    let [first, second] = pairs().map(|pair| SigningKey::from_pem(&pair.serialize_pem()).unwrap());
    let set = jwks_json([first.public(), second.public(), first.public()]);
    assert_eq!(KeySet::parse(set.as_bytes()).unwrap().len(), 2);
    assert_eq!(jwks_json([]), r#"{"keys":[]}"#);
}
