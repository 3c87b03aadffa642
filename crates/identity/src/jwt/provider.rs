//! Which cryptography jsonwebtoken runs on: the provider that the build was made with.

use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::{DecodingKey, EncodingKey};

use super::Algorithm;

#[cfg(feature = "aws-lc-rs")]
static PROVIDER: &CryptoProvider = &jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
static PROVIDER: &CryptoProvider = &super::ring_provider::PROVIDER;

/// Makes the build's provider jsonwebtoken's default, for those who sign tokens with it. Call once, early; a second call
/// changes nothing. [`super::Issuer::verify`] does not depend on it.
pub fn install_crypto_provider() {
    // An error says that one is installed already.
    let _ = PROVIDER.install_default();
}

/// Whether `signature` of `message` holds.
pub(crate) fn verifies(algorithm: Algorithm, key: &DecodingKey, message: &[u8], signature: &Vec<u8>) -> bool {
    (PROVIDER.verifier_factory)(&algorithm.into(), key)
        .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
}

/// The signature of `message`; none with a key that is not of this algorithm.
pub(crate) fn signature(algorithm: Algorithm, key: &EncodingKey, message: &[u8]) -> Option<Vec<u8>> {
    (PROVIDER.signer_factory)(&algorithm.into(), key).ok()?.try_sign(message).ok()
}

/// The public point of a P-256 key, as its two coordinates.
pub(crate) fn p256_point(key: &EncodingKey) -> Option<(Vec<u8>, Vec<u8>)> {
    let point = (PROVIDER.key_utils.ec_pub_components_from_private_key)(
        key.as_bytes(),
        jsonwebtoken::Algorithm::ES256,
    );
    point.ok().map(|(_, x, y)| (x, y))
}

/// The public half of an Ed25519 key.
pub(crate) fn ed25519_point(key: &EncodingKey) -> Option<Vec<u8>> {
    (PROVIDER.key_utils.ed_pub_components_from_private_key)(key.as_bytes(), &EllipticCurve::Ed25519).ok()
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::ES256 => Self::ES256,
            Algorithm::ES384 => Self::ES384,
            Algorithm::RS256 => Self::RS256,
            Algorithm::RS384 => Self::RS384,
            Algorithm::RS512 => Self::RS512,
            Algorithm::PS256 => Self::PS256,
            Algorithm::PS384 => Self::PS384,
            Algorithm::PS512 => Self::PS512,
            Algorithm::EdDSA => Self::EdDSA,
        }
    }
}
