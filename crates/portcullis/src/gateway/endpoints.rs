//! How the endpoints of an upstream come from its definition and from what its names resolve to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use proxy::upstream::{Endpoint, EndpointSet, Endpoints, Health, Upstream};
use tls::ClientTls;
use tokio::time::Instant;

use super::names::{self, HostName};
use super::pools::PoolKeys;
use super::reload::Reloader;

/// One endpoint as it is configured.
#[derive(Debug)]
pub(super) struct Template {
    /// As it is written.
    pub(super) name: Arc<str>,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// What the host resolves to; nothing for an address.
    pub(super) resolves: Option<Arc<HostName>>,
    pub(super) tls: Option<Arc<ClientTls>>,
    /// Everything but addresses that tells its connections apart.
    pub(super) identity: String,
}

/// The endpoints of an upstream, to be made as often as its names change.
#[derive(Debug)]
pub(super) struct Templates {
    pub(super) all: Vec<Template>,
    /// How many percent may be left out.
    pub(super) out: u8,
    pub(super) pools: Arc<PoolKeys>,
}

/// Templates, and the upstream that is made of them.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) templates: Templates,
    pub(super) upstream: Arc<Upstream>,
    /// Held while a set is made: the newest is published last.
    pub(super) making: Mutex<()>,
}

impl Templates {
    /// The endpoints of this moment; those of `former` are the same as before.
    pub(super) fn make(&self, former: Option<&EndpointSet>, now: Instant) -> EndpointSet {
        let mut endpoints = Vec::with_capacity(self.all.len());
        // Among those that are used already it is new; all together they are not.
        let joins = former.is_some_and(|former| !former.is_empty());
        for template in &self.all {
            for (name, addresses) in template.targets() {
                let pool = self.pools.key(format!("{} {addresses:?}", template.identity));
                let stays = |endpoint: &&Endpoint| endpoint.pool.number() == pool.number();
                let health = former.and_then(|former| Some(former.iter().find(stays)?.health.clone()));
                endpoints.push(Endpoint {
                    name,
                    host: Arc::clone(&template.host),
                    port: template.port,
                    addresses,
                    tls: template.tls.clone(),
                    health: health.unwrap_or_else(|| {
                        Arc::new(if joins { Health::joining(now) } else { Health::new(now) })
                    }),
                    pool,
                });
            }
        }
        EndpointSet::new(endpoints, self.out)
    }

    /// Whether a look-up can change them.
    pub(super) fn has_names(&self) -> bool {
        self.all.iter().any(|template| template.resolves.is_some())
    }
}

impl Template {
    /// The addresses that are endpoints of their own, and what they are called.
    fn targets(&self) -> Vec<(Arc<str>, Vec<SocketAddr>)> {
        let at = |address: &IpAddr| SocketAddr::new(*address, self.port);
        let Some(resolves) = &self.resolves else {
            let address = self.host.parse().iter().map(at).collect();
            return vec![(Arc::clone(&self.name), address)];
        };
        let known = resolves.known();
        // A service on this machine often listens on one of the two only: they are one endpoint.
        const OWN: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        if *known.addresses == OWN {
            return vec![(Arc::clone(&self.name), OWN.iter().map(at).collect())];
        }
        let targets = known.addresses.iter().map(|address| {
            let name = if known.addresses.len() == 1 {
                None
            } else {
                Some(format!("{} {address}", self.name).into())
            };
            (name.unwrap_or_else(|| Arc::clone(&self.name)), vec![at(address)])
        });
        targets.collect()
    }
}

impl Layout {
    /// From now on the upstream's endpoints follow its names.
    pub(super) fn follow(self: &Arc<Self>) {
        for template in &self.templates.all {
            template.resolves.iter().for_each(|name| name.follow(self));
        }
        self.refresh(Instant::now());
    }

    /// Takes over what names resolve to now.
    pub(super) fn refresh(&self, now: Instant) {
        let Endpoints::Resolved(current) = &self.upstream.endpoints else { return };
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let former = current.load_full();
        let next = self.templates.make(Some(&former), now);
        let pools = |set: &EndpointSet| set.iter().map(|endpoint| endpoint.pool.number()).collect::<Vec<_>>();
        if pools(&former) != pools(&next) {
            current.store(Arc::new(next));
        }
    }
}

impl Reloader {
    /// Names are looked up and endpoints checked for as long as they are configured.
    pub(super) fn keep_endpoints(&self) {
        for upstream in self.living.upstreams.values() {
            if let Some(checks) = upstream.begin(&self.stop) {
                self.tasks.spawn(checks);
            }
        }
        for held in self.living.names.values() {
            if let Some(look_ups) = held.begin(&self.stop) {
                self.tasks.spawn(look_ups);
            }
        }
    }

    /// Tells the metrics how endpoints do; says which names do not resolve, and which do again.
    pub(super) fn look_at_endpoints(&mut self) {
        self.living.upstreams.values().for_each(|living| living.look(Instant::now()));
        let failing = names::look(&self.living.names, &self.metrics);
        for name in self.unresolved.iter().filter(|name| !failing.contains_key(*name)) {
            self.readiness.recovered(&format!("name `{name}`"));
        }
        for (name, reason) in &failing {
            self.readiness.degraded(format!("name `{name}`"), reason.clone());
        }
        self.unresolved = failing.into_keys().collect();
    }
}
