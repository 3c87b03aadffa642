//! Listeners of a running gateway: counters and tickets that live on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use proxy::Bounds;
use tls::{ServerTls, SpecError};

use super::generation::Living;
use crate::config::model::{
    self, AcmeChallenge, CertificateSource, Config, Listener, ListenerKind, ListenerLimits, ListenerTls,
    Name, TlsPolicy,
};

/// What of a listener lives on.
#[derive(Clone, Debug)]
pub(super) struct LivingListener {
    open: Arc<AtomicUsize>,
    tls: Option<LivingTls>,
}

/// The TLS of a listener lives on, with its tickets, while it and the slots that it was built on stay the same.
#[derive(Clone, Debug)]
struct LivingTls {
    definition: ListenerTls,
    slots: Vec<u64>,
    server: Arc<ServerTls>,
}

impl LivingListener {
    pub(super) fn next(
        listener: &Listener,
        former: Option<&Self>,
        living: &Living,
    ) -> Result<Self, SpecError> {
        let open = former.map(Self::open).unwrap_or_default();
        let tls = match &listener.kind {
            ListenerKind::Tls(tls) => {
                Some(LivingTls::next(tls, former.and_then(|former| former.tls.as_ref()), living)?)
            }
            ListenerKind::Plain | ListenerKind::Redirect => None,
        };
        Ok(Self { open, tls })
    }

    pub(super) fn open(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.open)
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.as_ref().map(|tls| Arc::clone(&tls.server))
    }
}

impl LivingTls {
    /// The TLS of a listener: the former one, with its tickets, if it is the same and built on the same slots.
    fn next(tls: &ListenerTls, former: Option<&Self>, living: &Living) -> Result<Self, SpecError> {
        let policies = tls.hosts.values().chain([&tls.policy]);
        let slots: Vec<u64> = policies
            .flat_map(|policy| {
                let certificates =
                    policy.certificates.iter().filter_map(|name| Some(living.certificates.get(name)?.id));
                let trusts = policy.client_trust.iter().filter_map(|name| Some(living.trust.get(name)?.id));
                certificates.chain(trusts).collect::<Vec<_>>()
            })
            .collect();
        if let Some(former) = former.filter(|former| former.definition == *tls && former.slots == slots) {
            return Ok(former.clone());
        }
        let spec = tls::ServerSpec {
            default: host_spec(&tls.policy, living),
            hosts: tls
                .hosts
                .iter()
                .map(|(name, policy)| (name.to_string(), host_spec(policy, living)))
                .collect(),
            min_version: match tls.min_version {
                model::TlsVersion::V1_2 => tls::Version::Tls12,
                model::TlsVersion::V1_3 => tls::Version::Tls13,
            },
            without_sni: match tls.without_sni {
                model::WithoutSni::Default => tls::WithoutSni::Default,
                model::WithoutSni::Refuse => tls::WithoutSni::Refuse,
            },
            alpn: vec![tls::Alpn::Http2, tls::Alpn::Http1],
        };
        Ok(Self { definition: tls.clone(), slots, server: Arc::new(ServerTls::new(&spec)?) })
    }
}

fn host_spec(policy: &TlsPolicy, living: &Living) -> tls::HostSpec {
    let certificates = policy.certificates.iter().filter_map(|name| living.certificates.get(name));
    let trusts =
        || policy.client_trust.iter().filter_map(|name| Some(living.trust.get(name)?.reader())).collect();
    tls::HostSpec {
        certificates: certificates.map(|held| held.reader()).collect(),
        client: match policy.client {
            model::ClientMode::Off => tls::ClientAuth::Off,
            model::ClientMode::Optional => tls::ClientAuth::Optional(trusts()),
            model::ClientMode::Required => tls::ClientAuth::Required(trusts()),
        },
    }
}

/// What a listener waits for before it opens; nothing as soon as one of its TLS policies can let somebody in: a
/// certificate of the policy, and all trust where clients must show one. A certificate that is issued over TLS-ALPN-01 is
/// not waited for: the listener proves control over its names.
pub(super) fn missing(listener: &Listener, living: &Living) -> Option<String> {
    let ListenerKind::Tls(tls) = &listener.kind else { return None };
    let of_policy = |policy: &TlsPolicy| {
        let certificate = policy.certificates.iter().find(|name| {
            living
                .certificates
                .get(*name)
                .is_some_and(|held| held.is_filled() || is_proven_here(&held.definition))
        });
        if certificate.is_none() {
            return policy.certificates.first().map(|name| format!("certificate `{name}`"));
        }
        let trust = policy
            .client_trust
            .iter()
            .find(|name| living.trust.get(*name).is_none_or(|held| !held.is_filled()));
        trust.map(|name| format!("trust `{name}`"))
    };
    let first = of_policy(&tls.policy)?;
    tls.hosts.values().all(|policy| of_policy(policy).is_some()).then_some(first)
}

fn is_proven_here(source: &CertificateSource) -> bool {
    matches!(source, CertificateSource::Acme(acme) if acme.challenge == AcmeChallenge::TlsAlpn01)
}

pub(super) fn bounds(limits: &ListenerLimits) -> Bounds {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Bounds {
        connections: limits.connections.get() as usize,
        connections_per_address: limits.connections_per_address.get() as usize,
        handshake: limits.handshake,
        header_bytes: size(limits.header_bytes.get()),
        header_count: limits.header_count.get() as usize,
        header_timeout: limits.header_timeout,
        uri_bytes: size(limits.uri_bytes.get()),
        idle: limits.idle,
        streams: limits.streams.get(),
        body_bytes: limits.body_bytes.get(),
        body_rate: limits.body_rate.get(),
    }
}

/// Where a redirect leads: the TLS listener on 443, or the one with the lowest port; 443 if there is none here.
pub(super) fn redirect_port(config: &Config, addresses: &BTreeMap<Name, SocketAddr>) -> u16 {
    let is_site =
        |listener: &Listener| matches!(listener.kind, ListenerKind::Tls(_)) && listener.validate.is_none();
    let tls = config.listeners.iter().filter(|(_, listener)| is_site(listener));
    let ports: Vec<u16> =
        tls.map(|(name, listener)| addresses.get(name).unwrap_or(&listener.bind).port()).collect();
    if ports.contains(&HTTPS) { HTTPS } else { ports.into_iter().min().unwrap_or(HTTPS) }
}

const HTTPS: u16 = 443;
