//! Secrets that a configuration refers to, looked up once, without a gateway around them.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrets::reference::read_local;
use secrets::vault::Login;
use secrets::{Reading, Reference, StoreError};

use super::stores::{self, LivingStore, Tasks};
use crate::config::model::{Config, Name, SecretStore};
use crate::config::{Span, references};

/// What became of the references of a configuration.
#[derive(Debug)]
pub struct Resolution {
    /// Stores that cannot be opened, and why.
    pub broken: BTreeMap<Name, String>,
    /// For each reference, in their order.
    pub outcomes: Vec<Outcome>,
}

/// What became of a reference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// There is a value.
    Resolved,
    /// There is none, for this reason.
    Unresolved(String),
    /// Its store was not asked, for this reason.
    NotAsked(&'static str),
}

/// Looks up every one of these references. Leases that this takes are given back, and logins are revoked.
pub async fn resolve(config: &Config, references: &[&Reference]) -> Resolution {
    let tasks = Tasks::default();
    let (living, broken) = open(config, &tasks);
    let handles = stores::handles(&living);
    let mut readings: Vec<(&Reference, Result<Reading, StoreError>)> = Vec::new();
    let mut outcomes = Vec::new();
    for reference in references {
        if let Some(outcome) = not_asked(reference, config, &broken) {
            outcomes.push(outcome);
            continue;
        }
        let value = match readings.iter().find(|(other, _)| other.shares_reading(reference)) {
            Some((_, Ok(reading))) => reading.value(reference),
            Some((_, Err(error))) => Err(error.clone()),
            None => {
                let reading = handles.read(reference).await;
                let value =
                    reading.as_ref().map_err(Clone::clone).and_then(|reading| reading.value(reference));
                readings.push((reference, reading));
                value
            }
        };
        outcomes
            .push(value.map_or_else(|error| Outcome::Unresolved(error.to_string()), |_| Outcome::Resolved));
    }
    for (reference, reading) in readings {
        if let (Ok(store), Ok(Reading { lease: Some(lease), .. })) =
            (handles.named(reference.store()), reading)
        {
            // What cannot be revoked ends with the login, which is revoked now.
            store.revoke(&lease).await.ok();
        }
    }
    tasks.end().await;
    Resolution { broken, outcomes }
}

/// References to files, variables and the embedded store that do not resolve, each with the place that is to blame: what can
/// be said without asking anybody.
#[must_use]
pub fn unresolved_here(config: &Config) -> Vec<(Span, String)> {
    let is_here = |store: &SecretStore| matches!(store, SecretStore::Embedded(_));
    let here = config.stores.iter().filter(|(_, store)| is_here(store));
    let here = here.map(|(name, store)| (name.clone(), store.clone())).collect();
    let mut unresolved = Vec::new();
    let opened = match stores::next(&here, &BTreeMap::new(), &Tasks::default()) {
        Ok(living) => Some(stores::handles(&living)),
        Err(faults) => {
            unresolved.extend(faults.into_iter().map(|fault| (fault.span, fault.reason)));
            None
        }
    };
    for (_, secret) in references(config) {
        let embedded = opened.as_ref().and_then(|stores| stores.embedded().ok());
        let is_here = match secret.reference {
            Reference::File { .. } | Reference::Env { .. } => true,
            Reference::Embedded { .. } => embedded.is_some(),
            Reference::Vault { .. } => false,
        };
        if is_here
            && let Err(error) = read_local(&secret.reference, embedded.map(|store| store.as_ref()))
            && !unresolved.iter().any(|(span, _)| *span == secret.span)
        {
            unresolved.push((secret.span, format!("`{}`: {error}", secret.reference)));
        }
    }
    unresolved
}

/// The stores that can be opened, and why others cannot.
fn open(config: &Config, tasks: &Tasks) -> (BTreeMap<Name, Arc<LivingStore>>, BTreeMap<Name, String>) {
    let mut living = BTreeMap::new();
    let mut broken = BTreeMap::new();
    // The embedded store first: logins read from it.
    let (embedded, clusters): (Vec<_>, Vec<_>) =
        config.stores.iter().partition(|(_, store)| matches!(store, SecretStore::Embedded(_)));
    for (name, store) in embedded.into_iter().chain(clusters).filter(|(_, store)| !logs_in_once(store)) {
        // One by one: a store that cannot be opened says nothing about the others.
        let mut definitions: BTreeMap<_, _> = living
            .iter()
            .map(|(name, living): (&Name, &Arc<LivingStore>)| (name.clone(), living.definition.clone()))
            .collect();
        definitions.insert(name.clone(), store.clone());
        match stores::next(&definitions, &living, tasks) {
            Ok(next) => living = next,
            Err(faults) => {
                let reasons: Vec<String> = faults.into_iter().map(|fault| fault.reason).collect();
                broken.insert(name.clone(), reasons.join("; "));
            }
        }
    }
    (living, broken)
}

/// The outcome of a reference whose store cannot be asked.
fn not_asked(reference: &Reference, config: &Config, broken: &BTreeMap<Name, String>) -> Option<Outcome> {
    let (name, store) = config.stores.iter().find(|(name, store)| match reference {
        Reference::Vault { store, .. } => name.as_str() == store,
        Reference::Embedded { .. } => matches!(store, SecretStore::Embedded(_)),
        Reference::File { .. } | Reference::Env { .. } => false,
    })?;
    if logs_in_once(store) {
        return Some(Outcome::NotAsked(WRAPPED));
    }
    broken.get(name).map(|reason| Outcome::Unresolved(reason.clone()))
}

/// A wrapped secret id can be unwrapped once: by the gateway.
fn logs_in_once(store: &SecretStore) -> bool {
    match store {
        SecretStore::Vault(cluster) => matches!(cluster.login, Login::AppRole { wrapped: Some(_), .. }),
        SecretStore::Embedded(_) => false,
    }
}

const WRAPPED: &str = "the login takes a wrapped secret id, which the gateway itself needs";
