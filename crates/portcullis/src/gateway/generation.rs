//! From a checked configuration to the next generation: a [`Snapshot`], and what lives on behind it.
//!
//! What did not change is the very same thing in the next generation: slots of material, key stores, limiter buckets,
//! tickets of a listener, pools of an upstream. INVARIANT: building changes nothing that the running generation uses; only
//! [`Living::publish`] does, when everything has been built.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use identity::deny::DenyEntry;
use limit::{Buckets, Concurrency};
use policy::{Engine, RouteIndex};
use proxy::cors::Cors;
use proxy::idempotency::Store;
use proxy::limits::{LimitKey, RouteLimit};
use proxy::normalize::fields::Reserved;
use proxy::route::{AnswerFields, Route, Router};
use proxy::validate::Validate;
use proxy::{Snapshot, snapshot};
use telemetry::{Material as Kind, Metrics};
use tls::Credential;

use super::credentials::{self, HeldCredential};
use super::deny;
use super::inspectors::LivingInspectors;
use super::issuers::LivingIssuer;
use super::jobs::{JobKey, LivingJob};
use super::listeners::{LivingListener, bounds, redirect_port};
use super::material::{note_certificate, note_trust};
use super::names::{HeldName, HostName, Question, questions};
use super::pools::PoolKeys;
use super::routes::{Alike, compress};
use super::slots::Held;
use super::stores::{LivingStore, Tasks};
use super::tokens::LivingToken;
use super::upstreams::LivingUpstream;
use crate::config::denied::DenyFile;
use crate::config::material::{Material, NamedTrust};
use crate::config::model::{self, CertificateSource, Config, ListenerKind, Name};

/// What lives on from one generation to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Living {
    pub(super) certificates: BTreeMap<Name, Arc<Held<CertificateSource, Credential>>>,
    pub(super) trust: BTreeMap<Name, Arc<Held<NamedTrust, tls::Trust>>>,
    pub(super) issuers: BTreeMap<Name, Arc<LivingIssuer>>,
    pub(super) credentials: BTreeMap<Name, Arc<HeldCredential>>,
    pub(super) denied: Option<Arc<Held<DenyFile, Vec<DenyEntry>>>>,
    pub(super) tokens: BTreeMap<Name, Arc<LivingToken>>,
    pub(super) stores: BTreeMap<Name, Arc<LivingStore>>,
    /// What keeps material from stores fresh.
    pub(super) jobs: BTreeMap<JobKey, Arc<LivingJob>>,
    pub(super) limits: BTreeMap<Name, LivingLimit>,
    pub(super) upstreams: BTreeMap<Name, Arc<LivingUpstream>>,
    /// What endpoints are called that have no address.
    pub(super) names: BTreeMap<Question, Arc<HeldName>>,
    pub(super) concurrency: BTreeMap<Name, Arc<Concurrency>>,
    /// How many copies of a route's requests are on their way.
    pub(super) mirrored: BTreeMap<Name, Arc<Concurrency>>,
    /// What is remembered of the keys of a route.
    pub(super) keys: BTreeMap<Name, Arc<Store>>,
    /// Who looks through requests by the core rule set.
    pub(super) inspectors: Option<LivingInspectors>,
    listeners: BTreeMap<Name, LivingListener>,
    pub(super) pools: Arc<PoolKeys>,
}

/// The buckets of a limit.
#[derive(Clone, Debug)]
pub(super) struct LivingLimit {
    pub(super) definition: model::Limit,
    pub(super) limit: RouteLimit,
}

/// Why a checked configuration does not run: what the system or the crypto provider says against it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub(super) struct BuildError {
    place: String,
    reason: String,
}

impl BuildError {
    pub(super) fn new(place: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self { place: place.into(), reason: reason.to_string() }
    }
}

/// What a generation is built with, beside its configuration.
pub(super) struct Surroundings<'a> {
    /// The number of the generation.
    pub(super) generation: u64,
    /// Where numbers go.
    pub(super) metrics: &'a Metrics,
    /// Where the listeners really listen.
    pub(super) addresses: &'a BTreeMap<Name, SocketAddr>,
    /// The stores of secrets.
    pub(super) stores: &'a BTreeMap<Name, Arc<LivingStore>>,
    /// The names of endpoints that were looked up; others are, but not yet.
    pub(super) names: &'a BTreeMap<Question, Arc<HeldName>>,
    /// Where minted tokens are signed that no core can sign.
    pub(super) tasks: &'a Tasks,
    /// The core rule set.
    pub(super) rules: Option<Arc<waf::Rules>>,
}

/// Builds what a checked configuration would run as, without running it: what only the system or the crypto provider
/// can say against it is said before it counts. No material is published in it.
///
/// # Errors
/// The entry that does not work, and why.
pub fn rehearse(config: &Config, engine: Engine, rules: Option<Arc<waf::Rules>>) -> Result<Snapshot, String> {
    let (addresses, stores, tasks) = (BTreeMap::new(), BTreeMap::new(), Tasks::default());
    let metrics = Metrics::new(1);
    let around = Surroundings {
        generation: 1,
        metrics: &metrics,
        addresses: &addresses,
        stores: &stores,
        names: &BTreeMap::new(),
        tasks: &tasks,
        rules,
    };
    Living::default()
        .next(config, engine, &around)
        .map(|(snapshot, _)| snapshot)
        .map_err(|error| error.to_string())
}

impl Living {
    /// The next generation; nothing that runs is touched.
    pub(super) fn next(
        &self,
        config: &Config,
        engine: Engine,
        around: &Surroundings<'_>,
    ) -> Result<(Snapshot, Self), BuildError> {
        let mut next = Self { pools: self.pools.clone(), stores: around.stores.clone(), ..Self::default() };
        for (name, files) in &config.certificates {
            next.certificates.insert(name.clone(), carry_on(self.certificates.get(name), files));
        }
        for (name, entry) in &config.trust {
            let named = NamedTrust { name: name.clone(), entry: entry.clone() };
            next.trust.insert(name.clone(), carry_on(self.trust.get(name), &named));
        }
        for (name, jwt) in &config.jwt {
            next.issuers.insert(name.clone(), LivingIssuer::next(jwt, self.issuers.get(name)));
        }
        let denied = config.denied.file.clone().map(DenyFile);
        next.denied = denied.map(|file| carry_on(self.denied.as_ref(), &file));
        for (name, definition) in &config.limits {
            let limit = LivingLimit::next(name, definition, self.limits.get(name), around.metrics);
            next.limits.insert(name.clone(), limit);
        }
        for (name, definition) in &config.tokens {
            let (stores, tasks) = (around.stores, around.tasks);
            let former = self.tokens.get(name);
            let token = LivingToken::next(name, definition, former, stores, tasks, around.metrics)?;
            next.tokens.insert(name.clone(), token);
        }
        for (name, definition) in &config.upstreams {
            let Some(definition) = &definition.credentials else { continue };
            let held = match self.credentials.get(name) {
                Some(former) if former.definition == *definition => Arc::clone(former),
                _ => Arc::new(HeldCredential::new(definition.clone())),
            };
            next.credentials.insert(name.clone(), held);
        }
        for question in config.upstreams.values().flat_map(questions) {
            let held = next.names.entry(question);
            held.or_insert_with_key(|question| match around.names.get(question) {
                Some(held) => Arc::clone(held),
                None => Arc::new(HeldName::new(question.clone())),
            });
        }
        for (name, definition) in &config.upstreams {
            let upstream =
                LivingUpstream::next(name, definition, self.upstreams.get(name), &next, around.metrics)?;
            next.upstreams.insert(name.clone(), upstream);
        }
        next.inspectors = LivingInspectors::next(config, self.inspectors.as_ref(), around.rules.as_ref())?;
        let mut routes = self.routes(config, &engine, &mut next, around.metrics)?;
        let first = routes.len();
        routes.extend(key_routes(first, &next, around.metrics)?);
        let listeners = self.listeners(config, &routes, &mut next, around)?;
        let set = routes.iter().flat_map(|route| &route.set_fields).map(|(name, _)| name);
        // `Authorization` is the caller's own way to prove who it is; with a credential it ends here in any case.
        let shown = next.credentials.values().map(|held| credentials::field(&held.definition));
        let set = set.chain(shown.filter(|name| **name != AUTHORIZATION));
        let snapshot = Snapshot {
            generation: around.generation,
            listeners,
            reserved: Arc::new(Reserved::new(set)),
            routes,
            engine: Arc::new(engine),
            keys: next.issuers.values().map(|issuer| issuer.keys.store.clone()).collect(),
        };
        Ok((snapshot, next))
    }

    /// Whether minted tokens are signed by one of these stores.
    pub(super) fn signs_with(&self, stores: &[u64]) -> bool {
        self.jobs.iter().any(|((kind, _), job)| {
            *kind == Kind::SigningKey && job.stores.iter().any(|store| stores.contains(store))
        })
    }

    /// Publishes the material that was loaded with the configuration.
    pub(super) fn publish(&self, material: &Material, metrics: &Metrics, now: SystemTime) {
        for (name, loaded) in &material.certificates {
            if let Some(held) = self.certificates.get(name).filter(|held| !held.holds(&loaded.digest)) {
                held.publish(Arc::clone(&loaded.value), loaded.digest);
            }
            note_certificate(metrics, name, &loaded.value, now);
        }
        for (name, loaded) in &material.trust {
            if let Some(held) = self.trust.get(name).filter(|held| !held.holds(&loaded.digest)) {
                held.publish(Arc::clone(&loaded.value), loaded.digest);
            }
            note_trust(metrics, name, &loaded.value, now);
        }
        for (name, loaded) in &material.keys {
            if let Some(issuer) = self.issuers.get(name).filter(|issuer| !issuer.keys.holds(&loaded.digest)) {
                issuer.keys.publish_file(loaded.value.clone(), loaded.digest, now);
            }
            metrics.material_loaded(telemetry::Material::Jwks, name.as_str(), now, None);
        }
        deny::publish_file(self, material.denied.as_ref(), metrics, now);
    }

    fn routes(
        &self,
        config: &Config,
        engine: &Engine,
        next: &mut Self,
        metrics: &Metrics,
    ) -> Result<Vec<Route>, BuildError> {
        let (mut routes, mut alike) = (Vec::with_capacity(config.routes.len()), Alike::default());
        for (place, route) in config.routes.iter().enumerate() {
            let broken = |reason: &str| BuildError::new(format!("route `{}`", route.name), reason);
            let index = engine.route(route.name.as_str()).ok_or_else(|| broken("policies do not know it"))?;
            if u32::try_from(place) != Ok(index.0) {
                return Err(broken("its place differs between routes and policies"));
            }
            let action = next.action(&route.action).ok_or_else(|| broken("its upstream is missing"))?;
            let (edge_limits, limits) =
                alike.limits(next, &route.limits).ok_or_else(|| broken("one of its limits is missing"))?;
            let concurrency = route.concurrency.map(|cap| self.cap(&route.name, cap.get()));
            if let Some(cap) = &concurrency {
                next.concurrency.insert(route.name.clone(), Arc::clone(cap));
            }
            let token = match &route.token {
                None => None,
                Some(name) => {
                    let token = next.tokens.get(name).ok_or_else(|| broken("its token is missing"))?;
                    Some(token.of_route(engine).map_err(|reason| broken(&reason))?.into())
                }
            };
            let answer = &route.answer_fields;
            routes.push(Route {
                methods: route.methods.as_slice().into(),
                authenticate: alike
                    .authenticate(next, &route.authenticate)
                    .ok_or_else(|| broken("one of its token issuers is missing"))?,
                edge_limits,
                limits,
                concurrency,
                paths: route.paths,
                remove_fields: route.remove_fields.as_slice().into(),
                set_fields: route.set_fields.as_slice().into(),
                security_fields: route.security_fields,
                answer_fields: (*answer != AnswerFields::default()).then(|| Box::new(answer.clone())),
                upgrades: route.upgrades.as_slice().into(),
                cors: route.cors.clone().map(|rules| Box::new(Cors::new(rules))),
                compress: compress(route, metrics),
                mirror: self.mirror(route, next, metrics).ok_or_else(|| broken("its mirror is missing"))?,
                idempotency: self.idempotency(route, next, metrics),
                inspection: next.inspection(route, metrics).map_err(broken)?,
                forward_credentials: route.forward_credentials,
                token,
                ..Route::new(route.name.as_str().into(), index, action, metrics.route(route.name.as_str()))
            });
        }
        Ok(routes)
    }

    /// What is known of a name of an endpoint.
    pub(super) fn name(&self, question: Question) -> Arc<HostName> {
        match self.names.get(&question) {
            Some(held) => Arc::clone(&held.name),
            None => Arc::clone(&HeldName::new(question).name),
        }
    }

    /// `None` if one of them is missing: without it more would pass.
    pub(super) fn named_limits(&self, names: &[Name]) -> Option<Vec<LivingLimit>> {
        names.iter().map(|name| self.limits.get(name).cloned()).collect()
    }

    fn listeners(
        &self,
        config: &Config,
        routes: &[Route],
        next: &mut Self,
        around: &Surroundings<'_>,
    ) -> Result<HashMap<Arc<str>, Arc<snapshot::Listener>>, BuildError> {
        let mut listeners = HashMap::new();
        for (name, listener) in &config.listeners {
            let failed =
                |reason: &dyn std::fmt::Display| BuildError::new(format!("listener `{name}`"), reason);
            let living = LivingListener::next(listener, self.listeners.get(name), next)
                .map_err(|error| failed(&error))?;
            let mut router = Router::default();
            for (route, compiled) in config.routes.iter().zip(routes) {
                if route.on.contains(name) {
                    router.add(&route.host, &route.path, compiled).map_err(|tie| failed(&tie))?;
                }
            }
            for (token, shown) in config.tokens.values().zip(routes.iter().skip(config.routes.len())) {
                if token.jwks_on.contains(name) {
                    router.add_own(&token.jwks_path, shown).map_err(|tie| failed(&tie))?;
                }
            }
            let rate =
                next.named_limits(&listener.rate).ok_or_else(|| failed(&"one of its limits is missing"))?;
            let redirects = matches!(listener.kind, ListenerKind::Redirect);
            let built = snapshot::Listener {
                name: name.into(),
                tls: living.tls(),
                redirect: redirects.then(|| redirect_port(config, around.addresses)),
                bounds: bounds(&listener.limits),
                proxy_protocol: listener.proxy_protocol,
                validate: listener.validate.as_ref().map(|validate| Validate {
                    routes_of: (&validate.routes_of).into(),
                    protocol: validate.protocol,
                }),
                trusted_proxies: listener.trusted_proxies.clone(),
                connection_limits: rate.into_iter().map(|living| living.limit).collect(),
                router,
                series: around.metrics.listener(name.as_str()),
                open: living.open(),
            };
            listeners.insert(name.into(), Arc::new(built));
            next.listeners.insert(name.clone(), living);
        }
        Ok(listeners)
    }
}

impl LivingLimit {
    fn next(name: &Name, definition: &model::Limit, former: Option<&Self>, metrics: &Metrics) -> Self {
        if let Some(former) = former.filter(|former| former.definition == *definition) {
            return former.clone();
        }
        let key = match &definition.key {
            model::LimitKey::Address => LimitKey::Address,
            model::LimitKey::Principal => LimitKey::Principal,
            model::LimitKey::Route => LimitKey::Route,
            model::LimitKey::Claim(claim) => LimitKey::Claim(claim.to_string()),
        };
        let buckets = Arc::new(Buckets::new(definition.quota, definition.max_keys.get() as usize));
        let limit = RouteLimit { name: name.into(), key, buckets, series: metrics.limit(name.as_str()) };
        Self { definition: definition.clone(), limit }
    }
}

/// The routes that show the public keys of minted tokens, behind the configured ones in the order of their entries.
fn key_routes(first: usize, living: &Living, metrics: &Metrics) -> Result<Vec<Route>, BuildError> {
    let place = |place: usize| u32::try_from(place).map(RouteIndex);
    let routes = living.tokens.values().zip(first..).map(|(token, at)| Ok(token.shown(place(at)?, metrics)));
    let routes: Result<_, std::num::TryFromIntError> = routes.collect();
    routes.map_err(|error| BuildError::new("routes", error))
}

fn carry_on<F: Clone + PartialEq, T>(former: Option<&Arc<Held<F, T>>>, definition: &F) -> Arc<Held<F, T>> {
    match former {
        Some(former) if former.definition == *definition => Arc::clone(former),
        _ => Arc::new(Held::new(definition.clone())),
    }
}

#[cfg(test)]
mod tests;
