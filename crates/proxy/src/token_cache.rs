//! Verified tokens, per core and bounded: a signature costs 50 µs, a look-up 0.1 µs.
//!
//! Keyed by the whole token and the issuer configuration that it was proven for. An entry ends at the earliest of
//! its expiry, the removal of its own key (a refresh that keeps the key keeps the entry) and the configuration's
//! change. Failures are never kept.

use std::sync::Arc;
use std::time::SystemTime;

use hashbrown::HashMap;
use identity::jwks::KeySnapshot;
use identity::jwt::VerifiedToken;
use policy::Subject;

/// A token that was proven, with what the rest of the pipeline needs of it.
#[derive(Debug)]
pub(crate) struct Proven {
    /// What its verification gave.
    pub token: VerifiedToken,
    /// The principal's entities for policy.
    pub subject: Arc<Subject>,
    /// The issuer configuration that it was proven for.
    pub issuer: u64,
}

/// Two generations of entries: when the young one is full it becomes the old one, and what is used moves back.
#[derive(Debug)]
pub(crate) struct TokenCache {
    young: HashMap<Box<str>, Entry>,
    old: HashMap<Box<str>, Entry>,
    half: usize,
}

#[derive(Debug)]
struct Entry {
    proven: Arc<Proven>,
    /// The key set under which the token's key was last seen.
    keys: u64,
}

impl TokenCache {
    /// A cache of at most `capacity` tokens.
    #[must_use]
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) }
    }

    /// The proven token, while it may still count.
    pub(crate) fn get(
        &mut self,
        token: &str,
        issuer: u64,
        keys: &KeySnapshot,
        now: SystemTime,
    ) -> Option<Arc<Proven>> {
        if let Some(entry) = self.young.get_mut(token) {
            if entry.stands(issuer, keys, now) {
                return Some(entry.proven.clone());
            }
            self.young.remove(token);
            return None;
        }
        let (token, mut entry) = self.old.remove_entry(token)?;
        if !entry.stands(issuer, keys, now) {
            return None;
        }
        let proven = entry.proven.clone();
        self.put(token, entry);
        Some(proven)
    }

    /// Keeps a token that was verified with `keys`.
    pub(crate) fn insert(&mut self, token: &str, proven: Arc<Proven>, keys: &KeySnapshot) {
        self.put(token.into(), Entry { proven, keys: keys.generation });
    }

    fn put(&mut self, token: Box<str>, entry: Entry) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, entry);
    }
}

impl Entry {
    fn stands(&mut self, issuer: u64, keys: &KeySnapshot, now: SystemTime) -> bool {
        if self.proven.issuer != issuer || now >= self.proven.token.accepted_until {
            return false;
        }
        if self.keys != keys.generation {
            if !keys.keys.contains(&self.proven.token.key) {
                return false;
            }
            self.keys = keys.generation;
        }
        true
    }
}
