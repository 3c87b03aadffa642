//! Whatever a token says in its header and claims, also when its signature is good: it is refused, or it is proof of
//! exactly the subject that it names.
//!
//! The input is a header and claims, parted by the first line feed; or, without one, a whole token.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use identity::jwks::KeySet;
use identity::jwt::{Algorithm, ClaimKind, ClaimMapping, Issuer, peek_issuer};
use libfuzzer_sys::fuzz_target;
use testkit::TokenKey;

static KEY: LazyLock<TokenKey> = LazyLock::new(|| {
    identity::jwt::install_crypto_provider();
    TokenKey::generate(testkit::Algorithm::EdDsa, "k")
});
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    KeySet::parse(testkit::jwks(&[&KEY]).to_string().as_bytes()).expect("testkit makes good keys")
});
static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer {
    name: "staff".to_owned(),
    issuer: "i".to_owned(),
    audiences: vec!["a".to_owned()],
    algorithms: vec![Algorithm::EdDSA, Algorithm::ES256],
    skew: Duration::from_secs(60),
    types: vec!["JWT".to_owned(), "at+jwt".to_owned()],
    roles: Some("roles".to_owned()),
    scopes: Some("scope".to_owned()),
    claims: [
        ("s", ClaimKind::String),
        ("b", ClaimKind::Bool),
        ("l", ClaimKind::Long),
        ("t", ClaimKind::Strings),
    ]
    .map(|(name, kind)| ClaimMapping { name: name.to_owned(), from: name.to_owned(), kind })
    .into(),
    max_token_bytes: 8192,
});

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == b'\n');
    let token = match at {
        None => String::from_utf8_lossy(bytes).into_owned(),
        Some(at) => KEY.sign_bytes(&bytes[..at], &bytes[at + 1..]),
    };
    peek_issuer(&token).ok();
    // A fixed clock, so that a finding stays one.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let Ok(verified) = ISSUER.verify(&token, &KEYS, now) else { return };
    let at = at.expect("only a token that was signed here verifies");
    let claims: serde_json::Value =
        serde_json::from_slice(&bytes[at + 1..]).expect("verified claims are JSON");
    assert_eq!(claims["iss"], "i");
    assert_eq!(claims["sub"], verified.principal.id.subject());
    assert!(!verified.principal.id.subject().is_empty());
    assert!(verified.accepted_until > now, "{claims}");
});
