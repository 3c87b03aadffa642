//! One permitted request to one upstream, and the head of its answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::admission::Admitted;
use super::balance::{Again, Balance, Tries};
use super::connect::connect;
use super::health::Health;
use super::http2::{Verdict, to_http1, to_http2};
use super::pool::Sender;
use super::spare::Spare;
use super::{Endpoint, FieldCredential, Origin, Protocol, Upstream};
use crate::body::{Progress, RequestBody, Upload};
use crate::core::Core;
use crate::lease::Lease;
use crate::refusal::Refusal;
use crate::upgrade::Upgrade;

/// An answer whose body is still to come, with all that must live as long as it does.
#[derive(Debug)]
pub struct Answer {
    /// Head and body.
    pub response: Response<Incoming>,
    /// Until when it may stream.
    pub lease: Lease,
    /// The connection, to be kept when the body has ended well.
    pub connection: Returning,
}

/// A connection that goes back to its pool when its response has ended. A stream is over then, and whoever still sends on it is told.
#[derive(Debug)]
pub struct Returning {
    sender: Sender,
    /// The request's body, of a stream.
    upload: Option<Upload>,
    busy: Busy,
    /// Its number.
    pool: u64,
    material: u64,
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
        let Self { sender, upload, busy, pool, material, is_spent, credential, admitted } = self;
        drop((credential, admitted, upload));
        let Sender::Http1(sender) = sender else { return };
        if is_spent {
            return;
        }
        let Upstream { idle, idle_per_core, .. } = *busy.upstream;
        core.pools.borrow_mut().put(pool, material, sender, core.tick() + idle, idle_per_core);
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
    mut request: Request<RequestBody>,
    credential: Option<Arc<FieldCredential>>,
    origin: Origin<'_>,
    upgrade: Option<&Upgrade>,
) -> Result<Answer, Refusal> {
    let admitted = Admitted::admit(core, upstream, origin).await?;
    let unresolved = || Refusal::UpstreamUnresolved(upstream.name.to_string());
    let progress = request.body().progress();
    let endpoints = upstream.endpoints.now();
    let protocol = || Refusal::UpstreamProtocol(upstream.name.to_string());
    let key = upstream.balancing.key(origin, request.headers());
    let (mut tries, mut place) =
        Tries::begin(upstream, &endpoints, key, core.tick()).ok_or_else(unresolved)?;
    let upload = match upstream.protocol {
        Protocol::Http1 => None,
        Protocol::Http2 | Protocol::Negotiate => request.body().upload(),
    };
    let mut is_stale = false;
    loop {
        let slow = upstream.timeouts.attempt.map(|attempt| Instant::now() + attempt);
        let endpoint = endpoints.get(place).ok_or_else(unresolved)?;
        let material = upstream.material_number(endpoint);
        let take = || {
            let mut pools = core.pools.borrow_mut();
            pools.take(&endpoint.pool, material, is_stale, || upstream.material(endpoint))
        };
        let pooled = if upgrade.is_some() { None } else { take() };
        let is_pooled = pooled.is_some();
        let mut sender = match pooled {
            Some(sender) => sender,
            // Boxed: it is rare, and every request would carry the room for a TLS handshake.
            None => match Box::pin(connect(core, upstream, endpoint, material)).await {
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
        let (outcome, spare, is_reused);
        match &mut sender {
            Sender::Http1(sender) => {
                if request.version() == Version::HTTP_2 {
                    to_http1(&mut request).ok_or_else(protocol)?;
                }
                is_reused = is_pooled;
                spare = if is_reused || tries.may_resend(&endpoints) { Spare::of(&request) } else { None };
                outcome = attempt(sender.try_send_request(request), bounds).await;
            }
            Sender::Http2(_) if upgrade.is_some() => return Err(protocol()),
            Sender::Http2(stream) => {
                if request.version() != Version::HTTP_2 {
                    to_http2(&mut request, endpoint.tls.is_some()).ok_or_else(protocol)?;
                }
                is_reused = !is_stale && !stream.is_first;
                // A body that cannot be read again (a held one) must not be left out the second time.
                let repeats = upload.is_some() || request.body().is_end_stream();
                spare = repeats.then(|| Spare::of_any(&request));
                outcome = attempt(stream.send(request), bounds).await;
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
                let (pool, is_spent) = (endpoint.pool.number(), upgrade.is_some());
                let connection =
                    Returning { sender, upload, busy, pool, material, is_spent, credential, admitted };
                return Ok(Answer { response, lease, connection });
            }
            Err(failure) => failure,
        };
        let (result, refusal) = failure.refusal(upstream, progress.as_deref());
        if result != "client" && failure.is_the_endpoints(is_reused) {
            upstream.failed(core, &endpoints, endpoint);
            admitted.as_ref().inspect(|admitted| admitted.failed(core));
        }
        let again = failure.again(spare, upload.as_ref());
        is_stale =
            is_reused && again.as_ref().is_some_and(|(_, why)| *why != Again::Refused && *why != Again::Slow);
        let next = again.and_then(|(request, why)| {
            Some((request, if is_stale { place } else { tries.again(core, (upstream, &endpoints), why)? }))
        });
        let Some(next) = next else {
            upstream.series.requested(core.id.index(), result);
            return Err(refusal);
        };
        (request, place) = next;
        upstream.retried(core, is_stale);
    }
}

/// Why there is no answer.
enum Failure {
    /// The connection or the stream ended without an answer.
    Died(Verdict),
    /// The lease ended before the answer.
    Ended,
    /// No answer in time.
    Late,
    /// No answer in the time of a try.
    Slow,
    /// It switches protocols otherwise than was asked.
    Switched,
    /// The connection ended before a byte of this request was sent.
    Unsent(Box<Request<RequestBody>>),
}

impl Failure {
    /// In a word, and as what the client gets.
    fn refusal(&self, upstream: &Upstream, progress: Option<&Progress>) -> (&'static str, Refusal) {
        match self {
            Self::Ended | Self::Late | Self::Slow => {
                ("timeout", Refusal::UpstreamTimeout(upstream.name.to_string()))
            }
            Self::Died(_) | Self::Switched | Self::Unsent(_) => match progress.and_then(Progress::failure) {
                Some(refusal) => ("client", refusal),
                None => ("protocol", Refusal::UpstreamProtocol(upstream.name.to_string())),
            },
        }
    }

    /// True if it speaks against the endpoint. A reused connection that died does not: they do when they wait.
    fn is_the_endpoints(&self, is_reused: bool) -> bool {
        match self {
            Self::Late | Self::Slow | Self::Switched | Self::Died(Verdict::Refused) => true,
            Self::Died(_) | Self::Unsent(_) => !is_reused,
            Self::Ended => false,
        }
    }

    /// True if a shared connection should take no further streams. One that does not answer may be half open.
    const fn is_the_connections(&self) -> bool {
        match self {
            Self::Late | Self::Unsent(_) | Self::Died(Verdict::Broken | Verdict::Unprocessed) => true,
            Self::Ended | Self::Slow | Self::Switched | Self::Died(Verdict::Refused | Verdict::Reset) => {
                false
            }
        }
    }

    /// What may be sent again: what was not sent, or the copy of what the upstream took no notice of, or of what may have arrived.
    fn again(self, spare: Option<Spare>, upload: Option<&Upload>) -> Option<(Request<RequestBody>, Again)> {
        let why = match self {
            Self::Unsent(request) => return Some((*request, Again::NotSent)),
            Self::Died(Verdict::Unprocessed) => Again::Unprocessed,
            Self::Died(Verdict::Refused) => Again::Refused,
            Self::Slow | Self::Died(Verdict::Broken | Verdict::Reset) => {
                let why = if matches!(self, Self::Slow) { Again::Slow } else { Again::Died };
                let spare = spare.filter(|spare| upload.is_none() && spare.is_safe())?;
                return Some((spare.into_request(), why));
            }
            Self::Ended | Self::Late | Self::Switched => return None,
        };
        let mut request = spare?.into_request();
        if let Some(upload) = upload {
            *request.body_mut() = upload.again()?;
        }
        Some((request, why))
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
async fn attempt(
    answer: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    Bounds { upstream, lease, mut slow, progress, upgrade }: Bounds<'_>,
) -> Result<Response<Incoming>, Failure> {
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
            Ok(Err(mut error)) => {
                return Err(match error.take_message() {
                    Some(request) => Failure::Unsent(Box::new(request)),
                    None => {
                        tracing::debug!(upstream = %upstream.name, cause = %error.error(), "no answer");
                        Failure::Died(Verdict::of(error.error()))
                    }
                });
            }
            Err(_) if lease.ends().is_some_and(|ends| ends <= Instant::now()) => return Err(Failure::Ended),
            Err(_) if progress.is_some_and(Progress::moved) => {
                slow = upstream.timeouts.attempt.map(|attempt| Instant::now() + attempt);
            }
            Err(_) if slow.is_some_and(|slow| slow < late) => return Err(Failure::Slow),
            Err(_) => return Err(Failure::Late),
        }
    }
}
