//! Active checks of an upstream's endpoints, on the control runtime.

use std::sync::Arc;

use proxy::upstream::{Check, CheckError, Endpoint, Turn, Upstream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::jwks::jittered;
use super::wall_clock;

/// Checks the endpoints of one upstream.
pub(super) struct Checker {
    pub(super) upstream: Arc<Upstream>,
    pub(super) check: Arc<Check>,
}

impl Checker {
    /// Checks for as long as it is polled.
    pub(super) async fn run(self) {
        loop {
            let next = Instant::now() + jittered(self.check.every, wall_clock());
            self.ask_all().await;
            sleep_until(next).await;
        }
    }

    async fn ask_all(&self) {
        let mut asked = JoinSet::new();
        for endpoint in self.upstream.endpoints.now().iter().cloned() {
            let check = Arc::clone(&self.check);
            asked.spawn(async move {
                let outcome = check.ask(&endpoint, wall_clock()).await;
                (endpoint, outcome)
            });
        }
        while let Some(asked) = asked.join_next().await {
            if let Ok((endpoint, outcome)) = asked {
                self.note(&endpoint, outcome);
            }
        }
    }

    fn note(&self, endpoint: &Endpoint, outcome: Result<(), CheckError>) {
        let Upstream { name, series, .. } = &*self.upstream;
        series.checked(if outcome.is_ok() { "ok" } else { "failed" });
        let turn = endpoint.health.checked(outcome.is_ok(), &self.check, Instant::now());
        match (turn, outcome) {
            (Some(Turn::Out), Err(reason)) => {
                tracing::warn!(upstream = %name, endpoint = %endpoint.name, %reason, "fails its checks: left out");
            }
            (Some(Turn::Back), _) => {
                tracing::info!(upstream = %name, endpoint = %endpoint.name, "passes its checks: used again");
            }
            _ => {}
        }
    }
}
