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
        let hard_end = if self.is_renewable { self.hard_end } else { Some(ends) };
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
        // What had an end has one still: nothing granted is nothing left.
        let granted = granted.or(self.ends.map(|_| Duration::ZERO));
        let ends = granted.map(|granted| now + granted);
        // Less than was asked for is all that is left.
        let is_capped =
            granted.is_some_and(|granted| granted + ROUNDING.min(self.increment / 10) < self.increment);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const OVERLAP: Duration = Duration::from_secs(30);

    fn life(ttl: Duration) -> Life {
        let now = Instant::now();
        let ends = Some(now + ttl);
        Life { created: now, granted: now, ends, increment: ttl, is_renewable: true, hard_end: None }
    }

    #[test]
    fn a_grant_is_renewed_at_two_thirds_less_a_jitter_that_is_felt() {
        let life = life(90 * MINUTE);
        let at = |jitter| life.plan(OVERLAP, jitter).renew.unwrap() - life.granted;
        assert_eq!(at(0.0), 60 * MINUTE);
        assert!(at(1.0) < 54 * MINUTE + Duration::from_millis(1) && at(1.0) > 53 * MINUTE, "{:?}", at(1.0));
        assert!(at(0.5) < at(0.4) && at(0.4) < at(0.0));
        assert_eq!(life.plan(OVERLAP, 0.5).login, None);
    }

    #[test]
    fn a_token_without_an_end_needs_nothing() {
        let life = Life { ends: None, ..life(MINUTE) };
        assert_eq!(life.plan(OVERLAP, 0.5), Plan::default());
    }

    #[test]
    fn a_token_that_cannot_be_renewed_is_replaced_while_the_overlap_still_fits() {
        let long = Life { is_renewable: false, ..life(100 * MINUTE) };
        let plan = long.plan(OVERLAP, 0.0);
        assert_eq!((plan.renew, plan.login), (None, Some(long.created + 100 * MINUTE * 2 / 3)));
        let short = Life { is_renewable: false, ..life(2 * MINUTE) };
        assert_eq!(short.plan(OVERLAP, 0.0).login, Some(short.created + MINUTE));
        let shorter = Life { is_renewable: false, ..life(Duration::from_secs(20)) };
        assert_eq!(shorter.plan(OVERLAP, 0.0).login, Some(shorter.created + Duration::from_secs(10)));
    }

    #[test]
    fn less_than_was_asked_for_is_the_end_and_is_not_renewed_again() {
        let life = life(20 * MINUTE);
        let later = life.created + 110 * MINUTE;
        assert_eq!(life.renewed(Some(20 * MINUTE), true, later).hard_end, None);
        assert_eq!(
            life.renewed(None, true, later).hard_end,
            Some(later),
            "a grant of no seconds is not for ever"
        );
        let capped = life.renewed(Some(10 * MINUTE), true, later);
        assert_eq!(capped.hard_end, Some(later + 10 * MINUTE));
        let plan = capped.plan(OVERLAP, 0.5);
        assert_eq!(plan.renew, None);
        assert!(plan.login.unwrap() <= later, "at once: two thirds of its whole life are over");
    }

    #[test]
    fn a_known_maximum_is_approached_by_renewals_and_left_at_two_thirds() {
        let fresh = life(20 * MINUTE);
        let known = Life { hard_end: Some(fresh.created + 120 * MINUTE), ..fresh };
        let plan = known.plan(OVERLAP, 0.0);
        assert_eq!(plan.login, Some(fresh.created + 80 * MINUTE));
        assert!(plan.renew.unwrap() < plan.login.unwrap());
    }

    proptest! {
        #[test]
        fn what_is_due_is_due_while_the_token_lives(
            ttl in 1_u64..3_000_000, most in 1_u64..3_000_000, overlap in 0_u64..10_000, jitter in 0.0..1.0_f64,
            is_renewable: bool, is_limited: bool,
        ) {
            let fresh = life(Duration::from_secs(ttl.min(if is_limited { most } else { u64::MAX })));
            let hard_end = is_limited.then(|| fresh.created + Duration::from_secs(most));
            let life = Life { is_renewable, hard_end, ..fresh };
            let plan = life.plan(Duration::from_secs(overlap), jitter);
            prop_assert!(plan.renew.is_some() || plan.login.is_some());
            for at in [plan.renew, plan.login.filter(|_| plan.renew.is_none())].into_iter().flatten() {
                prop_assert!(at >= life.created && at < life.ends.unwrap() + ROUNDING);
            }
            let hard_end = if is_renewable { hard_end } else { life.ends };
            if let Some(hard_end) = hard_end {
                prop_assert!(plan.login.is_some_and(|at| at < hard_end));
                prop_assert!(plan.login.unwrap() >= life.created + (hard_end - life.created) / 2);
            }
        }

        #[test]
        fn tries_are_a_second_to_a_minute_apart_and_closer_near_the_end(
            failures in 1_u32..100, left in 0_u64..100_000, jitter in 0.0..1.0_f64,
        ) {
            let left = Duration::from_secs(left);
            let wait = retry(failures, Some(left), jitter);
            prop_assert!(wait >= LEAST && wait <= MOST);
            prop_assert!(left.is_zero() || wait <= (left / 10).max(LEAST));
        }
    }
}
