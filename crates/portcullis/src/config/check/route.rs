//! Routes: every name resolves, each has one outcome, and no two match the same request.

use std::collections::{BTreeMap, HashMap};

use http::{Method, StatusCode};

use proxy::route::{HostPattern, Part, PathPattern, PathRules, Rewrite, Template};

use super::names::dangling;
use super::token::{KeyPaths, RoutePlaces};
use super::{Check, flat, items};
use crate::config::finding::Finding;
use crate::config::model::{Action, Authenticate, Listener, ListenerKind, Name, Proof, Route, Upstream};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::route as raw;
use crate::config::reader::{Entries, Field};
use crate::config::values::field::{FieldTemplate, SetField};

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
            self.key_paths(&route, name_span, key_paths);
            self.findings.extend(ties.add(&route, name_span));
            routes.push(route);
        }
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
        let action = self.action(raw.name.span, raw.upstream, raw.respond, raw.rewrite, path.as_ref());
        let methods = raw.methods.map(|methods| self.names(methods, "method")).unwrap_or_default();
        let (set_fields, security_fields) = match flat(raw.headers) {
            Some(headers) => {
                let security = !matches!(flat(headers.security), Some(raw::SecurityFields::Off));
                (self.set_fields(headers.set, &mut places), security)
            }
            None => (Vec::new(), true),
        };
        let labels = flat(raw.labels).map(|labels| labels.0).unwrap_or_default();
        let token = match raw.token {
            Some(Field { value: Some(name), span }) => self.tokens.resolve(name, span, self.findings),
            _ => None,
        };
        if let Some(Field { value: Some(raw::Credentials::Forward), span }) = raw.credentials {
            places.forward = Some(span);
        }
        let route = Route {
            token,
            name: raw.name.value?,
            on,
            host: raw.host.map_or(Some(HostPattern::Any), |host| Some(host.value?.0))?,
            path: path?,
            methods: methods.into_iter().map(|method| method.value.0).collect(),
            authenticate: authenticate?,
            limits,
            concurrency: flat(raw.concurrency).map(|count| count.0),
            action: action?,
            labels: labels
                .into_iter()
                .filter_map(|(key, value)| Some((key.value?.to_string(), value.value?)))
                .collect(),
            paths: path_rules(flat(raw.paths)),
            set_fields,
            security_fields,
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
            if listeners.get(&name).is_some_and(|listener| matches!(listener.kind, ListenerKind::Redirect)) {
                let finding =
                    Finding::error(span, format!("`{name}` redirects everything to TLS, it has no routes"));
                self.error(finding.expecting("a listener without `redirect`"));
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

    fn action(
        &mut self,
        route: Span,
        upstream: Option<Field<Name>>,
        respond: Option<Field<raw::Respond>>,
        rewrite: Option<Field<raw::Rewrite>>,
        path: Option<&PathPattern>,
    ) -> Option<Action> {
        match (upstream, respond) {
            (Some(upstream), Some(respond)) => {
                let finding = Finding::error(respond.span, "`upstream` and `respond` on one route");
                self.error(finding.expecting("one of them").related(upstream.span, "`upstream` stands at"));
                None
            }
            (None, None) => {
                self.error(
                    Finding::error(route, "the route leads nowhere").expecting("`upstream` or `respond`"),
                );
                None
            }
            (Some(upstream), None) => {
                let rewrite = rewrite.and_then(|rewrite| self.rewrite(rewrite, path));
                let name = self.upstreams.resolve(upstream.value?, upstream.span, self.findings)?;
                Some(Action::Forward { upstream: name, rewrite })
            }
            (None, Some(respond)) => {
                if let Some(rewrite) = rewrite {
                    self.error(Finding::error(
                        rewrite.span,
                        "a path is rewritten on the way to an upstream, and there is none",
                    ));
                }
                let respond = respond.value?;
                let (status_span, status) = (respond.status.span, respond.status.value?.0);
                let body = flat(respond.body).unwrap_or_default();
                let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
                if bodiless.contains(&status) && !body.is_empty() {
                    self.error(Finding::error(
                        status_span,
                        format!("a response {} has no body", status.as_u16()),
                    ));
                }
                Some(Action::Respond { status, body })
            }
        }
    }

    fn rewrite(&mut self, rewrite: Field<raw::Rewrite>, path: Option<&PathPattern>) -> Option<Rewrite> {
        let (from, to) = match rewrite.value? {
            raw::Rewrite::StripPrefix(prefix) => (prefix, String::new()),
            raw::Rewrite::ReplacePrefix(replace) => {
                let replace = replace.value?;
                (replace.from, replace.to.value?.0)
            }
        };
        let prefix = from.value?.0;
        let literal = match path? {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => path,
        };
        let below =
            literal.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !below {
            let finding =
                Finding::error(from.span, format!("the route's path does not begin with `{prefix}`"));
            self.error(finding.expecting("a prefix of the route's path, on a segment boundary"));
        }
        Some(Rewrite { from: prefix, to })
    }

    fn set_fields(
        &mut self,
        set: Option<Field<Entries<SetField, FieldTemplate>>>,
        places: &mut RoutePlaces,
    ) -> Vec<(http::HeaderName, Template)> {
        let mut fields: Vec<(http::HeaderName, Template)> = Vec::new();
        for (name, template) in flat(set).map(|set| set.0).unwrap_or_default() {
            let (Some(SetField(field)), Some(FieldTemplate(value))) = (name.value, template.value) else {
                continue;
            };
            if let Template::Parts(parts) = &value {
                for part in parts {
                    if let Part::Claim(claim) = part
                        && !self.claims.contains_key(claim.as_str())
                    {
                        let finding =
                            Finding::error(template.span, format!("no issuer maps the claim `{claim}`"));
                        let suggestion =
                            crate::config::problem::closest(claim, self.claims.keys().map(Name::as_str));
                        self.error(
                            finding
                                .expecting("a name under `claims` of a token issuer")
                                .suggesting(suggestion),
                        );
                    }
                }
            }
            if fields.iter().any(|(known, _)| *known == field) {
                self.error(Finding::error(
                    name.span,
                    format!("`{field}` a second time, in another spelling"),
                ));
            }
            places.set.push((field.clone(), name.span));
            fields.push((field, value));
        }
        fields
    }
}

/// Which routes match the same host and path on a listener: with a method in common they tie.
#[derive(Default)]
struct Ties(HashMap<(Name, HostPattern, PathPattern), Vec<Placed>>);

struct Placed {
    name: Name,
    methods: Vec<Method>,
    span: Span,
}

impl Ties {
    fn add(&mut self, route: &Route, span: Span) -> Vec<Finding> {
        let mut findings = Vec::new();
        for listener in &route.on {
            let key = (listener.clone(), route.host.clone(), route.path.clone());
            let same = self.0.entry(key).or_default();
            let overlap = |methods: &[Method]| {
                methods.is_empty()
                    || route.methods.is_empty()
                    || methods.iter().any(|m| route.methods.contains(m))
            };
            if let Some(other) = same.iter().find(|other| overlap(&other.methods)) {
                let message = format!("matches the same requests on `{listener}` as route `{}`", other.name);
                let finding = Finding::error(span, message);
                findings.push(
                    finding
                        .expecting("another host, path or other methods")
                        .related(other.span, "that stands at"),
                );
            }
            same.push(Placed { name: route.name.clone(), methods: route.methods.clone(), span });
        }
        findings
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

fn path_rules(raw: Option<raw::Paths>) -> PathRules {
    let Some(raw) = raw else { return PathRules::default() };
    PathRules {
        refuse_double_slash: matches!(flat(raw.double_slash), Some(raw::DoubleSlash::Refuse)),
        refuse_dot_segments: matches!(flat(raw.dot_segments), Some(raw::DotSegments::Refuse)),
        allow_semicolon: matches!(flat(raw.semicolon), Some(raw::Tolerated::Allow)),
        allow_encoded_slash: matches!(flat(raw.encoded_slash), Some(raw::Tolerated::Allow)),
    }
}
