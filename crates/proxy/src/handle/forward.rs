//! A permitted request on its way to its upstream: which one, what that is shown, and whether it was sent before.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use hyper::body::Incoming;
use policy::Permit;
use tokio::time::Instant;

use super::{Asked, Permitted, minted};
use crate::authenticate::Caller;
use crate::body::{Pace, RequestBody};
use crate::forward::{About, Shown, forwarded};
use crate::grpc;
use crate::idempotency::{Idempotency, Known, exchange};
use crate::lease::Lease;
use crate::mirror::{Mirror, RequestCopy};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::respond::Outcome;
use crate::route::{Rewrite, Route, Target};
use crate::snapshot::Bounds;
use crate::upstream::{Origin, send};

/// Sends the request to its upstream, with what that is shown of ours in the place of what the caller showed.
pub(super) async fn forward(
    permitted: Permitted<'_>,
    (to, rewrite): (&Target, Option<&Rewrite>),
    asked: &Asked<'_>,
    head: &mut Parts,
    body: &mut Option<Incoming>,
    record: &mut Record,
) -> Result<Outcome, Refusal> {
    let Permitted { route, caller, permit, slot, mut upgrade } = permitted;
    let Asked { core, listener, snapshot, canonical, .. } = *asked;
    let chance = || core.trace_ids.chance();
    let upstream = to.choose(&head.headers, &caller.principal.id, record.client, chance);
    let mut taken = match &route.inspection {
        None => None,
        Some(inspection) => {
            Box::pin(inspection.look(route, asked, head, (&mut *body, upgrade.is_some()), record)).await?
        }
    };
    // A kept answer must never be one to an upgrade: over HTTP/2 its success would mean a tunnel.
    let first = match route.idempotency.as_ref().filter(|_| upgrade.is_none()) {
        None => None,
        Some(idempotency) => {
            match Box::pin(once(idempotency, asked, (head, &mut *body, &mut taken), &caller, record)).await? {
                None => None,
                Some((Known::Answered(kept), _)) => return Ok(Outcome::Whole { kept, is_replayed: true }),
                Some((Known::First(claim), whole)) => Some((claim, whole)),
            }
        }
    };
    let credential = upstream.shown()?;
    let token = match &route.token {
        None => None,
        Some(token) => Some(minted(token, &upstream.name, asked, head, &caller, record)?.ready().await?),
    };
    let whole = upstream.timeouts.whole;
    let (ends, pace) = match record.is_grpc {
        true => (grpc::deadline(&head.headers, whole)?, Pace::Calls),
        false => (whole, Pace::Uploads),
    };
    let (claim, mut body) = match first {
        Some((claim, whole)) => (Some(claim), RequestBody::held(whole)),
        None => match taken {
            Some(body) => (None, body),
            None => (None, RequestBody::new(body, &listener.bounds, pace, &snapshot.reserved)?),
        },
    };
    record.sent = body.progress().or_else(|| record.sent.take());
    record.upstream = Some(upstream.name.clone());
    if let Some(mirror) = route.mirror.as_ref().filter(|_| upgrade.is_none())
        && let Some(place) = mirror.place(core)
    {
        let copy = copied((mirror, place), route, rewrite, asked, head, (&caller, &permit), record);
        if let Some(copy) = copy {
            body.copy_to(copy);
        }
    }
    let about = about(asked, &caller, record);
    let shown = Shown { token, credential: credential.as_deref() };
    let mut outgoing = forwarded(head, body, canonical, route, rewrite, &about, shown)?;
    if let Some(upgrade) = &mut upgrade {
        upgrade.ask(outgoing.request.headers_mut(), || core.trace_ids.trace().to_bytes());
    }
    let lease = Lease::new(permit, record.now, record.began, ends);
    if let Some(claim) = claim {
        let whose = (caller, record.addresses());
        return Box::pin(exchange(claim, (lease, slot), core, upstream, outgoing, credential, whose)).await;
    }
    let origin = Origin { principal: &caller.principal, addresses: record.addresses() };
    let sent = send(lease, core, upstream, &mut outgoing, credential, origin, upgrade.as_deref());
    let answer = Box::new(sent.await?);
    Ok(Outcome::Answered { answer, slot, upgrade })
}

/// What is known of a request with a key, and its body; none without a key.
async fn once(
    idempotency: &Idempotency,
    asked: &Asked<'_>,
    (head, body, taken): (&Parts, &mut Option<Incoming>, &mut Option<RequestBody>),
    caller: &Caller,
    record: &mut Record,
) -> Result<Option<(Known, Bytes)>, Refusal> {
    let Some(key) = idempotency.key(head)? else { return Ok(None) };
    let Asked { core, listener, snapshot, canonical, .. } = *asked;
    let most = listener.bounds.body_bytes.min(idempotency.store.bounds().body as u64);
    let whole = match taken.take() {
        // It is bounded by what is looked at, which may be more.
        Some(mut body) => {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            body.ahead(most).await?.ok_or(Refusal::BodyTooLarge(most as u64))?
        }
        None => {
            let bounds = Bounds { body_bytes: most, ..listener.bounds.clone() };
            let body = RequestBody::new(body, &bounds, Pace::Uploads, &snapshot.reserved)?;
            record.sent = body.progress();
            body.whole().await?
        }
    };
    let request = (head, canonical, &whole);
    let known = idempotency.look(core.id, (&caller.principal.id, key), request, Instant::now())?;
    Ok(Some((known, whole)))
}

/// A copy of the request for the route's mirror; none if there is nothing to show it.
fn copied(
    (mirror, place): (&Arc<Mirror>, limit::Slot),
    route: &Route,
    rewrite: Option<&Rewrite>,
    asked: &Asked<'_>,
    head: &Parts,
    (caller, permit): (&Caller, &Permit),
    record: &Record,
) -> Option<RequestCopy> {
    let shown = mirror.upstream.shown().and_then(|credential| {
        let mint = |token| minted(token, &mirror.upstream.name, asked, head, caller, record);
        Ok((route.token.as_deref().map(mint).transpose()?, credential))
    });
    let Ok((token, credential)) = shown else {
        mirror.series.counted(asked.core.id.index(), "unavailable");
        return None;
    };
    let about = about(asked, caller, record);
    let field = Shown { token: None, credential: credential.as_deref() };
    let request =
        forwarded(&mut head.clone(), RequestBody::empty(), asked.canonical, route, rewrite, &about, field)
            .ok()?;
    Some(RequestCopy::new(mirror, place, request, (token, credential), (caller, permit), record))
}

fn about<'a>(asked: &Asked<'a>, caller: &'a Caller, record: &'a Record) -> About<'a> {
    About { caller, client: record.client, connection: asked.connection, trace: record.trace }
}
