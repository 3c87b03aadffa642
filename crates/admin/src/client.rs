//! The other end of the control socket, for the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{Deny, Drill};

/// Why the running gateway did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no gateway answers on `{path}`: {source}")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The gateway said no, for these reasons.
    #[error("{message}")]
    Refused {
        /// In one line.
        message: String,
        /// One by one.
        problems: Vec<String>,
    },
    /// What listens does not speak HTTP, or hung up.
    #[error("the gateway's answer broke off: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is no JSON.
    #[error("the gateway's answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The gateway took too long.
    #[error("the gateway did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// The state of the gateway that listens on `socket`.
///
/// # Errors
/// [`ClientError`] if there is none, or it does not answer.
pub async fn status(socket: &Path) -> Result<Value, ClientError> {
    ask(socket, Method::GET, "/status", Bytes::new(), Duration::from_secs(10)).await
}

/// Has the gateway read its configuration again.
///
/// # Errors
/// [`ClientError::Refused`] with the problems of the configuration, or another one if nobody answers.
pub async fn reload(socket: &Path) -> Result<Value, ClientError> {
    ask(socket, Method::POST, "/reload", Bytes::new(), Duration::from_secs(100)).await
}

/// Has a new program take the place of the running gateway.
///
/// # Errors
/// [`ClientError::Refused`] with what is wrong with it, or another one if nobody answers.
pub async fn upgrade(socket: &Path) -> Result<Value, ClientError> {
    ask(socket, Method::POST, "/upgrade", Bytes::new(), Duration::from_secs(100)).await
}

/// Has the running gateway cut its own path to Vault for a time.
///
/// # Errors
/// [`ClientError::Refused`] with the reason, or another one if nobody answers.
pub async fn drill(socket: &Path, drill: &Drill) -> Result<Value, ClientError> {
    let body = serde_json::to_vec(drill)?;
    ask(socket, Method::POST, "/drill", body.into(), Duration::from_secs(10)).await
}

/// Has the running gateway deny something.
///
/// # Errors
/// [`ClientError::Refused`] with the reason, or another one if nobody answers.
pub async fn deny(socket: &Path, entry: &Deny) -> Result<Value, ClientError> {
    let body = serde_json::to_vec(entry)?;
    ask(socket, Method::POST, "/deny/add", body.into(), Duration::from_secs(10)).await
}

/// Has the running gateway deny it no longer.
///
/// # Errors
/// [`ClientError::Refused`] with the reason, or another one if nobody answers.
pub async fn permit_again(socket: &Path, entry: &Deny) -> Result<Value, ClientError> {
    let body = serde_json::to_vec(entry)?;
    ask(socket, Method::POST, "/deny/remove", body.into(), Duration::from_secs(10)).await
}

/// The deny list of the gateway that listens on `socket`.
///
/// # Errors
/// [`ClientError`] if there is none, or it does not answer.
pub async fn denied(socket: &Path) -> Result<Value, ClientError> {
    ask(socket, Method::GET, "/deny", Bytes::new(), Duration::from_secs(10)).await
}

async fn ask(
    socket: &Path,
    method: Method,
    path: &'static str,
    body: Bytes,
    deadline: Duration,
) -> Result<Value, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| ClientError::NotRunning { path: socket.to_owned(), source })?;
    let (status, body) = timeout(deadline, exchange(stream, method, path, body))
        .await
        .map_err(|_| ClientError::Timeout(deadline))??;
    let value: Value = serde_json::from_slice(&body)?;
    if status.is_success() {
        return Ok(value);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let details = value.pointer("/error/details").and_then(Value::as_array);
    Err(ClientError::Refused {
        message: value.pointer("/error/message").map_or_else(|| status.to_string(), text),
        problems: details.into_iter().flatten().map(text).collect(),
    })
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &'static str,
    body: Bytes,
) -> hyper::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let has_body = !body.is_empty();
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(header::HOST, http::HeaderValue::from_static("portcullis"));
    if has_body {
        let json = http::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    // The connection only carries the answer; should it break, the answer says so.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}
