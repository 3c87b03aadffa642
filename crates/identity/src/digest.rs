//! Digests by whichever provider the build was made with.

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs::digest as provider;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use ring::digest as provider;

/// The SHA-256 digest of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(provider::digest(&provider::SHA256, bytes).as_ref());
    out
}

/// The SHA-1 digest of `bytes`: for the handshake of WebSockets (RFC 6455 section 4.2.2), which proves nothing by it, and for
/// nothing else.
#[must_use]
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(provider::digest(&provider::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    out
}
