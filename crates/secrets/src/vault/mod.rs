//! Vault and OpenBao.

mod answer;
mod answers;
mod call;
mod chain;
mod database;
mod kv;
mod leases;
mod mounts;
mod pki;
mod settings;
mod transit;
mod wrapping;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[doc(hidden)]
pub use self::answers::read_as_everything;
pub use self::kv::{Metadata, Replaces};
pub use self::leases::LeaseState;
use self::mounts::Mounts;
pub use self::settings::{Login, Settings, Wrapped};
pub use self::transit::Item;
use crate::{Cause, StoreError};

/// A cluster: its addresses, one login, one circuit breaker, one prober.
#[derive(Debug)]
pub struct Vault {
    settings: Settings,
    /// What is mounted where, as far as it was asked.
    mounts: Mounts,
}

/// What `status` and metrics show of a cluster.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether the last request was answered.
    pub is_reachable: bool,
    /// The address that answers.
    pub address: String,
    /// Why not, and since when.
    pub failure: Option<(Cause, SystemTime)>,
    /// Whether there is a token.
    pub is_logged_in: bool,
    /// When the token ends; none for a root token.
    pub token_ends: Option<SystemTime>,
    /// Counts logins of this process.
    pub logins: u64,
    /// Counts token renewals of this process.
    pub renewals: u64,
    /// Counts requests by operation (`kv`, `pki`, `transit`, `database`, `lease`, `token`, `login`, `health`) and outcome (`ok` or
    /// [`Cause::word`]).
    pub requests: Vec<(&'static str, &'static str, u64)>,
    /// Until when a drill cuts the path.
    pub cut_until: Option<SystemTime>,
}

impl Vault {
    /// A cluster that nothing has been asked of yet: no I/O here.
    ///
    /// # Errors
    /// A setting that cannot work, in words.
    pub fn new(settings: Settings) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self { settings, mounts: Mounts::default() }))
    }

    /// Keeps the login alive until `stop`, then revokes it: logs in, renews at two thirds, logs in anew with overlap before
    /// the last renewal ends, probes the health while the cluster is away. Run once per cluster; requests made meanwhile wait for
    /// the first login for at most the request timeout.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// Counts logins; changes when a new login has replaced the former one, whose leases must be acquired anew before its token is
    /// revoked ([`Settings::overlap`] later). 0 before the first.
    #[must_use]
    pub fn login(&self) -> watch::Receiver<u64> {
        todo!("helper SESSION")
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self, now: SystemTime) -> Status {
        let _ = now;
        todo!("helper SESSION")
    }

    /// Cuts every path to the cluster for a time (`portcullis drill vault-down`); [`Duration::ZERO`] ends the cut.
    pub fn cut(&self, lasts: Duration) {
        let _ = lasts;
        todo!("helper SESSION")
    }

    fn error(&self, cause: Cause) -> StoreError {
        StoreError { store: self.settings.name.clone(), cause }
    }
}
