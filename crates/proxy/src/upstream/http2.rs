//! HTTP/2 to an upstream: connections that many requests of one core share.
//!
//! A connection takes as many streams as its peer allows, and never more than [`MOST_STREAMS`]; the pool makes another one when all
//! are full. After GOAWAY, a failure of the connection or an answer that did not come in time it takes no new streams, but those
//! that it has may end. INVARIANT: the connection's window is the sum of its streams' windows, so that a client
//! that reads slowly holds up nobody but itself, and holds no more than [`STREAM_WINDOW`] of an answer.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::http1::{MOST_HEAD, UpstreamBody};
use crate::body::RequestBody;
use crate::connection::OnCore;
use crate::core::Core;

/// A connection that many requests share.
pub(super) struct Shared {
    sender: RefCell<SendRequest<RequestBody>>,
    /// Streams that the peer allows at this moment.
    allowed: Box<dyn Fn() -> usize>,
    in_flight: Cell<usize>,
    /// When it last had a stream.
    used: Cell<Instant>,
    /// It takes no new streams.
    retired: Cell<bool>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("in_flight", &self.in_flight)
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Speaks HTTP/2 on a fresh connection. It comes back when the peer has said how many streams it allows, so that none is
    /// refused for being one too many, and whoever speaks no HTTP/2 is found out before a request is lost on it.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn open<IO>(core: &Rc<Core>, io: IO) -> Result<Rc<Self>, String>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (told, greeted) = oneshot::channel();
        let io = TokioIo::new(Greeting { io, header: [0; HEADER], have: 0, left: HEADER, told: Some(told) });
        let (sender, connection) = http2::Builder::new(OnCore::new(core))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW * MOST_STREAMS)
            .max_header_list_size(MOST_HEAD as u32)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_concurrent_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(io)
            .await
            .map_err(|error| error.to_string())?;
        let connection = Rc::new(RefCell::new(connection));
        let weak = Rc::downgrade(&connection);
        let allowed = Box::new(move || {
            let connection = weak.upgrade();
            connection
                .and_then(|held| Some(held.try_borrow().ok()?.current_max_send_streams()))
                .unwrap_or_default()
        });
        // How it ends is told by the requests on it; without any it concerns nobody.
        core.tasks.spawn_local(async move {
            let ended = poll_fn(|cx| Pin::new(&mut *connection.borrow_mut()).poll(cx)).await;
            drop(ended);
        });
        greeted.await.map_err(|_| "it speaks no HTTP/2".to_owned())?;
        Ok(Rc::new(Self {
            sender: RefCell::new(sender),
            allowed,
            in_flight: Cell::new(0),
            used: Cell::new(core.tick()),
            retired: Cell::new(false),
        }))
    }

    /// A stream, unless it has as many as it may, or takes none any more.
    pub(super) fn stream(self: &Rc<Self>, is_first: bool) -> Option<Stream> {
        let has_room = self.in_flight.get() < (self.allowed)().min(MOST_STREAMS as usize);
        (has_room && self.is_open()).then(|| {
            self.in_flight.set(self.in_flight.get() + 1);
            Stream { shared: self.clone(), is_first }
        })
    }

    /// True while it takes new streams.
    pub(super) fn is_open(&self) -> bool {
        !self.retired.get() && !self.sender.borrow().is_closed()
    }

    /// True when it has had no stream for `idle`.
    pub(super) fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        if self.in_flight.get() > 0 {
            self.used.set(now);
        }
        now.saturating_duration_since(self.used.get()) > idle
    }
}

/// Room for one request on a shared connection, until dropped.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Rc<Shared>,
    /// The connection was made for this request.
    pub(super) is_first: bool,
}

impl Stream {
    /// Sends a request, which is [in the form](to_http2) of HTTP/2.
    pub(super) fn send(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<UpstreamBody>, TrySendError<Request<RequestBody>>>> + use<>
    {
        let answer = self.shared.sender.borrow_mut().try_send_request(request);
        async { Ok(answer.await?.map(UpstreamBody::Http2)) }
    }

    /// The connection takes no new streams.
    pub(super) fn retire(&self) {
        self.shared.retired.set(true);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.in_flight.set(self.shared.in_flight.get().saturating_sub(1));
    }
}

/// What an error of a request over HTTP/2 says of its stream and its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// The peer took no notice of the request, it says: its stream is beyond the last one of a GOAWAY (RFC 9113 section 6.8).
    Unprocessed,
    /// The same, of a stream that it refused (section 8.7).
    Refused,
    /// The stream alone ended.
    Reset,
    /// The connection ended, or is not to be trusted.
    Broken,
}

impl Verdict {
    pub(super) fn of(error: &hyper::Error) -> Self {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
        match cause {
            Some(cause) if cause.is_remote() && cause.is_go_away() => Self::Unprocessed,
            Some(cause) if cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM) => {
                Self::Refused
            }
            Some(cause) if cause.is_reset() => Self::Reset,
            _ => Self::Broken,
        }
    }
}

/// Gives a request the form of HTTP/2: the host as `:authority` (RFC 9113 section 8.3.1), nothing of the connection.
pub(super) fn to_http2(request: &mut Request<RequestBody>, is_tls: bool) -> Option<()> {
    request.headers_mut().remove(CONNECTION);
    let host = request.headers_mut().remove(HOST)?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.version_mut() = Version::HTTP_2;
    Some(())
}

/// And back, where another endpoint agreed on another version.
pub(super) fn to_http1(request: &mut Request<RequestBody>) -> Option<()> {
    let parts = std::mem::take(request.uri_mut()).into_parts();
    let host = HeaderValue::try_from(parts.authority?.as_str()).ok()?;
    *request.uri_mut() = Uri::from(parts.path_and_query.unwrap_or(PathAndQuery::from_static("/")));
    request.headers_mut().insert(HOST, host);
    if request.headers().contains_key(TE) {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("te"));
    }
    *request.version_mut() = Version::HTTP_11;
    Some(())
}

/// Waits for the SETTINGS that a peer's first frame must be (RFC 9113 section 3.4).
struct Greeting<IO> {
    io: IO,
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the frame that have not come.
    left: usize,
    /// Dropped without a word when it is something else.
    told: Option<oneshot::Sender<()>>,
}

impl<IO> Greeting<IO> {
    fn received(&mut self, mut bytes: &[u8]) {
        while let (Some((first, rest)), true) = (bytes.split_first(), self.have < HEADER) {
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *first;
            }
            (self.have, bytes) = (self.have + 1, rest);
            if self.have == HEADER {
                let [l0, l1, l2, kind, ..] = self.header;
                self.left = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
                if kind != SETTINGS {
                    self.told = None;
                }
            }
        }
        self.left = self.left.saturating_sub(bytes.len());
        if self.have == HEADER
            && self.left == 0
            && let Some(told) = self.told.take()
        {
            let _ = told.send(());
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Greeting<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if self.told.is_some() {
            self.received(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Greeting<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// What servers allow who want few (RFC 9113 section 6.5.2 recommends no less).
const MOST_STREAMS: u32 = 100;
/// Half a millisecond of a 2 Gbit/s link, or 1 MB/s over an ocean.
const STREAM_WINDOW: u32 = 128 * 1024;
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Streams that were reset by us and whose late frames are still told apart from errors.
const MAX_RESETS: usize = 128;
/// A process that hangs is noticed by its silence to a PING, while streams are open. Not more often: gRPC servers take more than one
/// in five minutes for an attack (`too_many_pings`); a machine that is gone TCP notices sooner.
const PING_EVERY: Duration = Duration::from_secs(310);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

const HEADER: usize = 9;
const SETTINGS: u8 = 4;
