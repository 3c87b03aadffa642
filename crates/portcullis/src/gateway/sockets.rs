//! Listening sockets: inherited by name from systemd or a predecessor, else bound here.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::handover::Belongings;
use crate::config::model::{Config, Name};

/// The sockets of each listener: one that was inherited, or one for each core.
pub(super) type Sockets = BTreeMap<Name, Vec<TcpListener>>;

/// Sockets that somebody handed over, by name: systemd those of a listener (`FileDescriptorName=`, see sd_listen_fds(3)), a
/// predecessor all that it had.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    sockets: BTreeMap<String, Vec<OwnedFd>>,
    /// They are used for the same address only; where systemd listens is systemd's affair.
    from_predecessor: bool,
}

/// Why a listener has no socket.
#[derive(Debug, thiserror::Error)]
#[error("listener `{name}` cannot listen on `{address}`: {cause}")]
pub(super) struct BindError {
    name: Name,
    address: SocketAddr,
    cause: std::io::Error,
}

impl Inherited {
    /// What a predecessor handed over, else what the environment describes, if it is meant for this process.
    pub(super) fn new(belongings: Option<Belongings>) -> Self {
        let Some(belongings) = belongings else { return Self::from_environment() };
        let mut sockets: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, some) in belongings {
            sockets.entry(name).or_default().extend(some);
        }
        Self { sockets, from_predecessor: true }
    }

    fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut descriptors = ListenFd::from_env();
        let mut sockets: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (index, name) in (0..descriptors.len()).zip(names.split(':').chain(std::iter::repeat("unknown")))
        {
            match descriptors.take_tcp_listener(index) {
                Ok(Some(socket)) => sockets.entry(name.to_owned()).or_default().push(socket.into()),
                Ok(None) => {}
                Err(cause) => {
                    tracing::warn!(name, %cause, "an inherited descriptor is no listening TCP socket");
                }
            }
        }
        Self { sockets, from_predecessor: false }
    }

    /// Closes the sockets that nobody wanted, and says which.
    pub(super) fn close_unused(&mut self) {
        for (name, _) in std::mem::take(&mut self.sockets) {
            tracing::warn!(name, "an inherited socket has no listener of this name and address");
        }
    }

    /// The sockets of this name; a predecessor's only if they listen where `bind` says.
    pub(super) fn claim(&mut self, name: &str, bind: SocketAddr) -> std::io::Result<Vec<TcpListener>> {
        let sockets = self.sockets.remove(name).into_iter().flatten().map(TcpListener::from);
        let fits = |socket: &TcpListener| {
            let at = socket.local_addr()?;
            let fits = at == bind || (bind.port() == 0 && at.ip() == bind.ip());
            Ok::<_, std::io::Error>(fits || !self.from_predecessor)
        };
        let mut fitting = Vec::new();
        for socket in sockets {
            if fits(&socket)? {
                socket.set_nonblocking(true)?;
                fitting.push(socket);
            }
        }
        Ok(fitting)
    }

    /// The control socket of this name.
    pub(super) fn claim_control(&mut self, name: &str) -> Option<UnixListener> {
        self.sockets.remove(name)?.pop().map(UnixListener::from)
    }
}

/// Sockets for those listeners that `wants` names; all of them, or none.
pub(super) fn bind(
    config: &Config,
    wants: impl Fn(&Name) -> bool,
    inherited: &mut Inherited,
    cores: usize,
) -> Result<Sockets, BindError> {
    let mut sockets = Sockets::new();
    for (name, listener) in config.listeners.iter().filter(|(name, _)| wants(name)) {
        let failed = |cause| BindError { name: name.clone(), address: listener.bind, cause };
        let mut bound = inherited.claim(name.as_str(), listener.bind).map_err(failed)?;
        if bound.is_empty() {
            bound = proxy::listener::bind(listener.bind, cores).map_err(failed)?;
        }
        sockets.insert(name.clone(), bound);
    }
    Ok(sockets)
}

/// Where the sockets really listen.
pub(super) fn addresses(sockets: &Sockets) -> BTreeMap<Name, SocketAddr> {
    let address = |sockets: &Vec<TcpListener>| sockets.first().and_then(|socket| socket.local_addr().ok());
    sockets.iter().filter_map(|(name, sockets)| Some((name.clone(), address(sockets)?))).collect()
}

/// The same sockets once more, to be handed over.
pub(super) fn shared(sockets: &[TcpListener]) -> std::io::Result<Vec<TcpListener>> {
    sockets.iter().map(TcpListener::try_clone).collect()
}
