//! Upgrades: only on the way to an upstream, and only if they can be asked for.

use std::collections::BTreeMap;

use http::Method;
use proxy::upgrade;

use super::Check;
use crate::config::finding::Finding;
use crate::config::model::{Action, Name, Protocol, Route, Upstream};
use crate::config::problem::{Span, Spanned};
use crate::config::reader::Field;
use crate::config::values::network::UpgradeProtocol;

impl Check<'_> {
    /// What a route lets be spoken instead of HTTP.
    pub(super) fn upgrades(
        &mut self,
        raw: Option<Field<Vec<Field<UpgradeProtocol>>>>,
        action: Option<&Action>,
        methods: &[Method],
    ) -> Vec<upgrade::Protocol> {
        let Some(raw) = raw else { return Vec::new() };
        let span = raw.span;
        let mut upgrades = Vec::new();
        for Spanned { value: UpgradeProtocol(protocol), span } in self.names(raw, "protocol") {
            if upgrades.contains(&protocol) {
                self.error(Finding::error(span, format!("`{protocol}` a second time")));
            } else {
                upgrades.push(protocol);
            }
        }
        if matches!(action, Some(Action::Redirect { .. } | Action::Respond { .. })) {
            let finding = Finding::error(span, "an upgrade is agreed with an upstream, and there is none");
            self.error(finding.expecting("`upstream` or `split`"));
        }
        let takes_get = methods.is_empty() || methods.contains(&Method::GET);
        if !takes_get && upgrades.iter().any(upgrade::Protocol::is_websocket) {
            let finding = Finding::error(span, "a WebSocket begins with GET, and the route does not take it");
            self.error(finding.expecting("`GET` among the methods"));
        }
        upgrades
    }

    /// An upgrade is asked for over HTTP/1.1, whatever the client speaks.
    pub(super) fn upgrades_over_http1(
        &mut self,
        route: &Route,
        span: Span,
        upstreams: &BTreeMap<Name, Upstream>,
    ) {
        if route.upgrades.is_empty() {
            return;
        }
        let speaks_another = |name: &&Name| {
            upstreams.get(name.as_str()).is_some_and(|upstream| upstream.protocol != Protocol::Http1)
        };
        if let Some(name) = route.action.upstreams().find(speaks_another) {
            let finding = Finding::error(
                span,
                format!("an upgrade goes over HTTP/1.1, and upstream `{name}` may speak HTTP/2"),
            );
            self.error(finding.expecting("an upstream with `protocol: http1`"));
        }
    }
}
