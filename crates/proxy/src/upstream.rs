//! Upstreams: where permitted requests go.
//!
//! Each core has a pool of its own. A pool's key includes every piece of identity (address, server name, trust,
//! client certificate, protocol), so that two routes never share a connection that proves another identity. What a field
//! proves is swapped with the pool: connections that were made under a former credential are not used again.

mod connect;
mod credential;
mod pool;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use telemetry::UpstreamSeries;
use tls::{ClientTls, Slot};

use crate::refusal::Refusal;

pub use credential::{CredentialError, CredentialWriter, FieldCredential};
pub use pool::{PoolKey, Pools};
pub use send::{Answer, Returning, send};

/// A named upstream.
#[derive(Debug)]
pub struct Upstream {
    /// The name from the configuration.
    pub name: Arc<str>,
    /// Taken in turn; never empty.
    pub endpoints: Vec<Endpoint>,
    /// What it is shown in a field of every request.
    pub credential: Option<Slot<FieldCredential>>,
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

/// How long each step may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// From the request to the head of the response.
    pub response: Duration,
    /// Between two pieces of a response.
    pub idle: Duration,
    /// From the request to the end of the response; none for streams.
    pub whole: Option<Duration>,
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

    /// Changes when what connections to `endpoint` are made with or carry changes.
    fn material(&self, endpoint: &Endpoint) -> u64 {
        let tls = endpoint.tls.as_ref().map_or(0, |tls| tls.generation());
        // The sum of two numbers that only grow changes with either.
        self.credential.as_ref().map_or(tls, |slot| tls.wrapping_add(slot.generation()))
    }

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
