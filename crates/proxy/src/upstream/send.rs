//! One permitted request to one upstream, and the head of its answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, timeout_at};

use super::connect::connect;
use super::{FieldCredential, PoolKey, Upstream};
use crate::body::{Lease, Progress, RequestBody};
use crate::core::Core;
use crate::refusal::Refusal;

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

/// A connection that goes back to its pool when its response has ended.
#[derive(Debug)]
pub struct Returning {
    sender: SendRequest<RequestBody>,
    upstream: Arc<Upstream>,
    pool: PoolKey,
    material: u64,
    /// In use until the answer has ended.
    credential: Option<Arc<FieldCredential>>,
}

impl Returning {
    /// How long the upstream may send nothing of a response that has begun.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.upstream.timeouts.idle
    }

    /// Keeps the connection for the next request.
    pub fn keep(self, core: &Core) {
        let Self { sender, upstream, pool, material, credential } = self;
        drop(credential);
        core.pools.borrow_mut().put(
            pool,
            material,
            sender,
            core.tick() + upstream.idle,
            upstream.idle_per_core,
        );
    }
}

/// Forwards a request, which carries `credential`. Only with a lease, which only a permit gives: forwarding without authorisation does not compile.
///
/// Retries once, on a fresh connection, when a reused one died before a byte was answered, and only if nothing was
/// sent or the method is safe (RFC 9110 section 9.2.1) and the request has no body.
///
/// # Errors
/// No connection, no answer in time or before the lease ends, or an answer that is no HTTP.
pub async fn send(
    lease: Lease,
    core: &Rc<Core>,
    upstream: &Arc<Upstream>,
    request: Request<RequestBody>,
    credential: Option<Arc<FieldCredential>>,
) -> Result<Answer, Refusal> {
    let protocol = || Refusal::UpstreamProtocol(upstream.name.to_string());
    let endpoint = upstream.next().ok_or_else(protocol)?;
    let material = upstream.material(endpoint);
    let progress = request.body().progress();
    let reused = core.pools.borrow_mut().take(endpoint.pool, material);
    let (mut sender, spare) = match reused {
        Some(sender) => (sender, spare(&request)),
        // Boxed: it is rare, and every request would carry the room for a TLS handshake.
        None => (Box::pin(connect(core, upstream, endpoint)).await?, None),
    };
    let first = attempt(&mut sender, request, (upstream, &lease), progress.as_deref()).await;
    let again = match (first, spare) {
        (Err(Failure::Unsent(request)), _) => Again::With(*request),
        (Err(Failure::Died), Some(request)) => Again::With(request),
        (outcome, _) => Again::Not(outcome),
    };
    let outcome = match again {
        Again::Not(outcome) => outcome,
        Again::With(request) => {
            upstream.series.requested(core.id.index(), "retried");
            sender = Box::pin(connect(core, upstream, endpoint)).await?;
            attempt(&mut sender, request, (upstream, &lease), progress.as_deref()).await
        }
    };
    let (result, refusal) = match outcome {
        Ok(response) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {
            upstream.series.requested(core.id.index(), "ok");
            let upstream = upstream.clone();
            let connection = Returning { sender, upstream, pool: endpoint.pool, material, credential };
            return Ok(Answer { response, lease, connection });
        }
        Err(Failure::Late) => ("timeout", Refusal::UpstreamTimeout(upstream.name.to_string())),
        Ok(_) | Err(Failure::Died | Failure::Unsent(_)) => match progress.and_then(|p| p.failure()) {
            Some(refusal) => ("client", refusal),
            None => ("protocol", protocol()),
        },
    };
    upstream.series.requested(core.id.index(), result);
    Err(refusal)
}

enum Again {
    Not(Result<Response<Incoming>, Failure>),
    With(Request<RequestBody>),
}

enum Failure {
    /// The connection ended without an answer.
    Died,
    /// No answer in time.
    Late,
    /// The connection ended before a byte of this request was sent.
    Unsent(Box<Request<RequestBody>>),
}

/// Sends once. The clock for the answer stands still while the request's body is still on its way: a slow body has
/// a bound of its own, and none is sent on after the lease.
async fn attempt(
    sender: &mut SendRequest<RequestBody>,
    request: Request<RequestBody>,
    (upstream, lease): (&Upstream, &Lease),
    progress: Option<&Progress>,
) -> Result<Response<Incoming>, Failure> {
    let answer = sender.try_send_request(request);
    tokio::pin!(answer);
    loop {
        let late = Instant::now() + upstream.timeouts.response;
        match timeout_at(lease.ends().map_or(late, |ends| ends.min(late)), answer.as_mut()).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(mut error)) => {
                return Err(match error.take_message() {
                    Some(request) => Failure::Unsent(Box::new(request)),
                    None => {
                        tracing::debug!(upstream = %upstream.name, cause = %error.error(), "no answer");
                        Failure::Died
                    }
                });
            }
            Err(_) if lease.ends().is_some_and(|ends| ends <= Instant::now()) => return Err(Failure::Late),
            Err(_) if progress.is_some_and(Progress::moved) => {}
            Err(_) => return Err(Failure::Late),
        }
    }
}

/// A second copy of a request that may be sent twice.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_safe || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
