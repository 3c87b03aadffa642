//! The request's side of an exchange.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::header::{HeaderMap, HeaderName, TRAILER};
use hyper::body::{Body as _, Frame};
use tokio::io::AsyncWrite as _;

use super::head::{self, Encoding, field};
use super::{ExchangeError, Transport};
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
    pub(super) fn begin(outgoing: &Outgoing, to: &mut Vec<u8>) -> Self {
        let encoding = head::write(outgoing, to);
        let fields = outgoing.request.headers().get_all(TRAILER).into_iter().flat_map(list);
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

    /// Sends `buffer`, and what can be sent of the body now; ready when all was. `buffer` is nobody's afterwards.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Transport,
        buffer: &mut Vec<u8>,
        body: &mut RequestBody,
    ) -> Poll<Result<(), ExchangeError>> {
        loop {
            while !self.left.is_empty() {
                let polled = Pin::new(&mut *io).poll_write(cx, &self.left);
                let went = ready!(self.wrote(io.is_plain(), polled))?;
                self.left.advance(went);
            }
            // One piece goes with the head, so that it can be given back with it.
            while !self.is_whole && buffer.len() < BATCH && self.first.is_none() {
                match self.poll_piece(cx, body, buffer) {
                    Poll::Ready(taken) => taken?,
                    Poll::Pending => break,
                }
            }
            if buffer.is_empty() {
                ready!(Pin::new(&mut *io).poll_flush(cx))?;
                self.is_sent = self.is_whole;
                return if self.is_sent { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let mut gone = 0;
            while let Some(rest) = buffer.get(gone..).filter(|rest| !rest.is_empty()) {
                let polled = Pin::new(&mut *io).poll_write(cx, rest);
                match self.wrote(io.is_plain(), polled) {
                    Poll::Ready(went) => gone += went?,
                    Poll::Pending => {
                        self.left = Bytes::copy_from_slice(rest);
                        return Poll::Pending;
                    }
                }
            }
            buffer.clear();
        }
    }

    /// TLS may have sent a record before it failed at the next one: only of a plain socket's failure it is known that nothing went.
    fn wrote(
        &mut self,
        is_plain: bool,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<Result<usize, ExchangeError>> {
        Poll::Ready(match ready!(polled) {
            Ok(went) if went > 0 => {
                (self.has_begun, self.first) = (true, None);
                Ok(went)
            }
            _ if !self.has_begun && is_plain => Err(ExchangeError::Unsent),
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
    ) -> Poll<Result<(), ExchangeError>> {
        let frame =
            ready!(Pin::new(&mut *body).poll_frame(cx)).transpose().map_err(|_| ExchangeError::Body)?;
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

    fn write(&mut self, data: &[u8], to: &mut Vec<u8>) -> Result<(), ExchangeError> {
        match &mut self.encoding {
            Encoding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(ExchangeError::Body)?;
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
            Encoding::Empty => return Err(ExchangeError::Body),
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>, to: &mut Vec<u8>) -> Result<(), ExchangeError> {
        match self.encoding {
            Encoding::Empty | Encoding::Length(0) => {}
            Encoding::Length(_) => return Err(ExchangeError::Body),
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::{Method, Request};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn post(body: &'static str) -> Outgoing {
        let mut request = Request::new(RequestBody::held(body.into()));
        *request.method_mut() = Method::POST;
        Outgoing { request, own: None }
    }

    async fn sent(
        sending: &mut Sending,
        head: Vec<u8>,
        io: TcpStream,
        outgoing: &mut Outgoing,
    ) -> Result<(), ExchangeError> {
        let (mut io, mut buffer) = (Transport::Plain(io), head);
        poll_fn(|cx| sending.poll(cx, &mut io, &mut buffer, outgoing.request.body_mut())).await
    }

    #[tokio::test]
    async fn a_request_goes_whole() {
        let (near, mut far) = pair().await;
        let (mut head, mut outgoing) = (Vec::new(), post("hello"));
        let mut sending = Sending::begin(&outgoing, &mut head);
        assert!(!sending.is_sent() && sending.goes_on());
        sent(&mut sending, head, near, &mut outgoing).await.unwrap();
        assert!(sending.is_sent() && !sending.goes_on() && sending.unsent().is_none());
        let mut got = String::new();
        far.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello");
    }

    #[tokio::test]
    async fn of_a_request_that_could_not_be_sent_nothing_is_lost() {
        let (mut near, _far) = pair().await;
        near.shutdown().await.unwrap();
        let (mut head, mut outgoing) = (Vec::new(), post("hello"));
        let mut sending = Sending::begin(&outgoing, &mut head);
        let outcome = sent(&mut sending, head, near, &mut outgoing).await;
        assert!(matches!(outcome, Err(ExchangeError::Unsent)), "{outcome:?}");
        let body = outgoing.request.body_mut();
        assert!(body.is_end_stream());
        body.unread(sending.unsent().unwrap());
        let again = std::mem::replace(body, RequestBody::empty());
        assert_eq!(again.whole().await.unwrap(), "hello");
    }
}
