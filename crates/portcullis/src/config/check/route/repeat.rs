//! Requests that are sent twice on purpose, and those that must not be done twice.

use std::num::NonZeroU32;
use std::time::Duration;

use proxy::idempotency::{SHARDS, StoreBounds};

use super::super::{Check, flat};
use crate::config::finding::Finding;
use crate::config::model::{Action, Authenticate, Mirror};
use crate::config::problem::{Span, Spanned};
use crate::config::raw::route as raw;
use crate::config::reader::Field;
use crate::config::values::quantity::{Size, Timespan};

impl Check<'_> {
    pub(super) fn mirror(&mut self, raw: Spanned<raw::Mirror>, action: Option<&Action>) -> Option<Mirror> {
        let Spanned { value: raw, span } = raw;
        self.needs_upstream(action, span, "a copy is made on the way to an upstream");
        let (at, body) = (raw.body.as_ref().map(|body| body.span), bytes(raw.body, 64 * 1024));
        if let Some(at) = at.filter(|_| body > LARGEST_COPY) {
            let finding = Finding::error(at, "every copy on its way holds so much");
            self.error(finding.expecting("a size up to `16MiB`"));
        }
        let upstream = self.upstreams.resolve(raw.upstream.value?, raw.upstream.span, self.findings)?;
        if let Some(action) = action
            && action.upstreams().any(|name| *name == upstream)
        {
            let message = format!("`{upstream}` gets the requests themselves");
            self.error(Finding::error(raw.upstream.span, message).expecting("another upstream"));
        }
        Some(Mirror {
            upstream,
            share: flat(raw.share).map_or(100, |share| share.0),
            concurrency: flat(raw.concurrency)
                .map_or(const { NonZeroU32::new(64).unwrap() }, |count| count.0),
            body,
            timeout: time(raw.timeout, Duration::from_secs(5)),
        })
    }

    pub(super) fn idempotency(
        &mut self,
        raw: Spanned<raw::Idempotency>,
        action: Option<&Action>,
        authenticate: Option<&Authenticate>,
    ) -> (StoreBounds, bool) {
        let Spanned { value: raw, span } = raw;
        self.needs_upstream(action, span, "a request is done by an upstream");
        if authenticate == Some(&Authenticate::None) {
            let finding = Finding::error(span, "a key belongs to a caller, and nobody proves to be one here");
            self.error(finding.expecting("`authenticate` with at least one proof"));
        }
        let at = raw.ttl.as_ref().map(|ttl| ttl.span);
        let ttl = time(raw.ttl, Duration::from_secs(86_400));
        if let Some(at) = at.filter(|_| ttl > LONGEST) {
            self.error(
                Finding::error(at, "longer than a store in memory lasts").expecting("a time up to `7d`"),
            );
        }
        let (body, bytes) = (bytes(raw.body, 1 << 20), bytes(raw.memory, 64 << 20));
        if bytes / SHARDS < body {
            let finding = Finding::error(span, "an answer as large as `body` would not be remembered");
            self.error(finding.expecting("`memory` of at least eight times `body`"));
        }
        let entries = flat(raw.entries).map_or(10_000, |count| count.0.get() as usize);
        (StoreBounds { ttl, entries, bytes, body }, flat(raw.required).unwrap_or_default())
    }

    pub(in crate::config::check) fn needs_upstream(
        &mut self,
        action: Option<&Action>,
        span: Span,
        why: &str,
    ) {
        if action.is_some_and(|action| !matches!(action, Action::Forward { .. })) {
            self.error(Finding::error(span, format!("{why}, and there is none")));
        }
    }
}

fn bytes(raw: Option<Field<Size>>, default: usize) -> usize {
    flat(raw).map_or(default, |size| usize::try_from(size.0.get()).unwrap_or(usize::MAX))
}

fn time(raw: Option<Field<Timespan>>, default: Duration) -> Duration {
    flat(raw).map_or(default, |time| time.0)
}

const LARGEST_COPY: usize = 16 << 20;
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
