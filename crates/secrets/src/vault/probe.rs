//! The one prober of a cluster: while the breaker is open nobody else asks.

use tokio::time::{Instant, sleep_until};

use super::Vault;
use super::answer::Operation;
use super::breaker::Probe;

impl Vault {
    /// Asks for the health whenever the breaker wants it, for ever.
    pub(super) async fn probe(&self) {
        let mut last = None;
        let mut is_away = false;
        loop {
            let at = match self.breaker.next_probe(last, Instant::now(), fastrand::f64()) {
                Probe::At(at) => Some(at),
                Probe::Idle(until) => {
                    self.tell(&mut is_away);
                    match until {
                        Some(until) => tokio::select! {
                            () = sleep_until(until) => {}
                            () = self.breaker.wanted() => {}
                        },
                        None => self.breaker.wanted().await,
                    }
                    None
                }
            };
            let Some(at) = at else { continue };
            self.tell(&mut is_away);
            sleep_until(at).await;
            if self.breaker.cut_at(Instant::now()).is_some() {
                continue;
            }
            last = Some(Instant::now());
            let found = self.cluster.health().await;
            self.counts.count(Operation::Health, found.as_ref().err().map_or("ok", |cause| cause.word()));
            self.breaker.probed(found, Instant::now());
        }
    }

    /// Says once that the cluster is away, and once that it is back.
    fn tell(&self, was_away: &mut bool) {
        let away = self.breaker.away();
        match (&away, *was_away) {
            (Some(cause), false) => tracing::warn!(store = self.settings.name, %cause, "the store is away"),
            (None, true) => tracing::info!(store = self.settings.name, "the store is back"),
            _ => {}
        }
        *was_away = away.is_some();
    }
}
