//! What a check says, and how it stands in a response.

use std::fmt;
use std::time::Duration;

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
    /// Refused: the time to wait, as the draft asks that both fields name the same moment.
    pub reset: Duration,
    /// How long to wait for the next one; only when refused.
    pub retry_after: Option<Duration>,
}

impl Verdict {
    /// The value of a `RateLimit` field (draft-ietf-httpapi-ratelimit-headers-10 section 4):
    /// `"per-caller";r=12;t=3`. Several limits make a list, joined by `, `.
    #[must_use]
    pub fn field(&self, name: &str) -> String {
        format!("{};r={};t={}", QuotedName(name), self.remaining, seconds(self.reset))
    }

    /// The value of `Retry-After` (RFC 9110 section 10.2.3): whole seconds, rounded up, at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| seconds(wait).max(1))
    }
}

/// A name as a structured-field string (RFC 8941 section 3.3.3); what it cannot carry becomes `?`.
pub(crate) struct QuotedName<'a>(pub(crate) &'a str);

impl fmt::Display for QuotedName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' '..='~' => write!(f, "{character}")?,
                _ => f.write_str("?")?,
            }
        }
        f.write_str("\"")
    }
}

/// Whole seconds, rounded up: who waits this long has waited long enough.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Verdict = Verdict {
        allowed: false,
        limit: 100,
        remaining: 0,
        reset: Duration::from_millis(20),
        retry_after: Some(Duration::from_millis(20)),
    };

    #[test]
    fn waits_are_rounded_up_to_whole_seconds() {
        assert_eq!(REFUSED.retry_after_seconds(), Some(1));
        assert_eq!(REFUSED.field("per-caller"), r#""per-caller";r=0;t=1"#);
        let longer = Verdict { retry_after: Some(Duration::from_millis(2_001)), ..REFUSED };
        assert_eq!(longer.retry_after_seconds(), Some(3));
        let at_once = Verdict { retry_after: Some(Duration::ZERO), ..REFUSED };
        assert_eq!(at_once.retry_after_seconds(), Some(1));
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(QuotedName("a\"b\\c\r\nü").to_string(), r#""a\"b\\c???""#);
    }
}
