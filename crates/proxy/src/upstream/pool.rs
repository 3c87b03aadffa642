//! Connections of one core that take requests: unused ones of HTTP/1.1, and all of HTTP/2.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Material;
use super::http1::Http1;
use super::http2::{Shared, Stream};
use crate::addresses::Addresses;
use crate::core::Core;

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
    /// Of HTTP/1.1.
    idle: VecDeque<Idle>,
    /// Of HTTP/2, with how long they may have no stream.
    shared: Vec<(Rc<Shared>, Duration)>,
    /// A connection that others may share is being made.
    opening: Option<Rc<Opening>>,
    /// Its endpoint agreed on HTTP/1.1 the last time.
    is_alone: bool,
}

/// A connection that a request may be sent on.
#[derive(Debug)]
pub(super) enum Sender {
    /// HTTP/1.1, for one request at a time.
    Http1(Rc<RefCell<Http1>>),
    /// One stream of HTTP/2.
    Http2(Stream),
}

/// A connection in the making, which others wait for.
#[derive(Debug, Default)]
pub(super) struct Opening {
    ended: Notify,
    /// There is none.
    pub(super) failed: Cell<bool>,
}

impl Opening {
    /// When it has come to an end, whatever that is. Asked for before anything else happens on the core, it misses none.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }
}

/// Who makes the next connection of a pool.
#[derive(Debug)]
pub(super) enum Turn {
    /// Whoever asked; others wait until this is dropped.
    Mine(Opener),
    /// Somebody else is about to.
    Theirs(Rc<Opening>),
    /// Everybody for themselves: a connection takes one request.
    Alone,
}

/// Makes a connection that others wait for.
#[derive(Debug)]
pub(super) struct Opener {
    core: Rc<Core>,
    pool: u64,
    pub(super) opening: Rc<Opening>,
}

impl Drop for Opener {
    fn drop(&mut self) {
        if let Some(pool) = self.core.pools.borrow_mut().pools.get_mut(&self.pool) {
            pool.opening.take_if(|opening| Rc::ptr_eq(opening, &self.opening));
        }
        self.opening.ended.notify_waiters();
    }
}

#[derive(Debug)]
struct Idle {
    /// Whose it is, where that was announced.
    client: Option<Addresses>,
    connection: Rc<RefCell<Http1>>,
    until: Instant,
}

impl Pools {
    /// A connection that was made with the material of this number, of which `now` tells the number, and on which this client
    /// was announced, if any is. Where unused ones may be dead, only a shared one.
    pub(super) fn take(
        &mut self,
        key: &PoolKey,
        material: u64,
        client: Option<Addresses>,
        is_stale: bool,
        now: impl Fn() -> Material,
    ) -> Option<Sender> {
        let empty = || Pool::new(key.downgrade(), material, now());
        let pool = self.pools.entry(key.number()).or_insert_with(empty);
        if pool.material != material {
            *pool = empty();
            return None;
        }
        if !pool.shared.is_empty()
            && let Some(stream) = pool.stream()
        {
            return Some(Sender::Http2(stream));
        }
        if is_stale {
            return None;
        }
        if client.is_some() {
            return pool.of(client).map(Sender::Http1);
        }
        // Of an upstream that was started anew all may have ended.
        for _ in 0..LOOK {
            let Idle { connection, .. } = pool.idle.pop_back()?;
            if connection.borrow_mut().is_ready() {
                return Some(Sender::Http1(connection));
            }
        }
        None
    }

    /// Keeps a connection for the next request, if it was [taken](Self::take) from a pool that is still there.
    pub(super) fn put(
        &mut self,
        number: u64,
        (material, client): (u64, Option<Addresses>),
        connection: Rc<RefCell<Http1>>,
        until: Instant,
        most: usize,
    ) {
        let Some(pool) = self.pools.get_mut(&number) else { return };
        pool.is_alone = true;
        if pool.material != material {
            return;
        }
        // Who was announced on the oldest one may be gone long since: nobody else can use it.
        if client.is_some() && pool.idle.len() >= most {
            pool.idle.pop_front();
        }
        if pool.idle.len() < most {
            pool.idle.push_back(Idle { client, connection, until });
        }
    }

    /// Lets others share a connection, and gives its first stream.
    pub(super) fn share(
        &mut self,
        number: u64,
        material: u64,
        shared: &Rc<Shared>,
        idle: Duration,
    ) -> Option<Stream> {
        if let Some(pool) = self.pools.get_mut(&number)
            && pool.material == material
        {
            pool.is_alone = false;
            pool.shared.push((shared.clone(), idle));
        }
        shared.stream(true)
    }

    /// Who makes the next connection.
    pub(super) fn turn(&mut self, core: &Rc<Core>, number: u64) -> Turn {
        let Some(pool) = self.pools.get_mut(&number).filter(|pool| !pool.is_alone) else {
            return Turn::Alone;
        };
        if let Some(opening) = &pool.opening {
            return Turn::Theirs(opening.clone());
        }
        let opening: Rc<Opening> = Rc::default();
        pool.opening = Some(opening.clone());
        Turn::Mine(Opener { core: core.clone(), pool: number, opening })
    }

    /// Closes what waited too long, was closed by the upstream, was made with material that was replaced or withdrawn, or
    /// belongs to no upstream any more. Streams of shared connections may end.
    pub fn sweep(&mut self, now: Instant) {
        self.pools.retain(|_, pool| {
            let is_current = pool.now.number() == pool.material;
            pool.idle
                .retain(|idle| is_current && idle.until > now && idle.connection.borrow_mut().is_ready());
            pool.shared
                .retain(|(shared, idle)| is_current && shared.is_open() && !shared.is_idle(now, *idle));
            pool.key.is_held()
        });
    }
}

impl Pool {
    fn new(key: WeakPoolKey, material: u64, now: Material) -> Self {
        let (idle, shared) = (VecDeque::new(), Vec::new());
        Self { key, material, now, idle, shared, opening: None, is_alone: false }
    }

    /// The connection that came back last of those on which this client was announced.
    fn of(&mut self, client: Option<Addresses>) -> Option<Rc<RefCell<Http1>>> {
        let is_its = |idle: &Idle| idle.client == client && idle.connection.borrow_mut().is_ready();
        let place = self.idle.iter().rposition(is_its)?;
        Some(self.idle.remove(place)?.connection)
    }

    /// A stream of the first connection that has room.
    fn stream(&mut self) -> Option<Stream> {
        self.shared.retain(|(shared, _)| shared.is_open());
        self.shared.iter().find_map(|(shared, _)| shared.stream(false))
    }
}

/// How many connections are looked at before a new one is made.
const LOOK: usize = 4;
