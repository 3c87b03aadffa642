//! What is remembered of keys: bounded in entries and bytes, shared by all cores, in shards so that cores seldom meet.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use identity::PrincipalId;
use tokio::time::Instant;

use super::Digests;
use crate::normalize::Canonical;

/// The keys of one route.
#[derive(Debug)]
pub struct Store {
    bounds: StoreBounds,
    shards: Box<[Mutex<Shard>]>,
    shard_of: RandomState,
    digests: Digests,
    /// Tells an entry from a former one under the same key.
    serial: AtomicU64,
    /// Forgotten before their time, and not counted yet.
    evicted: AtomicU64,
}

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoreBounds {
    /// From the end of the first answer on.
    pub ttl: Duration,
    /// Keys.
    pub entries: usize,
    /// Bytes of all answers together, fields included.
    pub bytes: usize,
    /// Bytes of one body, of a request to compare or of an answer to keep.
    pub body: usize,
}

/// An answer as it is given again.
#[derive(Debug)]
pub struct Kept {
    /// Its status.
    pub status: StatusCode,
    /// Its end-to-end fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// The right to do a request for the first time. Dropped without an answer, the key is free again.
#[derive(Debug)]
pub struct Claim {
    store: Arc<Store>,
    key: Option<Key>,
    serial: u64,
}

/// Whose key it is, and the key.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) principal: PrincipalId,
    pub(super) key: Arc<str>,
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Found {
    First(Claim),
    Answered(Arc<Kept>),
    Busy,
    Other,
    NotKept,
    Full,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<Key, Entry>,
    /// Those that are done, in the order in which they end.
    done: VecDeque<(Instant, u64, Key)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    digest: u128,
    state: State,
}

#[derive(Debug)]
enum State {
    Busy,
    Answered(Arc<Kept>),
    NotKept,
}

impl Store {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new(bounds: StoreBounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_of: RandomState::new(),
            digests: Digests::default(),
            serial: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }

    /// Its bounds.
    #[must_use]
    pub const fn bounds(&self) -> &StoreBounds {
        &self.bounds
    }

    pub(super) fn digest(&self, request: (&Parts, &Canonical, &Bytes)) -> u128 {
        self.digests.of(request)
    }

    /// What is known of a key; a new one is taken.
    pub(super) fn look(self: &Arc<Self>, key: &Key, digest: u128, now: Instant) -> Found {
        let Some(mut shard) = self.shard(key) else { return Found::Full };
        shard.forget_ended(now);
        if let Some(entry) = shard.entries.get(key) {
            return match &entry.state {
                _ if entry.digest != digest => Found::Other,
                State::Busy => Found::Busy,
                State::NotKept => Found::NotKept,
                State::Answered(kept) => Found::Answered(kept.clone()),
            };
        }
        while shard.entries.len() >= self.bounds.entries.div_ceil(SHARDS) {
            if !self.evict(&mut shard) {
                return Found::Full;
            }
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        shard.entries.insert(key.clone(), Entry { serial, digest, state: State::Busy });
        drop(shard);
        Found::First(Claim { store: self.clone(), key: Some(key.clone()), serial })
    }

    /// How many answers were forgotten before their time since this was asked last.
    pub(super) fn evicted(&self) -> u64 {
        if self.evicted.load(Ordering::Relaxed) == 0 { 0 } else { self.evicted.swap(0, Ordering::Relaxed) }
    }

    fn evict(&self, shard: &mut Shard) -> bool {
        let is_gone = shard.forget_oldest();
        if is_gone {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        is_gone
    }

    fn end(&self, key: Key, serial: u64, state: State, now: Instant) {
        let Some(mut shard) = self.shard(&key) else { return };
        let added = state.bytes();
        while shard.bytes.saturating_add(added) > self.bounds.bytes / SHARDS && self.evict(&mut shard) {}
        let Some(entry) = shard.entries.get_mut(&key).filter(|entry| entry.serial == serial) else { return };
        // Fields count, too: an answer that no room can be made for is one that is too long.
        let is_too_long = added > self.bounds.bytes / SHARDS;
        entry.state = if is_too_long { State::NotKept } else { state };
        shard.bytes += if is_too_long { 0 } else { added };
        shard.done.push_back((now + self.bounds.ttl, serial, key));
    }

    fn free(&self, key: &Key, serial: u64) {
        let Some(mut shard) = self.shard(key) else { return };
        if shard.entries.get(key).is_some_and(|entry| entry.serial == serial) {
            shard.entries.remove(key);
        }
    }

    fn shard(&self, key: &Key) -> Option<MutexGuard<'_, Shard>> {
        let place = usize::try_from(self.shard_of.hash_one(key)).unwrap_or(usize::MAX) % SHARDS;
        Some(self.shards.get(place)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    fn forget_ended(&mut self, now: Instant) {
        while self.done.front().is_some_and(|(ends, ..)| *ends <= now) {
            self.forget_oldest();
        }
    }

    /// False if nothing is done that could be forgotten.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, serial, key)) = self.done.pop_front() else { return false };
        if self.entries.get(&key).is_some_and(|entry| entry.serial == serial)
            && let Some(entry) = self.entries.remove(&key)
        {
            self.bytes = self.bytes.saturating_sub(entry.state.bytes());
        }
        true
    }
}

impl State {
    fn bytes(&self) -> usize {
        let Self::Answered(kept) = self else { return 0 };
        let fields = kept.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        kept.body.len() + fields.sum::<usize>()
    }
}

impl Claim {
    /// Bytes of an answer's body that would be kept.
    pub(super) fn most(&self) -> usize {
        self.store.bounds.body
    }

    /// The answer, to be given again.
    pub(super) fn answered(mut self, kept: Arc<Kept>, now: Instant) {
        if let Some(key) = self.key.take() {
            self.store.end(key, self.serial, State::Answered(kept), now);
        }
    }

    /// It was done, and its answer is too long to be kept.
    pub(super) fn not_kept(mut self, now: Instant) {
        if let Some(key) = self.key.take() {
            self.store.end(key, self.serial, State::NotKept, now);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.store.free(&key, self.serial);
        }
    }
}

/// Each with its part of the bounds; so many that cores seldom wait for each other, so few that an answer fits into one.
pub const SHARDS: usize = 8;

#[cfg(test)]
mod tests;
