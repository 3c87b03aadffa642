//! Counters that no two cores share a cache line of.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Stands for all threads that are no core.
pub(crate) const NOBODY: usize = usize::MAX;

/// One `T` for each core, and a last one for everybody else (the control runtime, a core out of range). Clones are the same.
///
/// INVARIANT: who gives the number of a core is the thread of that core. So its numbers have one writer, who loads and stores: a
/// read-modify-write would make him wait for memory that was not used for long.
#[derive(Debug)]
pub(crate) struct PerCore<T>(Arc<[Padded<T>]>);

impl<T> Clone for PerCore<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// 128 bytes: the prefetcher of x86 fetches cache lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerCore<T> {
    pub(crate) fn new(cores: usize) -> Self {
        Self((0..=cores).map(|_| Padded::default()).collect())
    }

    /// What belongs to `core`.
    pub(crate) fn on(&self, core: usize) -> Option<&T> {
        self.0.get(core).or(self.0.last()).map(|padded| &padded.0)
    }

    /// True when nobody else writes what belongs to `core`.
    pub(crate) fn is_own(&self, core: usize) -> bool {
        core < self.0.len().saturating_sub(1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

/// A number that only grows.
pub(crate) type Counter = PerCore<AtomicU64>;

/// A number that goes up and down.
pub(crate) type Level = PerCore<AtomicI64>;

impl Counter {
    pub(crate) fn add(&self, core: usize) {
        self.add_all(core, 1);
    }

    pub(crate) fn add_all(&self, core: usize, many: u64) {
        if let Some(count) = self.on(core) {
            raise(count, many, self.is_own(core));
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Level {
    pub(crate) fn change(&self, core: usize, by: i64) {
        if let Some(level) = self.on(core) {
            match self.is_own(core) {
                true => level.store(level.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed),
                false => _ = level.fetch_add(by, Ordering::Relaxed),
            }
        }
    }

    pub(crate) fn sum(&self) -> i64 {
        self.iter().map(|level| level.load(Ordering::Relaxed)).sum()
    }
}

/// Raises a counter, which is the writer's own or is shared.
pub(crate) fn raise(count: &AtomicU64, by: u64, is_own: bool) {
    match is_own {
        true => count.store(count.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed),
        false => _ = count.fetch_add(by, Ordering::Relaxed),
    }
}

/// Counters by a word that stands in the code, so that there can only be a few.
///
/// Each core has its own short list behind its own lock; only a scrape ever meets a core there.
pub(crate) type Words = PerCore<Mutex<Vec<(&'static str, u64)>>>;

impl Words {
    pub(crate) fn add(&self, core: usize, word: &'static str) {
        let Some(words) = self.on(core) else { return };
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => words.push((word, 1)),
        }
    }

    /// The sum of each word, in alphabetical order.
    pub(crate) fn sums(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for words in self.iter() {
            for (word, count) in words.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                *sums.entry(*word).or_default() += count;
            }
        }
        sums
    }
}
