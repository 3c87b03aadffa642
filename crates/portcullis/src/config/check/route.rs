//! Routes: every name resolves, each has one outcome, and no two match the same request.

mod action;
mod compress;
mod cors;
mod fields;
mod repeat;
mod ties;

use std::collections::{BTreeMap, HashMap};

use proxy::route::{HostPattern, PathRules};

use self::action::{Around, RawAction};
use self::ties::Ties;
use super::names::dangling;
use super::token::{KeyPaths, RoutePlaces};
use super::{Check, flat, items};
use crate::config::finding::Finding;
use crate::config::model::{Authenticate, Listener, ListenerKind, Name, Proof, Route, Upstream};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::route as raw;
use crate::config::reader::{Entries, Field};

impl Check<'_> {
    pub(super) fn routes(
        &mut self,
        section: Option<Field<Vec<Field<raw::Route>>>>,
        listeners: &BTreeMap<Name, Listener>,
        upstreams: &BTreeMap<Name, Upstream>,
        key_paths: &KeyPaths,
    ) -> Vec<Route> {
        let mut routes = Vec::new();
        let mut names: HashMap<Name, Span> = HashMap::new();
        let mut ties = Ties::default();
        for route in items(flat(section)) {
            let name_span = route.value.name.span;
            if let Some(name) = &route.value.name.value
                && let Some(first) = names.insert(name.clone(), name_span)
            {
                let finding = Finding::error(name_span, format!("a second route is called `{name}`"));
                self.error(finding.related(first, "the first is at"));
            }
            let Some((route, places)) = self.route(route.value, listeners) else { continue };
            self.credentials(&route, &places, upstreams);
            self.upgrades_over_http1(&route, name_span, upstreams);
            self.key_paths(&route, name_span, key_paths);
            self.findings.extend(ties.add(&route, name_span));
            routes.push(route);
        }
        self.fields_of_splits(&routes);
        routes
    }

    fn route(
        &mut self,
        raw: raw::Route,
        listeners: &BTreeMap<Name, Listener>,
    ) -> Option<(Route, RoutePlaces)> {
        let mut places =
            RoutePlaces { token: raw.token.as_ref().map(|field| field.span), ..RoutePlaces::default() };
        let on = self.route_listeners(raw.on, listeners);
        let authenticate = self.authenticate(raw.authenticate, &on, listeners);
        let limits = self.route_limits(raw.limits);
        let path = raw.path.value.map(|path| path.0);
        let host = raw.host.map_or(Some(HostPattern::Any), |host| Some(host.value?.0));
        let said = RawAction {
            upstream: raw.upstream,
            split: raw.split,
            respond: raw.respond,
            redirect: raw.redirect,
            rewrite: raw.rewrite,
        };
        let around = Around {
            span: raw.name.span,
            names_host: host != Some(HostPattern::Any),
            path: path.as_ref(),
            authenticate: authenticate.as_ref(),
        };
        let action = self.action(said, &around);
        let methods = self.methods(raw.methods).unwrap_or_default();
        let upgrades = self.upgrades(raw.upgrade, action.as_ref(), &methods);
        let fields = self.fields(flat(raw.headers), &mut places);
        let cors = raw.cors.and_then(spanned).and_then(|cors| self.cors(cors, &methods, &fields));
        let compress = raw.compress.and_then(spanned).map(|raw| self.compress(raw, action.as_ref()));
        let mirror = raw.mirror.and_then(spanned).and_then(|mirror| self.mirror(mirror, action.as_ref()));
        let idempotency = raw.idempotency.and_then(spanned);
        let idempotency =
            idempotency.map(|raw| self.idempotency(raw, action.as_ref(), authenticate.as_ref()));
        let inspection = raw.waf.and_then(spanned).and_then(|waf| self.inspection(waf, action.as_ref()));
        let token = raw.token.and_then(spanned);
        let token = token.and_then(|token| self.tokens.resolve(token.value, token.span, self.findings));
        let credentials = raw.credentials.and_then(spanned);
        let forward = credentials.filter(|said| matches!(said.value, raw::Credentials::Forward));
        places.forward = forward.map(|said| said.span);
        let route = Route {
            token,
            name: raw.name.value?,
            on,
            host: host?,
            path: path?,
            methods,
            upgrades,
            authenticate: authenticate?,
            limits,
            concurrency: flat(raw.concurrency).map(|count| count.0),
            action: action?,
            labels: labels(raw.labels),
            paths: path_rules(flat(raw.paths)),
            set_fields: fields.set,
            remove_fields: fields.remove,
            answer_fields: fields.answer,
            security_fields: fields.security,
            cors,
            compress,
            mirror,
            idempotency,
            inspection,
            forward_credentials: places.forward.is_some(),
        };
        Some((route, places))
    }

    fn route_listeners(
        &mut self,
        on: Field<Vec<Field<Name>>>,
        listeners: &BTreeMap<Name, Listener>,
    ) -> Vec<Name> {
        let mut names = Vec::new();
        for Spanned { value, span } in self.names(on, "listener") {
            let Some(name) = self.listeners.resolve(value, span, self.findings) else { continue };
            let listener = listeners.get(&name);
            if listener.is_some_and(|listener| matches!(listener.kind, ListenerKind::Redirect)) {
                let finding =
                    Finding::error(span, format!("`{name}` redirects everything to TLS, it has no routes"));
                self.error(finding.expecting("a listener without `redirect`"));
            }
            if listener.is_some_and(|listener| listener.validate.is_some()) {
                let finding =
                    Finding::error(span, format!("`{name}` answers other proxies, it has no routes"));
                self.error(finding.expecting("a listener without `validate`"));
            }
            if names.contains(&name) {
                self.error(Finding::error(span, format!("`{name}` a second time")));
                continue;
            }
            names.push(name);
        }
        names
    }

    fn authenticate(
        &mut self,
        raw: Field<raw::Authenticate>,
        on: &[Name],
        listeners: &BTreeMap<Name, Listener>,
    ) -> Option<Authenticate> {
        match raw.value? {
            raw::Authenticate::None => Some(Authenticate::None),
            raw::Authenticate::Any(names) => Some(Authenticate::Any(self.proofs(names, on, listeners))),
            raw::Authenticate::All(names) => Some(Authenticate::All(self.proofs(names, on, listeners))),
        }
    }

    fn proofs(
        &mut self,
        names: Field<Vec<Field<Name>>>,
        on: &[Name],
        listeners: &BTreeMap<Name, Listener>,
    ) -> Vec<Proof> {
        let mut proofs = Vec::new();
        for Spanned { value: name, span } in self.names(names, "proof") {
            if self.jwt.take(&name) {
                proofs.push(Proof::Jwt(name));
            } else if self.trust.take(&name) {
                for listener in
                    on.iter().filter(|on| !listeners.get(on.as_str()).is_some_and(|on| asks_under(on, &name)))
                {
                    let finding =
                        Finding::warning(span, format!("nobody can prove `{name}` on listener `{listener}`"));
                    self.error(finding.expecting(format!("a `client` in its `tls` that trusts `{name}`")));
                }
                proofs.push(Proof::Certificate(name));
            } else {
                let known = self.jwt.names().chain(self.trust.names()).map(Name::as_str);
                let finding = dangling(name.as_str(), span, "token issuer or trust entry", known);
                self.error(finding);
            }
        }
        proofs
    }

    fn route_limits(&mut self, limits: Option<Field<Vec<Field<Name>>>>) -> Vec<Name> {
        let limits = items(flat(limits)).into_iter();
        limits.filter_map(|limit| self.limits.resolve(limit.value, limit.span, self.findings)).collect()
    }
}

fn asks_under(listener: &Listener, trust: &Name) -> bool {
    match &listener.kind {
        ListenerKind::Plain | ListenerKind::Redirect => false,
        ListenerKind::Tls(tls) => {
            tls.hosts.values().chain([&tls.policy]).any(|policy| policy.client_trust.contains(trust))
        }
    }
}

fn labels(raw: Option<Field<Entries<Name, String>>>) -> BTreeMap<String, String> {
    let labels = flat(raw).map(|labels| labels.0).unwrap_or_default().into_iter();
    labels.filter_map(|(key, value)| Some((key.value?.to_string(), value.value?))).collect()
}

fn spanned<T>(field: Field<T>) -> Option<Spanned<T>> {
    Some(Spanned { value: field.value?, span: field.span })
}

fn path_rules(raw: Option<raw::Paths>) -> PathRules {
    let Some(raw) = raw else { return PathRules::default() };
    PathRules {
        refuse_double_slash: matches!(flat(raw.double_slash), Some(raw::DoubleSlash::Refuse)),
        refuse_dot_segments: matches!(flat(raw.dot_segments), Some(raw::DotSegments::Refuse)),
        allow_semicolon: matches!(flat(raw.semicolon), Some(raw::Tolerated::Allow)),
        allow_encoded_slash: matches!(flat(raw.encoded_slash), Some(raw::Tolerated::Allow)),
    }
}
