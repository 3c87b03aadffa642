//! The loop that keeps one piece of material fresh.
//!
//! It waits for what [`plan`] says, tries, hands what passed to the sink and plans again; it never gives up and never tries twice
//! within a second. A wait ends by whichever clock comes first, the wall's (a machine that slept) or the monotonic one (a wall clock
//! that was set back). What the former material kept is given back when the sink says that nobody uses it, or 5 min later.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::SourceError;
use crate::plan::{self, LONGEST, Setback, after};
use crate::source::{Life, Obtained, Sink, Source};

/// Tells the time: the edge of the program gives it.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Keeps the material of one source fresh.
pub struct Keeper<S> {
    source: S,
    clock: Clock,
    wake: watch::Receiver<u64>,
    progress: watch::Sender<Progress>,
    setback: Option<Setback>,
    /// When the last try began.
    tried: Option<Instant>,
    /// Until when the former material may stay in use before it is retired all the same.
    overlap_ends: Option<Instant>,
}

/// Where a job stands, for `status` and metrics.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The life of what serves; nothing as long as nothing was obtained.
    pub held: Option<Life>,
    /// Tries that failed since the last that went well.
    pub failures: u32,
    /// The last failure; stays after a success.
    pub last_error: Option<Failure>,
    /// When the next try is planned; none before the first plan, and for what is never obtained again.
    pub next: Option<SystemTime>,
    /// How often new material was obtained.
    pub renewals: u64,
}

/// A failed try.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// [`SourceError::word`].
    pub word: &'static str,
    /// [`SourceError::is_configuration`].
    pub is_configuration: bool,
    /// When.
    pub at: SystemTime,
}

/// Whether a success brought new material.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Renewed {
    Yes,
    No,
}

/// The end of a wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waited {
    Due,
    Stopped,
}

impl<S: Source> Keeper<S> {
    /// A job that has nothing yet. `wake` changes when the store came back, when a login was replaced, or when the operator asks: then
    /// a job that fails, looks again by plan, or holds what is superseded tries at once; a healthy certificate is not renewed by it.
    #[must_use]
    pub fn new(source: S, clock: Clock, wake: watch::Receiver<u64>) -> Self {
        let (progress, _) = watch::channel(Progress::default());
        Self { source, clock, wake, progress, setback: None, tried: None, overlap_ends: None }
    }

    /// Where the job stands, now and whenever it changes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// One try before [`Keeper::run`], which goes on from it. The caller publishes the material.
    ///
    /// # Errors
    /// Why there is nothing: if [`SourceError::is_configuration`] the configuration should be refused, else `run` tries on.
    pub async fn prepare(&mut self) -> Result<S::Material, SourceError> {
        self.tried = Some(Instant::now());
        let obtained = match self.source.obtain(None, (self.clock)()).await {
            Ok(Obtained::New(material, life)) => Ok((material, life)),
            Ok(Obtained::Extended(_) | Obtained::Unchanged(_)) => Err(SourceError::Nothing),
            Err(error) => Err(error),
        };
        match &obtained {
            Ok((_, life)) => self.succeeded(*life, Renewed::Yes),
            Err(error) => self.failed(error),
        }
        obtained.map(|(material, _)| material)
    }

    /// Keeps the material fresh until `stop`, then gives back what it holds: a try under way has 5 s to end, giving back has as long.
    pub async fn run(mut self, mut sink: impl Sink<S::Material>, stop: CancellationToken) {
        let mut wait = self.plan();
        while self.wait(wait, &mut sink, &stop).await == Waited::Due {
            let Some(obtained) = self.obtain(&stop).await else { break };
            let had_former = self.held().is_some();
            match obtained {
                Ok(Obtained::New(material, life)) => {
                    sink.publish(material, &life);
                    self.succeeded(life, Renewed::Yes);
                    if had_former && self.overlap_ends.is_none() {
                        self.overlap_ends = Some(Instant::now() + OVERLAP_MOST);
                    }
                    wait = self.plan();
                }
                Ok(Obtained::Extended(life) | Obtained::Unchanged(life)) => {
                    sink.confirmed(&life);
                    self.succeeded(life, Renewed::No);
                    wait = self.plan();
                }
                Err(error) => {
                    self.failed(&error);
                    wait = self.plan();
                    sink.failed(&error, after((self.clock)(), wait.unwrap_or(LONGEST)));
                }
            }
        }
        self.abandon().await;
    }

    /// Gives back what [`Keeper::prepare`] obtained, within 5 s: the configuration was refused.
    pub async fn abandon(mut self) {
        if tokio::time::timeout(CLOSE_WITHIN, self.source.close()).await.is_err() {
            tracing::warn!("a store did not take back in time what it had lent; it ends by itself");
        }
    }

    fn held(&self) -> Option<Life> {
        self.progress.borrow().held
    }

    /// One try; nothing if it was stopped. A try under way may end: what it acquires must not be lost.
    async fn obtain(
        &mut self,
        stop: &CancellationToken,
    ) -> Option<Result<Obtained<S::Material>, SourceError>> {
        self.tried = Some(Instant::now());
        let held = self.held();
        let mut obtaining = pin!(self.source.obtain(held.as_ref(), (self.clock)()));
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                let _ended_or_not = tokio::time::timeout(CLOSE_WITHIN, &mut obtaining).await;
                None
            }
            obtained = &mut obtaining => Some(obtained),
        }
    }

    fn succeeded(&mut self, life: Life, renewed: Renewed) {
        self.setback = None;
        self.progress.send_modify(|progress| {
            progress.held = Some(life);
            progress.failures = 0;
            progress.renewals += u64::from(renewed == Renewed::Yes);
        });
    }

    fn failed(&mut self, error: &SourceError) {
        let at = (self.clock)();
        self.setback = Some(Setback {
            failures: self.setback.map_or(1, |last| last.failures.saturating_add(1)),
            class: error.class(),
            retry_after: error.retry_after(),
        });
        self.progress.send_modify(|progress| {
            progress.failures = progress.failures.saturating_add(1);
            progress.last_error = Some(Failure {
                reason: error.to_string(),
                word: error.word(),
                is_configuration: error.is_configuration(),
                at,
            });
        });
    }

    /// How long to wait; nothing: until woken.
    fn plan(&self) -> Option<Duration> {
        let now = (self.clock)();
        let wait = plan::next(self.held().as_ref(), self.setback.as_ref(), now, fastrand::f64());
        self.progress.send_modify(|progress| progress.next = wait.map(|wait| after(now, wait)));
        wait
    }

    /// Waits; retires the former material meanwhile.
    async fn wait(
        &mut self,
        wait: Option<Duration>,
        sink: &mut impl Sink<S::Material>,
        stop: &CancellationToken,
    ) -> Waited {
        let began = Instant::now();
        let earliest = self.tried.map_or(began, |tried| tried + plan::MIN_GAP);
        let due_by_wall = wait.map(|wait| after((self.clock)(), wait));
        let stagger = plan::stagger(self.held().as_ref(), (self.clock)(), fastrand::f64());
        let mut due = (began + wait.unwrap_or(LONGEST).min(LONGEST)).max(earliest);
        loop {
            if self.setback.is_none() && self.source.is_superseded() {
                due = due.min((began + stagger).max(earliest));
            }
            self.retire(sink).await;
            let now = Instant::now();
            if now >= due || now >= earliest && due_by_wall.is_some_and(|due| (self.clock)() >= due) {
                return Waited::Due;
            }
            let look = if self.overlap_ends.is_some() { OVERLAP_LOOK } else { LOOK };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Waited::Stopped,
                () = woken(&mut self.wake) => if self.wants_to_be_woken() {
                    due = due.min((Instant::now() + stagger).max(earliest));
                    // Should this try come a moment too early, the next follows soon and not after a long outage's wait.
                    self.setback = self.setback.map(|setback| Setback { failures: 0, ..setback });
                },
                () = tokio::time::sleep_until(due.min(now + look)) => {}
            }
        }
    }

    fn wants_to_be_woken(&self) -> bool {
        self.setback.is_some()
            || self.source.is_superseded()
            || self.held().is_none_or(|life| life.again_in.is_some())
    }

    async fn retire(&mut self, sink: &mut impl Sink<S::Material>) {
        let Some(ends) = self.overlap_ends else { return };
        if sink.is_former_in_use() && Instant::now() < ends {
            return;
        }
        self.overlap_ends = None;
        // What could not be given back is given back with the next one, or ends by itself.
        let _given_back = tokio::time::timeout(CLOSE_WITHIN, self.source.retire()).await;
    }
}

/// The next change; never if nobody can make one any more.
pub(crate) async fn woken(wake: &mut watch::Receiver<u64>) {
    if wake.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How long a job may take to give back what it holds.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long the former material may stay in use.
const OVERLAP_MOST: Duration = Duration::from_secs(300);
const OVERLAP_LOOK: Duration = Duration::from_secs(1);
/// How soon a jump of the wall clock is seen.
const LOOK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
