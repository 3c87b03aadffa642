//! The one registry: handles for the request path, gauges for the control runtime, text for a scrape.
//!
//! Series are bounded by the configuration: those of routes, listeners, upstreams and limits live as long as their
//! handles, those of material until [`Metrics::retain_material`], policies those of the last
//! [`Metrics::shadow_policies`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;

use crate::collect::Collect;
use crate::per_core::{Counter, Level, NOBODY, Words};
use crate::series::{
    CompressionSeries, IdempotencySeries, InspectionSeries, LimitSeries, ListenerSeries, MirrorSeries,
    RouteSeries, TokenSeries,
};
use crate::upstream::UpstreamSeries;

/// All metrics of the process. Cheap to share; see the module's header for what bounds it.
pub struct Metrics {
    series: Arc<Series>,
    registry: Registry,
}

/// What has a lifetime and is loaded again while the gateway runs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Material {
    /// A certificate with its key; ends at `notAfter` of the first of its chain to end.
    Certificate,
    /// A trust bundle; ends with the first of its CA certificates.
    Trust,
    /// The revocation lists of a trust entry; end at the earliest `nextUpdate`.
    Crl,
    /// The keys of a token issuer; end when they become too stale to use.
    Jwks,
    /// What the gateway shows an upstream; ends with its lease.
    Credential,
    /// What signs minted tokens.
    SigningKey,
    /// The file of the deny list.
    DenyList,
}

/// What is known of a store of secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretStore {
    /// Its name.
    pub name: String,
    /// Whether it answered the last request.
    pub is_up: bool,
    /// When the login's token ends.
    pub token_ends: Option<SystemTime>,
    /// Logins of this process.
    pub logins: u64,
    /// Token renewals of this process.
    pub renewals: u64,
    /// Requests by operation and outcome.
    pub requests: Vec<(&'static str, &'static str, u64)>,
}

/// What is known of a name that endpoints have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolvedName {
    /// The name.
    pub name: String,
    /// Whether the last look-up found something.
    pub is_resolved: bool,
    /// Addresses that are used.
    pub addresses: usize,
    /// Look-ups of this process that found something.
    pub good: u64,
    /// Look-ups of this process that did not.
    pub bad: u64,
}

impl Metrics {
    /// Metrics for `cores` traffic cores, numbered from 0. A core out of range counts beside them.
    #[must_use]
    pub fn new(cores: usize) -> Arc<Self> {
        let series = Arc::new(Series::new(cores));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Collect(Arc::clone(&series))));
        Arc::new(Self { series, registry })
    }

    /// How many traffic cores there are.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.series.cores
    }

    /// The series of a route; hold the handle as long as the route is configured.
    pub fn route(&self, name: &str) -> Arc<RouteSeries> {
        handle(&self.series.routes, name, || RouteSeries::new(self.series.cores))
    }

    /// The series of a listener; hold the handle as long as the listener is configured.
    pub fn listener(&self, name: &str) -> Arc<ListenerSeries> {
        handle(&self.series.listeners, name, || {
            ListenerSeries::new(self.series.cores, self.series.connections_by_core.clone())
        })
    }

    /// The series of an upstream; hold the handle as long as the upstream is configured.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamSeries> {
        handle(&self.series.upstreams, name, || UpstreamSeries::new(self.series.cores))
    }

    /// The series of a limit; hold the handle as long as the limit is configured.
    pub fn limit(&self, name: &str) -> Arc<LimitSeries> {
        handle(&self.series.limits, name, || LimitSeries::new(self.series.cores))
    }

    /// The series of an entry that mints tokens; hold the handle as long as the entry is configured.
    pub fn token(&self, name: &str) -> Arc<TokenSeries> {
        handle(&self.series.tokens, name, || TokenSeries::new(self.series.cores))
    }

    /// The series of a route's mirror; hold the handle as long as it is configured.
    pub fn mirror(&self, route: &str) -> Arc<MirrorSeries> {
        handle(&self.series.mirrors, route, || MirrorSeries::new(self.series.cores))
    }

    /// The series of a route's idempotency keys; hold the handle as long as they are configured.
    pub fn idempotency(&self, route: &str) -> Arc<IdempotencySeries> {
        handle(&self.series.idempotency, route, || IdempotencySeries::new(self.series.cores))
    }

    /// The series of a route's compression; hold the handle as long as it is configured.
    pub fn compression(&self, route: &str) -> Arc<CompressionSeries> {
        handle(&self.series.compression, route, || CompressionSeries::new(self.series.cores))
    }

    /// The series of what a route's requests are looked through for; hold the handle as long as they are.
    pub fn inspection(&self, route: &str) -> Arc<InspectionSeries> {
        handle(&self.series.inspections, route, || InspectionSeries::new(self.series.cores))
    }

    /// Counts a request in; each needs its [`Metrics::request_ended`].
    pub fn request_began(&self, core: usize) {
        self.series.in_flight.change(core, 1);
    }

    /// Counts a request out, also when its client vanished.
    pub fn request_ended(&self, core: usize) {
        self.series.in_flight.change(core, -1);
    }

    /// Counts a refusal by its stable code.
    pub fn refused(&self, core: usize, code: &'static str) {
        self.series.refusals.add(core, code);
    }

    /// Counts a look into the cache of verified tokens, by its result (`hit`, `miss`).
    pub fn token_cache(&self, core: usize, result: &'static str) {
        self.series.token_cache.add(core, result);
    }

    /// Counts an answer that was cut short because its authority ended, by a word for why (`denied`, `policy`, …).
    pub fn lease_ended(&self, core: usize, why: &'static str) {
        self.series.leases_ended.add(core, why);
    }

    /// Counts what the deny list refused, by what it names (`principal`, `token`, `certificate`).
    pub fn denied(&self, core: usize, by: &'static str) {
        self.series.deny_hits.add(core, by);
    }

    /// Takes over how many entries the deny list has, by source.
    pub fn deny_entries(&self, entries: Vec<(&'static str, u64)>) {
        *lock(&self.series.deny_entries) = entries;
    }

    /// Takes over what the shadow policies of this generation counted; for a tick of the control runtime.
    ///
    /// Each is a policy id, what it did (`applied`, `would_change`, `erred`) and how often.
    pub fn shadow_policies(&self, counts: Vec<(String, &'static str, u64)>) {
        *lock(&self.series.shadow) = counts;
    }

    /// Refused requests by stable code.
    #[must_use]
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.series.refusals.sums().into_iter().collect()
    }

    /// Failed attempts to load material, by kind and name.
    #[must_use]
    pub fn material_failures(&self) -> Vec<(String, u64)> {
        let material = lock(&self.series.material);
        let failures = material.iter().filter(|(_, state)| state.failures > 0);
        failures
            .map(|((kind, name), state)| (format!("{} `{name}`", kind.as_str()), state.failures))
            .collect()
    }

    /// Takes over what is known of the stores of secrets; for a tick of the control runtime.
    pub fn secret_stores(&self, stores: Vec<SecretStore>) {
        *lock(&self.series.stores) = stores;
    }

    /// Takes over what is known of the names of endpoints; for a tick of the control runtime.
    pub fn names(&self, names: Vec<ResolvedName>) {
        *lock(&self.series.names) = names;
    }

    /// Counts a panic that cost a connection or a task.
    pub fn panicked(&self) {
        self.series.panics.add(NOBODY);
    }

    /// Counts access records that were dropped because the log could not keep up.
    pub fn access_log_dropped(&self, records: u64) {
        self.series.access_log_dropped.fetch_add(records, Ordering::Relaxed);
    }

    /// Notes that material was loaded at `at`, and when it ends.
    pub fn material_loaded(&self, kind: Material, name: &str, at: SystemTime, ends: Option<SystemTime>) {
        let mut material = lock(&self.series.material);
        let state = material.entry((kind, name.to_owned())).or_default();
        state.loaded = Some(at);
        state.ends = ends;
    }

    /// Counts a failed attempt to load material; what was loaded before stays.
    pub fn material_failed(&self, kind: Material, name: &str) {
        lock(&self.series.material).entry((kind, name.to_owned())).or_default().failures += 1;
    }

    /// Forgets material that left the configuration.
    pub fn retain_material(&self, mut keep: impl FnMut(Material, &str) -> bool) {
        lock(&self.series.material).retain(|(kind, name), _| keep(*kind, name));
    }

    /// Notes that a generation was published.
    pub fn config_loaded(&self, generation: u64, at: SystemTime) {
        *lock(&self.series.config) = Config { generation, last_reload: Some(at), success: true };
    }

    /// Notes that a configuration was refused; the generation stays.
    pub fn config_refused(&self, at: SystemTime) {
        let mut config = lock(&self.series.config);
        config.last_reload = Some(at);
        config.success = false;
    }

    /// All series as OpenMetrics text (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    ///
    /// # Errors
    /// None in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("cores", &self.series.cores).finish_non_exhaustive()
    }
}

impl Material {
    /// The word for it in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Trust => "trust",
            Self::Crl => "crl",
            Self::Jwks => "jwks",
            Self::Credential => "credential",
            Self::SigningKey => "signing_key",
            Self::DenyList => "deny_list",
        }
    }
}

pub(crate) type Named<T> = Mutex<BTreeMap<String, Arc<T>>>;

/// The numbers behind the registry.
#[derive(Debug)]
pub(crate) struct Series {
    cores: usize,
    pub(crate) routes: Named<RouteSeries>,
    pub(crate) listeners: Named<ListenerSeries>,
    pub(crate) upstreams: Named<UpstreamSeries>,
    pub(crate) limits: Named<LimitSeries>,
    pub(crate) tokens: Named<TokenSeries>,
    pub(crate) mirrors: Named<MirrorSeries>,
    pub(crate) idempotency: Named<IdempotencySeries>,
    pub(crate) compression: Named<CompressionSeries>,
    pub(crate) inspections: Named<InspectionSeries>,
    pub(crate) connections_by_core: Level,
    pub(crate) in_flight: Level,
    pub(crate) refusals: Words,
    pub(crate) token_cache: Words,
    pub(crate) leases_ended: Words,
    pub(crate) deny_hits: Words,
    pub(crate) deny_entries: Mutex<Vec<(&'static str, u64)>>,
    pub(crate) shadow: Mutex<Vec<(String, &'static str, u64)>>,
    pub(crate) stores: Mutex<Vec<SecretStore>>,
    pub(crate) names: Mutex<Vec<ResolvedName>>,
    pub(crate) panics: Counter,
    pub(crate) access_log_dropped: AtomicU64,
    pub(crate) material: Mutex<BTreeMap<(Material, String), MaterialState>>,
    pub(crate) config: Mutex<Config>,
}

#[derive(Debug, Default)]
pub(crate) struct MaterialState {
    pub(crate) loaded: Option<SystemTime>,
    pub(crate) ends: Option<SystemTime>,
    pub(crate) failures: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) generation: u64,
    pub(crate) last_reload: Option<SystemTime>,
    pub(crate) success: bool,
}

impl Series {
    fn new(cores: usize) -> Self {
        Self {
            cores,
            routes: Named::default(),
            listeners: Named::default(),
            upstreams: Named::default(),
            limits: Named::default(),
            tokens: Named::default(),
            mirrors: Named::default(),
            idempotency: Named::default(),
            compression: Named::default(),
            inspections: Named::default(),
            connections_by_core: Level::new(cores),
            in_flight: Level::new(cores),
            refusals: Words::new(cores),
            token_cache: Words::new(cores),
            leases_ended: Words::new(cores),
            deny_hits: Words::new(cores),
            deny_entries: Mutex::default(),
            shadow: Mutex::default(),
            stores: Mutex::default(),
            names: Mutex::default(),
            panics: Counter::new(cores),
            access_log_dropped: AtomicU64::new(0),
            material: Mutex::default(),
            config: Mutex::default(),
        }
    }
}

/// The value of a lock whose holders never leave it half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970, as Prometheus writes a moment; before that, 0.
pub(crate) fn timestamp(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn handle<T>(named: &Named<T>, name: &str, create: impl FnOnce() -> T) -> Arc<T> {
    Arc::clone(lock(named).entry(name.to_owned()).or_insert_with(|| Arc::new(create())))
}
