//! The loop that keeps one piece of material fresh.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::SourceError;
use crate::plan::{self, Setback};
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
    /// When the next try is planned.
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

impl<S: Source> Keeper<S> {
    /// A job that has nothing yet. `wake` changes when the store came back, when a login was replaced, or when the operator asks: then
    /// a job that fails, or looks again by plan, tries at once (a healthy certificate is not renewed by it).
    #[must_use]
    pub fn new(source: S, clock: Clock, wake: watch::Receiver<u64>) -> Self {
        let (progress, _) = watch::channel(Progress::default());
        Self { source, clock, wake, progress, setback: None, overlap_ends: None }
    }

    /// Where the job stands, now and whenever it changes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// One try before anything is published; [`Keeper::run`] goes on from it. The caller publishes the material.
    ///
    /// # Errors
    /// Why there is nothing: if [`SourceError::is_configuration`] the configuration should be refused, else `run` tries on.
    pub async fn prepare(&mut self) -> Result<S::Material, SourceError> {
        let _ = &mut self.source;
        todo!("rotation")
    }

    /// Keeps the material fresh until `stop`, then gives back what it holds, within 5 s.
    pub async fn run(mut self, mut sink: impl Sink<S::Material>, stop: CancellationToken) {
        let _ = (&mut self, &mut sink);
        stop.cancelled().await;
    }

    /// Gives back what [`Keeper::prepare`] obtained: the configuration was refused.
    pub async fn abandon(mut self) {
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.source.close()).await;
    }
}

/// How long a job may take to give back what it holds.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
