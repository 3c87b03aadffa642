//! One generation after the other: all or nothing.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use admin::{Pending, Readiness};
use policy::Engine;
use proxy::Snapshot;
use proxy::core::CoreHandle;
use sd_notify::NotifyState;
use telemetry::{LogLevel, Metrics};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cores::Cores;
use super::deny::DenyLists;
use super::doors::Giveable;
use super::generation::{Living, Surroundings};
use super::handover::Belongings;
use super::jobs::{self, JobKey};
use super::listeners::missing;
use super::material::{self, Tell};
use super::names::{HeldName, Question};
use super::prepare::Prepared;
use super::run::{log_filter, notify_systemd};
use super::sockets::{self, Inherited, Sockets};
use super::stores::{LivingStore, Tasks};
use super::tokens::KeySets;
use super::wall_clock;
use super::watch::fingerprint;
use crate::config::model::{CertificateSource, Config, Jwks, Name, TrustSource};
use crate::config::{Checked, Problems};

/// Holds what changes from generation to generation; there is one.
pub(super) struct Reloader {
    pub(super) file: PathBuf,
    pub(super) living: Living,
    pub(super) material: material::Watch,
    pub(super) inherited: Inherited,
    /// Sockets of listeners that wait for their material: bound, so that nobody else takes the address, and refusing
    /// connections.
    pub(super) closed: Sockets,
    /// The same sockets that the cores accept on, for a successor.
    pub(super) open: Sockets,
    /// The operator's doors, for a successor.
    pub(super) doors: Giveable,
    /// True until a predecessor is to be relieved: sockets that it gave are not listened on before everything is there.
    pub(super) holds_back: bool,
    /// Told when a successor serves.
    pub(super) succeeded: CancellationToken,
    /// Material of jobs that has ended: the gateway is not ready without it.
    pub(super) ended: BTreeMap<JobKey, Pending>,
    /// Names of endpoints whose last look-up failed.
    pub(super) unresolved: Vec<String>,
    /// Where the listeners of the serving generation listen.
    pub(super) addresses: BTreeMap<Name, SocketAddr>,
    pub(super) metrics: Arc<Metrics>,
    /// The public keys of minted tokens.
    pub(super) key_sets: Arc<KeySets>,
    pub(super) readiness: Readiness,
    pub(super) cores: Cores,
    pub(super) deny: DenyLists,
    pub(super) log_level: LogLevel,
    /// The configuration of the generation that serves.
    pub(super) serving: Option<Config>,
    /// Of the texts that the serving generation was made from.
    pub(super) fingerprint: [u8; 32],
    /// What lay there when it was last looked at.
    pub(super) tried: [u8; 32],
    pub(super) generation: u64,
    pub(super) last: Last,
    pub(super) started: SystemTime,
    /// All of the control side's tasks; they run until `stop`.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    /// What stores and jobs run on.
    pub(super) work: Tasks,
    /// Told when a job has published material: a listener may open.
    pub(super) published: Arc<Notify>,
    /// Held while a configuration is loaded: one at a time, so that the newest is published last.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// The next generation, bound and built.
struct Built {
    sockets: Sockets,
    addresses: BTreeMap<Name, SocketAddr>,
    snapshot: Snapshot,
    living: Living,
}

/// How the last attempt to load the configuration ended.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) at: SystemTime,
    pub(super) problems: Vec<String>,
}

impl Reloader {
    /// Publishes what the file says, or nothing. What says the same as before (`None`) is no new generation.
    ///
    /// # Errors
    /// Every problem, in words; the generation that serves goes on.
    pub(super) fn take(&mut self, loaded: Result<Option<Prepared>, Problems>) -> Result<u64, Vec<String>> {
        let result = match loaded {
            Ok(None) => Ok(self.generation),
            Ok(Some(prepared)) => self.publish(prepared).map_err(|problem| vec![problem]),
            Err(problems) => Err(lines(&problems)),
        };
        let problems = result.as_ref().err().cloned().unwrap_or_default();
        let is_news = problems != self.last.problems;
        self.last = Last { at: wall_clock(), problems };
        match &result {
            Ok(generation) => {
                self.metrics.config_loaded(*generation, self.last.at);
                self.readiness.recovered(CONFIGURATION);
                tracing::info!(generation, "configuration loaded");
            }
            Err(problems) => {
                self.metrics.config_refused(self.last.at);
                self.readiness.degraded(CONFIGURATION, "the last reload was refused");
                for problem in problems.iter().filter(|_| is_news) {
                    tracing::error!(problem, "configuration refused: the generation that serves goes on");
                }
            }
        }
        result
    }

    /// Publishes a configuration that passed its checks.
    ///
    /// # Errors
    /// When a socket can't be bound or names can't become handles; nothing has changed then.
    pub(super) fn publish(&mut self, prepared: Prepared) -> Result<u64, String> {
        let Prepared { checked, stores, jobs, names } = prepared;
        let Checked { config, material, engine, rules, compiler, fingerprint, warnings, .. } = checked;
        for warning in lines(&warnings) {
            tracing::warn!(warning, "configuration");
        }
        let kept = self.deny.open(config.denied.state.as_deref());
        let built = kept
            .and_then(|kept| Ok((kept, self.build((&config, engine, rules), &stores, &names)?)))
            .and_then(|built| {
                let policy = std::thread::Builder::new().name("policy".to_owned());
                policy.spawn(move || compiler.run()).map_err(|error| error.to_string())?;
                Ok(built)
            });
        let (kept, Built { sockets, addresses, snapshot, mut living }) = match built {
            Ok(built) => built,
            Err(error) => {
                jobs.into_values().for_each(|job| job.begun.abandon(&self.work));
                return Err(error);
            }
        };

        // From here on nothing fails but the start of the first cores.
        living.publish(&material, &self.metrics, wall_clock());
        self.deny.adopt(kept, &living, &self.metrics, wall_clock());
        let tell = jobs::Tell {
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            published: self.published.clone(),
        };
        living.run_jobs(&self.living, jobs, &tell, &self.work);
        self.key_sets.show(&living.tokens);
        self.cores.publish(Arc::new(snapshot)).map_err(|error| error.to_string())?;
        self.generation += 1;
        let gone: Vec<Name> =
            self.addresses.keys().filter(|name| !addresses.contains_key(*name)).cloned().collect();
        self.addresses = addresses;
        self.living = living;
        self.closed.retain(|name, _| config.listeners.contains_key(name));
        self.closed.extend(sockets);
        for name in &gone {
            self.open.remove(name);
            self.cores.close(name);
        }
        self.material.retain(&self.living, &self.readiness);
        self.metrics.retain_material(|kind, name| material::is_configured(kind, name, &self.living));
        self.fetch_keys();
        self.keep_endpoints();
        if let Err(error) = self.log_level.set(log_filter(config.log_level)) {
            tracing::warn!(%error, "the log goes on at its former level");
        }
        self.warn_of_restart(&config);
        self.serving = Some(config);
        self.open_listeners();
        self.fingerprint = fingerprint;
        self.tried = fingerprint;
        Ok(self.generation)
    }

    /// Binds and builds the next generation; what serves is not touched.
    fn build(
        &mut self,
        (config, engine, rules): (&Config, Engine, Option<Arc<waf::Rules>>),
        stores: &BTreeMap<Name, Arc<LivingStore>>,
        names: &BTreeMap<Question, Arc<HeldName>>,
    ) -> Result<Built, String> {
        let former = self.serving.as_ref().map(|config| &config.listeners);
        let bind = |name: &Name| config.listeners.get(name).map(|listener| listener.bind);
        let stays = |name: &Name| {
            former.and_then(|all| all.get(name)).is_some_and(|was| Some(was.bind) == bind(name))
        };
        let sockets = sockets::bind(config, |name| !stays(name), &mut self.inherited, self.cores.count)
            .map_err(|error| error.to_string())?;
        let mut addresses = self.addresses.clone();
        addresses.retain(|name, _| config.listeners.contains_key(name));
        addresses.extend(sockets::addresses(&sockets));
        let around = Surroundings {
            generation: self.generation + 1,
            metrics: &self.metrics,
            addresses: &addresses,
            stores,
            names,
            tasks: &self.work,
            rules,
        };
        let (snapshot, living) =
            self.living.next(config, engine, &around).map_err(|error| error.to_string())?;
        Ok(Built { sockets, addresses, snapshot, living })
    }

    /// Opens the listeners that have what they need.
    pub(super) fn open_listeners(&mut self) {
        let Some(config) = self.serving.as_ref().filter(|_| !self.holds_back) else { return };
        let can_open = |name: &Name, _: &mut Vec<TcpListener>| {
            config.listeners.get(name).is_some_and(|listener| missing(listener, &self.living).is_none())
        };
        let ready: Sockets = self.closed.extract_if(.., can_open).collect();
        self.closed.extend(self.cores.listen(ready, &mut self.open));
    }

    /// What a closed listener waits for.
    pub(super) fn waits_for(&self, name: &Name) -> Option<String> {
        self.closed.get(name)?;
        let missing = missing(self.serving.as_ref()?.listeners.get(name)?, &self.living);
        Some(missing.unwrap_or_else(|| "its address, which somebody else listens on".to_owned()))
    }

    /// Looks at material again, and at what limits and shadow policies count; true if a file is changing right now.
    pub(super) fn look(&mut self, now: SystemTime) -> bool {
        for (name, limit) in &self.living.limits {
            let buckets = &limit.limit.buckets;
            self.metrics.limit(name.as_str()).table(buckets.keys(), buckets.evictions());
        }
        if let Some(snapshot) = &self.cores.snapshot {
            let counted = snapshot.load().engine.shadow_counters();
            let counts = counted.into_iter().flat_map(|count| {
                let policy = count.policy.to_string();
                [("applied", count.applied), ("would_change", count.would_change), ("erred", count.erred)]
                    .map(|(what, often)| (policy.clone(), what, often))
            });
            self.metrics.shadow_policies(counts.collect());
        }
        self.living.tokens.values().for_each(|token| token.keys.look(now));
        self.look_at_endpoints();
        self.open_listeners();
        self.living.note_ended(&mut self.ended, &self.readiness, now);
        self.metrics.secret_stores(self.living.store_counts(now));
        let tell = Tell { metrics: &self.metrics, readiness: &self.readiness, now };
        let is_unsettled = self.material.look(&self.living, &tell);
        self.deny.look(&self.living, &self.metrics, now);
        is_unsettled
    }

    /// True when the last configuration was refused.
    pub(super) fn is_refused(&self) -> bool {
        !self.last.problems.is_empty()
    }

    /// Whether the file and its policies say something else now than what was tried last.
    pub(super) fn has_changed(&mut self) -> bool {
        let policies = self.serving.as_ref().and_then(|config| config.policies.as_ref());
        let rules =
            self.serving.as_ref().and_then(|config| config.waf.as_ref()).map(|waf| waf.rules.path.as_path());
        let now = fingerprint(&self.file, policies.map(|reference| reference.path.as_path()), rules);
        std::mem::replace(&mut self.tried, now) != now
    }

    /// All files and directories that the serving generation is made of.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.file.clone()];
        if let Some(config) = &self.serving {
            let certificates = config.certificates.values().flat_map(|source| match source {
                CertificateSource::Files(pair) => vec![&pair.certificate, &pair.key],
                _ => Vec::new(),
            });
            let trust = config.trust.values().flat_map(|entry| match &entry.source {
                TrustSource::Files { ca, crl } => std::iter::once(ca).chain(crl).collect(),
                TrustSource::Pki { .. } => Vec::new(),
            });
            let keys = config.jwt.values().filter_map(|issuer| match &issuer.jwks {
                Jwks::File(reference) => Some(reference),
                Jwks::Discover(_) | Jwks::Url(_) => None,
            });
            let denied = &config.denied.file;
            let all = certificates.chain(trust).chain(keys).chain(&config.policies).chain(denied);
            files.extend(all.map(|reference| reference.path.clone()));
        }
        files
    }

    /// All sockets, for a successor.
    pub(super) fn belongings(&self) -> std::io::Result<Belongings> {
        let mut all = self.doors.shared()?;
        for (name, sockets) in self.open.iter().chain(&self.closed) {
            let shared = sockets::shared(sockets)?;
            all.push((name.to_string(), shared.into_iter().map(Into::into).collect()));
        }
        Ok(all)
    }

    /// Another process has the sockets and serves: systemd follows it, the doors are its own from now on.
    pub(super) fn relieved(&self, successor: u32) {
        notify_systemd(&[NotifyState::MainPid(successor)]);
        if let Some(stays) = &self.doors.control_stays {
            stays.store(true, Ordering::SeqCst);
        }
        self.succeeded.cancel();
    }

    /// Gives the cores away to be ended, and how long that may take.
    pub(super) fn end(&mut self) -> (Vec<CoreHandle>, Duration) {
        self.open.clear();
        self.closed.clear();
        let deadline = self.serving.as_ref().map_or(Duration::ZERO, |config| config.shutdown_deadline);
        (std::mem::take(&mut self.cores.running), deadline)
    }

    /// Some things are made once for the process: a change of them is said, not silently ignored.
    fn warn_of_restart(&self, config: &Config) {
        let Some(former) = &self.serving else { return };
        for (changed, what) in [
            (former.cores != config.cores, "cores"),
            (former.admin != config.admin, "admin"),
            (former.access_log != config.access_log, "telemetry.access_log"),
            (former.log_format != config.log_format, "telemetry.log.format"),
        ] {
            if changed {
                tracing::warn!(field = what, "this change takes effect with the next start");
            }
        }
    }
}

/// One line each, as `check` prints them without a terminal.
fn lines(problems: &Problems) -> Vec<String> {
    problems.to_string().lines().map(str::to_owned).collect()
}

/// What readiness calls the configuration.
const CONFIGURATION: &str = "configuration";
