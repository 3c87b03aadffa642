//! Tokens that the gateway mints, and the routes that send them.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName};
use proxy::route::PathPattern;

use super::certificate::TimeBounds;
use super::store::mount_or;
use super::{Check, flat};
use crate::config::finding::Finding;
use crate::config::model::{
    Action, At, Authenticate, Listener, ListenerKind, MintedTokens, Name, Route, TokenSigner, Upstream,
    UpstreamCredentials,
};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::token as raw;
use crate::config::reader::{Entries, Field};
use crate::config::values::token::Scope;

/// Where the keys of minted tokens are served: listener and path, and where the file says so.
#[derive(Default)]
pub(super) struct KeyPaths(BTreeMap<(Name, String), Span>);

impl Check<'_> {
    pub(super) fn tokens(
        &mut self,
        section: Option<Field<Entries<Name, raw::MintedTokens>>>,
        listeners: &BTreeMap<Name, Listener>,
    ) -> (BTreeMap<Name, MintedTokens>, KeyPaths) {
        let mut paths = KeyPaths::default();
        let tokens = self.entries(section, |check, _, raw| check.minted(raw, listeners, &mut paths));
        (tokens, paths)
    }

    fn minted(
        &mut self,
        raw: raw::MintedTokens,
        listeners: &BTreeMap<Name, Listener>,
        paths: &mut KeyPaths,
    ) -> Option<MintedTokens> {
        let issuer = self.issuer_name(raw.issuer);
        let signer = match raw.sign_with {
            Some(field) => field.value.and_then(|signer| self.signer(signer.0)),
            None => Some(TokenSigner::Local),
        };
        let ttl = self.bounded(raw.ttl, Duration::from_secs(60), TTL);
        let mut scopes: Vec<String> = Vec::new();
        for Spanned { value: Scope(scope), span } in super::items(flat(raw.scopes)) {
            if scopes.contains(&scope) {
                self.error(Finding::error(span, "the same scope a second time"));
            }
            scopes.push(scope);
        }
        let (jwks_on, jwks_path) = match flat(raw.jwks) {
            Some(served) => self.served_keys(served, listeners, paths),
            None => (Vec::new(), KEYS.to_owned()),
        };
        Some(MintedTokens {
            issuer: issuer?.value.to_string(),
            signer: signer?,
            ttl,
            scopes,
            jwks_on,
            jwks_path,
        })
    }

    fn signer(&mut self, raw: raw::TokenSigner) -> Option<TokenSigner> {
        match raw {
            raw::TokenSigner::Local => Some(TokenSigner::Local),
            raw::TokenSigner::Key(reference) => self.secret(reference).map(TokenSigner::Key),
            raw::TokenSigner::Transit(transit) => {
                let transit = transit.value?;
                let store = transit.store.value.and_then(|name| self.vault_name(name, transit.store.span));
                let (mount, at) = (mount_or(transit.mount, "transit"), At(transit.key.span));
                Some(TokenSigner::Transit { store: store?, mount, key: transit.key.value?.0, at })
            }
        }
    }

    fn served_keys(
        &mut self,
        raw: raw::ServedKeys,
        listeners: &BTreeMap<Name, Listener>,
        paths: &mut KeyPaths,
    ) -> (Vec<Name>, String) {
        let path = flat(raw.path).map_or_else(|| KEYS.to_owned(), |path| path.0);
        let mut on = Vec::new();
        for Spanned { value, span } in self.names(raw.on, "listener") {
            let Some(name) = self.listeners.resolve(value, span, self.findings) else { continue };
            if listeners.get(&name).is_some_and(|listener| matches!(listener.kind, ListenerKind::Redirect)) {
                let finding = Finding::error(span, format!("`{name}` redirects everything to TLS"));
                self.error(finding.expecting("a listener without `redirect`"));
            }
            if listeners.get(&name).is_some_and(|listener| listener.validate.is_some()) {
                let finding = Finding::error(span, format!("`{name}` answers other proxies only"));
                self.error(finding.expecting("a listener without `validate`"));
            }
            if let Some(first) = paths.0.insert((name.clone(), path.clone()), span) {
                let finding = Finding::error(span, format!("`{path}` on `{name}` is taken by other keys"));
                self.error(finding.expecting("another `path`").related(first, "those are at"));
            }
            on.push(name);
        }
        (on, path)
    }

    /// What a route, its token and the credentials of its upstream demand of one another.
    pub(super) fn credentials(
        &mut self,
        route: &Route,
        at: &RoutePlaces,
        upstreams: &BTreeMap<Name, Upstream>,
    ) {
        let shown = |name: &Name| upstreams.get(name).and_then(|upstream| upstream.credentials.as_ref());
        let fields: Vec<HeaderName> = route
            .action
            .upstreams()
            .filter_map(shown)
            .map(|credentials| match credentials {
                UpstreamCredentials::Bearer(_) | UpstreamCredentials::Basic { .. } => AUTHORIZATION,
                UpstreamCredentials::Field { name, .. } => name.clone(),
            })
            .collect();
        if let Some((field, span)) = at.set.iter().find(|(set, _)| fields.contains(set)) {
            let finding = Finding::error(*span, format!("`{field}` carries the credentials of the upstream"));
            self.error(finding.expecting("another field"));
        }
        let taken = fields.contains(&AUTHORIZATION);
        if let Some(span) = at.forward
            && taken
        {
            let finding = Finding::error(span, "the upstream gets credentials of its own in `Authorization`");
            self.error(finding.expecting("`credentials: strip`, or an upstream without `credentials`"));
        }
        let Some(span) = at.token else { return };
        if let Some(forward) = at.forward {
            let finding = Finding::error(span, "a token takes the place of the caller's credential");
            let finding = finding.expecting("`token`, or `credentials: forward`");
            self.error(finding.related(forward, "`credentials` stands at"));
        }
        if taken {
            let finding = Finding::error(span, "the upstream gets credentials of its own in `Authorization`");
            self.error(finding.expecting("a route without `token`, or an upstream without `credentials`"));
        }
        if !matches!(route.action, Action::Forward { .. }) {
            let finding = Finding::error(span, "a token is for an upstream, and there is none");
            self.error(finding.expecting("`upstream`, or no `token`"));
        }
        if route.authenticate == Authenticate::None {
            let finding = Finding::error(span, "a token names its caller, and nobody proves to be one here");
            self.error(finding.expecting("`authenticate` with at least one proof"));
        }
    }

    /// A path with keys is no route's.
    pub(super) fn key_paths(&mut self, route: &Route, span: Span, paths: &KeyPaths) {
        let PathPattern::Exact(path) = &route.path else { return };
        for listener in &route.on {
            if let Some(keys) = paths.0.get(&(listener.clone(), path.clone())) {
                let finding =
                    Finding::error(span, format!("`{path}` on `{listener}` has the keys of minted tokens"));
                self.error(finding.expecting("another path").related(*keys, "those are at"));
            }
        }
    }
}

/// Where parts of a route stand.
#[derive(Default)]
pub(super) struct RoutePlaces {
    /// `credentials: forward`.
    pub(super) forward: Option<Span>,
    /// `token`.
    pub(super) token: Option<Span>,
    /// Fields that are set.
    pub(super) set: Vec<(http::HeaderName, Span)>,
}

/// Below, clocks and the way to the upstream take all of it; above, it is no short token.
const TTL: TimeBounds = (Duration::from_secs(5), Duration::from_secs(3600), "a time from `5s` to `1h`");

const KEYS: &str = "/.well-known/jwks.json";
