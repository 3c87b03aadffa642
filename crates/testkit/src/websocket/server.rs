//! The server's end. The last segment of the path says what it does: `flood` sends pieces for ever, `mute` reads nothing,
//! `close-N` closes with that code after the first message, `refuse-N` answers with that status. Everything else is an echo.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

/// A running server of WebSockets over plain HTTP/1.1.
pub struct WebSockets {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Value>>,
    open: Mutex<Vec<TcpStream>>,
    flooded: AtomicU64,
    ends: AtomicBool,
}

impl WebSockets {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let state = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.ends.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_nodelay(true).unwrap();
                state.open.lock().unwrap().push(stream.try_clone().unwrap());
                let state = state.clone();
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// What a configuration names as endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every handshake that arrived, in order: `target` and `headers`.
    #[must_use]
    pub fn handshakes(&self) -> Vec<Value> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many bytes `flood` could get rid of.
    #[must_use]
    pub fn flooded(&self) -> u64 {
        self.shared.flooded.load(Ordering::SeqCst)
    }
}

impl Drop for WebSockets {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
        for stream in self.shared.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Shared {
    /// Serves a connection, and closes it: what [`Drop`] cuts is held beside it.
    fn serve(&self, stream: TcpStream) {
        let mut plain = stream.try_clone().unwrap();
        self.speak(stream, &mut plain);
        plain.shutdown(Shutdown::Both).ok();
    }

    #[expect(clippy::result_large_err, reason = "tungstenite's interface")]
    fn speak(&self, stream: TcpStream, plain: &mut TcpStream) {
        let mut act = String::new();
        let opened = tungstenite::accept_hdr(stream, |request: &Request, response| {
            act = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            self.agree(&act, request, response)
        });
        let mut socket = match opened {
            Ok(socket) => socket,
            // No handshake of a WebSocket, and no refusal of ours, which has been sent.
            Err(HandshakeError::Failure(tungstenite::Error::Protocol(_))) => {
                plain.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").ok();
                return;
            }
            Err(_) => return,
        };
        match act.split_once('-') {
            Some(("close", code)) => {
                let frame =
                    CloseFrame { code: code.parse::<u16>().unwrap().into(), reason: "told to".into() };
                if socket.read().is_ok() {
                    socket.close(Some(frame)).ok();
                }
                while socket.read().is_ok() {}
            }
            _ if act == "flood" => self.flood(socket),
            _ if act == "mute" => {
                while !self.ends.load(Ordering::SeqCst) {
                    std::thread::park_timeout(std::time::Duration::from_millis(50));
                }
            }
            _ => echo(socket),
        }
    }

    #[expect(clippy::result_large_err, reason = "tungstenite's interface")]
    fn agree(&self, act: &str, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let pairs = request.headers().iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        self.seen.lock().unwrap().push(json!({ "target": request.uri().to_string(), "headers": pairs }));
        if let Some(("refuse", status)) = act.split_once('-') {
            let mut refusal = ErrorResponse::new(Some("not here".to_owned()));
            *refusal.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
            refusal.headers_mut().insert("content-length", HeaderValue::from_static("8"));
            return Err(refusal);
        }
        let offered = request.headers().get("sec-websocket-protocol");
        if let Some(first) = offered.and_then(|offered| offered.to_str().ok()?.split(',').next()) {
            let first = HeaderValue::from_str(first.trim()).unwrap();
            response.headers_mut().insert("sec-websocket-protocol", first);
        }
        Ok(response)
    }

    fn flood(&self, mut socket: WebSocket<TcpStream>) {
        let piece = vec![0x55; 64 * 1024];
        while socket.send(Message::binary(piece.clone())).is_ok() {
            self.flooded.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
    }
}

fn echo(mut socket: WebSocket<TcpStream>) {
    while let Ok(message) = socket.read() {
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            return;
        }
    }
}
