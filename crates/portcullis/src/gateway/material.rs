//! Material: slots that hold certificates, trust bundles and key sets, and the one writer of each.
//!
//! A candidate that fails its check never replaces anything; what is valid stays until something valid takes its
//! place. A slot lives as long as its name is configured, across generations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use admin::Readiness;
use identity::jwks::{DEFAULT_COOLDOWN, KeyStatus, KeyStore};
use serde_json::{Value, json};
use telemetry::{Material, Metrics};
use tls::{Credential, Credentials, SlotWriter, Trust, Trusts};
use tokio::task::{AbortHandle, JoinSet};

use super::files::{self, Digest, FileProblem, Files, Read};
use super::{jwks, seconds};
use crate::config::model::{CertificateFiles, Config, Jwks, Jwt, Name};

/// All material of the gateway, with its writers.
pub struct Materials {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    credentials: BTreeMap<Name, Slot<CertificateFiles, Credential>>,
    trusts: BTreeMap<Name, Slot<crate::config::model::Trust, Trust>>,
    keys: BTreeMap<Name, Keys>,
    fetchers: JoinSet<()>,
}

struct Slot<D, T> {
    definition: D,
    writer: SlotWriter<T>,
    /// The files as they serve.
    digest: Digest,
    /// What was said of a candidate that failed, so that it is said once.
    failure: Option<String>,
}

struct Keys {
    definition: Jwt,
    store: KeyStore,
    fetcher: AbortHandle,
}

impl Materials {
    /// No material yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, readiness: Readiness) -> Self {
        Self {
            metrics,
            readiness,
            credentials: BTreeMap::new(),
            trusts: BTreeMap::new(),
            keys: BTreeMap::new(),
            fetchers: JoinSet::new(),
        }
    }

    /// The slot of a certificate.
    #[must_use]
    pub fn credential(&self, name: &Name) -> Option<Credentials> {
        self.credentials.get(name).map(|slot| slot.writer.reader())
    }

    /// The slot of a trust bundle.
    #[must_use]
    pub fn trust(&self, name: &Name) -> Option<Trusts> {
        self.trusts.get(name).map(|slot| slot.writer.reader())
    }

    /// The keys of an issuer.
    #[must_use]
    pub fn keys(&self, name: &Name) -> Option<KeyStore> {
        self.keys.get(name).map(|keys| keys.store.clone())
    }

    /// Takes over what a configuration that passed its checks names. Needs a runtime: issuers' keys are fetched on it.
    pub fn adopt(&mut self, config: &Config, files: Files, now: SystemTime) {
        let Files { credentials, trusts, keys } = files;
        for (name, read) in credentials {
            if let Some(definition) = config.certificates.get(&name) {
                let ends = Some(read.value.not_after());
                publish(&mut self.credentials, &name, definition, read);
                self.metrics.material_loaded(Material::Certificate, name.as_str(), now, ends);
            }
        }
        for (name, read) in trusts {
            if let Some(definition) = config.trust.get(&name) {
                report_trust(&self.metrics, &name, &read.value, now);
                publish(&mut self.trusts, &name, definition, read);
            }
        }
        self.adopt_issuers(config, keys, now);
    }

    /// Lets go of what the configuration that serves now names no more.
    pub fn retain(&mut self, config: &Config) {
        self.credentials.retain(|name, _| config.certificates.contains_key(name));
        self.trusts.retain(|name, _| config.trust.contains_key(name));
        self.keys.retain(|name, keys| {
            let stays = config.jwt.contains_key(name);
            if !stays {
                keys.fetcher.abort();
            }
            stays
        });
        self.metrics.retain_material(|kind, name| match kind {
            Material::Certificate => config.certificates.keys().any(|known| known.as_str() == name),
            Material::Crl | Material::Trust => config.trust.keys().any(|known| known.as_str() == name),
            Material::Jwks => config.jwt.keys().any(|known| known.as_str() == name),
        });
    }

    fn adopt_issuers(&mut self, config: &Config, mut from_files: BTreeMap<Name, Read<identity::jwks::KeySet>>, now: SystemTime) {
        for (name, jwt) in &config.jwt {
            if self.keys.get(name).is_some_and(|keys| same_source(&keys.definition, jwt)) {
                continue;
            }
            // Keys in a file are as fresh as the file: they do not age.
            let max_stale = if matches!(jwt.jwks, Jwks::File(_)) { Duration::MAX } else { jwt.max_stale };
            let (store, writer) = KeyStore::new(name.as_str(), max_stale, DEFAULT_COOLDOWN);
            let mut digest = None;
            if let Some(read) = from_files.remove(name) {
                digest = Some(read.digest);
                writer.publish(read.value, now);
                self.metrics.material_loaded(Material::Jwks, name.as_str(), now, None);
            }
            let fetcher = jwks::Fetcher {
                jwt: jwt.clone(),
                writer,
                metrics: self.metrics.clone(),
                readiness: self.readiness.clone(),
                digest,
            };
            let fetcher = self.fetchers.spawn(fetcher.keep_fresh());
            if let Some(former) = self.keys.insert(name.clone(), Keys { definition: jwt.clone(), store, fetcher }) {
                former.fetcher.abort();
            }
        }
    }

    /// Looks at all files again, and publishes what changed and passes its check.
    pub fn refresh(&mut self, now: SystemTime) {
        for (name, slot) in &mut self.credentials {
            let read = files::credential(&slot.definition, now, Some(slot.digest));
            if let Some(value) = slot.take(read, Material::Certificate, name, &self.metrics, &self.readiness) {
                self.metrics.material_loaded(Material::Certificate, name.as_str(), now, Some(value.not_after()));
            }
        }
        for (name, slot) in &mut self.trusts {
            let read = files::trust(name, &slot.definition, now, Some(slot.digest));
            if let Some(value) = slot.take(read, Material::Trust, name, &self.metrics, &self.readiness) {
                report_trust(&self.metrics, name, &value, now);
            }
        }
    }

    /// Names, ends and failures, for `status`.
    #[must_use]
    pub fn status(&self, now: SystemTime) -> Value {
        let left = |end: SystemTime| end.duration_since(now).map_or(0, |left| left.as_secs());
        let certificates = self.credentials.iter().map(|(name, slot)| {
            let loaded = slot.writer.reader().load();
            (name.to_string(), json!({
                "seconds_left": loaded.as_ref().map(|c| left(c.not_after())),
                "not_after": loaded.as_ref().map(|c| seconds(c.not_after())),
                "serial": loaded.as_ref().map(|c| c.serial().to_owned()),
                "error": slot.failure,
            }))
        });
        let trust = self.trusts.iter().map(|(name, slot)| {
            let loaded = slot.writer.reader().load();
            (name.to_string(), json!({
                "seconds_left": loaded.as_ref().and_then(|t| t.not_after()).map(left),
                "crl_seconds_left": loaded.as_ref().and_then(|t| t.crl_next_update()).map(left),
                "error": slot.failure,
            }))
        });
        let keys = self.keys.iter().map(|(name, keys)| {
            let KeyStatus { generation, keys, age, last_error, .. } = keys.store.status(now);
            (name.to_string(), json!({
                "keys": keys,
                "generation": generation,
                "age_seconds": age.map(|age| age.as_secs()),
                "error": last_error.map(|(error, _)| error),
            }))
        });
        json!({
            "certificates": certificates.collect::<serde_json::Map<_, _>>(),
            "trust": trust.collect::<serde_json::Map<_, _>>(),
            "jwks": keys.collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl<D, T> Slot<D, T> {
    /// Publishes what was read; a failure is said once and changes nothing.
    fn take(
        &mut self,
        read: Result<Option<Read<T>>, FileProblem>,
        kind: Material,
        name: &Name,
        metrics: &Metrics,
        readiness: &Readiness,
    ) -> Option<Arc<T>> {
        let label = format!("{kind:?} {name}").to_lowercase();
        match read {
            Ok(read) => {
                if self.failure.take().is_some() {
                    readiness.recovered(&label);
                }
                let Read { value, digest } = read?;
                let value = Arc::new(value);
                self.writer.publish(value.clone());
                self.digest = digest;
                tracing::info!(material = label, "renewed");
                Some(value)
            }
            Err(problem) => {
                let message = problem.to_string();
                if self.failure.as_ref() != Some(&message) {
                    metrics.material_failed(kind, name.as_str());
                    readiness.degraded(&label, &message);
                    tracing::warn!(material = label, problem = message, "not renewed: what serves goes on");
                    self.failure = Some(message);
                }
                None
            }
        }
    }
}

fn publish<D: Clone, T>(slots: &mut BTreeMap<Name, Slot<D, T>>, name: &Name, definition: &D, read: Read<T>) {
    let Read { value, digest } = read;
    let slot = slots.entry(name.clone()).or_insert_with(|| Slot {
        definition: definition.clone(),
        writer: SlotWriter::empty(),
        // Of nothing: the first value is always published.
        digest: [0; 32],
        failure: None,
    });
    slot.definition = definition.clone();
    slot.failure = None;
    if slot.digest != digest {
        slot.digest = digest;
        slot.writer.publish(Arc::new(value));
    }
}

fn report_trust(metrics: &Metrics, name: &Name, trust: &Trust, now: SystemTime) {
    metrics.material_loaded(Material::Trust, name.as_str(), now, trust.not_after());
    if let Some(next) = trust.crl_next_update() {
        metrics.material_loaded(Material::Crl, name.as_str(), now, Some(next));
    }
}

/// True when keys fetched for one serve for the other.
fn same_source(one: &Jwt, two: &Jwt) -> bool {
    one.jwks == two.jwks
        && one.issuer == two.issuer
        && one.trust == two.trust
        && one.refresh == two.refresh
        && one.max_stale == two.max_stale
}
