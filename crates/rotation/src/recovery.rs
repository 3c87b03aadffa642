//! Tells the jobs of a cluster that it is worth trying now.

use std::sync::Arc;

use secrets::vault::Vault;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::keeper::woken;

/// Changes `wake` whenever the cluster came back or a new login replaced the former; run once per cluster, until `stop`. Jobs
/// hold receivers of `wake` ([`crate::Keeper::new`]) and spread themselves over two seconds.
pub async fn follow(vault: Arc<Vault>, wake: watch::Sender<u64>, stop: CancellationToken) {
    let (mut login, mut returned) = (vault.login(), vault.returned());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = woken(&mut login) => {}
            () = woken(&mut returned) => {}
        }
        wake.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}
