//! The keys of one entry: what signs here, and what is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use identity::mint::{PublicKey, SigningKey, jwks_json};
use tls::{Slot, SlotWriter};
use zeroize::Zeroizing;

use super::LivingToken;
use crate::config::model::Name;
use crate::gateway::slots::next_id;
use crate::gateway::wall_clock;

/// The public keys of an entry, and its private one if it is here.
pub(in crate::gateway) struct Keys {
    /// Never given twice in this process.
    pub(in crate::gateway) id: u64,
    /// The store that keeps the private half, by number.
    pub(super) store: Option<u64>,
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
    pub(super) fn new(store: Option<u64>, former: Option<&Self>) -> Self {
        let former = former.map_or_else(Vec::new, |former| {
            let state = former.lock();
            let until = wall_clock() + SHOWN_ON;
            state.current.iter().map(|(_, key)| (key.clone(), until)).chain(state.former.clone()).collect()
        });
        let state =
            State { signing: SlotWriter::empty(), shown: SlotWriter::empty(), current: Vec::new(), former };
        Self { id: next_id(), store, state: Mutex::new(state) }
    }

    /// The private key; empty where there is none.
    pub(super) fn signing(&self) -> Slot<SigningKey> {
        self.lock().signing.reader()
    }

    /// The JWK Set; empty until there is a key.
    pub(in crate::gateway) fn shown(&self) -> Slot<Bytes> {
        self.lock().shown.reader()
    }

    /// Takes over a private key in PEM.
    pub(super) fn publish_pem(&self, pem: &str, now: SystemTime) -> Result<(), String> {
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
    pub(super) fn publish_local(&self) -> Result<(), String> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        let pem = Zeroizing::new(pair.map_err(|error| error.to_string())?.serialize_pem());
        self.publish_pem(&pem, wall_clock())
    }

    /// Takes over the versions of a key that stays in its store.
    pub(super) fn publish_versions(&self, versions: Vec<(u64, PublicKey)>, now: SystemTime) {
        let mut state = self.lock();
        state.current = versions;
        state.show(now);
    }

    /// The version that signs.
    pub(super) fn newest(&self) -> Option<(u64, PublicKey)> {
        self.lock().current.last().cloned()
    }

    /// Shows no longer what has ended; for a tick of the control runtime.
    pub(in crate::gateway) fn look(&self, now: SystemTime) {
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

/// The key sets of all entries by name, for the admin listener; the next generation replaces them whole.
#[derive(Debug, Default)]
pub(in crate::gateway) struct KeySets(ArcSwap<BTreeMap<String, Slot<Bytes>>>);

impl KeySets {
    /// Shows the keys of these entries and of no others.
    pub(in crate::gateway) fn show(&self, tokens: &BTreeMap<Name, Arc<LivingToken>>) {
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

#[cfg(test)]
mod tests;
