//! How many requests of an upstream may be tried again: a share of all, and a few each second where there are few.
//!
//! Without it every client's request would become several just when an upstream has least to give. The budget is filled when
//! it is asked for, so that requests which need none pay nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The budget of one upstream, for all cores.
#[derive(Debug)]
pub struct Budget {
    /// Retries for each request.
    share: f64,
    began: Instant,
    /// Retries that are left, in thousandths.
    credit: AtomicU64,
    /// Milliseconds and requests until which the credit was filled.
    filled: AtomicU64,
    counted: AtomicUsize,
}

impl Budget {
    /// So many retries in a hundred requests.
    #[must_use]
    pub fn new(percent: u8, now: Instant) -> Self {
        Self {
            share: f64::from(percent) / 100.0,
            began: now,
            credit: AtomicU64::new(thousandths(FEW * WINDOW.as_secs_f64())),
            filled: AtomicU64::new(0),
            counted: AtomicUsize::new(0),
        }
    }

    /// Takes one retry out of it, when `requests` came so far; false if none is left.
    pub(super) fn spend(&self, requests: usize, now: Instant) -> bool {
        let at = u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        // Each millisecond and each request fills it once, whichever core comes first.
        let elapsed = Duration::from_millis(at.saturating_sub(self.filled.fetch_max(at, Ordering::Relaxed)));
        let new = requests.saturating_sub(self.counted.fetch_max(requests, Ordering::Relaxed));
        let mut granted = false;
        let spent = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit| {
            let credit = filled(credit, elapsed, new, self.share);
            granted = credit >= ONE;
            Some(if granted { credit - ONE } else { credit })
        });
        spent.is_ok() && granted
    }
}

/// What is left of a credit after `elapsed`, in which `requests` came. Never more than what a window brings.
fn filled(credit: u64, elapsed: Duration, requests: usize, share: f64) -> u64 {
    let windows = elapsed.as_secs_f64() / WINDOW.as_secs_f64();
    let kept = credit as f64 * (1.0 - windows).max(0.0);
    let shared = share * requests as f64 / windows.max(1.0);
    kept as u64 + thousandths(shared + FEW * elapsed.min(WINDOW).as_secs_f64())
}

fn thousandths(retries: f64) -> u64 {
    (retries * ONE as f64) as u64
}

const ONE: u64 = 1000;

/// Retries in a second that there are always.
const FEW: f64 = 5.0;

/// What is not used in this time is lost.
const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &Budget, tries: usize, requests: usize, now: Instant) -> usize {
        (0..tries).filter(|_| budget.spend(requests, now)).count()
    }

    #[test]
    fn few_requests_get_a_few_retries_each_second() {
        let now = Instant::now();
        let budget = Budget::new(20, now);
        assert_eq!(granted(&budget, 100, 0, now), 50, "a window's worth to begin with");
        assert_eq!(granted(&budget, 100, 0, now + Duration::from_secs(1)), 5);
        assert_eq!(
            granted(&budget, 100, 0, now + Duration::from_secs(100)),
            50,
            "and no more than a window's"
        );
    }

    #[test]
    fn many_requests_get_their_share_however_the_retries_come() {
        let now = Instant::now();
        let budget = Budget::new(20, now);
        granted(&budget, 50, 0, now);
        // Every request fails: a thousand in a second, each asking for a retry.
        let got: usize = (1..=1000)
            .filter(|n| budget.spend(*n, now + Duration::from_millis(u64::try_from(*n).unwrap())))
            .count();
        assert!((190..=206).contains(&got), "{got}");
    }

    #[test]
    fn a_long_quiet_time_saves_no_more_than_a_window() {
        let now = Instant::now();
        let budget = Budget::new(20, now);
        // 100 requests a second for an hour without one retry: 10 s of them count.
        let got = granted(&budget, 10_000, 360_000, now + Duration::from_secs(3600));
        assert!((249..=251).contains(&got), "{got}");
    }
}
