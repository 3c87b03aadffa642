//! The one refusal table: every failure is a [`Refusal`], and one match gives its status, its stable code, whose
//! fault it is and its challenge. The body is the same JSON envelope everywhere.

use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use identity::jwt::TokenError;
use policy::DenialReason;
use telemetry::TraceId;

use crate::normalize::authority::AuthorityError;
use crate::normalize::path::PathError;
use crate::upgrade::UpgradeError;
use crate::validate::DescriptionError;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The client's: another request might pass.
    Client,
    /// The gateway's or what it depends on.
    Gateway,
    /// The upstream's.
    Upstream,
}

/// Why a request is not answered by its upstream.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// By the rules of the core rule set it looks like an attack.
    #[error("the request looks like an attack")]
    Attack,
    /// The request names no single host.
    #[error("host: {0}")]
    Authority(#[from] AuthorityError),
    /// The body is framed wrongly, or broke off.
    #[error("the body is malformed or broke off")]
    BodyMalformed,
    /// The body is larger than the listener allows.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(u64),
    /// The body arrives more slowly than the listener allows.
    #[error("the body arrives too slowly")]
    BodyTooSlow,
    /// A client certificate is needed and none was presented, or one of another trust.
    #[error("a client certificate of {trusts} is required")]
    CertificateRequired {
        /// The trust entries that would do.
        trusts: String,
    },
    /// The certificate no longer stands under the current trust.
    #[error("the client certificate is no longer accepted")]
    CertificateWithdrawn,
    /// The route has as many requests in flight as it may.
    #[error("the route has too many requests in flight")]
    ConcurrencyReached,
    /// The upstream's credential is not there (yet).
    #[error("the credential for upstream `{upstream}` is not available")]
    CredentialUnavailable {
        /// The upstream's name.
        upstream: String,
    },
    /// A preflight that the route's `cors` does not grant.
    #[error("pages of other origins may not ask this: the {0} is not allowed")]
    CrossOrigin(&'static str),
    /// Policy says no.
    #[error("denied by policy")]
    Denied(DenialReason),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Draining,
    /// Another proxy describes a request in a way that has two readings, or none.
    #[error("description: {0}")]
    Description(#[from] DescriptionError),
    /// An `Expect` other than `100-continue`.
    #[error("unknown expectation")]
    ExpectationUnknown,
    /// A `grpc-timeout` that is none.
    #[error("the `grpc-timeout` cannot be read")]
    GrpcTimeout,
    /// The first request under this key was answered with more than is kept.
    #[error("the request with this idempotency key was done, and its answer is not kept")]
    IdempotencyAnswerNotKept,
    /// The first request under this key has no answer yet.
    #[error("the request with this idempotency key is being done")]
    IdempotencyKeyBusy,
    /// Two fields, or what is no key.
    #[error("the idempotency key is none: one word of up to 255 visible characters")]
    IdempotencyKeyInvalid,
    /// The route asks for a key.
    #[error("an idempotency key is required")]
    IdempotencyKeyMissing,
    /// The key stands for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// As many requests with keys are being done as are remembered.
    #[error("too many requests with idempotency keys are being done")]
    IdempotencyStoreFull,
    /// No key set to verify tokens with.
    #[error("no keys to verify tokens of issuer `{issuer}`")]
    KeysUnavailable {
        /// The name of the issuer's entry.
        issuer: String,
    },
    /// The route's methods do not include this one.
    #[error("the method is not allowed here")]
    MethodNotAllowed {
        /// The methods that are, for `Allow`.
        allow: HeaderValue,
    },
    /// TRACE, or a CONNECT that is no upgrade of its route.
    #[error("the method is not supported")]
    MethodUnsupported,
    /// The connection's TLS policy is not the host's.
    #[error("this host needs a connection of its own")]
    MisdirectedRequest,
    /// No route for this host and path.
    #[error("no route for this host and path")]
    NoRoute,
    /// Another proxy asks for a request that would not be forwarded, but answered here.
    #[error("the route forwards nothing: there is nothing to let through")]
    NotForwarded,
    /// The path has two readings.
    #[error("path: {0}")]
    Path(#[from] PathError),
    /// The route does not allow this unusual path.
    #[error("path: {0} is not allowed by the route")]
    PathOddity(&'static str),
    /// The principal is on the deny list.
    #[error("the principal is denied")]
    PrincipalDenied,
    /// Somebody describes a request who is not trusted to.
    #[error("only trusted proxies may ask here")]
    ProxyUntrusted,
    /// A limit was reached.
    #[error("limit `{}` reached", .0.name)]
    RateLimited(Box<RateLimited>),
    /// A rewritten path that is no longer canonical.
    #[error("the rewritten path is ambiguous")]
    Rewrite,
    /// A request target whose scheme is neither `http` nor `https` (RFC 9113 section 8.3.1).
    #[error("unknown scheme")]
    SchemeUnknown,
    /// Two `Authorization` fields.
    #[error("more than one `Authorization` field")]
    SeveralCredentials,
    /// The token was refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A token bound to another certificate (RFC 8705 section 3).
    #[error("the token is bound to another certificate")]
    TokenBinding,
    /// No token where one is needed.
    #[error("a bearer token is required")]
    TokenMissing,
    /// The token is on the deny list, by its `jti`.
    #[error("the token is revoked")]
    TokenRevoked,
    /// No token can be signed for the upstream now, or its keys are not known yet.
    #[error("no token of `{token}` can be signed now")]
    TokenUnavailable {
        /// The name of the entry that mints it.
        token: String,
    },
    /// A transfer coding other than `chunked`, or `chunked` twice (RFC 9112 section 6.1).
    #[error("unknown transfer coding")]
    TransferCodingUnknown,
    /// The rules that should look at the request have no time for it, or failed.
    #[error("the request cannot be inspected now")]
    Uninspected,
    /// An upgrade that has two readings, on a route that allows some.
    #[error("upgrade: {0}")]
    Upgrade(UpgradeError),
    /// No connection to any endpoint.
    #[error("upstream `{0}` cannot be reached")]
    UpstreamConnect(String),
    /// Nothing of the upstream answered for a while: it is left alone.
    #[error("upstream `{upstream}` is left alone for a while: nothing of it answered")]
    UpstreamOpen {
        /// The upstream's name.
        upstream: String,
        /// Seconds until it is tried again.
        retry_after: u64,
    },
    /// The upstream's answer is no HTTP, was cut short, or switches protocols unasked.
    #[error("upstream `{0}` gave a bad answer")]
    UpstreamProtocol(String),
    /// The upstream has as many requests as it may, and nobody else may wait for it.
    #[error("upstream `{0}` has as many requests as it takes")]
    UpstreamSaturated(String),
    /// The upstream did not answer in time.
    #[error("upstream `{0}` did not answer in time")]
    UpstreamTimeout(String),
    /// No name of the upstream has resolved to an address yet.
    #[error("no name of upstream `{0}` resolves to an address")]
    UpstreamUnresolved(String),
    /// The target is longer than the listener allows.
    #[error("the request target is too long")]
    UriTooLong,
}

/// Which limit was reached, and when to come again.
#[derive(Debug)]
pub struct RateLimited {
    /// The limit's name.
    pub name: String,
    /// Seconds until the next request conforms.
    pub retry_after: u64,
    /// The `RateLimit` and `RateLimit-Policy` fields.
    pub fields: [(&'static str, HeaderValue); 2],
}

impl Refusal {
    /// Status, stable code and fault. A new cause does not compile until it has them.
    #[must_use]
    pub fn row(&self) -> (StatusCode, &'static str, Fault) {
        use Fault::{Client, Gateway, Upstream};
        match self {
            Self::Attack => (StatusCode::FORBIDDEN, "WAF_BLOCKED", Client),
            Self::Authority(_) => (StatusCode::BAD_REQUEST, "HOST_INVALID", Client),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", Client),
            Self::BodyMalformed => (StatusCode::BAD_REQUEST, "BODY_MALFORMED", Client),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "BODY_TOO_SLOW", Client),
            Self::CertificateRequired { .. } => (StatusCode::UNAUTHORIZED, "CERTIFICATE_REQUIRED", Client),
            Self::CertificateWithdrawn => (StatusCode::UNAUTHORIZED, "CERTIFICATE_WITHDRAWN", Client),
            Self::ConcurrencyReached => (StatusCode::SERVICE_UNAVAILABLE, "CONCURRENCY_REACHED", Gateway),
            Self::CredentialUnavailable { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "UPSTREAM_CREDENTIAL_UNAVAILABLE", Gateway)
            }
            Self::CrossOrigin(_) => (StatusCode::FORBIDDEN, "CORS_REFUSED", Client),
            Self::Denied(reason @ (DenialReason::NoPermit | DenialReason::Forbidden)) => {
                (StatusCode::FORBIDDEN, reason.code(), Client)
            }
            Self::Denied(reason @ (DenialReason::PolicyError | DenialReason::Stale)) => {
                (StatusCode::FORBIDDEN, reason.code(), Gateway)
            }
            Self::Description(_) => (StatusCode::BAD_REQUEST, "DESCRIPTION_INVALID", Client),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING", Gateway),
            Self::ExpectationUnknown => (StatusCode::EXPECTATION_FAILED, "EXPECTATION_UNKNOWN", Client),
            Self::GrpcTimeout => (StatusCode::BAD_REQUEST, "GRPC_TIMEOUT_INVALID", Client),
            Self::IdempotencyAnswerNotKept => (StatusCode::CONFLICT, "IDEMPOTENCY_ANSWER_NOT_KEPT", Client),
            Self::IdempotencyKeyBusy => (StatusCode::CONFLICT, "IDEMPOTENCY_KEY_BUSY", Client),
            Self::IdempotencyKeyInvalid => (StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_INVALID", Client),
            Self::IdempotencyKeyMissing => (StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_MISSING", Client),
            Self::IdempotencyKeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED", Client)
            }
            Self::IdempotencyStoreFull => {
                (StatusCode::SERVICE_UNAVAILABLE, "IDEMPOTENCY_STORE_FULL", Gateway)
            }
            Self::KeysUnavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "KEYS_UNAVAILABLE", Gateway),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", Client),
            Self::MethodUnsupported => (StatusCode::NOT_IMPLEMENTED, "METHOD_UNSUPPORTED", Client),
            Self::MisdirectedRequest => (StatusCode::MISDIRECTED_REQUEST, "MISDIRECTED_REQUEST", Client),
            Self::NoRoute => (StatusCode::NOT_FOUND, "NO_ROUTE", Client),
            Self::NotForwarded => (StatusCode::FORBIDDEN, "NOT_FORWARDED", Client),
            Self::Path(_) | Self::PathOddity(_) => (StatusCode::BAD_REQUEST, "PATH_AMBIGUOUS", Client),
            Self::PrincipalDenied => (StatusCode::FORBIDDEN, "PRINCIPAL_DENIED", Client),
            Self::ProxyUntrusted => (StatusCode::FORBIDDEN, "PROXY_UNTRUSTED", Client),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", Client),
            Self::Rewrite => (StatusCode::BAD_REQUEST, "REWRITE_AMBIGUOUS", Client),
            Self::SchemeUnknown => (StatusCode::BAD_REQUEST, "SCHEME_UNKNOWN", Client),
            Self::SeveralCredentials => (StatusCode::BAD_REQUEST, "SEVERAL_CREDENTIALS", Client),
            Self::Token(error) => (StatusCode::UNAUTHORIZED, error.code(), Client),
            Self::TokenBinding => (StatusCode::UNAUTHORIZED, "TOKEN_BINDING", Client),
            Self::TokenMissing => (StatusCode::UNAUTHORIZED, "TOKEN_MISSING", Client),
            Self::TokenRevoked => (StatusCode::UNAUTHORIZED, "TOKEN_REVOKED", Client),
            Self::TokenUnavailable { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "TOKEN_SIGNING_UNAVAILABLE", Gateway)
            }
            Self::TransferCodingUnknown => (StatusCode::BAD_REQUEST, "TRANSFER_CODING_UNKNOWN", Client),
            Self::Uninspected => (StatusCode::SERVICE_UNAVAILABLE, "WAF_UNAVAILABLE", Gateway),
            Self::Upgrade(_) => (StatusCode::BAD_REQUEST, "UPGRADE_INVALID", Client),
            Self::UpstreamConnect(_) => (StatusCode::BAD_GATEWAY, "UPSTREAM_CONNECT", Upstream),
            Self::UpstreamOpen { .. } => (StatusCode::SERVICE_UNAVAILABLE, "UPSTREAM_OPEN", Upstream),
            Self::UpstreamProtocol(_) => (StatusCode::BAD_GATEWAY, "UPSTREAM_PROTOCOL", Upstream),
            Self::UpstreamSaturated(_) => (StatusCode::SERVICE_UNAVAILABLE, "UPSTREAM_SATURATED", Upstream),
            Self::UpstreamTimeout(_) => (StatusCode::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT", Upstream),
            Self::UpstreamUnresolved(_) => (StatusCode::SERVICE_UNAVAILABLE, "UPSTREAM_UNRESOLVED", Upstream),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "URI_TOO_LONG", Client),
        }
    }

    /// The status of a gRPC call that is refused: by the status of HTTP, as gRPC's `http-grpc-status-mapping.md` says, but for
    /// what we know better than a client who sees 504: the time was up.
    #[must_use]
    pub fn grpc_status(&self) -> u8 {
        match self.row().0 {
            StatusCode::BAD_REQUEST => 13,  // INTERNAL
            StatusCode::UNAUTHORIZED => 16, // UNAUTHENTICATED
            StatusCode::FORBIDDEN => 7,     // PERMISSION_DENIED
            StatusCode::NOT_FOUND => 12,    // UNIMPLEMENTED
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14, // UNAVAILABLE
            StatusCode::GATEWAY_TIMEOUT => 4, // DEADLINE_EXCEEDED
            _ => 2,                           // UNKNOWN
        }
    }

    /// The answer that the client gets. The log keeps the cause; the message names no internal address.
    #[must_use]
    pub fn response(&self, trace_id: &TraceId) -> Response<String> {
        let (status, code, _) = self.row();
        let envelope = serde_json::json!({
            "error": { "code": code, "message": self.to_string(), "details": [], "trace_id": trace_id.to_string() }
        });
        let mut response = Response::new(format!("{envelope}\n"));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert("allow", allow.clone());
            }
            Self::RateLimited(limited) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(limited.retry_after));
                for (name, value) in &limited.fields {
                    headers.insert(*name, value.clone());
                }
            }
            Self::Upgrade(UpgradeError::Version) => {
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::UpstreamOpen { retry_after, .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(*retry_after));
            }
            Self::ConcurrencyReached
            | Self::CredentialUnavailable { .. }
            | Self::Draining
            | Self::IdempotencyKeyBusy
            | Self::IdempotencyStoreFull
            | Self::KeysUnavailable { .. }
            | Self::TokenUnavailable { .. }
            | Self::Uninspected
            | Self::UpstreamSaturated(_)
            | Self::UpstreamUnresolved(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The challenge of a 401 (RFC 6750 section 3): without a token no error code, with a bad one `invalid_token`; and
    /// of a 403 by a policy's word. Where a policy failed, other credentials would not help.
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::TokenMissing => Some("Bearer"),
            Self::Token(_) | Self::TokenBinding | Self::TokenRevoked => {
                Some("Bearer error=\"invalid_token\"")
            }
            Self::CertificateRequired { .. } | Self::CertificateWithdrawn => Some("Mutual"),
            Self::Denied(DenialReason::NoPermit | DenialReason::Forbidden) => {
                Some("Bearer error=\"insufficient_scope\"")
            }
            _ => None,
        }
    }

    /// True when the connection must not be used again: framing is in doubt, or its authority has ended.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Self::Authority(_)
                | Self::BodyTooLarge(_)
                | Self::BodyMalformed
                | Self::BodyTooSlow
                | Self::CertificateWithdrawn
                | Self::Draining
                | Self::MethodUnsupported
                | Self::Path(_)
                | Self::SchemeUnknown
                | Self::TransferCodingUnknown
                | Self::Upgrade(_)
                | Self::UriTooLong
        )
    }

    /// True when an HTTP/2 connection must end too, not only the stream.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        matches!(self, Self::CertificateWithdrawn | Self::Draining)
    }
}

#[cfg(test)]
mod tests;
