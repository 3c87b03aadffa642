//! JWT bearer tokens: strict by default, so that a token means one thing or is refused.
//!
//! Passes: a compact JWS of three parts in strict base64url, whose header names an algorithm that the configuration allows
//! and a key that is ours, whose signature holds, and whose `iss`, `aud`, `exp` and `sub` are present and right. Refused:
//! everything else, each with its own [`TokenError`]. Nothing in a token chooses where a key comes from; claims are read
//! only after the signature held.
//!
//! The signature itself is verified by jsonwebtoken; all that it lets through is vetted here.

mod algorithm;
mod claims;
mod error;
mod header;
pub(crate) mod provider;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
mod ring_provider;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Principal;
use crate::jwks::KeyThumbprint;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use error::TokenError;
pub(crate) use header::is_key_id;
pub use provider::install_crypto_provider;
pub use verify::peek_issuer;

/// The longest token that is read if the configuration says nothing else.
pub const DEFAULT_MAX_TOKEN_BYTES: usize = 8192;

/// An issuer of tokens, and what is asked of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// The name of the issuer's entry in the configuration.
    pub name: String,
    /// The exact `iss`.
    pub issuer: String,
    /// One of these must stand in `aud`.
    pub audiences: Vec<String>,
    /// The only algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ, in both directions.
    pub skew: Duration,
    /// The accepted `typ` header values, without `application/`; an absent `typ` is accepted.
    pub types: Vec<String>,
    /// The claim (an array of strings) that roles are read from.
    pub roles: Option<String>,
    /// The claim (a string separated by spaces, or an array of strings) that scopes are read from.
    pub scopes: Option<String>,
    /// Claims that policies see.
    pub claims: Vec<ClaimMapping>,
    /// The longest token that is read.
    pub max_token_bytes: usize,
}

/// A claim that is mapped to an attribute of the principal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimMapping {
    /// The attribute's name.
    pub name: String,
    /// The claim's name in the token.
    pub from: String,
    /// The type that the claim must have.
    pub kind: ClaimKind,
}

/// The type of a mapped claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimKind {
    /// A JSON string.
    String,
    /// A JSON boolean.
    Bool,
    /// A JSON integer that fits 64 bits with sign.
    Long,
    /// A JSON array of strings.
    Strings,
}

/// A token whose signature and claims hold.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedToken {
    /// Whom the token names.
    pub principal: Arc<Principal>,
    /// The `exp` claim.
    pub expires: SystemTime,
    /// `exp` and the allowed skew: from here on the token is refused.
    pub accepted_until: SystemTime,
    /// The key that verified the token.
    pub key: KeyThumbprint,
    /// The token's id, for revocation.
    pub jti: Option<String>,
    /// The SHA-256 fingerprint of the client certificate that the token is bound to (`cnf.x5t#S256`, RFC 8705 section 3.1).
    /// The caller must compare it with the certificate of the connection.
    pub certificate_thumbprint: Option<[u8; 32]>,
}

/// Decodes base64url without padding, white space or stray bits, so that a text has one spelling (RFC 7515 section 2).
pub(crate) fn decode_part(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
