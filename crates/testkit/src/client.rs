//! A well-behaved client: HTTP/1.1 or HTTP/2 over plain TCP or TLS, one connection per value, blocking.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::authority::Issued;
use crate::server::{pair, root_store};
use crate::{patience, sha256};

/// The protocol to speak; over TLS it is what is offered by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 (over plain TCP with prior knowledge).
    H2,
}

/// Whom a TLS client trusts, who it is, and the session tickets it got so far (shared by clones).
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

/// One connection to a server.
pub struct Connection {
    runtime: Runtime,
    sender: Sender,
    /// Drives the connection; ends with it.
    driver: JoinSet<()>,
    resumed: bool,
    server: Option<String>,
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    host: String,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailer fields.
    pub trailers: HeaderMap,
}

/// An answer whose body is read piece by piece.
pub struct Streaming<'a> {
    connection: &'a Connection,
    response: Response<Incoming>,
}

enum Sender {
    H1(hyper::client::conn::http1::SendRequest<Body>),
    H2(hyper::client::conn::http2::SendRequest<Body>),
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

type Fault = Box<dyn std::error::Error + Send + Sync>;

impl Trust {
    /// Trusts servers under `roots`; presents `identity` when asked.
    #[must_use]
    pub fn new(roots: &str, identity: Option<&Issued>) -> Self {
        Self::with_versions(roots, identity, rustls::DEFAULT_VERSIONS)
    }

    /// The same, speaking TLS 1.2 only.
    #[must_use]
    pub fn tls12(roots: &str, identity: Option<&Issued>) -> Self {
        Self::with_versions(roots, identity, &[&rustls::version::TLS12])
    }

    fn with_versions(
        roots: &str,
        identity: Option<&Issued>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let builder = ClientConfig::builder_with_provider(crate::provider()).with_protocol_versions(versions);
        let builder = builder.unwrap().with_root_certificates(root_store(roots));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let (chain, key) = pair(issued);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(64);
        Self(Arc::new(config))
    }

    /// What a client configuration with this trust offers by ALPN.
    pub(crate) fn offering(&self, protocol: Protocol) -> Arc<ClientConfig> {
        let mut config = (*self.0).clone();
        config.alpn_protocols = vec![match protocol {
            Protocol::H1 => b"http/1.1".to_vec(),
            Protocol::H2 => b"h2".to_vec(),
        }];
        Arc::new(config)
    }
}

impl Connection {
    /// Connects over plain TCP.
    pub fn plain(address: SocketAddr, protocol: Protocol) -> Result<Self, Fault> {
        let runtime = runtime();
        let stream = runtime.block_on(within(TcpStream::connect(address)))??;
        Self::over(runtime, stream, protocol)
    }

    /// Connects over TLS; `name` is the server name sent (an address is not sent) and checked.
    pub fn tls(address: SocketAddr, trust: &Trust, name: &str, protocol: Protocol) -> Result<Self, Fault> {
        let runtime = runtime();
        let connector = TlsConnector::from(trust.offering(protocol));
        let name = ServerName::try_from(name.to_owned())?;
        let stream = runtime.block_on(async {
            let stream = within(TcpStream::connect(address)).await??;
            Ok::<_, Fault>(within(connector.connect(name, stream)).await??)
        })?;
        let session = stream.get_ref().1;
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let server = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| sha256(leaf));
        Ok(Self { resumed, server, ..Self::over(runtime, stream, protocol)? })
    }

    fn over<S>(runtime: Runtime, stream: S, protocol: Protocol) -> Result<Self, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut driver = JoinSet::new();
        let sender = runtime.block_on(async {
            let stream = TokioIo::new(stream);
            Ok::<_, Fault>(match protocol {
                Protocol::H1 => {
                    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
                    driver.spawn(async { connection.await.unwrap_or(()) });
                    Sender::H1(sender)
                }
                Protocol::H2 => {
                    let (sender, connection) =
                        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
                    driver.spawn(async { connection.await.unwrap_or(()) });
                    Sender::H2(sender)
                }
            })
        })?;
        Ok(Self { runtime, sender, driver, resumed: false, server: None })
    }

    /// Whether the TLS session was resumed from a ticket.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The SHA-256 of the certificate that the server presented, see [`Issued::fingerprint`].
    #[must_use]
    pub fn server_certificate(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Whether the server has ended the connection.
    #[must_use]
    pub fn closed(&mut self) -> bool {
        self.driver.try_join_next().is_some() || self.driver.is_empty()
    }

    /// Sends a request and reads the whole answer.
    pub fn send(&mut self, ask: Ask) -> Result<Reply, Fault> {
        let Streaming { response, .. } = self.open(ask)?;
        self.runtime.block_on(within(collect(response)))?
    }

    /// Sends a request and reads the head of the answer.
    pub fn open(&mut self, ask: Ask) -> Result<Streaming<'_>, Fault> {
        let Self { runtime, sender, driver, .. } = self;
        let response = match sender {
            Sender::H1(sender) => {
                let request = ask.into_request(Protocol::H1)?;
                runtime.block_on(while_open(driver, async {
                    sender.ready().await?;
                    sender.send_request(request).await
                }))??
            }
            Sender::H2(sender) => {
                let request = ask.into_request(Protocol::H2)?;
                runtime.block_on(while_open(driver, async {
                    sender.ready().await?;
                    sender.send_request(request).await
                }))??
            }
        };
        Ok(Streaming { connection: self, response })
    }
}

/// Whether a request that failed was never sent: another connection may take it, whatever its method.
#[must_use]
pub fn was_not_sent(fault: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    fault.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_canceled() || error.is_closed())
}

impl Streaming<'_> {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The next piece of the body as it arrives; `None` at its end.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, Fault> {
        let body = self.response.body_mut();
        self.connection.runtime.block_on(async {
            match within(body.frame()).await? {
                None => Ok(None),
                Some(frame) => Ok(Some(frame?.into_data().unwrap_or_default())),
            }
        })
    }
}

impl Ask {
    /// A GET of this path at this host.
    #[must_use]
    pub fn get(host: &str, path: &str) -> Self {
        Self::new("GET", host, path)
    }

    /// A request of any method.
    #[must_use]
    pub fn new(method: &str, host: &str, path: &str) -> Self {
        Self {
            method: method.parse().unwrap(),
            host: host.to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            trailers: HeaderMap::new(),
        }
    }

    /// Adds a header field; the same name twice makes two fields.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        self
    }

    /// Adds `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds a trailer field after the body.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        self
    }

    pub(crate) fn into_parts(self) -> (String, String, HeaderMap) {
        (self.host, self.path, self.headers)
    }

    fn into_request(self, protocol: Protocol) -> Result<Request<Body>, Fault> {
        let mut request = Request::new(body(self.body, self.trailers));
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        match protocol {
            Protocol::H1 => {
                *request.uri_mut() = self.path.parse()?;
                request.headers_mut().insert("host", self.host.parse()?);
            }
            Protocol::H2 => *request.uri_mut() = format!("https://{}{}", self.host, self.path).parse()?,
        }
        Ok(request)
    }
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The stable code of a refusal's envelope; empty when the answer is none.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The values of a header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// The values of a header field as the echoing upstream saw it.
    #[must_use]
    pub fn upstream_saw(&self, name: &str) -> Vec<String> {
        let echo = self.json();
        let fields = echo["headers"].as_array().cloned().unwrap_or_default();
        fields
            .iter()
            .filter(|field| field[0] == name)
            .map(|field| field[1].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

async fn collect(response: Response<Incoming>) -> Result<Reply, Fault> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers })
}

fn body(data: Bytes, trailers: HeaderMap) -> Body {
    if trailers.is_empty() {
        return Full::new(data).boxed_unsync();
    }
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(2);
    sender.try_send(Frame::data(data)).expect("an empty channel takes two frames");
    sender.try_send(Frame::trailers(trailers)).expect("an empty channel takes two frames");
    body.boxed_unsync()
}

/// The answer, as long as the connection lives: now and then a request that is handed to hyper at the moment at which the
/// connection is closed is never answered, not even by an error.
async fn while_open<F: Future>(driver: &mut JoinSet<()>, answer: F) -> Result<F::Output, Fault> {
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answered = within(answer.as_mut()) => answered,
        _ = driver.join_next() => Ok(tokio::time::timeout(std::time::Duration::from_secs(1), answer).await?),
    }
}

async fn within<F: Future>(future: F) -> Result<F::Output, Fault> {
    Ok(tokio::time::timeout(patience(), future).await?)
}

/// One worker beside the caller, so that pings and window updates are answered between requests.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
