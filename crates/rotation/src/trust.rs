//! Trust bundles: the authorities of a PKI mount and their revocation lists.
//!
//! **Taken:** at least one authority that is valid, and if a revocation list is asked for, one that such an authority signed and that
//! is no older than the one in use. A list that has ended is taken too: what it means is the entry's own rule ([`tls::StaleCrl`]), and
//! its age is seen. **Refused:** everything else, an answer without an authority above all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrets::Store;
use tls::{StaleCrl, Trust, TrustOptions};

use crate::error::{Rejection, SourceError};
use crate::source::{Life, Obtained, Source};

/// The authorities of a PKI mount or of the embedded authority.
#[derive(Debug)]
pub struct PkiTrust {
    store: Store,
    mount: String,
    crl: bool,
    name: Arc<str>,
    options: TrustOptions,
    refresh: Duration,
    last: Option<Last>,
}

/// What was handed out.
#[derive(Debug)]
struct Last {
    pem: Pem,
    trust: Arc<Trust>,
}

/// What the store gave.
#[derive(Debug, Eq, PartialEq)]
struct Pem {
    authorities: String,
    crl: Option<String>,
}

impl PkiTrust {
    /// The authorities of `mount`, with their revocation list if `crl`, read again every `refresh` and sooner as a revocation list
    /// nears its end. `name` is the trust entry's name.
    #[must_use]
    pub const fn new(
        store: Store,
        mount: String,
        crl: bool,
        name: Arc<str>,
        options: TrustOptions,
        refresh: Duration,
    ) -> Self {
        Self { store, mount, crl, name, options, refresh, last: None }
    }

    async fn read(&self) -> Result<Pem, SourceError> {
        let authorities = self.store.authorities(&self.mount).await?;
        let crl = if self.crl {
            let crl = self.store.revocation_list(&self.mount).await?;
            Some(crl.ok_or(Rejection::NoRevocationList)?)
        } else {
            None
        };
        Ok(Pem { authorities, crl })
    }

    fn check(&self, pem: &Pem, now: SystemTime) -> Result<Trust, Rejection> {
        let authorities = pem.authorities.as_bytes();
        if tls::certificates(authorities).is_ok_and(|all| all.is_empty()) {
            return Err(Rejection::NoAuthority);
        }
        let crls: Vec<_> = pem.crl.iter().map(|crl| crl.clone().into_bytes()).collect();
        let trust = Trust::from_pem(Arc::clone(&self.name), authorities, &crls, self.options.clone(), now)?;
        if self.last.as_ref().is_some_and(|last| trust.has_older_crl_than(&last.trust)) {
            return Err(Rejection::OlderRevocationList);
        }
        Ok(trust)
    }

    fn life(&self, trust: &Trust, now: SystemTime) -> Life {
        let crl_ends = trust.crl_next_update();
        let left = crl_ends.and_then(|ends| ends.duration_since(now).ok());
        // An authority makes the next list before the old one ends, not when we would like it: the nearer, the more often.
        let sooner = left.map(|left| left.mul_f64(CRL_FRACTION).max(SOONEST));
        let again = sooner.map_or(self.refresh, |sooner| sooner.min(self.refresh));
        let ends = crl_ends.filter(|_| self.options.when_stale == StaleCrl::Reject);
        Life { obtained: now, begins: now, ends, again_in: Some(again) }
    }
}

impl Source for PkiTrust {
    type Material = Arc<Trust>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Arc<Trust>>, SourceError> {
        let pem = self.read().await?;
        if let Some(last) = held.and(self.last.as_ref()).filter(|last| last.pem == pem) {
            return Ok(Obtained::Unchanged(self.life(&last.trust, now)));
        }
        let trust = Arc::new(self.check(&pem, now)?);
        if trust.crl_next_update().is_some_and(|ends| ends <= now) {
            tracing::warn!(name = %self.name, "the store's revocation list has ended: nobody renews it there");
        }
        let life = self.life(&trust, now);
        self.last = Some(Last { pem, trust: Arc::clone(&trust) });
        Ok(Obtained::New(trust, life))
    }
}

const CRL_FRACTION: f64 = 2.0 / 3.0;
/// However near the end of a revocation list is.
const SOONEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
