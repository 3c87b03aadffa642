//! The one prober of a cluster: while the breaker is open nobody else asks.

use tokio::time::{Instant, sleep_until};

use super::Vault;
use super::answer::Operation;
use super::breaker::Probe;

impl Vault {
    /// Asks for the health whenever the breaker wants it, for ever.
    pub(super) async fn probe(&self) {
        let mut last = None;
        let mut told = Told::default();
        loop {
            let at = match self.breaker.next_probe(last, Instant::now(), fastrand::f64()) {
                Probe::At(at) => Some(at),
                Probe::Idle(until) => {
                    self.tell(&mut told);
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
            self.tell(&mut told);
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

    /// Says once that the cluster is away, once that it is back, and once that a drill is over.
    fn tell(&self, told: &mut Told) {
        let store = &self.settings.name;
        let is_cut = self.breaker.cut_at(Instant::now()).is_some();
        if told.is_cut && !is_cut {
            tracing::warn!(store, "drill: the path to Vault is open again");
        }
        let away = self.breaker.away();
        match (&away, told.is_away) {
            (Some(cause), false) => tracing::warn!(store, %cause, "the store is away"),
            (None, true) => tracing::info!(store, "the store is back"),
            _ => {}
        }
        *told = Told { is_away: away.is_some(), is_cut };
    }
}

/// What was said last.
#[derive(Debug, Default)]
struct Told {
    is_away: bool,
    is_cut: bool,
}
