//! Tokens with any claims, signed by keys made for the test.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

use crate::process::run;
use crate::unix_now;

/// The signature algorithms that keys are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSA PKCS #1 v1.5 with SHA-256, 2,048 bits.
    Rs256,
    /// Ed25519.
    EdDsa,
}

/// A signing key of a token issuer.
pub struct TokenKey {
    algorithm: Algorithm,
    id: String,
    pair: KeyPair,
}

/// The claims that every valid token needs, expiring in an hour.
#[must_use]
pub fn claims(issuer: &str, audience: &str, subject: &str) -> Value {
    let now = unix_now();
    json!({ "iss": issuer, "aud": audience, "sub": subject, "iat": now, "exp": now + 3600 })
}

/// The public key set of these keys.
#[must_use]
pub fn jwks(keys: &[&TokenKey]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>() })
}

impl TokenKey {
    /// A fresh key whose `kid` is `id`.
    #[must_use]
    pub fn generate(algorithm: Algorithm, id: &str) -> Self {
        let pair = match algorithm {
            Algorithm::Es256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
            Algorithm::EdDsa => KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
            // Not by rcgen: ring makes no RSA keys.
            Algorithm::Rs256 => {
                let mut openssl = std::process::Command::new("openssl");
                let made = run(openssl.args([
                    "genpkey",
                    "-quiet",
                    "-algorithm",
                    "RSA",
                    "-pkeyopt",
                    "rsa_keygen_bits:2048",
                ]));
                KeyPair::from_pkcs8_pem_and_sign_algo(&made.stdout, &rcgen::PKCS_RSA_SHA256)
                    .unwrap_or_else(|error| panic!("{error}: {}", made.stderr))
            }
        };
        Self { algorithm, id: id.to_owned(), pair }
    }

    /// A token with these claims and the plain header of this key.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.name(), "typ": "JWT", "kid": self.id }), claims)
    }

    /// A token with any header, signed by this key's algorithm whatever the header says.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_bytes(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// A token whose header and claims are these bytes, JSON or not.
    #[must_use]
    pub fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        format!("{signed}.{}", encode(self.signature(signed.as_bytes())))
    }

    /// A signature in the form of a JWS.
    pub(crate) fn signature(&self, input: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(input).unwrap();
        match self.algorithm {
            Algorithm::Es256 => der_integers(&signature).iter().flat_map(|part| padded(part)).collect(),
            Algorithm::Rs256 | Algorithm::EdDsa => signature,
        }
    }

    /// The public key as its algorithm has it: for Ed25519 the 32 bytes.
    pub(crate) fn public_bytes(&self) -> &[u8] {
        self.pair.public_key_raw()
    }

    /// The public key in PEM.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// The public key as a JWK.
    #[must_use]
    pub fn public(&self) -> Value {
        let raw = self.pair.der_bytes();
        let mut key = match self.algorithm {
            Algorithm::Es256 => {
                json!({ "kty": "EC", "crv": "P-256", "x": encode(&raw[1..33]), "y": encode(&raw[33..65]) })
            }
            Algorithm::EdDsa => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(raw) }),
            Algorithm::Rs256 => {
                let parts = der_integers(raw);
                json!({ "kty": "RSA", "n": encode(&parts[0]), "e": encode(&parts[1]) })
            }
        };
        key["kid"] = self.id.as_str().into();
        key["alg"] = self.name().into();
        key["use"] = "sig".into();
        key
    }

    fn name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Es256 => "ES256",
            Algorithm::Rs256 => "RS256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The integers of a DER SEQUENCE of INTEGERs, without leading zeros: an ECDSA signature, an RSA public key.
fn der_integers(der: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, _) = der_value(der);
    let mut integers = Vec::new();
    while !rest.is_empty() {
        let (value, after) = der_value(rest);
        integers.push(value.iter().skip_while(|byte| **byte == 0).copied().collect());
        rest = after;
    }
    integers
}

/// The contents of the first DER value, and what stands after it.
fn der_value(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
        }
    };
    der[start..].split_at(length)
}

/// Left-padded to the 32 bytes of a P-256 coordinate.
fn padded(integer: &[u8]) -> [u8; 32] {
    let mut fixed = [0; 32];
    fixed[32 - integer.len()..].copy_from_slice(integer);
    fixed
}
