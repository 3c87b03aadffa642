//! How a verdict stands in a response: the `RateLimit` and `RateLimit-Policy` fields of
//! draft-ietf-httpapi-ratelimit-headers-10, and `Retry-After` in whole seconds.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;

use crate::{Quota, Verdict};

/// The fields for the limit `name`: `ratelimit-policy: "per-caller";q=100;w=2` and
/// `ratelimit: "per-caller";r=12;t=3`.
///
/// `q` is the burst and `w` the time in which all of it comes back; times are whole seconds, rounded up.
#[must_use]
pub fn fields(name: &str, quota: &Quota, verdict: &Verdict) -> [(&'static str, HeaderValue); 2] {
    let name = Quoted(name);
    [
        ("ratelimit-policy", value(&format!("{name};q={};w={}", quota.burst(), seconds(quota.refill())))),
        ("ratelimit", value(&format!("{name};r={};t={}", verdict.remaining, seconds(verdict.reset)))),
    ]
}

/// Whole seconds, rounded up: who waits this long has waited long enough.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

fn value(text: &str) -> HeaderValue {
    #[expect(clippy::expect_used, reason = "`Quoted` leaves only visible ASCII")]
    HeaderValue::from_str(text).expect("visible ASCII is a header value")
}

/// A name as a structured-field string (RFC 9651 section 3.3.3); what it cannot carry becomes `?`.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn the_fields_name_quota_window_rest_and_reset() {
        let quota = Quota::parse("50/s").unwrap().with_burst(NonZeroU32::new(101).unwrap()).unwrap();
        let reset = Duration::from_millis(2_001);
        let verdict = Verdict { allowed: true, limit: 101, remaining: 12, reset, retry_after: None };
        let [(policy_name, policy), (name, field)] = fields("per-caller", &quota, &verdict);
        assert_eq!(
            (policy_name, policy.to_str().unwrap()),
            ("ratelimit-policy", r#""per-caller";q=101;w=3"#)
        );
        assert_eq!((name, field.to_str().unwrap()), ("ratelimit", r#""per-caller";r=12;t=3"#));
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(Quoted("a\"b\\c\r\nü").to_string(), r#""a\"b\\c???""#);
    }
}
