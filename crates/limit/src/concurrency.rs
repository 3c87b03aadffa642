//! How many at once: a cap whose slots give themselves back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A cap on what runs at the same time, over all cores.
#[derive(Clone, Debug)]
pub struct Concurrency {
    max: u32,
    in_use: Arc<AtomicU32>,
}

/// One of the cap's slots; dropping it gives it back.
#[derive(Debug)]
pub struct Slot(Arc<AtomicU32>);

impl Concurrency {
    /// A cap of `max`; 0 lets nothing pass.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { max, in_use: Arc::default() }
    }

    /// A slot, or `None` if all are taken. Never waits.
    #[must_use]
    pub fn try_acquire(&self) -> Option<Slot> {
        self.in_use
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |taken| {
                (taken < self.max).then_some(taken + 1)
            })
            .ok()
            .map(|_| Slot(Arc::clone(&self.in_use)))
    }

    /// How many slots are taken.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// How many there are.
    #[must_use]
    pub const fn max(&self) -> u32 {
        self.max
    }

    /// The same slots under another cap, for a configuration that changed while requests run: slots that are
    /// taken count on.
    #[must_use]
    pub fn with_max(&self, max: u32) -> Self {
        Self { max, in_use: Arc::clone(&self.in_use) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_dropped_can_be_taken_again() {
        let cap = Concurrency::new(2);
        let first = cap.try_acquire().unwrap();
        let _second = cap.try_acquire().unwrap();
        assert!(cap.try_acquire().is_none());
        drop(first);
        assert_eq!(cap.in_use(), 1);
        assert!(cap.try_acquire().is_some());
    }

    #[test]
    fn a_lower_cap_counts_what_already_runs() {
        let cap = Concurrency::new(2);
        let _running = (cap.try_acquire().unwrap(), cap.try_acquire().unwrap());
        assert!(cap.with_max(2).try_acquire().is_none());
        assert!(cap.with_max(3).try_acquire().is_some());
    }

    #[test]
    fn many_threads_never_hold_more_than_the_cap() {
        let cap = Concurrency::new(3);
        let seen = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Some(_slot) = cap.try_acquire() {
                            seen.fetch_max(cap.in_use(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(seen.load(Ordering::Relaxed) <= 3);
        assert_eq!(cap.in_use(), 0);
    }
}
