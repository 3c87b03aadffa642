//! A connection's place under the caps of its listener, and among those of its core.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use identity::Principal;

use super::Connection;
use crate::core::{Core, CoreId};
use crate::listener::Gate;
use crate::snapshot::Listener;

/// A connection's place under the caps, given back when dropped.
#[derive(Debug)]
pub struct Open {
    listener: Arc<Listener>,
    gate: Arc<Gate>,
    /// Whom it counts for; nobody before that is known.
    address: Option<IpAddr>,
    core: Option<CoreId>,
}

impl Open {
    /// A place for a connection of nobody in particular.
    pub(crate) fn new(core: &Core, listener: &Arc<Listener>) -> Self {
        listener.open.fetch_add(1, Ordering::Relaxed);
        Self { listener: listener.clone(), gate: core.gate.clone(), address: None, core: None }
    }

    /// Charges and counts it for the address that it comes from, unless that has as many as it may.
    #[must_use]
    pub(crate) fn admits(&mut self, core: CoreId, address: IpAddr) -> bool {
        let (listener, nobody) = (&self.listener, Principal::anonymous());
        let is_charged =
            listener.connection_limits.iter().all(|limit| limit.charge(core, address, &nobody, "").is_ok());
        if is_charged && self.gate.enter(&listener.name, address, listener.bounds.connections_per_address) {
            self.address = Some(address);
        }
        self.address.is_some()
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
        if let Some(address) = self.address {
            self.gate.leave(&self.listener.name, address);
        }
        if let Some(core) = self.core {
            self.gate.loads.remove(core);
        }
    }
}

/// A connection among those of its core, until dropped.
pub(super) struct Registered<'a> {
    core: &'a Rc<Core>,
    key: usize,
}

impl<'a> Registered<'a> {
    pub(super) fn new(core: &'a Rc<Core>, connection: &Rc<Connection>) -> Self {
        if core.draining.get() {
            connection.finish();
        }
        Self { core, key: core.connections.borrow_mut().insert(connection.clone()) }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.core.connections.borrow_mut().try_remove(self.key) {
            // Should it never have begun: it holds the connection.
            connection.tunnel.take();
        }
    }
}
