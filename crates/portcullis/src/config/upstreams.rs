//! Upstreams in the checked configuration ([`model`](super::model)).

use std::num::NonZeroU32;
use std::time::Duration;

use super::model::{Balance, Endpoint, ExpectedPeer, Name, UpstreamCredentials};

/// A server, or several alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// Its servers, never empty, all of one scheme.
    pub endpoints: Vec<Endpoint>,
    /// How requests are spread over them.
    pub balance: Balance,
    /// When one is left out; `None` is never.
    pub ejection: Option<Ejection>,
    /// How many percent of the requests may be sent again.
    pub retry_budget: u8,
    /// TLS; `None` for plain HTTP.
    pub tls: Option<UpstreamTls>,
    /// Time to connect.
    pub connect: Duration,
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
