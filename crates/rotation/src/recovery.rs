//! Tells the jobs of a cluster that it is worth trying now.

use std::sync::Arc;
use std::time::Duration;

use secrets::vault::Vault;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::keeper::{Clock, woken};

/// Changes `wake` whenever the cluster answers again or a new login replaced the former; run once per cluster, until `stop`. Jobs
/// hold receivers of `wake` ([`crate::Keeper::new`]) and spread themselves over two seconds.
pub async fn follow(vault: Arc<Vault>, wake: watch::Sender<u64>, clock: Clock, stop: CancellationToken) {
    let mut login = vault.login();
    let mut was_serving = false;
    loop {
        let status = vault.status(clock());
        let serves = status.is_reachable && status.is_logged_in;
        if serves && !was_serving {
            wake.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
        was_serving = serves;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = woken(&mut login) => wake.send_modify(|changes| *changes = changes.wrapping_add(1)),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// No I/O: what the cluster's own prober found. Well within the five seconds in which a recovery is used.
const LOOK: Duration = Duration::from_secs(1);
