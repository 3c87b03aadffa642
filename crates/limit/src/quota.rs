//! A rate and a burst, as the configuration writes them.
//!
//! Passes: `COUNT/s`, `COUNT/m`, `COUNT/h` with a count of at least 1, up to one per microsecond, and a burst
//! that refills within a year. Everything else is a [`QuotaError`].

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// How much a key may use: `count` in each `per`, and at most `burst` at once.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Quota {
    count: NonZeroU32,
    unit: Unit,
    burst: NonZeroU32,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

/// Why a rate or a burst is not a quota.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QuotaError {
    /// The text has another form.
    #[error("rate `{0}` is not of the form `50/s`, `50/m` or `50/h`")]
    Form(String),
    /// A rate of nothing.
    #[error("rate `{0}` lets nothing pass: the count must be at least 1")]
    Zero(String),
    /// More than one per microsecond.
    #[error("rate `{0}` is above 1000000/s")]
    TooFast(String),
    /// A burst that never comes back in practice.
    #[error("a burst of {burst} at {rate} needs more than 365 days to refill")]
    TooLong {
        /// The burst that was asked for.
        burst: NonZeroU32,
        /// The rate, as text.
        rate: String,
    },
}

impl Quota {
    /// Reads `50/s`, `50/m` or `50/h`; the burst is the count until [`Quota::with_burst`] says otherwise.
    ///
    /// # Errors
    /// [`QuotaError`] if the text has another form, the count is 0, or the rate is above one per microsecond.
    pub fn parse(rate: &str) -> Result<Self, QuotaError> {
        let form = || QuotaError::Form(rate.to_owned());
        let (count, unit) = rate.split_once('/').ok_or_else(form)?;
        let unit = match unit {
            "s" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return Err(form()),
        };
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(form());
        }
        let count: u32 = count.parse().map_err(|_| QuotaError::TooFast(rate.to_owned()))?;
        let count = NonZeroU32::new(count).ok_or_else(|| QuotaError::Zero(rate.to_owned()))?;
        if unit.duration() / count.get() < SHORTEST_INTERVAL {
            return Err(QuotaError::TooFast(rate.to_owned()));
        }
        Ok(Self { count, unit, burst: count })
    }

    /// The same rate with another burst.
    ///
    /// # Errors
    /// [`QuotaError::TooLong`] if an empty bucket would need more than 365 days to refill.
    pub fn with_burst(self, burst: NonZeroU32) -> Result<Self, QuotaError> {
        let quota = Self { burst, ..self };
        match self.interval().checked_mul(burst.get()) {
            Some(refill) if refill <= LONGEST_REFILL => Ok(quota),
            _ => Err(QuotaError::TooLong { burst, rate: format!("{}/{}", self.count, self.unit.as_str()) }),
        }
    }

    /// How many may come at once.
    #[must_use]
    pub const fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// The time in which one of the burst comes back.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.unit.duration() / self.count.get()
    }

    /// The time in which an empty bucket is full again.
    #[must_use]
    pub fn refill(&self) -> Duration {
        self.interval().saturating_mul(self.burst.get())
    }
}

impl fmt::Display for Quota {
    /// `50/s, burst 100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, burst {}", self.count, self.unit.as_str(), self.burst)
    }
}

impl Unit {
    const fn duration(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_secs(60),
            Self::Hour => Duration::from_secs(60 * 60),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }
}

/// Below this, whole nanoseconds would misstate the rate by more than a thousandth.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(1);

/// Keeps every sum of times far away from the end of 64 bits of nanoseconds, where arithmetic would panic.
const LONGEST_REFILL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_written() {
        let quota = Quota::parse("50/s").unwrap().with_burst(NonZeroU32::new(100).unwrap()).unwrap();
        assert_eq!(quota.interval(), Duration::from_millis(20));
        assert_eq!(quota.refill(), Duration::from_secs(2));
        assert_eq!(quota.to_string(), "50/s, burst 100");
        assert_eq!(Quota::parse("6/m").unwrap().interval(), Duration::from_secs(10));
        assert_eq!(Quota::parse("1/h").unwrap().burst().get(), 1);
    }

    #[test]
    fn what_is_no_rate_is_refused_with_its_own_reason() {
        for text in
            ["", "50", "50/", "/s", "50/d", "50 /s", "+5/s", "-1/s", "5.5/s", "50/s ", "50/s/s", "x/s"]
        {
            assert_eq!(Quota::parse(text), Err(QuotaError::Form(text.to_owned())));
        }
        assert!(matches!(Quota::parse("0/s"), Err(QuotaError::Zero(_))));
        assert!(Quota::parse("1000000/s").is_ok());
        assert!(matches!(Quota::parse("1000001/s"), Err(QuotaError::TooFast(_))));
        assert!(matches!(Quota::parse("99999999999/h"), Err(QuotaError::TooFast(_))));
    }

    #[test]
    fn a_burst_that_never_refills_is_refused() {
        let error = Quota::parse("1/h").unwrap().with_burst(NonZeroU32::MAX).unwrap_err();
        assert_eq!(error.to_string(), "a burst of 4294967295 at 1/h needs more than 365 days to refill");
    }
}
