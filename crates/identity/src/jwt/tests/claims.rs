//! What a validly signed token may and may not claim.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{CLAIMS, HEADER, KEYS, now, verify};
use crate::ClaimValue;
use crate::jwt::TokenError;

#[test]
fn a_token_becomes_a_principal_with_its_roles_scopes_and_mapped_claims() {
    let token = verify(
        HEADER,
        &claims(&[
            ("jti", r#""id-1""#),
            ("roles", r#"["admin","ops"]"#),
            ("scope", r#""read  write""#),
            ("the_text", r#""sales""#),
            ("the_flag", "true"),
            ("the_count", "-3"),
            ("the_list", r#"["a","b"]"#),
            ("unmapped", r#"{"any":"thing"}"#),
        ]),
    )
    .unwrap();
    let principal = &token.principal;
    assert_eq!(principal.id.to_string(), "jwt:https://idp.test#alice");
    assert_eq!(principal.roles, ["admin", "ops"]);
    assert_eq!(principal.scopes, ["read", "write"]);
    assert_eq!(principal.claims["text"], ClaimValue::String("sales".into()));
    assert_eq!(principal.claims["flag"], ClaimValue::Bool(true));
    assert_eq!(principal.claims["count"], ClaimValue::Long(-3));
    assert_eq!(principal.claims["list"], ClaimValue::Strings(vec!["a".into(), "b".into()]));
    assert_eq!(principal.claims.len(), 4);
    assert_eq!(token.jti.as_deref(), Some("id-1"));
    assert_eq!(token.expires, now() + Duration::from_secs(600));
    assert_eq!(token.accepted_until, now() + Duration::from_secs(660));
    assert_eq!(token.certificate_thumbprint, None);
    assert!(KEYS.contains(&token.key));
}

#[test]
fn required_claims_must_be_there_and_be_ours() {
    let cases = [
        (("iss", ""), "TOKEN_ISSUER_MISMATCH"),
        (("iss", r#""https://IDP.test""#), "TOKEN_ISSUER_MISMATCH"),
        (("iss", r#"["https://idp.test"]"#), "TOKEN_ISSUER_MISMATCH"),
        (("aud", ""), "TOKEN_AUDIENCE_MISMATCH"),
        (("aud", "[]"), "TOKEN_AUDIENCE_MISMATCH"),
        (("aud", r#""gw2""#), "TOKEN_AUDIENCE_MISMATCH"),
        (("aud", r#"["gw",1]"#), "TOKEN_AUDIENCE_MISMATCH"),
        (("aud", r#"{"gw":1}"#), "TOKEN_AUDIENCE_MISMATCH"),
        (("aud", r#"["","x"]"#), "TOKEN_AUDIENCE_MISMATCH"),
        (("aud", r#"["x","gw"]"#), "accepted"),
        (("sub", ""), "TOKEN_CLAIM_INVALID"),
        (("sub", r#""""#), "TOKEN_CLAIM_INVALID"),
        (("sub", "1"), "TOKEN_CLAIM_INVALID"),
        (("sub", r#""a\u0000b""#), "TOKEN_CLAIM_INVALID"),
        (("sub", r#""a\nb""#), "TOKEN_CLAIM_INVALID"),
        (("sub", r#""a\u0085b""#), "TOKEN_CLAIM_INVALID"),
        (("sub", r#""Zoë""#), "accepted"),
        (("jti", "1"), "TOKEN_CLAIM_INVALID"),
        (("jti", r#""""#), "TOKEN_CLAIM_INVALID"),
    ];
    for (change, code) in cases {
        assert_eq!(code_of(&[change]), code, "{change:?}");
    }
    assert_eq!(code_of(&[("sub", &format!(r#""{}""#, "a".repeat(1024)))]), "accepted");
    assert_eq!(code_of(&[("sub", &format!(r#""{}""#, "a".repeat(1025)))]), "TOKEN_CLAIM_INVALID");
    assert_eq!(verify(HEADER, r#"{"a":1,"a":1}"#).unwrap_err(), TokenError::Malformed("claims"));
    assert_eq!(verify(HEADER, "[]").unwrap_err(), TokenError::Malformed("claims"));
}

#[test]
fn times_hold_with_the_skew_in_both_directions() {
    let cases = [
        (("exp", ""), "TOKEN_CLAIM_INVALID"),
        (("exp", "null"), "TOKEN_CLAIM_INVALID"),
        (("exp", "[1800000600]"), "TOKEN_CLAIM_INVALID"),
        (("exp", "true"), "TOKEN_CLAIM_INVALID"),
        (("exp", r#""1800000600""#), "TOKEN_CLAIM_INVALID"),
        (("exp", "1e308"), "TOKEN_CLAIM_INVALID"),
        (("exp", "-1"), "TOKEN_CLAIM_INVALID"),
        (("exp", "18446744073709551616"), "TOKEN_CLAIM_INVALID"),
        (("exp", "253402300800"), "TOKEN_CLAIM_INVALID"),
        (("exp", "253402300799"), "accepted"),
        (("exp", "1800000600.5"), "accepted"),
        (("exp", "0"), "TOKEN_EXPIRED"),
        (("exp", "1799999940"), "TOKEN_EXPIRED"),
        (("exp", "1799999940.5"), "accepted"),
        (("exp", "1799999941"), "accepted"),
        (("nbf", "1800000060"), "accepted"),
        (("nbf", "1800000061"), "TOKEN_NOT_YET_VALID"),
        (("nbf", "[1]"), "TOKEN_CLAIM_INVALID"),
        (("nbf", "null"), "TOKEN_CLAIM_INVALID"),
        (("iat", "1800000060"), "accepted"),
        (("iat", "1800000060.1"), "TOKEN_NOT_YET_VALID"),
        (("iat", r#""1""#), "TOKEN_CLAIM_INVALID"),
    ];
    for (change, code) in cases {
        assert_eq!(code_of(&[change]), code, "{change:?}");
    }
}

#[test]
fn a_mapped_claim_of_another_type_is_an_error_and_an_absent_one_is_absent() {
    let refused = [
        ("the_text", "1"),
        ("the_text", r#""a\u0007""#),
        ("the_text", "null"),
        ("the_flag", "1"),
        ("the_flag", r#""true""#),
        ("the_count", "1.5"),
        ("the_count", "9223372036854775808"),
        ("the_list", r#""a""#),
        ("the_list", r#"["a",1]"#),
        ("the_list", r#"["a\n"]"#),
        ("roles", r#""admin,user""#),
        ("roles", r#"["a",null]"#),
        ("scope", "1"),
        ("scope", r#""read\nwrite""#),
    ];
    for change in refused {
        assert_eq!(code_of(&[change]), "TOKEN_CLAIM_INVALID", "{change:?}");
    }
    assert_eq!(code_of(&[("scope", r#"["read","write"]"#)]), "accepted");
    let bare = verify(HEADER, CLAIMS).unwrap();
    assert!(bare.principal.claims.is_empty() && bare.principal.roles.is_empty());
}

#[test]
fn a_token_bound_to_a_certificate_says_so_and_other_bindings_are_refused() {
    let thumbprint = URL_SAFE_NO_PAD.encode([7; 32]);
    let bound = verify(HEADER, &claims(&[("cnf", &format!(r#"{{"x5t#S256":"{thumbprint}"}}"#))])).unwrap();
    assert_eq!(bound.certificate_thumbprint, Some([7; 32]));
    let cases = [
        (r#"{"jkt":"x"}"#.to_owned(), "TOKEN_BINDING_UNSUPPORTED"),
        (format!(r#"{{"x5t#S256":"{thumbprint}","jkt":"x"}}"#), "TOKEN_BINDING_UNSUPPORTED"),
        ("{}".to_owned(), "TOKEN_BINDING_UNSUPPORTED"),
        (r#"{"x5t#S256":"AAAA"}"#.to_owned(), "TOKEN_CLAIM_INVALID"),
        (r#"{"x5t#S256":1}"#.to_owned(), "TOKEN_CLAIM_INVALID"),
        ("null".to_owned(), "TOKEN_CLAIM_INVALID"),
    ];
    for (value, code) in cases {
        assert_eq!(code_of(&[("cnf", &value)]), code, "{value}");
    }
}

/// Claims that pass, with `changes` in their place: `name:value` adds or replaces, `name:` removes.
fn claims(changes: &[(&str, &str)]) -> String {
    let mut members = vec![
        ("iss", r#""https://idp.test""#),
        ("aud", r#""gw""#),
        ("sub", r#""alice""#),
        ("exp", "1800000600"),
    ];
    for change in changes {
        members.retain(|(name, _)| *name != change.0);
        members.push(*change);
    }
    let members: Vec<String> = members
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!(r#""{name}":{value}"#))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn code_of(changes: &[(&str, &str)]) -> &'static str {
    verify(HEADER, &claims(changes)).map_or_else(|error| error.code(), |_| "accepted")
}
