//! Somebody between the gateway and a real Vault: passes calls on, or does what no Vault can be made to do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::server::{Body, Server, full};

/// What it does to calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meddling {
    /// Passes them on.
    Pass,
    /// Answers this status itself, with `Retry-After` of so many seconds if given.
    Answer(u16, Option<u64>),
    /// Answers 200 with this body.
    Lie(String),
    /// Passes on the first half of the true answer's body.
    Truncate,
    /// Passes on the true answer's head with a body of this many bytes.
    Bloat(usize),
    /// Answers every call to a path with the first true answer it heard for it.
    Replay,
    /// A redirect to this address.
    Redirect(String),
    /// Keeps the caller waiting until it is told something else.
    Hang,
    /// Closes the connection without an answer.
    HangUp,
}

/// A running go-between over plain HTTP.
pub struct Middle {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    meddling: Mutex<(String, Meddling)>,
    changed: Notify,
    heard: Mutex<Vec<Call>>,
}

/// A call that came by, and the answer's body if it was passed on.
struct Call {
    path: String,
    token: Option<String>,
    namespace: Option<String>,
    answer: Option<Bytes>,
}

impl Middle {
    /// Passes everything on to this server.
    #[must_use]
    pub fn before(to: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            to,
            meddling: Mutex::new((String::new(), Meddling::Pass)),
            changed: Notify::new(),
            heard: Mutex::default(),
        });
        let state = shared.clone();
        let server = Server::start(None, move || {
            move |_, request| {
                let state = state.clone();
                Box::pin(async move { answer(&state, request).await })
            }
        });
        Self { server, shared }
    }

    /// What a configuration names as address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Does this to calls whose path (without `/v1/`) starts so, from now on; others are passed on.
    pub fn meddle(&self, path: &str, meddling: Meddling) {
        *self.shared.meddling.lock().unwrap() = (path.to_owned(), meddling);
        self.shared.changed.notify_waiters();
    }

    /// Passes everything on again.
    pub fn behave(&self) {
        self.meddle("", Meddling::Pass);
    }

    /// How many calls with a path that starts so came by.
    #[must_use]
    pub fn calls(&self, path: &str) -> usize {
        self.shared.heard.lock().unwrap().iter().filter(|call| call.path.starts_with(path)).count()
    }

    /// The tokens and namespaces that calls carried, in order.
    #[must_use]
    pub fn shown(&self) -> Vec<(Option<String>, Option<String>)> {
        let heard = self.shared.heard.lock().unwrap();
        heard.iter().map(|call| (call.token.clone(), call.namespace.clone())).collect()
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Option<Response<Body>> {
    let path = request.uri().path().trim_start_matches("/v1/").to_owned();
    let field = |name: &str| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
    let (token, namespace) = (field("x-vault-token"), field("x-vault-namespace"));
    let call = Call { path: path.clone(), token, namespace, answer: None };
    let at = {
        let mut heard = shared.heard.lock().unwrap();
        heard.push(call);
        heard.len() - 1
    };
    let meddling = loop {
        let changed = shared.changed.notified();
        let (prefix, meddling) = shared.meddling.lock().unwrap().clone();
        match meddling {
            _ if !path.starts_with(&prefix) => break Meddling::Pass,
            Meddling::Hang => changed.await,
            other => break other,
        }
    };
    let mut lie = Response::new(full(""));
    match meddling {
        Meddling::Hang | Meddling::HangUp => return None,
        Meddling::Answer(status, retry_after) => {
            *lie.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(seconds) = retry_after {
                lie.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            *lie.body_mut() = full(r#"{"errors":["meddled with"]}"#);
            return Some(lie);
        }
        Meddling::Lie(body) => {
            *lie.body_mut() = full(body);
            return Some(lie);
        }
        Meddling::Redirect(to) => {
            *lie.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            lie.headers_mut().insert(header::LOCATION, to.parse().unwrap());
            return Some(lie);
        }
        Meddling::Pass | Meddling::Truncate | Meddling::Bloat(_) | Meddling::Replay => {}
    }
    let (mut head, body) = forward(shared.to, request).await?;
    shared.heard.lock().unwrap()[at].answer = Some(body.clone());
    let body = match meddling {
        Meddling::Truncate => body.slice(..body.len() / 2),
        Meddling::Bloat(length) => Bytes::from(vec![b' '; length]),
        Meddling::Replay => {
            let heard = shared.heard.lock().unwrap();
            let first = heard.iter().filter(|call| call.path == path).find_map(|call| call.answer.clone());
            first.unwrap_or(body)
        }
        _ => body,
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::TRANSFER_ENCODING);
    Some(Response::from_parts(head, full(body)))
}

/// None when the server does not answer.
async fn forward(to: SocketAddr, request: Request<Incoming>) -> Option<(http::response::Parts, Bytes)> {
    let stream = TcpStream::connect(to).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let driver = tokio::task::spawn_local(connection);
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    driver.abort();
    Some((head, body))
}
