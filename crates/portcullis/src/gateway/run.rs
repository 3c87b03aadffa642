//! From start to exit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admin::{Readiness, SocketError};
use proxy::core::{Command, Drain, Pace};
use sd_notify::NotifyState;
use serde_json::{Map, Value, json};
use telemetry::{AccessLog, AccessLogWriter, Destination, LogError, Metrics, start_log};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::{lock, reload, upgrade};
use super::cores::Cores;
use super::deny::DenyLists;
use super::doors::{Doors, Giveable};
use super::generation::Living;
use super::handover::{Belongings, LISTENERS, Predecessor, all_there};
use super::material;
use super::prepare::{Occasion, prepare};
use super::reload::{Last, Reloader};
use super::sockets::Inherited;
use super::stores::Tasks;
use super::wall_clock;
use super::watch::{POLL, SETTLE, Watch};
use crate::config::model::{LogFormat, LogLevel, LogTarget};
use crate::config::{self, Checked, Problems};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Written with all addresses once the gateway is ready.
    pub ready_file: Option<PathBuf>,
}

/// Why the gateway did not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The access log can't be opened.
    #[error("the access log cannot be opened: {0}")]
    AccessLog(std::io::Error),
    /// An admin address can't be bound.
    #[error("`admin.{0}` cannot be bound to {1}: {2}")]
    Admin(&'static str, SocketAddr, std::io::Error),
    /// The configuration has problems.
    #[error("the configuration has problems")]
    Config(Problems),
    /// The control socket can't be made.
    #[error(transparent)]
    Control(#[from] SocketError),
    /// The log can't be started.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A listener can't be bound, or a thread not started.
    #[error("{0}")]
    Start(String),
    /// The system refused something that every process needs.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// Runs the gateway until it is told to end.
///
/// # Errors
/// When it can't start; a running gateway ends without an error.
pub fn run(options: &Options) -> Result<(), RunError> {
    let (predecessor, belongings) = Predecessor::from_environment()?.unzip();
    let ended = run_after(options, predecessor.as_ref(), belongings);
    if let (Err(error), Some(predecessor)) = (&ended, &predecessor) {
        predecessor.refuse(&match error {
            RunError::Config(problems) => problems.to_string(),
            other => other.to_string(),
        });
    }
    ended
}

fn run_after(
    options: &Options,
    predecessor: Option<&Predecessor>,
    belongings: Option<Belongings>,
) -> Result<(), RunError> {
    tls::install_default();
    identity::jwt::install_crypto_provider();
    let checked = config::load(&options.config, wall_clock()).map_err(RunError::Config)?;
    let format = match checked.config.log_format {
        LogFormat::Json => telemetry::LogFormat::Json,
        LogFormat::Pretty => telemetry::LogFormat::Pretty,
    };
    let log_level = start_log(format, log_filter(checked.config.log_level))?;
    let count = match checked.config.cores {
        Some(cores) => cores.get(),
        None => std::thread::available_parallelism()?.get(),
    };
    let metrics = Metrics::new(count);
    hook_panics(&metrics);
    let (access_log, writer) = AccessLog::open(destination(&checked.config.access_log), metrics.clone())
        .map_err(RunError::AccessLog)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let readiness = Readiness::new();
    let deny = DenyLists::new();
    let reloader = Reloader {
        file: options.config.clone(),
        living: Living::default(),
        material: material::Watch::default(),
        inherited: Inherited::new(belongings),
        addresses: BTreeMap::new(),
        closed: BTreeMap::new(),
        open: BTreeMap::new(),
        doors: Giveable::default(),
        holds_back: predecessor.is_some(),
        succeeded: CancellationToken::new(),
        ended: BTreeMap::new(),
        unresolved: Vec::new(),
        cores: Cores {
            count,
            metrics: metrics.clone(),
            access_log,
            running: Vec::new(),
            deny: deny.reader(),
            snapshot: None,
        },
        deny,
        metrics,
        key_sets: Arc::default(),
        readiness,
        log_level,
        serving: None,
        fingerprint: [0; 32],
        tried: [0; 32],
        generation: 0,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        work: Tasks::default(),
        published: Arc::default(),
        turn: Arc::default(),
        last: Last { at: wall_clock(), problems: Vec::new() },
        started: wall_clock(),
    };
    runtime.block_on(serve(options, reloader, checked, &writer, predecessor))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !writer.close(Duration::from_secs(2)) {
        tracing::warn!("the access log could not be written to its end");
    }
    Ok(())
}

async fn serve(
    options: &Options,
    mut reloader: Reloader,
    checked: Checked,
    access_log: &AccessLogWriter,
    predecessor: Option<&Predecessor>,
) -> Result<(), RunError> {
    // Signals first: one that comes while we start must not kill what has begun.
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: signal(SignalKind::hangup())?,
        upgrade: signal(SignalKind::user_defined2())?,
    };
    let admin = checked.config.admin.clone();
    let stop = reloader.stop.clone();
    let tasks = reloader.tasks.clone();
    let starting = reloader.readiness.task(LISTENERS);
    let readiness = reloader.readiness.clone();
    let metrics = reloader.metrics.clone();
    let key_sets = reloader.key_sets.clone();

    let doors = Doors::bind(&admin, &mut reloader.inherited).await?;
    reloader.doors = doors.giveable()?;
    let work = reloader.work.clone();
    let prepared = prepare(checked, &reloader.living, &work, Occasion::Start).await;
    let published = prepared
        .map_err(RunError::Config)
        .and_then(|prepared| reloader.publish(prepared).map_err(RunError::Start));
    let generation = match published {
        Ok(generation) => generation,
        Err(error) => {
            work.end().await;
            return Err(error);
        }
    };
    metrics.config_loaded(generation, wall_clock());
    reloader.inherited.close_unused();
    if predecessor.is_some()
        && let Err(error) = all_there(&readiness).await
    {
        work.end().await;
        return Err(error);
    }
    reloader.holds_back = false;
    reloader.open_listeners();
    if let Some(file) = &options.ready_file {
        write_ready_file(file, &reloader, &doors)?;
    }
    say_where(&reloader, &doors);
    let reloader = Arc::new(Mutex::new(reloader));
    let succeeded = lock(&reloader).succeeded.clone();
    doors.open(&reloader, &metrics, &key_sets, &readiness, &succeeded, &tasks);
    drop(starting);
    notify_systemd(&[NotifyState::Ready]);
    if let Some(predecessor) = predecessor {
        predecessor.ready();
    }

    follow(&reloader, &mut signals, access_log).await;

    tracing::info!("draining");
    let pace = if succeeded.is_cancelled() {
        Pace::Spread
    } else {
        readiness.set_draining();
        notify_systemd(&[NotifyState::Stopping]);
        Pace::AtOnce
    };
    tokio::select! {
        () = drain(&reloader, pace) => {}
        () = ended(&mut signals.terminate, &mut signals.interrupt) => tracing::warn!("told again: not waiting any longer"),
    }
    stop.cancel();
    // The doors stayed open while requests ended.
    succeeded.cancel();
    tasks.close();
    // A successor that has not said anything yet is not waited for.
    if timeout(Duration::from_secs(5), tasks.wait()).await.is_err() {
        tracing::warn!("something did not end");
    }
    work.end().await;
    tracing::info!("stopped");
    Ok(())
}

/// What the system tells the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    upgrade: Signal,
}

async fn ended(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Takes what changes, until the gateway is told to end.
async fn follow(reloader: &Arc<Mutex<Reloader>>, signals: &mut Signals, access_log: &AccessLogWriter) {
    let mut watch = Watch::new();
    let (published, succeeded) = {
        let reloader = lock(reloader);
        (reloader.published.clone(), reloader.succeeded.clone())
    };
    watch.watch(lock(reloader).files());
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unsettled = false;
    let mut looks = 0_u64;
    loop {
        let asked = tokio::select! {
            () = ended(&mut signals.terminate, &mut signals.interrupt) => return,
            () = succeeded.cancelled() => return,
            _ = signals.upgrade.recv() => {
                // In the background: meanwhile this program can be told to end. Problems are logged.
                lock(reloader).tasks.clone().spawn(upgrade(reloader.clone()));
                continue;
            }
            _ = signals.hang_up.recv() => {
                access_log.reopen();
                true
            }
            () = watch.changed.notified() => {
                sleep(SETTLE).await;
                // A file that a refused configuration lacked may be there now.
                lock(reloader).is_refused()
            }
            () = sleep(SETTLE), if unsettled => false,
            () = published.notified() => false,
            _ = ticks.tick() => {
                looks += 1;
                looks.is_multiple_of(RETRY) && lock(reloader).is_refused()
            }
        };
        unsettled = lock(reloader).look(wall_clock());
        if lock(reloader).has_changed() || asked {
            notify_reloading();
            tokio::select! {
                () = ended(&mut signals.terminate, &mut signals.interrupt) => return,
                // What is refused is logged, shown by `status` and counted where it is refused.
                _ = reload(reloader.clone()) => {}
            }
            watch.watch(lock(reloader).files());
            notify_systemd(&[NotifyState::Ready]);
        }
    }
}

/// A refused configuration is tried again after so many looks: what it named may be there by now, unseen.
const RETRY: u64 = 5;

/// Ends the cores: gracefully until the deadline, then at once.
async fn drain(reloader: &Arc<Mutex<Reloader>>, pace: Pace) {
    let (cores, deadline) = lock(reloader).end();
    for core in &cores {
        if core.commands.send(Command::Drain(Drain { deadline, pace })).is_err() {
            tracing::warn!("a core had ended before it was told to");
        }
    }
    let joining = tokio::task::spawn_blocking(move || cores.into_iter().for_each(proxy::CoreHandle::join));
    if timeout(deadline + Duration::from_secs(5), joining).await.is_err() {
        tracing::error!("a core did not end");
    }
}

/// Says where everything is, whole or not at all: a reader never sees half a file.
fn write_ready_file(file: &Path, reloader: &Reloader, doors: &Doors) -> std::io::Result<()> {
    let listeners: Map<String, Value> =
        reloader.addresses.iter().map(|(name, at)| (name.to_string(), json!(at.to_string()))).collect();
    let mut all = Map::from_iter([
        ("pid".to_owned(), json!(std::process::id())),
        ("listeners".to_owned(), Value::Object(listeners)),
    ]);
    all.extend(doors.addresses().map(|(name, at)| (name.to_owned(), json!(at))));
    let all = Value::Object(all);
    let making = file.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&making, format!("{all}\n"))?;
    std::fs::rename(&making, file)
}

fn say_where(reloader: &Reloader, doors: &Doors) {
    for (name, address) in reloader.addresses.iter() {
        match reloader.waits_for(name) {
            None => tracing::info!(listener = %name, %address, "listening"),
            Some(waits_for) => tracing::warn!(listener = %name, %address, waits_for, "not open yet"),
        }
    }
    for (name, address) in doors.addresses() {
        if let Some(address) = address {
            tracing::info!(door = name, address, "listening");
        }
    }
}

/// Counts panics and logs where they were; what they say may hold what a request held, and stays out.
fn hook_panics(metrics: &Arc<Metrics>) {
    let metrics = metrics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panicked();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task panicked: it takes its connection with it");
    }));
}

fn destination(target: &LogTarget) -> Destination {
    match target {
        LogTarget::File(reference) => Destination::File(reference.path.clone()),
        LogTarget::Off => Destination::Off,
        LogTarget::Stderr => Destination::Stderr,
        LogTarget::Stdout => Destination::Stdout,
    }
}

pub(super) fn log_filter(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug,zentinel_modsec=off",
        LogLevel::Error => "error,zentinel_modsec=off",
        // h2 warns of what peers do wrong, the rules' engine of what it was given: peers must not write our log.
        LogLevel::Info => "info,h2=error,zentinel_modsec=off",
        LogLevel::Trace => "trace,zentinel_modsec=off",
        LogLevel::Warn => "warn,h2=error,zentinel_modsec=off",
    }
}

fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify_systemd(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
}

/// Without systemd this does nothing.
pub(super) fn notify_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
