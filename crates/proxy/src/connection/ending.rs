//! How a connection ends: gracefully first, then at once.
//!
//! HTTP/2 says GOAWAY, and what the peer had sent by then is still answered. HTTP/1.1 has no such word: who closes a connection
//! between two requests breaks the one that is on its way. So the next answer carries `Connection: close`, and only what stays
//! quiet for [`QUIET`] is closed without one.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::Connection;
use crate::core::Core;

/// Whether, and since when, a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ending {
    Not,
    Gracefully(Instant),
    Now,
}

/// How long a connection without requests counts as one that may be used at any moment.
const QUIET: Duration = Duration::from_secs(1);

impl Connection {
    /// Ends the connection when its requests have been answered.
    pub fn finish(&self) {
        match self.life.ending.get() {
            Ending::Not => self.end(Ending::Gracefully(Instant::now())),
            // It may be quiet for long enough now.
            Ending::Gracefully(_) => self.wake(),
            Ending::Now => {}
        }
    }

    /// True when it ends now.
    pub(crate) fn is_cut(&self) -> bool {
        self.life.ending.get() == Ending::Now
    }

    /// True once it was told to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.life.ending.get() != Ending::Not
    }

    /// Ends the connection now.
    pub fn cut(&self) {
        self.end(Ending::Now);
    }

    /// True when no request is under way, nor a tunnel.
    pub(crate) fn is_idle(&self) -> bool {
        self.life.in_flight.get() == 0
    }

    /// True when no request has been under way for some time.
    pub(crate) fn is_quiet(&self, tick: Instant) -> bool {
        self.life.in_flight.get() == 0 && tick.saturating_duration_since(self.life.quiet_since.get()) >= QUIET
    }

    /// The last answer of an HTTP/1.1 connection that is to end says so.
    pub(crate) fn close_after<B>(&self, response: &mut Response<B>) {
        let ends = !self.is_http2 && self.is_ending();
        if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    fn end(&self, ending: Ending) {
        self.life.ending.set(ending);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.life.waker.take() {
            waker.wake();
        }
    }

    /// Whether hyper may be told to end: it closes an HTTP/1.1 connection without requests at once.
    fn can_be_told(&self, tick: Instant) -> bool {
        self.is_http2 || self.life.in_flight.get() > 0 || self.is_quiet(tick)
    }
}

/// Drives a connection; `poll` learns once that it should end gracefully.
pub(super) async fn until_ended(
    core: &Core,
    connection: &Connection,
    mut poll: impl FnMut(&mut Context<'_>, bool) -> Poll<hyper::Result<()>>,
) -> hyper::Result<()> {
    let mut told = false;
    poll_fn(|cx| {
        let ending = match connection.life.ending.get() {
            Ending::Gracefully(_) if !told && connection.can_be_told(core.tick()) => {
                told = true;
                true
            }
            Ending::Not | Ending::Gracefully(_) => false,
            Ending::Now => return Poll::Ready(Ok(())),
        };
        let polled = poll(cx, ending);
        if polled.is_pending() {
            let mut waker = connection.life.waker.borrow_mut();
            if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        polled
    })
    .await
}
