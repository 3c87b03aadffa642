//! Trace ids, and the `traceparent` header of W3C Trace Context (level 1, section 3.2).
//!
//! Passes: version `00` in its exact form, and later versions by their first four fields. Refused: version `ff`,
//! ids of all zeros, upper-case letters, any other length. Who refuses starts a trace of their own.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// The id of a trace; never all zeros. Prints as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TraceId(u128);

/// The id of one step of a trace; never all zeros. Prints as 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SpanId(u64);

/// The value of a `traceparent` header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Traceparent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's step in it.
    pub parent: SpanId,
    /// Whether the caller records the trace.
    pub sampled: bool,
}

/// Why a `traceparent` is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TraceError {
    /// Not four fields of lower-case hex digits in their lengths.
    #[error("not of the form `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`")]
    Form,
    /// Version `ff`, which the standard forbids.
    #[error("version `ff` is forbidden")]
    Version,
    /// A trace or parent id of all zeros.
    #[error("an id of all zeros is invalid")]
    Zero,
}

/// A source of ids for one core: unique, cheap, and of no use to guess other ids by.
#[derive(Debug)]
pub struct TraceIds {
    high: RandomState,
    low: RandomState,
    next: Cell<u64>,
}

impl TraceIds {
    /// A source under a fresh random seed.
    #[must_use]
    pub fn new() -> Self {
        Self { high: RandomState::new(), low: RandomState::new(), next: Cell::new(0) }
    }

    /// A new trace id.
    pub fn trace(&self) -> TraceId {
        let count = self.count();
        TraceId((u128::from(self.high.hash_one(count)) << 64 | u128::from(self.low.hash_one(count))).max(1))
    }

    /// A new span id.
    pub fn span(&self) -> SpanId {
        SpanId(self.high.hash_one(self.count()).max(1))
    }

    /// Any number, for what is left to chance.
    pub fn chance(&self) -> u64 {
        self.low.hash_one(self.count())
    }

    fn count(&self) -> u64 {
        self.next.replace(self.next.get().wrapping_add(1))
    }
}

impl Default for TraceIds {
    fn default() -> Self {
        Self::new()
    }
}

impl Traceparent {
    /// Reads the one value of a `traceparent` header.
    ///
    /// # Errors
    /// [`TraceError`] for everything that the standard does not allow.
    pub fn parse(value: &str) -> Result<Self, TraceError> {
        let mut fields = value.splitn(5, '-');
        let mut field =
            |digits: usize| fields.next().filter(|field| is_hex(field, digits)).ok_or(TraceError::Form);
        let version = field(2)?;
        let trace = u128::from_str_radix(field(32)?, 16).map_err(|_| TraceError::Form)?;
        let parent = u64::from_str_radix(field(16)?, 16).map_err(|_| TraceError::Form)?;
        let flags = u8::from_str_radix(field(2)?, 16).map_err(|_| TraceError::Form)?;
        match version {
            "ff" => return Err(TraceError::Version),
            "00" if fields.next().is_some() => return Err(TraceError::Form),
            _ => {}
        }
        if trace == 0 || parent == 0 {
            return Err(TraceError::Zero);
        }
        Ok(Self { trace: TraceId(trace), parent: SpanId(parent), sampled: flags & SAMPLED != 0 })
    }
}

impl TraceId {
    /// Its 128 bits.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// As it prints.
    #[must_use]
    pub fn encode(&self) -> [u8; 32] {
        hex(self.0)
    }
}

impl Traceparent {
    /// As it prints; much faster than formatting, and needed for each request.
    #[must_use]
    pub fn encode(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let parts = [(3, &hex::<32>(self.trace.0)[..]), (36, &hex::<16>(self.parent.0.into())[..])];
        for (at, digits) in parts {
            for (place, digit) in text.iter_mut().skip(at).zip(digits) {
                *place = *digit;
            }
        }
        if self.sampled
            && let Some(flag) = text.last_mut()
        {
            *flag = b'1';
        }
        text
    }
}

impl FromStr for Traceparent {
    type Err = TraceError;

    fn from_str(value: &str) -> Result<Self, TraceError> {
        Self::parse(value)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&hex::<32>(self.0)).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&hex::<16>(self.0.into())).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.encode()).map_err(|_| fmt::Error)?)
    }
}

/// The last `N` hex digits of `value`; several times faster than `{:x}`, and needed for each request.
fn hex<const N: usize>(value: u128) -> [u8; N] {
    let mut rest = value;
    let mut digits = [0; N];
    for digit in digits.iter_mut().rev() {
        let nibble = (rest & 0xf) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        rest >>= 4;
    }
    digits
}

fn is_hex(field: &str, digits: usize) -> bool {
    field.len() == digits && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_and_prints_the_same() {
        assert_eq!(Traceparent::parse(VALID).unwrap().to_string(), VALID);
        assert!(!Traceparent::parse(&VALID.replace("-01", "-00")).unwrap().sampled);
        assert!(Traceparent::parse(&VALID.replace("-01", "-ff")).unwrap().sampled);
    }

    #[test]
    fn a_later_version_is_read_by_its_first_fields() {
        let later = VALID.replacen("00", "cc", 1);
        assert!(Traceparent::parse(&later).is_ok());
        assert!(Traceparent::parse(&format!("{later}-what-ever")).is_ok());
        assert_eq!(Traceparent::parse(&format!("{later}x")), Err(TraceError::Form));
    }

    #[test]
    fn what_the_standard_forbids_is_no_traceparent() {
        assert_eq!(Traceparent::parse(&VALID.replacen("00", "ff", 1)), Err(TraceError::Version));
        for value in [
            String::new(),
            "00".to_owned(),
            format!("{VALID}-"),
            format!("{VALID}-00"),
            format!(" {VALID}"),
            VALID.to_uppercase(),
            VALID.replace("4bf", "+bf"),
            VALID.replace('-', "_"),
            VALID.replace("-00f0", "-0f0"),
        ] {
            assert_eq!(Traceparent::parse(&value), Err(TraceError::Form), "{value}");
        }
        assert_eq!(
            Traceparent::parse(&VALID.replace("00f067aa0ba902b7", "0000000000000000")),
            Err(TraceError::Zero)
        );
        assert_eq!(
            Traceparent::parse(&VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32))),
            Err(TraceError::Zero)
        );
    }

    #[test]
    fn ids_do_not_repeat_between_requests_or_cores() {
        let (one, other) = (TraceIds::new(), TraceIds::new());
        let ids: std::collections::HashSet<_> =
            (0..10_000).flat_map(|_| [one.trace(), other.trace()]).map(|id| id.to_string()).collect();
        assert_eq!(ids.len(), 20_000);
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}
