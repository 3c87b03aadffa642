//! A connection: its handshake, its protocol, and how it ends.
//!
//! It is judged every quarter of a second: a head that does not come, a connection that waits unused, a peer that reads
//! no more, a certificate that expired or was withdrawn, a listener that is gone. A flood of frames ends it at once. Ending is graceful first (GOAWAY, or
//! the last response with `Connection: close`), then a cut.

mod ending;
mod frames;
mod open;
mod proof;
mod protocol;
pub mod proxy_protocol;
mod socket;
mod watched;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use telemetry::{ListenerSeries, OpenConnection};
use tls::{Alpn, Handshake, HandshakeError, Peer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::addresses::Addresses;
use crate::authenticate::Caller;
use crate::core::Core;
use crate::forward::ConnectionFields;
use crate::handle::handle;
use crate::listener::Arrival;
use crate::normalize::HostFacts;
use crate::snapshot::{Bounds, Listener, ProxyProtocol, Snapshot};
use crate::tunnel::Tunnel;
use ending::{Ending, until_ended};
pub use open::Open;
use open::Registered;
pub(crate) use protocol::OnCore;
use protocol::{http1_builder, http2_builder};
pub(crate) use socket::Socket;
use watched::Watched;

/// What is known of a connection for all of its requests.
#[derive(Debug)]
pub struct Connection {
    listener: Arc<str>,
    peer: SocketAddr,
    /// What the peer connected to.
    server: SocketAddr,
    is_http2: bool,
    handshake: Option<Handshake>,
    certificate: Option<(Arc<Peer>, Caller)>,
    pub(crate) fields: ConnectionFields,
    /// The host that was asked for last, mostly the only one.
    pub(crate) last_host: RefCell<Option<Rc<HostFacts>>>,
    series: Arc<ListenerSeries>,
    life: Life,
    /// Over HTTP/1.1, what follows the answer that is being written.
    tunnel: RefCell<Option<Tunnel>>,
}

#[derive(Debug)]
struct Life {
    ending: Cell<Ending>,
    waker: RefCell<Option<Waker>>,
    in_flight: Cell<u32>,
    /// Since when no request is in flight.
    quiet_since: Cell<Instant>,
    /// Since when bytes of a head (HTTP/2: of a preface, frame or header block) that is not complete have been there.
    head_since: Cell<Option<Instant>>,
    /// Since when the peer has taken no byte of what it is sent.
    stalled_since: Cell<Option<Instant>>,
    /// The generation of the deny list that does not name its certificate.
    cleared_by: Cell<u64>,
}

impl Connection {
    pub(crate) fn new(
        core: &Core,
        addresses: Addresses,
        listener: &Listener,
        handshake: Option<Handshake>,
    ) -> Self {
        let Addresses { client: peer, server } = addresses;
        let certificate = handshake
            .as_ref()
            .and_then(|h| h.peer.clone())
            .map(|peer| (peer.clone(), Caller::new(peer.certificate.principal.clone(), None)));
        Self {
            listener: listener.name.clone(),
            peer,
            server,
            is_http2: handshake.as_ref().map_or_else(|| listener.speaks_h2c(), |h| h.alpn == Alpn::Http2),
            fields: ConnectionFields::new(peer, handshake.as_ref()),
            handshake,
            certificate,
            last_host: RefCell::default(),
            series: listener.series.clone(),
            life: Life {
                ending: Cell::new(Ending::Not),
                waker: RefCell::default(),
                in_flight: Cell::new(0),
                quiet_since: Cell::new(core.tick()),
                head_since: Cell::new(None),
                stalled_since: Cell::new(None),
                cleared_by: Cell::new(0),
            },
            tunnel: RefCell::default(),
        }
    }

    /// The name of its listener.
    #[must_use]
    pub const fn listener(&self) -> &Arc<str> {
        &self.listener
    }

    /// The other end of the socket.
    #[must_use]
    pub const fn peer_address(&self) -> IpAddr {
        self.peer.ip()
    }

    /// Both ends, of the client at this address: behind a proxy, whose port is not the client's.
    pub(crate) fn addresses(&self, client: IpAddr) -> Addresses {
        let port = if client == self.peer_address() { self.peer.port() } else { 0 };
        Addresses::new(SocketAddr::new(client, port), self.server)
    }

    /// True for HTTP/2.
    #[must_use]
    pub const fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// A request begins.
    pub(crate) fn began(&self) {
        self.life.in_flight.set(self.life.in_flight.get() + 1);
        self.life.head_since.set(None);
    }

    /// A request's answer has ended.
    pub(crate) fn ended(&self, tick: Instant) {
        self.life.in_flight.set(self.life.in_flight.get().saturating_sub(1));
        self.life.quiet_since.set(tick);
    }

    /// Bytes came.
    fn read(&self, tick: Instant) {
        if self.life.in_flight.get() == 0 && self.life.head_since.get().is_none() {
            self.life.head_since.set(Some(tick));
        }
    }

    /// Frames came; `is_amid` when a part of one, or of a header block, is missing.
    fn read_frames(&self, is_amid: bool, tick: Instant) {
        if is_amid {
            self.read(tick);
        } else {
            self.life.head_since.set(None);
        }
    }

    /// The peer sends frames for their own sake.
    fn flooded(&self, core: &Core, kind: &'static str) {
        self.series.flooded(core.id.index(), kind);
        if core.may_tell() {
            tracing::info!(listener = %self.listener, peer = %self.peer, frames = kind, "connection closed: a flood of frames");
        }
        self.cut();
    }

    /// Bytes went, or the peer takes none.
    fn wrote(&self, went: bool, tick: Instant) {
        match (went, self.life.stalled_since.get()) {
            (true, Some(_)) => self.life.stalled_since.set(None),
            (false, None) => self.life.stalled_since.set(Some(tick)),
            (true, None) | (false, Some(_)) => {}
        }
    }

    /// The connection is a tunnel when the answer that says so has been written.
    pub(crate) fn switch(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    /// The tunnel that begins now; none if not all of the answer went that says so.
    fn switched(&self) -> Option<Tunnel> {
        let tunnel = self.tunnel.take()?;
        let has_gone = !self.is_stalled() && !self.is_cut();
        has_gone.then_some(tunnel)
    }

    /// True when its peer takes nothing of what it is sent.
    pub(crate) fn is_stalled(&self) -> bool {
        self.life.stalled_since.get().is_some()
    }

    /// Ends what must end.
    pub(crate) fn judge(&self, core: &Core, snapshot: &Snapshot, now: Instant, wall: SystemTime) {
        let is_late = |since: Instant, bound: Duration| now.saturating_duration_since(since) > bound;
        let lingers = matches!(self.life.ending.get(), Ending::Gracefully(since) if is_late(since, LINGER));
        let is_quiet = self.life.in_flight.get() == 0;
        let Some(listener) = snapshot.listeners.get(&self.listener) else {
            return if is_quiet && lingers { self.cut() } else { self.finish() };
        };
        if self.rejudge(core, listener, wall).is_err() {
            // A certificate that counts no longer ends its streams too.
            let proves_nothing = lingers && self.certificate.is_some();
            return if is_quiet || proves_nothing { self.cut() } else { self.finish() };
        }
        let Bounds { header_timeout, idle, .. } = listener.bounds;
        if self.life.stalled_since.get().is_some_and(|since| is_late(since, idle)) {
            return self.cut();
        }
        if !is_quiet {
            return;
        }
        if self.life.head_since.get().is_some_and(|since| is_late(since, header_timeout)) {
            return self.cut();
        }
        match self.life.ending.get() {
            Ending::Not if is_late(self.life.quiet_since.get(), idle) => self.finish(),
            Ending::Gracefully(_) if lingers => self.cut(),
            Ending::Gracefully(_) => self.finish(),
            Ending::Not | Ending::Now => {}
        }
    }
}

/// How long a peer without requests, whose certificate was withdrawn, or who takes nothing of an answer may keep a
/// connection that it was asked to end.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Serves a connection that another core accepted.
pub(crate) fn adopt(core: &Rc<Core>, arrival: Arrival) {
    let Arrival { stream, peer, open } = arrival;
    match TcpStream::from_std(stream) {
        Ok(stream) => start(core, stream, peer, open),
        Err(cause) => tracing::warn!(%cause, "cannot serve a connection"),
    }
}

/// Serves a connection on a task of its own: should it panic, it takes this connection and nothing else.
pub(crate) fn start(core: &Rc<Core>, stream: TcpStream, peer: SocketAddr, open: Open) {
    let owned = core.clone();
    core.tasks.spawn_local(async move { serve(owned, stream, peer, open).await });
}

async fn serve(core: Rc<Core>, mut stream: TcpStream, peer: SocketAddr, mut open: Open) {
    if stream.set_nodelay(true).is_err() || SockRef::from(&stream).set_tcp_keepalive(&keepalive()).is_err() {
        return;
    }
    let Ok(server) = stream.local_addr() else { return };
    let mut addresses = Addresses::new(peer, server);
    let listener = open.listener().clone();
    let deadline = Instant::now() + listener.bounds.handshake;
    let counted: OpenConnection = listener.series.accepted(core.id.index());
    if listener.proxy_protocol == ProxyProtocol::Required {
        // Boxed: others need not carry the room for it.
        match Box::pin(proxy_protocol::client(&core, &mut stream, addresses, &mut open, deadline)).await {
            Some(passed) => addresses = passed,
            None => return,
        }
    }
    match &listener.tls {
        None => {
            let connection = Connection::new(&core, addresses, &listener, None);
            speak(core, stream, connection, &listener).await;
        }
        Some(tls) => {
            let cause = match timeout_at(deadline, tls.accept(Socket(stream), core.now())).await {
                Ok(Ok(accepted)) => {
                    let connection = Connection::new(&core, addresses, &listener, Some(accepted.handshake));
                    if connection.judge_peer(&core, core.now()).is_err() {
                        listener.series.handshake_failed(core.id.index(), "denied");
                        return;
                    }
                    return speak(core, accepted.stream, connection, &listener).await;
                }
                Ok(Err(HandshakeError::AcmeValidation)) => {
                    tracing::info!(listener = %listener.name, peer = %addresses.client, "an ACME server looked at a proof");
                    return;
                }
                Ok(Err(error)) => {
                    if core.may_tell() {
                        tracing::info!(listener = %listener.name, peer = %addresses.client, error = ?error.to_string(), "handshake refused");
                    }
                    error.code()
                }
                Err(_) => "timeout",
            };
            listener.series.handshake_failed(core.id.index(), cause);
        }
    }
    drop(counted);
}

/// A peer that vanished without a word is noticed in two minutes, also on a stream where nothing is said.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6)
}

/// Speaks HTTP/1.1 or HTTP/2, as ALPN said, until the connection ends. Boxed, each protocol on its own: a connection has room for what it
/// is, and not for what it might have been.
fn speak<IO>(
    core: Rc<Core>,
    io: IO,
    connection: Connection,
    listener: &Listener,
) -> Pin<Box<dyn Future<Output = ()>>>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let connection = Rc::new(connection);
    let io = TokioIo::new(Watched::new(io, core.clone(), connection.clone()));
    let asked = (core.clone(), connection.clone());
    let service = service_fn(move |request| handle(asked.0.clone(), asked.1.clone(), request));
    if connection.is_http2 {
        let mut http = Box::pin(http2_builder(&core, listener).serve_connection(io, service));
        return Box::pin(async move {
            let _registered = Registered::new(&core, &connection);
            let ended = until_ended(&core, &connection, |cx, ending| {
                if ending {
                    http.as_mut().graceful_shutdown();
                }
                http.as_mut().poll(cx)
            });
            tell(&core, &connection, ended.await);
        });
    }
    let mut http = http1_builder(&listener.bounds).serve_connection(io, service);
    Box::pin(async move {
        let _registered = Registered::new(&core, &connection);
        let ended = until_ended(&core, &connection, |cx, ending| {
            if ending {
                Pin::new(&mut http).graceful_shutdown();
            }
            Pin::new(&mut http).poll(cx)
        })
        .await;
        if let Some(tunnel) = connection.switched().filter(|_| ended.is_ok()) {
            let mut copied = Box::pin(async move {
                let parts = http.into_parts();
                tunnel.run(parts.io.into_inner(), parts.read_buf).await;
            });
            let ended = until_ended(&core, &connection, |cx, _| copied.as_mut().poll(cx).map(Ok)).await;
            return tell(&core, &connection, ended);
        }
        tell(&core, &connection, ended);
    })
}

/// Says how a connection ended, if it was not well.
fn tell(core: &Core, connection: &Connection, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(peer = %connection.peer, %error, "connection ended");
        if error.is_parse() {
            core.metrics.refused(core.id.index(), "MESSAGE_MALFORMED");
        }
    }
}
