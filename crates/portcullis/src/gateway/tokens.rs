//! Minted tokens of a running gateway: what signs them, and the public keys that are shown for them.
//!
//! Keys are shown before anything is signed with them. A local key that was replaced is shown on until the last token that it
//! signed has ended; of a key that stays in Vault (transit) exactly the versions are shown that Vault lists. A signature is handed on
//! only if it is one of a key that is shown.

mod keys;
mod transit;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use identity::mint::{PublicKey, SigningKey};
use policy::{Engine, RouteIndex};
use proxy::route::{Action, Route};
use proxy::token::{Minter, RouteToken, SharedTokens, Signer};
use secrets::{ExposeSecret as _, SecretString};
use telemetry::Metrics;

pub(super) use self::keys::KeySets;
use self::keys::Keys;
pub(super) use self::transit::TransitKeys;
use self::transit::TransitSigner;
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
            (TokenSigner::Local | TokenSigner::Key(_), _) => Signer::Local(keys.signing()),
            (TokenSigner::Transit { mount, key, .. }, Some(living)) => {
                let remote = TransitSigner::new(&keys, &living.store, (mount, key), tasks);
                Signer::Remote(Arc::new(remote), SharedTokens::default())
            }
            // A rehearsal opens no stores.
            (TokenSigner::Transit { .. }, None) => Signer::Local(keys.signing()),
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
        let series = metrics.route(&name);
        Route {
            methods: [Method::GET, Method::HEAD].into(),
            ..Route::new(name.into(), index, Action::Keys(self.keys.shown()), series)
        }
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
