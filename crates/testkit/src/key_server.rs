//! A token issuer's web side: discovery and key set, in whatever mood the test wants.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::server::{Body, Server, ServerTls, full};

/// How the key server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// The key set.
    Serve,
    /// 500.
    Fail,
    /// No answer until [`KeyServer::release`].
    Hang,
    /// A redirect to this address.
    Redirect(String),
    /// A body of this many bytes.
    Huge(usize),
}

/// A running key server.
pub struct KeyServer {
    server: Server,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    keys: Mutex<Value>,
    mood: Mutex<Mood>,
    fetches: AtomicUsize,
    released: Notify,
}

impl KeyServer {
    /// Serves this key set at `/jwks.json`, and discovery.
    #[must_use]
    pub fn start(keys: Value, tls: Option<ServerTls>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            keys: Mutex::new(keys),
            mood: Mutex::new(Mood::Serve),
            fetches: AtomicUsize::new(0),
            released: Notify::new(),
        });
        let state = shared.clone();
        let server = Server::start(tls, move || {
            move |_, request: Request<_>| {
                let state = state.clone();
                Box::pin(async move {
                    let host =
                        request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
                    let origin = format!("{scheme}://{host}");
                    Some(answer(&state, request.uri().path(), &origin).await)
                })
            }
        });
        Self { server, scheme, shared }
    }

    /// The issuer's name, which is also where discovery starts. The host is `localhost`.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.server.address.port())
    }

    /// Where the key set is.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}/jwks.json", self.issuer())
    }

    /// Replaces the key set.
    pub fn publish(&self, keys: Value) {
        *self.shared.keys.lock().unwrap() = keys;
    }

    /// Changes how it answers.
    pub fn mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Lets the fetches that hang go on.
    pub fn release(&self) {
        self.shared.released.notify_waiters();
    }

    /// How often the key set was asked for.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }
}

async fn answer(shared: &Shared, path: &str, origin: &str) -> Response<Body> {
    if path == "/.well-known/openid-configuration" {
        return json_body(&json!({ "issuer": origin, "jwks_uri": format!("{origin}/jwks.json") }));
    }
    if path != "/jwks.json" {
        return status(StatusCode::NOT_FOUND);
    }
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    let mood = shared.mood.lock().unwrap().clone();
    match mood {
        Mood::Serve => {}
        Mood::Fail => return status(StatusCode::INTERNAL_SERVER_ERROR),
        Mood::Hang => shared.released.notified().await,
        Mood::Redirect(to) => {
            let mut response = status(StatusCode::FOUND);
            response.headers_mut().insert("location", to.parse().unwrap());
            return response;
        }
        Mood::Huge(length) => {
            return json_body(&json!({ "keys": [], "padding": "x".repeat(length) }));
        }
    }
    let keys = shared.keys.lock().unwrap().clone();
    json_body(&keys)
}

fn json_body(value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = code;
    response
}
