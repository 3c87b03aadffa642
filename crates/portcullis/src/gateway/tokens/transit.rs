//! Keys that stay in Vault: which versions there are, and how they sign.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::jwt::Algorithm;
use identity::mint::PublicKey;
use proxy::token::{RemoteSigner, Signing};
use rotation::{Life, Obtained, Source, SourceError};
use secrets::{Cause, KeyVersion, SigningAlgorithm, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::keys::Keys;
use crate::gateway::stores::Tasks;
use crate::gateway::wall_clock;

/// The public halves of a key in Vault, asked for again and again.
pub(in crate::gateway) struct TransitKeys {
    store: Store,
    name: String,
    mount: String,
    key: String,
    last: Vec<(u64, PublicKey)>,
}

impl TransitKeys {
    /// Nothing is asked here; `name` is the store's.
    pub(in crate::gateway) fn new(store: Store, name: String, mount: String, key: String) -> Self {
        Self { store, name, mount, key, last: Vec::new() }
    }
}

impl Source for TransitKeys {
    type Material = Vec<(u64, PublicKey)>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Self::Material>, SourceError> {
        let versions = self.store.signing_keys(&self.mount, &self.key).await?;
        let versions = read(&versions).map_err(|reason| StoreError {
            store: self.name.clone(),
            cause: Cause::Refused(format!("signing with key `{}`: {reason}", self.key)),
        })?;
        let life = Life { obtained: now, begins: now, ends: None, again_in: Some(REFRESH) };
        if held.is_some() && versions == self.last {
            return Ok(Obtained::Unchanged(life));
        }
        self.last.clone_from(&versions);
        Ok(Obtained::New(versions, life))
    }
}

fn read(versions: &[KeyVersion]) -> Result<Vec<(u64, PublicKey)>, String> {
    let read = |version: &KeyVersion| match PublicKey::from_pem(&version.public_key_pem) {
        Ok(key) => Ok((version.version, key)),
        Err(error) => Err(format!("version {}: {error}", version.version)),
    };
    let mut keys = versions.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    keys.sort_by_key(|(version, _)| *version);
    if keys.is_empty() { Err("it has no version".to_owned()) } else { Ok(keys) }
}

/// Has a key that stays in Vault sign, on the control runtime.
#[derive(Debug)]
pub(super) struct TransitSigner(Arc<Transit>);

impl TransitSigner {
    pub(super) fn new(keys: &Arc<Keys>, store: &Store, (mount, key): (&str, &str), tasks: &Tasks) -> Self {
        Self(Arc::new(Transit {
            keys: Arc::clone(keys),
            store: store.clone(),
            mount: mount.to_owned(),
            key: key.to_owned(),
            // Whoever only rehearses a configuration has no runtime, and signs nothing.
            runtime: Handle::try_current().ok(),
            tasks: tasks.clone(),
            places: Arc::new(Semaphore::new(MOST_SIGNING)),
        }))
    }
}

#[derive(Debug)]
struct Transit {
    keys: Arc<Keys>,
    store: Store,
    mount: String,
    key: String,
    runtime: Option<Handle>,
    tasks: Tasks,
    /// For requests that no core waits for any more, too: their end tells the store's own state.
    places: Arc<Semaphore>,
}

impl RemoteSigner for TransitSigner {
    fn sign(&self, claims: String) -> Signing {
        let Some(runtime) = &self.0.runtime else { return Box::pin(std::future::ready(None)) };
        let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() else {
            return Box::pin(std::future::ready(None));
        };
        let transit = Arc::clone(&self.0);
        let signing = async move {
            let _place = place;
            transit.signed(&claims).await
        };
        let signing = self.0.tasks.jobs.tracker.spawn_on(signing, runtime);
        Box::pin(async move { signing.await.ok().flatten() })
    }
}

impl Transit {
    async fn signed(&self, claims: &str) -> Option<String> {
        let known = self.keys.newest()?;
        match self.attempt(claims, known).await? {
            Attempt::Signed(token) => Some(token),
            // The key was rotated a moment ago: its new version is shown first, then it signs.
            Attempt::ByAnotherVersion => {
                let versions = self.store.signing_keys(&self.mount, &self.key).await;
                let versions = versions.map_err(|error| self.tell(&error)).ok()?;
                self.keys.publish_versions(read(&versions).ok()?, wall_clock());
                match self.attempt(claims, self.keys.newest()?).await? {
                    Attempt::Signed(token) => Some(token),
                    Attempt::ByAnotherVersion => None,
                }
            }
        }
    }

    async fn attempt(&self, claims: &str, (version, public): (u64, PublicKey)) -> Option<Attempt> {
        let algorithm = match public.algorithm() {
            Algorithm::ES256 => SigningAlgorithm::Es256,
            Algorithm::EdDSA => SigningAlgorithm::EdDsa,
            _ => SigningAlgorithm::Rs256,
        };
        let input = public.signing_input(claims);
        let signature = self.store.sign(&self.mount, &self.key, algorithm, input.as_bytes()).await;
        let signature = signature.map_err(|error| self.tell(&error)).ok()?;
        if signature.version != version {
            return Some(Attempt::ByAnotherVersion);
        }
        let token = public.token(input, &signature.bytes).map_err(|error| self.tell(&error));
        token.ok().map(Attempt::Signed)
    }

    fn tell(&self, error: &dyn fmt::Display) {
        tracing::debug!(key = self.key, reason = %error, "a token is not signed");
    }
}

enum Attempt {
    Signed(String),
    ByAnotherVersion,
}

/// How often the versions of a key in Vault are asked for.
const REFRESH: Duration = Duration::from_secs(60);

/// How many signatures are asked of Vault at once.
const MOST_SIGNING: usize = 128;
