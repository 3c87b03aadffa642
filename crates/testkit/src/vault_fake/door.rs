//! The product's door: an HTTP/1.1 server on a thread of its own or on the test's runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Shared;
use super::call::Call;
use crate::server::ServerTls;
use crate::sha256;

pub(super) struct Door {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    pub(super) fn open(shared: Arc<Shared>, tls: Option<ServerTls>, runtime: Option<Handle>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counter, stopped) = (connections.clone(), stop.clone());
        let serve = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            tokio::select! {
                () = accept(listener, tls, counter, shared) => {}
                () = stopped.notified() => {}
            }
        };
        let thread = match runtime {
            Some(runtime) => {
                runtime.spawn(serve);
                None
            }
            None => Some(std::thread::spawn(move || {
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve);
            })),
        };
        Self { address, connections, stop, thread }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<ServerTls>,
    connections: Arc<AtomicUsize>,
    shared: Arc<Shared>,
) {
    let mut served = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).ok();
        connections.fetch_add(1, Ordering::SeqCst);
        let (tls, shared) = (tls.clone(), shared.clone());
        served.spawn(async move {
            let Some(tls) = tls else { return serve(stream, None, shared).await };
            let Some(stream) = tls.accept(stream).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate = certificate.map(|leaf| sha256(leaf));
            serve(stream, certificate, shared).await;
        });
        while served.try_join_next().is_some() {}
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    certificate: Option<String>,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request| {
        let (shared, certificate) = (shared.clone(), certificate.clone());
        async move {
            let call = Call::read(request, certificate).await;
            shared.serve(call).await.ok_or("the fake was told to drop the connection")
        }
    });
    // An error here is a client that went away.
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}
