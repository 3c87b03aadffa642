//! Keys of token issuers: fetched, refreshed ahead, kept when the issuer can't be reached.
//!
//! Nothing in a token chooses where keys come from. Redirects are not followed, proxies from the environment not
//! used, answers bounded in size and time; a discovery document must name the issuer that it was asked for.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use admin::Readiness;
use identity::jwks::{KeySet, KeyWriter};
use serde_json::Value;
use telemetry::{Material, Metrics};
use tokio::time::{sleep, timeout};

use super::fetch::{FetchError, get};
use super::files::{self, Digest};
use super::wall_clock;
use crate::config::model::{FetchUrl, Jwks, Jwt};

/// Keeps the keys of one issuer fresh.
pub(super) struct Fetcher {
    pub(super) jwt: Jwt,
    pub(super) writer: KeyWriter,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
    /// What the file held, if the keys are in one.
    pub(super) digest: Option<Digest>,
}

impl Fetcher {
    /// Fetches for ever: on time, when a reader wants an unknown key, and again after a failure.
    pub(super) async fn keep_fresh(mut self) {
        let label = format!("jwks {}", self.jwt.name);
        let mut failures = 0_u32;
        let mut wanted = false;
        loop {
            let delay = match self.fetch(wanted).await {
                Ok(Some(keys)) => {
                    for (kid, reason) in keys.skipped() {
                        tracing::warn!(issuer = %self.jwt.name, kid, %reason, "key skipped");
                    }
                    let now = wall_clock();
                    self.writer.publish(keys, now);
                    let ends = (!self.is_file()).then(|| now + self.jwt.max_stale);
                    self.metrics.material_loaded(Material::Jwks, self.jwt.name.as_str(), now, ends);
                    self.readiness.recovered(&label);
                    failures = 0;
                    self.pause()
                }
                Ok(None) => {
                    self.readiness.recovered(&label);
                    failures = 0;
                    self.pause()
                }
                Err(cause) => {
                    if failures == 0 {
                        tracing::warn!(issuer = %self.jwt.name, cause, "keys not fetched: the last good ones go on");
                    }
                    self.writer.failed(cause.clone(), wall_clock());
                    self.metrics.material_failed(Material::Jwks, self.jwt.name.as_str());
                    self.readiness.degraded(&label, cause);
                    failures = failures.saturating_add(1);
                    jittered(Duration::from_secs(1 << failures.min(6)).min(self.jwt.refresh))
                }
            };
            tokio::select! {
                () = sleep(delay) => wanted = false,
                () = self.writer.wanted() => wanted = true,
            }
        }
    }

    fn is_file(&self) -> bool {
        matches!(self.jwt.jwks, Jwks::File(_))
    }

    fn pause(&self) -> Duration {
        if self.is_file() { FILE_POLL } else { jittered(self.jwt.refresh) }
    }

    /// The keys; none if they are in a file that did not change, unless a reader wants to know.
    async fn fetch(&mut self, wanted: bool) -> Result<Option<KeySet>, String> {
        let (url, is_discovery) = match &self.jwt.jwks {
            Jwks::File(reference) => {
                let seen = self.digest.filter(|_| !wanted);
                let read = files::key_set(reference, seen).map_err(|problem| problem.to_string())?;
                return Ok(read.map(|read| {
                    self.digest = Some(read.digest);
                    read.value
                }));
            }
            Jwks::Discover(issuer) => (issuer, true),
            Jwks::Url(url) => (url, false),
        };
        let fetching = async {
            if !is_discovery {
                return get(url.as_url(), &self.jwt, MAX_BYTES).await;
            }
            let mut document = url.as_url().clone();
            document.set_path(&format!("{}{WELL_KNOWN}", document.path().trim_end_matches('/')));
            let found = get(&document, &self.jwt, MAX_BYTES).await?;
            let jwks = self.discovered(&found)?;
            get(jwks.as_url(), &self.jwt, MAX_BYTES).await
        };
        let json = timeout(TIMEOUT, fetching).await.map_err(|_| "timed out".to_owned())?.map_err(|e| e.to_string())?;
        KeySet::parse(&json).map(Some).map_err(|error| error.to_string())
    }

    /// The `jwks_uri` of a discovery document (OpenID Connect Discovery 1.0 section 4.3, RFC 8414 section 3.3).
    fn discovered(&self, json: &[u8]) -> Result<FetchUrl, FetchError> {
        let document: Value = serde_json::from_slice(json).map_err(|_| FetchError::Discovery("is no JSON"))?;
        if document["issuer"].as_str() != Some(self.jwt.issuer.as_ref()) {
            return Err(FetchError::Discovery("names another issuer"));
        }
        let uri = document["jwks_uri"].as_str().ok_or(FetchError::Discovery("names no `jwks_uri`"))?;
        FetchUrl::parse(uri).map_err(|_| FetchError::Discovery("names a `jwks_uri` that is no https URL"))
    }
}

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const MAX_BYTES: usize = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a file is looked at.
const FILE_POLL: Duration = Duration::from_secs(2);

/// Between 80 and 100 % of a duration, so that many gateways do not come at once.
fn jittered(duration: Duration) -> Duration {
    let roll = RandomState::new().hash_one(0) % 1000;
    duration.mul_f64(0.8 + roll as f64 / 5000.0)
}
