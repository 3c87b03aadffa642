//! The deny list: principals, tokens and certificates that no longer count, whatever they can still prove.
//!
//! An entry names one thing exactly; nothing is matched by pattern. It counts until its end, if it has one. Looking something
//! up costs a hash, however long the list is.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::SystemTime;

use crate::certificate::PeerCertificate;
use crate::{PrincipalId, PrincipalKind};

pub use entry::{Denied, DenyEntry, DenyError, Issued};

/// The most entries that a list may have, whatever they are: about 30 MiB.
pub const MAX_ENTRIES: usize = 100_000;

/// A deny list, made to be asked.
#[derive(Clone, Debug, Default)]
pub struct DenyList {
    principals: HashMap<PrincipalId, Until>,
    /// SPIFFE ids as a token's subject may spell them (JWT-SVID section 3.1).
    subjects: HashMap<Box<str>, Until>,
    /// By `jti`; each for one issuer or for all.
    tokens: Several<Option<Box<str>>>,
    /// By serial number.
    certificates: Several<Issued>,
}

/// When an entry ends; never without.
type Until = Option<SystemTime>;

/// What may be named several times: with different issuers.
type Several<T> = HashMap<Box<str>, Vec<(T, Until)>>;

impl DenyList {
    /// The list of these entries. Of two that name the same, the one that ends later counts.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a DenyEntry>) -> Self {
        let mut list = Self::default();
        for entry in entries {
            list.add(&entry.denied, entry.until);
        }
        list
    }

    fn add(&mut self, denied: &Denied, until: Until) {
        match denied {
            Denied::Principal(id) => longest(&mut self.principals, id.clone(), until),
            Denied::Spiffe(id) => {
                let principal = PrincipalId::new(PrincipalKind::Spiffe, id.trust_domain(), id.path());
                longest(&mut self.principals, principal, until);
                longest(&mut self.subjects, id.as_str().into(), until);
            }
            Denied::Token { jti, issuer } => {
                let issuer = issuer.as_deref().map(Box::from);
                self.tokens.entry(jti.as_str().into()).or_default().push((issuer, until));
            }
            Denied::Certificate { serial, issued } => {
                self.certificates.entry(serial.as_str().into()).or_default().push((issued.clone(), until));
            }
        }
    }

    /// True when it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.principals.is_empty() && self.tokens.is_empty() && self.certificates.is_empty()
    }

    /// Whether this principal is denied: by its id, or by the SPIFFE id that its certificate or its token's subject is.
    #[must_use]
    pub fn denies_principal(&self, id: &PrincipalId, now: SystemTime) -> bool {
        let is_named = self.principals.get(id).is_some_and(|until| counts(*until, now));
        is_named
            || id.kind() == PrincipalKind::Jwt
                && self.subjects.get(id.subject()).is_some_and(|until| counts(*until, now))
    }

    /// Whether the token with this id, of the issuer with this `iss`, is denied.
    #[must_use]
    pub fn denies_token(&self, jti: &str, issuer: &str, now: SystemTime) -> bool {
        self.tokens.get(jti).is_some_and(|named| {
            named.iter().any(|(of, until)| of.as_deref().is_none_or(|of| of == issuer) && counts(*until, now))
        })
    }

    /// Whether this certificate, proven under this trust entry, is denied by its serial number.
    #[must_use]
    pub fn denies_certificate(&self, certificate: &PeerCertificate, trust: &str, now: SystemTime) -> bool {
        if self.certificates.is_empty() {
            return false;
        }
        let serial = certificate.serial.trim_start_matches('0');
        self.certificates.get(serial).is_some_and(|named| {
            named.iter().any(|(issued, until)| {
                let is_it = match issued {
                    Issued::Under(name) => name == trust,
                    Issued::By(issuer) => *issuer == certificate.issuer,
                };
                is_it && counts(*until, now)
            })
        })
    }
}

fn counts(until: Until, now: SystemTime) -> bool {
    until.is_none_or(|until| now < until)
}

fn longest<K: Eq + std::hash::Hash>(map: &mut HashMap<K, Until>, key: K, until: Until) {
    map.entry(key)
        .and_modify(|known| *known = known.and_then(|known| until.map(|until| known.max(until))))
        .or_insert(until);
}
