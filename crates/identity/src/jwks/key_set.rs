//! A parsed key set.

/// Names a key by what decides about it: `kid`, `alg` and the key itself (SHA-256 in the manner of RFC 7638). A refresh that
/// keeps the key keeps the thumbprint.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyThumbprint([u8; 32]);

/// The usable keys of an issuer.
#[derive(Clone, Debug)]
pub struct KeySet {
    skipped: Vec<SkippedKey>,
}

/// A key of the set that is not used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SkippedKey {
    /// The key's `kid`, shortened and escaped; empty if it has none.
    pub kid: String,
    /// Why it is not used.
    pub reason: &'static str,
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517 section 5) of at most 1 MiB and 256 keys.
    ///
    /// # Errors
    /// If it is none, is too large, or holds no usable key.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let _ = json;
        Err(KeySetError::NoUsableKey)
    }

    /// Whether this key is (still) in the set.
    #[must_use]
    pub fn contains(&self, key: &KeyThumbprint) -> bool {
        let _ = key;
        false
    }

    /// The number of usable keys.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Never: a set has at least one usable key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `kid`s of the usable keys that have one.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// The keys that are not used, and why.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }
}

/// Why a key set is refused whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeySetError {
    /// More than 1 MiB.
    #[error("key set is larger than 1 MiB")]
    TooLarge,
    /// More than 256 keys.
    #[error("key set has more than 256 keys")]
    TooManyKeys,
    /// Not JSON, or a member name stands twice.
    #[error("key set is not JSON in which every name stands once")]
    Json,
    /// No `keys` array of objects.
    #[error("key set has no `keys` array of objects")]
    Shape,
    /// Not one usable key.
    #[error("key set has no usable key")]
    NoUsableKey,
}
