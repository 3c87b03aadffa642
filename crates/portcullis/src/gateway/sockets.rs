//! Listening sockets: inherited from systemd by name, else bound here.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use crate::config::model::{Config, Name};

/// The sockets of each listener: one that was inherited, or one for each core.
pub(super) type Sockets = BTreeMap<Name, Vec<TcpListener>>;

/// Sockets that systemd handed over, by the name of their unit (`FileDescriptorName=`, see sd_listen_fds(3)).
#[derive(Debug, Default)]
pub(super) struct Inherited(BTreeMap<String, TcpListener>);

/// Why a listener has no socket.
#[derive(Debug, thiserror::Error)]
#[error("listener `{name}` cannot listen on `{address}`: {cause}")]
pub(super) struct BindError {
    name: Name,
    address: SocketAddr,
    cause: std::io::Error,
}

impl Inherited {
    /// Takes what the environment describes, if it is meant for this process.
    pub(super) fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut descriptors = ListenFd::from_env();
        let mut sockets = BTreeMap::new();
        for (index, name) in (0..descriptors.len()).zip(names.split(':').chain(std::iter::repeat("unknown")))
        {
            match descriptors.take_tcp_listener(index) {
                Ok(Some(socket)) => {
                    sockets.insert(name.to_owned(), socket);
                }
                Ok(None) => {}
                Err(cause) => {
                    tracing::warn!(name, %cause, "an inherited descriptor is no listening TCP socket");
                }
            }
        }
        Self(sockets)
    }

    /// Says which sockets no listener wanted.
    pub(super) fn warn_unused(&self) {
        for name in self.0.keys() {
            tracing::warn!(name, "an inherited socket has no listener of this name");
        }
    }

    fn claim(&mut self, name: &Name) -> std::io::Result<Option<TcpListener>> {
        let Some(socket) = self.0.remove(name.as_str()) else { return Ok(None) };
        socket.set_nonblocking(true)?;
        Ok(Some(socket))
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
        let bound = match inherited.claim(name).map_err(failed)? {
            Some(socket) => vec![socket],
            None => proxy::listener::bind(listener.bind, cores).map_err(failed)?,
        };
        sockets.insert(name.clone(), bound);
    }
    Ok(sockets)
}

/// Where the sockets really listen.
pub(super) fn addresses(sockets: &Sockets) -> BTreeMap<Name, SocketAddr> {
    let address = |sockets: &Vec<TcpListener>| sockets.first().and_then(|socket| socket.local_addr().ok());
    sockets.iter().filter_map(|(name, sockets)| Some((name.clone(), address(sockets)?))).collect()
}
