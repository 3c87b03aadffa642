//! The verification, top to bottom.

use std::time::SystemTime;

use super::header::Header;
use super::{Issuer, TokenError, VerifiedToken, claims, decode_part, provider};
use crate::json::Json;
use crate::jwks::KeySet;

/// The longest token whose `iss` is read unverified: no request header is longer.
const MAX_PEEK_BYTES: usize = 64 * 1024;

impl Issuer {
    /// Verifies `token` with `keys` at `now`.
    ///
    /// # Errors
    /// The first thing that is wrong; [`TokenError::KeyUnknown`] may be cured by fetching the keys again.
    pub fn verify(&self, token: &str, keys: &KeySet, now: SystemTime) -> Result<VerifiedToken, TokenError> {
        if token.len() > self.max_token_bytes {
            return Err(TokenError::TooLong);
        }
        let parts = Parts::split(token)?;
        let header = decode_part(parts.header).ok_or(TokenError::Malformed("header"))?;
        let header = Header::read(&header, self)?;
        let key = keys.find(header.kid.as_deref(), header.algorithm)?;
        let signature = decode_part(parts.signature).ok_or(TokenError::Malformed("signature"))?;
        if !provider::verifies(header.algorithm, key.decoding(), parts.signed.as_bytes(), &signature) {
            return Err(TokenError::SignatureInvalid);
        }
        let claims = decode_part(parts.claims).ok_or(TokenError::Malformed("claims"))?;
        claims::read(&claims, self, key.thumbprint(), now)
    }
}

/// Reads `iss` without verifying anything, to choose among several issuers. At most 64 KiB are read.
///
/// # Errors
/// If the token is too long or malformed, or `iss` is not a string.
pub fn peek_issuer(token: &str) -> Result<String, TokenError> {
    if token.len() > MAX_PEEK_BYTES {
        return Err(TokenError::TooLong);
    }
    let claims = decode_part(Parts::split(token)?.claims).ok_or(TokenError::Malformed("claims"))?;
    let claims = Json::parse_object(&claims).ok_or(TokenError::Malformed("claims"))?;
    claims.get("iss").and_then(Json::as_str).map(str::to_owned).ok_or(TokenError::IssuerMismatch)
}

/// The three parts of a compact JWS (RFC 7515 section 7.1), and the two that are signed.
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        let parts = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, claims) = signed.split_once('.')?;
            (!claims.contains('.')).then_some(Self { header, claims, signature, signed })
        };
        parts().ok_or(TokenError::Malformed("not three parts"))
    }
}
