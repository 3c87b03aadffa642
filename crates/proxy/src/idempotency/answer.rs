//! The first request under a key: it goes on without its client, and its answer is kept.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use hyper::body::{Body as _, Frame};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::store::{Claim, Kept};
use crate::addresses::Addresses;
use crate::authenticate::Caller;
use crate::body::next_frame;
use crate::core::Core;
use crate::forward::Outgoing;
use crate::lease::Lease;
use crate::normalize::fields::remove_hop_by_hop;
use crate::refusal::Refusal;
use crate::respond::Outcome;
use crate::upstream::{Answer, FieldCredential, Origin, Upstream, send};

/// Sends the request in a task of its own, which ends with its answer or its lease and not with its client.
///
/// # Errors
/// As [`send`]; the key is free again then.
pub(crate) async fn exchange(
    claim: Claim,
    (lease, slot): (Lease, Option<limit::Slot>),
    core: &Rc<Core>,
    upstream: &Arc<Upstream>,
    mut outgoing: Outgoing,
    credential: Option<Arc<FieldCredential>>,
    (caller, addresses): (Caller, Addresses),
) -> Result<Outcome, Refusal> {
    let (tell, told) = oneshot::channel();
    let (own, upstream) = (core.clone(), upstream.clone());
    core.tasks.spawn_local(async move {
        let origin = Origin { principal: &caller.principal, addresses };
        let outcome = match send(lease, &own, &upstream, &mut outgoing, credential, origin, None).await {
            Ok(answer) => keep(claim, answer, slot, &own, &upstream).await,
            Err(refusal) => Err(refusal),
        };
        // Nobody may be there any more to hear it; it is kept all the same.
        let _ = tell.send(outcome);
    });
    told.await.unwrap_or(Err(Refusal::Draining))
}

async fn keep(
    claim: Claim,
    mut answer: Answer,
    slot: Option<limit::Slot>,
    core: &Rc<Core>,
    upstream: &Upstream,
) -> Result<Outcome, Refusal> {
    let status = answer.response.status();
    if status.is_server_error() || AGAIN.contains(&status) {
        return Ok(Outcome::Answered { answer: Box::new(answer), slot, upgrade: None });
    }
    let most = claim.most();
    let announced = answer.response.body().size_hint().lower();
    if is_endless(answer.response.headers()) || announced > most as u64 {
        claim.not_kept(Instant::now());
        return Ok(Outcome::Answered { answer: Box::new(answer), slot, upgrade: None });
    }
    let mut body = BytesMut::new();
    loop {
        let silent = Instant::now() + upstream.timeouts.idle;
        let until = answer.lease.ends().map_or(silent, |ends| ends.min(silent));
        let frame = timeout_at(until, next_frame(answer.response.body_mut())).await;
        let frame = frame.map_err(|_| Refusal::UpstreamTimeout(upstream.name.to_string()))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Refusal::UpstreamProtocol(upstream.name.to_string()))?;
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(trailers) => {
                claim.not_kept(Instant::now());
                let ahead = [Frame::data(body.freeze()), trailers].into();
                return Ok(Outcome::Resumed { answer: Box::new(answer), ahead, slot });
            }
        };
        if body.len().saturating_add(piece.len()) > most {
            claim.not_kept(Instant::now());
            let ahead = [Frame::data(body.freeze()), Frame::data(piece)].into();
            return Ok(Outcome::Resumed { answer: Box::new(answer), ahead, slot });
        }
        body.extend_from_slice(&piece);
    }
    let Answer { response, connection, .. } = answer;
    connection.keep(core);
    let (head, _) = response.into_parts();
    let mut headers = head.headers;
    remove_hop_by_hop(&mut headers);
    let kept = Arc::new(Kept { status, headers, body: Bytes::from(body) });
    claim.answered(kept.clone(), Instant::now());
    Ok(Outcome::Whole { kept, is_replayed: false })
}

fn is_endless(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Answers that say to come again (RFC 9110 section 15.5, RFC 8470 section 5.2): kept, they would say so for ever.
const AGAIN: [StatusCode; 3] =
    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
