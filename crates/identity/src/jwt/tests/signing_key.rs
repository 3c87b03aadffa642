//! A key of an issuer, made at test time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};

use crate::jwt::{Algorithm, install_crypto_provider};

pub(crate) struct SigningKey {
    pub(crate) algorithm: Algorithm,
    private: EncodingKey,
    pub(crate) public: Vec<u8>,
}

impl SigningKey {
    pub(crate) fn generate(algorithm: Algorithm, by: &'static SignatureAlgorithm) -> Self {
        let pair = KeyPair::generate_for(by).unwrap();
        let private = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(pair.serialized_der()),
            Algorithm::EdDSA => EncodingKey::from_ed_der(pair.serialized_der()),
            _ => EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap(),
        };
        Self { algorithm, private, public: pair.public_key_raw().to_vec() }
    }

    pub(crate) fn es256() -> Self {
        Self::generate(Algorithm::ES256, &PKCS_ECDSA_P256_SHA256)
    }

    /// The key as a JWK with these members in front.
    pub(crate) fn jwk(&self, members: &str) -> String {
        match self.algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                let (curve, size) =
                    if self.algorithm == Algorithm::ES256 { ("P-256", 32) } else { ("P-384", 48) };
                let (x, y) = self.public[1..].split_at(size);
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                format!(r#"{{{members},"kty":"EC","crv":"{curve}","x":"{x}","y":"{y}"}}"#)
            }
            Algorithm::EdDSA => {
                let x = URL_SAFE_NO_PAD.encode(&self.public);
                format!(r#"{{{members},"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)
            }
            _ => {
                use x509_parser::prelude::FromDer;
                let (_, key) = x509_parser::public_key::RSAPublicKey::from_der(&self.public).unwrap();
                let (n, e) = (URL_SAFE_NO_PAD.encode(key.modulus), URL_SAFE_NO_PAD.encode(key.exponent));
                format!(r#"{{{members},"kty":"RSA","n":"{n}","e":"{e}"}}"#)
            }
        }
    }

    pub(crate) fn token(&self, header: &str, claims: &str) -> String {
        install_crypto_provider();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.private, self.algorithm.into()).unwrap();
        format!("{signed}.{signature}")
    }
}
