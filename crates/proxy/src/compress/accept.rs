//! Which coding a client likes best (RFC 9110 section 12.5.3).
//!
//! **Counts:** weights, `*`, `identity`, and `x-gzip` for `gzip` (section 8.4.1.3); the first of two entries for one coding. **Passed
//! over:** an entry that is none. A client that does not send the field gets the answer as it is.

use http::header::{ACCEPT_ENCODING, HeaderMap};

use super::Coding;
use crate::normalize::fields::list;

/// What a client accepts of what is offered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Accepted {
    /// What it likes best; nothing where that is the answer as it is.
    pub(super) coding: Option<Coding>,
    /// It refuses the answer as it is.
    pub(super) demands: bool,
}

/// Weights in thousandths.
#[derive(Default)]
struct Weights {
    brotli: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    any: Option<u16>,
}

impl Accepted {
    pub(super) fn read(headers: &HeaderMap, offered: &[Coding]) -> Self {
        let mut weights = Weights::default();
        for (name, weight) in headers.get_all(ACCEPT_ENCODING).iter().flat_map(list).filter_map(entry) {
            let place = match name.to_ascii_lowercase().as_slice() {
                b"br" => &mut weights.brotli,
                b"gzip" | b"x-gzip" => &mut weights.gzip,
                b"identity" => &mut weights.identity,
                b"*" => &mut weights.any,
                _ => continue,
            };
            place.get_or_insert(weight);
        }
        weights.best(offered)
    }
}

impl Weights {
    fn best(&self, offered: &[Coding]) -> Accepted {
        let weight = |coding| match coding {
            Coding::Brotli => self.brotli,
            Coding::Gzip => self.gzip,
        };
        let mut best: Option<(Coding, u16)> = None;
        for &coding in offered {
            let weight = weight(coding).or(self.any).unwrap_or(0);
            if weight > best.map_or(0, |(_, weight)| weight) {
                best = Some((coding, weight));
            }
        }
        // As it is, it is always welcome, unless it is said to be not; but only by name better than anything else.
        let best = best.filter(|(_, weight)| self.identity.is_none_or(|identity| identity <= *weight));
        let demands = self.identity.or(self.any) == Some(0);
        Accepted { coding: best.map(|(coding, _)| coding), demands }
    }
}

/// `gzip`, `gzip;q=0.5`.
fn entry(text: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = text.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| !name.is_empty())?;
    match (parts.next(), parts.next()) {
        (None, _) => Some((name, 1000)),
        (Some(weight), None) => Some((name, thousandths(weight)?)),
        (Some(_), Some(_)) => None,
    }
}

/// `q=0`, `q=0.123`, `q=1.000`: at most three digits (section 12.4.2).
fn thousandths(text: &[u8]) -> Option<u16> {
    let value = text.strip_prefix(b"q=").or_else(|| text.strip_prefix(b"Q="))?;
    let (whole, rest) = value.split_first()?;
    let digits = match rest.split_first() {
        None => [].as_slice(),
        Some((b'.', digits)) if digits.len() <= 3 => digits,
        Some(_) => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        thousandths = 10 * thousandths + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    match (whole, thousandths) {
        (b'0', _) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use Coding::{Brotli, Gzip};

    fn read(values: &[&str]) -> (Option<Coding>, bool) {
        let field = |value: &&str| (ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
        let accepted = Accepted::read(&values.iter().map(field).collect(), &[Brotli, Gzip]);
        (accepted.coding, accepted.demands)
    }

    #[test]
    fn the_heaviest_counts_and_among_equals_the_first_that_is_offered() {
        for (text, coding) in [
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("gzip;q=1.0, br;q=0.9", Some(Gzip)),
            ("gzip;q=0.8, br;q=0.801", Some(Brotli)),
            ("GZIP", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("deflate, zstd", None),
            ("*", Some(Brotli)),
            ("br;q=0, *", Some(Gzip)),
            ("*;q=0.1, gzip ; q=0.2", Some(Gzip)),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("gzip;q=0, br;q=0.000", None),
            ("", None),
        ] {
            assert_eq!(read(&[text]), (coding, false), "{text}");
        }
        assert_eq!(read(&[]), (None, false));
        assert_eq!(read(&["deflate", "gzip"]), (Some(Gzip), false), "two fields are one list");
        assert_eq!(read(&["gzip;q=0, gzip"]), (None, false), "the first of two counts");
    }

    #[test]
    fn who_refuses_the_answer_as_it_is_says_so() {
        for (text, read_as) in [
            ("gzip, identity;q=0", (Some(Gzip), true)),
            ("gzip, *;q=0", (Some(Gzip), true)),
            ("gzip, identity;q=0.1, *;q=0", (Some(Gzip), false)),
            ("identity;q=0", (None, true)),
            ("*;q=0", (None, true)),
        ] {
            assert_eq!(read(&[text]), read_as, "{text}");
        }
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        for text in [
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.1234",
            "gzip;q=.5",
            "gzip;q=",
            "gzip;q",
            "gzip;level=9",
            "gzip;q=1;q=0",
            "gzip br",
            ";q=1",
            "gzip;q=-1",
        ] {
            assert_eq!(read(&[text]), (None, false), "{text}");
            assert_eq!(read(&[text, "br;q=0.1"]), (Some(Brotli), false), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                Accepted::read(&[(ACCEPT_ENCODING, value)].into_iter().collect(), &[Brotli, Gzip]);
            }
        }
    }
}
