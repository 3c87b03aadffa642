//! Tokens made at test time: one that passes, and one for each way to be refused.

mod claims;
mod signing_key;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use super::{
    Algorithm, ClaimKind, ClaimMapping, DEFAULT_MAX_TOKEN_BYTES, Issuer, TokenError, VerifiedToken,
    peek_issuer,
};
use crate::jwks::KeySet;
pub(crate) use signing_key::SigningKey;

const NOW: u64 = 1_800_000_000;
const HEADER: &str = r#"{"alg":"ES256","typ":"JWT","kid":"ec-1"}"#;
const CLAIMS: &str = r#"{"iss":"https://idp.test","aud":"gw","sub":"alice","exp":1800000600}"#;

static KEY: LazyLock<SigningKey> = LazyLock::new(SigningKey::es256);
static KEYS: LazyLock<KeySet> = LazyLock::new(|| key_set(&[KEY.jwk(r#""kid":"ec-1","use":"sig""#)]));

pub(crate) fn key_set(jwks: &[String]) -> KeySet {
    KeySet::parse(format!(r#"{{"keys":[{}]}}"#, jwks.join(",")).as_bytes()).unwrap()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn issuer() -> Issuer {
    let mapping = |name: &str, kind| ClaimMapping { name: name.into(), from: format!("the_{name}"), kind };
    Issuer {
        name: "test".into(),
        issuer: "https://idp.test".into(),
        audiences: vec!["other-gw".into(), "gw".into()],
        algorithms: Algorithm::ALL.to_vec(),
        skew: Duration::from_secs(60),
        types: vec!["JWT".into(), "at+jwt".into()],
        roles: Some("roles".into()),
        scopes: Some("scope".into()),
        claims: vec![
            mapping("text", ClaimKind::String),
            mapping("flag", ClaimKind::Bool),
            mapping("count", ClaimKind::Long),
            mapping("list", ClaimKind::Strings),
        ],
        max_token_bytes: DEFAULT_MAX_TOKEN_BYTES,
    }
}

fn verify(header: &str, claims: &str) -> Result<VerifiedToken, TokenError> {
    issuer().verify(&KEY.token(header, claims), &KEYS, now())
}

#[test]
fn every_algorithm_verifies_with_a_key_of_its_kind_only() {
    let mut keys = vec![
        SigningKey::es256(),
        SigningKey::generate(Algorithm::ES384, &PKCS_ECDSA_P384_SHA384),
        SigningKey::generate(Algorithm::EdDSA, &PKCS_ED25519),
    ];
    // ring makes no RSA keys; its verification is tested with a key of RFC 7515.
    #[cfg(feature = "aws-lc-rs")]
    keys.push(SigningKey::generate(Algorithm::RS256, &rcgen::PKCS_RSA_SHA256));
    let jwks: Vec<String> =
        keys.iter().map(|key| key.jwk(&format!(r#""kid":"{}""#, key.algorithm))).collect();
    let set = key_set(&jwks);
    let is_rsa = |algorithm: Algorithm| {
        algorithm.as_str().ends_with("S256") && !algorithm.as_str().starts_with('E')
            || matches!(algorithm, Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS384 | Algorithm::PS512)
    };
    for key in &mut keys {
        let kid = key.algorithm;
        for algorithm in Algorithm::ALL {
            let fits = algorithm == kid || (is_rsa(kid) && is_rsa(algorithm));
            if fits {
                key.algorithm = algorithm;
            }
            let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
            let result = issuer().verify(&key.token(&header, CLAIMS), &set, now());
            let code = result.map_or_else(|error| error.code(), |_| "accepted");
            assert_eq!(
                code,
                if fits { "accepted" } else { "TOKEN_ALGORITHM_REFUSED" },
                "{algorithm} with {kid}"
            );
        }
    }
}

#[test]
fn an_rsa_signature_of_rfc_7515_holds_and_its_change_does_not() {
    const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const SIGNED: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let set = key_set(&[format!(r#"{{"kty":"RSA","n":"{N}","e":"AQAB"}}"#)]);
    let key = set.find(None, Algorithm::RS256).unwrap();
    let signature = super::decode_part(SIGNATURE).unwrap();
    let holds = |algorithm, signed: &str| {
        super::provider::verifies(algorithm, key.decoding(), signed.as_bytes(), &signature)
    };
    assert!(holds(Algorithm::RS256, SIGNED));
    assert!(!holds(Algorithm::PS256, SIGNED));
    assert!(!holds(Algorithm::RS256, &SIGNED.replace("Bs", "Bt").replace('p', "q")));
}

#[test]
fn headers_that_mean_more_than_algorithm_key_and_type_are_refused() {
    let cases = [
        (r#"{"alg":"none","kid":"ec-1"}"#, "TOKEN_ALGORITHM_REFUSED"),
        (r#"{"alg":"es256","kid":"ec-1"}"#, "TOKEN_ALGORITHM_REFUSED"),
        (r#"{"alg":"HS256","kid":"ec-1"}"#, "TOKEN_ALGORITHM_REFUSED"),
        (r#"{"alg":["ES256"],"kid":"ec-1"}"#, "TOKEN_ALGORITHM_REFUSED"),
        (r#"{"alg":null,"kid":"ec-1"}"#, "TOKEN_ALGORITHM_REFUSED"),
        (r#"{"kid":"ec-1"}"#, "TOKEN_ALGORITHM_REFUSED"),
        (r#"{"alg":"ES256","alg":"ES256","kid":"ec-1"}"#, "TOKEN_MALFORMED"),
        (r#"{"alg":"ES256","kid":"ec-1","x":1,"x":2}"#, "TOKEN_MALFORMED"),
        (r#"{"alg":"ES256","kid":"ec-1","crit":["exp"]}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","crit":[]}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","b64":true}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","zip":"DEF"}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","enc":"A256GCM"}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","jku":"https://evil.test"}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","jwk":{}}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","x5u":"https://evil.test"}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","x5c":[]}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","cty":"jwt"}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","cty":"application/JWT"}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","cty":1}"#, "TOKEN_HEADER_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","typ":"JWE"}"#, "TOKEN_TYPE_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","typ":"logout+jwt"}"#, "TOKEN_TYPE_REFUSED"),
        (r#"{"alg":"ES256","kid":"ec-1","typ":null}"#, "TOKEN_TYPE_REFUSED"),
        (r#"{"alg":"ES256","kid":""}"#, "TOKEN_MALFORMED"),
        (r#"{"alg":"ES256","kid":1}"#, "TOKEN_MALFORMED"),
        (r#"{"alg":"ES256","kid":"a\u0000"}"#, "TOKEN_MALFORMED"),
        (r#"{"alg":"ES256","kid":"ec-2"}"#, "TOKEN_KEY_UNKNOWN"),
        (r#"[]"#, "TOKEN_MALFORMED"),
        ("", "TOKEN_MALFORMED"),
    ];
    for (header, code) in cases {
        assert_eq!(verify(header, CLAIMS).unwrap_err().code(), code, "{header}");
    }
    let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(257));
    assert_eq!(verify(&long, CLAIMS).unwrap_err(), TokenError::Malformed("kid"));
}

#[test]
fn types_are_compared_without_case_and_without_application() {
    for kind in ["JWT", "jwt", "application/jwt", "at+jwt", "APPLICATION/AT+JWT"] {
        let header = format!(r#"{{"alg":"ES256","kid":"ec-1","typ":"{kind}"}}"#);
        assert!(verify(&header, CLAIMS).is_ok(), "{kind}");
    }
    assert!(verify(r#"{"alg":"ES256","kid":"ec-1"}"#, CLAIMS).is_ok());
}

#[test]
fn an_algorithm_that_the_configuration_does_not_name_is_refused() {
    let issuer = Issuer { algorithms: vec![Algorithm::EdDSA], ..issuer() };
    let error = issuer.verify(&KEY.token(HEADER, CLAIMS), &KEYS, now()).unwrap_err();
    assert_eq!(error, TokenError::AlgorithmRefused);
}

#[test]
fn a_token_without_kid_needs_a_set_with_one_key() {
    let token = KEY.token(r#"{"alg":"ES256"}"#, CLAIMS);
    let ours = KEY.jwk(r#""kid":"a""#);
    assert!(issuer().verify(&token, &key_set(std::slice::from_ref(&ours)), now()).is_ok());
    let other = SigningKey::generate(Algorithm::EdDSA, &PKCS_ED25519).jwk(r#""kid":"b""#);
    let error = issuer().verify(&token, &key_set(&[ours, other]), now()).unwrap_err();
    assert_eq!(error, TokenError::KeyUnknown { kid: None });
}

#[test]
fn one_token_has_one_spelling() {
    let token = KEY.token(HEADER, CLAIMS);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let stray_bit = |text: &str| {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = alphabet.find(text.chars().last().unwrap()).unwrap();
        format!("{}{}", &text[..text.len() - 1], &alphabet[last + 1..last + 2])
    };
    // 64 bytes leave four stray bits in the last character.
    let spellings = [
        format!("{signed}.{}", stray_bit(signature)),
        format!("{signed}.{signature}=="),
        format!("{signed}.{signature}\n"),
        format!(" {token}"),
        format!("{token}."),
        format!("{token}.{signature}"),
        signed.to_owned(),
        format!("{signed}."),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        String::new(),
        "null".to_owned(),
        "..".to_owned(),
    ];
    for spelling in spellings {
        let code = issuer().verify(&spelling, &KEYS, now()).unwrap_err().code();
        assert!(matches!(code, "TOKEN_MALFORMED" | "TOKEN_SIGNATURE_INVALID"), "{spelling}: {code}");
    }
}

#[test]
fn a_changed_or_foreign_signature_does_not_hold() {
    let foreign = SigningKey::es256().token(HEADER, CLAIMS);
    let (signed, _) = foreign.rsplit_once('.').unwrap();
    let null = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64]));
    let swapped = KEY.token(HEADER, CLAIMS).replacen(
        &URL_SAFE_NO_PAD.encode(CLAIMS),
        &URL_SAFE_NO_PAD.encode(CLAIMS.replace("alice", "admin")),
        1,
    );
    for token in [foreign.clone(), null, swapped] {
        assert_eq!(issuer().verify(&token, &KEYS, now()).unwrap_err(), TokenError::SignatureInvalid);
    }
}

#[test]
fn a_token_that_is_too_long_is_refused_before_it_is_read() {
    let token = KEY.token(HEADER, &CLAIMS.replace("alice", &"a".repeat(8192)));
    assert_eq!(issuer().verify(&token, &KEYS, now()).unwrap_err(), TokenError::TooLong);
    assert_eq!(peek_issuer(&"a".repeat(65_537)), Err(TokenError::TooLong));
}

#[test]
fn errors_show_no_bytes_of_the_token() {
    let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(256));
    let error = verify(&long, CLAIMS).unwrap_err();
    assert!(matches!(&error, TokenError::KeyUnknown { kid: Some(kid) } if kid.len() == 256));
    assert_eq!(error.to_string(), "token key is unknown");
}

#[test]
fn the_issuer_is_read_from_an_unverified_token() {
    assert_eq!(peek_issuer(&KEY.token("{}", CLAIMS)).as_deref(), Ok("https://idp.test"));
    assert_eq!(peek_issuer(&KEY.token("{}", r#"{"iss":["x"]}"#)), Err(TokenError::IssuerMismatch));
    assert_eq!(peek_issuer("a.b"), Err(TokenError::Malformed("not three parts")));
    assert_eq!(peek_issuer("a.!.c"), Err(TokenError::Malformed("claims")));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_verification_panic(text in "[ -~]{0,80}\\.[ -~]{0,80}\\.[ -~]{0,80}") {
        let _ = issuer().verify(&text, &KEYS, now());
        let _ = peek_issuer(&text);
    }

    #[test]
    fn no_claims_that_differ_in_a_byte_are_accepted_with_the_old_signature(position in 0_usize..67, byte in 0x20_u8..0x7f) {
        let mut claims = CLAIMS.as_bytes().to_vec();
        proptest::prop_assume!(claims[position] != byte);
        claims[position] = byte;
        let token = KEY.token(HEADER, CLAIMS);
        let token = token.replacen(&URL_SAFE_NO_PAD.encode(CLAIMS), &URL_SAFE_NO_PAD.encode(&claims), 1);
        proptest::prop_assert_eq!(issuer().verify(&token, &KEYS, now()), Err(TokenError::SignatureInvalid));
    }
}
