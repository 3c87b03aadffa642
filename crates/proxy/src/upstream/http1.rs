//! HTTP/1.1 to an upstream: one request at a time, on a connection that is nobody's task (RFC 9112).
//!
//! hyper's client has a task for each connection, channels between that and the request, and buffers for each connection,
//! used or not. Here the request's own task writes and reads by way of buffers that all connections of a core share (what is left
//! of a body when its answer has begun is sent by a task of its own), and an unused connection is a socket and nothing else. What that
//! is worth: tests/bench/README.md, 2026-11-22.
//!
//! INVARIANT: a connection takes another request only when all of the former one was sent, all of its answer was read, nothing
//! came behind that, and neither side said that it closes. What the kernel has and did not tell yet no proxy can know of (RFC 9112
//! section 9.2 has no remedy).

mod body;
mod chunked;
mod head;
mod reading;
mod sending;
mod transport;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Method, Response};
use hyper::body::Frame;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::sleep;

use crate::body::RequestBody;
use crate::connection::LINGER;
use crate::core::Core;
use crate::forward::Outgoing;
pub use body::{Http1Body, UpstreamBody};
pub use head::AnswerError;
pub(super) use head::MOST_HEAD;
pub(crate) use head::field;
pub use reading::Reading;
use sending::Sending;
pub(crate) use transport::Transport;

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection had ended before a byte of the request was sent.
    #[error("the connection had ended")]
    Unsent,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The connection ended before the answer did.
    #[error("the connection ended too early")]
    Eof,
    /// What came is no answer.
    #[error("the answer is malformed: {0}")]
    Malformed(#[from] AnswerError),
    /// The body of the request broke off.
    #[error("the body of the request broke off")]
    Body,
}

/// A connection to an upstream, with the exchange that is on it.
#[derive(Debug)]
pub(super) struct Http1 {
    io: Transport,
    phase: Phase,
    sending: Sending,
    reading: Reading,
    /// The request's body broke off after the answer's head.
    is_broken: bool,
    /// Who waits for the answer's body.
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// A request may begin.
    Ready,
    /// It has begun.
    Asked,
    /// The head of its answer has come.
    Answered,
}

/// Sends a request, whose target is in origin form, and waits for the head of its answer. A request of which [nothing](ExchangeError::Unsent) was
/// sent is as it was.
///
/// # Errors
/// No answer came; [`ExchangeError`] says why.
pub(super) async fn exchange(
    connection: &Rc<RefCell<Http1>>,
    core: &Rc<Core>,
    outgoing: &mut Outgoing,
) -> Result<Response<UpstreamBody>, ExchangeError> {
    others_first().await;
    let response = poll_fn(|cx| connection.borrow_mut().poll_answer(cx, core, outgoing)).await?;
    others_first().await;
    let mut held = connection.borrow_mut();
    if held.sending.goes_on() {
        // The client may read the answer when it has sent everything, and not before.
        held.sending.upload = Some(std::mem::replace(outgoing.request.body_mut(), RequestBody::empty()));
        upload(connection, core);
    }
    let rest = (!held.reading.is_whole()).then(|| connection.clone());
    Ok(response.map(|()| UpstreamBody::Http1(Http1Body::new(rest, core))))
}

/// Lets every other task run that can. What a core was told at once (requests, then answers) is so first read and then sent: to send one
/// by one wakes the other side each time, which costs more than all that is done here (tests/bench/README.md). Not
/// `tokio::task::yield_now`, which waits for the driver, too.
async fn others_first() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Goes on sending a body while its answer is read, as long as anybody holds the connection.
fn upload(connection: &Rc<RefCell<Http1>>, core: &Rc<Core>) {
    let (connection, held) = (Rc::downgrade(connection), core.clone());
    core.tasks.spawn_local(poll_fn(move |cx| {
        let Some(connection) = connection.upgrade() else { return Poll::Ready(()) };
        let mut connection = connection.borrow_mut();
        connection.sending.uploader.0 = Some(cx.waker().clone());
        connection.poll_upload(cx, &held)
    }));
}

/// Gives back a connection whose answer has ended, if it may take another request. If not, what is left of an upload is sent for some
/// seconds: who answers early may read on, but nobody answers for it any more.
pub(super) fn recycled(connection: Rc<RefCell<Http1>>, core: &Core) -> Option<Rc<RefCell<Http1>>> {
    if connection.borrow_mut().recycle() {
        return Some(connection);
    }
    if connection.borrow().sending.upload.is_some() {
        core.tasks.spawn_local(async move {
            sleep(LINGER).await;
            drop(connection);
        });
    }
    None
}

impl Http1 {
    pub(super) fn new(io: Transport) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            io,
            phase: Phase::Ready,
            sending: Sending::default(),
            reading: Reading::default(),
            is_broken: false,
            reader: None,
        }))
    }

    /// True while a request may be sent. Between requests the peer has nothing to say: what can be read is its end, or an
    /// answer to nothing (RFC 9112 section 9.2).
    pub(super) fn is_ready(&mut self) -> bool {
        self.phase == Phase::Ready && self.io.is_quiet()
    }

    /// What it runs over, and what was read of that ahead.
    pub(super) fn into_parts(self) -> (Transport, Bytes) {
        (self.io, self.reading.into_rest())
    }

    fn recycle(&mut self) -> bool {
        let may = self.phase == Phase::Answered && self.reading.may_go_on() && self.sending.is_sent();
        if may {
            // An unused connection holds no memory of a request.
            (self.phase, self.sending, self.reading, self.reader) =
                (Phase::Ready, Sending::default(), Reading::default(), None);
        }
        may
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        core: &Core,
        outgoing: &mut Outgoing,
    ) -> Poll<Result<Response<()>, ExchangeError>> {
        let begins = self.phase == Phase::Ready;
        // Others ran since it was taken from its pool: what came meanwhile answers nothing that was asked.
        if begins && !self.io.is_quiet() {
            return Poll::Ready(Err(ExchangeError::Unsent));
        }
        if begins || self.sending.goes_on() {
            let mut buffer = core.write_buffer.borrow_mut();
            buffer.clear();
            if begins {
                self.sending = Sending::begin(outgoing, &mut buffer);
                self.phase = Phase::Asked;
            }
            let body = outgoing.request.body_mut();
            match self.sending.poll(cx, &mut self.io, &mut buffer, body) {
                // It may have answered before it took no more.
                Poll::Ready(Err(ExchangeError::Io(_))) => self.sending.refuse(),
                Poll::Ready(Err(broken)) => {
                    if let Some(piece) = self.sending.unsent() {
                        body.unread(piece);
                    }
                    return Poll::Ready(Err(broken));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        loop {
            if let Some(response) = self.reading.head(*outgoing.request.method() == Method::HEAD)? {
                self.phase = Phase::Answered;
                return Poll::Ready(Ok(response));
            }
            match ready!(self.poll_read(cx, core)) {
                Ok(true) => {}
                // Who has begun to answer has taken notice of the request: it is not sent again.
                Ok(false) | Err(_) if self.reading.has_begun() => {
                    return Poll::Ready(Err(AnswerError::Head.into()));
                }
                Ok(false) => return Poll::Ready(Err(ExchangeError::Eof)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        core: &Core,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        loop {
            if self.is_broken {
                return Poll::Ready(Some(Err(ExchangeError::Body)));
            }
            if let Some(frame) = self.reading.frame()? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.reading.is_whole() {
                return Poll::Ready(None);
            }
            let Poll::Ready(read) = self.poll_read(cx, core) else {
                if self.sending.upload.is_some() {
                    self.reader = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            if !read? && !self.reading.close() {
                return Poll::Ready(Some(Err(ExchangeError::Eof)));
            }
        }
    }

    /// Reads what is there; false at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, core: &Core) -> Poll<io::Result<bool>> {
        let mut room = core.read_buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        self.reading.feed(read);
        Poll::Ready(Ok(!read.is_empty()))
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>, core: &Core) -> Poll<()> {
        let Some(mut body) = self.sending.upload.take() else { return Poll::Ready(()) };
        let mut buffer = core.write_buffer.borrow_mut();
        buffer.clear();
        match self.sending.poll(cx, &mut self.io, &mut buffer, &mut body) {
            Poll::Pending => {
                self.sending.upload = Some(body);
                return Poll::Pending;
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(ExchangeError::Body)) => {
                // Of a request that has no end nobody shall read the answer's.
                self.is_broken = true;
                self.reader.take().inspect(Waker::wake_by_ref);
            }
            Poll::Ready(Err(_)) => self.sending.refuse(),
        }
        Poll::Ready(())
    }
}
