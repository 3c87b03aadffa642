//! Which endpoint a request goes to, and which one it is tried on next.
//!
//! Ejected endpoints are left out as long as at least [`EndpointSet::floor`] others are there; below that all are asked, since
//! endpoints that all seem to fail are more likely judged wrongly than gone.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::budget::Budget;
use super::health::Ejection;
use super::{Endpoint, EndpointSet, Upstream};
use crate::core::Core;

/// How requests are spread over several endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// The less loaded of two chosen by chance: peak EWMA of the latency × requests in flight.
    LeastLoaded,
}

/// How an upstream uses its endpoints; an only endpoint is always used.
#[derive(Debug)]
pub struct Balancing {
    /// How requests are spread.
    pub balance: Balance,
    /// When an endpoint that fails is left out; none is never.
    pub ejection: Option<Ejection>,
    /// For what may be tried again.
    pub budget: Budget,
    /// Counts the requests of all cores.
    turn: AtomicUsize,
}

impl Balancing {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(balance: Balance, ejection: Option<Ejection>, budget: Budget) -> Self {
        Self { balance, ejection, budget, turn: AtomicUsize::new(0) }
    }
}

/// The endpoints that one request is tried on, all of one set.
#[derive(Debug)]
pub(super) struct Tries {
    turn: usize,
    /// A bit for each endpoint, by its place.
    tried: u64,
    /// It may have reached an endpoint that died of it: that happens to no second one but this.
    resent: bool,
    /// No try begins after this.
    until: Instant,
}

/// Why a request is tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Again {
    /// Nothing was sent: there was no connection.
    NotConnected,
    /// Nothing was sent: the connection ended before.
    NotSent,
    /// It may have arrived; it is safe and has no body.
    Died,
}

impl Again {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::NotSent => "not_sent",
            Self::Died => "died",
        }
    }
}

impl Tries {
    /// The first endpoint.
    pub(super) fn begin(
        upstream: &Upstream,
        endpoints: &EndpointSet,
        tick: Instant,
    ) -> Option<(Self, usize)> {
        let until = tick + upstream.timeouts.response;
        let mut tries = Self { turn: 0, tried: 0, resent: false, until };
        if let [_] = **endpoints {
            return Some((tries, 0));
        }
        tries.turn = upstream.balancing.turn.fetch_add(1, Ordering::Relaxed);
        let place = choose(endpoints, upstream.balancing.balance, tries.turn, 0, tick)?;
        tries.tried = bit(place);
        Some((tries, place))
    }

    /// True if an unanswered request could still be sent to another endpoint.
    pub(super) fn may_resend(&self, endpoints: &EndpointSet) -> bool {
        endpoints.len() > 1 && !self.resent
    }

    /// Another endpoint, if there is one that was not tried, there is time, and the budget allows it.
    pub(super) fn again(
        &mut self,
        core: &Core,
        (upstream, endpoints): (&Upstream, &EndpointSet),
        why: Again,
    ) -> Option<usize> {
        let now = Instant::now();
        if endpoints.len() < 2 || (why == Again::Died && self.resent) || now >= self.until {
            return None;
        }
        let Balancing { balance, budget, turn, .. } = &upstream.balancing;
        let place = choose(endpoints, *balance, self.turn, self.tried, now)?;
        if !budget.spend(turn.load(Ordering::Relaxed), now) {
            upstream.series.over_budget(core.id.index());
            return None;
        }
        upstream.series.retried(core.id.index(), why.as_str());
        self.resent |= why == Again::Died;
        self.tried |= bit(place);
        Some(place)
    }
}

/// The place of an endpoint that was not tried yet. A first try goes to all of them when too few are usable; a further one
/// only when no other is usable.
fn choose(endpoints: &EndpointSet, balance: Balance, turn: usize, tried: u64, now: Instant) -> Option<usize> {
    let is_new = |place: usize| tried & bit(place) == 0;
    let usable = |(place, endpoint): &(usize, &Endpoint)| is_new(*place) && endpoint.health.is_usable(now);
    let count = endpoints.iter().enumerate().filter(usable).count();
    let enough = if tried == 0 { endpoints.floor().max(1) } else { 1 };
    if count >= enough {
        let nth = |n| endpoints.iter().enumerate().filter(usable).nth(n);
        return pick(balance, turn, count, now, nth);
    }
    let new = |(place, _): &(usize, &Endpoint)| is_new(*place);
    let count = endpoints.iter().enumerate().filter(new).count();
    pick(balance, turn, count, now, |n| endpoints.iter().enumerate().filter(new).nth(n))
}

fn pick<'a>(
    balance: Balance,
    turn: usize,
    count: usize,
    now: Instant,
    nth: impl Fn(usize) -> Option<(usize, &'a Endpoint)>,
) -> Option<usize> {
    let first = match balance {
        Balance::RoundRobin => return nth(turn.checked_rem(count)?).map(|(place, _)| place),
        Balance::LeastLoaded => nth(scattered(turn).checked_rem(count)?)?,
    };
    // Another one than the first: a step of 1 to count − 1.
    let step = (scattered(turn) >> 32).checked_rem(count - 1).map_or(0, |step| step + 1);
    let second = nth((scattered(turn) % count + step) % count)?;
    let is_less = second.1.health.load(now) < first.1.health.load(now);
    Some(if is_less { second.0 } else { first.0 })
}

/// A number as good as by chance (the finaliser of splitmix64).
fn scattered(turn: usize) -> usize {
    let mut x = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as usize
}

/// Places that are 64 apart share a bit: with so many endpoints there is another one to try.
const fn bit(place: usize) -> u64 {
    1 << (place % 64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{Health, PoolKey};
    use super::*;

    const EJECTION: Ejection = Ejection { failures: 1, time: Duration::from_secs(10) };

    /// Of which half may be out.
    fn endpoints(count: usize, now: Instant) -> EndpointSet {
        let endpoint = |place| Endpoint {
            name: format!("host-{place}:1").into(),
            host: format!("host-{place}").into(),
            port: 1,
            addresses: Vec::new(),
            tls: None,
            pool: PoolKey::new(place),
            health: Arc::new(Health::new(now)),
        };
        EndpointSet::new((0..count as u64).map(endpoint).collect(), 50)
    }

    /// How often each of them is chosen in 1,000 turns.
    fn chosen(endpoints: &EndpointSet, balance: Balance, now: Instant) -> Vec<usize> {
        let mut counts = vec![0; endpoints.len()];
        for turn in 0..1000 {
            counts[choose(endpoints, balance, turn, 0, now).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_gives_each_usable_endpoint_the_same() {
        let now = Instant::now();
        let (endpoints, balance) = (endpoints(5, now), Balance::RoundRobin);
        assert_eq!(chosen(&endpoints, balance, now), [200; 5]);
        endpoints[1].health.failed(&EJECTION, now);
        assert_eq!(chosen(&endpoints, balance, now), [250, 0, 250, 250, 250]);
        assert_eq!(chosen(&endpoints, balance, now + EJECTION.time), [200; 5]);
    }

    #[test]
    fn below_the_floor_all_are_used() {
        let now = Instant::now();
        let (endpoints, balance) = (endpoints(4, now), Balance::RoundRobin);
        for failed in &endpoints[..2] {
            failed.health.failed(&EJECTION, now);
        }
        assert_eq!(chosen(&endpoints, balance, now), [0, 0, 500, 500]);
        endpoints[2].health.failed(&EJECTION, now);
        assert_eq!(chosen(&endpoints, balance, now), [250; 4]);
    }

    #[test]
    fn a_further_try_takes_a_usable_endpoint_first_and_none_twice() {
        let now = Instant::now();
        let endpoints = endpoints(3, now);
        endpoints[0].health.failed(&EJECTION, now);
        endpoints[1].health.failed(&EJECTION, now);
        for turn in 0..10 {
            let next = |tried| choose(&endpoints, Balance::RoundRobin, turn, tried, now);
            assert_eq!(next(bit(0)), Some(2), "the usable one, though too few are");
            assert_eq!(next(bit(0) | bit(2)), Some(1), "better an ejected one than none");
            assert_eq!(next(bit(0) | bit(1) | bit(2)), None);
        }
    }

    #[test]
    fn a_slow_endpoint_is_rarely_the_least_loaded() {
        let now = Instant::now();
        let (endpoints, balance) = (endpoints(3, now), Balance::LeastLoaded);
        let even = chosen(&endpoints, balance, now);
        assert!(even.iter().all(|count| *count > 0), "{even:?}");
        endpoints[0].health.took(Duration::from_secs(1), now);
        assert_eq!(chosen(&endpoints, balance, now)[0], 0, "of any two the other one is quicker");
        for _ in 0..100 {
            endpoints[1].health.begin();
            endpoints[2].health.begin();
        }
        assert!(chosen(&endpoints, balance, now)[0] > 500, "until the others have too much to do");
    }

    #[test]
    fn two_and_one_usable_endpoints_are_enough_for_the_least_loaded() {
        let now = Instant::now();
        let (endpoints, balance) = (endpoints(2, now), Balance::LeastLoaded);
        endpoints[0].health.took(Duration::from_secs(1), now);
        assert_eq!(chosen(&endpoints, balance, now), [0, 1000]);
        endpoints[1].health.failed(&EJECTION, now);
        assert_eq!(chosen(&endpoints, balance, now), [1000, 0]);
    }
}
