//! The requests of the ACME client: HTTP/1.1 over [`ClientTls`], one connection each.
//!
//! **Passes:** an answer of at most 256 KiB within 30 s from an `https` server whom the trust vouches for. **Refused:** redirects,
//! and errors that are no problem document.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tls::{Alpn, ClientSpec, ClientTls, HandshakeError, UpstreamTrust, Version};
use tokio::net::TcpStream;

use crate::keeper::Clock;

/// Why there is no answer that ACME could read.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A URL that is no `https` URL.
    #[error("the server names `{0}`, which is no `https` URL")]
    Url(String),
    /// No connection.
    #[error("cannot connect to `{host}`: {cause}")]
    Connect {
        /// The server.
        host: String,
        /// Why.
        cause: String,
    },
    /// The server does not prove who it is.
    #[error("TLS with `{host}`: {cause}")]
    Tls {
        /// The server.
        host: String,
        /// Why.
        cause: String,
    },
    /// No HTTP, or an answer that is too large or cut short.
    #[error("bad answer: {0}")]
    Http(String),
    /// A redirect, or an error without a problem document.
    #[error("the server answers status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    #[error("`{0}` does not answer in time")]
    Slow(String),
}

/// Sends requests; clones share what they know.
#[derive(Clone)]
pub(super) struct Transport(Arc<Shared>);

struct Shared {
    trust: UpstreamTrust,
    clock: Clock,
    /// By host and port: they remember sessions, so that a connection for each request is cheap.
    clients: Mutex<HashMap<String, Arc<ClientTls>>>,
    /// What the last answer that was an error said about when to come again.
    retry_after: Mutex<Option<Duration>>,
}

impl TransportError {
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl Transport {
    pub(super) fn new(trust: UpstreamTrust, clock: Clock) -> Self {
        Self(Arc::new(Shared { trust, clock, clients: Mutex::default(), retry_after: Mutex::default() }))
    }

    /// What the last answer said about when to come again, if it was an error.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        *self.0.retry_after.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.exchange(request).await.map_err(|error| Error::Other(Box::new(error))) })
    }
}

impl Shared {
    async fn exchange(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, TransportError> {
        let authority = https_authority(request.uri())?;
        tracing::debug!(method = %request.method(), url = %request.uri(), "the ACME server is asked");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        match tokio::time::timeout(REQUEST, self.ask(&host, &authority, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError::Slow(host)),
        }
    }

    async fn ask(
        &self,
        host: &str,
        authority: &Authority,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, TransportError> {
        let http = |error: &dyn std::fmt::Display| TransportError::Http(error.to_string());
        let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(target);
        let named = HeaderValue::from_str(authority.as_str()).map_err(|error| http(&error))?;
        request.headers_mut().insert(HOST, named);

        let connect = TcpStream::connect((host, authority.port_u16().unwrap_or(443))).await;
        let stream = connect
            .map_err(|error| TransportError::Connect { host: host.to_owned(), cause: error.to_string() })?;
        let tls = |cause: String| TransportError::Tls { host: host.to_owned(), cause };
        let client = self.client(host, authority).map_err(tls)?;
        let stream = client
            .connect(stream, (self.clock)())
            .await
            .map_err(|error: HandshakeError| tls(error.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| http(&error))?;
        let answering = async {
            let response = sender.send_request(request).await.map_err(|error| http(&error))?;
            let (parts, body) = response.into_parts();
            self.judge(parts.status, &parts.headers)?;
            let body = Limited::new(body, MOST).collect().await.map_err(|error| http(&error))?;
            Ok(BytesResponse { parts, body: Box::new(body.to_bytes()) })
        };
        // The connection is driven beside the request and ends with it.
        tokio::pin!(answering);
        tokio::pin!(connection);
        tokio::select! {
            answer = &mut answering => answer,
            ended = &mut connection => match ended {
                Ok(()) => answering.await,
                Err(error) => Err(http(&error)),
            },
        }
    }

    /// Lets pass what the client can read; remembers when to come again.
    fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Result<(), TransportError> {
        let is_error = status.is_client_error() || status.is_server_error();
        let retry_after = is_error.then(|| wait(headers)).flatten();
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = retry_after;
        let is_problem = headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
        if status.is_success() || (is_error && is_problem) {
            return Ok(());
        }
        Err(TransportError::Status { status: status.as_u16(), retry_after })
    }

    fn client(&self, host: &str, authority: &Authority) -> Result<Arc<ClientTls>, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(authority.as_str()) {
            return Ok(Arc::clone(client));
        }
        let spec = ClientSpec {
            server_name: host.to_owned(),
            expect: None,
            trust: self.trust.clone(),
            present: None,
            min_version: Version::Tls12,
            alpn: vec![Alpn::Http1],
        };
        let client = Arc::new(ClientTls::new(&spec).map_err(|error| error.to_string())?);
        clients.insert(authority.to_string(), Arc::clone(&client));
        Ok(client)
    }
}

/// The directory is configured, but the server says where everything else is.
fn https_authority(uri: &Uri) -> Result<Authority, TransportError> {
    match (uri.scheme_str(), uri.authority()) {
        (Some("https"), Some(authority)) if !authority.as_str().contains('@') => Ok(authority.clone()),
        _ => Err(TransportError::Url(uri.to_string().chars().take(200).collect())),
    }
}

/// `Retry-After` in seconds; a date is not read, the plan's own wait does.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// A request with its connection.
const REQUEST: Duration = Duration::from_secs(30);
/// A chain of certificates is some KiB.
const MOST: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_without_user_information_is_asked() {
        for (uri, passes) in [
            ("https://ca.test/dir", true),
            ("https://ca.test:14000/dir", true),
            ("http://ca.test/dir", false),
            ("https://user:password@ca.test/dir", false),
            ("/dir", false),
        ] {
            assert_eq!(https_authority(&uri.parse().unwrap()).is_ok(), passes, "{uri}");
        }
    }

    #[test]
    fn redirects_and_errors_without_a_problem_are_refused_and_say_when_to_come_again() {
        let transport = Transport::new(UpstreamTrust::System, Arc::new(|| std::time::UNIX_EPOCH));
        let judge = |status: u16, kind: &'static str, retry: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(RETRY_AFTER, HeaderValue::from_static(retry));
            let passes = transport.0.judge(StatusCode::from_u16(status).unwrap(), &headers).is_ok();
            (passes, transport.retry_after().map(|wait| wait.as_secs()))
        };
        assert_eq!(judge(200, "application/json", "3"), (true, None));
        assert_eq!(judge(302, "application/json", "3"), (false, None));
        assert_eq!(judge(429, "application/problem+json; charset=utf-8", "120"), (true, Some(120)));
        assert_eq!(judge(503, "text/html", "5"), (false, Some(5)));
        assert_eq!(judge(503, "text/html", "soon"), (false, None));
        assert_eq!(judge(201, "application/json", ""), (true, None));
    }
}
