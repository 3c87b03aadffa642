//! When to act next. Pure: what is held, what went wrong, the time and a random number give a delay.
//!
//! | what holds | next try |
//! | --- | --- |
//! | it was obtained, and has an end | at two thirds of its life, ±10 % of that |
//! | it was obtained, and is to be looked at again | after that time, and up to a tenth or 2 s later |
//! | the store is away, a lease was lost | 1 s, doubling to 5 min, full jitter; the first after a lost lease after 1 s |
//! | asked too often | as the store says, else 1 s, doubling to 1 min, full jitter |
//! | the candidate was refused | 5 s, doubling to 10 min, ±10 % |
//! | a file or directory of this machine | 1 min, ±10 % |
//! | the store refused: somebody must act | 5 min, doubling to 60 min, ±10 % |
//!
//! Near the end the waits shrink: never more than a tenth of what remains (of what the store asked for: half of it), but at
//! least the class's floor: 1 s away, 5 s refused or local, 1 min refused by the store. With nothing valid in hand: between
//! the floor and five times the floor. No wait is shorter than 1 s, so that nothing can become a hot loop.

use std::time::{Duration, SystemTime};

use crate::source::Life;

/// What went wrong since the last success.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setback {
    /// How many tries in a row, at least 1.
    pub failures: u32,
    /// Of the last one.
    pub class: Class,
    /// What the other side said of it, from `now`.
    pub retry_after: Option<Duration>,
}

/// What a failure calls for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Trying again helps.
    Away,
    /// Trying again at once helps.
    Lost,
    /// Trying less helps.
    Throttled,
    /// The candidate was refused by its check.
    Rejected,
    /// A file or directory of this machine.
    Local,
    /// Somebody must act.
    Configuration,
}

/// How long to wait from `now` on; `jitter` is a random number in `0.0..1.0`. Nothing: until woken.
#[must_use]
pub fn next(
    held: Option<&Life>,
    setback: Option<&Setback>,
    now: SystemTime,
    jitter: f64,
) -> Option<Duration> {
    match (held, setback) {
        (_, Some(setback)) => Some(after_failure(held, setback, now, jitter)),
        (Some(life), None) => after_success(life, now, jitter),
        (None, None) => Some(Duration::ZERO),
    }
}

/// How long a job that is woken waits, so that many do not come at once: shorter with nothing valid in hand.
#[must_use]
pub fn stagger(held: Option<&Life>, now: SystemTime, jitter: f64) -> Duration {
    let most = if remaining(held, now).is_some() { STAGGER } else { STAGGER_URGENT };
    most.mul_f64(jitter)
}

fn after_success(life: &Life, now: SystemTime, jitter: f64) -> Option<Duration> {
    let due = match (life.again_in.map(|again| again.min(LONGEST)), life.ends) {
        (Some(again), _) => after(life.obtained, again + (again / 10).min(AGAIN_JITTER).mul_f64(jitter)),
        (None, Some(ends)) => after(life.begins, since(life.begins, ends).mul_f64(RENEW_AT * spread(jitter))),
        (None, None) => return None,
    };
    Some(since(now, due).max(MIN_GAP))
}

fn after_failure(held: Option<&Life>, setback: &Setback, now: SystemTime, jitter: f64) -> Duration {
    let floor = setback.class.floor();
    let remaining = remaining(held, now);
    if let Some(asked) = setback.retry_after {
        let asked = (asked.min(RETRY_AFTER_MOST).max(MIN_GAP)).mul_f64(1.0 + jitter / 10.0);
        return match remaining {
            // Once more before the end, whatever was asked for.
            Some(Some(left)) => asked.min((left / 2).max(floor)),
            Some(None) | None => asked,
        };
    }
    let wait = setback.class.backoff(setback.failures, jitter);
    match remaining {
        Some(None) => wait,
        Some(Some(left)) => wait.min((left / 10).max(floor)),
        None if setback.class == Class::Throttled => wait,
        None => wait.min(between(floor, floor * 5, jitter)),
    }
}

impl Class {
    /// The shortest wait after such a failure, however near the end is.
    const fn floor(self) -> Duration {
        match self {
            Self::Away | Self::Lost | Self::Throttled => MIN_GAP,
            Self::Rejected | Self::Local => Duration::from_secs(5),
            Self::Configuration => Duration::from_secs(60),
        }
    }

    fn backoff(self, failures: u32, jitter: f64) -> Duration {
        match self {
            Self::Lost if failures <= 1 => MIN_GAP,
            // Doubled once for the first: full jitter over a second would be none above the smallest gap.
            Self::Away | Self::Lost => between(MIN_GAP, doubled(MIN_GAP * 2, failures, MINUTE * 5), jitter),
            Self::Throttled => between(MIN_GAP, doubled(MIN_GAP * 2, failures, MINUTE), jitter),
            Self::Rejected => doubled(self.floor(), failures, MINUTE * 10).mul_f64(spread(jitter)),
            Self::Local => MINUTE.mul_f64(spread(jitter)),
            Self::Configuration => doubled(MINUTE * 5, failures, MINUTE * 60).mul_f64(spread(jitter)),
        }
    }
}

/// What remains of what is held: nothing if nothing valid is held, and of something without an end no number.
#[expect(clippy::option_option, reason = "the outer says whether it serves, the inner whether it ends")]
fn remaining(held: Option<&Life>, now: SystemTime) -> Option<Option<Duration>> {
    match held?.ends {
        None => Some(None),
        Some(ends) => ends.duration_since(now).ok().filter(|left| !left.is_zero()).map(Some),
    }
}

fn doubled(first: Duration, failures: u32, most: Duration) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    first.saturating_mul(factor).min(most)
}

fn between(least: Duration, most: Duration, jitter: f64) -> Duration {
    least + most.saturating_sub(least).mul_f64(jitter)
}

/// A factor of 0.9 to 1.1.
fn spread(jitter: f64) -> f64 {
    0.9 + jitter * 0.2
}

/// What a store says may be any number: waits are cut at [`LONGEST`].
pub(crate) fn after(time: SystemTime, wait: Duration) -> SystemTime {
    time.checked_add(wait.min(LONGEST)).unwrap_or(time)
}

/// Zero if `later` is earlier.
fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

/// No two tries begin closer together.
pub(crate) const MIN_GAP: Duration = Duration::from_secs(1);
/// Ten years; what is further away is planned again by then.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Two thirds leaves a third for everything that can go wrong.
const RENEW_AT: f64 = 2.0 / 3.0;
const AGAIN_JITTER: Duration = Duration::from_secs(2);
/// A store that asks for more is asked again all the same.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// With the store's return this stays within the five seconds that are promised.
const STAGGER: Duration = Duration::from_secs(2);
const STAGGER_URGENT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
