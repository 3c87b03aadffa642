//! The request body: bounded in size, cut off below a minimum rate, its trailers cleaned.
//!
//! Over HTTP/2 the upstream can say that it took no notice of a request: then its body is read [`again`](Upload::again) from the
//! start, as long as no more than [`MOST_KEPT`] was taken of it.

mod ahead;

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::Reason;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::BodyError;
use super::progress::{Failed, Progress};
use crate::mirror::RequestCopy;
use crate::normalize::fields::{Reserved, clean_trailers};
use crate::refusal::Refusal;
use crate::snapshot::Bounds;

/// A request body, or none.
#[derive(Debug)]
pub struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    /// It is here, whole.
    Held(Bytes),
    Passing(Reader),
}

/// How slowly a body may come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// It is on its way: the listener's rate counts.
    Uploads,
    /// Messages of a call, when there is one: the times of the upstream count, and the call's deadline.
    Calls,
}

/// Whoever reads a body, from its start.
#[derive(Debug)]
struct Reader {
    guarded: Rc<RefCell<Guarded>>,
    /// Which reader this is: the next one takes its place.
    turn: u32,
}

#[derive(Debug)]
struct Guarded {
    inner: Incoming,
    /// Whose turn it is; none when the body was given up.
    turn: Option<u32>,
    /// What was taken, for the next reader; and how many pieces of it this reader has.
    kept: Vec<Bytes>,
    read: usize,
    /// It can be read from its start again: nothing was taken that is not kept.
    repeats: bool,
    /// Somebody may take it away from its reader.
    is_shared: bool,
    /// The reader that waits for the client, if so.
    waiter: Option<Waker>,
    most: u64,
    rate: Option<u64>,
    reserved: Arc<Reserved>,
    progress: Rc<Progress>,
    /// Since when the client owes the next bytes.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    waited: Duration,
    /// Takes what passes.
    copy: Option<Box<RequestCopy>>,
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Takes what the client sends, if it does, and bounds it.
    ///
    /// # Errors
    /// When the announced length alone is too large; then nothing is taken.
    pub fn new(
        body: &mut Option<Incoming>,
        bounds: &Bounds,
        pace: Pace,
        reserved: &Arc<Reserved>,
    ) -> Result<Self, Refusal> {
        if body.as_ref().is_some_and(|body| body.size_hint().lower() > bounds.body_bytes) {
            return Err(Refusal::BodyTooLarge(bounds.body_bytes));
        }
        let Some(inner) = body.take() else { return Ok(Self::empty()) };
        let guarded = Guarded {
            inner,
            turn: Some(0),
            kept: Vec::new(),
            read: 0,
            repeats: false,
            is_shared: false,
            waiter: None,
            most: bounds.body_bytes,
            rate: match pace {
                Pace::Uploads => Some(bounds.body_rate.max(1)),
                Pace::Calls => None,
            },
            reserved: reserved.clone(),
            progress: Rc::default(),
            waiting: None,
            waited: Duration::ZERO,
            copy: None,
        };
        Ok(Self(Kind::Passing(Reader { guarded: Rc::new(RefCell::new(guarded)), turn: 0 })))
    }

    /// A body that is here already.
    #[must_use]
    pub fn held(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Held(bytes) })
    }

    /// All of it; its trailers are not.
    ///
    /// # Errors
    /// When it is too large or too slow, or breaks off.
    pub(crate) async fn whole(mut self) -> Result<Bytes, Refusal> {
        let progress = self.progress();
        let mut whole = BytesMut::new();
        while let Some(frame) = next_frame(&mut self).await {
            let failed =
                |_| progress.as_deref().and_then(Progress::failure).unwrap_or(Refusal::BodyMalformed);
            if let Some(data) = frame.map_err(failed)?.data_ref() {
                whole.extend_from_slice(data);
            }
        }
        Ok(whole.freeze())
    }

    /// Has a copy made of what passes, which goes its own way once it is whole.
    pub(crate) fn copy_to(&mut self, mut copy: RequestCopy) {
        match &mut self.0 {
            Kind::Empty => copy.send(),
            Kind::Held(bytes) => {
                if copy.take(bytes) {
                    copy.send();
                }
            }
            Kind::Passing(reader) => {
                let mut guarded = reader.guarded.borrow_mut();
                if guarded.kept.iter().all(|piece| copy.take(piece)) {
                    guarded.copy = Some(Box::new(copy));
                }
            }
        }
    }

    /// Where to see how far it got; none without a body.
    #[must_use]
    pub fn progress(&self) -> Option<Rc<Progress>> {
        match &self.0 {
            Kind::Passing(reader) => Some(reader.guarded.borrow().progress.clone()),
            Kind::Empty | Kind::Held(_) => None,
        }
    }

    /// A hold on it for as long as its stream may be refused or given up; none without a body. What is read of it from now on is kept.
    pub(crate) fn upload(&self) -> Option<Upload> {
        let Kind::Passing(reader) = &self.0 else { return None };
        let mut guarded = reader.guarded.borrow_mut();
        guarded.repeats |= guarded.progress.bytes() == 0;
        guarded.is_shared = true;
        drop(guarded);
        Some(Upload(reader.guarded.clone()))
    }
}

/// A body that others read. Dropping it gives the body up: whoever still reads it gets an error.
#[derive(Debug)]
pub(crate) struct Upload(Rc<RefCell<Guarded>>);

impl Upload {
    /// The body from its start, for a reader that takes the place of the former one; none if too much of it is gone.
    pub(crate) fn again(&self) -> Option<RequestBody> {
        let mut guarded = self.0.borrow_mut();
        let turn = guarded.turn?.checked_add(1)?;
        if !guarded.repeats {
            return None;
        }
        (guarded.turn, guarded.read) = (Some(turn), 0);
        Some(RequestBody(Kind::Passing(Reader { guarded: self.0.clone(), turn })))
    }

    /// From now on it can't be read again.
    pub(crate) fn forget(&self) {
        self.0.borrow_mut().forget();
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut guarded = self.0.borrow_mut();
        guarded.turn = None;
        let waiter = guarded.waiter.take();
        drop(guarded);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
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

/// The next piece of a body; none at its end.
pub(crate) async fn next_frame<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Held(bytes) => {
                let whole = Frame::data(std::mem::take(bytes));
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(whole)))
            }
            Kind::Passing(reader) => reader.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Held(_) => false,
            Kind::Passing(reader) => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Held(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Passing(reader) => reader.size_hint(),
        }
    }
}

impl Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut guarded = self.guarded.borrow_mut();
        if guarded.turn != Some(self.turn) {
            return Poll::Ready(Some(Err(BodyError::GivenUp(Reason::CANCEL.into()))));
        }
        match guarded.next_kept() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => guarded.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let guarded = self.guarded.borrow();
        guarded.turn == Some(self.turn) && guarded.read >= guarded.kept.len() && guarded.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let guarded = self.guarded.borrow();
        let kept = guarded.kept.iter().skip(guarded.read).map(|piece| piece.len() as u64).sum::<u64>();
        match guarded.inner.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left.saturating_add(kept)),
            None => SizeHint::default(),
        }
    }
}

impl Guarded {
    /// A piece that a former reader took.
    fn next_kept(&mut self) -> Option<Bytes> {
        let piece = self.kept.get(self.read)?.clone();
        self.read += 1;
        if !self.repeats {
            self.forget();
        }
        Some(piece)
    }

    fn forget(&mut self) {
        self.repeats = false;
        // What this reader has still to get stays.
        if self.read >= self.kept.len() {
            (self.kept, self.read) = (Vec::new(), 0);
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if self.is_shared {
                self.waiter = Some(cx.waker().clone());
            }
            ready!(self.poll_too_slow(cx));
            self.progress.failed.set(Some(Failed::TooSlow));
            return Poll::Ready(Some(Err(BodyError::TooSlow)));
        };
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        let Some(frame) = frame else {
            if let Some(copy) = self.copy.take() {
                copy.send();
            }
            return Poll::Ready(None);
        };
        // Not the upstream's fault, which must not be taken for dead for it.
        let mut frame = frame.inspect_err(|_| self.progress.failed.set(Some(Failed::Broken)))?;
        if let Some(data) = frame.data_ref() {
            let bytes = self.progress.bytes.get().saturating_add(data.len() as u64);
            self.progress.bytes.set(bytes);
            if bytes > self.most {
                self.progress.failed.set(Some(Failed::TooLarge(self.most)));
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            }
            if self.copy.as_mut().is_some_and(|copy| !copy.take(data)) {
                self.copy = None;
            }
            if self.repeats && bytes <= MOST_KEPT {
                self.kept.push(data.clone());
                self.read += 1;
            } else if self.repeats {
                self.forget();
            }
        } else if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers, &self.reserved);
            self.forget();
        }
        if self.inner.is_end_stream()
            && let Some(copy) = self.copy.take()
        {
            copy.send();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Ready when the client has been waited for longer than its bytes so far allow. Time in which nobody reads,
    /// because the upstream is slow, does not count.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(rate) = self.rate else { return Poll::Pending };
        let (_, deadline) = self.waiting.get_or_insert_with(|| {
            let earned = Duration::from_secs_f64(self.progress.bytes.get() as f64 / rate as f64);
            let left = (GRACE + earned).saturating_sub(self.waited);
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + left)))
        });
        deadline.as_mut().poll(cx)
    }
}

/// How long a body may say nothing before its rate counts.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of a body that are kept until its answer begins: most calls (RPC, JSON) are smaller.
const MOST_KEPT: u64 = 16 * 1024;
/// An ordinary form, or what fits into a stream's first window.
const MOST_DISCARDED: usize = 64 * 1024;
const LONGEST_DISCARD: Duration = Duration::from_millis(250);
