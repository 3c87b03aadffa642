//! Times, sizes and rates: a number and its unit, so that nobody has to guess which.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use limit::{Quota, QuotaError};

use super::{Misread, Word, words};

/// A time that is not zero.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Timespan(pub(in crate::config) Duration);

impl Word for Timespan {
    const EXPECTED: &'static str = "a time such as `100ms`, `5s`, `10m`, `24h` or `30d`";

    fn parse(text: &str) -> Result<Self, Misread> {
        match duration(text)? {
            Duration::ZERO => Err("a time of zero; leave the key out for the default".into()),
            time => Ok(Self(time)),
        }
    }
}

/// A time that may be zero.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Tolerance(pub(in crate::config) Duration);

impl Word for Tolerance {
    const EXPECTED: &'static str = "a time such as `0s`, `60s` or `5m`";

    fn parse(text: &str) -> Result<Self, Misread> {
        duration(text).map(Self)
    }
}

/// A number of bytes, not zero.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Size(pub(in crate::config) NonZeroU64);

impl Word for Size {
    const EXPECTED: &'static str = "a size such as `512B`, `32KiB`, `64MiB` or `1GiB`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let (number, unit) = split(text)?;
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(Misread::Other),
        };
        let bytes = number.checked_mul(factor).ok_or("a size that is too large")?;
        NonZeroU64::new(bytes).map(Self).ok_or_else(|| "a size of zero".into())
    }
}

/// Bytes in a second.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct ByteRate(pub(in crate::config) NonZeroU64);

impl Word for ByteRate {
    const EXPECTED: &'static str = "bytes in a second such as `1KiB/s`";

    fn parse(text: &str) -> Result<Self, Misread> {
        Size::parse(text.strip_suffix("/s").ok_or(Misread::Other)?).map(|size| Self(size.0))
    }
}

/// So many times in so long.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Rate(pub(in crate::config) Quota);

impl Word for Rate {
    const EXPECTED: &'static str = "a rate such as `50/s`, `100/m` or `1000/h`";

    fn parse(text: &str) -> Result<Self, Misread> {
        Quota::parse(text).map(Self).map_err(|error| match error {
            QuotaError::Form(_) => Misread::Other,
            error => error.to_string().into(),
        })
    }
}

/// A whole number from 1 on.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Count(pub(in crate::config) NonZeroU32);

impl Word for Count {
    const EXPECTED: &'static str = "a whole number from 1 on";

    fn parse(text: &str) -> Result<Self, Misread> {
        let count = digits(text).and_then(|count| u32::try_from(count).ok()).ok_or(Misread::Other)?;
        NonZeroU32::new(count).map(Self).ok_or(Misread::Other)
    }
}

/// A share in percent, from 1 to 100.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Percent(pub(in crate::config) u8);

impl Word for Percent {
    const EXPECTED: &'static str = "a share such as `20%`, from `1%` to `100%`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let share = text.strip_suffix('%').and_then(digits).and_then(|share| u8::try_from(share).ok());
        share.filter(|share| (1..=100).contains(share)).map(Self).ok_or(Misread::Other)
    }
}

/// A paranoia level of the core rule set.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Paranoia(pub(in crate::config) u8);

impl Word for Paranoia {
    const EXPECTED: &'static str = "a whole number from 1 to 4";

    fn parse(text: &str) -> Result<Self, Misread> {
        let level = digits(text).and_then(|level| u8::try_from(level).ok()).ok_or(Misread::Other)?;
        if (1..=4).contains(&level) { Ok(Self(level)) } else { Err(Misread::Other) }
    }
}

words! {
    Paranoia: { "type": "integer", "minimum": 1, "maximum": 4 },
    Percent: "^([1-9][0-9]?|100)%$",
    Count: { "type": "integer", "minimum": 1, "maximum": 4_294_967_295_u32 },
    Timespan: "^[0-9]+(ms|s|m|h|d)$",
    Tolerance: "^[0-9]+(ms|s|m|h|d)$",
    Size: "^[0-9]+(B|KiB|MiB|GiB)$",
    ByteRate: "^[0-9]+(B|KiB|MiB|GiB)/s$",
    Rate: "^[1-9][0-9]*/[smh]$",
}

fn duration(text: &str) -> Result<Duration, Misread> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(Misread::Other),
    };
    let time = number.checked_mul(factor).map(Duration::from_millis).ok_or("a time that is too long")?;
    if time > LONGEST { Err("a time of more than 10 years".into()) } else { Ok(time) }
}

fn split(text: &str) -> Result<(u64, &str), Misread> {
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or(Misread::Other)?;
    let (number, unit) = text.split_at(at);
    Ok((digits(number).ok_or(Misread::Other)?, unit))
}

/// Digits only: no sign, which `parse` would take.
fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Longer than any of the times that are configured, and far from where adding to a clock overflows.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_unit_are_read() {
        assert_eq!(Timespan::parse("100ms").unwrap().0, Duration::from_millis(100));
        assert_eq!(Timespan::parse("30d").unwrap().0, Duration::from_secs(30 * 86_400));
        assert_eq!(Size::parse("32KiB").unwrap().0.get(), 32 * 1024);
        assert_eq!(ByteRate::parse("1KiB/s").unwrap().0.get(), 1024);
        assert_eq!(Tolerance::parse("0s").unwrap().0, Duration::ZERO);
        assert_eq!(Percent::parse("100%").unwrap().0, 100);
    }

    #[test]
    fn what_is_not_a_number_and_a_known_unit_is_refused() {
        for text in
            ["", "5", "s", "-5s", "+5s", "5 s", "5S", "1.5s", "0s", "99999999999999999999s", "4000d", "5sec"]
        {
            assert!(Timespan::parse(text).is_err(), "{text}");
        }
        for text in ["", "1", "1KB", "0B", "99999999999GiB", "KiB"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
        for text in ["", "%", "20", "0%", "101%", "-5%", "2.5%", "20 %"] {
            assert!(Percent::parse(text).is_err(), "{text}");
        }
        for text in ["", "5", "5/d", "0/s", "/s", "-1/s", "5/s/s"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }
}
