//! Answers of upstreams that are compressed on the way to clients who ask for it, on routes that say so (RFC 9110 sections 8.4 and 12.5.3).
//!
//! **Compressed:** an answer with a body of a type that the route lists, of at least [`Compress::min_bytes`] where its length is known.
//! It gets `Content-Encoding` and `Vary`, loses `Content-Length` and `Accept-Ranges`, and its strong `ETag` becomes a weak one: the bytes are
//! others, what they mean is the same. **Never:** what is encoded already or a part (206), what has no content (204, 205, 304), event streams and
//! gRPC, what says `no-transform` or carries a digest of its bytes or a cookie, and answers of the gateway's own.
//!
//! **Bounds:** a core compresses [`MOST`] answers at the same time, the others pass as they are; a step is [`STEP`] bytes, and after
//! [`STREAK`] bytes everybody else on the core has a turn. What an upstream has sent goes out when it sends nothing more for now.
//!
//! **Weakens:** the length of a compressed answer tells how alike its parts are. Where a page repeats what somebody else's page made the
//! browser ask for, beside a secret, the secret can be guessed letter by letter (BREACH). So it is off by default, and answers that set
//! cookies, which pages with a session mostly do, pass as they are.

mod accept;
mod coder;

use std::rc::Rc;
use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, SET_COOKIE, VARY,
};
use http::{Method, Response, StatusCode};
use hyper::body::Body as _;
use telemetry::CompressionSeries;

use crate::body::ResponseBody;
use crate::core::Core;
use crate::normalize::fields::list;
use accept::Accepted;
pub(crate) use coder::{Coder, Next};

/// Which answers of a route are compressed, and how.
#[derive(Clone, Debug)]
pub struct Compress {
    /// What is offered; of those that a client likes best the first.
    pub codings: Vec<Coding>,
    /// What it is for.
    pub types: Vec<MediaRange>,
    /// Shorter answers of a known length, in bytes, pass as they are.
    pub min_bytes: u64,
    /// Its metrics.
    pub series: Arc<CompressionSeries>,
}

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coding {
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Media types: one, or all of a kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MediaRange {
    /// `application/json`, in lower case.
    One(Box<str>),
    /// `text/`, in lower case.
    Kind(Box<str>),
}

/// What a client asked for, on a route that compresses.
#[derive(Debug)]
pub(crate) struct Wanted {
    accepted: Accepted,
    /// It wants the head alone.
    is_head: bool,
    /// What it holds already (`If-None-Match`).
    holds: Vec<HeaderValue>,
}

impl Compress {
    /// What this request asks for.
    pub(crate) fn wanted(&self, method: &Method, headers: &HeaderMap) -> Wanted {
        let accepted = match headers.get_all(CACHE_CONTROL).iter().any(forbids) {
            true => Accepted::default(),
            false => Accepted::read(headers, &self.codings),
        };
        let holds = headers.get_all(IF_NONE_MATCH).iter().cloned().collect();
        Wanted { accepted, is_head: method == Method::HEAD, holds }
    }

    /// Compresses an answer, if it may be and the client wants it; what follows says so.
    pub(crate) fn apply(&self, wanted: &Wanted, core: &Rc<Core>, response: &mut Response<ResponseBody>) {
        if !response.body().may_be_encoded() {
            return;
        }
        let length =
            response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = match wanted.is_head {
            true => length,
            false => length.or_else(|| response.body().size_hint().exact()),
        };
        let status = response.status();
        let Some(coding) = self.choose(wanted, status, response.headers_mut(), length) else { return };
        if wanted.is_head {
            // The head is that of the answer to GET.
            return mark(coding, response.headers_mut());
        }
        let Some(coder) = Coder::new(coding, &core.compressing, core.id.index(), &self.series) else {
            return self.series.counted(core.id.index(), "busy");
        };
        self.series.counted(core.id.index(), coding.as_str());
        mark(coding, response.headers_mut());
        response.body_mut().encode(coder);
    }

    /// In which coding it goes; where another client's request decides otherwise, the answer says so to caches.
    fn choose(
        &self,
        wanted: &Wanted,
        status: StatusCode,
        headers: &mut HeaderMap,
        length: Option<u64>,
    ) -> Option<Coding> {
        if status == StatusCode::NOT_MODIFIED {
            // What is held under the weak name is what the upstream calls by the strong one.
            if headers.get(ETAG).and_then(weakened).is_some_and(|weak| wanted.holds(&weak)) {
                weaken(headers);
            }
            vary(headers);
            return None;
        }
        if !self.suits(status, headers) || length == Some(0) {
            return None;
        }
        vary(headers);
        let is_short = length.is_some_and(|length| length < self.min_bytes);
        wanted.accepted.coding.filter(|_| !is_short || wanted.accepted.demands)
    }

    fn suits(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let has_content = !status.is_informational()
            && !matches!(
                status,
                StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT
            );
        let is_encoded = headers.get_all(CONTENT_ENCODING).iter().any(|value| value != "identity");
        has_content
            && !is_encoded
            && !AS_THEY_ARE.iter().any(|name| headers.contains_key(name))
            && !headers.get_all(CACHE_CONTROL).iter().any(forbids)
            && headers.get(CONTENT_TYPE).is_some_and(|value| self.lists(value))
    }

    fn lists(&self, content_type: &HeaderValue) -> bool {
        let Ok(text) = content_type.to_str() else { return false };
        let essence = text.split(';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        !is_live(&essence)
            && self.types.iter().any(|range| match range {
                MediaRange::One(one) => essence == **one,
                MediaRange::Kind(kind) => essence.starts_with(&**kind),
            })
    }
}

impl Wanted {
    fn holds(&self, etag: &HeaderValue) -> bool {
        let etag = etag.as_bytes();
        self.holds.iter().any(|held| held.as_bytes().windows(etag.len()).any(|part| part == etag))
    }
}

/// True for what is read piece by piece as it is written: it gains nothing, and a client may wait for what a coder holds.
#[must_use]
pub fn is_live(media_type: &str) -> bool {
    media_type == "text/event-stream" || media_type.starts_with("application/grpc")
}

fn forbids(value: &HeaderValue) -> bool {
    list(value).any(|word| word.eq_ignore_ascii_case(b"no-transform"))
}

/// The head of an answer whose body is compressed.
fn mark(coding: Coding, headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
}

fn weaken(headers: &mut HeaderMap) {
    if let Some(weak) = headers.get(ETAG).and_then(weakened) {
        headers.insert(ETAG, weak);
    }
}

/// The weak form of a strong tag.
fn weakened(etag: &HeaderValue) -> Option<HeaderValue> {
    let is_strong = etag.as_bytes().starts_with(b"\"");
    is_strong.then(|| HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat()).ok()).flatten()
}

fn vary(headers: &mut HeaderMap) {
    let says = |word: &[u8]| word == b"*" || word.eq_ignore_ascii_case(b"accept-encoding");
    if !headers.get_all(VARY).iter().flat_map(list).any(says) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Fields of answers that pass as they are: parts, cookies (see the head of this file), and digests of the bytes, which may follow the
/// bytes as a trailer (RFC 9530; RFC 3230).
const AS_THEY_ARE: [HeaderName; 7] = [
    CONTENT_RANGE,
    SET_COOKIE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("trailer"),
];

/// How many answers a core compresses at the same time. The largest coder takes 1.2 MiB.
pub const MOST: usize = 64;
/// Bytes that are compressed in one go: about a sixth of a millisecond.
const STEP: usize = 16 * 1024;
/// Bytes after which others on the core have their turn.
const STREAK: usize = 4 * STEP;

#[cfg(test)]
mod tests;
