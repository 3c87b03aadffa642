//! The body of an upstream's answer.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::Http1;
use crate::body::BodyError;
use crate::core::Core;

/// The body of an answer, in whatever version of HTTP it comes.
#[derive(Debug)]
pub enum UpstreamBody {
    /// Over HTTP/1.1.
    Http1(Http1Body),
    /// Over HTTP/2.
    Http2(Incoming),
}

/// The body of an answer over HTTP/1.1.
#[derive(Debug)]
pub struct Http1Body {
    /// Until all of it was read.
    connection: Option<Rc<RefCell<Http1>>>,
    core: Rc<Core>,
}

impl Http1Body {
    /// What is still to come on a connection, if anything is.
    pub(super) fn new(connection: Option<Rc<RefCell<Http1>>>, core: &Rc<Core>) -> Self {
        Self { connection, core: core.clone() }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(connection) = &self.connection else { return Poll::Ready(None) };
        let mut held = connection.borrow_mut();
        let frame = ready!(held.poll_frame(cx, &self.core));
        let is_over = held.reading.is_whole() || matches!(frame, None | Some(Err(_)));
        drop(held);
        if is_over {
            self.connection = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Upstream)))
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Http1(body) => body.poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Transport),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.connection.is_none(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(Http1Body { connection: None, .. }) => SizeHint::with_exact(0),
            Self::Http1(Http1Body { connection: Some(connection), .. }) => {
                connection.borrow().reading.length().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Self::Http2(body) => body.size_hint(),
        }
    }
}
