//! The response body: it ends no later than the authority under which it streams, and is given up when its client
//! takes nothing of it for the listener's idle time, or its upstream sends nothing of it for that upstream's.

mod coded;

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::{BROKE_OFF, BodyError, UPSTREAM_STALLED};
use crate::compress::Coder;
use crate::connection::LINGER;
use crate::grpc;
use crate::lease::{LEASE_ENDED, Lease, LeaseEnd, Live};
use crate::normalize::fields::clean_trailers;
use crate::record::Record;
use crate::snapshot::Snapshot;
use crate::upstream::{Returning, UpstreamBody};
use coded::Coded;

/// What a body's frame is asked for, and comes as.
pub(super) type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// What the client gets.
#[derive(Debug)]
pub enum ResponseBody {
    /// A text of ours.
    Own {
        /// What is still to be sent.
        text: Option<Bytes>,
        /// What follows it.
        trailers: Option<Box<HeaderMap>>,
        /// Written when the body is dropped.
        record: Box<Record>,
    },
    /// The upstream's body.
    Streamed(Box<Streamed>),
    /// A text of ours or of an upstream's, compressed.
    Coded(Box<Coded>),
    /// None: what follows is a tunnel.
    Switched,
}

/// The upstream's body, with all that lives as long as it does.
#[derive(Debug)]
pub struct Streamed {
    flow: Rc<Flow>,
    /// What was read of it before.
    ahead: VecDeque<Frame<Bytes>>,
    /// Compresses what comes.
    coder: Option<Coder>,
    /// The flow's place among the core's live leases, once somebody is waited for.
    place: Option<usize>,
    lease: Lease,
    /// The answer to a gRPC call: what cuts it off is told as a status.
    is_call: bool,
}

/// What a response holds of the upstream, where its core finds it while nobody asks for the body.
///
/// Over HTTP/2 a client that opens no window stalls its stream while the socket below is as writable as ever: only
/// this tells.
#[derive(Debug)]
struct Flow {
    source: RefCell<Option<Source>>,
    record: RefCell<Record>,
    given_up: Cell<Option<BodyFault>>,
    /// Since when the client has a piece, and how long it may take before it asks for the next.
    offered: Cell<Option<(Instant, Duration)>>,
    /// Since when the upstream is silent, and who waits for it.
    awaited: RefCell<Option<(Instant, Waker)>>,
    /// How long it may be.
    silence: Duration,
    ends: Option<Instant>,
}

#[derive(Debug)]
struct Source {
    inner: UpstreamBody,
    /// The connection goes back to its pool when the body has ended well.
    connection: Option<Returning>,
    slot: Option<limit::Slot>,
}

#[derive(Clone, Copy, Debug)]
enum BodyFault {
    LeaseEnded(LeaseEnd),
    Stalled,
    Silent,
}

impl BodyFault {
    const fn row(self) -> (&'static str, BodyError) {
        match self {
            Self::LeaseEnded(why) => (LEASE_ENDED, BodyError::LeaseEnded(why)),
            Self::Stalled => ("CLIENT_STALLED", BodyError::Stalled),
            Self::Silent => (UPSTREAM_STALLED, BodyError::Silent),
        }
    }
}

impl Live for Flow {
    fn record(&self) -> Ref<'_, Record> {
        self.record.borrow()
    }

    /// Gives up what nobody sends; and what nobody takes: first the upstream's side, telling the client that the
    /// connection ends; soon after the connection, which still holds a piece for each stalled stream.
    fn judge(&self, _: &Snapshot, now: Instant, _: SystemTime) {
        let is_silent = self
            .awaited
            .borrow()
            .as_ref()
            .is_some_and(|(since, _)| now.saturating_duration_since(*since) > self.silence);
        if is_silent {
            self.give_up(BodyFault::Silent);
        }
        let Some((since, patience)) = self.offered.get() else { return };
        let waited = now.saturating_duration_since(since);
        if waited > patience + LINGER {
            self.record.borrow().connection.cut();
        } else if waited > patience {
            self.give_up(BodyFault::Stalled);
            self.record.borrow().connection.finish();
        } else if self.ends.is_some_and(|ends| now >= ends) {
            self.end(LeaseEnd::Time);
        }
    }

    fn end(&self, why: LeaseEnd) {
        if self.give_up(BodyFault::LeaseEnded(why)) {
            self.record.borrow().core.lease_ended(why);
        }
    }
}

impl Flow {
    /// Ends the upstream's side, and wakes who waits for it; false if it had ended already.
    fn give_up(&self, why: BodyFault) -> bool {
        let is_news = self.source.take().is_some();
        if is_news {
            self.given_up.set(Some(why));
        }
        if let Some((_, waiting)) = self.awaited.take() {
            waiting.wake();
        }
        is_news
    }
}

impl Source {
    /// Frees what belongs to the upstream once its side has ended, whatever the client still has to take.
    fn release(&mut self, record: &mut Record, is_all: bool) {
        self.slot = None;
        if let Some(connection) = self.connection.take() {
            record.complete = is_all;
            connection.keep(&record.core);
        }
    }
}

impl Streamed {
    /// Streams an upstream's body. Where that answers a gRPC call (`is_call`), what cuts it off is a status in trailers; elsewhere
    /// an error, so that nobody takes a part for the whole.
    #[must_use]
    pub fn new(
        inner: UpstreamBody,
        ahead: VecDeque<Frame<Bytes>>,
        connection: Returning,
        lease: Lease,
        mut record: Record,
        slot: Option<limit::Slot>,
        is_call: bool,
    ) -> Self {
        let silence = connection.silence();
        let mut source = Source { inner, connection: Some(connection), slot };
        if ahead.is_empty() && source.inner.is_end_stream() {
            source.release(&mut record, true);
        }
        let flow = Flow {
            source: RefCell::new(Some(source)),
            record: RefCell::new(record),
            given_up: Cell::new(None),
            offered: Cell::new(None),
            awaited: RefCell::default(),
            silence,
            ends: lease.ends(),
        };
        Self { flow: Rc::new(flow), ahead, coder: None, place: None, lease, is_call }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        let polled = self.poll_whole(cx);
        let Poll::Ready(Some(Err(error))) = &polled else { return polled };
        let Some(status) = self.is_call.then(|| grpc::cut_off(error)).flatten() else { return polled };
        self.flow.source.take();
        Poll::Ready(Some(Ok(Frame::trailers(status))))
    }

    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Polled {
        let Some(mut coder) = self.coder.take() else {
            let polled = self.poll_source(cx, true);
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                self.offer(frame.data_ref().map_or(0, Bytes::len));
            }
            return polled;
        };
        let polled = self.poll_coded(&mut coder, cx);
        self.coder = Some(coder);
        polled
    }

    /// The next piece from the upstream; `is_answer` where that is what the client gets.
    fn poll_source(&mut self, cx: &mut Context<'_>, is_answer: bool) -> Polled {
        let flow = self.flow.clone();
        flow.offered.set(None);
        let mut held = flow.source.borrow_mut();
        let Some(source) = &mut *held else {
            return Poll::Ready(flow.given_up.get().map(|why| Err(why.row().1)));
        };
        let mut record = flow.record.borrow_mut();
        let polled = match self.ahead.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut source.inner).poll_frame(cx),
        };
        let Poll::Ready(Some(frame)) = polled else {
            if polled.is_ready() {
                source.release(&mut record, is_answer);
                return Poll::Ready(None);
            }
            if self.lease.poll_ended(cx) {
                return Poll::Ready(Some(Err(out_of_time(&mut record))));
            }
            drop((held, record));
            self.wait(cx);
            return Poll::Pending;
        };
        flow.awaited.take();
        let mut frame = frame.inspect_err(|_| record.code = Some(BROKE_OFF))?;
        if is_answer {
            record.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers, &record.snapshot.reserved);
        }
        if flow.ends.is_some_and(|ends| Instant::now() >= ends) {
            return Poll::Ready(Some(Err(out_of_time(&mut record))));
        }
        // Nothing comes after trailers, and an HTTP/2 client's side does not ask again.
        if frame.is_trailers() || (self.ahead.is_empty() && source.inner.is_end_stream()) {
            source.release(&mut record, is_answer);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        if let Some(coder) = &self.coder {
            return coder.has_ended();
        }
        self.ahead.is_empty() && self.has_source_ended()
    }

    fn has_source_ended(&self) -> bool {
        self.flow.source.borrow().as_ref().is_some_and(|source| source.inner.is_end_stream())
    }

    /// Starts the clock for the upstream, unless it runs.
    fn wait(&mut self, cx: &Context<'_>) {
        let mut awaited = self.flow.awaited.borrow_mut();
        let since =
            awaited.as_ref().map_or_else(|| self.flow.record.borrow().core.tick(), |(since, _)| *since);
        if awaited.as_ref().is_none_or(|(_, known)| !known.will_wake(cx.waker())) {
            *awaited = Some((since, cx.waker().clone()));
        }
        drop(awaited);
        self.enlist();
    }

    /// Starts the clock for the client, who has a piece of this length.
    fn offer(&mut self, length: usize) {
        let record = self.flow.record.borrow();
        let Record { core, connection, snapshot, .. } = &*record;
        let Some(listener) = snapshot.listeners.get(connection.listener()) else { return };
        let slowest = Duration::from_secs(length as u64 / listener.bounds.body_rate.max(1));
        self.flow.offered.set(Some((core.tick(), listener.bounds.idle + slowest)));
        drop(record);
        self.enlist();
    }

    /// From now on the core looks at the clocks, and finds the lease.
    fn enlist(&mut self) {
        if self.place.is_none() {
            let record = self.flow.record.borrow();
            let mut leases = record.core.leases.borrow_mut();
            self.place = Some(leases.enlist(self.flow.clone(), record.began));
        }
    }
}

/// Notes that the lease's time was over first.
fn out_of_time(record: &mut Record) -> BodyError {
    record.code = Some(LEASE_ENDED);
    record.core.lease_ended(LeaseEnd::Time);
    BodyError::LeaseEnded(LeaseEnd::Time)
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let mut record = self.flow.record.borrow_mut();
        if let Some(place) = self.place {
            record.core.leases.borrow_mut().strike(place);
        }
        if let Some(why) = self.flow.given_up.get() {
            record.code = Some(why.row().0);
        }
    }
}

impl ResponseBody {
    /// True for an upstream's answer.
    pub(crate) const fn may_be_encoded(&self) -> bool {
        matches!(self, Self::Own { .. } | Self::Streamed(_))
    }

    /// From now on it comes compressed.
    pub(crate) fn encode(&mut self, coder: Coder) {
        *self = match std::mem::replace(self, Self::Switched) {
            Self::Own { text, trailers, record } => {
                Self::Coded(Box::new(Coded::new(coder, text, trailers, record)))
            }
            Self::Streamed(mut streamed) => {
                streamed.encode(coder);
                Self::Streamed(streamed)
            }
            other => other,
        };
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match &mut *self {
            Self::Own { text, trailers, record } => {
                record.complete = true;
                let data = text.take().map(|text| {
                    record.bytes_out += text.len() as u64;
                    Frame::data(text)
                });
                Poll::Ready(data.or_else(|| Some(Frame::trailers(*trailers.take()?))).map(Ok))
            }
            Self::Streamed(streamed) => streamed.poll_frame(cx),
            Self::Coded(coded) => coded.poll_frame(cx),
            Self::Switched => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text, trailers, .. } => text.is_none() && trailers.is_none(),
            Self::Streamed(streamed) => streamed.is_end_stream(),
            Self::Switched => true,
            Self::Coded(coded) => coded.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Coded(_) => SizeHint::default(),
            Self::Streamed(streamed) if streamed.coder.is_some() || !streamed.ahead.is_empty() => {
                SizeHint::default()
            }
            Self::Streamed(streamed) => {
                let source = streamed.flow.source.borrow();
                source.as_ref().map_or_else(SizeHint::default, |source| source.inner.size_hint())
            }
            Self::Switched => SizeHint::with_exact(0),
        }
    }
}
