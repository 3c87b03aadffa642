//! When a token is renewed and when a new login replaces it: pure, so that a driven clock can run through days.
//!
//! A token is renewed at two thirds of what its last grant gave, less a jitter. Where its hard end is known (it cannot be
//! renewed, a renewal gave less than was asked, its explicit maximum, or what the former login of the same kind taught) a new
//! login comes at two thirds of its whole life, early enough that the former token outlives the overlap if it can.

use std::time::Duration;

use tokio::time::Instant;

/// What is known about a token's life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Life {
    /// When the login was made; for a token that somebody else made, when we first saw it.
    pub(super) created: Instant,
    /// When what lives now was granted: by the login or the last renewal.
    pub(super) granted: Instant,
    /// When that ends; none if never.
    pub(super) ends: Option<Instant>,
    /// What a renewal asks for.
    pub(super) increment: Duration,
    /// Whether it is worth asking.
    pub(super) is_renewable: bool,
    /// When it ends whatever is done.
    pub(super) hard_end: Option<Instant>,
}

/// What is due for a token; both may be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    pub(super) renew: Option<Instant>,
    pub(super) login: Option<Instant>,
}

impl Life {
    /// What is due, and when; `jitter` from 0 to 1 is drawn once for each grant.
    pub(super) fn plan(&self, overlap: Duration, jitter: f64) -> Plan {
        let Some(ends) = self.ends else { return Plan::default() };
        let hard_end = self.hard_end.or((!self.is_renewable).then_some(ends));
        let is_final = hard_end.is_some_and(|hard_end| hard_end <= ends + ROUNDING);
        let renew = (self.is_renewable && !is_final).then(|| part(self.granted, ends, jitter));
        let login = hard_end.map(|hard_end| {
            // Leases need the overlap to move; a life too short for that is halved.
            let half = self.created + hard_end.saturating_duration_since(self.created) / 2;
            let early = hard_end.checked_sub(overlap * 2).map_or(half, |early| early.max(half));
            part(self.created, hard_end, jitter).min(early)
        });
        Plan { renew, login }
    }

    /// After a renewal that gave `granted` (none: no end).
    pub(super) fn renewed(&self, granted: Option<Duration>, is_renewable: bool, now: Instant) -> Self {
        let ends = granted.map(|granted| now + granted);
        // Less than was asked for is all that is left.
        let is_capped = granted.is_some_and(|granted| granted + ROUNDING < self.increment);
        let hard_end = if is_capped { ends } else { self.hard_end };
        Self { granted: now, ends, is_renewable, hard_end, ..*self }
    }

    /// After a renewal that was refused.
    pub(super) fn refused(&self) -> Self {
        Self { is_renewable: false, hard_end: self.ends, ..*self }
    }

    /// What is left at `now`; none if it never ends.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.ends.map(|ends| ends.saturating_duration_since(now))
    }
}

/// How long to wait after the `failures`th failure in a row: full jitter under a bound that doubles from 2 s to 60 s and is
/// never more than a tenth of what remains, so that the tries come faster near the end; never under 1 s.
pub(super) fn retry(failures: u32, remaining: Option<Duration>, jitter: f64) -> Duration {
    let bound = MOST.min(LEAST * 2_u32.saturating_pow(failures.min(8)));
    let bound = remaining.filter(|left| !left.is_zero()).map_or(bound, |left| bound.min(left / 10));
    bound.mul_f64(jitter).max(LEAST)
}

/// Two thirds from `start` to `end`, less up to a fifteenth.
fn part(start: Instant, end: Instant, jitter: f64) -> Instant {
    start + end.saturating_duration_since(start).mul_f64(2.0 / 3.0 - jitter / 15.0)
}

/// Vault counts in whole seconds, and an answer needs its time.
const ROUNDING: Duration = Duration::from_secs(1);
/// Between two tries.
const LEAST: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const MOST: Duration = Duration::from_secs(60);
