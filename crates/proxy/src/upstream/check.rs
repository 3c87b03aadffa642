//! Active checks: is an endpoint usable? Asked on the upstream's own protocol and TLS, on the control runtime.
//!
//! **Passes:** an answer in time whose status is one of those that count. **Fails:** everything else. A check carries no credential of the
//! upstream and nobody's identity. What it finds is one bit of [`Health`](super::Health), under the same floor as ejection.

use std::time::{Duration, SystemTime};

use http::header::{HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tls::{Alpn, ClientTls};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Endpoint, Protocol};

/// How endpoints are checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// What the upstream speaks.
    pub protocol: Protocol,
    /// What is asked for.
    pub path: PathAndQuery,
    /// How often.
    pub every: Duration,
    /// For a check, connection included.
    pub timeout: Duration,
    /// It is used again after so many good checks in a row.
    pub healthy: u32,
    /// It is left out after so many bad checks in a row.
    pub unhealthy: u32,
    /// What counts as good.
    pub statuses: Vec<StatusCode>,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No connection, or nobody who is trusted at its end.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No answer in time.
    #[error("no answer in time")]
    Late,
    /// The answer is no HTTP.
    #[error("bad answer: {0}")]
    Protocol(#[from] hyper::Error),
    /// Another status than those that count.
    #[error("status {0}")]
    Status(StatusCode),
    /// The endpoint's name makes no `Host` field.
    #[error("its name makes no request")]
    Unnameable(#[from] http::Error),
}

impl Check {
    /// Asks an endpoint once.
    ///
    /// # Errors
    /// The check failed.
    pub async fn ask(&self, endpoint: &Endpoint, now: SystemTime) -> Result<(), CheckError> {
        let asking = async {
            let addresses = endpoint.addresses.as_slice();
            let mut stream = TcpStream::connect(addresses).await.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            if let Protocol::Announced(header) = self.protocol {
                stream.write_all(header.own()).await.map_err(unreachable)?;
            }
            match &endpoint.tls {
                Some(tls) => {
                    let stream = tls.connect(stream, now).await.map_err(unreachable)?;
                    let is_http2 = ClientTls::agreed(&stream) == Alpn::Http2;
                    self.exchange(endpoint, stream, is_http2).await
                }
                None => self.exchange(endpoint, stream, self.protocol == Protocol::Http2).await,
            }
        };
        let status = timeout(self.timeout, asking).await.map_err(|_| CheckError::Late)??;
        if self.statuses.contains(&status) { Ok(()) } else { Err(CheckError::Status(status)) }
    }

    async fn exchange<IO>(
        &self,
        endpoint: &Endpoint,
        io: IO,
        is_http2: bool,
    ) -> Result<StatusCode, CheckError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut request = self.request(endpoint)?;
        if self.protocol == Protocol::Http2 && !is_http2 {
            return Err(CheckError::Connect("it does not agree on HTTP/2".to_owned()));
        }
        if !is_http2 {
            let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
            return answered(sender.send_request(request), connection).await;
        }
        let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
        let host = request.headers_mut().remove(HOST);
        let host = host.as_ref().map(HeaderValue::as_bytes).unwrap_or_default();
        *request.uri_mut() =
            Uri::builder().scheme(scheme).authority(host).path_and_query(self.path.clone()).build()?;
        *request.version_mut() = Version::HTTP_2;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        answered(sender.send_request(request), connection).await
    }

    fn request(&self, endpoint: &Endpoint) -> Result<Request<String>, http::Error> {
        let host = match (&*endpoint.host, endpoint.port) {
            (host, 80) if endpoint.tls.is_none() => host.to_owned(),
            (host, 443) if endpoint.tls.is_some() => host.to_owned(),
            (host, port) if host.contains(':') => format!("[{host}]:{port}"),
            (host, port) => format!("{host}:{port}"),
        };
        Request::builder()
            .method(Method::GET)
            .uri(Uri::from(self.path.clone()))
            .header(HOST, host)
            .header(USER_AGENT, HeaderValue::from_static("portcullis health check"))
            .body(String::new())
    }
}

/// The status of an answer, while its connection is driven.
async fn answered(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<StatusCode, CheckError> {
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => Ok(answer?.status()),
        ended = &mut connection => {
            ended?;
            Ok(answer.await?.status())
        }
    }
}

fn unreachable(cause: impl std::fmt::Display) -> CheckError {
    CheckError::Connect(cause.to_string())
}
