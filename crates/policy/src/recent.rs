//! A bounded map that forgets what was not asked for lately.

use std::hash::Hash;
use std::mem;

use hashbrown::HashMap;

/// Two generations of entries: when the young one is full it becomes the old one, and the old one is dropped. What
/// is found among the old moves to the young. Holds at most twice its capacity.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, young: HashMap::new(), old: HashMap::new() }
    }

    pub(crate) fn find(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_no_more_than_twice_its_capacity() {
        let mut recent = Recent::new(8);
        for number in 0..1000 {
            recent.insert(number, number);
            assert!(recent.young.len() + recent.old.len() <= 16);
        }
        assert_eq!(recent.find(&999), Some(999));
        assert_eq!(recent.find(&0), None);
    }

    #[test]
    fn what_is_asked_for_stays() {
        let mut recent = Recent::new(8);
        recent.insert(0, 'a');
        for number in 1..1000 {
            recent.insert(number, 'b');
            assert_eq!(recent.find(&0), Some('a'));
        }
    }

    #[test]
    fn cleared_it_is_empty() {
        let mut recent = Recent::new(1);
        recent.insert(0, ());
        recent.insert(1, ());
        recent.clear();
        assert_eq!((recent.find(&0), recent.find(&1)), (None, None));
    }
}
