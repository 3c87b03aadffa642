//! Files that renew material while the gateway runs.
//!
//! Every look reads the files themselves, so that no missed event, coarse timestamp or symlink swap can hide a change.
//! **Taken:** bytes that are the same in two looks and make a whole. **Not taken:** everything else; what was loaded before
//! stays, the failure is counted, logged once for each content and shown as degraded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use admin::Readiness;
use telemetry::{Material as Kind, Metrics};
use tls::{Credential, Trust};

use super::deny;
use super::generation::Living;
use super::stores::LivingStore;
use crate::config::material::{Bytes, FromFiles, KeyFile, MaterialError};
use crate::config::model::{CertificateSource, Jwks, Name, TrustSource};

/// Looks at files, and remembers what it saw.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: BTreeMap<(Kind, String), Seen>,
}

/// The content that a look found and that is not taken.
#[derive(Debug, Eq, PartialEq)]
enum Seen {
    /// It changed; it is taken when the next look finds the same.
    Once([u8; 32]),
    /// It was refused.
    Refused([u8; 32]),
    /// It could not be read, for this reason.
    Unreadable(String),
}

/// Where a look tells what it found.
pub(super) struct Tell<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) readiness: &'a Readiness,
    pub(super) now: SystemTime,
}

impl Watch {
    /// Looks at all files once and publishes what is new and whole; true if something should be looked at again soon.
    pub(super) fn look(&mut self, living: &Living, tell: &Tell<'_>) -> bool {
        let mut unsettled = false;
        for (name, held) in &living.certificates {
            let CertificateSource::Files(files) = &held.definition else { continue };
            let look = self.judge(Kind::Certificate, name.as_str(), files, |digest| held.holds(digest), tell);
            if let Look::Taken(value, digest) = look {
                held.publish(Arc::clone(&value), digest);
                note_certificate(tell.metrics, name, &value, tell.now);
            } else {
                unsettled |= matches!(look, Look::Unsettled);
            }
        }
        for (name, held) in &living.trust {
            let TrustSource::Files { .. } = held.definition.entry.source else { continue };
            let look =
                self.judge(Kind::Trust, name.as_str(), &held.definition, |digest| held.holds(digest), tell);
            if let Look::Taken(value, digest) = look {
                held.publish(Arc::clone(&value), digest);
                note_trust(tell.metrics, name, &value, tell.now);
            } else {
                unsettled |= matches!(look, Look::Unsettled);
            }
        }
        for (name, store) in &living.stores {
            unsettled |= self.look_at_store(name, store, tell);
        }
        for (name, issuer) in &living.issuers {
            let Jwks::File(reference) = &issuer.keys.source.jwks else { continue };
            let file = KeyFile(reference.clone());
            let look = self.judge(Kind::Jwks, name.as_str(), &file, |digest| issuer.keys.holds(digest), tell);
            if let Look::Taken(keys, digest) = look {
                issuer.keys.publish_file(keys, digest, tell.now);
                tell.metrics.material_loaded(Kind::Jwks, name.as_str(), tell.now, None);
            } else {
                unsettled |= matches!(look, Look::Unsettled);
            }
        }
        if let Some(held) = &living.denied {
            let name = deny::NAME;
            let look = self.judge(Kind::DenyList, name, &held.definition, |digest| held.holds(digest), tell);
            if let Look::Taken(entries, digest) = look {
                held.publish(entries, digest);
                tell.metrics.material_loaded(Kind::DenyList, name, tell.now, None);
            } else {
                unsettled |= matches!(look, Look::Unsettled);
            }
        }
        unsettled
    }

    /// Looks at what a store's servers and login are proven with.
    fn look_at_store(&mut self, name: &Name, store: &LivingStore, tell: &Tell<'_>) -> bool {
        let name = format!("{OF_STORE}{name}");
        let mut unsettled = false;
        if let Some(held) = &store.trust {
            match self.judge(Kind::Trust, &name, &held.definition, |digest| held.holds(digest), tell) {
                Look::Taken(value, digest) => held.publish(value, digest),
                look => unsettled |= matches!(look, Look::Unsettled),
            }
        }
        if let Some(held) = &store.certificate {
            match self.judge(Kind::Certificate, &name, &held.definition, |digest| held.holds(digest), tell) {
                Look::Taken(value, digest) => held.publish(value, digest),
                look => unsettled |= matches!(look, Look::Unsettled),
            }
        }
        unsettled
    }

    /// Forgets what left the configuration.
    pub(super) fn retain(&mut self, living: &Living, readiness: &Readiness) {
        self.seen.retain(|(kind, name), _| {
            let stays = is_configured(*kind, name, living);
            if !stays {
                readiness.recovered(&subject(*kind, name));
            }
            stays
        });
    }

    fn judge<F: FromFiles>(
        &mut self,
        kind: Kind,
        name: &str,
        of: &F,
        holds: impl FnOnce(&[u8; 32]) -> bool,
        tell: &Tell<'_>,
    ) -> Look<F::Value> {
        let key = (kind, name.to_owned());
        let bytes = match Bytes::read(of) {
            Ok(bytes) => bytes,
            Err(errors) => {
                if let Some(error) = errors.first() {
                    self.failed(key, Seen::Unreadable(error.reason.clone()), error, tell);
                }
                return Look::Unchanged;
            }
        };
        if holds(&bytes.digest) {
            if self.seen.remove(&key).is_some() {
                tell.readiness.recovered(&subject(kind, name));
            }
            return Look::Unchanged;
        }
        match self.seen.get(&key) {
            Some(Seen::Refused(digest)) if *digest == bytes.digest => return Look::Unchanged,
            Some(Seen::Once(digest)) if *digest == bytes.digest => {}
            _ => {
                self.seen.insert(key, Seen::Once(bytes.digest));
                return Look::Unsettled;
            }
        }
        match bytes.parse(of, tell.now) {
            Ok(loaded) => {
                self.seen.remove(&key);
                tell.readiness.recovered(&subject(kind, name));
                tracing::info!(kind = kind.as_str(), name, "new material is in use");
                Look::Taken(loaded.value, loaded.digest)
            }
            Err(error) => {
                self.failed(key, Seen::Refused(bytes.digest), &error, tell);
                Look::Unchanged
            }
        }
    }

    fn failed(&mut self, key: (Kind, String), seen: Seen, error: &MaterialError, tell: &Tell<'_>) {
        if self.seen.get(&key) == Some(&seen) {
            return;
        }
        let (kind, name) = &key;
        tell.metrics.material_failed(*kind, name.as_str());
        tell.readiness.degraded(subject(*kind, name), error.reason.clone());
        tracing::warn!(kind = kind.as_str(), %name, reason = %error, "new material is refused, the former stays");
        self.seen.insert(key, seen);
    }
}

/// What came of looking at the files of one entry.
enum Look<T> {
    Unchanged,
    Unsettled,
    Taken(T, [u8; 32]),
}

/// Notes the end of a certificate.
pub(super) fn note_certificate(metrics: &Metrics, name: &Name, credential: &Credential, now: SystemTime) {
    metrics.material_loaded(Kind::Certificate, name.as_str(), now, Some(credential.not_after()));
}

/// Notes the ends of a trust bundle and of its revocation lists.
pub(super) fn note_trust(metrics: &Metrics, name: &Name, trust: &Trust, now: SystemTime) {
    metrics.material_loaded(Kind::Trust, name.as_str(), now, trust.not_after());
    if let Some(next_update) = trust.crl_next_update() {
        metrics.material_loaded(Kind::Crl, name.as_str(), now, Some(next_update));
    }
}

/// Whether an entry of this kind and name is part of what lives.
pub(super) fn is_configured(kind: Kind, name: &str, living: &Living) -> bool {
    if let Some(store) = name.strip_prefix(OF_STORE) {
        return living.stores.contains_key(store);
    }
    match kind {
        Kind::Certificate => living.certificates.contains_key(name),
        Kind::Trust => living.trust.contains_key(name),
        Kind::Crl => living.trust.get(name).is_some_and(|held| match &held.definition.entry.source {
            TrustSource::Files { crl, .. } => !crl.is_empty(),
            TrustSource::Pki { crl, .. } => *crl,
        }),
        Kind::Jwks => living.issuers.contains_key(name),
        Kind::DenyList => living.denied.is_some(),
        Kind::Credential | Kind::SigningKey => {
            living.jobs.keys().any(|(of, job)| *of == kind && job.as_str() == name)
        }
    }
}

/// What readiness calls an entry, in words for people: not those of metrics.
pub(super) fn subject(kind: Kind, name: impl std::fmt::Display) -> String {
    let noun = match kind {
        Kind::Certificate => "certificate",
        Kind::Trust => "trust",
        Kind::Crl => "revocation list",
        Kind::Jwks => "keys",
        Kind::DenyList => "deny list",
        Kind::Credential => "credentials",
        Kind::SigningKey => "signing key",
    };
    format!("{noun} `{name}`")
}

/// Before the name of a store: what it is proven with has no name of its own, and names have no spaces.
const OF_STORE: &str = "of store ";

#[cfg(test)]
mod tests;
