//! The one [`Principal`]: who calls, whatever the proof was.
//!
//! Its id is kind, authority and subject together, so the same `sub` from two issuers is two principals. Policy,
//! limits, logs and revocation all key on it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The kind of name that a principal carries.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PrincipalKind {
    /// Nobody was proven; exists only where a route says `authenticate: none`.
    Anonymous,
    /// A DNS name from a client certificate's subject alternative names.
    Dns,
    /// The subject of a verified JWT.
    Jwt,
    /// A SPIFFE id from an X.509-SVID.
    Spiffe,
    /// The distinguished name of a client certificate.
    Subject,
}

impl PrincipalKind {
    /// The kind as it stands in logs and in a principal's id.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Dns => "dns",
            Self::Jwt => "jwt",
            Self::Spiffe => "spiffe",
            Self::Subject => "subject",
        }
    }
}

/// Kind, authority (issuer, trust domain or trust entry) and subject: the key of everything.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PrincipalId {
    kind: PrincipalKind,
    authority: Arc<str>,
    subject: Arc<str>,
}

impl PrincipalId {
    /// An id from its three parts.
    pub fn new(kind: PrincipalKind, authority: impl Into<Arc<str>>, subject: impl Into<Arc<str>>) -> Self {
        Self { kind, authority: authority.into(), subject: subject.into() }
    }

    /// The id of nobody.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(PrincipalKind::Anonymous, "", "")
    }

    /// What kind of name this is.
    #[must_use]
    pub const fn kind(&self) -> PrincipalKind {
        self.kind
    }

    /// The JWT issuer, the SPIFFE trust domain, or the name of the trust entry.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The JWT `sub`, the SPIFFE path, the DNS name or the distinguished name.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for PrincipalId {
    /// `spiffe://domain/path`, `jwt:issuer#subject`, `dns:trust#name`, `subject:trust#dn` or `anonymous`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PrincipalKind::Anonymous => f.write_str("anonymous"),
            PrincipalKind::Spiffe => write!(f, "spiffe://{}{}", self.authority, self.subject),
            kind => write!(f, "{}:{}#{}", kind.as_str(), self.authority, self.subject),
        }
    }
}

/// A claim of a verified token, typed as the configuration maps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClaimValue {
    /// A JSON boolean.
    Bool(bool),
    /// A JSON integer.
    Long(i64),
    /// A JSON string.
    String(String),
    /// A JSON array of strings.
    Strings(Vec<String>),
}

/// Who calls: an id, and what its proof says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The key of policy, limits, logs and revocation.
    pub id: PrincipalId,
    /// Roles from the mapped claim; empty for certificates.
    pub roles: Vec<String>,
    /// OAuth scopes (RFC 6749 section 3.3); empty for certificates.
    pub scopes: Vec<String>,
    /// Claims that the issuer's configuration maps, by their mapped name.
    pub claims: BTreeMap<String, ClaimValue>,
}

impl Principal {
    /// A principal that has a name and nothing else.
    #[must_use]
    pub fn named(id: PrincipalId) -> Self {
        Self { id, roles: Vec::new(), scopes: Vec::new(), claims: BTreeMap::new() }
    }

    /// Nobody.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::named(PrincipalId::anonymous())
    }
}
