//! What a check says.

use std::time::Duration;

use crate::fields::seconds;

/// The outcome of one check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Whether this one may pass; if so, it has been counted.
    pub allowed: bool,
    /// The burst of the quota.
    pub limit: u32,
    /// How many more could pass at this moment.
    pub remaining: u32,
    /// Allowed: until the bucket is full again (by whole cells, so up to one interval too long).
    /// Refused: the time to wait, as the draft asks that `RateLimit` and `Retry-After` name the same moment.
    pub reset: Duration,
    /// How long to wait for the next one; only when refused.
    pub retry_after: Option<Duration>,
}

impl Verdict {
    /// The value of `Retry-After` (RFC 9110 section 10.2.3): whole seconds, rounded up, at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| seconds(wait).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up_to_whole_seconds() {
        let seconds = |wait| {
            let reset = Duration::from_millis(wait);
            Verdict { allowed: false, limit: 1, remaining: 0, reset, retry_after: Some(reset) }
                .retry_after_seconds()
        };
        assert_eq!(
            (seconds(0), seconds(20), seconds(1_000), seconds(2_001)),
            (Some(1), Some(1), Some(1), Some(3))
        );
    }
}
