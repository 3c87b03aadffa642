//! Names of endpoints, and what they resolve to.
//!
//! A name is looked up again when its records' time is over. **A look-up that fails changes nothing**: the last good addresses serve on, and it is
//! tried again sooner and then ever later. What a name is used for follows it by [`HostName::follow`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use telemetry::{Metrics, ResolvedName};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dns::{Answer, LookUpError, look_up};
use super::endpoints::Layout;
use crate::config::model::{self, Config};

/// What is asked, and whom.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Question {
    /// The name.
    pub(super) host: Arc<str>,
    servers: Vec<SocketAddr>,
    refresh: Duration,
}

impl Question {
    /// What an upstream asks for one of its endpoints; nothing for an address.
    pub(super) fn of(endpoint: &model::Endpoint, upstream: &model::Upstream) -> Option<Self> {
        let is_name = endpoint.host.parse::<IpAddr>().is_err();
        is_name.then(|| Self {
            host: Arc::clone(&endpoint.host),
            servers: upstream.dns.servers.clone(),
            refresh: upstream.dns.refresh,
        })
    }
}

/// A name that is looked up for as long as this is held and [begun](Self::begin).
#[derive(Debug)]
pub(super) struct HeldName {
    pub(super) name: Arc<HostName>,
    resolving: OnceLock<DropGuard>,
}

/// What is known of a name.
#[derive(Debug)]
pub(super) struct HostName {
    pub(super) question: Question,
    known: Mutex<Known>,
    followers: Mutex<Vec<Weak<Layout>>>,
}

/// What look-ups of a name brought.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The last good ones, in order.
    pub(super) addresses: Arc<[IpAddr]>,
    /// Why the last look-up failed.
    pub(super) failure: Option<String>,
    /// Failures since the last good one.
    failures: u32,
    good: u64,
    bad: u64,
    /// When it is looked up again.
    due: Option<Instant>,
}

impl HeldName {
    pub(super) fn new(question: Question) -> Self {
        let name = HostName { question, known: Mutex::default(), followers: Mutex::default() };
        Self { name: Arc::new(name), resolving: OnceLock::new() }
    }

    /// What looks it up until `all` or this ends; once.
    pub(super) fn begin(&self, all: &CancellationToken) -> Option<impl Future<Output = ()> + use<>> {
        if self.resolving.get().is_some() {
            return None;
        }
        let stop = all.child_token();
        self.resolving.set(stop.clone().drop_guard()).ok()?;
        let name = Arc::clone(&self.name);
        Some(async move { stop.run_until_cancelled(name.keep()).await.unwrap_or_default() })
    }
}

impl HostName {
    /// What is known now.
    pub(super) fn known(&self) -> Known {
        lock(&self.known).clone()
    }

    /// From now on `layout` is told when the addresses change.
    pub(super) fn follow(&self, layout: &Arc<Layout>) {
        let mut followers = lock(&self.followers);
        followers.retain(|follower| follower.strong_count() > 0);
        if !followers.iter().any(|follower| std::ptr::eq(follower.as_ptr(), Arc::as_ptr(layout))) {
            followers.push(Arc::downgrade(layout));
        }
    }

    async fn keep(&self) {
        loop {
            let due = lock(&self.known).due;
            if let Some(due) = due {
                sleep_until(due).await;
            }
            self.resolve().await;
        }
    }

    async fn resolve(&self) {
        let found = look_up(&self.question.host, &self.question.servers).await;
        if self.learn(found, Instant::now()) {
            let followers = lock(&self.followers).clone();
            followers.iter().filter_map(Weak::upgrade).for_each(|layout| layout.refresh(Instant::now()));
        }
    }

    /// Takes note of a look-up; true if the addresses changed.
    fn learn(&self, found: Result<Answer, LookUpError>, now: Instant) -> bool {
        let Question { host, refresh, .. } = &self.question;
        let mut known = lock(&self.known);
        match found {
            Ok(answer) => {
                if known.failures > 0 {
                    tracing::info!(%host, "resolves again");
                }
                known.good += 1;
                known.failures = 0;
                known.failure = None;
                known.due =
                    Some(now + answer.ttl.unwrap_or(*refresh).clamp(SHORTEST, (*refresh).max(SHORTEST)));
                let is_change = *known.addresses != *answer.addresses;
                if is_change {
                    tracing::info!(%host, addresses = ?answer.addresses, "resolved");
                    known.addresses = answer.addresses.into();
                }
                is_change
            }
            Err(error) => {
                known.bad += 1;
                known.failures = known.failures.saturating_add(1);
                if known.failures == 1 {
                    let held = known.addresses.len();
                    tracing::warn!(%host, reason = %error, held, "cannot be resolved, tried on");
                }
                known.failure = Some(error.to_string());
                known.due = Some(now + backoff(known.failures, *refresh));
                false
            }
        }
    }
}

/// The names that a configuration asks for: those that were asked for before go on, new ones are looked up once.
pub(super) async fn prepare(
    config: &Config,
    former: &BTreeMap<Question, Arc<HeldName>>,
) -> BTreeMap<Question, Arc<HeldName>> {
    let mut names = BTreeMap::new();
    let mut tries = JoinSet::new();
    for question in config.upstreams.values().flat_map(questions) {
        names.entry(question).or_insert_with_key(|question| match former.get(question) {
            Some(held) => Arc::clone(held),
            None => {
                let held = Arc::new(HeldName::new(question.clone()));
                let name = Arc::clone(&held.name);
                tries.spawn(async move { name.resolve().await });
                held
            }
        });
    }
    // Who does not answer in time is asked on while the rest serves.
    if timeout(PATIENCE, tries.join_all()).await.is_err() {
        tracing::warn!("not all names of upstreams could be resolved in time");
    }
    names
}

/// What an upstream asks for.
pub(super) fn questions(upstream: &model::Upstream) -> impl Iterator<Item = Question> {
    upstream.endpoints.iter().filter_map(|endpoint| Question::of(endpoint, upstream))
}

/// Tells the metrics, and gives the names that do not resolve, with the reason.
pub(super) fn look(names: &BTreeMap<Question, Arc<HeldName>>, metrics: &Metrics) -> BTreeMap<String, String> {
    let mut told: BTreeMap<String, ResolvedName> = BTreeMap::new();
    let mut failing = BTreeMap::new();
    for (question, held) in names {
        let known = held.name.known();
        // Two upstreams may ask for one name in two ways.
        let one = told.entry(question.host.to_string()).or_insert_with(|| ResolvedName {
            name: question.host.to_string(),
            is_resolved: true,
            addresses: 0,
            good: 0,
            bad: 0,
        });
        one.is_resolved &= known.is_resolved();
        one.addresses = one.addresses.max(known.addresses.len());
        one.good += known.good;
        one.bad += known.bad;
        if !known.is_resolved() {
            let reason = known.failure.unwrap_or_else(|| "no answer yet".to_owned());
            failing.insert(question.host.to_string(), reason);
        }
    }
    metrics.names(told.into_values().collect());
    failing
}

impl Known {
    /// Whether the last look-up found something.
    pub(super) fn is_resolved(&self) -> bool {
        self.failure.is_none() && !self.addresses.is_empty()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 1, 2, 4 … seconds, never longer than half a minute or the time between look-ups.
fn backoff(failures: u32, refresh: Duration) -> Duration {
    let seconds = 1_u64 << failures.saturating_sub(1).min(6);
    Duration::from_secs(seconds).min(LONGEST_BACKOFF).min(refresh.max(SHORTEST))
}

/// Records whose time is shorter are looked up this often.
const SHORTEST: Duration = Duration::from_secs(1);

const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// So long a start or a reload waits for new names.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(refresh: u64) -> HostName {
        let question =
            Question { host: "orders".into(), servers: Vec::new(), refresh: Duration::from_secs(refresh) };
        Arc::into_inner(HeldName::new(question).name).unwrap()
    }

    fn answer(addresses: &[&str], ttl: u64) -> Result<Answer, LookUpError> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Ok(Answer { addresses, ttl: Some(Duration::from_secs(ttl)) })
    }

    fn pause(name: &HostName, now: Instant) -> u64 {
        name.known().due.unwrap().saturating_duration_since(now).as_secs()
    }

    #[test]
    fn it_is_looked_up_when_its_time_is_over_within_bounds() {
        let (now, name) = (Instant::now(), name(300));
        for (ttl, wait) in [(30, 30), (0, 1), (86_400, 300)] {
            name.learn(answer(&["10.0.0.1"], ttl), now);
            assert_eq!(pause(&name, now), wait, "{ttl}");
        }
    }

    #[test]
    fn a_failure_keeps_the_last_good_addresses_and_is_tried_again_ever_later() {
        let (now, name) = (Instant::now(), name(300));
        assert!(name.learn(answer(&["10.0.0.1", "10.0.0.2"], 30), now), "the first are news");
        assert!(!name.learn(answer(&["10.0.0.1", "10.0.0.2"], 30), now));
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(!name.learn(Err(LookUpError::Late), now));
            pauses.push(pause(&name, now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        let known = name.known();
        assert_eq!((known.addresses.len(), known.is_resolved()), (2, false));
        assert!(name.learn(answer(&["10.0.0.2"], 30), now), "it heals alone");
        assert!(name.known().is_resolved());
    }
}
