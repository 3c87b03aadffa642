//! A copy of a permitted request to another upstream, whose answer nobody reads.
//!
//! The copy can neither slow nor change the answer: it is sent by a task of its own once the request's body has passed, from
//! bytes that were copied as they passed. **Not mirrored, and counted:** when too many copies are on their way (`full`), when
//! the body is larger than what is kept (`too_large`) or breaks off (`incomplete`), when there is nothing to show the other
//! upstream (`unavailable`). The caller's credential goes where the route forwards it and nowhere else: a minted token is
//! made anew for the other upstream, and a credential of the gateway's own is that of the upstream that gets it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, request};
use identity::Principal;
use limit::{Concurrency, Slot};
use policy::Permit;
use telemetry::MirrorSeries;
use tokio::time::timeout;

use crate::addresses::Addresses;
use crate::authenticate::Caller;
use crate::body::{RequestBody, next_frame};
use crate::core::Core;
use crate::forward::{Outgoing, OwnFields};
use crate::lease::Lease;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::token::Bearer;
use crate::upstream::{FieldCredential, Origin, Upstream, send};

/// Where copies of a route's requests go.
#[derive(Debug)]
pub struct Mirror {
    /// The other upstream.
    pub upstream: Arc<Upstream>,
    /// Of how many percent of the requests.
    pub share: u8,
    /// How many at the same time, on all cores.
    pub most: Arc<Concurrency>,
    /// Bytes of a body that are kept.
    pub body_bytes: usize,
    /// How long a copy may be on its way.
    pub timeout: Duration,
    /// Its metrics.
    pub series: Arc<MirrorSeries>,
}

/// A copy that waits for its body.
#[derive(Debug)]
pub(crate) struct RequestCopy {
    mirror: Arc<Mirror>,
    core: Rc<Core>,
    /// Until it has been sent: counted when it is dropped before.
    left: Option<Left>,
    body: Vec<u8>,
}

#[derive(Debug)]
struct Left {
    head: request::Parts,
    own: Option<OwnFields>,
    token: Option<Bearer>,
    credential: Option<Arc<FieldCredential>>,
    lease: Lease,
    slot: Slot,
    principal: Arc<Principal>,
    addresses: Addresses,
}

impl Mirror {
    /// A place for a copy of this request, if chance has it and there is one.
    pub(crate) fn place(&self, core: &Core) -> Option<Slot> {
        if self.share < 100 && core.trace_ids.chance() % 100 >= u64::from(self.share) {
            return None;
        }
        let place = self.most.try_acquire();
        if place.is_none() {
            self.series.counted(core.id.index(), "full");
        }
        place
    }
}

impl RequestCopy {
    /// A copy of a request, to go with these credentials under the same permit.
    pub(crate) fn new(
        mirror: &Arc<Mirror>,
        slot: Slot,
        Outgoing { request, own }: Outgoing,
        (token, credential): (Option<Bearer>, Option<Arc<FieldCredential>>),
        (caller, permit): (&Caller, &Permit),
        record: &Record,
    ) -> Self {
        let (mut head, _) = request.into_parts();
        head.headers.insert(MIRRORED, HeaderValue::from_static("?1"));
        let lease = Lease::new(permit.of_copy(), record.now, record.began, Some(mirror.timeout));
        let principal = caller.principal.clone();
        let left = Some(Left {
            head,
            own,
            token,
            credential,
            lease,
            slot,
            principal,
            addresses: record.addresses(),
        });
        Self { mirror: mirror.clone(), core: record.core.clone(), left, body: Vec::new() }
    }

    /// Takes a piece of the body; false once it is too large.
    pub(crate) fn take(&mut self, piece: &[u8]) -> bool {
        if self.body.len().saturating_add(piece.len()) > self.mirror.body_bytes {
            self.end("too_large");
            return false;
        }
        self.body.extend_from_slice(piece);
        true
    }

    /// Sends it: the body is whole.
    pub(crate) fn send(mut self) {
        let Some(left) = self.left.take() else { return };
        let (mirror, core, body) = (self.mirror.clone(), self.core.clone(), std::mem::take(&mut self.body));
        self.core.tasks.spawn_local(async move {
            let sent = timeout(mirror.timeout, left.exchange(&mirror, &core, body.into())).await;
            let result = match sent {
                Ok(Ok(())) => "answered",
                Ok(Err(Refusal::TokenUnavailable { .. } | Refusal::CredentialUnavailable { .. })) => {
                    "unavailable"
                }
                Ok(Err(Refusal::UpstreamTimeout(_))) | Err(_) => "timeout",
                Ok(Err(_)) => "failed",
            };
            mirror.series.counted(core.id.index(), result);
        });
    }

    fn end(&mut self, result: &'static str) {
        if self.left.take().is_some() {
            self.mirror.series.counted(self.core.id.index(), result);
        }
    }
}

impl Drop for RequestCopy {
    fn drop(&mut self) {
        self.end("incomplete");
    }
}

impl Left {
    /// Sends it and reads the answer to its end, so that the connection serves the next copy; a long answer is not worth it.
    async fn exchange(self, mirror: &Mirror, core: &Rc<Core>, body: Bytes) -> Result<(), Refusal> {
        let Self { mut head, own, token, credential, lease, slot: _slot, principal, addresses } = self;
        if let Some(token) = token {
            head.headers.insert(AUTHORIZATION, token.ready().await?);
        }
        let mut outgoing = Outgoing { request: Request::from_parts(head, RequestBody::held(body)), own };
        let origin = Origin { principal: &principal, addresses };
        let answer = send(lease, core, &mirror.upstream, &mut outgoing, credential, origin, None).await?;
        let (mut body, mut left) = (answer.response.into_body(), LONGEST_READ);
        while let Some(frame) = next_frame(&mut body).await {
            let Ok(frame) = frame else { return Ok(()) };
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return Ok(());
            }
        }
        answer.connection.keep(core);
        Ok(())
    }
}

/// Marks a copy. Nobody else can send it: names that begin so are removed from what callers send.
const MIRRORED: HeaderName = HeaderName::from_static("x-portcullis-mirrored");

const LONGEST_READ: usize = 64 * 1024;
