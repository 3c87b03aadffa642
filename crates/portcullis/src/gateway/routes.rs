//! What a route needs of a generation: proofs, and what lives on to the next one (slots in flight, copies, keys).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use limit::Concurrency;
use proxy::authenticate;
use proxy::compress::Compress;
use proxy::idempotency::{Idempotency, Store};
use proxy::limits::RouteLimit;
use proxy::mirror::Mirror;
use telemetry::Metrics;

use super::generation::{Living, LivingLimit};
use crate::config::model::{self, Authenticate, Name, Proof};

impl Living {
    /// The cap of a route: slots that are taken count on under another cap.
    pub(super) fn cap(&self, route: &Name, max: u32) -> Arc<Concurrency> {
        match self.concurrency.get(route) {
            Some(cap) if cap.max() == max => Arc::clone(cap),
            Some(cap) => Arc::new(cap.with_max(max)),
            None => Arc::new(Concurrency::new(max)),
        }
    }

    /// `None` if an issuer is missing: without it `all` would ask for less.
    pub(super) fn authenticate(&self, wanted: &Authenticate) -> Option<authenticate::Authenticate> {
        let (wanted, proofs) = match wanted {
            Authenticate::None => return Some(authenticate::Authenticate::Nobody),
            Authenticate::Any(proofs) => (authenticate::Wanted::Any, proofs),
            Authenticate::All(proofs) => (authenticate::Wanted::All, proofs),
        };
        let mut issuers = Vec::new();
        let mut trusts = Vec::new();
        for proof in proofs {
            match proof {
                Proof::Jwt(name) => issuers.push(Arc::clone(&self.issuers.get(name)?.token_issuer)),
                Proof::Certificate(name) => trusts.push(name.into()),
            }
        }
        Some(authenticate::Authenticate::Proofs { wanted, issuers, trusts })
    }

    /// Where copies of a route's requests go; the inner `None` is nowhere. The outer one if the upstream is missing.
    pub(super) fn mirror(
        &self,
        route: &model::Route,
        next: &mut Self,
        metrics: &Metrics,
    ) -> Option<Option<Arc<Mirror>>> {
        let Some(mirror) = &route.mirror else { return Some(None) };
        let max = mirror.concurrency.get();
        let most = Arc::new(match self.mirrored.get(&route.name) {
            Some(former) => former.with_max(max),
            None => Concurrency::new(max),
        });
        next.mirrored.insert(route.name.clone(), Arc::clone(&most));
        Some(Some(Arc::new(Mirror {
            upstream: next.upstreams.get(&mirror.upstream)?.upstream().clone(),
            share: mirror.share,
            most,
            body_bytes: mirror.body,
            timeout: mirror.timeout,
            series: metrics.mirror(route.name.as_str()),
        })))
    }

    /// The keys of a route are remembered as long as their bounds stay the same.
    pub(super) fn idempotency(
        &self,
        route: &model::Route,
        next: &mut Self,
        metrics: &Metrics,
    ) -> Option<Box<Idempotency>> {
        let (bounds, required) = route.idempotency?;
        let former = self.keys.get(&route.name).filter(|store| *store.bounds() == bounds);
        let store = former.map_or_else(|| Store::new(bounds), Arc::clone);
        next.keys.insert(route.name.clone(), Arc::clone(&store));
        Some(Box::new(Idempotency { required, store, series: metrics.idempotency(route.name.as_str()) }))
    }
}

/// What routes have alike, made once for all of them: a request then finds in the cache what another route's has used.
#[derive(Default)]
pub(super) struct Alike<'a> {
    proofs: HashMap<&'a Authenticate, Arc<authenticate::Authenticate>>,
    limits: HashMap<&'a [Name], (Limits, Limits)>,
}

type Limits = Arc<[RouteLimit]>;

impl<'a> Alike<'a> {
    /// Which proofs a route wants; `None` if an issuer is missing.
    pub(super) fn authenticate(
        &mut self,
        of: &Living,
        wanted: &'a Authenticate,
    ) -> Option<Arc<authenticate::Authenticate>> {
        Some(match self.proofs.entry(wanted) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => place.insert(Arc::new(of.authenticate(wanted)?)).clone(),
        })
    }

    /// A route's limits, those at the edge first; `None` if one of them is missing.
    pub(super) fn limits(&mut self, of: &Living, names: &'a [Name]) -> Option<(Limits, Limits)> {
        Some(match self.limits.entry(names) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let (edge, later): (Vec<_>, Vec<_>) =
                    of.named_limits(names)?.into_iter().partition(|limit| limit.definition.at_edge);
                let limits =
                    |limits: Vec<LivingLimit>| limits.into_iter().map(|living| living.limit).collect();
                place.insert((limits(edge), limits(later))).clone()
            }
        })
    }
}

/// Which answers of a route are compressed.
pub(super) fn compress(route: &model::Route, metrics: &Metrics) -> Option<Box<Compress>> {
    let model::Compress { codings, types, min_bytes } = route.compress.clone()?;
    Some(Box::new(Compress { codings, types, min_bytes, series: metrics.compression(route.name.as_str()) }))
}
