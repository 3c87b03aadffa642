//! Upstreams of a running gateway, and the keys of their pools.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proxy::route::{Action, Split, Target, When};
use proxy::upstream::{
    Balance, Balancing, Budget, Ejection, Endpoint, EndpointSet, Endpoints, Health, Timeouts, Upstream,
};
use serde_json::{Map, Value, json};
use telemetry::Metrics;
use tls::{ClientSpec, ClientTls, Expect, UpstreamTrust};
use tokio::time::Instant;

use super::generation::{BuildError, Living};
use crate::config::model::{self, ExpectedPeer, Name, UpstreamTls};

impl Living {
    /// What a route does; `None` if an upstream is missing.
    pub(super) fn action(&self, action: &model::Action) -> Option<Action> {
        Some(match action {
            model::Action::Forward { to, rewrite } => {
                Action::Forward { to: self.target(to)?, rewrite: rewrite.clone() }
            }
            model::Action::Redirect { status, to } => Action::Redirect { status: *status, to: to.clone() },
            model::Action::Respond { status, body } => {
                Action::Respond { status: *status, body: body.clone().into() }
            }
        })
    }

    fn target(&self, target: &model::Target) -> Option<Target> {
        let upstream = |name: &Name| Some(Arc::clone(&self.upstreams.get(name)?.upstream));
        let split = match target {
            model::Target::One(name) => return upstream(name).map(Target::One),
            model::Target::Split(split) => split,
        };
        let weights = split.weights.iter().map(|(name, weight)| Some((upstream(name)?, weight.get())));
        let when = split.when.iter().map(|when| {
            let (name, value) = (when.name.clone(), when.value.clone());
            Some(When { name, value, upstream: upstream(&when.upstream)? })
        });
        let split = Split::new(weights.collect::<Option<_>>()?, when.collect::<Option<_>>()?, split.sticky)?;
        Some(Target::Split(Box::new(split)))
    }
}

/// An upstream that lives on while it and the slots that it was built on stay the same.
#[derive(Clone, Debug)]
pub(super) struct LivingUpstream {
    definition: model::Upstream,
    slots: Vec<u64>,
    pub(super) upstream: Arc<Upstream>,
}

impl LivingUpstream {
    pub(super) fn next(
        name: &Name,
        definition: &model::Upstream,
        former: Option<&Self>,
        living: &Living,
        metrics: &Metrics,
    ) -> Result<Self, BuildError> {
        let credential = living.credentials.get(name).cloned();
        let mut slots = slots(definition.tls.as_ref(), living);
        slots.extend(credential.as_ref().map(|held| held.id));
        if let Some(former) =
            former.filter(|former| former.definition == *definition && former.slots == slots)
        {
            return Ok(former.clone());
        }
        let failed = |reason: &dyn std::fmt::Display| BuildError::new(format!("upstream `{name}`"), reason);
        let now = Instant::now();
        let mut endpoints = Vec::with_capacity(definition.endpoints.len());
        for endpoint in &definition.endpoints {
            let tls = match &definition.tls {
                Some(tls) => {
                    let missing = || failed(&"a certificate or trust entry is missing");
                    let spec = client_spec(endpoint, tls, living).ok_or_else(missing)?;
                    Some(Arc::new(ClientTls::new(&spec).map_err(|error| failed(&error))?))
                }
                None => None,
            };
            let pool = living.pools.key(pool_identity(endpoint, definition.tls.as_ref(), &slots));
            endpoints.push(Endpoint {
                name: endpoint.to_string().into(),
                host: Arc::clone(&endpoint.host),
                port: endpoint.port,
                addresses: addresses(endpoint),
                tls,
                health: former
                    .and_then(|former| former.health(pool.number()))
                    .unwrap_or_else(|| Arc::new(Health::new(now))),
                pool,
            });
        }
        let upstream = Upstream {
            name: name.into(),
            endpoints: Endpoints::Fixed(EndpointSet::new(endpoints, out(definition))),
            credential: credential.map(|held| held.reader()),
            timeouts: Timeouts {
                connect: definition.connect,
                response: definition.response,
                idle: definition.response_idle,
                whole: definition.request,
            },
            idle: definition.pool_idle,
            idle_per_core: definition.pool_per_core.get() as usize,
            series: metrics.upstream(name.as_str()),
            balancing: balancing(definition, now),
        };
        Ok(Self { definition: definition.clone(), slots, upstream: Arc::new(upstream) })
    }

    /// What is known of an endpoint that stays.
    fn health(&self, pool: u64) -> Option<Arc<Health>> {
        let endpoints = self.upstream.endpoints.now();
        let stays = endpoints.iter().find(|endpoint| endpoint.pool.number() == pool)?;
        Some(stays.health.clone())
    }

    /// Tells the metrics which endpoints are used.
    pub(super) fn look(&self, now: Instant) {
        let endpoints = self.upstream.endpoints.now();
        let usable =
            endpoints.iter().map(|endpoint| (endpoint.name.to_string(), endpoint.health.is_usable(now)));
        self.upstream.series.endpoints(usable.collect());
    }

    /// What `status` shows of its endpoints.
    pub(super) fn status(&self, now: Instant) -> Value {
        let endpoints = self.upstream.endpoints.now();
        let state = endpoints.iter().map(|endpoint| {
            let state = if endpoint.health.is_usable(now) { "usable" } else { "ejected" };
            (endpoint.name.to_string(), json!({ "state": state, "failures": endpoint.health.failures() }))
        });
        Value::Object(state.collect::<Map<_, _>>())
    }
}

fn balancing(definition: &model::Upstream, now: Instant) -> Balancing {
    let balance = match definition.balance {
        model::Balance::RoundRobin => Balance::RoundRobin,
        model::Balance::LeastLoaded => Balance::LeastLoaded,
    };
    let ejection =
        definition.ejection.map(|rules| Ejection { failures: rules.failures.get(), time: rules.time });
    Balancing::new(balance, ejection, Budget::new(definition.retry_budget, now))
}

/// How many percent of its endpoints may be left out.
fn out(definition: &model::Upstream) -> u8 {
    definition.ejection.map_or(0, |rules| rules.at_most)
}

/// Nothing is asked for an address; a name is resolved at each connect.
fn addresses(endpoint: &model::Endpoint) -> Vec<SocketAddr> {
    let address = endpoint.host.parse::<IpAddr>();
    address.map(|address| SocketAddr::new(address, endpoint.port)).into_iter().collect()
}

fn client_spec(endpoint: &model::Endpoint, tls: &UpstreamTls, living: &Living) -> Option<ClientSpec> {
    let trust = match &tls.trust {
        None => UpstreamTrust::System,
        Some(names) => {
            let readers = names.iter().map(|name| Some(living.trust.get(name)?.reader()));
            UpstreamTrust::Trusts(readers.collect::<Option<Vec<_>>>()?)
        }
    };
    let present = match &tls.present {
        None => None,
        Some(name) => Some(living.certificates.get(name)?.reader()),
    };
    Some(ClientSpec {
        server_name: tls.sni.clone().unwrap_or_else(|| endpoint.host.to_string()),
        expect: tls.expect.as_ref().map(|expect| match expect {
            ExpectedPeer::Spiffe(id) => Expect::Spiffe(id.clone()),
            ExpectedPeer::Dns(name) => Expect::Name(name.clone()),
        }),
        trust,
        present,
        min_version: tls::Version::Tls12,
        alpn: vec![tls::Alpn::Http1],
    })
}

/// The slots of trust and certificate that connections read, by number.
fn slots(tls: Option<&UpstreamTls>, living: &Living) -> Vec<u64> {
    let Some(tls) = tls else { return Vec::new() };
    let trust = tls.trust.iter().flatten().filter_map(|name| Some(living.trust.get(name)?.id));
    let present = tls.present.iter().filter_map(|name| Some(living.certificates.get(name)?.id));
    trust.chain(present).collect()
}

/// Everything that tells connections apart, written out: two upstreams that agree on all of it share connections.
fn pool_identity(endpoint: &model::Endpoint, tls: Option<&UpstreamTls>, slots: &[u64]) -> String {
    match tls {
        None => format!("{endpoint} plain slots={slots:?}"),
        Some(tls) => format!(
            "{endpoint} sni={:?} expect={:?} system={} presents={} slots={slots:?} h1",
            tls.sni,
            tls.expect,
            tls.trust.is_none(),
            tls.present.is_some(),
        ),
    }
}
