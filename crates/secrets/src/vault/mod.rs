//! Vault and OpenBao.

mod answer;
mod call;
mod settings;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::settings::{Login, Settings, Wrapped};
use crate::reading::{
    CertificateRequest, IssuedCertificate, KeyVersion, Lease, Reading, Signature, SigningAlgorithm,
};
use crate::{Cause, StoreError};

/// A cluster: its addresses, one login, one circuit breaker, one prober.
#[derive(Debug)]
pub struct Vault {
    settings: Settings,
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
        Ok(Arc::new(Self { settings }))
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

    pub(crate) async fn read(&self, path: &str) -> Result<Reading, StoreError> {
        let _ = path;
        Err(self.error(Cause::Timeout))
    }

    pub(crate) async fn sign_certificate(
        &self,
        request: &CertificateRequest,
    ) -> Result<IssuedCertificate, StoreError> {
        let _ = request;
        Err(self.error(Cause::Timeout))
    }

    pub(crate) async fn authorities(&self, mount: &str) -> Result<String, StoreError> {
        let _ = mount;
        Err(self.error(Cause::Timeout))
    }

    pub(crate) async fn revocation_list(&self, mount: &str) -> Result<Option<String>, StoreError> {
        let _ = mount;
        Err(self.error(Cause::Timeout))
    }

    pub(crate) async fn renew(&self, lease: &Lease) -> Result<Lease, StoreError> {
        let _ = lease;
        Err(self.error(Cause::Timeout))
    }

    pub(crate) async fn revoke(&self, lease: &Lease) -> Result<(), StoreError> {
        let _ = lease;
        Err(self.error(Cause::Timeout))
    }

    pub(crate) async fn sign(
        &self,
        mount: &str,
        key: &str,
        algorithm: SigningAlgorithm,
        input: &[u8],
    ) -> Result<Signature, StoreError> {
        let _ = (mount, key, algorithm, input);
        Err(self.error(Cause::Timeout))
    }

    pub(crate) async fn signing_keys(&self, mount: &str, key: &str) -> Result<Vec<KeyVersion>, StoreError> {
        let _ = (mount, key);
        Err(self.error(Cause::Timeout))
    }

    fn error(&self, cause: Cause) -> StoreError {
        StoreError { store: self.settings.name.clone(), cause }
    }
}
