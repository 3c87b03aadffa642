//! Upstreams: where permitted requests go.
//!
//! Each core has a pool of its own. A pool's key includes every piece of identity (address, server name, trust,
//! client certificate, protocol), so that two routes never share a connection that proves another identity.

mod connect;
mod pool;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use telemetry::UpstreamSeries;
use tls::ClientTls;

pub use pool::{PoolKey, Pools};
pub use send::{Answer, Returning, send};

/// A named upstream.
#[derive(Debug)]
pub struct Upstream {
    /// The name from the configuration.
    pub name: Arc<str>,
    /// Taken in turn; never empty.
    pub endpoints: Vec<Endpoint>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How long a connection may wait unused.
    pub idle: Duration,
    /// How many unused connections each core keeps per endpoint.
    pub idle_per_core: usize,
    /// Its metrics.
    pub series: Arc<UpstreamSeries>,
    /// Counts the requests of all cores, for whose turn it is.
    pub turn: AtomicUsize,
}

/// One address of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// A DNS name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// TLS, or plain HTTP.
    pub tls: Option<Arc<ClientTls>>,
    /// The pool that connections to it are kept in.
    pub pool: PoolKey,
}

impl Endpoint {
    /// Changes when the material behind new connections changes.
    fn material(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.generation())
    }
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// From the request to the head of the response.
    pub response: Duration,
    /// From the request to the end of the response; none for streams.
    pub whole: Option<Duration>,
}

impl Upstream {
    /// The endpoint whose turn it is.
    fn next(&self) -> Option<&Endpoint> {
        match self.endpoints.as_slice() {
            [only] => Some(only),
            several => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                several.get(turn.checked_rem(several.len())?)
            }
        }
    }
}
