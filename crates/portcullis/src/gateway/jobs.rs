//! Jobs of a running gateway: each keeps the material of one entry fresh from a store.
//!
//! A job tries once before its generation counts ([`NewJob`]); with the generation it begins to run ([`LivingJob`]) and
//! publishes into the entry's slot until it is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use admin::{Pending, Readiness};
use identity::mint::PublicKey;
use rotation::{Keeper, Life, Progress, Sink, Source, SourceError};
use secrets::vault::Status;
use secrets::{SecretString, Store};
use telemetry::{Material as Kind, Metrics, SecretStore};
use tls::{Credential, Trust};
use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;

use super::credentials;
use super::generation::Living;
use super::material::{note_certificate, note_trust, subject};
use super::slots::Held;
use super::stores::Tasks;
use super::tokens;
use super::wall_clock;
use crate::config::material::NamedTrust;
use crate::config::model::{CertificateSource, Name};

/// What a job keeps fresh.
pub(super) type JobKey = (Kind, Name);

/// Keeps the material of one entry fresh until it is dropped.
#[derive(Debug)]
pub(super) struct LivingJob {
    /// The slot that it publishes into.
    pub(super) slot: u64,
    /// The stores that it asks.
    pub(super) stores: Vec<u64>,
    progress: watch::Receiver<Progress>,
    _running: DropGuard,
}

impl LivingJob {
    /// Where it stands.
    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Whether there is material.
    pub(super) fn is_held(&self) -> bool {
        self.progress.borrow().held.is_some()
    }

    /// Whether what is held has ended.
    fn has_ended(&self, now: SystemTime) -> bool {
        self.ends().is_some_and(|ends| ends <= now)
    }

    /// When what is held ends, whatever the gateway does.
    pub(super) fn ends(&self) -> Option<SystemTime> {
        self.progress.borrow().held.and_then(|life| life.ends)
    }
}

/// A job that has tried once and does not run yet.
pub(super) struct NewJob {
    /// The stores that it asks.
    pub(super) stores: Vec<u64>,
    pub(super) begun: Begun,
}

/// By what a job obtains.
pub(super) enum Begun {
    Certificate(Box<dyn Job<Arc<Credential>>>),
    Trust(Box<dyn Job<Arc<Trust>>>),
    Values(Box<dyn Job<Vec<SecretString>>>),
    /// The public halves of a key that stays in its store, by version.
    SigningKeys(Box<dyn Job<Vec<(u64, PublicKey)>>>),
}

impl Begun {
    /// Gives back what was obtained: the generation is refused.
    pub(super) fn abandon(self, tasks: &Tasks) {
        match self {
            Self::Certificate(job) => job.abandon(tasks),
            Self::Trust(job) => job.abandon(tasks),
            Self::Values(job) => job.abandon(tasks),
            Self::SigningKeys(job) => job.abandon(tasks),
        }
    }
}

/// A job of any source.
pub(super) trait Job<M>: Send {
    /// Publishes what was obtained, if anything was, and goes on.
    fn start(self: Box<Self>, sink: MaterialSink<M>, slot: u64, stores: Vec<u64>, tasks: &Tasks)
    -> LivingJob;

    /// Gives back what was obtained.
    fn abandon(self: Box<Self>, tasks: &Tasks);
}

/// A source that has tried once.
pub(super) struct Tried<S: Source> {
    pub(super) keeper: Keeper<S>,
    pub(super) first: Option<S::Material>,
}

impl<S: Source + 'static> Job<S::Material> for Tried<S> {
    fn start(
        self: Box<Self>,
        mut sink: MaterialSink<S::Material>,
        slot: u64,
        stores: Vec<u64>,
        tasks: &Tasks,
    ) -> LivingJob {
        let progress = self.keeper.progress();
        let held = progress.borrow().held;
        match (self.first, held) {
            (Some(material), Some(life)) => sink.publish(material, &life),
            _ => sink.wait(),
        }
        let stop = tasks.jobs.stop.child_token();
        tasks.jobs.tracker.spawn(self.keeper.run(sink, stop.clone()));
        LivingJob { slot, stores, progress, _running: stop.drop_guard() }
    }

    fn abandon(self: Box<Self>, tasks: &Tasks) {
        tasks.jobs.tracker.spawn(self.keeper.abandon());
    }
}

/// Where jobs tell how they fare.
#[derive(Clone, Debug)]
pub(super) struct Tell {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
    /// Told when material was published: a listener may open.
    pub(super) published: Arc<Notify>,
}

/// Publishes the material of one entry, and tells how its job fares.
pub(super) struct MaterialSink<M> {
    pub(super) key: JobKey,
    pub(super) tell: Tell,
    /// Takes material, or says why not: then what was there stays.
    pub(super) take: Box<dyn FnMut(M) -> Result<(), String> + Send + Sync>,
    /// Whether somebody still uses the material before the last one.
    pub(super) is_former_in_use: Box<dyn Fn() -> bool + Send + Sync>,
    /// Held until there is material: the gateway is not ready before.
    pub(super) pending: Option<Pending>,
    /// Why the last try failed, once it is told.
    pub(super) told: Option<String>,
}

impl<M> MaterialSink<M> {
    /// A sink for material that nobody has to give back.
    pub(super) fn new(
        key: JobKey,
        tell: Tell,
        take: impl FnMut(M) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            key,
            tell,
            take: Box::new(take),
            is_former_in_use: Box::new(|| false),
            pending: None,
            told: None,
        }
    }

    /// There is no material yet.
    fn wait(&mut self) {
        let (kind, name) = &self.key;
        self.pending = Some(self.tell.readiness.task(subject(*kind, name)));
    }

    fn lives(&mut self, life: &Life) {
        self.told = None;
        let (kind, name) = &self.key;
        // What a certificate or bundle says of itself is noted where it is published.
        if matches!(kind, Kind::Credential | Kind::SigningKey) {
            self.tell.metrics.material_loaded(*kind, name.as_str(), wall_clock(), life.ends);
        }
        self.tell.readiness.recovered(&subject(*kind, name));
    }
}

impl<M> Sink<M> for MaterialSink<M> {
    fn publish(&mut self, material: M, life: &Life) {
        let (kind, name) = &self.key;
        if let Err(reason) = (self.take)(material) {
            self.tell.metrics.material_failed(*kind, name.as_str());
            tracing::warn!(kind = kind.as_str(), %name, reason, "new material is refused, the former stays");
            self.tell.readiness.degraded(subject(*kind, name), reason);
            return;
        }
        tracing::info!(kind = kind.as_str(), %name, "new material is in use");
        self.lives(life);
        self.pending = None;
        self.tell.published.notify_one();
    }

    fn confirmed(&mut self, life: &Life) {
        self.lives(life);
    }

    fn failed(&mut self, error: &SourceError, next: SystemTime) {
        let (kind, name) = &self.key;
        self.tell.metrics.material_failed(*kind, name.as_str());
        self.tell.readiness.degraded(subject(*kind, name), error.to_string());
        let wait = next.duration_since(wall_clock()).unwrap_or_default().as_secs();
        let (kind, reason) = (kind.as_str(), error.to_string());
        // An outage is many tries: each reason is told once, and again with the rarer tries of what somebody must mend.
        if self.told.as_ref() == Some(&reason) && wait < 60 {
            tracing::debug!(kind, %name, reason, retry_seconds = wait, "material is not renewed");
        } else {
            tracing::warn!(kind, %name, reason, retry_seconds = wait, "material is not renewed");
            self.told = Some(reason);
        }
    }

    fn is_former_in_use(&self) -> bool {
        (self.is_former_in_use)()
    }
}

impl Living {
    /// What metrics tell of the clusters.
    pub(super) fn store_counts(&self, now: SystemTime) -> Vec<SecretStore> {
        let clusters = self.stores.iter().filter_map(|(name, living)| match &living.store {
            Store::Vault(vault) => Some((name, vault.status(now))),
            Store::Embedded(_) => None,
        });
        let count = |(name, status): (&Name, Status)| SecretStore {
            name: name.to_string(),
            is_up: status.is_reachable,
            token_ends: status.token_ends,
            logins: status.logins,
            renewals: status.renewals,
            requests: status.requests,
        };
        clusters.map(count).collect()
    }

    /// Says what of the material has ended, once, and that the gateway is not ready without it. A credential is shown no longer: the
    /// upstream would refuse it, and we know why. A certificate stays: whoever verifies it sees better than from a closed
    /// port what is wrong.
    pub(super) fn note_ended(
        &self,
        noted: &mut BTreeMap<JobKey, Pending>,
        readiness: &Readiness,
        now: SystemTime,
    ) {
        noted.retain(|key, _| self.jobs.get(key).is_some_and(|job| job.has_ended(now)));
        for (key, _) in self.jobs.iter().filter(|(_, job)| job.has_ended(now)) {
            let (kind, name) = key;
            noted.entry(key.clone()).or_insert_with(|| {
                tracing::error!(kind = kind.as_str(), %name, "material has ended before it could be renewed");
                readiness.task(format!("{} (it has ended)", subject(*kind, name)))
            });
            if let Some(held) = self.credentials.get(name).filter(|_| *kind == Kind::Credential) {
                held.withdraw();
            }
        }
    }

    /// Has all jobs try now that wait for something.
    pub(super) fn wake(&self) {
        self.stores.values().for_each(|living| living.wake());
    }

    /// Starts the jobs that are new in this generation, and takes over those that go on.
    pub(super) fn run_jobs(
        &mut self,
        former: &Self,
        new: BTreeMap<JobKey, NewJob>,
        tell: &Tell,
        tasks: &Tasks,
    ) {
        for (key, job) in &former.jobs {
            if !new.contains_key(key) && self.slot(key) == Some(job.slot) {
                self.jobs.insert(key.clone(), Arc::clone(job));
            }
        }
        for (key, NewJob { stores, begun }) in new {
            let Some(slot) = self.slot(&key) else { continue };
            let (tell, name) = (tell.clone(), &key.1);
            let job = match begun {
                Begun::Certificate(job) => {
                    let Some(held) = self.certificates.get(name).cloned() else { continue };
                    let sink = certificate_sink(key.clone(), held, tell);
                    job.start(sink, slot, stores, tasks)
                }
                Begun::Trust(job) => {
                    let Some(held) = self.trust.get(name).cloned() else { continue };
                    job.start(trust_sink(key.clone(), held, tell), slot, stores, tasks)
                }
                Begun::Values(job) => {
                    let Some(sink) = self.values_sink(&key, tell) else { continue };
                    job.start(sink, slot, stores, tasks)
                }
                Begun::SigningKeys(job) => {
                    let Some(token) = self.tokens.get(name) else { continue };
                    job.start(tokens::versions_sink(key.clone(), &token.keys, tell), slot, stores, tasks)
                }
            };
            self.jobs.insert(key, Arc::new(job));
        }
    }

    /// The slot of an entry, by number.
    fn slot(&self, (kind, name): &JobKey) -> Option<u64> {
        match kind {
            Kind::Certificate => self.certificates.get(name).map(|held| held.id),
            Kind::Trust => self.trust.get(name).map(|held| held.id),
            Kind::Credential => self.credentials.get(name).map(|held| held.id),
            Kind::SigningKey => self.tokens.get(name).map(|token| token.keys.id),
            Kind::Crl | Kind::DenyList | Kind::Jwks => None,
        }
    }

    fn values_sink(&self, key: &JobKey, tell: Tell) -> Option<MaterialSink<Vec<SecretString>>> {
        let (kind, name) = key;
        Some(match kind {
            Kind::Credential => credentials::sink(key.clone(), self.credentials.get(name)?, tell),
            Kind::SigningKey => tokens::key_sink(key.clone(), &self.tokens.get(name)?.keys, tell),
            Kind::Certificate | Kind::Trust | Kind::Crl | Kind::DenyList | Kind::Jwks => return None,
        })
    }
}

fn certificate_sink(
    key: JobKey,
    held: Arc<Held<CertificateSource, Credential>>,
    tell: Tell,
) -> MaterialSink<Arc<Credential>> {
    let (metrics, name) = (Arc::clone(&tell.metrics), key.1.clone());
    let take = move |credential: Arc<Credential>| {
        note_certificate(&metrics, &name, &credential, wall_clock());
        held.keep(credential);
        Ok(())
    };
    MaterialSink::new(key, tell, take)
}

fn trust_sink(
    key: JobKey,
    held: Arc<Held<NamedTrust, tls::Trust>>,
    tell: Tell,
) -> MaterialSink<Arc<tls::Trust>> {
    let (metrics, name) = (Arc::clone(&tell.metrics), key.1.clone());
    let take = move |trust: Arc<tls::Trust>| {
        note_trust(&metrics, &name, &trust, wall_clock());
        held.keep(trust);
        Ok(())
    };
    MaterialSink::new(key, tell, take)
}
