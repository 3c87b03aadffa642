//! Token issuers of a running gateway: keys that live on while where they come from stays the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use identity::jwks::{DEFAULT_COOLDOWN, KeySet, KeyStore, KeyWriter};
use identity::jwt::{DEFAULT_MAX_TOKEN_BYTES, Issuer};
use proxy::authenticate::TokenIssuer;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::slots::next_id;
use crate::config::model::{Jwks, Jwt, Name, ServerTrust};

/// Where keys come from, and for how long they count.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeySource {
    pub(super) name: Name,
    pub(super) issuer: Arc<str>,
    pub(super) jwks: Jwks,
    pub(super) trust: ServerTrust,
    pub(super) refresh: Duration,
    pub(super) max_stale: Duration,
}

/// The keys of an issuer: a store with its one writer.
#[derive(Debug)]
pub(super) struct HeldKeys {
    pub(super) source: KeySource,
    pub(super) store: KeyStore,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
enum Writer {
    /// Keys of a file are published by whoever watches it.
    File { writer: KeyWriter, digest: Option<[u8; 32]> },
    /// Nobody fetches yet.
    Idle(KeyWriter),
    /// A task fetches; it ends when these keys are dropped.
    Fetching(#[expect(dead_code, reason = "held for its drop")] DropGuard),
}

/// An issuer as the request path sees it.
#[derive(Debug)]
pub(super) struct LivingIssuer {
    definition: Jwt,
    pub(super) keys: Arc<HeldKeys>,
    pub(super) token_issuer: Arc<TokenIssuer>,
}

impl LivingIssuer {
    /// The issuer of this definition: the former one if nothing changed, with the former keys if they come from the same
    /// place.
    pub(super) fn next(definition: &Jwt, former: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(former) = former.filter(|former| former.definition == *definition) {
            return Arc::clone(former);
        }
        let source = KeySource::of(definition);
        let keys = match former {
            Some(former) if former.keys.source == source => Arc::clone(&former.keys),
            _ => Arc::new(HeldKeys::new(source)),
        };
        let token_issuer =
            TokenIssuer { issuer: issuer(definition), keys: keys.store.clone(), configuration: next_id() };
        Arc::new(Self { definition: definition.clone(), keys, token_issuer: Arc::new(token_issuer) })
    }
}

impl KeySource {
    fn of(jwt: &Jwt) -> Self {
        Self {
            name: jwt.name.clone(),
            issuer: Arc::clone(&jwt.issuer),
            jwks: jwt.jwks.clone(),
            trust: jwt.trust.clone(),
            refresh: jwt.refresh,
            max_stale: jwt.max_stale,
        }
    }
}

impl HeldKeys {
    fn new(source: KeySource) -> Self {
        let is_file = matches!(source.jwks, Jwks::File(_));
        let max_stale = if is_file { Duration::MAX } else { source.max_stale };
        let (store, writer) = KeyStore::new(source.name.as_str(), max_stale, DEFAULT_COOLDOWN);
        let writer = if is_file {
            // Nobody would ever answer who waits for a refetch.
            writer.never_refetches();
            Writer::File { writer, digest: None }
        } else {
            Writer::Idle(writer)
        };
        Self { source, store, writer: Mutex::new(writer) }
    }

    /// The writer, for the one task that fetches, and the token that ends it (with `all`); nothing if keys come from a file or are
    /// fetched already.
    pub(super) fn begin_fetching(&self, all: &CancellationToken) -> Option<(KeyWriter, CancellationToken)> {
        let mut state = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, Writer::Idle(_)) {
            return None;
        }
        let stop = all.child_token();
        match std::mem::replace(&mut *state, Writer::Fetching(stop.clone().drop_guard())) {
            Writer::Idle(writer) => Some((writer, stop)),
            Writer::File { .. } | Writer::Fetching(_) => None,
        }
    }

    /// Whether the keys are those of a file with these bytes.
    pub(super) fn holds(&self, bytes: &[u8; 32]) -> bool {
        let state = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(&*state, Writer::File { digest: Some(digest), .. } if digest == bytes)
    }

    /// Publishes the keys of a file.
    pub(super) fn publish_file(&self, keys: KeySet, bytes: [u8; 32], now: SystemTime) {
        let mut state = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Writer::File { writer, digest } = &mut *state {
            writer.publish(keys, now);
            *digest = Some(bytes);
        }
    }
}

/// What is asked of the tokens of an issuer.
#[must_use]
pub fn issuer(jwt: &Jwt) -> Issuer {
    Issuer {
        name: jwt.name.to_string(),
        issuer: jwt.issuer.to_string(),
        audiences: jwt.audience.clone(),
        algorithms: jwt.algorithms.clone(),
        skew: jwt.skew,
        types: jwt.types.clone(),
        roles: jwt.roles.clone(),
        scopes: jwt.scopes.clone(),
        claims: jwt.claims.clone(),
        max_token_bytes: DEFAULT_MAX_TOKEN_BYTES,
    }
}
