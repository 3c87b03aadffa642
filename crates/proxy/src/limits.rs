//! Limits on the request path: what a bucket is keyed by, and the refusal when it is empty.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use identity::Principal;
use limit::Buckets;
use telemetry::LimitSeries;

use crate::core::CoreId;
use crate::refusal::{RateLimited, Refusal};

/// What a limit counts by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LimitKey {
    /// The client's address; an IPv6 client is its /64.
    Address,
    /// A mapped claim; all callers without it share one bucket.
    Claim(String),
    /// The principal's id.
    Principal,
    /// The route: one bucket for everybody.
    Route,
}

/// A limit as a route or listener uses it. Buckets are shared by all cores and live across generations.
#[derive(Clone, Debug)]
pub struct RouteLimit {
    /// The name from the configuration.
    pub name: Arc<str>,
    /// What it counts by.
    pub key: LimitKey,
    /// The buckets.
    pub buckets: Arc<Buckets>,
    /// Its metrics.
    pub series: Arc<LimitSeries>,
}

impl RouteLimit {
    /// Takes one from the caller's bucket.
    ///
    /// # Errors
    /// When the bucket is empty.
    pub fn charge(
        &self,
        core: CoreId,
        address: IpAddr,
        principal: &Principal,
        route: &str,
    ) -> Result<(), Refusal> {
        let verdict = match &self.key {
            LimitKey::Address => self.buckets.check(&Network::of(address)),
            LimitKey::Claim(name) => self.buckets.check(&Claim(principal.claims.get(name))),
            LimitKey::Principal => self.buckets.check(&principal.id),
            LimitKey::Route => self.buckets.check(route),
        };
        if verdict.allowed {
            return Ok(());
        }
        self.series.rejected(core.index());
        Err(Refusal::RateLimited(Box::new(RateLimited {
            name: self.name.to_string(),
            retry_after: verdict.retry_after_seconds().unwrap_or(1),
            fields: limit::fields(&self.name, self.buckets.quota(), &verdict),
        })))
    }
}

/// An IPv4 address, or the /64 that one IPv6 client can hop around in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Network(u128);

impl Network {
    /// The network that an address is counted as.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u128::from(u32::from(v4))),
            IpAddr::V6(v6) => Self(u128::from(v6) >> 64 << 64 | 1 << 32),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

struct Claim<'a>(Option<&'a identity::ClaimValue>);

impl Hash for Claim<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        use identity::ClaimValue::{Bool, Long, String, Strings};
        match self.0 {
            None => 0_u8.hash(state),
            Some(Bool(value)) => (1_u8, value).hash(state),
            Some(Long(value)) => (2_u8, value).hash(state),
            Some(String(value)) => (3_u8, value).hash(state),
            Some(Strings(value)) => (4_u8, value).hash(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_its_subnet_and_never_an_ipv4_one() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("::"), of("0.0.0.0"));
    }
}
