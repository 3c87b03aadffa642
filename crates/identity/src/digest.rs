//! SHA-256 by whichever provider the build was made with.

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
