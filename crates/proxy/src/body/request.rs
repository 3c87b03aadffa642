//! The request body: bounded in size, cut off below a minimum rate, its trailers cleaned.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::BodyError;
use crate::normalize::fields::{Reserved, clean_trailers};
use crate::refusal::Refusal;
use crate::snapshot::Bounds;

/// A request body, or none.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Guarded>>);

#[derive(Debug)]
struct Guarded {
    inner: Incoming,
    most: u64,
    rate: u64,
    reserved: Arc<Reserved>,
    progress: Rc<Progress>,
    /// Since when the client owes the next bytes.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    waited: Duration,
}

/// How far a request body got, for those who wait for the answer.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: Cell<u64>,
    seen: Cell<u64>,
    failed: Cell<Option<Failed>>,
}

#[derive(Clone, Copy, Debug)]
enum Failed {
    TooLarge(u64),
    TooSlow,
}

impl Progress {
    /// Bytes that came from the client.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Counts bytes that came.
    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// True when bytes came since the last time this was asked.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.seen.replace(self.bytes.get()) != self.bytes.get()
    }

    /// The client's fault, if the body was cut off.
    #[must_use]
    pub fn failure(&self) -> Option<Refusal> {
        self.failed.get().map(|failed| match failed {
            Failed::TooLarge(most) => Refusal::BodyTooLarge(most),
            Failed::TooSlow => Refusal::BodyTooSlow,
        })
    }
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(None)
    }

    /// Takes what the client sends, if it does, and bounds it.
    ///
    /// # Errors
    /// When the announced length alone is too large; then nothing is taken.
    pub fn new(
        body: &mut Option<Incoming>,
        bounds: &Bounds,
        reserved: &Arc<Reserved>,
    ) -> Result<Self, Refusal> {
        if body.as_ref().is_some_and(|body| body.size_hint().lower() > bounds.body_bytes) {
            return Err(Refusal::BodyTooLarge(bounds.body_bytes));
        }
        let Some(inner) = body.take() else { return Ok(Self::empty()) };
        Ok(Self(Some(Box::new(Guarded {
            inner,
            most: bounds.body_bytes,
            rate: bounds.body_rate.max(1),
            reserved: reserved.clone(),
            progress: Rc::default(),
            waiting: None,
            waited: Duration::ZERO,
        }))))
    }

    /// Where to see how far it got; none without a body.
    #[must_use]
    pub fn progress(&self) -> Option<Rc<Progress>> {
        self.0.as_ref().map(|guarded| guarded.progress.clone())
    }
}

/// Reads what is on its way of a body that nobody wants. Over HTTP/2 an answer before the end of the request resets the
/// stream, and clients that are still sending then lose the answer (curl before 8.0 does).
pub(crate) async fn discard(mut body: Incoming) {
    let mut left = MOST_DISCARDED;
    let read = async {
        while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Slower than this it is not on its way; what it was then does not matter.
    let _ = timeout(LONGEST_DISCARD, read).await;
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Some(guarded) => guarded.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|guarded| guarded.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |guarded| guarded.inner.size_hint())
    }
}

impl Guarded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            ready!(self.poll_too_slow(cx));
            self.progress.failed.set(Some(Failed::TooSlow));
            return Poll::Ready(Some(Err(BodyError::TooSlow)));
        };
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        let mut frame = frame?;
        if let Some(data) = frame.data_ref() {
            let bytes = self.progress.bytes.get().saturating_add(data.len() as u64);
            self.progress.bytes.set(bytes);
            if bytes > self.most {
                self.progress.failed.set(Some(Failed::TooLarge(self.most)));
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            }
        } else if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers, &self.reserved);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Ready when the client has been waited for longer than its bytes so far allow. Time in which nobody reads,
    /// because the upstream is slow, does not count.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (_, deadline) = self.waiting.get_or_insert_with(|| {
            let earned = Duration::from_secs_f64(self.progress.bytes.get() as f64 / self.rate as f64);
            let left = (GRACE + earned).saturating_sub(self.waited);
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + left)))
        });
        deadline.as_mut().poll(cx)
    }
}

/// How long a body may say nothing before its rate counts.
const GRACE: Duration = Duration::from_secs(5);
/// An ordinary form, or what fits into a stream's first window.
const MOST_DISCARDED: usize = 64 * 1024;
const LONGEST_DISCARD: Duration = Duration::from_millis(250);
