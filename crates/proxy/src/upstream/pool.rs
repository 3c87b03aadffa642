//! Unused connections of one core.

use std::collections::{HashSet, VecDeque};

use hashbrown::HashMap;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::body::RequestBody;

/// Stands for one combination of address, server name, expected identity, trust, client certificate and protocol.
///
/// Whoever builds snapshots hands out the same key for the same combination and never for another one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PoolKey(pub u64);

/// The pools of one core.
#[derive(Debug, Default)]
pub struct Pools {
    pools: HashMap<PoolKey, Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// The material that its connections were made with.
    material: u64,
    idle: VecDeque<Idle>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    until: Instant,
}

impl Pools {
    /// An unused connection that was made with this material.
    pub(super) fn take(&mut self, key: PoolKey, material: u64) -> Option<SendRequest<RequestBody>> {
        let pool = self.pools.get_mut(&key)?;
        if pool.material != material {
            pool.idle.clear();
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

    /// Keeps a connection for the next request.
    pub(super) fn put(
        &mut self,
        key: PoolKey,
        material: u64,
        sender: SendRequest<RequestBody>,
        until: Instant,
        most: usize,
    ) {
        let pool = self.pools.entry(key).or_default();
        if pool.material != material {
            pool.idle.clear();
            pool.material = material;
        }
        if pool.idle.len() < most && !sender.is_closed() {
            pool.idle.push_back(Idle { sender, until });
        }
    }

    /// Closes what waited too long, was closed by the upstream, or belongs to no upstream any more.
    pub fn sweep(&mut self, now: Instant, live: &HashSet<PoolKey>) {
        self.pools.retain(|key, pool| {
            pool.idle.retain(|idle| idle.until > now && !idle.sender.is_closed());
            live.contains(key) && !pool.idle.is_empty()
        });
    }
}

/// How many connections are looked at before a new one is made.
const LOOK: usize = 4;
