//! hyper's servers, with every bound said.

use std::rc::Rc;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use crate::core::Core;
use crate::snapshot::{Bounds, Listener};

/// HTTP/1.1 within these bounds. No `pipeline_flush`: with it hyper buffers a whole response for a client that reads slowly.
pub(super) fn http1_builder(bounds: &Bounds) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .max_headers(bounds.header_count)
        .max_header_size(bounds.header_bytes)
        .max_buf_size(bounds.header_bytes.max(MIN_BUFFER))
        .writev(false);
    builder
}

/// hyper refuses smaller buffers.
const MIN_BUFFER: usize = 8192;

/// HTTP/2 within the listener's bounds; its streams run on the connection's core.
pub(super) fn http2_builder(core: &Rc<Core>, listener: &Listener) -> http2::Builder<OnCore> {
    let bounds = &listener.bounds;
    let mut builder = http2::Builder::new(OnCore::new(core));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_send_buf_size(MAX_SEND_BUFFER);
    if listener.router.has_upgrades() {
        // RFC 8441 section 3. Without it an extended CONNECT is an error of the stream.
        builder.enable_connect_protocol();
    }
    builder
}

/// Streams that a peer may reset before they are served (rapid reset, CVE-2023-44487), or make us reset.
const MAX_RESETS: usize = 32;
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// Runs the tasks of HTTP/2 streams on the connection's core.
#[derive(Clone)]
pub(crate) struct OnCore(Rc<Core>);

impl OnCore {
    pub(crate) fn new(core: &Rc<Core>) -> Self {
        Self(core.clone())
    }
}

impl<F> hyper::rt::Executor<F> for OnCore
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        self.0.tasks.spawn_local(task);
    }
}
