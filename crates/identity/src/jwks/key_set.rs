//! A parsed key set.

use std::collections::{HashMap, HashSet};

use super::key::Key;
use crate::json::{Json, Object};
use crate::jwt::{Algorithm, TokenError, is_key_id};

/// A set of an issuer is a few kilobytes; what is larger is no key set.
const MAX_SET_BYTES: usize = 1024 * 1024;
/// Issuers publish two or three keys.
const MAX_KEYS: usize = 256;

/// The usable keys of an issuer.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    by_kid: HashMap<String, usize>,
    skipped: Vec<SkippedKey>,
}

/// Names a key by what decides about it: `kid`, `alg` and the key itself (SHA-256 in the manner of RFC 7638). A refresh that
/// keeps the key keeps the thumbprint.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyThumbprint(pub(super) [u8; 32]);

/// A key of the set that is not used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SkippedKey {
    /// The key's `kid`; empty if it has none that can be shown.
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
        if json.len() > MAX_SET_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let members = Json::parse_object(json).ok_or(KeySetError::Json)?;
        let Some(Json::Array(entries)) = members.get("keys") else { return Err(KeySetError::Shape) };
        if entries.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        let entries: Vec<&Object<'_>> = entries
            .iter()
            .map(
                |entry| if let Json::Object(members) = entry { Ok(members) } else { Err(KeySetError::Shape) },
            )
            .collect::<Result<_, _>>()?;
        let ambiguous = ambiguous_kids(&entries);
        let mut set = Self { keys: Vec::new(), by_kid: HashMap::new(), skipped: Vec::new() };
        for entry in entries {
            let kid = kid(entry);
            let key = if kid.is_some_and(|kid| ambiguous.contains(kid)) {
                Err("kid stands twice")
            } else {
                Key::read(entry)
            };
            match key {
                Ok(key) => set.add(key),
                Err(reason) => {
                    let kid = kid.filter(|kid| is_key_id(kid)).unwrap_or_default().to_owned();
                    set.skipped.push(SkippedKey { kid, reason });
                }
            }
        }
        if set.keys.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(set) }
    }

    /// The key for a token that names `kid` and `algorithm`. A token that names no key is verified only if the set has
    /// exactly one: keys are never tried in turn.
    pub(crate) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, TokenError> {
        let unknown = || TokenError::KeyUnknown { kid: kid.map(str::to_owned) };
        let key = match (kid, self.keys.as_slice()) {
            (Some(kid), keys) => self.by_kid.get(kid).and_then(|&position| keys.get(position)),
            (None, [key]) => Some(key),
            (None, _) => None,
        };
        let key = key.ok_or_else(unknown)?;
        if key.allows(algorithm) { Ok(key) } else { Err(TokenError::AlgorithmRefused) }
    }

    /// Whether this key is (still) in the set.
    #[must_use]
    pub fn contains(&self, key: &KeyThumbprint) -> bool {
        self.keys.iter().any(|ours| ours.thumbprint() == *key)
    }

    /// The number of usable keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set has at least one usable key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The `kid`s of the usable keys that have one.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(Key::kid)
    }

    /// The keys that are not used, and why.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    fn add(&mut self, key: Key) {
        if let Some(kid) = key.kid() {
            self.by_kid.insert(kid.to_owned(), self.keys.len());
        }
        self.keys.push(key);
    }
}

fn kid<'a>(entry: &'a Object<'_>) -> Option<&'a str> {
    entry.get("kid").and_then(Json::as_str)
}

/// The `kid`s that stand more than once, whatever the keys are: which of them a token means cannot be told.
fn ambiguous_kids<'a>(entries: &[&'a Object<'_>]) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    entries.iter().filter_map(|entry| kid(entry)).filter(|kid| !seen.insert(*kid)).collect()
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
    #[error("key set is not a JSON object such as `{{\"keys\": […]}}`, or a name stands twice in it")]
    Json,
    /// No `keys` array of objects.
    #[error("key set has no `keys` array of objects")]
    Shape,
    /// Not one usable key.
    #[error("key set has no usable key")]
    NoUsableKey,
}
