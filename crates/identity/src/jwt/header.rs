//! The protected header of a token (RFC 7515 section 4), of which only `alg`, `kid` and `typ` mean anything here.

use super::{Algorithm, Issuer, TokenError};
use crate::json::Json;

/// Parameters that would bring in a key, an encoding or a rule from outside: refused when present, not ignored.
const REFUSED: [&str; 8] = ["crit", "b64", "zip", "enc", "jku", "jwk", "x5u", "x5c"];
/// The longest `kid`: it is compared, logged and asked for.
const MAX_KID_BYTES: usize = 256;

/// What a header asks for.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
}

impl Header {
    /// Reads the decoded header of a token for `issuer`.
    pub(super) fn read(json: &[u8], issuer: &Issuer) -> Result<Self, TokenError> {
        let members = Json::parse_object(json).ok_or(TokenError::Malformed("header"))?;
        if let Some(name) = REFUSED.into_iter().find(|name| members.contains_key(*name)) {
            return Err(TokenError::HeaderRefused(name));
        }
        let algorithm: Algorithm = members
            .get("alg")
            .and_then(Json::as_str)
            .and_then(|name| name.parse().ok())
            .filter(|algorithm| issuer.algorithms.contains(algorithm))
            .ok_or(TokenError::AlgorithmRefused)?;
        if let Some(kind) = members.get("typ") {
            let kind = kind.as_str().map(media_type).ok_or(TokenError::TypeRefused)?;
            if !issuer.types.iter().any(|accepted| media_type(accepted).eq_ignore_ascii_case(kind)) {
                return Err(TokenError::TypeRefused);
            }
        }
        if let Some(content) = members.get("cty") {
            // A token within a token (RFC 7519 section 5.2) would have to be opened to mean anything.
            if content.as_str().is_none_or(|content| media_type(content).eq_ignore_ascii_case("JWT")) {
                return Err(TokenError::HeaderRefused("cty"));
            }
        }
        let kid = match members.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().filter(|kid| is_key_id(kid)).ok_or(TokenError::Malformed("kid"))?),
        };
        Ok(Self { algorithm, kid: kid.map(str::to_owned) })
    }
}

/// Whether `text` may stand as a `kid`, in a token or in a key set.
pub(crate) fn is_key_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_KID_BYTES && !text.contains(char::is_control)
}

/// A media type without the `application/` that may be left out (RFC 7515 section 4.1.9).
fn media_type(text: &str) -> &str {
    const PREFIX: &str = "application/";
    match text.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => text,
    }
}
