//! What the three binds answer.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use telemetry::Metrics;

use crate::Readiness;

/// What the control socket can ask of the running gateway.
pub trait Control: Send + Sync + 'static {
    /// The state of the gateway, as `portcullis status` shows it. May wait for a reload that is under way.
    fn status(&self) -> Value;

    /// Reads the configuration again and publishes it, whole or not at all: what is said of the new generation, or
    /// the problems for which the old one stays. The future is dropped when the caller hangs up: what must not stop
    /// halfway runs on a task of the gateway's own.
    fn reload(&self) -> Reloading<'_>;

    /// Starts the program anew and hands the sockets over: the process id of the one that serves now, or the problems for
    /// which this one goes on.
    fn upgrade(&self) -> Reloading<'_>;

    /// Cuts the gateway's own path to its Vault stores for a time, as an exercise; zero ends a cut. Says what ends
    /// before the cut does.
    ///
    /// # Errors
    /// Why nothing was cut.
    fn drill(&self, drill: Drill) -> Result<Value, Vec<String>>;

    /// Changes the deny list, or tells what is on it. May wait for a disk.
    ///
    /// # Errors
    /// Why nothing was changed.
    fn deny(&self, change: DenyChange) -> Result<Value, Vec<String>>;
}

/// What is to be done about the deny list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DenyChange {
    /// An entry more; it takes the place of one that names the same.
    Add(Deny),
    /// The entry that names this goes.
    Remove(Deny),
    /// Nothing: tell what is on it.
    List,
}

/// An entry of the deny list as it is written: exactly one of the first four.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deny {
    /// A principal's id, as logs show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// A workload's SPIFFE id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<String>,
    /// A token's `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A certificate's serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The `iss` of the token, or the distinguished name of the certificate's issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The trust entry that the certificate is under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// Until when (RFC 3339); for ever without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An exercise: Vault is away.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// One store; none is all Vault stores.
    pub store: Option<String>,
    /// For how long.
    pub seconds: u64,
}

/// A reload or an upgrade on its way.
pub type Reloading<'a> = Pin<Box<dyn Future<Output = Result<Value, Vec<String>>> + Send + 'a>>;

/// The public keys of the tokens that the gateway mints.
pub trait KeySets: Send + Sync + 'static {
    /// The JWK Set of an entry; none of one that is not configured or has no key yet.
    fn key_set(&self, entry: &str) -> Option<Bytes>;
}

/// `GET /metrics` in OpenMetrics text, and `GET /jwks/<entry>`.
pub fn metrics_router(metrics: Arc<Metrics>, keys: Arc<dyn KeySets>) -> Router {
    let keys = Router::new().route("/jwks/{entry}", get(key_set)).with_state(keys);
    closed(Router::new().route("/metrics", get(scrape)).with_state(metrics).merge(keys))
}

/// `GET /livez`, 200 as long as the process answers, and `GET /readyz`, 200 or 503 with the reasons.
pub fn probes_router(readiness: Readiness) -> Router {
    let live = || async { Json(json!({ "status": "alive" })) };
    closed(Router::new().route("/livez", get(live)).route("/readyz", get(ready)).with_state(readiness))
}

/// `GET /status`, `POST /reload`, `POST /upgrade`, `POST /drill`, `GET /deny`, `POST /deny/add` and `POST /deny/remove`.
pub fn control_router(control: Arc<dyn Control>) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/reload", post(reload))
        .route("/upgrade", post(upgrade))
        .route("/drill", post(drill))
        .route("/deny", get(denied))
        .route("/deny/add", post(deny))
        .route("/deny/remove", post(permit_again));
    closed(routes.with_state(control))
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "METRICS_FAILED", &error.to_string(), &[]),
    }
}

async fn key_set(State(keys): State<Arc<dyn KeySets>>, Path(entry): Path<String>) -> Response {
    match keys.key_set(&entry) {
        Some(set) => {
            let fields = [(header::CONTENT_TYPE, JWK_SET), (header::CACHE_CONTROL, "max-age=300")];
            (fields, set).into_response()
        }
        None => nothing_here().await,
    }
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let report = readiness.report();
    let status = match (report.ready, report.draining) {
        (true, _) if report.degraded.is_empty() => "ready",
        (true, _) => "degraded",
        (false, true) => "draining",
        (false, false) => "starting",
    };
    let code = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "status": status, "pending": report.pending, "degraded": report.degraded });
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn status(State(control): State<Arc<dyn Control>>) -> Response {
    // Off the threads that answer probes: a kubelet does not wait for a reload.
    match tokio::task::spawn_blocking(move || control.status()).await {
        Ok(value) => Json(value).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "STATUS_FAILED", &error.to_string(), &[]),
    }
}

async fn reload(State(control): State<Arc<dyn Control>>) -> Response {
    match control.reload().await {
        Ok(value) => Json(value).into_response(),
        Err(problems) => refusal(
            StatusCode::UNPROCESSABLE_ENTITY,
            "CONFIG_REFUSED",
            "the new configuration was refused, the old one stays",
            &problems,
        ),
    }
}

async fn upgrade(State(control): State<Arc<dyn Control>>) -> Response {
    match control.upgrade().await {
        Ok(value) => Json(value).into_response(),
        Err(problems) => refusal(
            StatusCode::UNPROCESSABLE_ENTITY,
            "UPGRADE_REFUSED",
            "the new program does not serve, the old one goes on",
            &problems,
        ),
    }
}

async fn drill(State(control): State<Arc<dyn Control>>, Json(drill): Json<Drill>) -> Response {
    match control.drill(drill) {
        Ok(value) => Json(value).into_response(),
        Err(problems) => {
            let message = "no drill has begun";
            refusal(StatusCode::UNPROCESSABLE_ENTITY, "DRILL_REFUSED", message, &problems)
        }
    }
}

async fn denied(State(control): State<Arc<dyn Control>>) -> Response {
    change(control, DenyChange::List).await
}

async fn deny(State(control): State<Arc<dyn Control>>, Json(entry): Json<Deny>) -> Response {
    change(control, DenyChange::Add(entry)).await
}

async fn permit_again(State(control): State<Arc<dyn Control>>, Json(entry): Json<Deny>) -> Response {
    change(control, DenyChange::Remove(entry)).await
}

async fn change(control: Arc<dyn Control>, change: DenyChange) -> Response {
    match tokio::task::spawn_blocking(move || control.deny(change)).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(problems)) => {
            let message = "the deny list stays as it is";
            refusal(StatusCode::UNPROCESSABLE_ENTITY, "DENY_REFUSED", message, &problems)
        }
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "DENY_FAILED", &error.to_string(), &[]),
    }
}

fn closed(router: Router) -> Router {
    router.fallback(nothing_here).method_not_allowed_fallback(|| async {
        refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this path knows other methods", &[])
    })
}

async fn nothing_here() -> Response {
    refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path", &[])
}

/// The error envelope that the data plane uses, too.
fn refusal(status: StatusCode, code: &str, message: &str, details: &[String]) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message, "details": details } })))
        .into_response()
}

const JWK_SET: &str = "application/jwk-set+json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
