//! A bounded map that forgets what was not asked for lately.

use std::borrow::Borrow;
use std::hash::Hash;
use std::mem;

use hashbrown::HashMap;

/// Two generations of entries: when the young one is full it becomes the old one, and the old one is dropped. What
/// is found among the old moves to the young. Holds at most twice its capacity.
#[derive(Debug)]
pub struct Recent<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// An empty map that holds at most twice `capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, young: HashMap::new(), old: HashMap::new() }
    }

    /// The value, if it is still there.
    pub fn find<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Puts a value in the place of what was there.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            // Both keep their memory: growing again would hash every entry anew.
            self.old.clear();
            mem::swap(&mut self.old, &mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Forgets one.
    pub fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// How many are held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
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
            assert!(recent.len() <= 16);
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
    fn what_was_removed_is_gone_wherever_it_was() {
        let mut recent = Recent::new(1);
        recent.insert("old".to_owned(), ());
        recent.insert("young".to_owned(), ());
        recent.remove("old");
        recent.remove("young");
        assert_eq!((recent.find("old"), recent.find("young")), (None, None));
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
