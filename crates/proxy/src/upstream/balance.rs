//! Which endpoint a request goes to, and which one it is tried on next.
//!
//! Ejected endpoints are left out as long as at least [`EndpointSet::floor`] others are there; below that all are asked, since
//! endpoints that all seem to fail are more likely judged wrongly than gone. One that came (back) can be given a growing share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::affinity::{HashKey, fraction, scattered, weight};
use super::budget::Budget;
use super::health::Ejection;
use super::{Endpoint, EndpointSet, Origin, Upstream};
use crate::core::Core;
use crate::forward::Outgoing;

/// How requests are spread over several endpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// The less loaded of two chosen by chance: peak EWMA of the latency × requests in flight.
    LeastLoaded,
    /// What has the same key goes to the same one; what has none, one after the other.
    ConsistentHash(HashKey),
}

/// How an upstream uses its endpoints; an only endpoint is always used.
#[derive(Debug)]
pub struct Balancing {
    /// How requests are spread.
    pub balance: Balance,
    /// When an endpoint that fails is left out; none is never.
    pub ejection: Option<Ejection>,
    /// How long an endpoint that came (back) takes less than its share.
    pub slow_start: Option<Duration>,
    /// For what may be tried again.
    pub budget: Budget,
    /// Counts the requests of all cores.
    turn: AtomicUsize,
}

impl Balancing {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(
        balance: Balance,
        ejection: Option<Ejection>,
        slow_start: Option<Duration>,
        budget: Budget,
    ) -> Self {
        Self { balance, ejection, slow_start, budget, turn: AtomicUsize::new(0) }
    }

    /// What keeps a request together with others.
    pub(super) fn key(&self, origin: Origin<'_>, request: &Outgoing) -> Option<u64> {
        match &self.balance {
            Balance::RoundRobin | Balance::LeastLoaded => None,
            Balance::ConsistentHash(key) => key.of(origin, request),
        }
    }
}

/// The endpoints that one request is tried on, all of one set.
#[derive(Debug)]
pub(super) struct Tries {
    turn: usize,
    key: Option<u64>,
    /// A bit for each endpoint, by its place.
    tried: u64,
    /// It may have reached an endpoint that died of it: that happens to no second one but this.
    resent: bool,
    /// The only endpoint was tried twice.
    repeated: bool,
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
    /// The upstream took no notice of it, it says: its connection ends, or it refused the stream.
    Unprocessed,
    Refused,
    /// It may have arrived; it is safe and has no body.
    Died,
    /// The same, but the endpoint takes longer than a try may.
    Slow,
}

impl Again {
    /// True if it may have arrived.
    const fn is_second(self) -> bool {
        matches!(self, Self::Died | Self::Slow)
    }
}

impl Again {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::NotSent => "not_sent",
            Self::Unprocessed => "unprocessed",
            Self::Refused => "refused",
            Self::Died => "died",
            Self::Slow => "slow",
        }
    }
}

impl Tries {
    /// The first endpoint.
    pub(super) fn begin(
        upstream: &Upstream,
        endpoints: &EndpointSet,
        key: Option<u64>,
        tick: Instant,
    ) -> Option<(Self, usize)> {
        let until = tick + upstream.timeouts.response;
        let mut tries = Self { turn: 0, key, tried: 0, resent: false, repeated: false, until };
        if let [_] = **endpoints {
            return Some((tries, 0));
        }
        tries.turn = upstream.balancing.turn.fetch_add(1, Ordering::Relaxed);
        let place = choose(endpoints, &tries.choice(&upstream.balancing, tick), 0)?;
        tries.tried = bit(place);
        Some((tries, place))
    }

    const fn choice<'a>(&self, balancing: &'a Balancing, now: Instant) -> Choice<'a> {
        let Balancing { balance, slow_start, .. } = balancing;
        Choice { balance, slow_start: *slow_start, turn: self.turn, key: self.key, now }
    }

    /// True if an unanswered request could still be sent to another endpoint.
    pub(super) fn may_resend(&self, endpoints: &EndpointSet) -> bool {
        endpoints.len() > 1 && !self.resent
    }

    /// Another endpoint, if there is one that was not tried, there is time, and the budget allows it. Where there is only one, it is
    /// asked once more for what it took no notice of.
    pub(super) fn again(
        &mut self,
        core: &Core,
        (upstream, endpoints): (&Upstream, &EndpointSet),
        why: Again,
    ) -> Option<usize> {
        let now = Instant::now();
        let is_same = endpoints.len() == 1
            && matches!(why, Again::Unprocessed | Again::Refused)
            && !std::mem::replace(&mut self.repeated, true);
        let has_other = endpoints.len() > 1 && !(why.is_second() && self.resent);
        if !(is_same || has_other) || now >= self.until {
            return None;
        }
        let Balancing { budget, turn, .. } = &upstream.balancing;
        let place = match is_same {
            true => 0,
            false => choose(endpoints, &self.choice(&upstream.balancing, now), self.tried)?,
        };
        if !budget.spend(turn.load(Ordering::Relaxed), now) {
            upstream.series.over_budget(core.id.index());
            return None;
        }
        upstream.series.retried(core.id.index(), why.as_str());
        self.resent |= why.is_second();
        self.tried |= bit(place);
        Some(place)
    }
}

/// What a choice depends on, beside how the endpoints do.
struct Choice<'a> {
    balance: &'a Balance,
    slow_start: Option<Duration>,
    turn: usize,
    key: Option<u64>,
    now: Instant,
}

impl Choice<'_> {
    /// Whether an endpoint that may take less than its share takes this one, the `n`th that this choice looks at.
    fn takes(&self, endpoint: &Endpoint, n: u64) -> bool {
        self.slow_start.is_none_or(|time| {
            let by_chance = fraction(scattered((self.turn as u64).rotate_left(8) ^ n));
            by_chance < endpoint.health.warmth(time, self.now)
        })
    }

    fn weight(&self, key: u64, number: u64, endpoint: &Endpoint) -> f64 {
        weight(key, number, self.slow_start.map_or(1.0, |time| endpoint.health.warmth(time, self.now)))
    }
}

/// The place of an endpoint that was not tried yet. A first try goes to all of them when too few are usable; a further one
/// only when no other is usable.
fn choose(endpoints: &EndpointSet, choice: &Choice<'_>, tried: u64) -> Option<usize> {
    let is_new = |place: usize| tried & bit(place) == 0;
    let usable =
        |(place, endpoint): &(usize, &Endpoint)| is_new(*place) && endpoint.health.is_usable(choice.now);
    let count = endpoints.iter().enumerate().filter(usable).count();
    let enough = if tried == 0 { endpoints.floor().max(1) } else { 1 };
    if count >= enough {
        return pick(endpoints, choice, count, || endpoints.iter().enumerate().filter(usable));
    }
    let new = |(place, _): &(usize, &Endpoint)| is_new(*place);
    let count = endpoints.iter().enumerate().filter(new).count();
    pick(endpoints, choice, count, || endpoints.iter().enumerate().filter(new))
}

fn pick<'a, I: Iterator<Item = (usize, &'a Endpoint)>>(
    endpoints: &EndpointSet,
    choice: &Choice<'_>,
    count: usize,
    candidates: impl Fn() -> I,
) -> Option<usize> {
    let turn = choice.turn;
    let by_chance = |turn: usize| scattered(turn as u64) as usize;
    match (choice.balance, choice.key) {
        (Balance::ConsistentHash(_), Some(key)) => {
            let weights = candidates()
                .map(|(place, endpoint)| (place, choice.weight(key, endpoints.number(place), endpoint)));
            weights.max_by(|one, other| one.1.total_cmp(&other.1)).map(|(place, _)| place)
        }
        (Balance::RoundRobin | Balance::ConsistentHash(_), _) => {
            let mut chosen = candidates().nth(turn.checked_rem(count)?)?;
            for n in 1..=RELUCTANT {
                if choice.takes(chosen.1, n as u64) {
                    break;
                }
                chosen = candidates().nth(by_chance(turn.wrapping_add(n)) % count)?;
            }
            Some(chosen.0)
        }
        (Balance::LeastLoaded, _) => {
            let first = candidates().nth(by_chance(turn).checked_rem(count)?)?;
            // Another one than the first: a step of 1 to count − 1.
            let step = (by_chance(turn) >> 32).checked_rem(count - 1).map_or(0, |step| step + 1);
            let second = candidates().nth((by_chance(turn) % count + step) % count)?;
            let is_less = second.1.health.load(choice.now) < first.1.health.load(choice.now);
            let (less, more) = if is_less { (second, first) } else { (first, second) };
            Some(if choice.takes(less.1, 0) { less.0 } else { more.0 })
        }
    }
}

/// So often a request is passed on by endpoints that take less than their share.
const RELUCTANT: usize = 4;

/// Places that are 64 apart share a bit: with so many endpoints there is another one to try.
const fn bit(place: usize) -> u64 {
    1 << (place % 64)
}

#[cfg(test)]
mod tests;
