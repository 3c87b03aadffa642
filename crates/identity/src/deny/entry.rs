//! Entries as people write them.

use std::fmt;
use std::time::SystemTime;

use crate::{PrincipalId, PrincipalKind, SpiffeId, SpiffeIdError};

/// One thing that is denied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DenyEntry {
    /// What.
    pub denied: Denied,
    /// Until when; for ever without.
    pub until: Option<SystemTime>,
    /// Why, in words for people.
    pub reason: Option<String>,
}

/// What an entry names.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Denied {
    /// A principal, by its id as logs show it.
    Principal(PrincipalId),
    /// A workload, by its SPIFFE id in a certificate or as a token's subject.
    Spiffe(SpiffeId),
    /// A token.
    Token {
        /// Its `jti`.
        jti: String,
        /// Its `iss`; without, a token of any issuer.
        issuer: Option<String>,
    },
    /// A certificate.
    Certificate {
        /// Its serial number: upper-case hexadecimal without leading zeros.
        serial: String,
        /// Whose.
        issued: Issued,
    },
}

/// Who issued a certificate: serial numbers are an issuer's own.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Issued {
    /// Any authority of the trust entry of this name.
    Under(String),
    /// The authority with this distinguished name, as `portcullis cert inspect` prints it.
    By(String),
}

/// Why a text names nothing that can be denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DenyError {
    /// No principal's id.
    #[error(
        "expected a principal as logs show it: `jwt:ISSUER#SUBJECT`, `dns:TRUST#NAME`, `subject:TRUST#DN` or `spiffe://…`"
    )]
    Principal,
    /// Denying nobody would close every route that asks for no proof; that is what policies are for.
    #[error("`anonymous` cannot be denied: a policy says what callers without proof may do")]
    Anonymous,
    /// No SPIFFE id of a workload.
    #[error(transparent)]
    Spiffe(#[from] SpiffeIdError),
    /// No serial number.
    #[error("expected a serial number in hexadecimal, as `portcullis cert inspect` prints it")]
    Serial,
    /// Nothing, or more than anybody would write.
    #[error("expected 1 to {MAX_TEXT} bytes")]
    Length,
}

/// The longest `jti`, issuer, name or reason.
const MAX_TEXT: usize = 2048;

impl Denied {
    /// The principal with this id, as [`PrincipalId`] prints it. Its authority ends at the first `#`.
    ///
    /// # Errors
    /// If the text is none, or is `anonymous`.
    pub fn principal(text: &str) -> Result<Self, DenyError> {
        bounded(text)?;
        if text.starts_with("spiffe://") {
            let id = SpiffeId::parse_workload(text)?;
            return Ok(Self::Principal(PrincipalId::new(
                PrincipalKind::Spiffe,
                id.trust_domain(),
                id.path(),
            )));
        }
        if text == "anonymous" {
            return Err(DenyError::Anonymous);
        }
        let (kind, rest) = text.split_once(':').ok_or(DenyError::Principal)?;
        let kind = match kind {
            "dns" => PrincipalKind::Dns,
            "jwt" => PrincipalKind::Jwt,
            "subject" => PrincipalKind::Subject,
            _ => return Err(DenyError::Principal),
        };
        let (authority, subject) = rest.split_once('#').ok_or(DenyError::Principal)?;
        if authority.is_empty() || subject.is_empty() {
            return Err(DenyError::Principal);
        }
        Ok(Self::Principal(match kind {
            // As it is read from certificates.
            PrincipalKind::Dns => PrincipalId::new(kind, authority, subject.to_ascii_lowercase()),
            kind => PrincipalId::new(kind, authority, subject),
        }))
    }

    /// The workload with this SPIFFE id.
    ///
    /// # Errors
    /// If the text is none.
    pub fn spiffe(text: &str) -> Result<Self, DenyError> {
        Ok(Self::Spiffe(SpiffeId::parse_workload(text)?))
    }

    /// The token with this `jti`, of this issuer or of any.
    ///
    /// # Errors
    /// If one of them is empty or too long.
    pub fn token(jti: &str, issuer: Option<&str>) -> Result<Self, DenyError> {
        bounded(jti)?;
        issuer.map_or(Ok(()), bounded)?;
        Ok(Self::Token { jti: jti.to_owned(), issuer: issuer.map(str::to_owned) })
    }

    /// The certificate with this serial number in hexadecimal (colons, spaces, small letters and leading zeros make no difference).
    ///
    /// # Errors
    /// If the number is none, or the issuer's name is empty or too long.
    pub fn certificate(serial: &str, issued: Issued) -> Result<Self, DenyError> {
        bounded(serial)?;
        let (Issued::Under(name) | Issued::By(name)) = &issued;
        bounded(name)?;
        let digits: String = serial.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DenyError::Serial);
        }
        Ok(Self::Certificate { serial: digits.to_ascii_uppercase(), issued })
    }
}

impl DenyEntry {
    /// An entry with a reason that fits.
    ///
    /// # Errors
    /// If the reason is empty or too long.
    pub fn new(denied: Denied, until: Option<SystemTime>, reason: Option<&str>) -> Result<Self, DenyError> {
        reason.map_or(Ok(()), bounded)?;
        Ok(Self { denied, until, reason: reason.map(str::to_owned) })
    }

    /// True when it counts no longer.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(id) => write!(f, "principal {id}"),
            Self::Spiffe(id) => write!(f, "workload {id}"),
            Self::Token { jti, issuer: None } => write!(f, "token {jti}"),
            Self::Token { jti, issuer: Some(issuer) } => write!(f, "token {jti} of {issuer}"),
            Self::Certificate { serial, issued: Issued::Under(trust) } => {
                write!(f, "certificate {serial} under trust {trust}")
            }
            Self::Certificate { serial, issued: Issued::By(issuer) } => {
                write!(f, "certificate {serial} by {issuer}")
            }
        }
    }
}

fn bounded(text: &str) -> Result<(), DenyError> {
    if (1..=MAX_TEXT).contains(&text.len()) { Ok(()) } else { Err(DenyError::Length) }
}
