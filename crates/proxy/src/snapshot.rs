//! The one snapshot: the compiled configuration, loaded once per request, published whole or not at all.
//!
//! It holds handles to material slots, not material, so that a renewal is no reload; limiter buckets, key stores
//! and metrics of what did not change live on in the next generation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use identity::jwks::KeyStore;
use ipnet::IpNet;
use policy::{Engine, RouteIndex};
use telemetry::ListenerSeries;
use tls::ServerTls;

use crate::limits::RouteLimit;
use crate::normalize::fields::Reserved;
use crate::route::{Route, Router};
use crate::validate::{Protocol, Validate};

/// One generation of the configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up from 1.
    pub generation: u64,
    /// By name.
    pub listeners: HashMap<Arc<str>, Arc<Listener>>,
    /// In the order of their [`RouteIndex`].
    pub routes: Vec<Route>,
    /// Decides.
    pub engine: Arc<Engine>,
    /// Names that only the gateway may set.
    pub reserved: Arc<Reserved>,
    /// The keys of all token issuers: when they change, live leases are looked at again.
    pub keys: Vec<KeyStore>,
}

impl Snapshot {
    /// The route at a place that a [`Router`] of this snapshot gave.
    #[must_use]
    pub fn route(&self, index: RouteIndex) -> Option<&Route> {
        self.routes.get(usize::try_from(index.0).ok()?)
    }
}

/// A listener as the request path sees it.
#[derive(Debug)]
pub struct Listener {
    /// The name from the configuration.
    pub name: Arc<str>,
    /// TLS, or plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// A plain listener that only sends clients to TLS, on this port.
    pub redirect: Option<u16>,
    /// A listener that only answers other proxies whether a request may pass.
    pub validate: Option<Validate>,
    /// What a peer may grow, and how long it may take.
    pub bounds: Bounds,
    /// Whether a proxy in front says whose connection it passes on.
    pub proxy_protocol: ProxyProtocol,
    /// Whose forwarding fields count, and whose word for whose connection it is.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits by address, charged for each new connection.
    pub connection_limits: Vec<RouteLimit>,
    /// Its routes.
    pub router: Router,
    /// Its metrics.
    pub series: Arc<ListenerSeries>,
    /// Open connections on all cores; lives on across generations.
    pub open: Arc<AtomicUsize>,
}

impl Listener {
    /// True where HTTP/2 is spoken without TLS, and nothing else: Envoy asks so.
    #[must_use]
    pub fn speaks_h2c(&self) -> bool {
        self.tls.is_none()
            && self.validate.as_ref().is_some_and(|asking| asking.protocol == Protocol::ExtAuthz)
    }

    /// True when this peer's forwarding fields are evidence.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// They do, and come from trusted proxies only.
    Required,
}

/// What a peer may grow, and how long it may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Open connections on the listener.
    pub connections: usize,
    /// Open connections per client address (per /64 for IPv6).
    pub connections_per_address: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Bytes of a request head.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub header_count: usize,
    /// Time for a request head.
    pub header_timeout: Duration,
    /// Bytes of a request target.
    pub uri_bytes: usize,
    /// Time without a request after which a connection is closed.
    pub idle: Duration,
    /// Concurrent HTTP/2 streams of a connection.
    pub streams: u32,
    /// Bytes of a request body.
    pub body_bytes: u64,
    /// Bytes per second below which a request body is cut off, after a grace of five seconds.
    pub body_rate: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 1_000,
            handshake: Duration::from_secs(5),
            header_bytes: 32 * 1024,
            header_count: 100,
            header_timeout: Duration::from_secs(10),
            uri_bytes: 8 * 1024,
            idle: Duration::from_secs(60),
            streams: 128,
            body_bytes: 64 * 1024 * 1024,
            body_rate: 1024,
        }
    }
}
