//! One permitted request to one upstream, and the head of its answer.

mod failure;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::admission::Admitted;
use super::balance::{Again, Balance, Tries};
use super::connect::connect;
use super::health::Health;
use super::http1::{Transport, UpstreamBody, exchange, recycled};
use super::http2::{to_http1, to_http2};
use super::pool::Sender;
use super::spare::{Spare, is_safe};
use super::{Endpoint, FieldCredential, Origin, Upstream};
use crate::addresses::Addresses;
use crate::body::{Progress, RequestBody, Upload};
use crate::core::Core;
use crate::forward::Outgoing;
use crate::lease::Lease;
use crate::refusal::Refusal;
use crate::upgrade::Upgrade;
use failure::{Failure, Kept};

/// An answer whose body is still to come, with all that must live as long as it does.
#[derive(Debug)]
pub struct Answer {
    /// Head and body.
    pub response: Response<UpstreamBody>,
    /// Until when it may stream.
    pub lease: Lease,
    /// The connection, to be kept when the body has ended well.
    pub connection: Returning,
}

/// A connection that goes back to its pool when its response has ended. A stream is over then, and whoever still sends on it is told.
#[derive(Debug)]
pub struct Returning {
    /// Until it is taken over.
    sender: Option<Sender>,
    /// The request's body, of a stream.
    upload: Option<Upload>,
    busy: Busy,
    /// Its number.
    pool: u64,
    /// With which material, and for whom where that was announced.
    made: (u64, Option<Addresses>),
    /// It was made for an upgrade: whatever became of that, it is not used again.
    is_spent: bool,
    /// In use until the answer has ended.
    credential: Option<Arc<FieldCredential>>,
    /// At once with others until then.
    admitted: Option<Admitted>,
}

impl Returning {
    /// How long the upstream may send nothing of a response that has begun.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.busy.upstream.timeouts.idle
    }

    /// Keeps the connection for the next request.
    pub fn keep(self, core: &Core) {
        let Self { sender, upload, busy, pool, made, is_spent, credential, admitted } = self;
        drop((credential, admitted, upload));
        let Some(Sender::Http1(connection)) = sender.filter(|_| !is_spent) else { return };
        let Upstream { idle, idle_per_core, .. } = *busy.upstream;
        if let Some(connection) = recycled(connection, core) {
            core.pools.borrow_mut().put(pool, made, connection, core.tick() + idle, idle_per_core);
        }
    }

    /// Takes the connection over, whose protocol is another one from now on; and what was read of that already.
    pub(crate) fn take_over(&mut self) -> Option<(Transport, Bytes)> {
        let Some(Sender::Http1(connection)) = self.sender.take() else { return None };
        Some(Rc::into_inner(connection)?.into_inner().into_parts())
    }
}

/// A request that counts as in flight at an endpoint until this is dropped, where that counts.
#[derive(Debug)]
struct Busy {
    upstream: Arc<Upstream>,
    /// Where that counts.
    health: Option<Arc<Health>>,
    /// Since when, where that counts.
    began: Option<Instant>,
}

impl Busy {
    fn new(upstream: &Arc<Upstream>, endpoint: &Endpoint) -> Self {
        let health = match upstream.balancing.balance {
            Balance::RoundRobin | Balance::ConsistentHash(_) => None,
            Balance::LeastLoaded => Some(endpoint.health.clone()),
        };
        health.as_ref().inspect(|health| health.begin());
        Self { upstream: upstream.clone(), health, began: upstream.stopwatch() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.health.as_ref().inspect(|health| health.end());
    }
}

/// Forwards a request, which carries `credential`. Only with a lease, which only a permit gives: forwarding without authorisation does not compile.
///
/// It is sent again only if nothing of it was sent, or if its method is safe (RFC 9110 section 9.2.1), it has no body and
/// not a byte was answered: on a fresh connection when a reused one died, which happens to connections that wait; and on
/// another endpoint when a fresh one did or none could be made, as long as the time for the response and the retry
/// budget allow it. What may have arrived goes to one other endpoint at most. What an HTTP/2 peer says that it took no notice of was
/// not sent, whatever its method, if no more of its body is gone than is [kept](Upload). An `upgrade` gets a connection of its own,
/// of HTTP/1.1.
///
/// # Errors
/// It is not [admitted](Admitted) or nothing is known to send it to; no connection, no answer in time or before the lease ends, or an answer that is no HTTP.
pub async fn send(
    lease: Lease,
    core: &Rc<Core>,
    upstream: &Arc<Upstream>,
    outgoing: &mut Outgoing,
    credential: Option<Arc<FieldCredential>>,
    origin: Origin<'_>,
    upgrade: Option<&Upgrade>,
) -> Result<Answer, Refusal> {
    let admitted = Admitted::admit(core, upstream, origin).await?;
    let unresolved = || Refusal::UpstreamUnresolved(upstream.name.to_string());
    let progress = outgoing.request.body().progress();
    let endpoints = upstream.endpoints.now();
    let protocol = || Refusal::UpstreamProtocol(upstream.name.to_string());
    let key = upstream.balancing.key(origin, outgoing);
    let (mut tries, mut place) =
        Tries::begin(upstream, &endpoints, key, core.tick()).ok_or_else(unresolved)?;
    let upload = if upstream.protocol.is_shared() { outgoing.request.body().upload() } else { None };
    let client = upstream.protocol.announces(origin.addresses).map(|(_, addresses)| addresses);
    let mut is_stale = false;
    loop {
        let slow = upstream.timeouts.attempt.map(|attempt| Instant::now() + attempt);
        let endpoint = endpoints.get(place).ok_or_else(unresolved)?;
        let material = upstream.material_number(endpoint);
        let take = || {
            let mut pools = core.pools.borrow_mut();
            pools.take(&endpoint.pool, material, client, is_stale, || upstream.material(endpoint))
        };
        let pooled = if upgrade.is_some() { None } else { take() };
        let is_pooled = pooled.is_some();
        let mut sender = match pooled {
            Some(sender) => sender,
            // Boxed: it is rare, and every request would carry the room for a TLS handshake.
            None => match Box::pin(connect(core, upstream, endpoint, material, origin.addresses)).await {
                Ok(sender) => sender,
                // What all of them need is not there: no other one would do.
                Err(refusal @ Refusal::CredentialUnavailable { .. }) => return Err(refusal),
                Err(refusal) => {
                    upstream.failed(core, &endpoints, endpoint);
                    admitted.as_ref().inspect(|admitted| admitted.failed(core));
                    place = tries.again(core, (upstream, &endpoints), Again::NotConnected).ok_or(refusal)?;
                    is_stale = false;
                    continue;
                }
            },
        };
        let busy = Busy::new(upstream, endpoint);
        let bounds = Bounds { upstream, lease: &lease, slow, progress: progress.as_deref(), upgrade };
        let (outcome, kept, is_reused);
        match &mut sender {
            Sender::Http1(connection) => {
                let request = &mut outgoing.request;
                if request.version() == Version::HTTP_2 {
                    to_http1(request).ok_or_else(protocol)?;
                }
                is_reused = is_pooled;
                let may_resend =
                    (is_reused || tries.may_resend(&endpoints)) && request.body().is_end_stream();
                outcome = attempt(exchange(connection, core, outgoing), bounds).await;
                kept = Kept::Itself { may_resend: may_resend && is_safe(outgoing.request.method()) };
            }
            Sender::Http2(_) if upgrade.is_some() => return Err(protocol()),
            Sender::Http2(stream) => {
                outgoing.merge();
                let request = &mut outgoing.request;
                if request.version() != Version::HTTP_2 {
                    to_http2(request, endpoint.tls.is_some()).ok_or_else(protocol)?;
                }
                is_reused = !is_stale && !stream.is_first;
                // A body that cannot be read again (a held one) must not be left out the second time.
                let repeats = upload.is_some() || request.body().is_end_stream();
                kept = if repeats { Kept::Copy(Spare::of(request)) } else { Kept::Nothing };
                let taken = std::mem::replace(request, Request::new(RequestBody::empty()));
                // Boxed: it is large, and every request over HTTP/1.1 would carry the room for it.
                outcome = attempt(Box::pin(stream.send(taken)), bounds).await;
                if outcome.as_ref().is_err_and(Failure::is_the_connections) {
                    stream.retire();
                }
            }
        }
        let failure = match outcome {
            Ok(response) => {
                upload.as_ref().inspect(|upload| upload.forget());
                upstream.answered(core, &endpoints, endpoint, busy.began);
                admitted.as_ref().inspect(|admitted| admitted.succeeded());
                let (pool, is_spent, made) = (endpoint.pool.number(), upgrade.is_some(), (material, client));
                let sender = Some(sender);
                let connection =
                    Returning { sender, upload, busy, pool, made, is_spent, credential, admitted };
                return Ok(Answer { response, lease, connection });
            }
            Err(failure) => failure,
        };
        let (result, refusal) = failure.refusal(upstream, progress.as_deref());
        if result != "client" && failure.is_the_endpoints(is_reused) {
            upstream.failed(core, &endpoints, endpoint);
            admitted.as_ref().inspect(|admitted| admitted.failed(core));
        }
        let again = failure.again(kept, &mut outgoing.request, upload.as_ref());
        is_stale = is_reused && again.is_some_and(|why| why != Again::Refused && why != Again::Slow);
        let next = again.and_then(|why| {
            if is_stale { Some(place) } else { tries.again(core, (upstream, &endpoints), why) }
        });
        let Some(next) = next else {
            upstream.series.requested(core.id.index(), result);
            return Err(refusal);
        };
        place = next;
        upstream.retried(core, is_stale);
    }
}

/// How long one try may take.
struct Bounds<'a> {
    upstream: &'a Upstream,
    lease: &'a Lease,
    /// When the time of a try is up.
    slow: Option<Instant>,
    progress: Option<&'a Progress>,
    upgrade: Option<&'a Upgrade>,
}

/// Sends once. The clock for the answer stands still while the request's body is still on its way: a slow body has
/// a bound of its own, and none is sent on after the lease.
async fn attempt<E: Into<Failure>>(
    answer: impl Future<Output = Result<Response<UpstreamBody>, E>>,
    Bounds { upstream, lease, mut slow, progress, upgrade }: Bounds<'_>,
) -> Result<Response<UpstreamBody>, Failure> {
    tokio::pin!(answer);
    loop {
        let late = Instant::now() + upstream.timeouts.response;
        let until = [lease.ends(), slow].into_iter().flatten().fold(late, Instant::min);
        match timeout_at(until, answer.as_mut()).await {
            Ok(Ok(response)) => {
                let is_answer = match upgrade {
                    None => response.status() != StatusCode::SWITCHING_PROTOCOLS,
                    Some(upgrade) => upgrade.is_answered(response.status(), response.headers()),
                };
                return if is_answer { Ok(response) } else { Err(Failure::Switched) };
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if lease.ends().is_some_and(|ends| ends <= Instant::now()) => return Err(Failure::Ended),
            Err(_) if progress.is_some_and(Progress::moved) => {
                slow = upstream.timeouts.attempt.map(|attempt| Instant::now() + attempt);
            }
            Err(_) if slow.is_some_and(|slow| slow < late) => return Err(Failure::Slow),
            Err(_) => return Err(Failure::Late),
        }
    }
}
