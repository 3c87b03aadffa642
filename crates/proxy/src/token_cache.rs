//! Verified tokens, per core and bounded: a signature costs 50 µs, a look-up 0.1 µs.
//!
//! Keyed by the whole token and the issuer configuration that it was proven for. An entry ends at the earliest of
//! its expiry, the removal of its own key (a refresh that keeps the key keeps the entry) and the configuration's
//! change. Failures are never kept.

use std::sync::Arc;
use std::time::SystemTime;

use identity::jwks::KeySnapshot;
use identity::jwt::VerifiedToken;
use policy::{Recent, Subject};

use crate::authenticate::TokenIssuer;

/// A token that was proven, with what the rest of the pipeline needs of it.
#[derive(Debug)]
pub(crate) struct Proven {
    /// What its verification gave.
    pub token: VerifiedToken,
    /// The principal's entities for policy.
    pub subject: Arc<Subject>,
    /// The issuer, as it was configured when the token was proven for it.
    pub issuer: Arc<TokenIssuer>,
}

/// What was used lately.
#[derive(Debug)]
pub(crate) struct TokenCache(Recent<Box<str>, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    proven: Arc<Proven>,
    /// The key set under which the token's key was last seen.
    keys: u64,
}

impl TokenCache {
    /// A cache of at most `capacity` tokens.
    #[must_use]
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Recent::new((capacity / 2).max(1)))
    }

    /// The proven token, while it may still count.
    pub(crate) fn get(
        &mut self,
        token: &str,
        issuer: u64,
        keys: &KeySnapshot,
        now: SystemTime,
    ) -> Option<Arc<Proven>> {
        let entry = self.0.find(token)?;
        if !entry.stands(issuer, keys, now) {
            self.0.remove(token);
            return None;
        }
        if entry.keys != keys.generation {
            self.insert(token, entry.proven.clone(), keys);
        }
        Some(entry.proven)
    }

    /// Keeps a token that was verified with `keys`, or whose key is still among them.
    pub(crate) fn insert(&mut self, token: &str, proven: Arc<Proven>, keys: &KeySnapshot) {
        self.0.insert(token.into(), Entry { proven, keys: keys.generation });
    }
}

impl Entry {
    fn stands(&self, issuer: u64, keys: &KeySnapshot, now: SystemTime) -> bool {
        let token = &self.proven.token;
        self.proven.issuer.configuration == issuer
            && now < token.accepted_until
            && (self.keys == keys.generation || keys.keys.contains(&token.key))
    }
}
