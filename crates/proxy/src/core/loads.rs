//! How many connections each core serves, and which one takes the next.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::CoreId;

/// Open connections per core, for those that accept.
#[derive(Debug)]
pub struct Loads(Vec<Load>);

#[derive(Debug, Default)]
struct Load {
    connections: AtomicUsize,
    /// The core ends: it takes no connection that another one accepted.
    closed: AtomicBool,
}

impl Loads {
    /// No connections on any of `count` cores.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| Load::default()).collect())
    }

    /// Counts a connection in on a core; false when the core ends and does not take it.
    ///
    /// INVARIANT: counted first, looked second, and a core that ends does it the other way round (`close`, then
    /// `connections`): a connection is refused here or waited for there, never lost in between.
    #[must_use]
    pub fn add(&self, core: CoreId) -> bool {
        let Some(load) = self.0.get(core.0) else { return true };
        load.connections.fetch_add(1, Ordering::SeqCst);
        if load.closed.load(Ordering::SeqCst) {
            load.connections.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Counts a connection in on the core that accepted it, which may be ending.
    pub fn add_own(&self, core: CoreId) {
        if let Some(load) = self.0.get(core.0) {
            load.connections.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Counts a connection out.
    pub fn remove(&self, core: CoreId) {
        if let Some(load) = self.0.get(core.0) {
            load.connections.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// From now on the core takes no connection that another one accepted.
    pub fn close(&self, core: CoreId) {
        if let Some(load) = self.0.get(core.0) {
            load.closed.store(true, Ordering::SeqCst);
        }
    }

    /// How many connections a core serves, or is about to.
    #[must_use]
    pub fn connections(&self, core: CoreId) -> usize {
        self.0.get(core.0).map_or(0, |load| load.connections.load(Ordering::SeqCst))
    }

    /// The core that should serve a connection accepted on `here`: another one only if it has clearly less to do,
    /// since moving costs a wake-up.
    #[must_use]
    pub fn choose(&self, here: CoreId) -> CoreId {
        let load = |core: CoreId| match self.0.get(core.0) {
            Some(load) if !load.closed.load(Ordering::Relaxed) => load.connections.load(Ordering::Relaxed),
            _ => usize::MAX,
        };
        let idlest = (0..self.0.len()).map(CoreId).min_by_key(|core| load(*core)).unwrap_or(here);
        let (mine, least) = (load(here), load(idlest));
        if mine > least.saturating_add(least / 8) { idlest } else { here }
    }
}
