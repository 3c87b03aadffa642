//! Listeners: what they speak, to whom, and how much of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use proxy::validate::Protocol;

use super::{Check, flat, items};
use crate::config::finding::Finding;
use crate::config::model::{
    ClientMode, Limit, LimitKey, Listener, ListenerKind, ListenerLimits, ListenerTls, Name, ProxyProtocol,
    TlsPolicy, TlsVersion, Validate, WithoutSni,
};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::listener as raw;
use crate::config::raw::operation::Admin;
use crate::config::reader::Field;
use crate::config::values::quantity::{ByteRate, Count, Size, Timespan};

impl Check<'_> {
    pub(super) fn listener(
        &mut self,
        name: &Name,
        raw: raw::Listener,
        limits: &BTreeMap<Name, Limit>,
    ) -> Option<Listener> {
        if raw.redirect.is_some() {
            self.listeners.take(name);
        }
        let validate = self.validate(name, raw.validate, raw.redirect.as_ref());
        let kind = self.kind(raw.redirect.as_ref(), raw.tls, &raw.bind);
        let rate = self.connection_limits(raw.rate, limits);
        let limits = self.listener_limits(flat(raw.limits));
        let trusted_proxies: Vec<_> =
            items(flat(raw.trusted_proxies)).into_iter().map(|network| network.value.0).collect();
        let proxy_protocol = match raw.proxy_protocol {
            Some(Field { value: Some(raw::ProxyProtocol::Required), span }) => {
                if trusted_proxies.is_empty() {
                    let finding =
                        Finding::error(span, "no proxy is trusted to say whose connection it passes on");
                    self.error(
                        finding.expecting("`trusted_proxies` with the networks of the proxies in front"),
                    );
                }
                ProxyProtocol::Required
            }
            _ => ProxyProtocol::Off,
        };
        let (kind, bind) = (kind?, raw.bind.value?.0);
        if let Some((_, span)) = &validate
            && trusted_proxies.is_empty()
            && !proves_everybody(&kind)
        {
            let finding = Finding::error(*span, "anybody could ask, and say what they like of a request");
            self.error(finding.expecting(
                "`trusted_proxies` with the networks of those who ask, or `tls` with `client: { mode: required }`",
            ));
        }
        let validate = validate.map(|(validate, _)| validate);
        Some(Listener { bind, kind, limits, proxy_protocol, validate, trusted_proxies, rate })
    }

    fn validate(
        &mut self,
        name: &Name,
        raw: Option<Field<raw::Validate>>,
        redirect: Option<&Field<raw::Redirect>>,
    ) -> Option<(Validate, Span)> {
        let Field { value, span } = raw?;
        self.listeners.take(name);
        if let Some(redirect) = redirect {
            let finding = Finding::error(span, "`validate` and `redirect` on one listener");
            self.error(finding.expecting("one of them").related(redirect.span, "`redirect` stands at"));
        }
        let raw = value?;
        let protocol = match flat(raw.protocol) {
            Some(raw::ValidateProtocol::ExtAuthz) => Protocol::ExtAuthz,
            Some(raw::ValidateProtocol::ForwardAuth) | None => Protocol::ForwardAuth,
        };
        let named = raw.routes_of.span;
        let routes_of = self.listeners.resolve(raw.routes_of.value?, named, self.findings)?;
        self.judging.push(Spanned { value: routes_of.clone(), span: named });
        Some((Validate { routes_of, protocol }, span))
    }

    /// Who answers other proxies does so by the routes of somebody who has some.
    pub(super) fn judging(&mut self, listeners: &BTreeMap<Name, Listener>) {
        for Spanned { value: name, span } in std::mem::take(&mut self.judging) {
            let has_routes = |listener: &Listener| {
                listener.validate.is_none() && !matches!(listener.kind, ListenerKind::Redirect)
            };
            if listeners.get(&name).is_some_and(|listener| !has_routes(listener)) {
                let finding = Finding::error(span, format!("`{name}` has no routes"));
                self.error(finding.expecting("a listener without `redirect` and `validate`"));
            }
        }
    }

    fn kind(
        &mut self,
        redirect: Option<&Field<raw::Redirect>>,
        tls: Option<Field<raw::ListenerTls>>,
        bind: &Field<crate::config::values::network::Bind>,
    ) -> Option<ListenerKind> {
        match (redirect, tls) {
            (Some(redirect), Some(tls)) => {
                let finding =
                    Finding::error(redirect.span, "a listener with `tls` has nothing to redirect to TLS");
                self.error(finding.related(tls.span, "`tls` stands at"));
                None
            }
            (Some(_), None) => Some(ListenerKind::Redirect),
            (None, Some(tls)) => self.listener_tls(tls.value?).map(ListenerKind::Tls),
            (None, None) => {
                if bind.value.is_some_and(|bind| !bind.0.ip().is_loopback()) {
                    let finding =
                        Finding::warning(bind.span, "plain HTTP on an address that others can reach");
                    self.error(finding.expecting("`tls`, `redirect: https`, or a loopback address"));
                }
                Some(ListenerKind::Plain)
            }
        }
    }

    fn listener_tls(&mut self, raw: raw::ListenerTls) -> Option<ListenerTls> {
        let certificates = self.certificate_names(raw.certificates);
        let policy = self.tls_policy(certificates, raw.client)?;
        let mut hosts = BTreeMap::new();
        for (name, host) in flat(raw.hosts).map(|hosts| hosts.0).unwrap_or_default() {
            let (Some(sni), Some(host)) = (name.value, host.value) else { continue };
            let certificates = match host.certificates {
                Some(certificates) => self.certificate_names(certificates),
                None => policy.certificates.clone(),
            };
            let Some(policy) = self.tls_policy(certificates, host.client) else { continue };
            if hosts.insert(sni, policy).is_some() {
                self.error(Finding::error(name.span, "the same host a second time, in another spelling"));
            }
        }
        Some(ListenerTls {
            policy,
            min_version: flat(raw.min_version).unwrap_or(TlsVersion::V1_2),
            without_sni: flat(raw.without_sni).unwrap_or(WithoutSni::Default),
            hosts,
        })
    }

    fn certificate_names(&mut self, field: Field<Vec<Field<Name>>>) -> Vec<Name> {
        let names = self.names(field, "certificate");
        names
            .into_iter()
            .filter_map(|name| self.certificates.resolve(name.value, name.span, self.findings))
            .collect()
    }

    fn tls_policy(
        &mut self,
        certificates: Vec<Name>,
        client: Option<Field<raw::ClientCertificates>>,
    ) -> Option<TlsPolicy> {
        let Some(client) = client else {
            return Some(TlsPolicy { certificates, client: ClientMode::Off, client_trust: Vec::new() });
        };
        let span = client.span;
        let client = client.value?;
        let mode = client.mode.value?;
        let named = client.trust.is_some();
        let trust: Vec<Name> = items(flat(client.trust))
            .into_iter()
            .filter_map(|name| self.trust.resolve(name.value, name.span, self.findings))
            .collect();
        match mode {
            ClientMode::Off if named => {
                let finding =
                    Finding::error(client.mode.span, "`trust` stands here, but no certificate is asked for");
                self.error(finding.expecting("`mode: optional` or `mode: required`, or no `trust`"));
            }
            ClientMode::Optional | ClientMode::Required if trust.is_empty() => {
                let finding = Finding::error(span, "nobody vouches for the clients' certificates");
                self.error(finding.expecting("`trust` with at least one trust entry"));
            }
            ClientMode::Off | ClientMode::Optional | ClientMode::Required => {}
        }
        Some(TlsPolicy { certificates, client: mode, client_trust: trust })
    }

    fn connection_limits(
        &mut self,
        rate: Option<Field<Vec<Field<Name>>>>,
        limits: &BTreeMap<Name, Limit>,
    ) -> Vec<Name> {
        let mut names = Vec::new();
        for Spanned { value, span } in items(flat(rate)) {
            let Some(name) = self.limits.resolve(value, span, self.findings) else { continue };
            if limits.get(&name).is_some_and(|limit| limit.key != LimitKey::Address) {
                let finding =
                    Finding::error(span, "a connection has an address, and no principal, claim or route yet");
                self.error(finding.expecting("a limit with `key: address`"));
            }
            names.push(name);
        }
        names
    }

    fn listener_limits(&mut self, raw: Option<raw::ListenerLimits>) -> ListenerLimits {
        let defaults = ListenerLimits::default();
        let Some(raw) = raw else { return defaults };
        ListenerLimits {
            connections: count(raw.connections, defaults.connections),
            connections_per_address: count(raw.connections_per_address, defaults.connections_per_address),
            handshake: time(raw.handshake, defaults.handshake),
            header_bytes: self.size(raw.headers.as_ref(), defaults.header_bytes, HEADERS),
            header_count: count(raw.header_count, defaults.header_count),
            header_timeout: time(raw.header_timeout, defaults.header_timeout),
            uri_bytes: self.size(raw.uri.as_ref(), defaults.uri_bytes, URI),
            idle: time(raw.idle, defaults.idle),
            streams: count(raw.streams, defaults.streams),
            body_bytes: raw
                .body
                .and_then(|field| field.value)
                .map_or(defaults.body_bytes, |size: Size| size.0),
            body_rate: raw
                .body_rate
                .and_then(|field| field.value)
                .map_or(defaults.body_rate, |rate: ByteRate| rate.0),
        }
    }

    fn size(
        &mut self,
        field: Option<&Field<Size>>,
        default: NonZeroU64,
        (low, high, expected): Bounds,
    ) -> NonZeroU64 {
        let Some(Field { value: Some(size), span }) = field else { return default };
        if !(low..=high).contains(&size.0.get()) {
            self.error(Finding::error(*span, format!("{} bytes", size.0)).expecting(expected));
        }
        size.0
    }

    /// Two sockets cannot share an address and port; a wildcard address has all of them.
    pub(super) fn binds(&mut self, listeners: &BTreeMap<Name, Listener>, admin: Option<&Field<Admin>>) {
        let admin = admin.and_then(|field| field.value.as_ref());
        let extra = admin
            .into_iter()
            .flat_map(|admin| [("`admin.bind`", &admin.bind), ("`admin.probes`", &admin.probes)]);
        let mut binds: Vec<(String, SocketAddr, Span)> = Vec::new();
        for (name, listener) in listeners {
            let span = self.listeners.span(name).unwrap_or_default();
            binds.push((format!("listener `{name}`"), listener.bind, span));
        }
        for (what, field) in extra {
            if let Some(Field { value: Some(bind), span }) = field {
                binds.push((what.to_owned(), bind.0, *span));
            }
        }
        binds.sort_by_key(|(_, _, span)| span.start);
        for (index, (_, bind, span)) in binds.iter().enumerate() {
            let earlier = binds.iter().take(index).find(|(_, other, _)| collide(*bind, *other));
            if let Some((what, other, at)) = earlier {
                let finding = Finding::error(*span, format!("`{bind}` is taken by {what} (`{other}`)"));
                self.error(finding.related(*at, "it stands at"));
            }
        }
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: const { NonZeroU32::new(20_000).unwrap() },
            connections_per_address: const { NonZeroU32::new(1_000).unwrap() },
            handshake: Duration::from_secs(5),
            header_bytes: const { NonZeroU64::new(32 << 10).unwrap() },
            header_count: const { NonZeroU32::new(100).unwrap() },
            header_timeout: Duration::from_secs(10),
            uri_bytes: const { NonZeroU64::new(8 << 10).unwrap() },
            idle: Duration::from_secs(60),
            streams: const { NonZeroU32::new(128).unwrap() },
            body_bytes: const { NonZeroU64::new(64 << 20).unwrap() },
            body_rate: const { NonZeroU64::new(1 << 10).unwrap() },
        }
    }
}

/// True if nobody gets in without a certificate.
fn proves_everybody(kind: &ListenerKind) -> bool {
    match kind {
        ListenerKind::Plain | ListenerKind::Redirect => false,
        ListenerKind::Tls(tls) => {
            tls.hosts.values().chain([&tls.policy]).all(|policy| policy.client == ClientMode::Required)
        }
    }
}

pub(super) fn time(field: Option<Field<Timespan>>, default: Duration) -> Duration {
    flat(field).map_or(default, |time| time.0)
}

pub(super) fn count(field: Option<Field<Count>>, default: NonZeroU32) -> NonZeroU32 {
    flat(field).map_or(default, |count| count.0)
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_address = a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && same_address
}

type Bounds = (u64, u64, &'static str);

/// Below 8 KiB hyper cannot buffer a request head; above 1 MiB a few thousand connections fill the memory.
const HEADERS: Bounds = (8 << 10, 1 << 20, "a size from `8KiB` to `1MiB`");

/// The `http` crate ends just below 64 KiB.
const URI: Bounds = (1 << 10, 63 << 10, "a size from `1KiB` to `63KiB`");
