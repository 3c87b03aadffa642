//! One GET for the control side: no redirect, no proxy, a bounded answer.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tls::{Alpn, ClientSpec, ClientTls, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

use super::server_trust::upstream_trust;
use super::wall_clock;
use crate::config::model::ServerTrust;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The server can't be reached.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The discovery document is not what it should be.
    #[error("the discovery document {0}")]
    Discovery(&'static str),
    /// The key set is refused.
    #[error("the key set is refused: {0}")]
    Keys(String),
    /// It takes too long.
    #[error("it takes too long")]
    Slow,
    /// No HTTP, or an answer that is too large or cut short.
    #[error("bad answer: {0}")]
    Http(String),
    /// Any status but 200; redirects are not followed.
    #[error("status {0}")]
    Status(u16),
}

/// The body of a 200 answer, of at most `most` bytes.
pub(super) async fn get(url: &Url, trust: &ServerTrust, most: usize) -> Result<Vec<u8>, FetchError> {
    let host = url.host_str().ok_or_else(|| FetchError::Connect("the URL names no host".to_owned()))?;
    let port = url.port_or_known_default().unwrap_or(443);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let connect = |cause: &dyn std::fmt::Display| FetchError::Connect(cause.to_string());
    let stream = TcpStream::connect((bare, port)).await.map_err(|error| connect(&error))?;
    if url.scheme() != "https" {
        return exchange(stream, url, most).await;
    }
    let spec = ClientSpec {
        server_name: bare.to_owned(),
        expect: None,
        trust: upstream_trust(trust).map_err(|error| connect(&error))?,
        present: None,
        min_version: Version::Tls12,
        alpn: vec![Alpn::Http1],
    };
    let tls = ClientTls::new(&spec).map_err(|error| connect(&error))?;
    let stream = tls.connect(stream, wall_clock()).await.map_err(|error| connect(&error))?;
    exchange(stream, url, most).await
}

async fn exchange<IO>(io: IO, url: &Url, most: usize) -> Result<Vec<u8>, FetchError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = |cause: &dyn std::fmt::Display| FetchError::Http(cause.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|error| http(&error))?;
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let authority = url.port().map_or_else(
        || url.host_str().unwrap_or_default().to_owned(),
        |port| format!("{}:{port}", url.host_str().unwrap_or_default()),
    );
    let request = Request::get(target)
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| http(&error))?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(|error| http(&error))?;
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), most).collect().await.map_err(|error| http(&error))?;
        Ok(body.to_bytes().to_vec())
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
