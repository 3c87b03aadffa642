//! The answer as the client gets it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    WWW_AUTHENTICATE,
};
use http::{Response, StatusCode, Version};
use hyper::body::{Body as _, Frame};
use identity::PrincipalKind;

use crate::authenticate::Caller;
use crate::body::{ResponseBody, Streamed};
use crate::forward::{X_REQUEST_ID, id_value};
use crate::grpc;
use crate::idempotency::{Kept, REPLAYED};
use crate::normalize::Canonical;
use crate::normalize::fields::remove_hop_by_hop;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::route::Route;
use crate::tunnel;
use crate::upgrade::Upgrade;
use crate::upstream::Answer;
use crate::validate::Checked;

/// What a request came to, before it becomes a response.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Envoy is told whether a request may pass.
    Checked(Checked),
    /// The upstream answered.
    Answered {
        /// Its answer.
        answer: Box<Answer>,
        /// The route's place in flight.
        slot: Option<limit::Slot>,
        /// What was asked for instead of HTTP.
        upgrade: Option<Box<Upgrade>>,
    },
    /// Public keys, for everybody.
    Keys(Bytes),
    /// More of the upstream's answer was read than is kept of it.
    Resumed {
        /// Its answer.
        answer: Box<Answer>,
        /// What was read.
        ahead: VecDeque<Frame<Bytes>>,
        /// The route's place in flight.
        slot: Option<limit::Slot>,
    },
    /// The upstream's answer, whole.
    Whole {
        /// As it is given again.
        kept: Arc<Kept>,
        /// It was given before.
        is_replayed: bool,
    },
    /// What a page may ask.
    Preflight(HeaderMap),
    /// The route itself answers.
    Own(StatusCode, Bytes),
    /// The client is sent elsewhere: to TLS, or where the route says.
    Redirect(StatusCode, HeaderValue),
    /// Another proxy is told whether a request may pass.
    Told(Box<Response<Bytes>>),
}

/// The response of a pipeline that came to an end, by the rules of the route that it took.
pub(crate) fn respond(outcome: Outcome, route: Option<&Route>, mut record: Record) -> Response<ResponseBody> {
    let origin = record.origin.clone();
    let wanted = record.wanted.take().map(|wanted| (wanted, record.core.clone()));
    let mut response = match outcome {
        Outcome::Answered { answer, slot, upgrade } => match upgrade {
            Some(upgrade) if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                tunnel::open(*answer, *upgrade, slot, record)
            }
            _ => streamed((*answer, VecDeque::new()), route, slot, record),
        },
        // Another proxy's own answer is not the route's to change.
        Outcome::Checked(Checked { status, message }) => return checked(status, message, record),
        Outcome::Told(mut response) => {
            // What the described request does to its own connection is none of this one's.
            response.headers_mut().remove(CONNECTION);
            return own(*response, record);
        }
        Outcome::Resumed { answer, ahead, slot } => streamed((*answer, ahead), route, slot, record),
        Outcome::Whole { kept, is_replayed } => {
            let mut response = Response::new(kept.body.clone());
            *response.status_mut() = kept.status;
            let headers = response.headers_mut();
            headers.clone_from(&kept.headers);
            headers.remove(REPLAYED);
            if is_replayed {
                headers.insert(REPLAYED, HeaderValue::from_static("true"));
            }
            if route.is_some_and(|route| route.security_fields) {
                set_security_fields(headers, record.connection.handshake().is_some());
            }
            own(response, record)
        }
        Outcome::Keys(keys) => {
            let mut response = Response::new(keys);
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
            own(response, record)
        }
        Outcome::Preflight(fields) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.headers_mut() = fields;
            return own(response, record);
        }
        Outcome::Own(status, text) => {
            let mut response = Response::new(text);
            *response.status_mut() = status;
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            own(response, record)
        }
        Outcome::Redirect(status, location) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = status;
            response.headers_mut().insert(LOCATION, location);
            own(response, record)
        }
    };
    if let Some(fields) = route.and_then(|route| route.answer_fields.as_deref()) {
        fields.apply(response.headers_mut());
    }
    if let Some(cors) = route.and_then(|route| route.cors.as_deref()) {
        cors.answer(origin.as_ref(), response.headers_mut());
    }
    // Last: what the fields above say of the answer counts.
    if let (Some((wanted, core)), Some(compress)) = (wanted, route.and_then(|route| route.compress.as_ref()))
    {
        compress.apply(&wanted, &core, &mut response);
    }
    response
}

/// The response of a refusal: the envelope, and the end of a connection that must not be used again.
pub(crate) fn refuse(refusal: &Refusal, route: Option<&Route>, mut record: Record) -> Response<ResponseBody> {
    let mut response = envelope(refusal, &mut record);
    // A page reads why it was refused, too.
    if let Some(cors) = route.and_then(|route| route.cors.as_deref()) {
        cors.answer(record.origin.as_ref(), response.headers_mut());
    }
    if refusal.closes() && record.connection.is_http2() {
        response.headers_mut().remove(CONNECTION);
        if refusal.ends_connection() {
            record.connection.finish();
        }
    }
    if record.is_grpc {
        record.status = response.status().as_u16();
        response = grpc::refused(refusal, response);
    }
    own(response, record)
}

/// What a client is told of a refusal; the record keeps its code.
pub(crate) fn envelope(refusal: &Refusal, record: &mut Record) -> Response<Bytes> {
    let (_, code, fault) = refusal.row();
    tracing::debug!(code, ?fault, cause = %refusal, trace_id = %record.trace.trace, "refused");
    record.code = Some(code);
    let mut response = refusal.response(&record.trace.trace).map(Bytes::from);
    // Another scope helps only who came with a token.
    let is_token = |caller: &Caller| caller.principal.id.kind() == PrincipalKind::Jwt;
    if matches!(refusal, Refusal::Denied(_)) && !record.caller.as_ref().is_some_and(is_token) {
        response.headers_mut().remove(WWW_AUTHENTICATE);
    }
    response
}

/// `https://host[:port]/path?query` of the same request.
pub(crate) fn to_tls(canonical: &Canonical, port: u16) -> Result<HeaderValue, Refusal> {
    let (name, target) = (&canonical.host.name, &canonical.target);
    let location = if port == 443 {
        format!("https://{name}{target}")
    } else {
        format!("https://{name}:{port}{target}")
    };
    HeaderValue::try_from(location).map_err(|_| Refusal::Rewrite)
}

fn own(response: Response<Bytes>, mut record: Record) -> Response<ResponseBody> {
    // What a call was refused with is recorded, not the 200 that its client reads nothing of.
    if record.status == 0 {
        record.status = response.status().as_u16();
    }
    let (mut head, text) = response.into_parts();
    head.headers.insert(X_REQUEST_ID, id_value(&record.trace.trace.encode()));
    // Complete even if hyper never asks for the body: it answers HEAD, or there is none.
    record.complete = text.is_empty() || record.method == http::Method::HEAD;
    let text = (!text.is_empty()).then_some(text);
    Response::from_parts(head, ResponseBody::Own { text, trailers: None, record: Box::new(record) })
}

/// A gRPC call that went well, whatever its message says; the record has what the client will see.
fn checked(status: StatusCode, message: Bytes, mut record: Record) -> Response<ResponseBody> {
    record.status = status.as_u16();
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let trailers = Some(Box::new(trailers));
    let body = ResponseBody::Own { text: Some(message), trailers, record: Box::new(record) };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

fn streamed(
    (answer, ahead): (Answer, VecDeque<Frame<Bytes>>),
    route: Option<&Route>,
    slot: Option<limit::Slot>,
    mut record: Record,
) -> Response<ResponseBody> {
    let Answer { response, lease, connection } = answer;
    let (mut head, body) = response.into_parts();
    record.status = head.status.as_u16();
    let length = head.headers.remove(CONTENT_LENGTH);
    remove_hop_by_hop(&mut head.headers);
    // A length counts only where the body was framed by it (or there is none to frame, as for HEAD).
    if let Some(length) = length
        && (body.is_end_stream() || body.size_hint().exact().is_some())
    {
        head.headers.insert(CONTENT_LENGTH, length);
    }
    head.version = Version::HTTP_11;
    if route.is_some_and(|route| route.security_fields) {
        set_security_fields(&mut head.headers, record.connection.handshake().is_some());
    }
    head.headers.insert(X_REQUEST_ID, id_value(&record.trace.trace.encode()));
    let is_call = record.is_grpc && grpc::is_message(&head.headers);
    let body = Streamed::new(body, ahead, connection, lease, record, slot, is_call);
    Response::from_parts(head, ResponseBody::Streamed(Box::new(body)))
}

fn set_security_fields(headers: &mut HeaderMap, is_tls: bool) {
    for (name, value) in SECURITY_FIELDS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_tls {
        headers.entry(HSTS.0).or_insert(HeaderValue::from_static(HSTS.1));
    }
}

/// Set where the upstream did not; RFC 6797, and the Fetch and Referrer Policy standards.
const SECURITY_FIELDS: [(HeaderName, &str); 3] = [
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("referrer-policy"), "strict-origin-when-cross-origin"),
];
const HSTS: (HeaderName, &str) = (HeaderName::from_static("strict-transport-security"), "max-age=31536000");
