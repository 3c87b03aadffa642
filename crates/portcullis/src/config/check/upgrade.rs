//! Upgrades: only on the way to an upstream, and only if they can be asked for.

use http::Method;
use proxy::upgrade::Protocol;

use super::Check;
use crate::config::finding::Finding;
use crate::config::model::Action;
use crate::config::problem::Spanned;
use crate::config::reader::Field;
use crate::config::values::network::UpgradeProtocol;

impl Check<'_> {
    /// What a route lets be spoken instead of HTTP.
    pub(super) fn upgrades(
        &mut self,
        raw: Option<Field<Vec<Field<UpgradeProtocol>>>>,
        action: Option<&Action>,
        methods: &[Method],
    ) -> Vec<Protocol> {
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
        if !takes_get && upgrades.iter().any(Protocol::is_websocket) {
            let finding = Finding::error(span, "a WebSocket begins with GET, and the route does not take it");
            self.error(finding.expecting("`GET` among the methods"));
        }
        upgrades
    }
}
