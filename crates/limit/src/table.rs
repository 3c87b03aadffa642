//! The memory of the buckets: a table of fixed size, seven slots to a set, without a lock between threads.
//!
//! A key is a 64-bit hash that outsiders cannot steer. Its upper bits choose a set, and one of the set's slots
//! holds the whole hash beside the bucket's theoretical arrival time (TAT).
//!
//! * A known key is charged by compare-and-swap on its TAT; this never waits for another key.
//! * A new key takes the slot with the oldest TAT. A TAT in the past means a full bucket, so that forgetting it
//!   loses nothing. If all seven are in use, the one nearest to full goes and its caller gets a full bucket back:
//!   that favours who asked least and keeps who asked most. It is counted, see [`Table::evictions`].
//! * Inserts into one set take turns, for some tens of nanoseconds, because two threads that insert the same new
//!   key into two slots would admit it twice. Who comes second spins, and yields should the first be off its core.
//!
//! Where it weakens: a charge that is overtaken by an eviction *and* an insert with exactly its TAT, to the
//! nanosecond, is counted against the new key. And a caller who fills the table with more active keys than
//! `max_keys` can make it forget buckets, those nearest to full first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use std::{hint, thread};

use governor::nanos::Nanos;
use governor::state::StateStore;

/// The buckets of all keys; clones are the same table.
#[derive(Clone)]
pub(crate) struct Table(Arc<Shared>);

struct Shared {
    sets: Box<[Set]>,
    interval: Nanos,
    occupied: AtomicUsize,
    evictions: AtomicU64,
}

impl Table {
    pub(crate) fn new(max_keys: usize, interval: Duration) -> Self {
        let sets = max_keys.div_ceil(KEYS_PER_SET).max(1);
        Self(Arc::new(Shared {
            sets: (0..sets).map(|_| Set::default()).collect(),
            interval: interval.into(),
            occupied: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
        }))
    }

    /// How many slots hold a key, full buckets included.
    pub(crate) fn len(&self) -> usize {
        self.0.occupied.load(Ordering::Relaxed)
    }

    /// How many slots there are.
    pub(crate) fn capacity(&self) -> usize {
        self.0.sets.len().saturating_mul(SLOTS)
    }

    /// How many buckets were forgotten while they were not full.
    pub(crate) fn evictions(&self) -> u64 {
        self.0.evictions.load(Ordering::Relaxed)
    }
}

impl StateStore for Table {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let print = (*key).max(1); // 0 marks an empty slot
        // Multiply and shift: the upper half of the product is an even spread over the sets.
        let index = (u128::from(print) * self.0.sets.len() as u128) >> u64::BITS;
        let Some(set) = usize::try_from(index).ok().and_then(|index| self.0.sets.get(index)) else {
            return f(None).map(|(outcome, _)| outcome);
        };
        for attempt in 0_u32.. {
            if let Some(slot) = set.slots().find(|slot| slot.print.load(Ordering::Acquire) == print) {
                if let Some(outcome) = slot.charge(print, &f) {
                    return outcome;
                }
            } else if let Some(_turn) = Turn::take(&set.inserting)
                && !set.slots().any(|slot| slot.print.load(Ordering::Acquire) == print)
            {
                let (outcome, next) = f(None)?;
                self.insert(set, print, next);
                return Ok(outcome);
            }
            if attempt < SPINS { hint::spin_loop() } else { thread::yield_now() }
        }
        f(None).map(|(outcome, _)| outcome)
    }
}

impl Table {
    /// Puts a new key into the set's oldest slot. The caller holds the set's turn.
    fn insert(&self, set: &Set, print: u64, next: Nanos) {
        // `f(None)` answers `now + interval`.
        let now = next.saturating_sub(self.0.interval).as_u64();
        loop {
            let Some((oldest, slot)) =
                set.slots().map(|slot| (slot.tat.load(Ordering::Acquire), slot)).min_by_key(|(tat, _)| *tat)
            else {
                return;
            };
            if slot.tat.compare_exchange(oldest, CHANGING_HANDS, Ordering::AcqRel, Ordering::Relaxed).is_err()
            {
                continue; // its key was charged at this moment: it may not be the oldest any more
            }
            let evicted = slot.print.swap(print, Ordering::AcqRel);
            slot.tat.store(next.as_u64(), Ordering::Release);
            if evicted == 0 {
                self.0.occupied.fetch_add(1, Ordering::Relaxed);
            } else if oldest > now {
                self.0.evictions.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
    }
}

/// Two cache lines: one to find the key, one to charge it.
#[derive(Default)]
#[repr(C, align(128))]
struct Set {
    inserting: AtomicBool,
    prints: [AtomicU64; SLOTS],
    tats: [AtomicU64; SLOTS],
}

struct SlotRef<'a> {
    print: &'a AtomicU64,
    tat: &'a AtomicU64,
}

impl Set {
    fn slots(&self) -> impl Iterator<Item = SlotRef<'_>> {
        self.prints.iter().zip(&self.tats).map(|(print, tat)| SlotRef { print, tat })
    }
}

impl SlotRef<'_> {
    /// Charges the bucket, or says `None` when the slot changes hands.
    fn charge<T, F, E>(&self, print: u64, f: &F) -> Option<Result<T, E>>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut tat = self.tat.load(Ordering::Acquire);
        loop {
            // INVARIANT: the hash is read after the TAT. An insert first marks the TAT, then writes the hash, then
            // the new TAT: so a TAT that belongs to another key is seen here, or fails the exchange below.
            if tat == CHANGING_HANDS || self.print.load(Ordering::Acquire) != print {
                return None;
            }
            match f(Some(Nanos::new(tat))) {
                Err(refused) => return Some(Err(refused)),
                Ok((outcome, next)) => {
                    match self.tat.compare_exchange_weak(
                        tat,
                        next.as_u64(),
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    ) {
                        Ok(_) => return Some(Ok(outcome)),
                        Err(moved) => tat = moved,
                    }
                }
            }
        }
    }
}

/// The right to insert into a set, given back on drop.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    fn take(inserting: &'a AtomicBool) -> Option<Self> {
        inserting
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Self(inserting))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// One cache line of hashes, with the turn beside them.
const SLOTS: usize = 7;

/// Sets are sized for four keys each, so that at `max_keys` active keys about 2 in 100 find no slot of their own.
const KEYS_PER_SET: usize = 4;

/// A TAT that no clock reaches: the slot is being given to another key.
const CHANGING_HANDS: u64 = u64::MAX;

/// How often to try again before the core is offered to who holds the turn.
const SPINS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(table: &Table, key: u64, next: u64) {
        let _: Result<(), ()> = table.measure_and_replace(&key, |_| Ok(((), Nanos::new(next))));
    }

    fn known(table: &Table, key: u64) -> bool {
        table.measure_and_replace(&key, |tat| Err::<((), Nanos), _>(tat.is_some())).unwrap_err()
    }

    #[test]
    fn a_full_set_forgets_the_bucket_that_is_nearest_to_full() {
        let table = Table::new(1, Duration::from_nanos(1));
        for key in 1..=7 {
            touch(&table, key, 100 + key);
        }
        assert_eq!((table.len(), table.capacity(), table.evictions()), (7, 7, 0));
        touch(&table, 8, 50);
        assert!(!known(&table, 1));
        assert!((2..=8).all(|key| known(&table, key)));
        assert_eq!((table.len(), table.evictions()), (7, 1));
    }

    #[test]
    fn forgetting_a_bucket_that_is_full_again_is_no_eviction() {
        let table = Table::new(1, Duration::from_nanos(1));
        for key in 1..=7 {
            touch(&table, key, 100);
        }
        touch(&table, 8, 500);
        assert_eq!(table.evictions(), 0);
    }

    #[test]
    fn a_refused_new_key_takes_no_slot() {
        let table = Table::new(1, Duration::from_nanos(1));
        assert!(!known(&table, 5));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_set_is_two_cache_lines() {
        assert_eq!(size_of::<Set>(), 128);
    }
}
