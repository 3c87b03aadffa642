//! Minted tokens of a running gateway: what signs them, and the public keys that are shown for them.
//!
//! Keys are shown before anything is signed with them. A local key that was replaced is shown on until the last token that it
//! signed has ended; of a key that stays in Vault (transit) exactly the versions are shown that Vault lists. A signature is handed on
//! only if it is one of a key that is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Method;
use identity::jwt::Algorithm;
use identity::mint::{PublicKey, SigningKey, jwks_json};
use policy::{Engine, RouteIndex};
use proxy::authenticate::Authenticate;
use proxy::route::{Action, PathRules, Route};
use proxy::token::{Minter, RemoteSigner, RouteToken, Signer, Signing};
use rotation::{Life, Obtained, Source, SourceError};
use secrets::{Cause, ExposeSecret as _, KeyVersion, SecretString, SigningAlgorithm, Store, StoreError};
use telemetry::Metrics;
use tls::{Slot, SlotWriter};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::generation::BuildError;
use super::jobs::{JobKey, MaterialSink, Tell};
use super::slots::next_id;
use super::stores::{LivingStore, Tasks};
use super::wall_clock;
use crate::config::model::{MintedTokens, Name, TokenSigner};

/// An entry that mints tokens; lives on while it and the store that signs stay the same.
#[derive(Debug)]
pub(super) struct LivingToken {
    definition: MintedTokens,
    pub(super) keys: Arc<Keys>,
    minter: Arc<Minter>,
}

impl LivingToken {
    /// The entry in the next generation. Keys live on as long as they come from the same place, whatever else changes.
    pub(super) fn next(
        name: &Name,
        definition: &MintedTokens,
        former: Option<&Arc<Self>>,
        stores: &BTreeMap<Name, Arc<LivingStore>>,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Result<Arc<Self>, BuildError> {
        let failed = |reason: &str| BuildError::new(format!("tokens `{name}`"), reason);
        let store = match &definition.signer {
            TokenSigner::Transit { store, .. } => stores.get(store),
            TokenSigner::Local | TokenSigner::Key(_) => None,
        };
        let store_id = store.map(|living| living.id);
        let is_same = |former: &&Arc<Self>| {
            former.definition.signer == definition.signer && former.keys.store == store_id
        };
        let keys = match former.filter(is_same) {
            Some(former) if former.definition == *definition => return Ok(Arc::clone(former)),
            Some(former) => Arc::clone(&former.keys),
            None => {
                let keys = Keys::new(store_id, former.map(|former| former.keys.as_ref()));
                if definition.signer == TokenSigner::Local {
                    keys.publish_local().map_err(|reason| failed(&reason))?;
                }
                Arc::new(keys)
            }
        };
        let signer = match (&definition.signer, store) {
            (TokenSigner::Local | TokenSigner::Key(_), _) => Signer::Local(keys.lock().signing.reader()),
            (TokenSigner::Transit { mount, key, .. }, Some(living)) => {
                Signer::Remote(Arc::new(TransitSigner(Arc::new(Transit {
                    keys: Arc::clone(&keys),
                    store: living.store.clone(),
                    mount: mount.clone(),
                    key: key.clone(),
                    // Whoever only rehearses a configuration has no runtime, and signs nothing.
                    runtime: Handle::try_current().ok(),
                    tasks: tasks.clone(),
                    places: Arc::new(Semaphore::new(MOST_SIGNING)),
                }))))
            }
            // A rehearsal opens no stores.
            (TokenSigner::Transit { .. }, None) => Signer::Local(keys.lock().signing.reader()),
        };
        let minter = Minter {
            name: name.into(),
            configuration: next_id(),
            issuer: definition.issuer.as_str().into(),
            ttl: definition.ttl,
            signer,
            series: metrics.token(name.as_str()),
        };
        Ok(Arc::new(Self { definition: definition.clone(), keys, minter: Arc::new(minter) }))
    }

    /// What signs.
    pub(super) const fn signer(&self) -> &TokenSigner {
        &self.definition.signer
    }

    /// What a route with this `token:` takes, in the generation of `engine`.
    ///
    /// # Errors
    /// When the engine does not know one of its scopes.
    pub(super) fn of_route(&self, engine: &Engine) -> Result<RouteToken, String> {
        let scopes = self.definition.scopes.iter().map(|name| match engine.scope(name) {
            Some(scope) => Ok((scope, name.as_str().into())),
            None => Err(format!("policies do not know the scope `{name}`")),
        });
        Ok(RouteToken { minter: Arc::clone(&self.minter), scopes: scopes.collect::<Result<_, _>>()? })
    }

    /// The route that shows its keys on listeners, at this place of the snapshot; its name in logs is `jwks/<entry>`.
    pub(super) fn shown(&self, index: RouteIndex, metrics: &Metrics) -> Route {
        let name = format!("jwks/{}", self.minter.name);
        Route {
            index,
            methods: vec![Method::GET, Method::HEAD],
            authenticate: Authenticate::Nobody,
            edge_limits: Vec::new(),
            limits: Vec::new(),
            concurrency: None,
            action: Action::Keys(self.keys.shown()),
            paths: PathRules::default(),
            set_fields: Vec::new(),
            security_fields: false,
            forward_credentials: false,
            token: None,
            series: metrics.route(&name),
            name: name.into(),
        }
    }
}

/// The public keys of an entry, and its private one if it is here.
pub(super) struct Keys {
    /// Never given twice in this process.
    pub(super) id: u64,
    /// The store that keeps the private half, by number.
    store: Option<u64>,
    state: Mutex<State>,
}

struct State {
    signing: SlotWriter<SigningKey>,
    shown: SlotWriter<Bytes>,
    /// By version, oldest first; a local key is version 0.
    current: Vec<(u64, PublicKey)>,
    /// Keys that sign no more, and until when they are shown.
    former: Vec<(PublicKey, SystemTime)>,
}

impl Keys {
    /// Without a key: nothing is signed until one is published. What `former` showed is shown on for a while.
    fn new(store: Option<u64>, former: Option<&Self>) -> Self {
        let former = former.map_or_else(Vec::new, |former| {
            let state = former.lock();
            let until = wall_clock() + SHOWN_ON;
            state.current.iter().map(|(_, key)| (key.clone(), until)).chain(state.former.clone()).collect()
        });
        let state =
            State { signing: SlotWriter::empty(), shown: SlotWriter::empty(), current: Vec::new(), former };
        Self { id: next_id(), store, state: Mutex::new(state) }
    }

    /// The JWK Set; empty until there is a key.
    pub(super) fn shown(&self) -> Slot<Bytes> {
        self.lock().shown.reader()
    }

    /// Takes over a private key in PEM.
    fn publish_pem(&self, pem: &str, now: SystemTime) -> Result<(), String> {
        let key = SigningKey::from_pem(pem).map_err(|error| error.to_string())?;
        let mut state = self.lock();
        let replaced = std::mem::replace(&mut state.current, vec![(0, key.public().clone())]);
        let replaced = replaced.into_iter().map(|(_, public)| (public, now + SHOWN_ON));
        state.former.extend(replaced.filter(|(public, _)| public != key.public()));
        state.show(now);
        state.signing.publish(Arc::new(key));
        Ok(())
    }

    /// A key of the gateway's own, of which nobody else ever learns.
    fn publish_local(&self) -> Result<(), String> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        let pem = Zeroizing::new(pair.map_err(|error| error.to_string())?.serialize_pem());
        self.publish_pem(&pem, wall_clock())
    }

    /// Takes over the versions of a key that stays in its store.
    fn publish_versions(&self, versions: Vec<(u64, PublicKey)>, now: SystemTime) {
        let mut state = self.lock();
        state.current = versions;
        state.show(now);
    }

    /// The version that signs.
    fn newest(&self) -> Option<(u64, PublicKey)> {
        self.lock().current.last().cloned()
    }

    /// Shows no longer what has ended; for a tick of the control runtime.
    pub(super) fn look(&self, now: SystemTime) {
        let mut state = self.lock();
        if state.former.iter().any(|(_, until)| *until <= now) {
            state.show(now);
        }
    }

    /// A panic elsewhere leaves the state as it was: each of its states is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn show(&mut self, now: SystemTime) {
        self.former.retain(|(_, until)| *until > now);
        let current = self.current.iter().map(|(_, key)| key);
        let keys = jwks_json(current.chain(self.former.iter().map(|(key, _)| key)));
        self.shown.publish(Arc::new(Bytes::from(keys)));
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("id", &self.id)
            .field("current", &self.lock().current)
            .finish_non_exhaustive()
    }
}

/// Publishes the private key of a reference.
pub(super) fn key_sink(key: JobKey, keys: &Arc<Keys>, tell: Tell) -> MaterialSink<Vec<SecretString>> {
    let keys = Arc::clone(keys);
    MaterialSink::new(key, tell, move |values: Vec<SecretString>| match values.as_slice() {
        [pem] => keys.publish_pem(pem.expose_secret(), wall_clock()),
        _ => Err("another number of values than one".to_owned()),
    })
}

/// Whether the value of a reference is a key that can sign.
pub(super) fn check_key(values: &[SecretString]) -> Result<(), String> {
    let pem = values.first().map_or("", |pem| pem.expose_secret());
    SigningKey::from_pem(pem).map(drop).map_err(|error| error.to_string())
}

/// Publishes the versions of a key in Vault.
pub(super) fn versions_sink(
    key: JobKey,
    keys: &Arc<Keys>,
    tell: Tell,
) -> MaterialSink<Vec<(u64, PublicKey)>> {
    let keys = Arc::clone(keys);
    MaterialSink::new(key, tell, move |versions| {
        keys.publish_versions(versions, wall_clock());
        Ok(())
    })
}

/// The public halves of a key in Vault, asked for again and again.
pub(super) struct TransitKeys {
    store: Store,
    name: String,
    mount: String,
    key: String,
    last: Vec<(u64, PublicKey)>,
}

impl TransitKeys {
    /// Nothing is asked here; `name` is the store's.
    pub(super) fn new(store: Store, name: String, mount: String, key: String) -> Self {
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
struct TransitSigner(Arc<Transit>);

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

/// The key sets of all entries by name, for the admin listener; the next generation replaces them whole.
#[derive(Debug, Default)]
pub(super) struct KeySets(ArcSwap<BTreeMap<String, Slot<Bytes>>>);

impl KeySets {
    /// Shows the keys of these entries and of no others.
    pub(super) fn show(&self, tokens: &BTreeMap<Name, Arc<LivingToken>>) {
        let sets = tokens.iter().map(|(name, token)| (name.to_string(), token.keys.shown()));
        self.0.store(Arc::new(sets.collect()));
    }
}

impl admin::KeySets for KeySets {
    fn key_set(&self, entry: &str) -> Option<Bytes> {
        self.0.load().get(entry)?.load().map(|keys| Bytes::clone(&keys))
    }
}

/// How long a key that was replaced is shown on: the longest that a token lives (an hour), and the skew of clocks.
const SHOWN_ON: Duration = Duration::from_secs(3660);

/// How often the versions of a key in Vault are asked for.
const REFRESH: Duration = Duration::from_secs(60);

/// How many signatures are asked of Vault at once.
const MOST_SIGNING: usize = 128;
