//! Upstreams of a running gateway, and the keys of their pools.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use proxy::upstream::{Endpoint, Timeouts, Upstream};
use telemetry::Metrics;
use tls::{ClientSpec, ClientTls, Expect, UpstreamTrust};

use super::generation::{BuildError, Living};
use crate::config::model::{self, ExpectedPeer, Name, UpstreamTls};

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
        living: &mut Living,
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
            endpoints.push(Endpoint {
                host: endpoint.host.to_string(),
                port: endpoint.port,
                tls,
                pool: living.pool(pool_identity(endpoint, definition.tls.as_ref(), &slots)),
            });
        }
        let upstream = Upstream {
            name: name.into(),
            endpoints,
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
            turn: AtomicUsize::new(0),
        };
        Ok(Self { definition: definition.clone(), slots, upstream: Arc::new(upstream) })
    }
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
