//! How an upstream's endpoints are found, checked and chosen, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::reader::Field;
use crate::config::values::endpoint::{CheckPath, HashField, NameServer};
use crate::config::values::field::FinalStatus;
use crate::config::values::quantity::{Count, Timespan};

/// How requests are spread over endpoints.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Balance {
    /// Each in its turn.
    #[default]
    RoundRobin,
    /// The better of two chosen by chance: latency (peaks count at once) × requests in flight.
    LeastLoaded,
    /// What belongs together goes to the same one, by this key; requests without it, each in its turn.
    ConsistentHash(Field<HashKey>),
}

/// What belongs together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum HashKey {
    /// Requests of one client address.
    Address,
    /// Requests of one principal; of callers without a name, those of one address.
    Principal,
    /// Requests with the same value in this field.
    Field(Field<HashField>),
}

/// How names of endpoints become addresses. All addresses of a name are endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Dns {
    /// The longest time between two look-ups, from `1s` to `5m`; records whose own time is shorter are looked up sooner,
    /// at most every second. Default: 5m.
    pub(in crate::config) refresh: Option<Field<Timespan>>,
    /// The name servers to ask, and nobody else. Default: `/etc/hosts`, then those of `/etc/resolv.conf`.
    pub(in crate::config) servers: Option<Field<Vec<Field<NameServer>>>>,
}

/// Endpoints are asked whether they are usable, on their own protocol and TLS; without credentials.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Health {
    /// What is asked for, by GET.
    pub(in crate::config) path: Field<CheckPath>,
    /// How often; a little sooner, so that gateways do not ask together. Default: 5s.
    pub(in crate::config) every: Option<Field<Timespan>>,
    /// For one check, connection included. Default: 1s.
    pub(in crate::config) timeout: Option<Field<Timespan>>,
    /// An endpoint is used again after so many good checks in a row. Default: 2.
    pub(in crate::config) healthy: Option<Field<Count>>,
    /// An endpoint is left out after so many bad checks in a row; the first check of all decides at once. Default: 3.
    pub(in crate::config) unhealthy: Option<Field<Count>>,
    /// The statuses that are good. Default: 200.
    pub(in crate::config) status: Option<Field<Vec<Field<FinalStatus>>>>,
}

/// What protects an upstream from too much, and its callers from waiting for nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Breaker {
    /// After so many failures in a row, whichever endpoint they came from, requests are refused at once. Default: never.
    pub(in crate::config) failures: Option<Field<Count>>,
    /// So long; then one request is let through and decides. Default: 10s.
    pub(in crate::config) open: Option<Field<Timespan>>,
    /// So many requests at once, each until its answer has ended. Default: no bound.
    pub(in crate::config) requests: Option<Field<Count>>,
    /// Who may wait when there are as many. Default: nobody.
    pub(in crate::config) queue: Option<Field<Queue>>,
}

/// Who may wait for an upstream; callers take turns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Queue {
    /// So many requests, spread evenly over the cores. Default: 100.
    pub(in crate::config) most: Option<Field<Count>>,
    /// So long, then they are shed. Default: 500ms.
    pub(in crate::config) wait: Option<Field<Timespan>>,
}
