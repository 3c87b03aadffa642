//! The operator's doors: metrics, probes and the control socket, bound before anything starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use admin::{ControlSocket, Readiness, control_router, metrics_router, probes_router, serve_tcp};
use telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Door;
use super::reload::Reloader;
use super::run::RunError;
use super::tokens::KeySets;
use crate::config::model::Admin;

/// The operator's doors, bound.
pub(super) struct Doors {
    metrics: Option<TcpListener>,
    probes: Option<TcpListener>,
    control: Option<ControlSocket>,
    socket: Option<PathBuf>,
}

impl Doors {
    pub(super) async fn bind(admin: &Admin) -> Result<Self, RunError> {
        let bind = async |name: &'static str, address: Option<SocketAddr>| match address {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                bound.map(Some).map_err(|error| RunError::Admin(name, address, error))
            }
            None => Ok(None),
        };
        Ok(Self {
            metrics: bind("bind", admin.bind).await?,
            probes: bind("probes", admin.probes).await?,
            control: admin.socket.as_ref().map(ControlSocket::bind).transpose()?,
            socket: admin.socket.clone(),
        })
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
