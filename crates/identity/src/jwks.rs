//! JSON Web Key Sets: the public keys of an issuer, and the store that keeps them fresh.
//!
//! Passes: public keys of RSA (2048 to 8192 bits), P-256, P-384 and Ed25519 for signatures. Skipped, with the reason:
//! every other key, among them symmetric ones and every key whose `kid` stands twice. A set without one usable key is an
//! error, so that it never replaces a good one.

mod key;
mod key_set;
mod store;
#[cfg(test)]
mod tests;

pub use key_set::{KeySet, KeySetError, KeyThumbprint, SkippedKey};
pub use store::{DEFAULT_COOLDOWN, KeySnapshot, KeyStatus, KeyStore, KeyWriter, KeysUnavailable, Refetch};
