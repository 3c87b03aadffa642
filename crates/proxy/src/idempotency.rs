//! Requests that are done once however often they are sent: the `Idempotency-Key` field
//! (draft-ietf-httpapi-idempotency-key-header), on routes that ask for it.
//!
//! A key belongs to one principal on one route; what it stands for is the whole request: method, host, path, query, content
//! type and body. **The same request again** gets the answer that the first one got, and a field that says so; it is
//! authenticated, limited and decided like any other, and reaches no upstream. **Refused:** another request under the key (422),
//! the same while the first has no answer (409), the same when the first's answer was too long to be kept (409), no key where
//! one is needed, and what is no key (400), a body too large to be compared (413).
//!
//! The first request goes on when its client is gone: that client comes back and asks what became of it. **Not kept**, so that
//! the same request is done again: an answer that says to try again (5xx, 408, 425, 429), and one that broke off.
//!
//! **Weakens:** the store is this process's. A restart, an upgrade and a change of the route's `idempotency` forget all keys;
//! gateways side by side don't know each other's. A store that is full forgets the oldest answers first, and counts it.

mod answer;
mod store;

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use http::request::Parts;
use identity::PrincipalId;
use telemetry::IdempotencySeries;
use tokio::time::Instant;

use crate::core::CoreId;
use crate::cors::one;
use crate::normalize::Canonical;
use crate::refusal::Refusal;

pub(crate) use answer::exchange;
pub use store::{Claim, Kept, SHARDS, Store, StoreBounds};
use store::{Found, Key};

/// What a route does about keys.
#[derive(Debug)]
pub struct Idempotency {
    /// A request without a key is refused.
    pub required: bool,
    /// What is remembered.
    pub store: Arc<Store>,
    /// Its metrics.
    pub series: Arc<IdempotencySeries>,
}

/// What is known of a request with a key.
#[derive(Debug)]
pub(crate) enum Known {
    /// It is the first.
    First(Claim),
    /// This was its answer.
    Answered(Arc<Kept>),
}

impl Idempotency {
    /// The key of a request; none where it needs none. A method that changes nothing, or that may be repeated anyway, has none.
    ///
    /// # Errors
    /// A key is missing, or is none.
    pub(crate) fn key(&self, head: &Parts) -> Result<Option<Arc<str>>, Refusal> {
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(None);
        }
        if !head.headers.contains_key(&KEY) {
            return if self.required { Err(Refusal::IdempotencyKeyMissing) } else { Ok(None) };
        }
        read_key(&head.headers).map(Some).ok_or(Refusal::IdempotencyKeyInvalid)
    }

    /// What is known of this request; from now on its key is taken.
    ///
    /// # Errors
    /// The key stands for another request, or for one that has no answer to give again.
    pub(crate) fn look(
        &self,
        core: CoreId,
        (principal, key): (&PrincipalId, Arc<str>),
        request: (&Parts, &Canonical, &Bytes),
        now: Instant,
    ) -> Result<Known, Refusal> {
        let key = Key { principal: principal.clone(), key };
        let found = self.store.look(&key, self.store.digest(request), now);
        for _ in 0..self.store.evicted() {
            self.series.counted(core.index(), "evicted");
        }
        let (word, known) = match found {
            Found::First(claim) => ("first", Ok(Known::First(claim))),
            Found::Answered(kept) => ("replayed", Ok(Known::Answered(kept))),
            Found::Busy => ("busy", Err(Refusal::IdempotencyKeyBusy)),
            Found::Other => ("conflict", Err(Refusal::IdempotencyKeyReused)),
            Found::NotKept => ("not_kept", Err(Refusal::IdempotencyAnswerNotKept)),
            Found::Full => ("full", Err(Refusal::IdempotencyStoreFull)),
        };
        self.series.counted(core.index(), word);
        known
    }
}

/// A string of RFC 8941 (`"…"`), or the same without quotes, as most clients write it.
fn read_key(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = one(headers, &KEY)?.to_str().ok()?;
    let bare = text.strip_prefix('"').map_or(Some(text), |text| text.strip_suffix('"'))?;
    let is_plain = |byte: u8| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'"' | b'\\' | b',' | b';');
    ((1..=LONGEST_KEY).contains(&bare.len()) && bare.bytes().all(is_plain)).then(|| bare.into())
}

/// Tells requests apart under the process's own random keys: nobody can look for two that are taken for one.
#[derive(Debug, Default)]
struct Digests([RandomState; 2]);

impl Digests {
    fn of(&self, (head, canonical, body): (&Parts, &Canonical, &Bytes)) -> u128 {
        let [high, low] = self.0.each_ref().map(|state| {
            let mut hasher = state.build_hasher();
            head.method.hash(&mut hasher);
            canonical.host.name.hash(&mut hasher);
            canonical.target.as_str().hash(&mut hasher);
            head.headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).hash(&mut hasher);
            body.hash(&mut hasher);
            hasher.finish()
        });
        u128::from(high) << 64 | u128::from(low)
    }
}

/// Says that an answer was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LONGEST_KEY: usize = 255;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_read_with_and_without_quotes_and_nothing_else_is_one() {
        let read = |values: &[&str]| {
            let field = |value: &&str| (KEY, HeaderValue::from_str(value).unwrap());
            read_key(&values.iter().map(field).collect())
        };
        assert_eq!(read(&["\"8e03978e-40d5\""]).as_deref(), Some("8e03978e-40d5"));
        assert_eq!(read(&["8e03978e-40d5"]), read(&["\"8e03978e-40d5\""]));
        for bad in ["", "\"\"", "\"", "\"a", "a b", "a,b", "a\\b", "\"a\";q=1", "é", &"x".repeat(256)] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&["a", "a"]), None, "two fields");
    }
}
