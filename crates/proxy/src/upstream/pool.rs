//! Unused connections of one core.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::Material;
use crate::body::RequestBody;

/// Stands for one combination of address, server name, expected identity, trust, client certificate and protocol.
///
/// Whoever builds snapshots hands out the same key for the same combination and never for another one. A pool lives as long as
/// anybody holds its key.
#[derive(Clone, Debug)]
pub struct PoolKey(Arc<u64>);

impl PoolKey {
    /// The key with this number, of which there is one.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(Arc::new(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        *self.0
    }

    /// A key that keeps no pool alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakPoolKey {
        WeakPoolKey(Arc::downgrade(&self.0))
    }
}

/// A key as long as somebody else holds it.
#[derive(Clone, Debug)]
pub struct WeakPoolKey(Weak<u64>);

impl WeakPoolKey {
    /// The key, if anybody still holds it.
    #[must_use]
    pub fn upgrade(&self) -> Option<PoolKey> {
        self.0.upgrade().map(PoolKey)
    }

    /// True as long as [`WeakPoolKey::upgrade`] gives something.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// The pools of one core.
#[derive(Debug, Default)]
pub struct Pools {
    pools: HashMap<u64, Pool>,
}

#[derive(Debug)]
struct Pool {
    key: WeakPoolKey,
    /// The number of the material that its connections were made with.
    material: u64,
    /// Tells the number of what they would be made with now.
    now: Material,
    idle: VecDeque<Idle>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    until: Instant,
}

impl Pools {
    /// An unused connection that was made with the material of this number, of which `now` tells the number.
    pub(super) fn take(
        &mut self,
        key: &PoolKey,
        material: u64,
        now: impl Fn() -> Material,
    ) -> Option<SendRequest<RequestBody>> {
        let empty = || Pool { key: key.downgrade(), material, now: now(), idle: VecDeque::new() };
        let pool = self.pools.entry(key.number()).or_insert_with(empty);
        if pool.material != material {
            *pool = empty();
            return None;
        }
        // The connection that came back last may still be finishing: look a little further.
        for _ in 0..LOOK {
            let idle = pool.idle.pop_back()?;
            if idle.sender.is_ready() {
                return Some(idle.sender);
            }
            if !idle.sender.is_closed() {
                pool.idle.push_front(idle);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if it was [taken](Self::take) from a pool that is still there.
    pub(super) fn put(
        &mut self,
        number: u64,
        material: u64,
        sender: SendRequest<RequestBody>,
        until: Instant,
        most: usize,
    ) {
        let Some(pool) = self.pools.get_mut(&number) else { return };
        if pool.material == material && pool.idle.len() < most && !sender.is_closed() {
            pool.idle.push_back(Idle { sender, until });
        }
    }

    /// Closes what waited too long, was closed by the upstream, was made with material that was replaced or withdrawn, or
    /// belongs to no upstream any more.
    pub fn sweep(&mut self, now: Instant) {
        self.pools.retain(|_, pool| {
            let is_current = pool.now.number() == pool.material;
            pool.idle.retain(|idle| is_current && idle.until > now && !idle.sender.is_closed());
            pool.key.is_held()
        });
    }
}

/// How many connections are looked at before a new one is made.
const LOOK: usize = 4;
