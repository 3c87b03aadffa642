//! The cores: started with the first generation, told of sockets, and shown each snapshot.

use std::sync::Arc;

use arc_swap::ArcSwap;
use identity::deny::DenyList;
use proxy::Snapshot;
use proxy::core::{Command, CoreHandle, CoreSpec};
use proxy::listener::Socket;
use telemetry::{AccessLog, Metrics};
use tls::Slot;

use super::sockets::{self, Sockets};
use super::wall_clock;
use crate::config::model::Name;

/// The cores, and what they serve.
pub(super) struct Cores {
    pub(super) count: usize,
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: AccessLog,
    pub(super) running: Vec<CoreHandle>,
    /// Who and what counts no longer.
    pub(super) deny: Slot<DenyList>,
    pub(super) snapshot: Option<Arc<ArcSwap<Snapshot>>>,
}

impl Cores {
    /// Publishes a snapshot; the first one starts the cores.
    pub(super) fn publish(&mut self, snapshot: Arc<Snapshot>) -> std::io::Result<()> {
        if let Some(published) = &self.snapshot {
            published.store(snapshot);
            return Ok(());
        }
        let snapshot = Arc::new(ArcSwap::new(snapshot));
        self.running = proxy::core::start(&CoreSpec {
            count: self.count,
            snapshot: snapshot.clone(),
            metrics: self.metrics.clone(),
            access_log: self.access_log.clone(),
            tokens: TOKENS_PER_CORE,
            deny: self.deny.clone(),
            clock: Arc::new(wall_clock),
        })?;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Every core accepts on a socket of its own, or the first one on the only one.
    /// Gives back what cannot listen: somebody else listens there, on an address that was bound and not listened on.
    /// What does is also put into `open`.
    pub(super) fn listen(&self, sockets: Sockets, open: &mut Sockets) -> Sockets {
        let mut refused = Sockets::new();
        for (name, sockets) in sockets {
            if let Err(error) = proxy::listener::listen(&sockets) {
                tracing::error!(listener = %name, %error, "cannot listen");
                refused.insert(name, sockets);
                continue;
            }
            tracing::info!(listener = %name, "open");
            match sockets::shared(&sockets) {
                Ok(shared) => open.insert(name.clone(), shared),
                Err(error) => {
                    tracing::error!(listener = %name, %error, "cannot be handed over to a successor");
                    open.remove(&name)
                }
            };
            let shares = proxy::listener::deal(sockets, self.running.len());
            for (core, sockets) in self.running.iter().zip(shares) {
                tell(core, Command::Listen(Socket { name: (&name).into(), sockets }));
            }
        }
        refused
    }

    pub(super) fn close(&self, name: &Name) {
        for core in &self.running {
            tell(core, Command::Close(name.into()));
        }
    }
}

fn tell(core: &CoreHandle, command: Command) {
    if core.commands.send(command).is_err() {
        tracing::error!("a core is gone");
    }
}

/// Verified tokens that each core keeps: about 20 MiB when every one of them is as long as it may be in practice.
const TOKENS_PER_CORE: usize = 8192;
