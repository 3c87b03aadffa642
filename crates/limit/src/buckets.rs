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
