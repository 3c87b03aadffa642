//! A core: one thread, one current-thread runtime, and all that its connections share without a lock.

mod drain;
mod loads;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use identity::Principal;
use identity::deny::DenyList;
use policy::Decider;
use slab::Slab;
use telemetry::{AccessLog, CoreLog, Metrics, TraceIds};
use tls::Slot;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

use crate::authenticate::Caller;
use crate::connection::{self, Connection};
use crate::deny::Deny;
use crate::lease::{LeaseEnd, Leases};
use crate::listener::{self, Arrival, Gate, Socket};
use crate::snapshot::Snapshot;
use crate::token::MintedTokens;
use crate::token_cache::TokenCache;
use crate::tunnel::{PIECE, Pulse};
use crate::upstream::{Pools, Queues};
pub use loads::Loads;

/// Which core this is, counted from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CoreId(pub usize);

impl CoreId {
    /// The place of this core's shard in every metric.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What all cores are made of.
#[derive(Clone)]
pub struct CoreSpec {
    /// How many cores there are.
    pub count: usize,
    /// The current generation.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where numbers go.
    pub metrics: Arc<Metrics>,
    /// Where records go.
    pub access_log: AccessLog,
    /// Verified tokens that each core keeps, and as many minted ones.
    pub tokens: usize,
    /// Who and what counts no longer; empty while nobody is denied.
    pub deny: Slot<DenyList>,
    /// The one clock that requests are judged by.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// What the control side tells a core.
#[derive(Debug)]
pub enum Command {
    /// Serve a connection that another core accepted.
    Adopt(Arrival),
    /// Accept on a socket.
    Listen(Socket),
    /// Stop accepting on a listener and end its connections gracefully.
    Close(Arc<str>),
    /// Stop accepting, end gracefully, then cut.
    Drain(Drain),
}

/// How a core ends its connections.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// What has not ended by then is cut.
    pub deadline: Duration,
    /// Who is told to go, and when.
    pub pace: Pace,
}

/// Who is told to go, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// Everybody, now: the process must end.
    AtOnce,
    /// Who is quiet, now; who is busy, spread over the second half of the deadline: another process has the sockets, and
    /// its clients need not all come at the same moment.
    Spread,
}

/// Speaks to a running core. The core ends when it is told to drain, not when this is dropped: the cores speak to
/// each other, too.
#[derive(Debug)]
pub struct CoreHandle {
    /// Commands to the core.
    pub commands: UnboundedSender<Command>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// One core's own state.
pub struct Core {
    /// Which one.
    pub id: CoreId,
    /// Tasks that end with the core.
    pub tasks: TaskTracker,
    pub(crate) tokens: RefCell<TokenCache>,
    pub(crate) minted: RefCell<MintedTokens>,
    pub(crate) decider: RefCell<Decider>,
    pub(crate) deny: Deny,
    pub(crate) pools: RefCell<Pools>,
    pub(crate) queues: RefCell<Queues>,
    pub(crate) log: RefCell<CoreLog>,
    pub(crate) trace_ids: TraceIds,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) anonymous: Caller,
    pub(crate) connections: RefCell<Slab<Rc<Connection>>>,
    /// Of answers on their way to clients, and of tunnels.
    pub(crate) leases: RefCell<Leases>,
    /// Open tunnels, for their clocks.
    pub(crate) tunnels: RefCell<Slab<Rc<Pulse>>>,
    /// What is read of tunnels and upstreams, on its way.
    pub(crate) read_buffer: RefCell<Box<[u8]>>,
    /// What is written to upstreams, on its way.
    pub(crate) write_buffer: RefCell<Vec<u8>>,
    /// How many answers are being compressed.
    pub(crate) compressing: Rc<Cell<usize>>,
    pub(crate) draining: Cell<bool>,
    pub(crate) gate: Arc<Gate>,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    published: Arc<ArcSwap<Snapshot>>,
    held: RefCell<Held>,
    tick: Cell<Instant>,
    told: Cell<Option<Instant>>,
}

/// A core's own handle to a snapshot: cloned for each request without touching what other cores count on.
#[derive(Clone, Debug)]
#[expect(
    clippy::redundant_allocation,
    reason = "the outer count is the core's, the inner one is shared by all"
)]
pub struct Held(Rc<Arc<Snapshot>>);

impl Held {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(Rc::new(snapshot))
    }
}

impl std::ops::Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Core {
    /// The current generation. Between publications this touches nothing that another core writes.
    #[must_use]
    pub fn snapshot(&self) -> Held {
        let published = self.published.load();
        let mut held = self.held.borrow_mut();
        if !Arc::ptr_eq(&published, &held.0) {
            *held = Held::new(Arc::clone(&published));
        }
        held.clone()
    }

    /// The time that a request is judged at.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// The time of the last tick: good to a quarter of a second, and free.
    #[must_use]
    pub fn tick(&self) -> Instant {
        self.tick.get()
    }

    /// True about once a second: for what a newcomer must find in the log and an attacker must not flood it with.
    pub(crate) fn may_tell(&self) -> bool {
        let now = self.tick();
        let may =
            self.told.get().is_none_or(|told| now.saturating_duration_since(told) >= Duration::from_secs(1));
        if may {
            self.told.set(Some(now));
        }
        may
    }

    /// Counts a lease that ended before its answer did.
    pub(crate) fn lease_ended(&self, why: LeaseEnd) {
        self.metrics.lease_ended(self.id.index(), why.as_str());
    }

    /// Every quarter of a second: timeouts of connections, live leases, unused upstream connections, the access log.
    fn on_tick(&self) {
        let now = Instant::now();
        self.tick.set(now);
        let snapshot = self.snapshot();
        let wall = self.now();
        for (_, connection) in self.connections.borrow().iter() {
            connection.judge(self, &snapshot, now, wall);
        }
        self.leases.borrow().judge(&snapshot, now, wall);
        self.leases.borrow_mut().review(self, &snapshot, now, wall);
        for (_, tunnel) in self.tunnels.borrow().iter() {
            tunnel.judge(now);
        }
        self.pools.borrow_mut().sweep(now);
        self.log.borrow_mut().flush();
    }
}

/// Starts the cores: each is a thread of its own. They serve nothing until a [`Command::Listen`] comes.
///
/// # Errors
/// When the system gives no thread.
pub fn start(spec: &CoreSpec) -> std::io::Result<Vec<CoreHandle>> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..spec.count).map(|_| unbounded_channel()).unzip();
    let gate = Arc::new(Gate::new(senders.clone()));
    senders
        .into_iter()
        .zip(receivers)
        .enumerate()
        .map(|(index, (commands, inbox))| {
            let (spec, gate) = (spec.clone(), gate.clone());
            let thread = std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
                if let Err(cause) = run(CoreId(index), spec, gate, inbox) {
                    tracing::error!(core = index, %cause, "a core cannot run");
                }
            })?;
            Ok(CoreHandle { commands, thread: Some(thread) })
        })
        .collect()
}

impl CoreHandle {
    /// Waits until the core has ended; blocks.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a core ended with a panic");
        }
    }
}

fn run(
    id: CoreId,
    spec: CoreSpec,
    gate: Arc<Gate>,
    inbox: UnboundedReceiver<Command>,
) -> std::io::Result<()> {
    // Measured: to look for I/O every 256 tasks instead of 61 saves 6 % CPU (performance.md section 5); to take up so many events at once
    // and no more saves 12 % with 256 busy connections, whose memory does not fit into the cache together (tests/bench/README.md).
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(256)
        .max_io_events_per_tick(EVENTS)
        .build_local(LocalOptions::default())?;
    let core = Rc::new(Core {
        id,
        tasks: TaskTracker::new(),
        tokens: RefCell::new(TokenCache::new(spec.tokens)),
        minted: RefCell::new(MintedTokens::new(spec.tokens)),
        decider: RefCell::new(Decider::new()),
        deny: Deny::new(spec.deny, id, spec.metrics.clone()),
        pools: RefCell::default(),
        queues: RefCell::default(),
        log: RefCell::new(spec.access_log.core()),
        trace_ids: TraceIds::new(),
        metrics: spec.metrics,
        anonymous: Caller::new(Arc::new(Principal::anonymous()), None),
        connections: RefCell::default(),
        leases: RefCell::new(Leases::new(Instant::now())),
        tunnels: RefCell::default(),
        read_buffer: RefCell::new(vec![0; PIECE].into()),
        write_buffer: RefCell::default(),
        compressing: Rc::default(),
        draining: Cell::new(false),
        gate,
        clock: spec.clock,
        held: RefCell::new(Held::new(spec.snapshot.load_full())),
        published: spec.snapshot,
        tick: Cell::new(Instant::now()),
        told: Cell::new(None),
    });
    runtime.block_on(obey(core, inbox));
    Ok(())
}

/// The core's main task.
async fn obey(core: Rc<Core>, mut inbox: UnboundedReceiver<Command>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listening = listener::Listening::default();
    let drain = loop {
        tokio::select! {
            _ = ticks.tick() => tick(&core),
            command = inbox.recv() => match command {
                Some(Command::Adopt(arrival)) => connection::adopt(&core, arrival),
                Some(Command::Listen(socket)) => listening.open(&core, socket),
                Some(Command::Close(name)) => listening.close(&core, &name),
                Some(Command::Drain(drain)) => break drain,
                None => break Drain { deadline: Duration::ZERO, pace: Pace::AtOnce },
            }
        }
    };
    listening.close_all();
    drain::end_connections(&core, &mut inbox, drain).await;
    core.log.borrow_mut().flush();
}

/// A fault in housekeeping must not end the core with all its connections.
fn tick(core: &Core) {
    if catch_unwind(AssertUnwindSafe(|| core.on_tick())).is_err() {
        tracing::error!(core = core.id.index(), "housekeeping panicked: it is tried again at the next tick");
    }
}

/// Events that are taken up at once: what is read is sent before more is read.
const EVENTS: usize = 32;

const TICK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
