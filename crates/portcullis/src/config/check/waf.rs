//! The core rule set, and what routes ask of it.

use std::time::Duration;

use proxy::inspect::Mode;

use super::{Check, flat};
use crate::config::finding::Finding;
use crate::config::model::{Action, Inspection, Waf};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::waf as raw;
use crate::config::reader::Field;

impl Check<'_> {
    pub(super) fn waf(&mut self, raw: Option<Field<raw::Waf>>) -> Option<Waf> {
        let Field { value, span } = raw?;
        if !waf::IS_BUILT {
            let finding = Finding::error(span, "this program was built without the core rule set");
            self.error(finding.expecting("a build with `--features waf`"));
        }
        let raw = value?;
        let at = raw.time.as_ref().map(|time| time.span);
        let time = flat(raw.time).map_or(Duration::from_secs(1), |time| time.0);
        if let Some(at) = at.filter(|_| time > LONGEST) {
            self.error(Finding::error(at, "no client waits so long").expecting("a time up to `1m`"));
        }
        let rules = raw.rules.span;
        Some(Waf {
            span,
            rules: self.file(&raw.rules.value?.0, rules),
            threads: flat(raw.threads).and_then(|count| count.0.try_into().ok()),
            queue: flat(raw.queue).map_or(64, |count| count.0.get() as usize),
            time,
        })
    }

    pub(super) fn inspection(
        &mut self,
        raw: Spanned<raw::RouteWaf>,
        action: Option<&Action>,
    ) -> Option<Inspection> {
        let Spanned { value: raw, span } = raw;
        self.needs_upstream(action, span, "requests are looked through for an upstream");
        self.inspected.get_or_insert(span);
        let at = raw.body.as_ref().map(|body| body.span);
        let body = flat(raw.body).map_or(128 * 1024, |size| size.0.get());
        if let Some(at) = at.filter(|_| body > LARGEST) {
            let finding =
                Finding::error(at, "such a body takes the rules seconds, and all others wait for them");
            self.error(finding.expecting("a size up to `1MiB`"));
        }
        Some(Inspection {
            mode: match raw.mode.value? {
                raw::WafMode::Detect => Mode::Detect,
                raw::WafMode::Block => Mode::Block,
            },
            strictness: waf::Strictness {
                paranoia: flat(raw.paranoia).map_or(1, |level| level.0),
                threshold: flat(raw.threshold).map_or(5, |count| count.0.get()),
            },
            body: usize::try_from(body).unwrap_or(usize::MAX),
        })
    }

    /// Rules without a route, and routes without rules.
    pub(super) fn rules_for_routes(&mut self, rules: Option<Span>) {
        match (self.inspected, rules) {
            (Some(span), None) => {
                let finding = Finding::error(span, "nothing says where the rules are");
                self.error(finding.expecting("`waf: { rules: DIRECTORY }` beside `routes`"));
            }
            (None, Some(span)) => self.error(Finding::warning(span, "no route asks for these rules")),
            _ => {}
        }
    }
}

const LONGEST: Duration = Duration::from_secs(60);
const LARGEST: u64 = 1 << 20;
