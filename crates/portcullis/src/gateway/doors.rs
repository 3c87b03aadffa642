//! The operator's doors: metrics, probes and the control socket, bound before anything starts.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use admin::{ControlSocket, Readiness, control_router, metrics_router, probes_router, serve_tcp};
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Door;
use super::handover::Belongings;
use super::reload::Reloader;
use super::run::RunError;
use super::sockets::Inherited;
use super::tokens::KeySets;
use crate::config::model::Admin;

/// The operator's doors, bound.
pub(super) struct Doors {
    metrics: Option<TcpListener>,
    probes: Option<TcpListener>,
    control: Option<ControlSocket>,
    socket: Option<PathBuf>,
}

/// The doors' sockets as a successor gets them.
#[derive(Debug, Default)]
pub(super) struct Giveable {
    sockets: Belongings,
    /// Set when somebody else has the control socket: it is not removed then.
    pub(super) control_stays: Option<Arc<AtomicBool>>,
}

impl Giveable {
    /// The same sockets once more.
    pub(super) fn shared(&self) -> std::io::Result<Belongings> {
        let share = |(name, sockets): &(String, Vec<OwnedFd>)| {
            let shared: std::io::Result<_> = sockets.iter().map(OwnedFd::try_clone).collect();
            Ok((name.clone(), shared?))
        };
        self.sockets.iter().map(share).collect()
    }
}

impl Doors {
    pub(super) async fn bind(admin: &Admin, inherited: &mut Inherited) -> Result<Self, RunError> {
        let mut bind = async |name: &'static str, address: Option<SocketAddr>| {
            let Some(address) = address else { return Ok(None) };
            let failed = |error| RunError::Admin(name, address, error);
            let given = inherited.claim(&door(name), address).map_err(failed)?.pop();
            match given {
                Some(socket) => TcpListener::from_std(socket),
                None => TcpListener::bind(address).await,
            }
            .map(Some)
            .map_err(failed)
        };
        let (metrics, probes) = (bind("bind", admin.bind).await?, bind("probes", admin.probes).await?);
        let control = admin.socket.as_ref().map(|path| match inherited.claim_control(&control(path)) {
            Some(listener) => ControlSocket::inherited(listener, path),
            None => ControlSocket::bind(path),
        });
        Ok(Self { metrics, probes, control: control.transpose()?, socket: admin.socket.clone() })
    }

    /// The sockets once more, for a successor.
    pub(super) fn giveable(&self) -> std::io::Result<Giveable> {
        let mut sockets = Belongings::new();
        for (name, listener) in [("bind", &self.metrics), ("probes", &self.probes)] {
            if let Some(listener) = listener {
                sockets.push((door(name), vec![listener.as_fd().try_clone_to_owned()?]));
            }
        }
        if let (Some(socket), Some(path)) = (&self.control, &self.socket) {
            sockets.push((control(path), vec![socket.shared()?]));
        }
        Ok(Giveable { sockets, control_stays: self.control.as_ref().map(ControlSocket::stays) })
    }

    pub(super) fn open(
        self,
        reloader: &Arc<Mutex<Reloader>>,
        metrics: &Arc<Metrics>,
        keys: &Arc<KeySets>,
        readiness: &Readiness,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        if let Some(listener) = self.metrics {
            tasks.spawn(serve_tcp(listener, metrics_router(metrics.clone(), keys.clone()), stop.clone()));
        }
        if let Some(listener) = self.probes {
            tasks.spawn(serve_tcp(listener, probes_router(readiness.clone()), stop.clone()));
        }
        if let Some(socket) = self.control {
            tasks.spawn(socket.serve(control_router(Arc::new(Door(reloader.clone()))), stop.clone()));
        }
    }

    pub(super) fn addresses(&self) -> [(&'static str, Option<String>); 3] {
        let address =
            |listener: &Option<TcpListener>| Some(listener.as_ref()?.local_addr().ok()?.to_string());
        let socket = self.socket.as_ref().map(|path| path.display().to_string());
        [("admin", address(&self.metrics)), ("probes", address(&self.probes)), ("control", socket)]
    }
}

/// What a handed over socket is called; no listener has a dot in its name.
fn door(name: &str) -> String {
    format!("admin.{name}")
}

fn control(path: &Path) -> String {
    format!("admin.socket {}", path.display())
}
