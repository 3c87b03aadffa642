//! SPIFFE ids, read by the letter of the SPIFFE-ID specification.
//!
//! Passes: `spiffe://` + trust domain + path, all as they must be written. Refused: everything that another reader could
//! take for another id: upper case in scheme or trust domain, ports, user info, queries, fragments, percent-encoding,
//! empty and dot segments, a final slash, more than 2048 bytes. Nothing is normalised.

use std::fmt;
use std::sync::Arc;

/// The longest id that is read (SPIFFE-ID section 2.3).
const MAX_ID_BYTES: usize = 2048;
/// The longest trust domain name (SPIFFE-ID section 2.3).
const MAX_TRUST_DOMAIN_BYTES: usize = 255;
const SCHEME: &str = "spiffe://";

/// The name of a workload, or of a trust domain when the path is empty.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpiffeId {
    text: Arc<str>,
    path_start: usize,
}

impl SpiffeId {
    /// Reads an id as it must be written (SPIFFE-ID section 2).
    ///
    /// # Errors
    /// The first rule of the specification that `text` breaks. An id without a path is read: it names a trust domain,
    /// see [`SpiffeId::is_workload`].
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_trust_domain(domain)?;
        check_path(path)?;
        Ok(Self { text: text.into(), path_start: SCHEME.len() + domain.len() })
    }

    /// Reads an id that names a workload, that is: has a path (X.509-SVID section 2).
    ///
    /// # Errors
    /// As [`SpiffeId::parse`], and [`SpiffeIdError::NoPath`] for a mere trust domain.
    pub fn parse_workload(text: &str) -> Result<Self, SpiffeIdError> {
        let id = Self::parse(text)?;
        if id.is_workload() { Ok(id) } else { Err(SpiffeIdError::NoPath) }
    }

    /// The trust domain: `example.org` in `spiffe://example.org/web`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.path_start).unwrap_or_default()
    }

    /// The path with its leading slash: `/web` in `spiffe://example.org/web`; empty for a trust domain.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.path_start..).unwrap_or_default()
    }

    /// Whether this names a workload and not a trust domain.
    #[must_use]
    pub fn is_workload(&self) -> bool {
        !self.path().is_empty()
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `text` may stand as a trust domain, as in `trust_domain: example.org`.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn check_trust_domain(text: &str) -> Result<(), SpiffeIdError> {
        check_trust_domain(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no SPIFFE id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpiffeIdError {
    /// More than 2048 bytes, or a trust domain of more than 255.
    #[error("spiffe id is too long")]
    TooLong,
    /// Does not start with `spiffe://` in lower case.
    #[error("spiffe id does not start with `spiffe://`")]
    Scheme,
    /// The trust domain is empty or holds more than `a-z`, `0-9`, `.`, `-` and `_`.
    #[error("trust domain may only hold lower-case letters, digits, dots, dashes and underscores")]
    TrustDomain,
    /// A path segment is empty (also by a final slash).
    #[error("spiffe id has an empty path segment or a final slash")]
    EmptySegment,
    /// A path segment is `.` or `..`.
    #[error("spiffe id has a dot segment")]
    DotSegment,
    /// A path holds more than letters, digits, `.`, `-` and `_`.
    #[error("spiffe id path may only hold letters, digits, dots, dashes and underscores")]
    Path,
    /// A trust domain where a workload is needed.
    #[error("spiffe id names a trust domain, not a workload: it has no path")]
    NoPath,
}

fn check_trust_domain(domain: &str) -> Result<(), SpiffeIdError> {
    if domain.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err(SpiffeIdError::TooLong);
    }
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if domain.is_empty() || !domain.bytes().all(allowed) {
        return Err(SpiffeIdError::TrustDomain);
    }
    Ok(())
}

/// `path` is empty or starts with a slash.
fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    for segment in path.split('/').skip(1) {
        match segment {
            "" => return Err(SpiffeIdError::EmptySegment),
            "." | ".." => return Err(SpiffeIdError::DotSegment),
            _ => {}
        }
        if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
            return Err(SpiffeIdError::Path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_as_the_specification_writes_them_are_read() {
        for (text, domain, path) in [
            ("spiffe://example.org/ns/a/sa/web", "example.org", "/ns/a/sa/web"),
            ("spiffe://a_b-c.1/X..y/...", "a_b-c.1", "/X..y/..."),
            ("spiffe://example.org", "example.org", ""),
        ] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!((id.trust_domain(), id.path(), id.to_string().as_str()), (domain, path, text));
        }
    }

    #[test]
    fn what_could_be_read_as_another_id_is_refused() {
        for (text, error) in [
            ("", SpiffeIdError::Scheme),
            ("spiffe:/example.org/a", SpiffeIdError::Scheme),
            ("SPIFFE://example.org/a", SpiffeIdError::Scheme),
            (" spiffe://example.org/a", SpiffeIdError::Scheme),
            ("https://example.org/a", SpiffeIdError::Scheme),
            ("spiffe://", SpiffeIdError::TrustDomain),
            ("spiffe:///a", SpiffeIdError::TrustDomain),
            ("spiffe://EXAMPLE.org/a", SpiffeIdError::TrustDomain),
            ("spiffe://example.org:443/a", SpiffeIdError::TrustDomain),
            ("spiffe://evil@example.org/a", SpiffeIdError::TrustDomain),
            ("spiffe://ex%61mple.org/a", SpiffeIdError::TrustDomain),
            ("spiffe://exämple.org/a", SpiffeIdError::TrustDomain),
            ("spiffe://example.org?a", SpiffeIdError::TrustDomain),
            ("spiffe://example.org#a", SpiffeIdError::TrustDomain),
            ("spiffe://example.org/", SpiffeIdError::EmptySegment),
            ("spiffe://example.org/a/", SpiffeIdError::EmptySegment),
            ("spiffe://example.org//a", SpiffeIdError::EmptySegment),
            ("spiffe://example.org/a/../b", SpiffeIdError::DotSegment),
            ("spiffe://example.org/./a", SpiffeIdError::DotSegment),
            ("spiffe://example.org/%61", SpiffeIdError::Path),
            ("spiffe://example.org/a?x=1", SpiffeIdError::Path),
            ("spiffe://example.org/a#x", SpiffeIdError::Path),
            ("spiffe://example.org/a b", SpiffeIdError::Path),
            ("spiffe://example.org/a\0", SpiffeIdError::Path),
            ("spiffe://example.org/ä", SpiffeIdError::Path),
        ] {
            assert_eq!(SpiffeId::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn lengths_end_where_the_specification_says() {
        let of = |length: usize| format!("spiffe://example.org/{}", "a".repeat(length - 21));
        assert!(SpiffeId::parse(&of(2048)).is_ok());
        assert_eq!(SpiffeId::parse(&of(2049)), Err(SpiffeIdError::TooLong));
        assert!(SpiffeId::check_trust_domain(&"a".repeat(255)).is_ok());
        assert_eq!(SpiffeId::check_trust_domain(&"a".repeat(256)), Err(SpiffeIdError::TooLong));
    }

    #[test]
    fn a_trust_domain_is_no_workload() {
        assert_eq!(SpiffeId::parse_workload("spiffe://example.org"), Err(SpiffeIdError::NoPath));
        assert!(SpiffeId::parse_workload("spiffe://example.org/a").is_ok());
    }

    proptest! {
        #[test]
        fn what_is_read_is_exactly_scheme_domain_and_path(text in "(spiffe://)?[a-zA-Z0-9._:@%?#/ -]{0,40}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
                prop_assert!(id.path().is_empty() || id.path().starts_with('/'));
                prop_assert!(!id.as_str().contains(['%', '?', '#', '@', ' ']));
                prop_assert!(id.path().split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")));
            }
        }

        #[test]
        fn every_well_formed_id_is_read(domain in "[a-z0-9._-]{1,30}", parts in prop::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,9}", 0..6)) {
            let path: String = parts.iter().map(|part| format!("/{part}")).collect();
            let text = format!("spiffe://{domain}{path}");
            let id = SpiffeId::parse(&text).unwrap();
            prop_assert_eq!((id.trust_domain(), id.path()), (domain.as_str(), path.as_str()));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = SpiffeId::parse(&text);
            let _ = SpiffeId::parse(&format!("spiffe://{text}"));
        }
    }
}
