//! The demo services: plain HTTP on loopback, each tells what it saw of a request.
//!
//! A path that ends in `/events` is a stream of server-sent events, one each second; every other answer is JSON with the
//! method, the target, the fields and the number of body bytes.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::time::{Interval, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::DevError;

/// The services, running on a thread of their own.
#[derive(Debug)]
pub(super) struct Services {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Services {
    /// Binds all, then starts all.
    pub(super) fn start(services: &[(&'static str, SocketAddr)]) -> Result<Self, DevError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let _inside = runtime.enter();
        for (name, address) in services {
            let listener = bind(*address).map_err(|reason| DevError::Taken {
                what: format!("the service `{name}`"),
                address: *address,
                reason,
            })?;
            let serving = serve(name, listener, stop.clone(), tasks.clone());
            tasks.spawn_on(stop.clone().run_until_cancelled_owned(serving), runtime.handle());
        }
        tasks.close();
        let thread = std::thread::Builder::new().name("services".to_owned());
        let thread = thread.spawn(move || runtime.block_on(tasks.wait()))?;
        Ok(Self { stop, thread })
    }

    /// Ends them, streams too.
    pub(super) fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            tracing::warn!("the demo services had ended before they were told to");
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

async fn serve(
    name: &'static str,
    listener: tokio::net::TcpListener,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: some come back as connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new());
        let connection =
            http.serve_connection(TokioIo::new(stream), service_fn(move |asked| answer(name, asked)));
        let stop = stop.clone();
        tasks.spawn(async move {
            // How a connection ends is the gateway's to report, not the service's behind it.
            if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
                tracing::trace!(%error, "a connection to a demo service ended");
            }
        });
    }
}

async fn answer(
    service: &'static str,
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Events>>, hyper::Error> {
    if request.uri().path().ends_with("/events") {
        return Ok(with_type("text/event-stream", Either::Right(Events::new())));
    }
    let (head, mut body) = request.into_parts();
    let mut bytes: usize = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    let seen = json!({
        "service": service,
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "fields": fields(&head.headers),
        "body_bytes": bytes,
    });
    Ok(with_type("application/json", Either::Left(Full::from(format!("{seen:#}\n")))))
}

fn with_type<B>(content_type: &'static str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn fields(headers: &HeaderMap) -> Map<String, Value> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value).into())).collect()
}

/// One event each second, for as long as somebody listens.
#[derive(Debug)]
struct Events {
    seconds: Interval,
    count: u64,
}

impl Events {
    fn new() -> Self {
        Self { seconds: interval(Duration::from_secs(1)), count: 0 }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.seconds.poll_tick(context));
        self.count += 1;
        let event = format!("event: second\ndata: {{\"count\":{}}}\n\n", self.count);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }
}
