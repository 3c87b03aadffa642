//! Answers that are compressed on their way.
//!
//! The clocks of a streamed answer go by what the client has and what the upstream owes: while the coder works, neither runs.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Frame;
use tokio::time::Instant;

use super::{Polled, Streamed, out_of_time};
use crate::body::{BodyError, COMPRESSION_FAILED};
use crate::compress::{Coder, Next};
use crate::record::Record;

/// A whole text, compressed.
#[derive(Debug)]
pub struct Coded {
    coder: Coder,
    record: Box<Record>,
}

impl Coded {
    pub(super) fn new(
        mut coder: Coder,
        text: Option<Bytes>,
        trailers: Option<Box<HeaderMap>>,
        mut record: Box<Record>,
    ) -> Self {
        coder.take(text.unwrap_or_default());
        coder.end(trailers.map(|trailers| *trailers));
        record.complete = false;
        Self { coder, record }
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.coder.has_ended()
    }

    pub(super) fn poll_frame(&mut self, cx: &Context<'_>) -> Polled {
        let next = self.coder.next().map_err(|error| broken(&mut self.record, error))?;
        let frame = match next {
            Next::Rest => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Next::Data(data) => Some(given(&mut self.record, data)),
            Next::Trailers(trailers) => Some(Frame::trailers(trailers)),
            Next::Hungry | Next::End => None,
        };
        self.record.complete = self.coder.has_ended();
        Poll::Ready(frame.map(Ok))
    }
}

impl Streamed {
    /// From now on it comes compressed.
    pub(super) fn encode(&mut self, coder: Coder) {
        self.flow.record.borrow_mut().complete = false;
        self.coder = Some(coder);
    }

    pub(super) fn poll_coded(&mut self, coder: &mut Coder, cx: &mut Context<'_>) -> Polled {
        self.flow.offered.set(None);
        loop {
            if let Some(why) = self.flow.given_up.get() {
                return Poll::Ready(Some(Err(why.row().1)));
            }
            match self.unbroken(coder.next())? {
                Next::Data(data) => return self.give(coder, data),
                Next::Trailers(trailers) => {
                    self.flow.record.borrow_mut().complete = true;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Next::Rest => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::End => return Poll::Ready(None),
                Next::Hungry => {}
            }
            match self.poll_source(cx, false) {
                Poll::Pending => {
                    if coder.may_wait() {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let Some(data) = self.unbroken(coder.flush())? else { return Poll::Pending };
                    // It is the client's turn: until it asks again, the upstream owes nothing.
                    self.flow.awaited.take();
                    return self.give(coder, data);
                }
                Poll::Ready(None) => coder.end(None),
                Poll::Ready(Some(frame)) => match frame?.into_data() {
                    Ok(data) => {
                        coder.take(data);
                        if self.ahead.is_empty() && self.has_source_ended() {
                            coder.end(None);
                        }
                    }
                    Err(frame) => coder.end(frame.into_trailers().ok()),
                },
            }
        }
    }

    fn give(&mut self, coder: &Coder, data: Bytes) -> Polled {
        let length = data.len();
        let mut record = self.flow.record.borrow_mut();
        if self.flow.ends.is_some_and(|ends| Instant::now() >= ends) {
            return Poll::Ready(Some(Err(out_of_time(&mut record))));
        }
        let frame = given(&mut record, data);
        record.complete = coder.has_ended();
        drop(record);
        self.offer(length);
        Poll::Ready(Some(Ok(frame)))
    }

    fn unbroken<T>(&self, result: std::io::Result<T>) -> Result<T, BodyError> {
        result.map_err(|error| broken(&mut self.flow.record.borrow_mut(), error))
    }
}

fn given(record: &mut Record, data: Bytes) -> Frame<Bytes> {
    record.bytes_out += data.len() as u64;
    Frame::data(data)
}

fn broken(record: &mut Record, error: std::io::Error) -> BodyError {
    record.code = Some(COMPRESSION_FAILED);
    BodyError::Compression(error)
}
