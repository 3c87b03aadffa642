//! An upstream that answers with what it saw, and remembers it.
//!
//! The last segment of the path says what it does: `events` streams what the test [`Upstream::emit`]s, `hold` waits for
//! [`Upstream::release`], `download-N` sends N bytes of [`Upstream::pattern`], `status-N` answers N, `die` drops the
//! connection (over HTTP/2 the stream) without an answer, `half` announces more than it sends, `trailers` adds one. Everything else is an echo.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast};

use crate::client::Protocol;
use crate::digest::Sha256;
use crate::server::{Body, Peer, Server, ServerTls, full};

/// A running upstream.
pub struct Upstream {
    server: Server,
    scheme: &'static str,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Vec<Value>>,
    events: broadcast::Sender<Bytes>,
    released: Notify,
    /// Answered in every echo, so that two upstreams can be told apart.
    name: String,
}

impl Upstream {
    /// Starts one over plain HTTP/1.1.
    #[must_use]
    pub fn start() -> Self {
        Self::named("upstream")
    }

    /// Starts one over plain HTTP/1.1 whose answers carry this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::launch(name, None)
    }

    /// Starts one over TLS.
    #[must_use]
    pub fn tls(name: &str, tls: ServerTls) -> Self {
        Self::launch(name, Some(tls))
    }

    /// Starts one over HTTP/2: with prior knowledge, or over TLS that agrees on it.
    #[must_use]
    pub fn http2(name: &str, tls: Option<ServerTls>) -> Self {
        Self::speaking(Protocol::H2, name, tls.map(ServerTls::http2))
    }

    fn launch(name: &str, tls: Option<ServerTls>) -> Self {
        Self::speaking(Protocol::H1, name, tls)
    }

    fn speaking(protocol: Protocol, name: &str, tls: Option<ServerTls>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            events: broadcast::channel(64).0,
            released: Notify::new(),
            name: name.to_owned(),
        });
        let state = shared.clone();
        let server = Server::speaking(protocol, tls, move || {
            move |peer, request| {
                let state = state.clone();
                Box::pin(async move { answer(&state, peer, request).await })
            }
        });
        Self { server, scheme, shared }
    }

    /// What a configuration names as endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.server.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Every request whose head arrived, in order: `method`, `target`, `headers`, `connection`, `sni`, `certificate`;
    /// once its body is read also `body`, `bytes`, `sha256` and `trailers`.
    #[must_use]
    pub fn requests(&self) -> Vec<Value> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many connections were opened to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// How many `events` streams are being read.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.shared.events.receiver_count()
    }

    /// Sends one piece down every `events` stream.
    pub fn emit(&self, piece: &str) {
        self.shared.events.send(Bytes::copy_from_slice(piece.as_bytes())).ok();
    }

    /// Lets one request that waits at `hold`, or the next to come, go on.
    pub fn release(&self) {
        self.shared.released.notify_one();
    }

    /// The bytes that `download-N` sends: no period that a buffer size could hide.
    #[must_use]
    pub fn pattern(length: usize) -> Vec<u8> {
        (0..length)
            .map(|at| u8::try_from((at.wrapping_mul(2_654_435_761) >> 13) & 0xff).unwrap_or(0))
            .collect()
    }
}

async fn answer(shared: &Shared, peer: Peer, request: Request<Incoming>) -> Option<Response<Body>> {
    let (head, body) = request.into_parts();
    let mut seen = json!({
        "upstream": shared.name,
        "version": format!("{:?}", head.version),
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": pairs(&head.headers),
        "connection": peer.connection,
        "sni": peer.sni,
        "certificate": peer.certificate,
    });
    let index = {
        let mut all = shared.seen.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    let act = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    if act == "die" {
        return None;
    }
    read(body, &mut seen).await?;
    shared.seen.lock().unwrap()[index] = seen.clone();
    if act == "hold" {
        shared.released.notified().await;
    }
    Some(match act.split_once('-') {
        Some(("download", length)) => Response::new(full(Upstream::pattern(length.parse().unwrap_or(0)))),
        Some(("status", code)) => {
            let mut response = echo(&seen);
            *response.status_mut() = StatusCode::from_bytes(code.as_bytes()).unwrap();
            response
        }
        _ if act == "events" => events(shared.events.subscribe()),
        _ if act == "half" => half(),
        _ if act == "trailers" => with_trailers(&seen),
        _ => echo(&seen),
    })
}

/// Reads the whole body into `seen`; `None` when the sender went away in the middle.
async fn read(mut body: Incoming, seen: &mut Value) -> Option<()> {
    let (mut hash, mut length, mut text) = (Sha256::default(), 0, Vec::new());
    let mut trailers = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(data) => {
                hash.update(&data);
                length += data.len();
                if length <= ECHOED {
                    text.extend_from_slice(&data);
                }
            }
            Err(frame) => trailers = frame.trailers_ref().map(pairs).unwrap_or_default(),
        }
    }
    seen["body"] = String::from_utf8_lossy(&text).into();
    seen["bytes"] = length.into();
    seen["sha256"] = hash.finish().into();
    seen["trailers"] = trailers.into();
    Some(())
}

fn echo(seen: &Value) -> Response<Body> {
    let mut response = Response::new(full(seen.to_string()));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}

/// Over HTTP/1.1 the connection ends with it; over HTTP/2 the stream is malformed (RFC 9113 section 8.1.1).
fn half() -> Response<Body> {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
    // In two pieces: while hyper waits for the second one it sends the head and the first.
    tokio::task::spawn_local(async move {
        for piece in [b"ha", b"lf"] {
            sender.send_data(Bytes::from_static(piece)).await.ok();
        }
    });
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert("content-length", HeaderValue::from_static("10"));
    response
}

fn events(mut pieces: broadcast::Receiver<Bytes>) -> Response<Body> {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
    tokio::task::spawn_local(async move {
        while let Ok(piece) = pieces.recv().await {
            if sender.send_data(piece).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
    response
}

fn with_trailers(seen: &Value) -> Response<Body> {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(2);
    let text = Bytes::from(seen.to_string());
    tokio::task::spawn_local(async move {
        let trailers = HeaderMap::from_iter([(TRAILER, HeaderValue::from_static("after the body"))]);
        if sender.send(Frame::data(text)).await.is_ok() {
            sender.send(Frame::trailers(trailers)).await.ok();
        }
    });
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-upstream-trailer"));
    response
}

fn pairs(headers: &HeaderMap) -> Vec<Value> {
    headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect()
}

/// Bodies up to this many bytes are echoed; of longer ones only the hash.
const ECHOED: usize = 64 * 1024;
const TRAILER: http::HeaderName = http::HeaderName::from_static("x-upstream-trailer");
