//! Verified tokens, per core and bounded: a signature costs 50 µs, a look-up 0.1 µs.
//!
//! Keyed by the whole token and the issuer configuration that it was proven for. An entry ends at the earliest of
//! its expiry, the removal of its own key (a refresh that keeps the key keeps the entry) and the configuration's
//! change. Failures are never kept.
//!
//! A token is kept when it comes a second time: most that come once never come again (one for each job or page), and
//! keeping them would cost more than a look-up saves, and push out those that do.

use std::hash::{BuildHasher as _, RandomState};
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
pub(crate) struct TokenCache {
    kept: Recent<Box<str>, Entry>,
    seen: Seen,
}

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
        Self { kept: Recent::new((capacity / 2).max(1)), seen: Seen::new(capacity) }
    }

    /// The proven token, while it may still count.
    pub(crate) fn get(
        &mut self,
        token: &str,
        issuer: u64,
        keys: &KeySnapshot,
        now: SystemTime,
    ) -> Option<Arc<Proven>> {
        let entry = self.kept.find(token)?;
        if !entry.stands(issuer, keys, now) {
            self.kept.remove(token);
            return None;
        }
        if entry.keys != keys.generation {
            self.keep(token, entry.proven.clone(), keys);
        }
        Some(entry.proven)
    }

    /// Takes note of a token that was verified with `keys`, and keeps it if it came before.
    pub(crate) fn insert(&mut self, token: &str, proven: Arc<Proven>, keys: &KeySnapshot) {
        if self.seen.again(token) {
            self.keep(token, proven, keys);
        }
    }

    fn keep(&mut self, token: &str, proven: Arc<Proven>, keys: &KeySnapshot) {
        self.kept.insert(token.into(), Entry { proven, keys: keys.generation });
    }
}

/// Which tokens came lately: a Bloom filter that is emptied when as many came as there is room for. It may take a new
/// token for a known one, never the other way round.
#[derive(Debug)]
struct Seen {
    hasher: RandomState,
    bits: Box<[u64]>,
    room: usize,
    left: usize,
}

impl Seen {
    fn new(room: usize) -> Self {
        let words = room.saturating_mul(BITS_PER_TOKEN).div_ceil(WORD).next_power_of_two();
        Self { hasher: RandomState::new(), bits: vec![0; words].into(), room, left: room }
    }

    /// Whether it was there; from now on it is.
    fn again(&mut self, token: &str) -> bool {
        let hash = self.hasher.hash_one(token);
        let mut was_there = true;
        for half in [hash, hash.rotate_left(u64::BITS / 2)] {
            let place = (half as u32) as usize;
            let (word, bit) = ((place / WORD) & (self.bits.len() - 1), 1_u64 << (place % WORD));
            if let Some(word) = self.bits.get_mut(word) {
                was_there &= *word & bit != 0;
                *word |= bit;
            }
        }
        if !was_there {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                self.bits.fill(0);
                self.left = self.room;
            }
        }
        was_there
    }
}

/// With two bits each, one new token in twenty is taken for a known one when the filter is nearly full.
const BITS_PER_TOKEN: usize = 8;
const WORD: usize = u64::BITS as usize;

impl Entry {
    fn stands(&self, issuer: u64, keys: &KeySnapshot, now: SystemTime) -> bool {
        let token = &self.proven.token;
        self.proven.issuer.configuration == issuer
            && now < token.accepted_until
            && (self.keys == keys.generation || keys.keys.contains(&token.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_once_is_known_the_second_time() {
        let mut seen = Seen::new(64);
        for turn in 0..20 {
            let token = format!("token {turn}");
            seen.again(&token);
            assert!(seen.again(&token));
        }
    }

    #[test]
    fn few_new_tokens_are_taken_for_known_ones_however_many_came() {
        let mut seen = Seen::new(1024);
        let taken = (0..100_000).filter(|number| seen.again(&format!("token {number}"))).count();
        assert!(taken < 5_000, "{taken}");
    }
}
