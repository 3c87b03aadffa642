//! Serving a router: HTTP/1.1, one request to a connection, with a limit on everything that a peer can grow.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Serves until `stop`; then answers what has begun, for at most [`GRACE`].
pub async fn serve_tcp(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve(listener, router, stop).await;
}

/// Where connections come from.
pub(crate) trait Accept: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection; may be dropped without losing one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves what `listener` brings. An error of one accept costs a pause, never the loop.
pub(crate) async fn serve(listener: impl Accept, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Who comes when all places are taken is closed at once: waiting connections would pile up.
            Ok(_) if connections.len() >= MAX_CONNECTIONS => {}
            Ok(stream) => {
                connections.spawn(answer(stream, router.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // What is still busy after the grace ends with the set.
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn answer<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .keep_alive(false)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if !matches!(timeout(WHOLE, connection).await, Ok(Ok(()))) {
        tracing::debug!("an admin connection broke off");
    }
}

/// How many connections at once; a scraper, a kubelet and a person need three.
const MAX_CONNECTIONS: usize = 64;

/// For the head of the request.
const HEADERS: Duration = Duration::from_secs(5);

/// The head of a request, at most; hyper takes no less than 8 KiB.
const MAX_HEADERS: usize = 16 * 1024;

/// For the whole connection; the longest answer is that of a reload.
const WHOLE: Duration = Duration::from_secs(120);

/// How long a shutdown waits for answers that have begun.
const GRACE: Duration = Duration::from_secs(2);

/// Before the next try after a failed accept (out of descriptors).
const PAUSE: Duration = Duration::from_millis(100);
