//! Routes as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::waf::RouteWaf;
use crate::config::reader::{Entries, Field};
use crate::config::values::field::{FieldTemplate, FinalStatus, RouteMethod, SetField};
use crate::config::values::network::UpgradeProtocol;
use crate::config::values::pattern::{Name, PathPrefix, RouteHost, RoutePath};
use crate::config::values::quantity::{Count, Percent, Size, Timespan};
use crate::config::values::rule::{
    AnswerField, AnswerValue, CompressibleType, CorsOrigin, FieldName, LocationTemplate, RedirectStatus,
    RemovedAnswerField, RemovedField,
};

/// Which request goes where, and what it needs for that.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Route {
    /// What policies, logs and metrics call it.
    pub(in crate::config) name: Field<Name>,
    /// Names of listeners.
    pub(in crate::config) on: Field<Vec<Field<Name>>>,
    /// Exact host or `*.wildcard`. Default: any.
    pub(in crate::config) host: Option<Field<RouteHost>>,
    /// Exact path, or `/prefix/**` for it and everything below.
    pub(in crate::config) path: Field<RoutePath>,
    /// Methods. Default: all.
    pub(in crate::config) methods: Option<Field<Vec<Field<RouteMethod>>>>,
    /// Which proofs a caller must bring: `none`, or `any` or `all` of a list of `identity.jwt` and `trust` entries.
    pub(in crate::config) authenticate: Field<Authenticate>,
    /// Names of `limits`.
    pub(in crate::config) limits: Option<Field<Vec<Field<Name>>>>,
    /// Requests in flight at the same time. Default: no cap.
    pub(in crate::config) concurrency: Option<Field<Count>>,
    /// Where permitted requests go: a name of `upstreams`. One of `upstream`, `split`, `respond` and `redirect`.
    pub(in crate::config) upstream: Option<Field<Name>>,
    /// Where they go by weight, or by the value of a field.
    pub(in crate::config) split: Option<Field<Split>>,
    /// What permitted requests are answered with.
    pub(in crate::config) respond: Option<Field<Respond>>,
    /// Where else their callers are sent.
    pub(in crate::config) redirect: Option<Field<Redirect>>,
    /// How the path changes on the way to the upstream.
    pub(in crate::config) rewrite: Option<Field<Rewrite>>,
    /// Protocols that callers may speak instead of HTTP, with the upstream's consent: `websocket`. Over HTTP/1.1 and HTTP/2.
    /// Default: none; whoever asks gets the answer to the plain request.
    pub(in crate::config) upgrade: Option<Field<Vec<Field<UpgradeProtocol>>>>,
    /// Labels that policies may read.
    pub(in crate::config) labels: Option<Field<Entries<Name, String>>>,
    /// What unusual paths mean here.
    pub(in crate::config) paths: Option<Field<Paths>>,
    /// Header fields.
    pub(in crate::config) headers: Option<Field<Headers>>,
    /// Which pages of other origins may read this route's answers, by their scripts. Default: none.
    pub(in crate::config) cors: Option<Field<Cors>>,
    /// Which answers of its upstreams are compressed, for clients who ask for it. Default: none.
    pub(in crate::config) compress: Option<Field<Compress>>,
    /// Where copies of its requests go; their answers are thrown away. Default: nowhere.
    pub(in crate::config) mirror: Option<Field<Mirror>>,
    /// Requests with an `Idempotency-Key` are done once. Default: the field means nothing.
    pub(in crate::config) idempotency: Option<Field<Idempotency>>,
    /// What its requests are looked through for by the core rule set. Default: nothing.
    pub(in crate::config) waf: Option<Field<RouteWaf>>,
    /// The caller's `Authorization` field: `strip` (default) it, or `forward` it to the upstream.
    pub(in crate::config) credentials: Option<Field<Credentials>>,
    /// A name of `identity.tokens`: the caller's credential ends at the gateway, and the upstream gets a short token that
    /// names the caller. Not beside `credentials: forward`.
    pub(in crate::config) token: Option<Field<Name>>,
}

/// Which proofs a caller must bring.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Authenticate {
    /// None; the caller is anonymous and still needs a permit.
    None,
    /// At least one of these.
    Any(Field<Vec<Field<Name>>>),
    /// Each of these.
    All(Field<Vec<Field<Name>>>),
}

/// An answer of the gateway's own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Respond {
    /// The status.
    pub(in crate::config) status: Field<FinalStatus>,
    /// The body, as `text/plain`. Default: empty.
    pub(in crate::config) body: Option<Field<String>>,
}

/// Where callers are sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Redirect {
    /// 301, 302, 303, 307 or 308; after 307 and 308 the method stays what it was.
    pub(in crate::config) status: Field<RedirectStatus>,
    /// The `Location`: a URL, or a path of the same host.
    pub(in crate::config) to: Field<LocationTemplate>,
}

/// Several upstreams for one route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Split {
    /// Upstreams, each with its share. As the last one's weight grows, callers that stick only move towards it.
    pub(in crate::config) to: Field<Vec<Field<Side>>>,
    /// Requests that go to one of them whatever the weights; the first that fits counts.
    pub(in crate::config) when: Option<Field<Vec<Field<When>>>>,
    /// Whose requests all go to the same side: a `principal`'s, or an `address`' (an IPv6 client is its /64). Default: each
    /// request on its own.
    pub(in crate::config) sticky: Option<Field<Sticky>>,
}

/// An upstream with its share.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Side {
    /// A name of `upstreams`.
    pub(in crate::config) upstream: Field<Name>,
    /// Its share, of the sum of all weights.
    pub(in crate::config) weight: Field<Count>,
}

/// Which requests go to one upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct When {
    /// A header field.
    pub(in crate::config) field: Field<SetField>,
    /// Its whole value.
    pub(in crate::config) value: Field<AnswerValue>,
    /// A name of `upstreams`; it need not stand in `to`.
    pub(in crate::config) upstream: Field<Name>,
}

/// By what callers are told apart.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Sticky {
    /// The client's address.
    Address,
    /// The principal's id.
    Principal,
}

/// How a path changes on the way to the upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Rewrite {
    /// Takes this prefix away.
    StripPrefix(Field<PathPrefix>),
    /// Puts another prefix in its place.
    ReplacePrefix(Field<ReplacePrefix>),
}

/// One prefix for another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ReplacePrefix {
    /// The prefix of the route's path.
    pub(in crate::config) from: Field<PathPrefix>,
    /// What stands in its place.
    pub(in crate::config) to: Field<PathPrefix>,
}

/// What unusual paths mean on a route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Paths {
    /// `//`: `merge` (default) or `refuse`.
    pub(in crate::config) double_slash: Option<Field<DoubleSlash>>,
    /// Plain `.` and `..` segments: `resolve` (default) or `refuse`.
    pub(in crate::config) dot_segments: Option<Field<DotSegments>>,
    /// `;`: `refuse` (default) or `allow`.
    pub(in crate::config) semicolon: Option<Field<Tolerated>>,
    /// `%2F`: `refuse` (default) or `allow`, undecoded.
    pub(in crate::config) encoded_slash: Option<Field<Tolerated>>,
}

/// What `//` means.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum DoubleSlash {
    /// One slash.
    Merge,
    /// 400.
    Refuse,
}

/// What plain dot segments mean.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum DotSegments {
    /// They are resolved.
    Resolve,
    /// 400.
    Refuse,
}

/// Whether something unusual passes.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Tolerated {
    /// 400.
    Refuse,
    /// It passes.
    Allow,
}

/// Header fields of a route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Headers {
    /// Fields set on the request to the upstream. The same names are removed from what callers send, on every route.
    pub(in crate::config) set: Option<Field<Entries<SetField, FieldTemplate>>>,
    /// Fields, in every spelling, that the upstream does not get.
    pub(in crate::config) remove: Option<Field<Vec<Field<RemovedField>>>>,
    /// Fields of answers, the upstream's and the route's own; refusals are the same everywhere.
    pub(in crate::config) response: Option<Field<ResponseHeaders>>,
    /// Security fields of responses (HSTS, nosniff, frame, referrer): `default`, or `off`.
    pub(in crate::config) security: Option<Field<SecurityFields>>,
}

/// What pages of other origins may do (CORS, Fetch standard). Their preflights are answered here, before authentication, and
/// grant nothing but the question: the request itself is judged like any other.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cors {
    /// Origins such as `https://app.example.com`, or `"*"` alone for any.
    pub(in crate::config) origins: Field<Vec<Field<CorsOrigin>>>,
    /// Methods beside GET, HEAD and POST, which pages may use anyway. Default: those of the route.
    pub(in crate::config) methods: Option<Field<Vec<Field<RouteMethod>>>>,
    /// Request fields that pages may set, such as `authorization` and `content-type`. Default: none but those that they may
    /// always set.
    pub(in crate::config) fields: Option<Field<Vec<Field<FieldName>>>>,
    /// Response fields that pages may read beside the few that they always may.
    pub(in crate::config) expose: Option<Field<Vec<Field<FieldName>>>>,
    /// Whether pages may read answers to requests with cookies or a client certificate. Default: `false`.
    pub(in crate::config) credentials: Option<Field<bool>>,
    /// For how long a browser may remember a preflight, up to `24h`. Default: `10m`.
    pub(in crate::config) max_age: Option<Field<Timespan>>,
}

/// Which answers are compressed. Never: what is encoded or a part already, event streams, gRPC, what says `no-transform`, and what sets
/// cookies. Keep it off where answers repeat what anybody can put into a request, beside a secret (BREACH).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Compress {
    /// What is offered; of those that a client likes best the first. Default: `[br, gzip]`.
    pub(in crate::config) encodings: Option<Field<Vec<Field<Encoding>>>>,
    /// Media types such as `application/json`, or `text/*`. Default: text, JSON, XML, JavaScript, WebAssembly and SVG.
    pub(in crate::config) types: Option<Field<Vec<Field<CompressibleType>>>>,
    /// Shorter answers of a known length pass as they are. Default: `1KiB`.
    pub(in crate::config) min_size: Option<Field<Size>>,
}

/// A content coding.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Encoding {
    /// Brotli (RFC 7932).
    Br,
    /// RFC 1952.
    Gzip,
}

/// Copies of requests for another upstream. They can neither slow nor change the answer: what there is no room for is not sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Mirror {
    /// A name of `upstreams`.
    pub(in crate::config) upstream: Field<Name>,
    /// Of how many of the requests. Default: `100%`.
    pub(in crate::config) share: Option<Field<Percent>>,
    /// How many at the same time. Default: 64.
    pub(in crate::config) concurrency: Option<Field<Count>>,
    /// Up to which size bodies are copied, at most `16MiB`; requests with larger ones are not mirrored. Default: `64KiB`.
    pub(in crate::config) body: Option<Field<Size>>,
    /// How long a copy may be on its way. Default: `5s`.
    pub(in crate::config) timeout: Option<Field<Timespan>>,
}

/// What is remembered of requests with an `Idempotency-Key`, in this process: a restart forgets it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Idempotency {
    /// How long an answer is given again, up to `7d`. Default: `24h`.
    pub(in crate::config) ttl: Option<Field<Timespan>>,
    /// Whether requests without a key are refused; GET, HEAD and OPTIONS need none. Default: `false`.
    pub(in crate::config) required: Option<Field<bool>>,
    /// How many keys are remembered. Default: 10000.
    pub(in crate::config) entries: Option<Field<Count>>,
    /// How much the remembered answers may take; at least eight times `body`. Default: `64MiB`.
    pub(in crate::config) memory: Option<Field<Size>>,
    /// The largest body of a request with a key (413 above), and of an answer that is remembered. Default: `1MiB`.
    pub(in crate::config) body: Option<Field<Size>>,
}

/// Header fields of a route's answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ResponseHeaders {
    /// Fields set, in the place of the upstream's. The text is taken as it stands.
    pub(in crate::config) set: Option<Field<Entries<AnswerField, AnswerValue>>>,
    /// Fields that the caller does not get.
    pub(in crate::config) remove: Option<Field<Vec<Field<RemovedAnswerField>>>>,
}

/// Whether responses get security fields that they lack.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum SecurityFields {
    /// They do.
    Default,
    /// They do not.
    Off,
}

/// What becomes of the caller's `Authorization` field.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Credentials {
    /// It ends at the gateway.
    Strip,
    /// The upstream gets it.
    Forward,
}
