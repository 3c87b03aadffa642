//! The request's side of an exchange.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::header::{HeaderMap, HeaderName, TRAILER};
use hyper::body::{Body as _, Frame};
use tokio::io::AsyncWrite as _;

use super::head::{self, Encoding, field};
use super::{Broken, Transport};
use crate::body::RequestBody;
use crate::forward::Outgoing;
use crate::normalize::fields::list;

/// How far a request is sent.
#[derive(Debug, Default)]
pub(super) struct Sending {
    encoding: Encoding,
    /// Trailers that the request announces: no others are sent.
    announced: Vec<HeaderName>,
    /// What the socket did not take yet.
    left: Bytes,
    /// Nothing is to be written after that.
    is_whole: bool,
    /// All of it went to the socket.
    is_sent: bool,
    /// A byte of it did.
    has_begun: bool,
    /// The piece of the body that goes with the head, until something was sent.
    first: Option<Bytes>,
    /// The upstream takes no more.
    is_refused: bool,
    /// The body, where its answer has begun before its end; and who sends it.
    pub(super) upload: Option<RequestBody>,
    pub(super) uploader: Uploader,
}

/// Who sends an upload is woken when the connection is no more.
#[derive(Debug, Default)]
pub(super) struct Uploader(pub(super) Option<Waker>);

impl Drop for Uploader {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl Sending {
    /// Writes the head of a request.
    pub(super) fn begin(request: &Outgoing, to: &mut Vec<u8>) -> Self {
        let encoding = head::write(request, to);
        let fields = request.request.headers().get_all(TRAILER).into_iter().flat_map(list);
        let announced = match encoding {
            Encoding::Chunked => fields.filter_map(|name| HeaderName::from_bytes(name).ok()).collect(),
            Encoding::Empty | Encoding::Length(_) => Vec::new(),
        };
        Self { encoding, announced, is_whole: encoding == Encoding::Empty, ..Self::default() }
    }

    /// All of the request was sent.
    pub(super) const fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// There is more to send, and somebody to take it.
    pub(super) const fn goes_on(&self) -> bool {
        !self.is_sent && !self.is_refused
    }

    /// Gives up what is left: an upstream that takes no more may have answered before.
    pub(super) const fn refuse(&mut self) {
        self.is_refused = true;
    }

    /// The piece that was taken from the body of a request of which nothing was sent.
    pub(super) const fn unsent(&mut self) -> Option<Bytes> {
        self.first.take()
    }

    /// Sends `scratch`, and what can be sent of the body now; ready when all was. `scratch` is nobody's afterwards.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Transport,
        scratch: &mut Vec<u8>,
        body: &mut RequestBody,
    ) -> Poll<Result<(), Broken>> {
        loop {
            while !self.left.is_empty() {
                let polled = Pin::new(&mut *io).poll_write(cx, &self.left);
                let went = ready!(self.wrote(io.is_plain(), polled))?;
                self.left.advance(went);
            }
            // One piece goes with the head, so that it can be given back with it.
            while !self.is_whole && scratch.len() < BATCH && self.first.is_none() {
                match self.poll_piece(cx, body, scratch) {
                    Poll::Ready(taken) => taken?,
                    Poll::Pending => break,
                }
            }
            if scratch.is_empty() {
                ready!(Pin::new(&mut *io).poll_flush(cx))?;
                self.is_sent = self.is_whole;
                return if self.is_sent { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let mut gone = 0;
            while let Some(rest) = scratch.get(gone..).filter(|rest| !rest.is_empty()) {
                let polled = Pin::new(&mut *io).poll_write(cx, rest);
                match self.wrote(io.is_plain(), polled) {
                    Poll::Ready(went) => gone += went?,
                    Poll::Pending => {
                        self.left = Bytes::copy_from_slice(rest);
                        return Poll::Pending;
                    }
                }
            }
            scratch.clear();
        }
    }

    /// TLS may have sent a record before it failed at the next one: only of a plain socket's failure it is known that nothing went.
    fn wrote(&mut self, is_plain: bool, polled: Poll<io::Result<usize>>) -> Poll<Result<usize, Broken>> {
        Poll::Ready(match ready!(polled) {
            Ok(went) if went > 0 => {
                (self.has_begun, self.first) = (true, None);
                Ok(went)
            }
            _ if !self.has_begun && is_plain => Err(Broken::Unsent),
            Ok(_) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Err(error) => Err(error.into()),
        })
    }

    /// Takes the next piece of the body.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
        to: &mut Vec<u8>,
    ) -> Poll<Result<(), Broken>> {
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx)).transpose().map_err(|_| Broken::Body)?;
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                self.write(&data, to)?;
                if self.encoding == Encoding::Chunked && body.is_end_stream() {
                    self.end(None, to)?;
                }
                if !self.has_begun {
                    self.first = Some(data);
                }
            }
            Some(Err(frame)) => self.end(frame.into_trailers().ok().as_ref(), to)?,
            None => self.end(None, to)?,
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, data: &[u8], to: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut self.encoding {
            Encoding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Broken::Body)?;
                self.is_whole = *left == 0;
                to.extend_from_slice(data);
            }
            // An empty chunk would be the last one.
            Encoding::Chunked if !data.is_empty() => {
                // Writing to memory does not fail.
                let _ = write!(to, "{:x}\r\n", data.len());
                to.extend_from_slice(data);
                to.extend_from_slice(b"\r\n");
            }
            Encoding::Chunked => {}
            Encoding::Empty if data.is_empty() => {}
            Encoding::Empty => return Err(Broken::Body),
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>, to: &mut Vec<u8>) -> Result<(), Broken> {
        match self.encoding {
            Encoding::Empty | Encoding::Length(0) => {}
            Encoding::Length(_) => return Err(Broken::Body),
            Encoding::Chunked => {
                to.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if self.announced.contains(name) {
                        field(to, name.as_str(), value.as_bytes());
                    }
                }
                to.extend_from_slice(b"\r\n");
            }
        }
        self.is_whole = true;
        Ok(())
    }
}

/// As much is gathered before it is written.
const BATCH: usize = 16 * 1024;
