//! Upstreams of a running gateway: what they are made of, what lives on, what is shown of them.

use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use proxy::route::{Action, Split, Target, When};
use proxy::upstream::{
    Balance, Balancing, Breaker, Budget, Bulkhead, BulkheadRules, Check, Circuit, CircuitRules, CircuitState,
    Ejection, Endpoints, HashKey, Protocol, QueueRules, Timeouts, Upstream,
};
use serde_json::{Map, Value, json};
use telemetry::{EndpointState, Metrics, Pressure};
use tls::{Alpn, ClientSpec, ClientTls, Expect, UpstreamTrust};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::checks::Checker;
use super::endpoints::{Layout, Template, Templates};
use super::generation::{BuildError, Living};
use super::names::Question;
use super::slots::next_id;
use crate::config::model::{self, ExpectedPeer, Name, UpstreamTls};

impl Living {
    /// What a route does; `None` if an upstream is missing.
    pub(super) fn action(&self, action: &model::Action) -> Option<Action> {
        Some(match action {
            model::Action::Forward { to, rewrite } => {
                Action::Forward { to: self.target(to)?, rewrite: rewrite.clone().map(Box::new) }
            }
            model::Action::Redirect { status, to } => Action::Redirect { status: *status, to: to.clone() },
            model::Action::Respond { status, body } => {
                Action::Respond { status: *status, body: body.clone().into() }
            }
        })
    }

    fn target(&self, target: &model::Target) -> Option<Target> {
        let upstream = |name: &Name| Some(Arc::clone(self.upstreams.get(name)?.upstream()));
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
#[derive(Debug)]
pub(super) struct LivingUpstream {
    definition: model::Upstream,
    slots: Vec<u64>,
    layout: Arc<Layout>,
    checking: OnceLock<DropGuard>,
}

impl LivingUpstream {
    pub(super) fn next(
        name: &Name,
        definition: &model::Upstream,
        former: Option<&Arc<Self>>,
        living: &Living,
        metrics: &Metrics,
    ) -> Result<Arc<Self>, BuildError> {
        let credential = living.credentials.get(name).cloned();
        let mut slots = slots(definition.tls.as_ref(), living);
        slots.extend(credential.as_ref().map(|held| held.id));
        if let Some(former) =
            former.filter(|former| former.definition == *definition && former.slots == slots)
        {
            return Ok(Arc::clone(former));
        }
        let failed = |reason: &dyn std::fmt::Display| BuildError::new(format!("upstream `{name}`"), reason);
        let now = Instant::now();
        let templates = Templates {
            all: templates(definition, &slots, living).map_err(|reason| failed(&reason))?,
            out: out(definition),
            pools: Arc::clone(&living.pools),
        };
        // What checks found counts only while the same is asked.
        let same_checks = former.filter(|former| former.definition.health == definition.health);
        let endpoints =
            templates.make(same_checks.map(|former| former.upstream().endpoints.now()).as_deref(), now);
        let upstream = Upstream {
            name: name.into(),
            endpoints: if templates.has_names() {
                Endpoints::Resolved(ArcSwap::from_pointee(endpoints))
            } else {
                Endpoints::Fixed(endpoints)
            },
            credential: credential.map(|held| held.reader()),
            protocol: protocol(definition),
            timeouts: Timeouts {
                connect: definition.connect,
                attempt: definition.attempt,
                response: definition.response,
                idle: definition.response_idle,
                whole: definition.request,
            },
            idle: definition.pool_idle,
            idle_per_core: definition.pool_per_core.get() as usize,
            series: metrics.upstream(name.as_str()),
            balancing: balancing(definition, now),
            breaker: definition.breaker.map(|rules| breaker(&rules, former, metrics.cores(), now)),
        };
        let layout = Layout { templates, upstream: Arc::new(upstream), making: Mutex::default() };
        let layout = Arc::new(layout);
        Ok(Arc::new(Self { definition: definition.clone(), slots, layout, checking: OnceLock::new() }))
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.layout.upstream
    }

    /// From now on its endpoints follow their names; and what checks them until `all` or this ends, once.
    pub(super) fn begin(&self, all: &CancellationToken) -> Option<impl Future<Output = ()> + use<>> {
        self.layout.follow();
        let rules = self.definition.health.as_ref().filter(|_| self.checking.get().is_none())?;
        let stop = all.child_token();
        self.checking.set(stop.clone().drop_guard()).ok()?;
        let check = Check {
            protocol: protocol(&self.definition),
            path: rules.path.clone(),
            every: rules.every,
            timeout: rules.timeout,
            healthy: rules.healthy.get(),
            unhealthy: rules.unhealthy.get(),
            statuses: rules.statuses.clone(),
        };
        let checker = Checker { upstream: Arc::clone(self.upstream()), check: Arc::new(check) };
        Some(async move { stop.run_until_cancelled(checker.run()).await.unwrap_or_default() })
    }

    /// Tells the metrics which endpoints are used, and what waits for them.
    pub(super) fn look(&self, now: Instant) {
        let upstream = self.upstream();
        let endpoints = upstream.endpoints.now();
        let states = endpoints.iter().map(|endpoint| EndpointState {
            name: endpoint.name.to_string(),
            is_usable: endpoint.health.is_usable(now),
        });
        upstream.series.endpoints(states.collect());
        let Some(breaker) = &upstream.breaker else { return };
        upstream.series.pressed(Pressure {
            is_open: breaker.circuit.as_ref().map(|circuit| circuit.state(now) != CircuitState::Closed),
            in_flight: breaker.bulkhead.as_ref().map(|bulkhead| bulkhead.in_flight()),
            waiting: breaker.bulkhead.as_ref().map(|bulkhead| bulkhead.waiting()),
        });
    }

    /// What `status` shows of it.
    pub(super) fn status(&self, now: Instant) -> Value {
        let upstream = self.upstream();
        let endpoints = upstream.endpoints.now();
        let states = endpoints.iter().map(|endpoint| {
            let state = endpoint.health.state(now).as_str();
            (endpoint.name.to_string(), json!({ "state": state, "failures": endpoint.health.failures() }))
        });
        let names = self.layout.templates.all.iter().filter_map(|template| template.resolves.as_ref());
        let names = names.map(|name| {
            let known = name.known();
            (
                name.question.host.to_string(),
                json!({ "addresses": known.addresses, "failure": known.failure }),
            )
        });
        let breaker = upstream.breaker.as_ref();
        let circuit = breaker.and_then(|breaker| Some(breaker.circuit.as_ref()?.state(now).as_str()));
        let bulkhead = breaker.and_then(|breaker| breaker.bulkhead.as_ref());
        json!({
            "endpoints": states.collect::<Map<_, _>>(),
            "names": names.collect::<Map<_, _>>(),
            "circuit": circuit,
            "in_flight": bulkhead.map(|bulkhead| bulkhead.in_flight()),
            "waiting": bulkhead.map(|bulkhead| bulkhead.waiting()),
        })
    }
}

fn balancing(definition: &model::Upstream, now: Instant) -> Balancing {
    let balance = match &definition.balance {
        model::Balance::RoundRobin => Balance::RoundRobin,
        model::Balance::LeastLoaded => Balance::LeastLoaded,
        model::Balance::ConsistentHash(key) => Balance::ConsistentHash(match key {
            model::HashKey::Address => HashKey::Address,
            model::HashKey::Principal => HashKey::Principal,
            model::HashKey::Field(name) => HashKey::Field(name.clone()),
        }),
    };
    let ejection =
        definition.ejection.map(|rules| Ejection { failures: rules.failures.get(), time: rules.time });
    Balancing::new(balance, ejection, definition.slow_start, Budget::new(definition.retry_budget, now))
}

/// How many percent of its endpoints may be left out.
fn out(definition: &model::Upstream) -> u8 {
    match (&definition.ejection, &definition.health) {
        (Some(rules), _) => rules.at_most,
        (None, Some(_)) => 50,
        (None, None) => 0,
    }
}

/// Requests that are on their way count on under the same rules.
fn breaker(
    rules: &model::Breaker,
    former: Option<&Arc<LivingUpstream>>,
    cores: usize,
    now: Instant,
) -> Breaker {
    let circuit = rules
        .circuit
        .map(|rules| Circuit::new(CircuitRules { failures: rules.failures.get(), open: rules.open }, now));
    let bulkhead = rules.requests.map(|requests| {
        let queue = rules.queue.map(|queue| QueueRules { most: queue.most.get() as usize, wait: queue.wait });
        let rules = BulkheadRules { requests: requests.get() as usize, queue };
        let former = former.and_then(|former| former.upstream().breaker.as_ref()?.bulkhead.as_ref());
        match former.filter(|former| former.rules() == rules) {
            Some(former) => Arc::clone(former),
            None => Arc::new(Bulkhead::new(rules, next_id(), cores)),
        }
    });
    Breaker { circuit, bulkhead }
}

fn templates(definition: &model::Upstream, slots: &[u64], living: &Living) -> Result<Vec<Template>, String> {
    let template = |endpoint: &model::Endpoint| {
        let tls = match &definition.tls {
            Some(tls) => {
                let spec = client_spec(endpoint, definition.protocol, tls, living)
                    .ok_or_else(|| "a certificate or trust entry is missing".to_owned())?;
                Some(Arc::new(ClientTls::new(&spec).map_err(|error| error.to_string())?))
            }
            None => None,
        };
        Ok(Template {
            name: endpoint.to_string().into(),
            host: Arc::clone(&endpoint.host),
            port: endpoint.port,
            resolves: Question::of(endpoint, definition).map(|question| living.name(question)),
            tls,
            identity: pool_identity(endpoint, definition, slots),
        })
    };
    definition.endpoints.iter().map(template).collect()
}

fn protocol(definition: &model::Upstream) -> Protocol {
    match (definition.protocol, definition.proxy_protocol) {
        (model::Protocol::Http1, None) => Protocol::Http1,
        (model::Protocol::Http1, Some(header)) => Protocol::Announced(header),
        (model::Protocol::Http2, _) => Protocol::Http2,
        (model::Protocol::Negotiate, _) => Protocol::Negotiate,
    }
}

fn client_spec(
    endpoint: &model::Endpoint,
    protocol: model::Protocol,
    tls: &UpstreamTls,
    living: &Living,
) -> Option<ClientSpec> {
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
        alpn: match protocol {
            model::Protocol::Http1 => vec![Alpn::Http1],
            model::Protocol::Http2 => vec![Alpn::Http2],
            model::Protocol::Negotiate => vec![Alpn::Http2, Alpn::Http1],
        },
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
fn pool_identity(endpoint: &model::Endpoint, definition: &model::Upstream, slots: &[u64]) -> String {
    let protocol = protocol(definition);
    match &definition.tls {
        None => format!("{endpoint} plain slots={slots:?} {protocol:?}"),
        Some(tls) => format!(
            "{endpoint} sni={:?} expect={:?} system={} presents={} slots={slots:?} {protocol:?}",
            tls.sni,
            tls.expect,
            tls.trust.is_none(),
            tls.present.is_some(),
        ),
    }
}
