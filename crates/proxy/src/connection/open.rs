//! A connection's place under the caps of its listener.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::core::{Core, CoreId};
use crate::listener::Gate;
use crate::snapshot::Listener;

/// A connection's place under the caps, given back when dropped.
#[derive(Debug)]
pub struct Open {
    listener: Arc<Listener>,
    gate: Arc<Gate>,
    address: IpAddr,
    core: Option<CoreId>,
}

impl Open {
    /// A place for a connection from this address.
    pub(crate) fn new(core: &Core, listener: &Arc<Listener>, address: IpAddr) -> Self {
        listener.open.fetch_add(1, Ordering::Relaxed);
        Self { listener: listener.clone(), gate: core.gate.clone(), address, core: None }
    }

    /// The listener as it was when the connection was accepted.
    pub(super) const fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Counts it for the core that will serve it: `target`, or `here` when that one is ending.
    #[must_use]
    pub(crate) fn on(mut self, target: CoreId, here: CoreId) -> (CoreId, Self) {
        let core = if target != here && self.gate.loads.add(target) {
            target
        } else {
            self.gate.loads.add_own(here);
            here
        };
        self.core = Some(core);
        (core, self)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listener.open.fetch_sub(1, Ordering::Relaxed);
        self.gate.leave(&self.listener.name, self.address);
        if let Some(core) = self.core {
            self.gate.loads.remove(core);
        }
    }
}
