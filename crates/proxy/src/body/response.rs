//! The response body: it ends no later than the authority under which it streams.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use policy::Permit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::BodyError;
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
    inner: Incoming,
    /// The connection goes back to its pool when the body has ended well.
    connection: Option<Returning>,
    lease: Lease,
    record: Record,
    _slot: Option<limit::Slot>,
}

/// The right to stream: the permit, until the earliest of its ends.
#[derive(Debug)]
pub struct Lease {
    ends: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    _permit: Permit,
}

impl Lease {
    /// A lease that ends with the permit, or at `whole` if that is earlier.
    #[must_use]
    pub fn new(permit: Permit, now: SystemTime, whole: Option<Instant>) -> Self {
        let of_permit =
            permit.ends().map(|ends| Instant::now() + ends.duration_since(now).unwrap_or_default());
        let ends = match (of_permit, whole) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        Self { ends, timer: None, _permit: permit }
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
        record: Record,
        slot: Option<limit::Slot>,
    ) -> Self {
        let mut streamed = Self { inner, connection: Some(connection), lease, record, _slot: slot };
        streamed.keep_if_ended();
        streamed
    }

    fn keep_if_ended(&mut self) {
        if self.inner.is_end_stream()
            && let Some(connection) = self.connection.take()
        {
            self.record.complete = true;
            connection.keep(&self.record.core);
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let Poll::Ready(Some(frame)) = polled else {
            if polled.is_ready() {
                self.keep_if_ended();
                return Poll::Ready(None);
            }
            if self.lease.poll_ended(cx) {
                self.record.code = Some("LEASE_ENDED");
                return Poll::Ready(Some(Err(BodyError::LeaseEnded)));
            }
            return Poll::Pending;
        };
        let mut frame = frame.inspect_err(|_| self.record.code = Some("UPSTREAM_BROKE_OFF"))?;
        if let Some(data) = frame.data_ref() {
            self.record.bytes_out += data.len() as u64;
        } else if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers, &self.record.snapshot.reserved);
        }
        if self.lease.ends.is_some_and(|ends| Instant::now() >= ends) {
            self.record.code = Some("LEASE_ENDED");
            return Poll::Ready(Some(Err(BodyError::LeaseEnded)));
        }
        self.keep_if_ended();
        Poll::Ready(Some(Ok(frame)))
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
            Self::Streamed(streamed) => streamed.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Streamed(streamed) => streamed.inner.size_hint(),
        }
    }
}
