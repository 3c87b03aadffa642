//! Which answers of a route are compressed.

use proxy::compress::{Coding, MediaRange};

use super::super::{Check, flat};
use crate::config::finding::Finding;
use crate::config::model::{Action, Compress};
use crate::config::problem::Spanned;
use crate::config::raw::route as raw;

impl Check<'_> {
    pub(super) fn compress(
        &mut self,
        Spanned { value: raw, span }: Spanned<raw::Compress>,
        action: Option<&Action>,
    ) -> Compress {
        self.needs_upstream(action, span, "answers of upstreams are compressed");
        let mut codings = Vec::new();
        for Spanned { value, span } in
            raw.encodings.map(|named| self.names(named, "encoding")).unwrap_or_default()
        {
            let coding = match value {
                raw::Encoding::Br => Coding::Brotli,
                raw::Encoding::Gzip => Coding::Gzip,
            };
            if codings.contains(&coding) {
                self.error(Finding::error(span, "the same encoding a second time"));
            }
            codings.push(coding);
        }
        if codings.is_empty() {
            codings = vec![Coding::Brotli, Coding::Gzip];
        }
        let types = raw.types.map(|named| self.names(named, "media type")).map_or_else(
            || DEFAULT_TYPES.iter().map(|one| MediaRange::One((*one).into())).chain([text()]).collect(),
            |named| named.into_iter().map(|range| range.value.0).collect(),
        );
        Compress { codings, types, min_bytes: flat(raw.min_size).map_or(1024, |size| size.0.get()) }
    }
}

fn text() -> MediaRange {
    MediaRange::Kind("text/".into())
}

/// Beside `text/*`.
const DEFAULT_TYPES: [&str; 14] = [
    "application/atom+xml",
    "application/geo+json",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/rss+xml",
    "application/vnd.api+json",
    "application/wasm",
    "application/x-ndjson",
    "application/xhtml+xml",
    "application/xml",
    "image/svg+xml",
];
