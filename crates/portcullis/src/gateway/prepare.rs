//! Between reading a configuration and publishing it: stores are asked for what it needs and nobody holds yet.
//!
//! **Passes:** a configuration whose new entries were all obtained once; at the start also one whose stores are away, since
//! its jobs try on. **Refused:** an entry of which a store says that it does not exist or may not be read, and, at a reload,
//! one that cannot be obtained now: what serves goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rotation::{Keeper, Source, SourceError};
use secrets::{Reference, SecretString, Stores};
use telemetry::Material as Kind;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::acme;
use super::credentials;
use super::generation::Living;
use super::jobs::{Begun, Job, JobKey, NewJob, Tried};
use super::material::subject;
use super::names::{self, HeldName, Question};
use super::stores::{self, LivingStore, Tasks};
use super::tokens;
use super::wall_clock;
use crate::config::material::trust_options;
use crate::config::model::{
    AcmeCertificate, CertificateSource, Config, KeyKind, Name, PkiCertificate, SecretReference, SecretStore,
    TokenSigner, TrustSource,
};
use crate::config::{Checked, Problems, Span, references};

/// What is wrong, and the entry that is to blame.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) span: Span,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(span: Span, reason: impl std::fmt::Display) -> Self {
        Self { span, reason: reason.to_string() }
    }
}

/// A configuration with the stores it names and the jobs that are new in it.
pub(super) struct Prepared {
    pub(super) checked: Checked,
    pub(super) stores: BTreeMap<Name, Arc<LivingStore>>,
    pub(super) jobs: BTreeMap<JobKey, NewJob>,
    /// The names of endpoints, the new ones looked up once.
    pub(super) names: BTreeMap<Question, Arc<HeldName>>,
}

/// When a configuration is prepared: what an absent store means depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Occasion {
    /// Nothing serves yet: jobs whose store is away go on without material.
    Start,
    /// Something serves: what cannot be obtained now is refused.
    Reload,
}

/// Asks the stores.
///
/// # Errors
/// Every entry that stops the configuration; what was obtained for it is given back.
pub(super) async fn prepare(
    checked: Checked,
    former: &Living,
    tasks: &Tasks,
    occasion: Occasion,
) -> Result<Prepared, Problems> {
    let stores = match stores::next(&checked.config.stores, &former.stores, tasks) {
        Ok(stores) => stores,
        Err(faults) => return Err(problems(&checked, faults)),
    };
    let around = Around { stores: &stores, handles: Arc::new(stores::handles(&stores)), former };
    let mut tries = JoinSet::new();
    around.certificates(&checked.config, &mut tries);
    around.trust(&checked.config, &mut tries);
    around.credentials(&checked.config, &mut tries);
    around.signing_keys(&checked.config, &mut tries);
    let mut jobs = BTreeMap::new();
    let mut faults = Vec::new();
    for outcome in tries.join_all().await {
        let Outcome { key, span, job, lack } = outcome;
        if let Some(lack) = lack {
            let subject = subject(key.0, &key.1) + &referred(&checked.config, &key);
            match lack {
                Lack::Outage(reason) if occasion == Occasion::Start && job.is_some() => {
                    tracing::warn!(entry = subject, reason, "not there yet, tried on");
                }
                Lack::Outage(reason) | Lack::Configuration(reason) => {
                    faults.push(Fault::new(span, format!("nothing for {subject}: {reason}")));
                }
            }
        }
        if let Some(job) = job {
            jobs.insert(key, job);
        }
    }
    if faults.is_empty() {
        let names = names::prepare(&checked.config, &former.names).await;
        return Ok(Prepared { checked, stores, jobs, names });
    }
    jobs.into_values().for_each(|job| job.begun.abandon(tasks));
    Err(problems(&checked, faults))
}

/// What an entry refers to, to be told with it.
fn referred(config: &Config, (kind, name): &JobKey) -> String {
    let place = match kind {
        Kind::Certificate => format!("certificates.{name}."),
        Kind::Credential => format!("upstreams.{name}.credentials."),
        Kind::SigningKey => format!("identity.tokens.{name}."),
        Kind::Trust | Kind::Crl | Kind::DenyList | Kind::Jwks => return String::new(),
    };
    let all = references(config).into_iter().filter(|(at, _)| at.starts_with(&place));
    let all: Vec<String> = all.map(|(_, secret)| format!("`{}`", secret.reference)).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

fn problems(checked: &Checked, faults: Vec<Fault>) -> Problems {
    checked.problems(faults.into_iter().map(|fault| (fault.span, fault.reason)).collect())
}

/// How the first try of a job went.
struct Outcome {
    key: JobKey,
    span: Span,
    job: Option<NewJob>,
    /// Why there is nothing yet.
    lack: Option<Lack>,
}

/// Why there is nothing for an entry yet.
pub(super) enum Lack {
    /// Somebody must act.
    Configuration(String),
    /// Waiting helps.
    Outage(String),
}

impl From<SourceError> for Lack {
    fn from(error: SourceError) -> Self {
        let reason = error.to_string();
        if error.is_configuration() { Self::Configuration(reason) } else { Self::Outage(reason) }
    }
}

/// What jobs are made with.
struct Around<'a> {
    stores: &'a BTreeMap<Name, Arc<LivingStore>>,
    handles: Arc<Stores>,
    former: &'a Living,
}

impl Around<'_> {
    fn certificates(&self, config: &Config, tries: &mut JoinSet<Outcome>) {
        for (name, source) in &config.certificates {
            let key = (Kind::Certificate, name.clone());
            let goes_on = |stores: &[u64]| {
                self.former.certificates.get(name).is_some_and(|held| held.definition == *source)
                    && self.runs(&key, stores)
            };
            match source {
                CertificateSource::Files(_) => {}
                CertificateSource::Held { certificate, key: secret } => {
                    let (stores, wake) = self.of([certificate, secret]);
                    if !goes_on(&stores) {
                        let source = rotation::HeldCertificate::new(
                            Arc::clone(&self.handles),
                            certificate.reference.clone(),
                            secret.reference.clone(),
                            refresh(&certificate.reference),
                        );
                        let span = certificate.span;
                        tries.spawn(attempt(key.clone(), span, stores, wake, source, Begun::Certificate));
                    }
                }
                CertificateSource::Pki(pki) => {
                    let Some(living) = self.stores.get(&pki.store) else { continue };
                    let (stores, wake, span) = (vec![living.id], living.woken(), pki.at.0);
                    if !goes_on(&stores) {
                        let source = signed_by(living, pki);
                        tries.spawn(attempt(key.clone(), span, stores, wake, source, Begun::Certificate));
                    }
                }
                CertificateSource::Acme(acme) => {
                    if !goes_on(&[]) {
                        self.acme(key.clone(), acme, tries);
                    }
                }
            }
        }
    }

    /// Its state is read here; an order comes when the listeners are open.
    fn acme(&self, key: JobKey, acme: &AcmeCertificate, tries: &mut JoinSet<Outcome>) {
        let source = acme::source(key.1.clone(), acme.clone(), Arc::clone(&self.handles));
        let span = acme.state.span;
        tries.spawn(async move {
            match source.await {
                Ok(source) => {
                    let wake = watch::channel(0).1;
                    attempt(key, span, Vec::new(), wake, source, Begun::Certificate).await
                }
                Err(lack) => Outcome { key, span, job: None, lack: Some(lack) },
            }
        });
    }

    fn trust(&self, config: &Config, tries: &mut JoinSet<Outcome>) {
        for (name, entry) in &config.trust {
            let TrustSource::Pki { store, mount, crl, at } = &entry.source else { continue };
            let Some(living) = self.stores.get(store) else { continue };
            let key = (Kind::Trust, name.clone());
            let stores = vec![living.id];
            let is_same = self.former.trust.get(name).is_some_and(|held| held.definition.entry == *entry);
            if is_same && self.runs(&key, &stores) {
                continue;
            }
            let source = rotation::PkiTrust::new(
                living.store.clone(),
                mount.clone(),
                *crl,
                name.into(),
                trust_options(entry),
                REFRESH_TRUST,
            );
            tries.spawn(attempt(key, at.0, stores, living.woken(), source, Begun::Trust));
        }
    }

    fn credentials(&self, config: &Config, tries: &mut JoinSet<Outcome>) {
        for (name, upstream) in &config.upstreams {
            let Some(definition) = upstream.credentials.clone() else { continue };
            let key = (Kind::Credential, name.clone());
            let is_same = self.former.credentials.get(name).is_some_and(|held| held.definition == definition);
            let references: Vec<_> = credentials::references(&definition).into_iter().cloned().collect();
            self.values(key, is_same, &references, tries, move |values| {
                credentials::credential(&definition, values).map(drop)
            });
        }
    }

    fn signing_keys(&self, config: &Config, tries: &mut JoinSet<Outcome>) {
        for (name, definition) in &config.tokens {
            let key = (Kind::SigningKey, name.clone());
            let is_same =
                self.former.tokens.get(name).is_some_and(|token| token.signer() == &definition.signer);
            match &definition.signer {
                TokenSigner::Local => {}
                TokenSigner::Key(reference) => {
                    let references = std::slice::from_ref(reference);
                    self.values(key, is_same, references, tries, tokens::check_key);
                }
                TokenSigner::Transit { store, mount, key: transit, at } => {
                    let Some(living) = self.stores.get(store) else { continue };
                    let stores = vec![living.id];
                    if is_same && self.runs(&key, &stores) {
                        continue;
                    }
                    let (mount, transit) = (mount.clone(), transit.clone());
                    let source =
                        tokens::TransitKeys::new(living.store.clone(), store.to_string(), mount, transit);
                    let wake = living.woken();
                    tries.spawn(attempt(key, at.0, stores, wake, source, Begun::SigningKeys));
                }
            }
        }
    }

    /// A job for values of references, unless it runs; values that `check` refuses never serve.
    fn values(
        &self,
        key: JobKey,
        is_same: bool,
        references: &[SecretReference],
        tries: &mut JoinSet<Outcome>,
        check: impl Fn(&[SecretString]) -> Result<(), String> + Send + Sync + 'static,
    ) {
        let (stores, wake) = self.of(references);
        let Some(first) = references.first() else { return };
        if is_same && self.runs(&key, &stores) {
            return;
        }
        let spec = rotation::ValuesSpec {
            references: references.iter().map(|one| one.reference.clone()).collect(),
            refresh: refresh(&first.reference),
            mints_per_hour: MINTS_PER_HOUR,
        };
        let source = rotation::Values::new(Arc::clone(&self.handles), spec).checked(check);
        tries.spawn(attempt(key, first.span, stores, wake, source, Begun::Values));
    }

    /// The stores that references point into, and what wakes a job that reads them.
    fn of<'r>(
        &self,
        references: impl IntoIterator<Item = &'r SecretReference>,
    ) -> (Vec<u64>, watch::Receiver<u64>) {
        let living: Vec<_> = references
            .into_iter()
            .filter_map(|reference| match &reference.reference {
                Reference::Vault { store, .. } => self.stores.get(store.as_str()),
                Reference::Embedded { .. } => {
                    self.stores.values().find(|living| matches!(living.definition, SecretStore::Embedded(_)))
                }
                Reference::File { .. } | Reference::Env { .. } => None,
            })
            .collect();
        // Nothing wakes a job without a store: it looks again by itself.
        let wake = living.first().map_or_else(|| watch::channel(0).1, |living| living.woken());
        (living.iter().map(|living| living.id).collect(), wake)
    }

    fn runs(&self, key: &JobKey, stores: &[u64]) -> bool {
        self.former.jobs.get(key).is_some_and(|job| job.stores == stores)
    }
}

/// Tries once, bounded in time.
async fn attempt<S: Source + 'static>(
    key: JobKey,
    span: Span,
    stores: Vec<u64>,
    wake: watch::Receiver<u64>,
    source: S,
    begun: fn(Box<dyn Job<S::Material>>) -> Begun,
) -> Outcome {
    let mut keeper = Keeper::new(source, Arc::new(wall_clock), wake);
    let (first, lack) = match timeout(PATIENCE, keeper.prepare()).await {
        Ok(Ok(material)) => (Some(material), None),
        // An order needs listeners that are open: what is not kept from an earlier one comes after them.
        Ok(Err(SourceError::Acme { .. })) if key.0 == Kind::Certificate => (None, None),
        Ok(Err(error)) => (None, Some(Lack::from(error))),
        Err(_) => (None, Some(Lack::Outage(format!("no answer within {} s", PATIENCE.as_secs())))),
    };
    let job = NewJob { stores, begun: begun(Box::new(Tried { keeper, first })) };
    Outcome { key, span, job: Some(job), lack }
}

fn signed_by(living: &LivingStore, pki: &PkiCertificate) -> rotation::PkiCertificate {
    rotation::PkiCertificate {
        store: living.store.clone(),
        mount: pki.mount.clone(),
        role: pki.role.clone(),
        common_name: pki.common_name.clone(),
        dns_names: pki.dns_names.clone(),
        addresses: pki.addresses.clone(),
        uris: pki.uris.clone(),
        ttl: pki.ttl,
        key: match pki.key {
            KeyKind::P256 => rotation::KeyKind::P256,
            KeyKind::P384 => rotation::KeyKind::P384,
            KeyKind::Ed25519 => rotation::KeyKind::Ed25519,
        },
    }
}

/// How often values without a lease are read again: local ones soon, those of a cluster without being a load.
const fn refresh(reference: &Reference) -> Duration {
    match reference {
        Reference::Vault { .. } => Duration::from_secs(60),
        Reference::Embedded { .. } | Reference::File { .. } | Reference::Env { .. } => Duration::from_secs(2),
    }
}

/// How often authorities and lists are fetched at the latest: so long may a revocation take to count.
const REFRESH_TRUST: Duration = Duration::from_secs(30);

/// New leases beyond what the plan needs: a credential that does not last must not fill the database with users.
const MINTS_PER_HOUR: u32 = 20;

/// How long the first try of an entry may take; at the start, traffic that needs no store waits for it.
const PATIENCE: Duration = Duration::from_secs(6);
