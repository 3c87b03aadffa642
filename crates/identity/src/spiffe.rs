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
