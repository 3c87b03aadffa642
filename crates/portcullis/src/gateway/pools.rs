//! Keys of connection pools, one for each combination of everything that tells connections apart.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use proxy::upstream::{PoolKey, WeakPoolKey};

use super::slots::next_id;

/// The keys that anybody holds, by what they stand for.
#[derive(Debug, Default)]
pub(super) struct PoolKeys(Mutex<HashMap<String, WeakPoolKey>>);

impl PoolKeys {
    /// The key of a combination, written out; the same for as long as anybody holds it.
    pub(super) fn key(&self, identity: String) -> PoolKey {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = keys.get(&identity).and_then(WeakPoolKey::upgrade) {
            return held;
        }
        keys.retain(|_, key| key.is_held());
        let key = PoolKey::new(next_id());
        keys.insert(identity, key.downgrade());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combination_has_one_key_for_as_long_as_anybody_holds_it() {
        let keys = PoolKeys::default();
        let (one, same, other) =
            (keys.key("a".to_owned()), keys.key("a".to_owned()), keys.key("b".to_owned()));
        assert_eq!(one.number(), same.number());
        assert_ne!(one.number(), other.number());
        let number = one.number();
        drop((one, same));
        assert_ne!(keys.key("a".to_owned()).number(), number, "its pools are gone, and the number with them");
        assert_eq!(keys.0.lock().unwrap().len(), 2, "what nobody holds is forgotten");
    }
}
