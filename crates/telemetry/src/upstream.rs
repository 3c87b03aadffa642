//! The series of one upstream, and what the control runtime knows of its endpoints.

use std::sync::Mutex;

use crate::metrics::lock;
use crate::per_core::{Counter, NOBODY, Words};

/// How one endpoint does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointState {
    /// What it is called.
    pub name: String,
    /// Whether it is used.
    pub is_usable: bool,
}

/// How an upstream's circuit and bulkhead stand; nothing where it has none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pressure {
    /// Whether the circuit is not closed.
    pub is_open: Option<bool>,
    /// Requests at once.
    pub in_flight: Option<usize>,
    /// Requests that wait.
    pub waiting: Option<usize>,
}

/// What became of connections and requests to an upstream.
#[derive(Debug)]
pub struct UpstreamSeries {
    pub(crate) connects: Words,
    pub(crate) requests: Words,
    pub(crate) retries: Words,
    pub(crate) over_budget: Counter,
    pub(crate) ejections: Counter,
    pub(crate) sheds: Words,
    pub(crate) openings: Counter,
    pub(crate) checks: Words,
    pub(crate) endpoints: Mutex<Vec<EndpointState>>,
    pub(crate) pressure: Mutex<Pressure>,
}

impl UpstreamSeries {
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            connects: Words::new(cores),
            requests: Words::new(cores),
            retries: Words::new(cores),
            over_budget: Counter::new(cores),
            ejections: Counter::new(cores),
            sheds: Words::new(cores),
            openings: Counter::new(cores),
            checks: Words::new(cores),
            endpoints: Mutex::default(),
            pressure: Mutex::default(),
        }
    }

    /// Counts an attempt to connect, by its result (`ok`, `refused`, `timeout`, `no_material`, `no_http2`).
    pub fn connected(&self, core: usize, result: &'static str) {
        self.connects.add(core, result);
    }

    /// Counts a request, by its result (`ok`, `retried`, `timeout`, `client`, `protocol`).
    pub fn requested(&self, core: usize, result: &'static str) {
        self.requests.add(core, result);
    }

    /// Counts a request that is sent again, by why (`stale`, `not_connected`, `not_sent`, `unprocessed`, `refused`, `died`, `slow`).
    pub fn retried(&self, core: usize, why: &'static str) {
        self.retries.add(core, why);
    }

    /// Counts a request that is not sent again because too many were.
    pub fn over_budget(&self, core: usize) {
        self.over_budget.add(core);
    }

    /// Counts an endpoint that is left out from now on.
    pub fn ejected(&self, core: usize) {
        self.ejections.add(core);
    }

    /// Takes over which endpoints are used; for a tick of the control runtime.
    pub fn endpoints(&self, endpoints: Vec<EndpointState>) {
        *lock(&self.endpoints) = endpoints;
    }

    /// Takes over how the circuit and the bulkhead stand; for a tick of the control runtime.
    pub fn pressed(&self, pressure: Pressure) {
        *lock(&self.pressure) = pressure;
    }

    /// Counts a request that is refused before it is sent, by why (`circuit_open`, `queue_full`, `queue_time`).
    pub fn shed(&self, core: usize, why: &'static str) {
        self.sheds.add(core, why);
    }

    /// Counts a circuit that opened.
    pub fn opened(&self, core: usize) {
        self.openings.add(core);
    }

    /// Counts an active check, by its result (`ok`, `failed`).
    pub fn checked(&self, result: &'static str) {
        self.checks.add(NOBODY, result);
    }
}
