//! One limit: a bucket for each key, by GCRA, in bounded memory.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use governor::RateLimiter;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;

use crate::table::Table;
use crate::{Quota, Verdict};

/// The buckets of one limit, shared by all cores (put it into an `Arc`).
///
/// Keys are hashed with a seed that is drawn per process, so that nobody can choose keys that collide. Two keys
/// with the same 64-bit hash would share a bucket.
pub struct Buckets<C: Clock = MonotonicClock> {
    quota: Quota,
    seed: RandomState,
    table: Table,
    limiter: RateLimiter<u64, Table, C, StateInformationMiddleware>,
}

impl<C: Clock> fmt::Debug for Buckets<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets")
            .field("quota", &self.quota)
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}

impl Buckets {
    /// Full buckets for about `max_keys` keys at once, in about 32 bytes each, allocated now.
    #[must_use]
    pub fn new(quota: Quota, max_keys: usize) -> Self {
        Self::with_clock(quota, max_keys, MonotonicClock)
    }
}

impl<C: Clock> Buckets<C> {
    /// The same under a clock that a test drives.
    #[must_use]
    pub fn with_clock(quota: Quota, max_keys: usize, clock: C) -> Self {
        let table = Table::new(max_keys, quota.interval());
        #[expect(clippy::expect_used, reason = "a quota's interval is at least a microsecond")]
        let rate = governor::Quota::with_period(quota.interval())
            .expect("an interval of zero is refused by `Quota`")
            .allow_burst(quota.burst());
        let limiter = RateLimiter::new(rate, table.clone(), clock);
        Self { quota, seed: RandomState::new(), table, limiter }
    }

    /// Counts one against `key` if it may pass. Never waits and never allocates.
    pub fn check<K: Hash + ?Sized>(&self, key: &K) -> Verdict {
        let limit = self.quota.burst().get();
        match self.limiter.check_key(&self.seed.hash_one(key)) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let reset = self.quota.interval().saturating_mul(limit.saturating_sub(remaining));
                Verdict { allowed: true, limit, remaining, reset, retry_after: None }
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.limiter.clock().now());
                Verdict { allowed: false, limit, remaining: 0, reset: wait, retry_after: Some(wait) }
            }
        }
    }

    /// The quota of every bucket.
    #[must_use]
    pub const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// How many keys are remembered, full buckets included.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// How many keys can be remembered at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// How many buckets were forgotten before they were full again, because more keys than planned are active.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.table.evictions()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::num::NonZeroU32;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    use super::*;

    fn buckets(rate: &str, burst: u32, max_keys: usize) -> (Buckets<FakeRelativeClock>, FakeRelativeClock) {
        let quota = Quota::parse(rate).unwrap().with_burst(NonZeroU32::new(burst).unwrap()).unwrap();
        let clock = FakeRelativeClock::default();
        (Buckets::with_clock(quota, max_keys, clock.clone()), clock)
    }

    /// GCRA as it stands in the books, one bucket to a key and no bound.
    #[derive(Default)]
    struct Model {
        arrivals: HashMap<u8, u64>,
        now: u64,
    }

    impl Model {
        /// How many remain after this one, or how many nanoseconds are missing.
        fn check(&mut self, key: u8, interval: u64, burst: u64) -> Result<u64, u64> {
            let arrival = self.arrivals.get(&key).copied().unwrap_or(0).max(self.now);
            let next = arrival + interval;
            let room = self.now + burst * interval;
            if next > room {
                return Err(next - room);
            }
            self.arrivals.insert(key, next);
            Ok((room - next) / interval)
        }
    }

    proptest! {
        #[test]
        fn the_table_decides_as_plain_gcra_does(
            per_minute in 1_u32..100_000,
            burst in 1_u32..20,
            steps in prop::collection::vec((0_u8..12, 0_u64..200_000_000), 1..300),
        ) {
            let (buckets, clock) = buckets(&format!("{per_minute}/m"), burst, 4096);
            let interval = u64::try_from(buckets.quota().interval().as_nanos()).unwrap();
            let mut model = Model::default();
            for (key, pause) in steps {
                clock.advance(Duration::from_nanos(pause));
                model.now += pause;
                let verdict = buckets.check(&key);
                match model.check(key, interval, burst.into()) {
                    Ok(remaining) => {
                        prop_assert!(verdict.allowed);
                        prop_assert_eq!(u64::from(verdict.remaining), remaining);
                        prop_assert_eq!(verdict.retry_after, None);
                    }
                    Err(missing) => {
                        prop_assert!(!verdict.allowed);
                        prop_assert_eq!(verdict.retry_after, Some(Duration::from_nanos(missing)));
                    }
                }
            }
        }
    }

    /// Runs `work` on several threads that start at the same moment.
    fn together(threads: usize, work: impl Fn() + Sync) {
        let start = Barrier::new(threads);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    start.wait();
                    work();
                });
            }
        });
    }

    #[test]
    fn waiting_as_long_as_told_is_enough_and_less_is_not() {
        let (buckets, clock) = buckets("10/s", 2, 16);
        assert!(buckets.check("caller").allowed && buckets.check("caller").allowed);
        let wait = buckets.check("caller").retry_after.unwrap();
        clock.advance(wait - Duration::from_nanos(1));
        assert!(!buckets.check("caller").allowed);
        clock.advance(Duration::from_nanos(1));
        assert!(buckets.check("caller").allowed);
    }

    #[test]
    fn a_million_keys_take_no_more_memory_than_planned() {
        let (buckets, clock) = buckets("1/h", 5, 10_000);
        let capacity = buckets.capacity();
        for key in 0_u32..1_000_000 {
            clock.advance(Duration::from_nanos(10));
            assert!(buckets.check(&key).allowed, "a new caller is never refused");
        }
        assert_eq!(buckets.capacity(), capacity);
        assert!(buckets.keys() <= capacity && capacity < 20_000);
        assert!(buckets.evictions() > 900_000);
    }

    #[test]
    fn a_flood_of_keys_gives_a_noisy_caller_nothing_back() {
        let (buckets, clock) = buckets("1/s", 100, 1_000);
        let spend = |key: &str| (0..1_000).filter(|_| buckets.check(key).allowed).count();
        assert_eq!(spend("noisy"), 100);
        for key in 0_u32..200_000 {
            clock.advance(Duration::from_nanos(10));
            buckets.check(&key);
        }
        assert!(spend("noisy") <= 1);
    }

    #[test]
    fn a_noisy_caller_takes_nothing_from_the_others() {
        let (buckets, clock) = buckets("10/s", 1, 1_000);
        for _ in 0..20 {
            clock.advance(Duration::from_millis(100));
            assert_eq!((0..500).filter(|_| buckets.check("noisy").allowed).count(), 1);
            assert!((0_u16..300).all(|quiet| buckets.check(&quiet).allowed));
        }
    }

    #[test]
    fn up_to_max_keys_nearly_every_caller_keeps_a_bucket() {
        let (buckets, _clock) = buckets("1/h", 1, 10_000);
        for key in 0_u32..10_000 {
            assert!(buckets.check(&key).allowed);
        }
        let forgotten = (0_u32..10_000).filter(|key| buckets.check(key).allowed).count();
        assert!(forgotten < 1_000, "{forgotten} of 10000 lost their bucket");
    }

    #[test]
    fn all_threads_together_admit_exactly_the_limit() {
        for _ in 0..50 {
            // One set of seven slots: the keys meet.
            let (buckets, _clock) = buckets("1/h", 50, 1);
            let admitted: [AtomicU32; 5] = Default::default();
            together(4, || {
                for _ in 0..30 {
                    for (key, count) in admitted.iter().enumerate() {
                        count.fetch_add(u32::from(buckets.check(&key).allowed), Ordering::Relaxed);
                    }
                }
            });
            assert_eq!(admitted.map(AtomicU32::into_inner), [50; 5]);
        }
    }

    #[test]
    fn threads_that_meet_on_a_new_key_do_not_admit_it_twice() {
        for _ in 0..20 {
            let (buckets, _clock) = buckets("1/h", 1, 100_000);
            let admitted = AtomicU32::new(0);
            together(4, || {
                for key in 0_u32..5_000 {
                    admitted.fetch_add(u32::from(buckets.check(&key).allowed), Ordering::Relaxed);
                }
            });
            assert_eq!((admitted.into_inner(), buckets.keys()), (5_000, 5_000));
        }
    }

    #[test]
    fn threads_that_evict_each_others_keys_never_refuse_a_full_bucket() {
        let (buckets, _clock) = buckets("1000/s", 4_000_000, 1);
        together(4, || {
            for step in 0..20_000 {
                assert!(buckets.check(&(step * 7 % 20)).allowed);
            }
        });
        assert_eq!(buckets.keys(), 7);
    }
}
