//! The addresses of an upstream: written in the configuration, or what names resolve to just now.
//!
//! A request takes one [`EndpointSet`] and is tried within it. A set is never changed, only exchanged for another one.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tls::ClientTls;

use super::affinity::hash;
use super::{Health, PoolKey};

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What metrics, log and status call it.
    pub name: Arc<str>,
    /// A DNS name or an address, IPv6 without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// Where connections go, tried one after the other; empty is whatever the host resolves to at that moment.
    pub addresses: Vec<SocketAddr>,
    /// TLS, or plain HTTP.
    pub tls: Option<Arc<ClientTls>>,
    /// The pool that connections to it are kept in.
    pub pool: PoolKey,
    /// How it does; unused where it is the only one.
    pub health: Arc<Health>,
}

/// Endpoints that stand in for each other.
#[derive(Debug)]
pub struct EndpointSet {
    entries: Vec<Endpoint>,
    /// A number for the name of each.
    numbers: Vec<u64>,
    floor: usize,
}

impl EndpointSet {
    /// Of these no more than `out` percent are left out: if more should be, all are asked.
    #[must_use]
    pub fn new(entries: Vec<Endpoint>, out: u8) -> Self {
        let out = entries.len() * usize::from(out) / 100;
        let floor = entries.len().saturating_sub(out);
        let numbers = entries.iter().map(|endpoint| hash(endpoint.name.as_bytes())).collect();
        Self { entries, numbers, floor }
    }

    /// With fewer usable endpoints than this all of them are used.
    pub(super) const fn floor(&self) -> usize {
        self.floor
    }

    /// The number of the endpoint at this place, which depends on nothing but its name.
    pub(super) fn number(&self, place: usize) -> u64 {
        self.numbers.get(place).copied().unwrap_or_default()
    }
}

impl Deref for EndpointSet {
    type Target = [Endpoint];

    fn deref(&self) -> &[Endpoint] {
        &self.entries
    }
}

/// The endpoints of an upstream.
#[derive(Debug)]
pub enum Endpoints {
    /// As they were configured, for as long as this configuration serves.
    Fixed(EndpointSet),
    /// As names resolve.
    Resolved(ArcSwap<EndpointSet>),
}

impl Endpoints {
    /// Those of this moment.
    #[must_use]
    pub fn now(&self) -> Now<'_> {
        match self {
            Self::Fixed(set) => Now::Fixed(set),
            Self::Resolved(set) => Now::Resolved(set.load_full()),
        }
    }
}

/// The endpoints of one moment.
#[derive(Debug)]
pub enum Now<'a> {
    /// They never change.
    Fixed(&'a EndpointSet),
    /// Others may have taken their place by now.
    Resolved(Arc<EndpointSet>),
}

impl Deref for Now<'_> {
    type Target = EndpointSet;

    fn deref(&self) -> &EndpointSet {
        match self {
            Self::Fixed(set) => set,
            Self::Resolved(set) => set,
        }
    }
}
