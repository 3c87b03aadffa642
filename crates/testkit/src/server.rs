//! A small server of HTTP/1.1, or HTTP/2 where it is asked for, on a thread of its own, plain or over TLS: what upstreams and key servers are made of.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::authority::Issued;
use crate::client::Protocol;
use crate::sha256;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Pin<Box<dyn Future<Output = Option<Response<Body>>>>>;

/// How a test server speaks TLS.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

/// What is known about the connection that a request came over.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Counts connections from 1, so that two requests can be seen to share one.
    pub(crate) connection: usize,
    pub(crate) sni: Option<String>,
    /// The SHA-256 of the certificate that the client presented.
    pub(crate) certificate: Option<String>,
}

/// A running server; ends when dropped, with all its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl ServerTls {
    /// Presents `issued`; when `clients` is given, a certificate under one of its roots is required.
    #[must_use]
    pub fn new(issued: &Issued, clients: Option<&str>) -> Self {
        let provider = crate::provider();
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(root_store(roots)), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (chain, key) = pair(issued);
        Self(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }

    /// The same, agreeing on nothing but HTTP/2.
    #[must_use]
    pub fn http2(self) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(Arc::new(config))
    }

    /// The server's side of a handshake; none if it fails.
    pub(crate) async fn accept<S>(self, stream: S) -> Option<tokio_rustls::server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.0).accept(stream).await.ok()
    }
}

impl Server {
    /// Answers each request by `answer`; `None` drops the connection without an answer.
    pub(crate) fn start<F, A>(tls: Option<ServerTls>, make_answer: F) -> Self
    where
        F: FnOnce() -> A + Send + 'static,
        A: Fn(Peer, Request<Incoming>) -> Answer + 'static,
    {
        Self::speaking(Protocol::H1, tls, make_answer)
    }

    /// The same over the plain connections of another protocol; over TLS it is agreed on.
    pub(crate) fn speaking<F, A>(protocol: Protocol, tls: Option<ServerTls>, make_answer: F) -> Self
    where
        F: FnOnce() -> A + Send + 'static,
        A: Fn(Peer, Request<Incoming>) -> Answer + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, accepted) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (stopped, counter) = (stop.clone(), accepted.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, (protocol, tls), counter, Rc::new(make_answer())) => {}
                    () = stopped.notified() => {}
                }
            });
        });
        Self { address, accepted, stop, thread: Some(thread) }
    }

    /// How many connections came in so far.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A body of one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).boxed_unsync()
}

pub(crate) fn root_store(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

pub(crate) fn pair(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap())
}

async fn accept<A>(
    listener: TcpListener,
    (protocol, tls): (Protocol, Option<ServerTls>),
    accepted: Arc<AtomicUsize>,
    answer: Rc<A>,
) where
    A: Fn(Peer, Request<Incoming>) -> Answer + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).ok();
        let connection = accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let (tls, answer) = (tls.clone(), answer.clone());
        tokio::task::spawn_local(async move {
            let Some(tls) = tls else {
                let peer = Peer { connection, sni: None, certificate: None };
                return serve(protocol, stream, peer, answer).await;
            };
            let Some(stream) = tls.accept(stream).await else { return };
            let session = stream.get_ref().1;
            let peer = Peer {
                connection,
                sni: session.server_name().map(str::to_owned),
                certificate: session
                    .peer_certificates()
                    .and_then(|chain| chain.first())
                    .map(|leaf| sha256(leaf)),
            };
            let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::H2 } else { Protocol::H1 };
            serve(protocol, stream, peer, answer).await;
        });
    }
}

async fn serve<A, S>(protocol: Protocol, stream: S, peer: Peer, answer: Rc<A>)
where
    A: Fn(Peer, Request<Incoming>) -> Answer + 'static,
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(peer.clone(), request);
        async move { answer.await.ok_or("the upstream was told to drop the connection") }
    });
    // An error here is a client that went away, which tests do on purpose.
    if protocol == Protocol::H2 {
        let http2 = hyper::server::conn::http2::Builder::new(OnThread);
        http2.serve_connection(TokioIo::new(stream), service).await.ok();
        return;
    }
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

/// Runs the tasks of HTTP/2 streams on the server's thread.
#[derive(Clone)]
struct OnThread;

impl<F> hyper::rt::Executor<F> for OnThread
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
