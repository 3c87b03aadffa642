//! Vault and OpenBao: one cluster, by the API that both have.
//!
//! **Passes:** what the cluster answers to a request made with a login of ours, whichever of its nodes answers; while it is
//! away, nothing is asked but its health. **Refused:** the rest, each with its [`Cause`]: what the cluster refused (somebody
//! must act) is told apart from its absence (the outage contract decides). No setting comes from the environment, nothing is
//! followed to an address that is not configured, and neither tokens nor bodies are logged at any level.
//!
//! [`Vault::run`] is what keeps all of it going: a request before it runs waits for a login until the timeout.

mod answer;
mod answers;
mod breaker;
mod call;
mod chain;
mod cluster;
mod counts;
mod database;
mod issuers;
mod kv;
mod leases;
mod login;
mod mounts;
mod pki;
mod plan;
mod probe;
mod request;
mod session;
mod settings;
mod transit;
mod transport;
mod wrapping;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[doc(hidden)]
pub use self::answers::read_as_everything;
use self::breaker::Breaker;
use self::cluster::Cluster;
use self::counts::Counts;
pub use self::kv::{Metadata, Replaces};
pub use self::leases::LeaseState;
use self::login::Unwrapped;
use self::mounts::Mounts;
use self::session::Session;
pub use self::settings::{Login, Settings, Wrapped};
pub use self::transit::Item;
use self::transport::{Https, Wire};
use crate::Cause;

/// A cluster: its addresses, one login, one circuit breaker, one prober.
#[derive(Debug)]
pub struct Vault {
    settings: Settings,
    cluster: Cluster,
    breaker: Breaker,
    session: Session,
    counts: Counts,
    unwrapped: Unwrapped,
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
        let wire = Arc::new(Https::new(&settings)?);
        Ok(Arc::new(Self::over(settings, wire)))
    }

    /// Keeps the login alive until `stop`, then revokes it: logs in, renews at two thirds, logs in anew with overlap before
    /// the last renewal ends, probes the health while the cluster is away. Run once per cluster; requests made meanwhile wait for
    /// the first login for at most the request timeout.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let work = async { tokio::join!(self.keep_login(), self.retire(), self.probe()) };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = work => {}
        }
        self.end_login().await;
    }

    /// Counts logins; changes when a new login has replaced the former one, whose leases must be acquired anew before its token is
    /// revoked ([`Settings::overlap`] later). 0 before the first.
    #[must_use]
    pub fn login(&self) -> watch::Receiver<u64> {
        self.session.logins()
    }

    /// Counts the times that the cluster came back after it had been away, had asked for a pause, or a drill had cut it off: what
    /// failed meanwhile can be tried now.
    #[must_use]
    pub fn returned(&self) -> watch::Receiver<u64> {
        self.breaker.returned()
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self, now: SystemTime) -> Status {
        let clock = Instant::now();
        let past = |then: Instant| now - clock.saturating_duration_since(then);
        let future = |then: Instant| now + then.saturating_duration_since(clock);
        let token = self.session.serving();
        let failure = self.breaker.failure(clock);
        Status {
            is_reachable: failure.is_none(),
            address: self.cluster.address(),
            failure: failure.or_else(|| self.session.failure()).map(|(cause, since)| (cause, past(since))),
            is_logged_in: token.is_some(),
            token_ends: token.and_then(|token| token.life.ends).map(future),
            logins: *self.session.logins().borrow(),
            renewals: self.session.renewals(),
            requests: self.counts.all(),
            cut_until: self.breaker.cut_at(clock).map(|cut| future(cut.until)),
        }
    }

    /// Cuts every path to the cluster for a time (`portcullis drill vault-down`); [`Duration::ZERO`] ends the cut.
    pub fn cut(&self, lasts: Duration) {
        self.breaker.cut(lasts, Instant::now());
    }

    fn over(settings: Settings, wire: Arc<dyn Wire>) -> Self {
        Self {
            cluster: Cluster::new(&settings, wire),
            breaker: Breaker::new(),
            session: Session::new(),
            counts: Counts::default(),
            unwrapped: Unwrapped::default(),
            mounts: Mounts::default(),
            settings,
        }
    }
}
