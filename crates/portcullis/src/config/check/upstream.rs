//! Upstreams: one scheme each, and a verified peer wherever there is TLS.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proxy::upstream::ProxyHeader;

use super::endpoints::balance;
use super::listener::{count, time};
use super::{Check, flat};
use crate::config::finding::Finding;
use crate::config::model::{
    Ejection, Endpoint, ExpectedPeer, Name, NameForm, Protocol, Scheme, Trust, Upstream, UpstreamCredentials,
    UpstreamTls,
};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::upstream as raw;
use crate::config::reader::Field;

impl Check<'_> {
    pub(super) fn upstream(&mut self, raw: raw::Upstream, trust: &BTreeMap<Name, Trust>) -> Option<Upstream> {
        let endpoints = self.names(raw.endpoints, "endpoint");
        let tls_span = raw.tls.as_ref().map(|tls| tls.span);
        let scheme = self.scheme(&endpoints, tls_span);
        let protocol = self.protocol(raw.protocol.as_ref(), &endpoints);
        let proxy_protocol = self.proxy_header(raw.proxy_protocol.as_ref(), raw.protocol.as_ref());
        let credentials = raw.credentials.map(|field| {
            self.open_credentials(&endpoints, field.span);
            field.value.and_then(|credentials| self.upstream_credentials(credentials.0))
        });
        let tls = match raw.tls {
            Some(tls) => Some(self.upstream_tls(tls.value?, tls.span, trust)?),
            None => (scheme? == Scheme::Https).then(UpstreamTls::default),
        };
        let dns = self.dns(raw.dns);
        let health = raw.health.map(|health| self.health(health));
        let breaker = raw.breaker.map(|breaker| self.breaker(breaker));
        let (connect, attempt, response, response_idle, request) = match flat(raw.timeouts) {
            Some(t) => (t.connect, t.r#try, t.response, t.idle, t.request),
            None => (None, None, None, None, None),
        };
        let (idle, per_core) = flat(raw.pool).map_or((None, None), |pool| (pool.idle, pool.per_core));
        Some(Upstream {
            endpoints: endpoints.into_iter().map(|endpoint| endpoint.value).collect(),
            dns,
            protocol,
            proxy_protocol,
            balance: balance(raw.balance),
            ejection: ejection(flat(raw.ejection)),
            health: health.flatten(),
            slow_start: flat(raw.slow_start).map(|time| time.0),
            breaker: breaker.flatten(),
            retry_budget: flat(flat(raw.retry).and_then(|retry| retry.budget)).map_or(20, |share| share.0),
            tls,
            connect: time(connect, Duration::from_secs(5)),
            attempt: flat(attempt).map(|attempt| attempt.0),
            response: time(response, Duration::from_secs(30)),
            response_idle: time(response_idle, Duration::from_secs(60)),
            request: flat(request).map(|request| request.0),
            pool_idle: time(idle, Duration::from_secs(60)),
            pool_per_core: count(per_core, const { NonZeroU32::new(256).unwrap() }),
            credentials: credentials.flatten(),
        })
    }

    fn protocol(&mut self, raw: Option<&Field<Protocol>>, endpoints: &[Spanned<Endpoint>]) -> Protocol {
        let Some(&Field { value: Some(protocol), span }) = raw else { return Protocol::default() };
        let plain = endpoints.iter().find(|endpoint| endpoint.value.scheme == Scheme::Http);
        if let (Protocol::Negotiate, Some(endpoint)) = (protocol, plain) {
            let finding = Finding::error(span, "a protocol is negotiated over TLS only");
            let finding = finding.expecting("`http1` or `http2`, or `https` endpoints");
            self.error(finding.related(endpoint.span, "the endpoint is at"));
        }
        protocol
    }

    /// Clients share connections of HTTP/2: none of them could be announced on one.
    fn proxy_header(
        &mut self,
        raw: Option<&Field<raw::ProxyHeader>>,
        protocol: Option<&Field<Protocol>>,
    ) -> Option<ProxyHeader> {
        let &Field { value, span } = raw?;
        let header = match value? {
            raw::ProxyHeader::Off => return None,
            raw::ProxyHeader::V1 => ProxyHeader::V1,
            raw::ProxyHeader::V2 => ProxyHeader::V2,
        };
        if let Some(&Field { value: Some(Protocol::Http2 | Protocol::Negotiate), span: protocol }) = protocol
        {
            let finding =
                Finding::error(span, "clients share the connections of HTTP/2: none can be announced");
            let finding = finding.expecting("`protocol: http1`, or no `proxy_protocol`");
            self.error(finding.related(protocol, "the protocol is chosen at"));
        }
        Some(header)
    }

    fn upstream_credentials(&mut self, raw: raw::UpstreamCredentials) -> Option<UpstreamCredentials> {
        match raw {
            raw::UpstreamCredentials::Bearer(token) => self.secret(token).map(UpstreamCredentials::Bearer),
            raw::UpstreamCredentials::Basic(basic) => {
                let basic = basic.value?;
                let username = self.secret(basic.username);
                let password = self.secret(basic.password);
                Some(UpstreamCredentials::Basic { username: username?, password: password? })
            }
            raw::UpstreamCredentials::Field(field) => {
                let field = field.value?;
                let value = self.secret(field.value);
                Some(UpstreamCredentials::Field { name: field.name.value?.0, value: value? })
            }
        }
    }

    fn open_credentials(&mut self, endpoints: &[Spanned<Endpoint>], span: Span) {
        let is_local = |host: &str| {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        let open = |endpoint: &&Spanned<Endpoint>| {
            endpoint.value.scheme == Scheme::Http && !is_local(&endpoint.value.host)
        };
        if let Some(endpoint) = endpoints.iter().find(open) {
            let finding = Finding::warning(span, "credentials over plain HTTP, which others can read");
            self.error(finding.expecting("`https` endpoints").related(endpoint.span, "the endpoint is at"));
        }
    }

    fn scheme(&mut self, endpoints: &[Spanned<Endpoint>], tls: Option<Span>) -> Option<Scheme> {
        let (first, rest) = endpoints.split_first()?;
        let scheme = first.value.scheme;
        for other in rest.iter().filter(|other| other.value.scheme != scheme) {
            let finding = Finding::error(other.span, "plain and TLS endpoints in one upstream");
            self.error(finding.expecting("the same scheme for all").related(first.span, "the first is at"));
        }
        if let (Scheme::Http, Some(span)) = (scheme, tls) {
            let finding = Finding::error(span, "TLS for an endpoint that is plain `http`");
            self.error(
                finding.expecting("`https` endpoints, or no `tls`").related(first.span, "the endpoint is at"),
            );
        }
        Some(scheme)
    }

    fn upstream_tls(
        &mut self,
        raw: raw::UpstreamTls,
        span: Span,
        trust: &BTreeMap<Name, Trust>,
    ) -> Option<UpstreamTls> {
        let present = match raw.present {
            Some(Field { value: Some(name), span }) => self.certificates.resolve(name, span, self.findings),
            _ => None,
        };
        let expect = flat(raw.expect);
        let names = match raw.trust {
            Some(Field { value: Some(raw::UpstreamTrust::Entries(list)), span }) => {
                Some(self.upstream_trust(Field { value: Some(list), span }, expect.as_ref(), trust))
            }
            _ => {
                if let Some(ExpectedPeer::Spiffe(_)) = expect {
                    let finding = Finding::error(span, "public authorities vouch for no SPIFFE id");
                    self.error(finding.expecting("`trust` with a trust entry of that trust domain"));
                }
                None
            }
        };
        let sni = flat(raw.sni).and_then(|sni| (!sni.wildcard).then(|| sni.text.to_string()));
        Some(UpstreamTls { present, trust: names, expect, sni })
    }

    /// The name form of the trust entry and the expected peer must fit, or no upstream could ever be accepted.
    fn upstream_trust(
        &mut self,
        field: Field<Vec<Field<Name>>>,
        expect: Option<&ExpectedPeer>,
        trust: &BTreeMap<Name, Trust>,
    ) -> Vec<Name> {
        let mut names = Vec::new();
        for Spanned { value, span } in self.names(field, "trust entry") {
            let Some(name) = self.trust.resolve(value, span, self.findings) else { continue };
            let problem = match (trust.get(&name).map(|entry| &entry.names), expect) {
                (Some(NameForm::Spiffe { trust_domain }), Some(ExpectedPeer::Spiffe(id)))
                    if id.trust_domain() != &**trust_domain =>
                {
                    Some(format!("`expect` is in another trust domain than `{trust_domain}`"))
                }
                (Some(NameForm::Spiffe { .. }), None | Some(ExpectedPeer::Dns(_))) => {
                    Some(format!("`{name}` carries SPIFFE ids; `expect` must say which one the upstream has"))
                }
                (Some(NameForm::Dns), Some(ExpectedPeer::Spiffe(_))) => {
                    Some(format!("`{name}` carries DNS names, `expect` is a SPIFFE id"))
                }
                (Some(NameForm::Subject), _) => {
                    Some(format!("`{name}` carries subjects, and those name no server"))
                }
                _ => None,
            };
            self.findings.extend(problem.map(|problem| Finding::error(span, problem)));
            names.push(name);
        }
        names
    }
}

fn ejection(raw: Option<raw::Ejection>) -> Option<Ejection> {
    let (failures, time_out, at_most) = match raw {
        Some(raw::Ejection::Off) => return None,
        Some(raw::Ejection::Rules(rules)) => (rules.failures, rules.r#for, rules.at_most),
        None => (None, None, None),
    };
    Some(Ejection {
        failures: count(failures, const { NonZeroU32::new(5).unwrap() }),
        time: time(time_out, Duration::from_secs(10)),
        at_most: flat(at_most).map_or(50, |share| share.0),
    })
}
