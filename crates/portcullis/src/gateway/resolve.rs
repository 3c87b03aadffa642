//! Secrets that a configuration refers to, looked up once, without a gateway around them.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrets::vault::Login;
use secrets::{Cause, Reading, Reference, StoreError};

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
    let mut readings: BTreeMap<(&str, String), Result<Reading, StoreError>> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for reference in references {
        if let Some(outcome) = not_asked(reference, config, &broken) {
            outcomes.push(outcome);
            continue;
        }
        let place = (reference.store(), reference.path());
        if !readings.contains_key(&place) {
            readings.insert(place.clone(), handles.read(reference).await);
        }
        outcomes.push(match readings.get(&place) {
            Some(Ok(reading)) if reading.fields.contains_key(reference.field()) => Outcome::Resolved,
            Some(Err(error)) => Outcome::Unresolved(error.to_string()),
            Some(Ok(_)) | None => {
                let cause = Cause::Absent(format!("field `{}` at `{}`", reference.field(), reference.path()));
                Outcome::Unresolved(StoreError { store: reference.store().to_owned(), cause }.to_string())
            }
        });
    }
    for ((store, _), reading) in readings {
        if let (Ok(store), Ok(Reading { lease: Some(lease), .. })) = (handles.named(store), reading) {
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
        let found = match (&secret.reference, &opened) {
            (reference @ (Reference::File { .. } | Reference::Env { .. }), _) => {
                secrets::reference::read_value(reference).map(drop)
            }
            (Reference::Embedded { name }, Some(stores)) => {
                stores.embedded().and_then(|store| store.read(name)).map(drop)
            }
            (Reference::Embedded { .. }, None) | (Reference::Vault { .. }, _) => Ok(()),
        };
        if let Err(error) = found
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
