//! From a checked configuration to a [`Snapshot`]: names become handles, and what did not change is carried over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use identity::jwt::Issuer;
use limit::{Buckets, Concurrency, Quota};
use policy::{ClaimSchema, ClaimType, Engine, RouteFacts, RouteIndex};
use proxy::authenticate::{Authenticate, TokenIssuer, Wanted};
use proxy::limits::{LimitKey, RouteLimit};
use proxy::normalize::fields::Reserved;
use proxy::route::{Action, Route, Router};
use proxy::snapshot::{Bounds, Listener, Snapshot};
use proxy::upstream::{Endpoint, PoolKey, Timeouts, Upstream, UpstreamParts};
use telemetry::Metrics;
use tls::{Alpn, ClientAuth, ClientSpec, ClientTls, Expect, HostSpec, ServerSpec, ServerTls, UpstreamTrust, Version};

use super::material::Materials;
use crate::config::model;
use crate::config::model::{Config, ListenerKind, Name};

/// What lives on from one generation to the next, if its configuration did not change.
#[derive(Debug)]
pub struct Carried {
    metrics: Arc<Metrics>,
    generation: u64,
    buckets: BTreeMap<Name, (model::Limit, Arc<Buckets>)>,
    concurrency: BTreeMap<Name, Arc<Concurrency>>,
    open: BTreeMap<Name, Arc<AtomicUsize>>,
    servers: BTreeMap<Name, (model::ListenerTls, Arc<ServerTls>)>,
    clients: HashMap<String, Arc<ClientTls>>,
    issuers: BTreeMap<Name, Arc<TokenIssuer>>,
    pools: HashMap<String, PoolKey>,
    counter: u64,
}

impl Carried {
    /// Nothing yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            generation: 0,
            buckets: BTreeMap::new(),
            concurrency: BTreeMap::new(),
            open: BTreeMap::new(),
            servers: BTreeMap::new(),
            clients: HashMap::new(),
            issuers: BTreeMap::new(),
            pools: HashMap::new(),
            counter: 0,
        }
    }

    /// The next generation. Nothing that serves changes before it is published.
    ///
    /// # Errors
    /// What only shows when names become handles; the generation that serves goes on.
    pub fn build(&mut self, config: &Config, materials: &Materials, engine: Engine) -> Result<Snapshot, String> {
        let mut upstreams = BTreeMap::new();
        for (name, upstream) in &config.upstreams {
            upstreams.insert(name.clone(), Arc::new(self.upstream(name, upstream, materials)?));
        }
        self.issuers = config
            .jwt
            .iter()
            .filter_map(|(name, jwt)| Some((name.clone(), self.issuer(name, jwt, materials)?)))
            .collect();
        let limits = self.limits(config);
        let routes: Vec<Route> = config
            .routes
            .iter()
            .enumerate()
            .map(|(place, route)| self.route(place, route, &upstreams, &limits))
            .collect::<Result<_, _>>()?;
        let mut listeners = HashMap::new();
        for (name, listener) in &config.listeners {
            let built = self.listener(name, listener, config, &routes, &limits, materials)?;
            listeners.insert(built.name.clone(), Arc::new(built));
        }
        let reserved = Reserved::new(config.routes.iter().flat_map(|route| &route.set_fields).map(|(name, _)| name));
        let pools: HashSet<PoolKey> = upstreams.values().flat_map(|u| &u.endpoints).map(|e| e.pool).collect();
        self.pools.retain(|_, key| pools.contains(key));
        self.generation += 1;
        Ok(Snapshot {
            generation: self.generation,
            listeners,
            routes,
            engine: Arc::new(engine),
            reserved: Arc::new(reserved),
            pools,
        })
    }

    /// Takes over what the limits' tables say of themselves.
    pub fn report_limits(&self) {
        for (name, (_, buckets)) in &self.buckets {
            self.metrics.limit(name.as_str()).table(buckets.keys(), buckets.evictions());
        }
    }

    fn upstream(&mut self, name: &Name, upstream: &model::Upstream, materials: &Materials) -> Result<Upstream, String> {
        let mut endpoints = Vec::new();
        for endpoint in &upstream.endpoints {
            let (tls, identity) = match &upstream.tls {
                Some(wanted) => {
                    let sni = wanted.sni.clone().unwrap_or_else(|| endpoint.host.to_string());
                    let identity = format!("{sni} {:?} {:?} {:?}", wanted.expect, wanted.trust, wanted.present);
                    let known = self.clients.get(&identity).cloned();
                    let tls = match known {
                        Some(tls) => tls,
                        None => {
                            let spec = client_spec(sni, wanted, materials).ok_or("material is missing")?;
                            let tls = ClientTls::new(&spec).map_err(|error| format!("upstream `{name}`: {error}"))?;
                            let tls = Arc::new(tls);
                            self.clients.insert(identity.clone(), tls.clone());
                            tls
                        }
                    };
                    (Some(tls), identity)
                }
                None => (None, "plain".to_owned()),
            };
            let key = format!("{} {} http/1.1 {identity}", endpoint.host, endpoint.port);
            let next = self.next();
            let pool = *self.pools.entry(key).or_insert(PoolKey(next));
            endpoints.push(Endpoint { host: endpoint.host.to_string(), port: endpoint.port, tls, pool });
        }
        Ok(Upstream::new(UpstreamParts {
            name: name.as_str().into(),
            endpoints,
            timeouts: Timeouts { connect: upstream.connect, response: upstream.response, whole: upstream.request },
            idle: upstream.pool_idle,
            idle_per_core: size(upstream.pool_per_core.get()),
            series: self.metrics.upstream(name.as_str()),
        }))
    }

    fn issuer(&mut self, name: &Name, jwt: &model::Jwt, materials: &Materials) -> Option<Arc<TokenIssuer>> {
        let keys = materials.keys(name)?;
        let issuer = Issuer {
            name: name.to_string(),
            issuer: jwt.issuer.to_string(),
            audiences: jwt.audience.clone(),
            algorithms: jwt.algorithms.clone(),
            skew: jwt.skew,
            types: jwt.types.clone(),
            roles: jwt.roles.clone(),
            scopes: jwt.scopes.clone(),
            claims: jwt.claims.clone(),
            max_token_bytes: identity::jwt::DEFAULT_MAX_TOKEN_BYTES,
        };
        match self.issuers.get(name) {
            Some(known) if known.issuer == issuer && known.keys.same(&keys) => Some(known.clone()),
            _ => Some(Arc::new(TokenIssuer { issuer, keys, configuration: self.next() })),
        }
    }

    fn limits(&mut self, config: &Config) -> BTreeMap<Name, RouteLimit> {
        let mut kept = BTreeMap::new();
        let mut limits = BTreeMap::new();
        for (name, limit) in &config.limits {
            let buckets = match self.buckets.remove(name) {
                Some((known, buckets)) if known == *limit => buckets,
                _ => Arc::new(Buckets::new(quota(limit), size(limit.max_keys.get()))),
            };
            let key = match &limit.key {
                model::LimitKey::Address => LimitKey::Address,
                model::LimitKey::Claim(claim) => LimitKey::Claim(claim.to_string()),
                model::LimitKey::Principal => LimitKey::Principal,
                model::LimitKey::Route => LimitKey::Route,
            };
            let series = self.metrics.limit(name.as_str());
            limits.insert(name.clone(), RouteLimit { name: name.as_str().into(), key, buckets: buckets.clone(), series });
            kept.insert(name.clone(), (limit.clone(), buckets));
        }
        self.buckets = kept;
        limits
    }

    fn route(
        &mut self,
        place: usize,
        route: &model::Route,
        upstreams: &BTreeMap<Name, Arc<Upstream>>,
        limits: &BTreeMap<Name, RouteLimit>,
    ) -> Result<Route, String> {
        let charged = |at_edge: bool, config: &BTreeMap<Name, (model::Limit, Arc<Buckets>)>| {
            let chosen = route.limits.iter().filter(|name| config.get(name).is_some_and(|(l, _)| l.at_edge == at_edge));
            chosen.filter_map(|name| limits.get(name)).cloned().collect::<Vec<_>>()
        };
        let concurrency = route.concurrency.map(|max| {
            let kept = self.concurrency.get(&route.name).map(|kept| kept.with_max(max.get()));
            let concurrency = Arc::new(kept.unwrap_or_else(|| Concurrency::new(max.get())));
            self.concurrency.insert(route.name.clone(), concurrency.clone());
            concurrency
        });
        let action = match &route.action {
            model::Action::Forward { upstream, rewrite } => Action::Forward {
                upstream: upstreams.get(upstream).cloned().ok_or("an upstream is missing")?,
                rewrite: rewrite.clone(),
            },
            model::Action::Respond { status, body } => {
                Action::Respond { status: *status, body: Bytes::from(body.clone()) }
            }
        };
        Ok(Route {
            name: route.name.as_str().into(),
            index: RouteIndex(u32::try_from(place).map_err(|_| "too many routes")?),
            methods: route.methods.clone(),
            authenticate: self.authenticate(&route.authenticate),
            edge_limits: charged(true, &self.buckets),
            limits: charged(false, &self.buckets),
            concurrency,
            action,
            paths: route.paths,
            set_fields: route.set_fields.clone(),
            security_fields: route.security_fields,
            forward_credentials: route.forward_credentials,
            series: self.metrics.route(route.name.as_str()),
        })
    }

    fn authenticate(&self, wanted: &model::Authenticate) -> Authenticate {
        let (wanted, proofs) = match wanted {
            model::Authenticate::None => return Authenticate::Nobody,
            model::Authenticate::All(proofs) => (Wanted::All, proofs),
            model::Authenticate::Any(proofs) => (Wanted::Any, proofs),
        };
        let mut issuers = Vec::new();
        let mut trusts = Vec::new();
        for proof in proofs {
            match proof {
                model::Proof::Jwt(name) => issuers.extend(self.issuers.get(name).cloned()),
                model::Proof::Certificate(name) => trusts.push(name.as_str().into()),
            }
        }
        Authenticate::Proofs { wanted, issuers, trusts }
    }

    fn listener(
        &mut self,
        name: &Name,
        listener: &model::Listener,
        config: &Config,
        routes: &[Route],
        limits: &BTreeMap<Name, RouteLimit>,
        materials: &Materials,
    ) -> Result<Listener, String> {
        let tls = match &listener.kind {
            ListenerKind::Tls(tls) => Some(self.server(name, tls, materials)?),
            ListenerKind::Plain | ListenerKind::Redirect => None,
        };
        let mut router = Router::default();
        for (place, route) in config.routes.iter().enumerate().filter(|(_, route)| route.on.contains(name)) {
            if let Some(built) = routes.get(place) {
                router.add(&route.host, &route.path, built).map_err(|tie| tie.to_string())?;
            }
        }
        Ok(Listener {
            name: name.as_str().into(),
            tls,
            redirect: matches!(listener.kind, ListenerKind::Redirect).then(|| redirect_port(config)),
            bounds: bounds(&listener.limits),
            trusted_proxies: listener.trusted_proxies.clone(),
            connection_limits: listener.rate.iter().filter_map(|limit| limits.get(limit)).cloned().collect(),
            router,
            series: self.metrics.listener(name.as_str()),
            open: self.open.entry(name.clone()).or_default().clone(),
        })
    }

    fn server(&mut self, name: &Name, tls: &model::ListenerTls, materials: &Materials) -> Result<Arc<ServerTls>, String> {
        if let Some((known, server)) = self.servers.get(name)
            && known == tls
        {
            return Ok(server.clone());
        }
        let missing = || format!("listener `{name}`: material is missing");
        let mut hosts = Vec::new();
        for (sni, policy) in &tls.hosts {
            hosts.push((sni.to_string(), host_spec(policy, materials).ok_or_else(missing)?));
        }
        let spec = ServerSpec {
            default: host_spec(&tls.policy, materials).ok_or_else(missing)?,
            hosts,
            min_version: match tls.min_version {
                model::TlsVersion::V1_2 => Version::Tls12,
                model::TlsVersion::V1_3 => Version::Tls13,
            },
            without_sni: match tls.without_sni {
                model::WithoutSni::Default => tls::WithoutSni::Default,
                model::WithoutSni::Refuse => tls::WithoutSni::Refuse,
            },
            alpn: vec![Alpn::Http2, Alpn::Http1],
        };
        let server = Arc::new(ServerTls::new(&spec).map_err(|error| format!("listener `{name}`: {error}"))?);
        self.servers.insert(name.clone(), (tls.clone(), server.clone()));
        Ok(server)
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

/// The routes of a configuration as policies see them, in their order.
#[must_use]
pub fn route_facts(config: &Config) -> Vec<RouteFacts> {
    let facts = |route: &model::Route| RouteFacts { name: route.name.to_string(), labels: route.labels.clone() };
    config.routes.iter().map(facts).collect()
}

/// The claims that a configuration maps, as policies see them.
#[must_use]
pub fn claim_schema(config: &Config) -> ClaimSchema {
    let mappings = config.jwt.values().flat_map(|jwt| &jwt.claims);
    mappings
        .map(|mapping| {
            let kind = match mapping.kind {
                identity::jwt::ClaimKind::Bool => ClaimType::Bool,
                identity::jwt::ClaimKind::Long => ClaimType::Long,
                identity::jwt::ClaimKind::String => ClaimType::String,
                identity::jwt::ClaimKind::Strings => ClaimType::Strings,
            };
            (mapping.name.clone(), kind)
        })
        .collect()
}

fn host_spec(policy: &model::TlsPolicy, materials: &Materials) -> Option<HostSpec> {
    let certificates = policy.certificates.iter().map(|name| materials.credential(name)).collect::<Option<_>>()?;
    let trusts = policy.client_trust.iter().map(|name| materials.trust(name)).collect::<Option<_>>()?;
    let client = match policy.client {
        model::ClientMode::Off => ClientAuth::Off,
        model::ClientMode::Optional => ClientAuth::Optional(trusts),
        model::ClientMode::Required => ClientAuth::Required(trusts),
    };
    Some(HostSpec { certificates, client })
}

fn client_spec(server_name: String, wanted: &model::UpstreamTls, materials: &Materials) -> Option<ClientSpec> {
    Some(ClientSpec {
        server_name,
        expect: wanted.expect.as_ref().map(|expect| match expect {
            model::ExpectedPeer::Dns(name) => Expect::Name(name.clone()),
            model::ExpectedPeer::Spiffe(id) => Expect::Spiffe(id.clone()),
        }),
        trust: match &wanted.trust {
            None => UpstreamTrust::System,
            Some(names) => UpstreamTrust::Trusts(names.iter().map(|name| materials.trust(name)).collect::<Option<_>>()?),
        },
        present: match &wanted.present {
            None => None,
            Some(name) => Some(materials.credential(name)?),
        },
        min_version: Version::Tls12,
        alpn: vec![Alpn::Http1],
    })
}

fn quota(limit: &model::Limit) -> Quota {
    Quota { count: limit.rate.count, per: limit.rate.period, burst: limit.burst }
}

fn bounds(limits: &model::ListenerLimits) -> Bounds {
    Bounds {
        connections: size(limits.connections.get()),
        connections_per_address: size(limits.connections_per_address.get()),
        handshake: limits.handshake,
        header_bytes: usize::try_from(limits.header_bytes.get()).unwrap_or(usize::MAX),
        header_count: size(limits.header_count.get()),
        header_timeout: limits.header_timeout,
        uri_bytes: usize::try_from(limits.uri_bytes.get()).unwrap_or(usize::MAX),
        idle: limits.idle,
        streams: limits.streams.get(),
        body_bytes: limits.body_bytes.get(),
        body_rate: limits.body_rate.get(),
    }
}

/// Where a redirect sends clients: 443 if a TLS listener has it, else the port of the first TLS listener.
fn redirect_port(config: &Config) -> u16 {
    let is_tls = |listener: &&model::Listener| matches!(listener.kind, ListenerKind::Tls(_));
    let ports: Vec<u16> = config.listeners.values().filter(is_tls).map(|listener| listener.bind.port()).collect();
    if ports.contains(&443) { 443 } else { ports.first().copied().unwrap_or(443) }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
