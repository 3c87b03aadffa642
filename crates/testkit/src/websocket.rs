//! WebSockets whose two ends somebody else wrote (tungstenite): a server to stand behind the gateway, a client to stand
//! before it, over HTTP/1.1 or, as an extended CONNECT (RFC 8441), over HTTP/2.

mod server;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
pub use tungstenite::Message;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::client::{Ask, Protocol, Reply, Trust};
use crate::patience;
use crate::wire::{ReadWrite, Wire};
pub use server::WebSockets;

/// The client's end of an open WebSocket.
pub struct WebSocket {
    socket: tungstenite::WebSocket<Box<dyn ReadWrite>>,
    /// The fields of the answer that opened it.
    pub headers: HeaderMap,
}

/// An HTTP/2 connection on which WebSockets are opened.
pub struct Http2 {
    runtime: Arc<Runtime>,
    sender: Mutex<http2::SendRequest<Empty<Bytes>>>,
    /// Drives the connection; ends with it.
    _driver: JoinSet<()>,
}

impl WebSocket {
    /// Opens one on a connection of its own.
    ///
    /// # Errors
    /// The answer, when it is another one.
    pub fn open(wire: Wire, ask: Ask) -> Result<Self, Box<Reply>> {
        let (host, path, fields) = ask.into_parts();
        let mut request = format!("ws://{host}{path}").into_client_request().unwrap();
        for (name, value) in &fields {
            request.headers_mut().append(name, value.clone());
        }
        match tungstenite::client(request, wire.into_inner()) {
            Ok((socket, response)) => Ok(Self { socket, headers: response.headers().clone() }),
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let (head, body) = response.into_parts();
                Err(Box::new(Reply {
                    status: head.status.as_u16(),
                    headers: head.headers,
                    body: body.unwrap_or_default().into(),
                    trailers: HeaderMap::new(),
                }))
            }
            Err(error) => panic!("no answer to the handshake: {error}"),
        }
    }

    /// Sends a message, or a frame of one.
    pub fn send(&mut self, message: impl Into<Message>) -> Result<(), tungstenite::Error> {
        self.socket.send(message.into())
    }

    /// Sends a text in so many frames, with a ping between the first two.
    pub fn send_in_pieces(&mut self, pieces: &[&str]) -> Result<(), tungstenite::Error> {
        for (at, piece) in pieces.iter().enumerate() {
            let code = OpCode::Data(if at == 0 { Data::Text } else { Data::Continue });
            let is_last = at + 1 == pieces.len();
            self.socket.send(Message::Frame(Frame::message(
                piece.to_string().into_bytes(),
                code,
                is_last,
            )))?;
            if at == 0 {
                self.socket.send(Message::Ping(Bytes::from_static(b"between")))?;
            }
        }
        Ok(())
    }

    /// The next message.
    pub fn read(&mut self) -> Result<Message, tungstenite::Error> {
        self.socket.read()
    }

    /// What comes back for a message.
    pub fn echo(&mut self, message: impl Into<Message>) -> Message {
        self.send(message).expect("it is open");
        self.read().expect("it answers")
    }

    /// Says goodbye and waits until the server has, too.
    pub fn close(mut self) {
        self.socket.close(None).ok();
        while self.socket.read().is_ok() {}
    }
}

impl Http2 {
    /// Connects over TLS; `name` is the server name sent and checked.
    #[must_use]
    pub fn tls(address: SocketAddr, trust: &Trust, name: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connector = TlsConnector::from(trust.offering(Protocol::H2));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut driver = JoinSet::new();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let stream = TokioIo::new(connector.connect(name, stream).await.unwrap());
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            driver.spawn(async { connection.await.unwrap_or(()) });
            sender
        });
        Self { runtime: Arc::new(runtime), sender: Mutex::new(sender), _driver: driver }
    }

    /// Opens a WebSocket on a stream of the connection.
    ///
    /// # Errors
    /// The answer, when it is another one; status 0 for a stream that was reset.
    pub fn open(&self, ask: Ask) -> Result<WebSocket, Box<Reply>> {
        self.open_as("websocket", ask)
    }

    /// The same for any `:protocol`.
    pub fn open_as(&self, protocol: &'static str, ask: Ask) -> Result<WebSocket, Box<Reply>> {
        let (host, path, fields) = ask.into_parts();
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = format!("https://{host}{path}").parse().unwrap();
        *request.headers_mut() = fields;
        request.headers_mut().entry("sec-websocket-version").or_insert("13".parse().unwrap());
        request.extensions_mut().insert(hyper::ext::Protocol::from_static(protocol));
        let mut sender = self.sender.lock().unwrap().clone();
        self.runtime.block_on(async {
            let within = tokio::time::timeout(patience(), async {
                sender.ready().await?;
                sender.send_request(request).await
            });
            let Ok(mut response) = within.await.expect("it is answered in time") else {
                return Err(Box::new(Reply {
                    status: 0,
                    headers: HeaderMap::new(),
                    body: Bytes::new(),
                    trailers: HeaderMap::new(),
                }));
            };
            if response.status() != 200 {
                let (head, body) = response.into_parts();
                return Err(Box::new(Reply {
                    status: head.status.as_u16(),
                    headers: head.headers,
                    body: body.collect().await.unwrap().to_bytes(),
                    trailers: HeaderMap::new(),
                }));
            }
            let stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
            let stream: Box<dyn ReadWrite> = Box::new(Blocking { stream, runtime: self.runtime.clone() });
            let socket = tungstenite::WebSocket::from_raw_socket(stream, Role::Client, None);
            Ok(WebSocket { socket, headers: response.headers().clone() })
        })
    }
}

/// A stream of a runtime, for code that blocks.
struct Blocking {
    stream: TokioIo<hyper::upgrade::Upgraded>,
    runtime: Arc<Runtime>,
}

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Self { stream, runtime } = self;
        runtime.block_on(async { tokio::time::timeout(patience(), stream.read(buffer)).await? })
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Self { stream, runtime } = self;
        runtime.block_on(async { tokio::time::timeout(patience(), stream.write(bytes)).await? })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let Self { stream, runtime } = self;
        runtime.block_on(stream.flush())
    }
}
