//! The one-writer, many-reader store of an issuer's keys.
//!
//! Readers never lock and never wait for the network, except on an unknown `kid`: then they ask for one refetch that all
//! cores share, at most once per cooldown, and wait a bounded time for its result. Keys older than `max_stale` are
//! unavailable, never silently old.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::KeySet;

/// The shortest time between two refetches that unknown keys ask for.
pub const DEFAULT_COOLDOWN: Duration = Duration::from_secs(30);

/// Reads an issuer's keys; cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyStore {
    shared: Arc<Shared>,
}

/// Publishes an issuer's keys; there is one per store. Dropping it ends all waiting for a refetch, the keys stay.
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
    /// Why: never fetched or too old, and the last failure.
    pub reason: String,
}

/// What came of asking for a refetch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refetch {
    /// There is a newer generation than the caller saw.
    Refreshed,
    /// The fetch failed, now or within the cooldown: the caller answers 503.
    Failed,
    /// A fetch succeeded within the cooldown: the key is unknown, the caller answers 401.
    TooSoon,
    /// No result within the caller's wait: the caller answers 401.
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
    /// Whether the keys are too old to be used, or there are none.
    pub is_unavailable: bool,
    /// The failure since the last publication, and when.
    pub last_error: Option<(String, SystemTime)>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    max_stale: Duration,
    cooldown: Duration,
    current: ArcSwapOption<KeySnapshot>,
    last_error: ArcSwapOption<(String, SystemTime)>,
    /// Wakes the writer.
    wanted: Notify,
    /// Changed only by the writer and by those who ask for a refetch; wakes the latter.
    attempts: watch::Sender<Attempts>,
}

/// The one refetch that all share. INVARIANT: `current` is stored under its lock, so that who sees `pending` end sees the
/// keys that ended it.
#[derive(Debug, Default)]
struct Attempts {
    /// When a refetch was asked for last.
    asked: Option<Instant>,
    is_pending: bool,
    /// Counts results.
    finished: u64,
    last_failed: bool,
    is_closed: bool,
    /// Nobody refetches: new keys come by themselves.
    is_local: bool,
}

/// What a caller does about an unknown key.
enum Turn {
    Done(Refetch),
    Wait { finished: u64 },
}

impl KeyStore {
    /// An empty store and its writer. Keys older than `max_stale` are unavailable (`Duration::MAX`: never, as for a local
    /// file); `cooldown` is the shortest time between two refetches that unknown keys ask for.
    pub fn new(name: impl Into<String>, max_stale: Duration, cooldown: Duration) -> (Self, KeyWriter) {
        let shared = Arc::new(Shared {
            name: name.into(),
            max_stale,
            cooldown,
            current: ArcSwapOption::empty(),
            last_error: ArcSwapOption::empty(),
            wanted: Notify::new(),
            attempts: watch::Sender::default(),
        });
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
        let snapshot = self.shared.current.load_full().ok_or_else(|| self.unavailable("never fetched"))?;
        if age(&snapshot, now) > self.shared.max_stale {
            return Err(self.unavailable("too old"));
        }
        Ok(snapshot)
    }

    /// The generation of the keys, 0 before the first; cheaper than [`KeyStore::current`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// Asks for a refetch because `seen_generation` lacks a key, and waits at most `wait` for its result. All callers on all
    /// cores share one attempt; there is at most one per cooldown.
    pub async fn refetched(&self, seen_generation: u64, wait: Duration) -> Refetch {
        // Register, then look: a result in between is not lost.
        let mut results = self.shared.attempts.subscribe();
        let before = match self.shared.take_turn(seen_generation) {
            Turn::Done(refetch) => return refetch,
            Turn::Wait { finished } => finished,
        };
        let result = timeout(wait, results.wait_for(|attempts| attempts.finished > before)).await;
        match result {
            Err(_elapsed) => Refetch::TimedOut,
            Ok(Ok(attempts)) if !attempts.last_failed => Refetch::Refreshed,
            Ok(_) => Refetch::Failed,
        }
    }

    /// The store's state at `now`.
    #[must_use]
    pub fn status(&self, now: SystemTime) -> KeyStatus {
        let snapshot = self.shared.current.load_full();
        let age = snapshot.as_ref().map(|snapshot| age(snapshot, now));
        KeyStatus {
            name: self.shared.name.clone(),
            generation: snapshot.as_ref().map_or(0, |snapshot| snapshot.generation),
            keys: snapshot.as_ref().map_or(0, |snapshot| snapshot.keys.len()),
            fetched: snapshot.as_ref().map(|snapshot| snapshot.fetched),
            age,
            is_unavailable: age.is_none_or(|age| age > self.shared.max_stale),
            last_error: self.shared.last_error.load_full().map(|error| error.as_ref().clone()),
        }
    }

    fn unavailable(&self, reason: &str) -> KeysUnavailable {
        let reason = match self.shared.last_error.load_full() {
            Some(error) => format!("{reason}, last error: {}", error.0),
            None => reason.to_owned(),
        };
        KeysUnavailable { name: self.shared.name.clone(), reason }
    }
}

impl KeyWriter {
    /// Publishes keys that were fetched at `now`.
    pub fn publish(&self, keys: KeySet, now: SystemTime) {
        self.shared.attempts.send_modify(|attempts| {
            let generation = self.shared.generation() + 1;
            self.shared.current.store(Some(Arc::new(KeySnapshot { keys, fetched: now, generation })));
            self.shared.last_error.store(None);
            attempts.finish(false);
        });
    }

    /// Reports a fetch that failed at `now`; the keys in use stay.
    pub fn failed(&self, reason: String, now: SystemTime) {
        self.shared.last_error.store(Some(Arc::new((reason, now))));
        self.shared.attempts.send_modify(|attempts| attempts.finish(true));
    }

    /// Says that nobody refetches, as for keys of a local file: an unknown key is answered at once.
    pub fn never_refetches(&self) {
        self.shared.attempts.send_modify(|attempts| attempts.is_local = true);
    }

    /// Resolves when a reader asks for a refetch, also if it asked before; answer with [`KeyWriter::publish`] or
    /// [`KeyWriter::failed`]. Safe to drop and call again.
    pub async fn wanted(&self) {
        self.shared.wanted.notified().await;
    }
}

impl Drop for KeyWriter {
    fn drop(&mut self) {
        self.shared.attempts.send_modify(|attempts| {
            attempts.is_closed = true;
            attempts.finish(true);
        });
    }
}

impl Shared {
    fn generation(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |snapshot| snapshot.generation)
    }

    fn take_turn(&self, seen_generation: u64) -> Turn {
        let mut turn = Turn::Done(Refetch::Refreshed);
        self.attempts.send_if_modified(|attempts| {
            if self.generation() > seen_generation {
                return false;
            }
            let now = Instant::now();
            let cools = attempts.asked.is_some_and(|asked| now.duration_since(asked) < self.cooldown);
            turn = match attempts {
                Attempts { is_local: true, .. } => Turn::Done(Refetch::TooSoon),
                Attempts { is_pending: true, finished, .. } => Turn::Wait { finished: *finished },
                Attempts { is_closed: true, .. } => Turn::Done(Refetch::Failed),
                Attempts { last_failed, .. } if cools => {
                    Turn::Done(if *last_failed { Refetch::Failed } else { Refetch::TooSoon })
                }
                Attempts { finished, .. } => {
                    let finished = *finished;
                    attempts.is_pending = true;
                    attempts.asked = Some(now);
                    self.wanted.notify_one();
                    Turn::Wait { finished }
                }
            };
            // Who waits is woken by results only.
            false
        });
        turn
    }
}

impl Attempts {
    const fn finish(&mut self, failed: bool) {
        self.is_pending = false;
        self.finished += 1;
        self.last_failed = failed;
    }
}

/// A clock that was set back makes keys young, not old.
fn age(snapshot: &KeySnapshot, now: SystemTime) -> Duration {
    now.duration_since(snapshot.fetched).unwrap_or_default()
}
