//! Envoy's question and answer as gRPC frames them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderName, HeaderValue as FieldValue, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use prost::Message as _;

use super::Granted;
use super::description::DescriptionError;
use super::messages::{
    self, Answer, CheckRequest, CheckResponse, Denied, FieldToSet, HeaderValue, HttpStatus, OVERWRITE, Status,
};
use crate::body::{Pace, RequestBody};
use crate::normalize::fields::Reserved;
use crate::refusal::Refusal;
use crate::snapshot::Listener;

/// The path of the one call that is answered.
pub(super) const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Envoy's answer, and what it tells the client.
#[derive(Debug)]
pub(crate) struct Checked {
    /// As the client gets it; 200 lets the request pass.
    pub(crate) status: StatusCode,
    /// With the prefix of gRPC.
    pub(crate) message: Bytes,
}

/// Reads the one message of a call, as slowly and as much as the listener lets a body come.
pub(super) async fn message(
    body: &mut Option<Incoming>,
    listener: &Listener,
    reserved: &Arc<Reserved>,
) -> Result<CheckRequest, Refusal> {
    let mut body = RequestBody::new(body, &listener.bounds, Pace::Uploads, reserved)?;
    let progress = body.progress();
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(frame) = frame else {
            let failure = progress.as_ref().and_then(|progress| progress.failure());
            return Err(failure.unwrap_or(DescriptionError::Message("an end").into()));
        };
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if bytes.len() > MOST {
            return Err(Refusal::BodyTooLarge(MOST as u64));
        }
    }
    // Uncompressed, and nothing behind it.
    let framed = match bytes.split_first_chunk() {
        Some((&[0, a, b, c, d], message)) if u32::from_be_bytes([a, b, c, d]) as usize == message.len() => {
            message
        }
        _ => return Err(DescriptionError::Message("the framing of gRPC").into()),
    };
    CheckRequest::decode(framed).map_err(|_| DescriptionError::Message("a readable message").into())
}

/// The request may pass, with these fields set and those removed.
pub(super) fn ok(granted: Granted) -> Checked {
    let Granted { set, mut remove } = granted;
    let (mut headers, mut headers_to_remove) = (Vec::with_capacity(set.len()), Vec::new());
    for (name, value) in &set {
        if value.is_empty() {
            // Envoy may leave out an empty value, and with it what the client sent under this name.
            headers_to_remove.push(name.as_str().to_owned());
        } else {
            headers.push(field(name, value));
        }
    }
    remove.retain(|name| !ENVOYS_OWN.iter().any(|own| name.as_str().starts_with(own)));
    headers_to_remove.extend(remove.into_iter().map(|name| name.as_str().to_owned()));
    let granted = messages::Granted { headers, headers_to_remove };
    framed(StatusCode::OK, 0, Answer::Granted(granted))
}

/// The client gets this response.
pub(super) fn denied(response: Response<Bytes>) -> Checked {
    let (head, body) = response.into_parts();
    let fields = head.headers.iter().filter(|(name, _)| **name != CONNECTION && **name != CONTENT_LENGTH);
    let denied = Denied {
        status: Some(HttpStatus { code: i32::from(head.status.as_u16()) }),
        headers: fields.map(|(name, value)| field(name, value)).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    framed(head.status, PERMISSION_DENIED, Answer::Denied(denied))
}

fn field(name: &HeaderName, value: &FieldValue) -> FieldToSet {
    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let header = HeaderValue { key: name.as_str().to_owned(), value, raw_value: Bytes::new() };
    FieldToSet { header: Some(header), append_action: OVERWRITE }
}

fn framed(status: StatusCode, code: i32, answer: Answer) -> Checked {
    let response = CheckResponse { status: Some(Status { code }), answer: Some(answer) };
    let length = response.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer that grows has room.
    let _ = response.encode(&mut bytes);
    Checked { status, message: bytes.freeze() }
}

/// Bytes of a question: fields of a request, several times over. Envoy is not to send the request's body.
const MOST: usize = 256 * 1024;

/// Compression flag and length before a gRPC message.
const PREFIX: usize = 5;

/// `google.rpc.Code`.
const PERMISSION_DENIED: i32 = 7;

/// Fields that Envoy sets itself and works with: it needs no help in removing what a client sends of them.
const ENVOYS_OWN: [&str; 6] = ["x-forwarded", "x-envoy-", "x-request-id", "via", "traceparent", "tracestate"];
