//! What the cores know of one endpoint: whether it is used, how slow it is, how much is on its way to it.
//!
//! All of it are relaxed atomics: a count that is read a moment too late costs one request on the wrong endpoint, which
//! fails over, and never a wait.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::check::Check;

/// When an endpoint that fails is left out, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// After so many failures without a success between them.
    pub failures: u32,
    /// So long; one failure after it ejects again.
    pub time: Duration,
}

/// The state of one endpoint, for all cores.
#[derive(Debug)]
pub struct Health {
    /// Times below count from here.
    began: Instant,
    failures: AtomicU32,
    /// In milliseconds; it is left out before.
    out_until: AtomicU64,
    fails_checks: AtomicBool,
    /// Good checks in a row; bad ones count below zero.
    checks: AtomicI32,
    /// In milliseconds: since when it is used (again); [`ALWAYS`] if it always was.
    used_since: AtomicU64,
    in_flight: AtomicU32,
    /// Nanoseconds until a response begins, as the bits of an `f64`.
    latency: AtomicU64,
    /// When `latency` was taken, in milliseconds.
    measured: AtomicU64,
}

impl Health {
    /// An endpoint of which nothing bad is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            failures: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
            fails_checks: AtomicBool::new(false),
            checks: AtomicI32::new(0),
            used_since: AtomicU64::new(ALWAYS),
            in_flight: AtomicU32::new(0),
            latency: AtomicU64::new(FIRST_LATENCY.to_bits()),
            measured: AtomicU64::new(0),
        }
    }

    /// An endpoint that comes to others which are used already.
    #[must_use]
    pub fn joining(now: Instant) -> Self {
        Self { used_since: AtomicU64::new(0), ..Self::new(now) }
    }

    /// False while it is ejected or fails its checks.
    #[must_use]
    pub fn is_usable(&self, now: Instant) -> bool {
        self.state(now) == HealthState::Usable
    }

    /// Whether it is used, and why not.
    #[must_use]
    pub fn state(&self, now: Instant) -> HealthState {
        if self.fails_checks.load(Ordering::Relaxed) {
            HealthState::FailsChecks
        } else if self.since(now) < self.out_until.load(Ordering::Relaxed) {
            HealthState::Ejected
        } else {
            HealthState::Usable
        }
    }

    /// Takes note of an active check; the first of all decides alone. Called by the one task that checks it.
    pub fn checked(&self, is_good: bool, rules: &Check, now: Instant) -> Option<Turn> {
        let former = self.checks.load(Ordering::Relaxed);
        let row = if is_good { former.max(0).saturating_add(1) } else { former.min(0).saturating_sub(1) };
        self.checks.store(row, Ordering::Relaxed);
        let is_out = self.fails_checks.load(Ordering::Relaxed);
        let enough = |count: u32| row.unsigned_abs() >= count;
        if is_good && is_out && enough(rules.healthy) {
            self.used_since.store(self.since(now), Ordering::Relaxed);
            self.fails_checks.store(false, Ordering::Relaxed);
            Some(Turn::Back)
        } else if !is_good && !is_out && (former == 0 || enough(rules.unhealthy)) {
            self.fails_checks.store(true, Ordering::Relaxed);
            Some(Turn::Out)
        } else {
            None
        }
    }

    /// The part of its share that it takes, if that grows from a tenth to all of it in `time` after it came (back).
    pub(super) fn warmth(&self, time: Duration, now: Instant) -> f64 {
        let out = self.out_until.load(Ordering::Relaxed);
        let since = match self.used_since.load(Ordering::Relaxed) {
            ALWAYS if out == 0 => return 1.0,
            ALWAYS => out,
            since => since.max(out),
        };
        let elapsed = Duration::from_millis(self.since(now).saturating_sub(since));
        (elapsed.as_secs_f64() / time.as_secs_f64()).clamp(COLDEST, 1.0)
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Takes note of an answer, whatever it says.
    pub(super) fn succeeded(&self) {
        // Read first: a line that all cores only read is no line that they fight for.
        if self.failures() != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Takes note of a failure; true if that ejects it.
    pub(super) fn failed(&self, ejection: &Ejection, now: Instant) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures < ejection.failures || self.since(now) < self.out_until.load(Ordering::Relaxed) {
            return false;
        }
        // The first failure after its return ejects it again.
        self.failures.store(ejection.failures.saturating_sub(1), Ordering::Relaxed);
        let time = u64::try_from(ejection.time.as_millis()).unwrap_or(u64::MAX);
        let former = self.out_until.swap(self.since(now).saturating_add(time), Ordering::Relaxed);
        former <= self.since(now)
    }

    /// Counts a request in, or out again.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes note of how long an answer took: a peak counts at once, better times little by little.
    pub(super) fn took(&self, time: Duration, now: Instant) {
        let (former, sample) = (self.latency(now), time.as_secs_f64() * 1e9);
        let next = if sample > former { sample } else { former + (sample - former) * self.faded(now) };
        self.latency.store(next.to_bits(), Ordering::Relaxed);
        self.measured.store(self.since(now), Ordering::Relaxed);
    }

    /// What one more request would wait behind: latency × requests in flight.
    pub(super) fn load(&self, now: Instant) -> f64 {
        self.latency(now) * (f64::from(self.in_flight.load(Ordering::Relaxed)) + 1.0)
    }

    /// What was measured fades: who was slow long ago gets another chance.
    fn latency(&self, now: Instant) -> f64 {
        f64::from_bits(self.latency.load(Ordering::Relaxed)) * (1.0 - self.faded(now))
    }

    /// From 0 right after a measurement towards 1; at least a little, so that many quick answers count too.
    fn faded(&self, now: Instant) -> f64 {
        let age = self.since(now).saturating_sub(self.measured.load(Ordering::Relaxed));
        (1.0 - (-Duration::from_millis(age).as_secs_f64() / FADES.as_secs_f64()).exp()).max(LEAST_WEIGHT)
    }

    fn since(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether an endpoint is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthState {
    /// It is.
    Usable,
    /// Requests to it failed.
    Ejected,
    /// Checks of it failed.
    FailsChecks,
}

impl HealthState {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Ejected => "ejected",
            Self::FailsChecks => "fails_checks",
        }
    }
}

/// What a check changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// It is used again.
    Back,
    /// It is left out.
    Out,
}

const ALWAYS: u64 = u64::MAX;

/// With less it might be asked nothing, and stay cold.
const COLDEST: f64 = 0.1;

/// What an endpoint is taken for before it was asked, in nanoseconds: not so quick that all ask it at once.
const FIRST_LATENCY: f64 = 30e6;

/// After this time a measurement counts for a third.
const FADES: Duration = Duration::from_secs(10);

const LEAST_WEIGHT: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    const EJECTION: Ejection = Ejection { failures: 3, time: Duration::from_secs(10) };

    #[test]
    fn failures_in_a_row_eject_for_a_time_and_one_more_ejects_again() {
        let now = Instant::now();
        let health = Health::new(now);
        assert!(!health.failed(&EJECTION, now) && !health.failed(&EJECTION, now));
        assert!(health.is_usable(now));
        assert!(health.failed(&EJECTION, now), "the third ejects");
        assert!(!health.is_usable(now) && !health.is_usable(now + Duration::from_millis(9_999)));
        let back = now + EJECTION.time;
        assert!(health.is_usable(back));
        assert!(health.failed(&EJECTION, back), "it did not get better");
        assert!(!health.is_usable(back));
    }

    #[test]
    fn a_success_forgives_and_failures_while_out_do_not_lengthen_it() {
        let now = Instant::now();
        let health = Health::new(now);
        for _ in 0..10 {
            assert!(!health.failed(&EJECTION, now) && !health.failed(&EJECTION, now));
            health.succeeded();
        }
        for _ in 0..3 {
            health.failed(&EJECTION, now);
        }
        assert!(!health.failed(&EJECTION, now + Duration::from_secs(9)), "it counts once");
        assert!(health.is_usable(now + EJECTION.time));
    }

    #[test]
    fn checks_in_a_row_turn_it_and_the_first_one_alone() {
        let now = Instant::now();
        let rules = Check {
            protocol: crate::upstream::Protocol::Http1,
            path: "/healthz".parse().unwrap(),
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
            statuses: Vec::new(),
        };
        let turns = |health: &Health, checks: &[bool]| {
            checks.iter().map(|good| health.checked(*good, &rules, now)).collect::<Vec<_>>()
        };
        let health = Health::new(now);
        assert_eq!(turns(&health, &[false, true, false, true]), [Some(Turn::Out), None, None, None]);
        assert_eq!(health.state(now), HealthState::FailsChecks);
        assert_eq!(turns(&health, &[true, false, false]), [Some(Turn::Back), None, None]);
        assert!(health.is_usable(now));
        assert_eq!(turns(&health, &[false, false]), [Some(Turn::Out), None]);
        let health = Health::new(now);
        assert_eq!(turns(&health, &[true, false, false, false]), [None, None, None, Some(Turn::Out)]);
        for _ in 0..3 {
            health.failed(&EJECTION, now);
        }
        turns(&health, &[true, true]);
        assert_eq!(health.state(now), HealthState::Ejected, "good checks undo no ejection");
    }

    #[test]
    fn what_came_or_came_back_takes_a_growing_share() {
        let now = Instant::now();
        let (time, at) = (Duration::from_secs(30), |seconds| now + Duration::from_secs(seconds));
        assert_eq!(Health::new(now).warmth(time, now), 1.0, "it was there from the beginning");
        let health = Health::joining(now);
        let shares = [0, 15, 30, 60].map(|seconds| health.warmth(time, at(seconds)));
        assert_eq!(shares, [0.1, 0.5, 1.0, 1.0]);
        for _ in 0..3 {
            health.failed(&EJECTION, at(60));
        }
        let shares = [70, 85, 100].map(|seconds| health.warmth(time, at(seconds)));
        assert_eq!(shares, [0.1, 0.5, 1.0], "it counts from the end of its ejection");
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let now = Instant::now();
        let health = Health::new(now);
        health.took(Duration::from_millis(1), now);
        health.took(Duration::from_secs(1), now);
        let peak = health.load(now);
        assert!(peak > 0.9e9, "{peak}");
        health.took(Duration::from_millis(1), now);
        assert!(health.load(now) > 0.5 * peak, "one quick answer does not make it quick");
        assert!(health.load(now + Duration::from_secs(60)) < 0.01 * peak);
    }

    #[test]
    fn requests_in_flight_weigh_as_much_as_their_latency() {
        let now = Instant::now();
        let health = Health::new(now);
        let idle = health.load(now);
        health.begin();
        assert!((health.load(now) - 2.0 * idle).abs() < 1.0);
        health.end();
        assert!((health.load(now) - idle).abs() < 1.0);
    }
}
