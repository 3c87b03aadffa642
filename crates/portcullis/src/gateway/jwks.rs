//! Keys of token issuers, fetched ahead of time.
//!
//! **Passes:** a key set over TLS (plain HTTP from this machine only), fetched without redirects, proxies or cookies, within
//! [`DEADLINE`] and [`LARGEST`]; by discovery only if the document's `issuer` is ours byte for byte (OpenID Connect
//! Discovery section 4.3). **Refused:** everything else; the last good keys serve on until they are too old, and the
//! next try comes sooner and then ever later, with jitter.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use admin::Readiness;
use identity::jwks::{KeySet, KeyWriter};
use serde::Deserialize;
use telemetry::{Material as Kind, Metrics};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fetch::{FetchError, get};
use super::issuers::KeySource;
use super::material::subject;
use super::reload::Reloader;
use super::wall_clock;
use crate::config::model::{FetchUrl, Jwks};

/// Fetches the keys of one issuer for as long as they are configured.
pub(super) struct Fetcher {
    pub(super) source: KeySource,
    pub(super) writer: KeyWriter,
    pub(super) stop: CancellationToken,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
}

impl Fetcher {
    /// Fetches until it is stopped.
    pub(super) async fn run(self) {
        let mut failures = 0;
        loop {
            match self.fetch().await {
                Ok(keys) => {
                    failures = 0;
                    self.publish(keys);
                }
                Err(error) => {
                    failures += 1;
                    self.failed(&error, failures);
                }
            }
            let pause =
                if failures == 0 { self.source.refresh } else { backoff(failures, self.source.refresh) };
            tokio::select! {
                () = tokio::time::sleep(jittered(pause, wall_clock())) => {}
                () = self.writer.wanted() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn publish(&self, keys: KeySet) {
        let now = wall_clock();
        let name = &self.source.name;
        for skipped in keys.skipped() {
            tracing::warn!(issuer = %name, kid = skipped.kid, reason = skipped.reason, "a key is not used");
        }
        self.writer.publish(keys, now);
        self.metrics.material_loaded(Kind::Jwks, name.as_str(), now, now.checked_add(self.source.max_stale));
        self.readiness.recovered(&subject(Kind::Jwks, name));
    }

    fn failed(&self, error: &FetchError, failures: u32) {
        let name = &self.source.name;
        self.writer.failed(error.to_string(), wall_clock());
        self.metrics.material_failed(Kind::Jwks, name.as_str());
        self.readiness.degraded(subject(Kind::Jwks, name), error.to_string());
        if failures.is_power_of_two() {
            tracing::warn!(issuer = %name, reason = %error, failures, "keys cannot be fetched, the former stay");
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let fetching = async {
            match &self.source.jwks {
                Jwks::Discover(issuer) => {
                    get(&self.discover(issuer).await?.url, &self.source.trust, LARGEST).await
                }
                Jwks::Url(url) => get(&url.url, &self.source.trust, LARGEST).await,
                Jwks::File(_) => Err(FetchError::Connect("the keys are in a file".to_owned())),
            }
        };
        let body = timeout(DEADLINE, fetching).await.map_err(|_| FetchError::Slow)??;
        KeySet::parse(&body).map_err(|error| FetchError::Keys(error.to_string()))
    }

    /// Where the discovery document says that the keys are (OpenID Connect Discovery 1.0 section 4.3).
    async fn discover(&self, issuer: &FetchUrl) -> Result<FetchUrl, FetchError> {
        let mut url = issuer.url.clone();
        url.set_path(&format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/')));
        let body = get(&url, &self.source.trust, LARGEST).await?;
        let document: Discovery =
            serde_json::from_slice(&body).map_err(|_| FetchError::Discovery("cannot be read"))?;
        if document.issuer != *self.source.issuer {
            return Err(FetchError::Discovery("names another issuer"));
        }
        FetchUrl::read(&document.jwks_uri)
            .ok_or(FetchError::Discovery("names a `jwks_uri` that is no `https` URL"))
    }
}

impl Reloader {
    /// Keys are fetched for as long as their issuer is configured.
    pub(super) fn fetch_keys(&self) {
        for issuer in self.living.issuers.values() {
            if let Some((writer, stop)) = issuer.keys.begin_fetching(&self.stop) {
                let fetcher = Fetcher {
                    source: issuer.keys.source.clone(),
                    writer,
                    stop,
                    metrics: self.metrics.clone(),
                    readiness: self.readiness.clone(),
                };
                self.tasks.spawn(fetcher.run());
            }
        }
    }
}

/// What counts of a discovery document.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// 1, 2, 4 … seconds, never longer than a minute or the time between refreshes.
fn backoff(failures: u32, refresh: Duration) -> Duration {
    let seconds = 1_u64 << failures.saturating_sub(1).min(6);
    Duration::from_secs(seconds).min(LONGEST_BACKOFF).min(refresh)
}

/// 80 to 100 % of a pause, so that gateways that started together do not ask together. The clock's nanoseconds are random
/// enough for that.
pub(super) fn jittered(pause: Duration, now: SystemTime) -> Duration {
    let nanoseconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    pause.mul_f64(0.8 + 0.2 * f64::from(nanoseconds % 1000) / 1000.0)
}

/// For a whole fetch; a request that waits for it gives up after 2 s by itself.
const DEADLINE: Duration = Duration::from_secs(5);

/// A key set or discovery document is a few KiB.
const LARGEST: usize = 1 << 20;

const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_never_beyond_the_refresh() {
        let pauses: Vec<u64> = (1..9).map(|n| backoff(n, Duration::from_secs(600)).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(40, Duration::from_secs(10)), Duration::from_secs(10));
    }

    #[test]
    fn jitter_only_shortens() {
        for nanoseconds in [0, 1, 499, 999] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
            let pause = jittered(Duration::from_secs(10), now);
            assert!((Duration::from_secs(8)..=Duration::from_secs(10)).contains(&pause), "{pause:?}");
        }
    }
}
