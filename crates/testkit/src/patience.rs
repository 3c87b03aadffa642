//! Waiting for facts instead of for time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a fact may take to come true: 30 s, times `PORTCULLIS_TEST_PATIENCE` (a whole number) on slow machines.
#[must_use]
pub fn patience() -> Duration {
    let factor =
        std::env::var("PORTCULLIS_TEST_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(30) * factor
}

/// Polls `attempt` until it yields a value; panics with `what` when [`patience`] runs out.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "within {:?} this did not come true: {what}", patience());
        std::thread::sleep(POLL);
    }
}

/// Seconds since 1970: what tokens and certificates are dated with.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a test is an edge: it dates what it issues by the real clock")]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

const POLL: Duration = Duration::from_millis(15);
