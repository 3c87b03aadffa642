//! Upstreams: where permitted requests go.
//!
//! Each core has a pool of its own. A pool's key includes every piece of identity (address, server name, trust,
//! client certificate, protocol), so that two routes never share a connection that proves another identity. What a field
//! proves is swapped with the pool: connections that were made under a former credential are not used again.
//!
//! Several [`endpoints`] stand in for each other: which one is asked [`balance`] says, which one is left out [`health`], and how
//! much may be tried twice [`budget`]. An only endpoint costs none of that. [`admission`] says whether an upstream is asked at all.

mod admission;
mod affinity;
mod announce;
mod balance;
mod budget;
mod bulkhead;
mod check;
mod circuit;
mod connect;
mod credential;
mod endpoints;
mod fair;
mod health;
mod http1;
mod http2;
mod pool;
mod send;
mod spare;

use std::sync::Arc;
use std::time::Duration;

use identity::Principal;
use telemetry::UpstreamSeries;
use tls::{ClientTls, Slot};
use tokio::time::Instant;

use crate::addresses::Addresses;
use crate::core::Core;
use crate::refusal::Refusal;

pub use admission::Breaker;
pub use affinity::HashKey;
pub use announce::ProxyHeader;
pub use balance::{Balance, Balancing};
pub use budget::Budget;
pub use bulkhead::{Bulkhead, BulkheadRules, QueueRules, Queues};
pub use check::{Check, CheckError};
pub use circuit::{Circuit, CircuitRules, CircuitState};
pub use credential::{CredentialError, CredentialWriter, FieldCredential};
pub use endpoints::{Endpoint, EndpointSet, Endpoints};
pub use health::{Ejection, Health, HealthState, Turn};
pub(crate) use http1::Transport;
pub(crate) use http1::field;
pub use http1::{AnswerError, ExchangeError, Http1Body, Reading, UpstreamBody};
pub use pool::{PoolKey, Pools, WeakPoolKey};
pub use send::{Answer, Returning, send};

/// A named upstream.
#[derive(Debug)]
pub struct Upstream {
    /// The name from the configuration.
    pub name: Arc<str>,
    /// Alike.
    pub endpoints: Endpoints,
    /// What it is shown in a field of every request.
    pub credential: Option<Slot<FieldCredential>>,
    /// What connections to it speak.
    pub protocol: Protocol,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How long a connection may wait unused.
    pub idle: Duration,
    /// How many unused connections each core keeps per endpoint.
    pub idle_per_core: usize,
    /// Its metrics.
    pub series: Arc<UpstreamSeries>,
    /// How its endpoints are used.
    pub balancing: Balancing,
    /// What stands at its door.
    pub breaker: Option<Breaker>,
}

/// Whom a request is sent for: requests of one origin can be kept together or apart.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// Where its client is, and what that connected to.
    pub addresses: Addresses,
}

/// What connections are made with or carry: certificate, trust, and the credential of their requests.
#[derive(Clone, Debug)]
pub(crate) struct Material {
    tls: Option<Arc<ClientTls>>,
    credential: Option<Slot<FieldCredential>>,
}

impl Material {
    /// Changes when one of them is replaced or withdrawn.
    fn number(&self) -> u64 {
        number(self.tls.as_deref(), self.credential.as_ref())
    }
}

/// The sum of two numbers that only grow changes with either.
fn number(tls: Option<&ClientTls>, credential: Option<&Slot<FieldCredential>>) -> u64 {
    tls.map_or(0, ClientTls::generation).wrapping_add(credential.map_or(0, Slot::generation))
}

/// What connections to an upstream speak.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/1.1, on connections that say first whose they are.
    Announced(ProxyHeader),
    /// HTTP/2: over TLS by ALPN, and with prior knowledge (RFC 9113 section 3.3) without it.
    Http2,
    /// What ALPN says; HTTP/1.1 without TLS.
    Negotiate,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// To connect to one endpoint and get the head of its response; then another one may be asked.
    pub attempt: Option<Duration>,
    /// From the request to the head of the response.
    pub response: Duration,
    /// Between two pieces of a response.
    pub idle: Duration,
    /// From the request to the end of the response; none for streams.
    pub whole: Option<Duration>,
}

impl Timeouts {
    /// For a connection.
    fn to_connect(self) -> Duration {
        self.attempt.map_or(self.connect, |attempt| attempt.min(self.connect))
    }
}

impl Protocol {
    /// Whom a connection for this client is announced as belonging to, and how; nobody, mostly.
    fn announces(self, addresses: Addresses) -> Option<(ProxyHeader, Addresses)> {
        match self {
            Self::Announced(header) => Some((header, addresses)),
            Self::Http1 | Self::Http2 | Self::Negotiate => None,
        }
    }

    /// False where a connection takes one request at a time.
    const fn is_shared(self) -> bool {
        matches!(self, Self::Http2 | Self::Negotiate)
    }
}

impl Upstream {
    /// What it is shown now.
    ///
    /// # Errors
    /// When there should be a credential and is none.
    pub(crate) fn shown(&self) -> Result<Option<Arc<FieldCredential>>, Refusal> {
        let Some(slot) = &self.credential else { return Ok(None) };
        let missing = || Refusal::CredentialUnavailable { upstream: self.name.to_string() };
        slot.load().map(Some).ok_or_else(missing)
    }

    /// What connections to `endpoint` are made with or carry.
    fn material(&self, endpoint: &Endpoint) -> Material {
        Material { tls: endpoint.tls.clone(), credential: self.credential.clone() }
    }

    /// Its number, see [`Material::number`].
    fn material_number(&self, endpoint: &Endpoint) -> u64 {
        number(endpoint.tls.as_deref(), self.credential.as_ref())
    }

    /// Takes note that an endpoint answered.
    fn answered(&self, core: &Core, endpoints: &EndpointSet, endpoint: &Endpoint, began: Option<Instant>) {
        self.series.requested(core.id.index(), "ok");
        if endpoints.len() > 1 {
            endpoint.health.succeeded();
            if let Some(began) = began {
                let now = Instant::now();
                endpoint.health.took(now.saturating_duration_since(began), now);
            }
        }
    }

    /// Counts a request that is sent again; it is stale if a reused connection had died under it.
    fn retried(&self, core: &Core, is_stale: bool) {
        self.series.requested(core.id.index(), "retried");
        if is_stale {
            self.series.retried(core.id.index(), "stale");
        }
    }

    /// Takes note that an endpoint failed, which may eject it.
    fn failed(&self, core: &Core, endpoints: &EndpointSet, endpoint: &Endpoint) {
        let Some(ejection) = self.balancing.ejection.filter(|_| endpoints.len() > 1) else { return };
        if endpoint.health.failed(&ejection, Instant::now()) {
            self.series.ejected(core.id.index());
            let seconds = ejection.time.as_secs();
            tracing::warn!(upstream = %self.name, endpoint = %endpoint.name, seconds, "ejected");
        }
    }

    /// Now, where latency counts.
    fn stopwatch(&self) -> Option<Instant> {
        (self.balancing.balance == Balance::LeastLoaded).then(Instant::now)
    }
}
