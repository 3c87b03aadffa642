//! A circuit breaker: an upstream of which nothing answers is left alone for a while.
//!
//! *Closed*, every request passes. After so many failures in a row, whichever endpoint they came from, it is *open*: requests are
//! refused at once. When the time is over one request is let through (*half-open*): its success closes it, its failure opens it again.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CircuitRules {
    /// After so many failures without an answer between them.
    pub failures: u32,
    /// So long.
    pub open: Duration,
}

/// The circuit of one upstream, for all cores.
#[derive(Debug)]
pub struct Circuit {
    rules: CircuitRules,
    /// Times below count from here.
    began: Instant,
    failures: AtomicU32,
    /// In milliseconds; 0 is closed.
    open_until: AtomicU64,
    /// A request is on its way that decides.
    probing: AtomicBool,
}

/// What a circuit is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CircuitState {
    /// All pass.
    Closed,
    /// None passes.
    Open,
    /// One passes.
    HalfOpen,
}

impl CircuitState {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A request that passed the circuit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passed {
    /// As all others.
    Freely,
    /// As the one that decides.
    AsProbe,
}

impl Circuit {
    /// A closed one.
    #[must_use]
    pub const fn new(rules: CircuitRules, now: Instant) -> Self {
        Self {
            rules,
            began: now,
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
        }
    }

    /// What it is now.
    #[must_use]
    pub fn state(&self, now: Instant) -> CircuitState {
        match self.open_until.load(Ordering::Relaxed) {
            0 => CircuitState::Closed,
            until if self.since(now) < until => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        }
    }

    /// How long it still refuses everything; nothing if it does not.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let until = self.open_until.load(Ordering::Relaxed);
        let left = until.saturating_sub(self.since(now));
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Lets a request through.
    ///
    /// # Errors
    /// How long it should stay away.
    pub(super) fn pass(&self, now: Instant) -> Result<Passed, Duration> {
        let until = self.open_until.load(Ordering::Relaxed);
        if until == 0 {
            return Ok(Passed::Freely);
        }
        match until.checked_sub(self.since(now)) {
            Some(left @ 1..) => Err(Duration::from_millis(left)),
            _ if self.probing.swap(true, Ordering::Relaxed) => Err(Duration::ZERO),
            _ => Ok(Passed::AsProbe),
        }
    }

    /// Takes note of an answer.
    pub(super) fn succeeded(&self, passed: Passed) {
        if passed == Passed::AsProbe {
            self.open_until.store(0, Ordering::Relaxed);
        }
        // Read first: a line that all cores only read is no line that they fight for.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Takes note of a failure; true if that opens it.
    pub(super) fn failed(&self, passed: Passed, now: Instant) -> bool {
        let open = u64::try_from(self.rules.open.as_millis()).unwrap_or(u64::MAX).max(1);
        let until = self.since(now).saturating_add(open);
        if passed == Passed::AsProbe {
            self.open_until.store(until, Ordering::Relaxed);
            return true;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // Those that were on their way when it opened change nothing.
        failures >= self.rules.failures
            && self.open_until.compare_exchange(0, until, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The deciding request has ended: where it decided nothing, the next one is let through.
    pub(super) fn ended(&self, passed: Passed) {
        if passed == Passed::AsProbe {
            self.probing.store(false, Ordering::Relaxed);
        }
    }

    fn since(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CircuitRules = CircuitRules { failures: 3, open: Duration::from_secs(10) };

    /// Opened just now.
    fn opened(now: Instant) -> Circuit {
        let circuit = Circuit::new(RULES, now);
        let opens: Vec<bool> = (0..3).map(|_| circuit.failed(Passed::Freely, now)).collect();
        assert_eq!(opens, [false, false, true]);
        circuit
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_refuses_until_its_time_is_over() {
        let now = Instant::now();
        let circuit = Circuit::new(RULES, now);
        for _ in 0..10 {
            assert!(!circuit.failed(Passed::Freely, now) && !circuit.failed(Passed::Freely, now));
            circuit.succeeded(Passed::Freely);
        }
        assert_eq!(circuit.pass(now), Ok(Passed::Freely));
        let circuit = opened(now);
        assert_eq!(circuit.pass(now), Err(Duration::from_secs(10)));
        assert_eq!(circuit.state(now), CircuitState::Open);
        assert!(!circuit.failed(Passed::Freely, now + Duration::from_secs(9)), "one that was on its way");
        let then = now + Duration::from_millis(9_999);
        assert_eq!(circuit.pass(then), Err(Duration::from_millis(1)));
    }

    #[test]
    fn half_open_it_lets_one_try_which_decides() {
        let now = Instant::now();
        let (circuit, then) = (opened(now), now + RULES.open);
        assert_eq!(circuit.state(then), CircuitState::HalfOpen);
        assert_eq!(circuit.pass(then), Ok(Passed::AsProbe));
        assert_eq!(circuit.pass(then), Err(Duration::ZERO), "only one");
        circuit.succeeded(Passed::Freely);
        assert_eq!(circuit.state(then), CircuitState::HalfOpen, "a late answer of before decides nothing");
        assert!(circuit.failed(Passed::AsProbe, then), "it opens again");
        circuit.ended(Passed::AsProbe);
        assert_eq!(circuit.pass(then), Err(Duration::from_secs(10)));
        let then = then + RULES.open;
        assert_eq!(circuit.pass(then), Ok(Passed::AsProbe));
        circuit.succeeded(Passed::AsProbe);
        circuit.ended(Passed::AsProbe);
        assert_eq!((circuit.pass(then), circuit.state(then)), (Ok(Passed::Freely), CircuitState::Closed));
        assert!(!circuit.failed(Passed::Freely, then), "it counts from the beginning");
    }

    #[test]
    fn a_try_that_ends_without_an_outcome_leaves_it_to_the_next() {
        let now = Instant::now();
        let (circuit, then) = (opened(now), now + RULES.open);
        assert_eq!(circuit.pass(then), Ok(Passed::AsProbe));
        circuit.ended(Passed::AsProbe);
        assert_eq!(circuit.pass(then), Ok(Passed::AsProbe));
    }
}
