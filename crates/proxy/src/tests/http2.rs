//! Upstreams that speak HTTP/2, made of h2 itself.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;

use super::*;

/// A request as it arrived.
#[derive(Debug)]
struct Arrived {
    head: http::request::Parts,
    body: Vec<u8>,
    /// Counts connections from 0.
    connection: usize,
}

/// Allows two streams on each connection. `/held` waits for a permit; `/refused` refuses its first stream.
struct Peer {
    address: SocketAddr,
    arrived: Mutex<Receiver<Arrived>>,
    resets: Mutex<Receiver<Reason>>,
    go_on: Arc<Semaphore>,
}

struct Told {
    arrived: Sender<Arrived>,
    resets: Sender<Reason>,
    go_on: Arc<Semaphore>,
    refused: AtomicUsize,
}

/// What becomes of a peer's first connection.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Serves,
    /// It takes no notice of its streams, and says so.
    Leaves,
}

impl Peer {
    fn start(first: First) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, go_on) = (channel(), Arc::new(Semaphore::new(0)));
        let resets = channel();
        let told = Arc::new(Told {
            arrived: arrived.0,
            resets: resets.0,
            go_on: go_on.clone(),
            refused: AtomicUsize::new(0),
        });
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (stream, told) = (stream.unwrap(), told.clone());
                thread::spawn(move || match first {
                    First::Leaves if connection == 0 => drop(leave(stream)),
                    First::Serves | First::Leaves => serve(connection, stream, &told),
                });
            }
        });
        Self { address, arrived: Mutex::new(arrived.1), resets: Mutex::new(resets.1), go_on }
    }

    fn next(&self) -> Arrived {
        self.arrived.lock().unwrap().recv_timeout(PATIENCE).unwrap()
    }

    fn rig(&self) -> Rig {
        Rig::start(&Scene { protocol: Protocol::Http2, upstream: Some(self.address), ..Scene::default() })
    }
}

fn serve(connection: usize, stream: TcpStream, told: &Arc<Told>) {
    stream.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let Ok(mut serving) =
            h2::server::Builder::new().max_concurrent_streams(2).handshake::<_, Bytes>(stream).await
        else {
            return;
        };
        let mut answers = tokio::task::JoinSet::new();
        while let Some(Ok((request, respond))) = serving.accept().await {
            answers.spawn(answer(connection, request, respond, told.clone()));
        }
    });
}

async fn answer(
    connection: usize,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    told: Arc<Told>,
) {
    let (head, mut stream) = request.into_parts();
    let path = head.uri.path().to_owned();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let Ok(piece) = piece else { break };
        stream.flow_control().release_capacity(piece.len()).unwrap();
        body.extend(piece);
    }
    if path == "/refused" && told.refused.fetch_add(1, Ordering::SeqCst) == 0 {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    told.arrived.send(Arrived { head, body, connection }).unwrap();
    if path == "/held" {
        tokio::select! {
            reason = poll_fn(|cx| respond.poll_reset(cx)) => return told.resets.send(reason.unwrap()).unwrap(),
            permit = told.go_on.acquire() => permit.unwrap().forget(),
        }
    }
    let mut send = respond
        .send_response(Response::builder().header("trailer", "x-end").body(()).unwrap(), false)
        .unwrap();
    send.send_data(Bytes::from_static(b"hello\n"), false).unwrap();
    send.send_trailers(HeaderMap::from_iter([("x-end".parse().unwrap(), "reached".parse().unwrap())]))
        .unwrap();
}

/// Reads until the first HEADERS, and ends the connection before the stream.
fn leave(mut stream: TcpStream) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        let mut payload = vec![0; usize::from(header[1]) << 8 | usize::from(header[2])];
        stream.read_exact(&mut payload)?;
        if header[3] == 1 {
            stream.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        }
    }
}

#[test]
fn a_request_has_the_form_of_http2_and_trailers_pass() {
    let peer = Peer::start(First::Serves);
    let rig = peer.rig();
    let answer = rig.ask_for("GET", "/x?q", "TE: trailers\r\nConnection: te, x-hop\r\nX-Hop: 1\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("hello") && answer.contains("x-end: reached"),
        "{answer}"
    );
    let Arrived { head, .. } = peer.next();
    assert_eq!(head.uri.to_string(), "http://gw.test/x?q");
    assert_eq!(head.headers["te"], "trailers");
    for name in ["host", "connection", "x-hop"] {
        assert!(!head.headers.contains_key(name), "{name}: {head:?}");
    }
    assert_eq!(head.headers["x-forwarded-host"], "gw.test");
}

#[test]
fn requests_share_connections_as_far_as_the_peer_allows() {
    let peer = Peer::start(First::Serves);
    let rig = peer.rig();
    thread::scope(|scope| {
        let asks: Vec<_> = (0..5).map(|_| scope.spawn(|| rig.ask_for("GET", "/held", ""))).collect();
        let mut connections: Vec<_> = (0..5).map(|_| peer.next().connection).collect();
        connections.sort_unstable();
        assert_eq!(connections.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{connections:?}");
        peer.go_on.add_permits(5);
        assert!(asks.into_iter().all(|ask| ask.join().unwrap().starts_with("HTTP/1.1 200")));
    });
    assert!(rig.ask("").starts_with("HTTP/1.1 200"));
    assert!(peer.next().connection < 3, "those that are there are used again");
}

#[test]
fn what_a_peer_took_no_notice_of_is_sent_again_with_its_body() {
    for (first, path, reason) in
        [(First::Serves, "/refused", "refused"), (First::Leaves, "/x", "unprocessed")]
    {
        let peer = Peer::start(first);
        let rig = peer.rig();
        let answer = rig.ask_for("POST", path, "Content-Length: 5\r\n\r\nhello");
        assert!(answer.starts_with("HTTP/1.1 200"), "{reason}: {answer}");
        let Arrived { head, body, .. } = peer.next();
        assert_eq!((head.method.as_str(), body.as_slice()), ("POST", b"hello".as_slice()), "{reason}");
        assert_eq!(head.headers["content-length"], "5");
        eventually(|| {
            rig.counts(&format!(
                "portcullis_upstream_retries_total{{upstream=\"orders\",reason=\"{reason}\"}} 1"
            ))
        });
    }
}

#[test]
fn a_client_that_vanishes_resets_its_stream_and_no_other() {
    let peer = Peer::start(First::Serves);
    let rig = peer.rig();
    let mut gone = TcpStream::connect(rig.address).unwrap();
    gone.write_all(b"GET /held HTTP/1.1\r\nHost: gw.test\r\n\r\n").unwrap();
    let first = peer.next().connection;
    thread::scope(|scope| {
        let stays = scope.spawn(|| rig.ask_for("GET", "/held", ""));
        assert_eq!(peer.next().connection, first, "they share one");
        drop(gone);
        assert_eq!(peer.resets.lock().unwrap().recv_timeout(PATIENCE).unwrap(), Reason::CANCEL);
        peer.go_on.add_permits(1);
        assert!(stays.join().unwrap().starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn a_peer_that_speaks_no_http2_is_found_out_before_a_request_is_sent() {
    // With prior knowledge, to the server that speaks HTTP/1.1.
    let rig = Rig::start(&Scene { protocol: Protocol::Http2, ..Scene::default() });
    let answer = rig.ask("");
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("UPSTREAM_CONNECT"), "{answer}");
    assert!(rig.counts("portcullis_upstream_connects_total{upstream=\"orders\",result=\"no_http2\"} 1"));
}
