//! Upstreams in the checked configuration ([`model`](super::model)).

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, StatusCode};
use proxy::upstream::ProxyHeader;

use super::model::{Endpoint, ExpectedPeer, Name, Protocol, UpstreamCredentials};

/// A server, or several alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// Its servers, never empty, all of one scheme.
    pub endpoints: Vec<Endpoint>,
    /// How names among them become addresses.
    pub dns: Dns,
    /// What connections speak.
    pub protocol: Protocol,
    /// How clients are announced to it; `None` is not at all. Only with HTTP/1.1.
    pub proxy_protocol: Option<ProxyHeader>,
    /// How requests are spread over them.
    pub balance: Balance,
    /// When one is left out; `None` is never.
    pub ejection: Option<Ejection>,
    /// How they are checked; `None` is not.
    pub health: Option<HealthChecks>,
    /// How long one that came (back) takes less than its share.
    pub slow_start: Option<Duration>,
    /// What stands at the door.
    pub breaker: Option<Breaker>,
    /// How many percent of the requests may be sent again.
    pub retry_budget: u8,
    /// TLS; `None` for plain HTTP.
    pub tls: Option<UpstreamTls>,
    /// Time to connect.
    pub connect: Duration,
    /// Time for one endpoint to connect and begin its response.
    pub attempt: Option<Duration>,
    /// Time until the response begins.
    pub response: Duration,
    /// Between two pieces of a response.
    pub response_idle: Duration,
    /// Time for the whole.
    pub request: Option<Duration>,
    /// How long an unused connection is kept.
    pub pool_idle: Duration,
    /// How many are kept on each core.
    pub pool_per_core: NonZeroU32,
    /// What the gateway shows it in a field of every request.
    pub credentials: Option<UpstreamCredentials>,
}

/// How names become addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dns {
    /// The longest time between two look-ups.
    pub refresh: Duration,
    /// Who is asked; empty is whom the machine asks.
    pub servers: Vec<SocketAddr>,
}

/// How requests are spread over endpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Balance {
    /// Each in its turn.
    RoundRobin,
    /// The less loaded of two.
    LeastLoaded,
    /// What has the same key goes to the same one.
    ConsistentHash(HashKey),
}

/// What keeps requests together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// The client's address.
    Address,
    /// Who calls.
    Principal,
    /// The value of this field.
    Field(HeaderName),
}

/// How endpoints are checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthChecks {
    /// What is asked for.
    pub path: PathAndQuery,
    /// How often.
    pub every: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Good checks in a row that bring one back.
    pub healthy: NonZeroU32,
    /// Bad checks in a row that leave one out.
    pub unhealthy: NonZeroU32,
    /// What is good.
    pub statuses: Vec<StatusCode>,
}

/// What stands at the door of an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Breaker {
    /// When it is left alone; `None` is never.
    pub circuit: Option<Circuit>,
    /// How many requests at once; `None` is as many as come.
    pub requests: Option<NonZeroU32>,
    /// Who may wait; `None` is nobody.
    pub queue: Option<Queue>,
}

/// When an upstream is left alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Circuit {
    /// After so many failures in a row.
    pub failures: NonZeroU32,
    /// For so long.
    pub open: Duration,
}

/// Who may wait for an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Queue {
    /// So many.
    pub most: NonZeroU32,
    /// So long.
    pub wait: Duration,
}

/// When a failing endpoint is left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// After so many failures in a row.
    pub failures: NonZeroU32,
    /// For so long.
    pub time: Duration,
    /// If more than so many percent are out, all are asked.
    pub at_most: u8,
}

/// TLS to an upstream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UpstreamTls {
    /// The certificate to show.
    pub present: Option<Name>,
    /// Trust entries; `None` is the machine's trust store.
    pub trust: Option<Vec<Name>>,
    /// Whom it must prove to be; `None` is the SNI's name.
    pub expect: Option<ExpectedPeer>,
    /// The SNI; `None` is the endpoint's host.
    pub sni: Option<String>,
}
