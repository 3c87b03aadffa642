//! The response body: it ends no later than the authority under which it streams, and is given up when its client
//! takes nothing of it for the listener's idle time, or its upstream sends nothing of it for that upstream's.

use std::cell::{Cell, RefCell};
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use policy::Permit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::BodyError;
use crate::connection::{Connection, LINGER};
use crate::normalize::fields::clean_trailers;
use crate::record::Record;
use crate::upstream::Returning;

/// What the client gets.
#[derive(Debug)]
pub enum ResponseBody {
    /// A text of ours.
    Own {
        /// What is still to be sent.
        text: Option<Bytes>,
        /// Written when the body is dropped.
        record: Box<Record>,
    },
    /// The upstream's body.
    Streamed(Box<Streamed>),
}

/// The upstream's body, with all that lives as long as it does.
#[derive(Debug)]
pub struct Streamed {
    flow: Rc<Flow>,
    /// The flow's place among those of the core, once somebody is waited for.
    place: Option<usize>,
    lease: Lease,
    record: Record,
}

/// What a response holds of the upstream, where its core finds it while nobody asks for the body.
///
/// Over HTTP/2 a client that opens no window stalls its stream while the socket below is as writable as ever: only
/// this tells.
#[derive(Debug)]
pub struct Flow {
    source: RefCell<Option<Source>>,
    given_up: Cell<Option<BodyFault>>,
    /// Since when the client has a piece, and how long it may take before it asks for the next.
    offered: Cell<Option<(Instant, Duration)>>,
    /// Since when the upstream is silent, and who waits for it.
    awaited: RefCell<Option<(Instant, Waker)>>,
    /// How long it may be.
    silence: Duration,
    ends: Option<Instant>,
    connection: Rc<Connection>,
}

#[derive(Debug)]
struct Source {
    inner: Incoming,
    /// The connection goes back to its pool when the body has ended well.
    connection: Option<Returning>,
    slot: Option<limit::Slot>,
}

#[derive(Clone, Copy, Debug)]
enum BodyFault {
    LeaseEnded,
    Stalled,
    Silent,
}

impl BodyFault {
    const fn row(self) -> (&'static str, BodyError) {
        match self {
            Self::LeaseEnded => ("LEASE_ENDED", BodyError::LeaseEnded),
            Self::Stalled => ("CLIENT_STALLED", BodyError::Stalled),
            Self::Silent => ("UPSTREAM_STALLED", BodyError::Silent),
        }
    }
}

impl Flow {
    /// Gives up what nobody sends; and what nobody takes: first the upstream's side, telling the client that the
    /// connection ends; soon after the connection, which still holds a piece for each stalled stream.
    pub fn judge(&self, now: Instant) {
        let is_silent = self
            .awaited
            .borrow()
            .as_ref()
            .is_some_and(|(since, _)| now.saturating_duration_since(*since) > self.silence);
        if is_silent && let Some((_, waiting)) = self.awaited.take() {
            self.give_up(BodyFault::Silent);
            waiting.wake();
        }
        let Some((since, patience)) = self.offered.get() else { return };
        let waited = now.saturating_duration_since(since);
        if waited > patience + LINGER {
            self.connection.cut();
        } else if waited > patience {
            self.give_up(BodyFault::Stalled);
            self.connection.finish();
        } else if self.ends.is_some_and(|ends| now >= ends) {
            self.give_up(BodyFault::LeaseEnded);
        }
    }

    fn give_up(&self, why: BodyFault) {
        if self.source.take().is_some() {
            self.given_up.set(Some(why));
        }
    }
}

impl Source {
    /// Frees what belongs to the upstream once its side has ended, whatever the client still has to take.
    fn release(&mut self, record: &mut Record) {
        self.slot = None;
        if let Some(connection) = self.connection.take() {
            record.complete = true;
            connection.keep(&record.core);
        }
    }
}

/// The right to stream: the permit, until the earliest of its ends.
#[derive(Debug)]
pub struct Lease {
    ends: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    _permit: Permit,
}

impl Lease {
    /// The lease of a request that began at `began`, which the clock on the wall calls `now`: it ends with the permit, or
    /// when the request has taken for `whole` if that is earlier.
    #[must_use]
    pub fn new(permit: Permit, now: SystemTime, began: Instant, whole: Option<Duration>) -> Self {
        let of_permit = permit.ends().map(|ends| ends.duration_since(now).unwrap_or_default());
        let lasts = match (of_permit, whole) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let ends = lasts.and_then(|lasts| began.checked_add(lasts));
        Self { ends, timer: None, _permit: permit }
    }

    /// When it ends; never, unless its permit or the upstream says when.
    #[must_use]
    pub const fn ends(&self) -> Option<Instant> {
        self.ends
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ends) = self.ends else { return false };
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(ends))).as_mut().poll(cx).is_ready()
    }
}

impl Streamed {
    /// Streams an upstream's body.
    #[must_use]
    pub fn new(
        inner: Incoming,
        connection: Returning,
        lease: Lease,
        mut record: Record,
        slot: Option<limit::Slot>,
    ) -> Self {
        let silence = connection.silence();
        let mut source = Source { inner, connection: Some(connection), slot };
        if source.inner.is_end_stream() {
            source.release(&mut record);
        }
        let flow = Flow {
            source: RefCell::new(Some(source)),
            given_up: Cell::new(None),
            offered: Cell::new(None),
            awaited: RefCell::default(),
            silence,
            ends: lease.ends,
            connection: record.connection.clone(),
        };
        Self { flow: Rc::new(flow), place: None, lease, record }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.flow.offered.set(None);
        let flow = self.flow.clone();
        let mut held = flow.source.borrow_mut();
        let Some(source) = &mut *held else {
            return Poll::Ready(flow.given_up.get().map(|why| Err(why.row().1)));
        };
        let polled = Pin::new(&mut source.inner).poll_frame(cx);
        let Poll::Ready(Some(frame)) = polled else {
            if polled.is_ready() {
                source.release(&mut self.record);
                return Poll::Ready(None);
            }
            if self.lease.poll_ended(cx) {
                self.record.code = Some("LEASE_ENDED");
                return Poll::Ready(Some(Err(BodyError::LeaseEnded)));
            }
            drop(held);
            self.wait(cx);
            return Poll::Pending;
        };
        self.flow.awaited.take();
        let mut frame = frame.inspect_err(|_| self.record.code = Some("UPSTREAM_BROKE_OFF"))?;
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.record.bytes_out += length as u64;
        if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers, &self.record.snapshot.reserved);
        }
        if self.lease.ends.is_some_and(|ends| Instant::now() >= ends) {
            self.record.code = Some("LEASE_ENDED");
            return Poll::Ready(Some(Err(BodyError::LeaseEnded)));
        }
        if source.inner.is_end_stream() {
            source.release(&mut self.record);
        }
        self.offer(length);
        Poll::Ready(Some(Ok(frame)))
    }

    /// Starts the clock for the upstream, unless it runs.
    fn wait(&mut self, cx: &Context<'_>) {
        let mut awaited = self.flow.awaited.borrow_mut();
        let since = awaited.as_ref().map_or_else(|| self.record.core.tick(), |(since, _)| *since);
        if awaited.as_ref().is_none_or(|(_, known)| !known.will_wake(cx.waker())) {
            *awaited = Some((since, cx.waker().clone()));
        }
        drop(awaited);
        self.enlist();
    }

    /// Starts the clock for the client, who has a piece of this length.
    fn offer(&mut self, length: usize) {
        let Record { core, connection, snapshot, .. } = &self.record;
        let Some(listener) = snapshot.listeners.get(connection.listener()) else { return };
        let slowest = Duration::from_secs(length as u64 / listener.bounds.body_rate.max(1));
        self.flow.offered.set(Some((core.tick(), listener.bounds.idle + slowest)));
        self.enlist();
    }

    /// From now on the core looks at the clocks.
    fn enlist(&mut self) {
        if self.place.is_none() {
            self.place = Some(self.record.core.flows.borrow_mut().insert(self.flow.clone()));
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.record.core.flows.borrow_mut().try_remove(place);
        }
        if let Some(why) = self.flow.given_up.get() {
            self.record.code = Some(why.row().0);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Own { text, record } => {
                record.complete = true;
                Poll::Ready(text.take().map(|text| {
                    record.bytes_out += text.len() as u64;
                    Ok(Frame::data(text))
                }))
            }
            Self::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text, .. } => text.is_none(),
            Self::Streamed(streamed) => {
                streamed.flow.source.borrow().as_ref().is_some_and(|source| source.inner.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Streamed(streamed) => {
                let source = streamed.flow.source.borrow();
                source.as_ref().map_or_else(SizeHint::default, |source| source.inner.size_hint())
            }
        }
    }
}
