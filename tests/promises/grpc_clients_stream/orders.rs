//! A gRPC service of the test's own, its server and its client by tonic; what tonic would generate stands here by hand, so that no
//! build needs protoc.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use testkit::{Issued, patience};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::tokio_stream::{self, Stream, StreamExt as _};
use tonic::codegen::{BoxFuture, BoxStream, Service, http};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::{ClientStreamingService, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::scene::API;

/// The one message: there and back.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Order {
    #[prost(string, tag = "1")]
    pub(super) text: String,
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
}

pub(super) fn order(text: &str, number: u64) -> Order {
    Order { text: text.to_owned(), number }
}

/// The service, and what it saw.
#[derive(Clone, Default)]
pub(super) struct Orders(Arc<Seen>);

#[derive(Default)]
struct Seen {
    calls: Mutex<Vec<MetadataMap>>,
    /// Calls that are held and were not given up yet.
    held: AtomicUsize,
}

/// A call that is held: counts until it is dropped.
struct Held(Arc<Seen>);

/// A running server; ends when dropped.
pub(super) struct Server {
    pub(super) orders: Orders,
    pub(super) url: String,
    _runtime: Runtime,
}

/// A client with one channel, which is one HTTP/2 connection.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
    token: Option<String>,
}

impl Server {
    pub(super) fn start(tls: Option<&Issued>) -> Self {
        let orders = Orders::default();
        let runtime = runtime();
        let incoming = runtime.block_on(async { TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap() });
        let address = incoming.local_addr().unwrap();
        let mut server = tonic::transport::Server::builder();
        if let Some(issued) = tls {
            let identity = Identity::from_pem(&issued.chain, &issued.key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        runtime.spawn(server.serve_with_incoming(orders.clone(), incoming));
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self { orders, url: format!("{scheme}://{address}"), _runtime: runtime }
    }
}

impl Orders {
    /// What the calls so far were told beside their messages.
    pub(super) fn calls(&self) -> Vec<MetadataMap> {
        self.0.calls.lock().unwrap().clone()
    }

    pub(super) fn held(&self) -> usize {
        self.0.held.load(Ordering::SeqCst)
    }

    fn seen(&self, metadata: &MetadataMap) {
        self.0.calls.lock().unwrap().push(metadata.clone());
    }

    fn hold(&self) -> Held {
        self.0.held.fetch_add(1, Ordering::SeqCst);
        Held(self.0.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `Get`: an order comes back with what it was told; `missing` is none, and `hold` is never answered.
impl UnaryService<Order> for Orders {
    type Response = Order;
    type Future = BoxFuture<Response<Order>, Status>;

    fn call(&mut self, request: Request<Order>) -> Self::Future {
        let orders = self.clone();
        Box::pin(async move {
            orders.seen(request.metadata());
            let (told, _, asked) = request.into_parts();
            match asked.text.as_str() {
                "missing" => Err(missing()),
                "hold" => {
                    let _held = orders.hold();
                    std::future::pending().await
                }
                _ => {
                    let mut response = Response::new(asked);
                    for name in ["x-note", "x-note-again"] {
                        told.get(name).map(|value| response.metadata_mut().insert(name, value.clone()));
                    }
                    told.get_bin("x-note-bin")
                        .map(|value| response.metadata_mut().insert_bin("x-note-bin", value.clone()));
                    Ok(response)
                }
            }
        })
    }
}

/// `Watch`: so many orders, then the end; with `fails` a status after them, with `hold` no end at all.
impl ServerStreamingService<Order> for Orders {
    type Response = Order;
    type ResponseStream = BoxStream<Order>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Order>) -> Self::Future {
        self.seen(request.metadata());
        let Order { text, number } = request.into_inner();
        let held = self.hold();
        let orders = tokio_stream::iter((1..=number).map(move |n| Ok(order("watched", n))));
        let end: BoxStream<Order> = match text.as_str() {
            "fails" => Box::pin(tokio_stream::once(Err(exhausted()))),
            "hold" => Box::pin(tokio_stream::pending()),
            _ => Box::pin(tokio_stream::empty()),
        };
        let stream = orders.chain(end).map(move |one| {
            let _ = &held;
            one
        });
        Box::pin(async { Ok(Response::new(Box::pin(stream) as BoxStream<Order>)) })
    }
}

/// `Add`: the sum of all orders, and how many they were.
impl ClientStreamingService<Order> for Orders {
    type Response = Order;
    type Future = BoxFuture<Response<Order>, Status>;

    fn call(&mut self, request: Request<Streaming<Order>>) -> Self::Future {
        self.seen(request.metadata());
        Box::pin(async {
            let (mut orders, mut count, mut sum) = (request.into_inner(), 0, 0);
            while let Some(one) = orders.message().await? {
                (count, sum) = (count + 1, sum + one.number);
            }
            Ok(Response::new(order(&count.to_string(), sum)))
        })
    }
}

/// `Talk`: each order is answered by the next number as it comes.
impl StreamingService<Order> for Orders {
    type Response = Order;
    type ResponseStream = BoxStream<Order>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Order>>) -> Self::Future {
        self.seen(request.metadata());
        let held = self.hold();
        let answers = request.into_inner().map(move |one| {
            let _ = &held;
            one.map(|one| order(&one.text, one.number + 1))
        });
        Box::pin(async { Ok(Response::new(Box::pin(answers) as BoxStream<Order>)) })
    }
}

impl Service<http::Request<Body>> for Orders {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let orders = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Order, Order>::default());
            Ok(match request.uri().path() {
                "/shop.Orders/Get" => grpc.unary(orders, request).await,
                "/shop.Orders/Watch" => grpc.server_streaming(orders, request).await,
                "/shop.Orders/Add" => grpc.client_streaming(orders, request).await,
                "/shop.Orders/Talk" => grpc.streaming(orders, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

impl Client {
    /// Over TLS, trusting `roots`; with this token on every call.
    pub(super) async fn connect(address: SocketAddr, roots: &str, token: Option<&str>) -> Self {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots)).domain_name(API);
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
        let endpoint = endpoint.origin(format!("https://{API}").parse().unwrap());
        let channel = within(endpoint.connect()).await.expect("the gateway speaks HTTP/2 over TLS");
        Self { channel, token: token.map(str::to_owned) }
    }

    pub(super) async fn get(&self, request: Request<Order>) -> Result<Response<Order>, Status> {
        within(self.ready().await.unary(self.asking(request), path("Get"), codec())).await
    }

    pub(super) async fn watch(&self, one: Order) -> Result<Response<Streaming<Order>>, Status> {
        let request = self.asking(Request::new(one));
        within(self.ready().await.server_streaming(request, path("Watch"), codec())).await
    }

    pub(super) async fn add<S>(&self, orders: S) -> Result<Response<Order>, Status>
    where
        S: Stream<Item = Order> + Send + 'static,
    {
        let request = self.asking(Request::new(orders));
        within(self.ready().await.client_streaming(request, path("Add"), codec())).await
    }

    pub(super) async fn talk<S>(&self, orders: S) -> Result<Response<Streaming<Order>>, Status>
    where
        S: Stream<Item = Order> + Send + 'static,
    {
        let request = self.asking(Request::new(orders));
        within(self.ready().await.streaming(request, path("Talk"), codec())).await
    }

    async fn ready(&self) -> tonic::client::Grpc<Channel> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        within(grpc.ready()).await.unwrap();
        grpc
    }

    fn asking<T>(&self, mut request: Request<T>) -> Request<T> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }
}

/// The next message, or the end.
pub(super) async fn next(stream: &mut Streaming<Order>) -> Result<Option<Order>, Status> {
    within(stream.message()).await
}

/// Whatever it is, within a test's patience.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(patience(), future).await.expect("within a test's patience")
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Not found, with words that need escapes, bytes that say more, and a field.
fn missing() -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-why", MetadataValue::from_static("sold out"));
    Status::with_details_and_metadata(
        Code::NotFound,
        "kein Käse: 100 % weg",
        vec![0, 1, 255].into(),
        metadata,
    )
}

fn exhausted() -> Status {
    Status::resource_exhausted("after the orders")
}

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/shop.Orders/{method}").parse().unwrap()
}

fn codec() -> ProstCodec<Order, Order> {
    ProstCodec::default()
}

/// How long a call with this deadline may take at most, until nothing is learnt by waiting on.
pub(super) const DEADLINE: Duration = Duration::from_millis(300);
