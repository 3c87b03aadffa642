//! Sockets, and how they reach the cores.
//!
//! Each core accepts on a `SO_REUSEPORT` socket of its own, or core 0 on the one socket that was inherited (systemd,
//! an upgrade). Whoever accepts gives the connection to the least busy core, before TLS: the kernel spreads by hash,
//! and a few long HTTP/2 connections would otherwise pile up on one core.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::connection::{self, Open};
use crate::core::{Command, Core, CoreId, Loads};
use crate::limits::Network;
use crate::snapshot::{Listener, ProxyProtocol};

/// What one core accepts on for a listener.
#[derive(Debug)]
pub struct Socket {
    /// The listener's name.
    pub name: Arc<str>,
    /// Bound and listening; empty if other cores accept.
    pub sockets: Vec<StdListener>,
}

/// Deals the sockets of a listener out to `cores`: mostly one each, more where a predecessor had more cores, and to the first
/// ones only where there are fewer.
#[must_use]
pub fn deal(sockets: Vec<StdListener>, cores: usize) -> Vec<Vec<StdListener>> {
    let mut shares: Vec<Vec<_>> = (0..cores).map(|_| Vec::new()).collect();
    for (index, socket) in sockets.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(index % cores.max(1)) {
            share.push(socket);
        }
    }
    shares
}

/// A connection on its way to the core that serves it.
#[derive(Debug)]
pub struct Arrival {
    /// The TCP connection.
    pub stream: StdStream,
    /// Who it came from.
    pub peer: SocketAddr,
    /// Its place under the caps.
    pub open: Open,
}

/// Binds an address once for each of `cores`; nothing listens yet, and who connects is refused.
///
/// The first bind is without `SO_REUSEPORT`, so that a second instance fails loudly instead of sharing the port.
///
/// # Errors
/// When the address is taken or can't be bound.
pub fn bind(address: SocketAddr, cores: usize) -> io::Result<Vec<StdListener>> {
    let alone = raw_socket(address)?;
    alone.bind(&address.into())?;
    let address = StdListener::from(alone).local_addr()?;
    (0..cores.max(1))
        .map(|_| {
            let socket = raw_socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            Ok(socket.into())
        })
        .collect()
}

/// Has bound sockets listen.
///
/// # Errors
/// When somebody else listens on the address meanwhile.
pub fn listen(sockets: &[StdListener]) -> io::Result<()> {
    sockets.iter().try_for_each(|socket| SockRef::from(socket).listen(BACKLOG))
}

fn raw_socket(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Connections that the kernel keeps for us while a core is busy.
const BACKLOG: i32 = 4096;

/// What the accepting cores share: loads, caps per address, and ways to each other.
#[derive(Debug)]
pub struct Gate {
    /// Open connections per core.
    pub loads: Loads,
    cores: Vec<UnboundedSender<Command>>,
    /// Open connections by listener and network. Taken once per connection, never per request.
    by_network: Mutex<HashMap<(Arc<str>, Network), usize>>,
}

impl Gate {
    /// A gate between these cores.
    #[must_use]
    pub fn new(cores: Vec<UnboundedSender<Command>>) -> Self {
        Self { loads: Loads::new(cores.len()), cores, by_network: Mutex::default() }
    }

    /// Counts a connection in, unless its network has as many as it may.
    #[must_use]
    pub fn enter(&self, listener: &Arc<str>, address: IpAddr, most: usize) -> bool {
        let mut open = self.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry((listener.clone(), Network::of(address))).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts a connection out.
    pub fn leave(&self, listener: &Arc<str>, address: IpAddr) {
        let mut open = self.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (listener.clone(), Network::of(address));
        if let Some(count) = open.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&key);
            }
        }
    }

    fn hand_over(&self, core: CoreId, arrival: Arrival) {
        if let Some(commands) = self.cores.get(core.index())
            && commands.send(Command::Adopt(arrival)).is_err()
        {
            tracing::debug!(core = core.index(), "the core is gone, and the connection with it");
        }
    }
}

/// The sockets that one core accepts on.
#[derive(Debug, Default)]
pub struct Listening(HashMap<Arc<str>, CancellationToken>);

impl Listening {
    /// Starts to accept on a listener's sockets, and on former ones of the same name no more.
    pub fn open(&mut self, core: &Rc<Core>, socket: Socket) {
        let Socket { name, sockets } = socket;
        let stop = CancellationToken::new();
        if let Some(former) = self.0.insert(name.clone(), stop.clone()) {
            former.cancel();
        }
        for socket in sockets {
            let listener = match TcpListener::from_std(socket) {
                Ok(listener) => listener,
                Err(cause) => return tracing::error!(listener = %name, %cause, "cannot accept"),
            };
            let (owned, name, stop) = (core.clone(), name.clone(), stop.clone());
            core.tasks.spawn_local(async move {
                tokio::select! {
                    () = accept(&owned, &name, &listener) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// Stops accepting on a listener and lets its connections finish.
    pub fn close(&mut self, core: &Core, name: &Arc<str>) {
        if let Some(stop) = self.0.remove(name) {
            stop.cancel();
        }
        for (_, connection) in core.connections.borrow().iter() {
            if connection.listener() == name {
                connection.finish();
            }
        }
    }

    /// Stops accepting.
    pub fn close_all(&mut self) {
        for (_, stop) in self.0.drain() {
            stop.cancel();
        }
    }
}

async fn accept(core: &Rc<Core>, name: &Arc<str>, socket: &TcpListener) {
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(cause) => {
                // Out of file descriptors: waiting helps, spinning does not.
                tracing::warn!(listener = %name, %cause, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let snapshot = core.snapshot();
        let Some(listener) = snapshot.listeners.get(name) else { continue };
        let Some(open) = admit(core, listener, peer) else { continue };
        let (target, open) = open.on(core.gate.loads.choose(core.id), core.id);
        if target == core.id {
            connection::start(core, stream, peer, open);
        } else if let Ok(stream) = stream.into_std() {
            core.gate.hand_over(target, Arrival { stream, peer, open });
        }
    }
}

/// A place under all caps, or none: then the connection is closed without a word.
fn admit(core: &Core, listener: &Arc<Listener>, peer: SocketAddr) -> Option<Open> {
    let is_proxied = listener.proxy_protocol == ProxyProtocol::Required;
    if is_proxied && !listener.trusts(peer.ip()) {
        listener.series.handshake_failed(core.id.index(), "proxy_untrusted");
        if core.may_tell() {
            tracing::info!(listener = %listener.name, %peer, "connection refused: no trusted proxy");
        }
        return None;
    }
    if listener.open.load(Ordering::Relaxed) >= listener.bounds.connections {
        return None;
    }
    let mut open = Open::new(core, listener);
    // Behind a proxy its address is known when its header has been read.
    (is_proxied || open.admits(core.id, peer.ip())).then_some(open)
}
