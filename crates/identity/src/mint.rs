//! Short tokens of the gateway's own (RFC 9068), and the public keys that verify them.
//!
//! **Passes:** claims that the caller of this module vouches for, signed by a P-256 or Ed25519 key in PKCS #8, or by a key
//! that somebody else holds: [`PublicKey::signing_input`] goes there and [`PublicKey::token`] takes the signature only if it
//! holds. **Refused:** every other private or public key; no error quotes one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde_json::{Value, json};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey as Parsed;

use crate::jwt::{Algorithm, provider};
use crate::sha256;

/// What a token says.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `aud`: the one server that the token is for.
    pub audience: &'a str,
    /// `sub`, and `client_id`, since nobody stands between the caller and the gateway.
    pub subject: &'a str,
    /// `scope` (RFC 8693 section 4.2); left out when empty.
    pub scope: &'a str,
    /// `iat` and `nbf`, in whole seconds.
    pub issued: SystemTime,
    /// `exp`, rounded down: a token never outlives this.
    pub expires: SystemTime,
    /// `jti`, never given twice.
    pub id: &'a str,
}

impl fmt::Display for Claims<'_> {
    /// As JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issued = seconds(self.issued);
        let mut claims = json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": self.subject,
            "client_id": self.subject,
            "iat": issued,
            "nbf": issued,
            "exp": seconds(self.expires),
            "jti": self.id,
        });
        if let (Some(members), false) = (claims.as_object_mut(), self.scope.is_empty()) {
            members.insert("scope".to_owned(), self.scope.into());
        }
        claims.fmt(f)
    }
}

/// A private key that signs tokens here.
#[derive(Clone, Debug)]
pub struct SigningKey {
    key: EncodingKey,
    public: PublicKey,
}

/// The public half of a key that signs tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// The members that RFC 7638 section 3.2 asks for.
    members: BTreeMap<&'static str, String>,
    id: String,
}

/// Why a key is not taken, or a token not made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MintError {
    /// Not a key that can sign here.
    #[error("expected one unencrypted private key in PKCS #8 (`BEGIN PRIVATE KEY`), P-256 or Ed25519")]
    PrivateKey,
    /// Not a key that tokens are verified with.
    #[error("expected a public key (`BEGIN PUBLIC KEY`) of P-256, Ed25519 or RSA with at least 2048 bits")]
    PublicKey,
    /// The signature is not one of this key.
    #[error("the signature is not one of this key")]
    Signature,
}

impl SigningKey {
    /// Reads a private key in PEM.
    ///
    /// # Errors
    /// Everything but one P-256 or Ed25519 key in PKCS #8.
    pub fn from_pem(pem: &str) -> Result<Self, MintError> {
        let pem = pem.as_bytes();
        let p256 = || {
            let key = EncodingKey::from_ec_pem(pem).ok()?;
            let (x, y) = provider::p256_point(&key)?;
            Some(Self { key, public: PublicKey::p256(&x, &y) })
        };
        let ed25519 = || {
            let key = EncodingKey::from_ed_pem(pem).ok()?;
            let public = PublicKey::ed25519(&provider::ed25519_point(&key)?);
            Some(Self { key, public })
        };
        p256().or_else(ed25519).ok_or(MintError::PrivateKey)
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A signed token: type `at+jwt`, the key's thumbprint as `kid`.
    ///
    /// # Errors
    /// When the crypto provider cannot sign.
    pub fn sign(&self, claims: &Claims<'_>) -> Result<String, MintError> {
        let input = self.public.signing_input(&claims.to_string());
        let signature = provider::signature(self.public.algorithm, &self.key, input.as_bytes());
        Ok(compact(input, &signature.ok_or(MintError::Signature)?))
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// Everything but one key of P-256, Ed25519 or RSA (then tokens are signed with RS256).
    pub fn from_pem(pem: &str) -> Result<Self, MintError> {
        Self::read(pem).ok_or(MintError::PublicKey)
    }

    fn read(pem: &str) -> Option<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
        if pem.label != "PUBLIC KEY" {
            return None;
        }
        let (rest, info) = SubjectPublicKeyInfo::from_der(&pem.contents).ok()?;
        if !rest.is_empty() {
            return None;
        }
        if info.algorithm.algorithm == OID_SIG_ED25519 {
            let point = info.subject_public_key.data.as_ref();
            return (point.len() == 32).then(|| Self::ed25519(point));
        }
        match info.parsed().ok()? {
            Parsed::RSA(key) if (2048..=8192).contains(&key.key_size()) => {
                let [n, e] = [key.modulus, key.exponent].map(without_zeros);
                Some(Self::new(
                    Algorithm::RS256,
                    [("e", encode(e)), ("kty", "RSA".to_owned()), ("n", encode(n))],
                ))
            }
            Parsed::EC(point) if info.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
                let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
                let (x, y) = point.data().strip_prefix(&[4])?.split_at_checked(32)?;
                (curve == OID_EC_P256 && y.len() == 32).then(|| Self::p256(x, y))
            }
            _ => None,
        }
    }

    fn p256(x: &[u8], y: &[u8]) -> Self {
        let names = [("crv", "P-256"), ("kty", "EC")].map(|(name, value)| (name, value.to_owned()));
        Self::new(Algorithm::ES256, names.into_iter().chain([("x", encode(x)), ("y", encode(y))]))
    }

    fn ed25519(point: &[u8]) -> Self {
        let names = [("crv", "Ed25519"), ("kty", "OKP")].map(|(name, value)| (name, value.to_owned()));
        Self::new(Algorithm::EdDSA, names.into_iter().chain([("x", encode(point))]))
    }

    fn new(algorithm: Algorithm, members: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let members: BTreeMap<_, _> = members.into_iter().collect();
        // A map in the order of its names, without white space: what RFC 7638 section 3 hashes.
        let id = encode(sha256(json!(members).to_string().as_bytes()));
        Self { algorithm, members, id }
    }

    /// Its thumbprint (RFC 7638), which is its `kid`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What the holder of the private half signs for these claims (JSON).
    #[must_use]
    pub fn signing_input(&self, claims: &str) -> String {
        let header = json!({ "alg": self.algorithm.as_str(), "kid": self.id, "typ": "at+jwt" });
        format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.as_bytes()))
    }

    /// The token of a signing input and its signature (as RFC 7518 writes it, not DER).
    ///
    /// # Errors
    /// When the signature does not hold: it is then of another key.
    pub fn token(&self, input: String, signature: &Vec<u8>) -> Result<String, MintError> {
        let member = |name: &str| self.members.get(name).map_or("", String::as_str);
        let key = match self.algorithm {
            Algorithm::ES256 => DecodingKey::from_ec_components(member("x"), member("y")),
            Algorithm::EdDSA => DecodingKey::from_ed_components(member("x")),
            _ => DecodingKey::from_rsa_components(member("n"), member("e")),
        };
        match key {
            Ok(key) if provider::verifies(self.algorithm, &key, input.as_bytes(), signature) => {
                Ok(compact(input, signature))
            }
            _ => Err(MintError::Signature),
        }
    }

    fn jwk(&self) -> Value {
        let mut jwk = json!(self.members);
        if let Some(members) = jwk.as_object_mut() {
            members.insert("alg".to_owned(), self.algorithm.as_str().into());
            members.insert("kid".to_owned(), self.id.as_str().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }
}

/// The JWK Set (RFC 7517 section 5) of these keys, each once.
pub fn jwks_json<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> String {
    let keys: BTreeMap<&str, Value> = keys.into_iter().map(|key| (key.id(), key.jwk())).collect();
    json!({ "keys": keys.into_values().collect::<Vec<_>>() }).to_string()
}

fn compact(input: String, signature: &[u8]) -> String {
    input + "." + &encode(signature)
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whole seconds since 1970, rounded down; a time before is 0.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A number as RFC 7518 section 6.3.1 writes it.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
