//! What the tests share: a clock that moves with tokio's paused one, a source that follows a script, a sink that writes down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrets::{Cause, StoreError};
use tokio::time::Instant;

use crate::{Clock, Life, Obtained, Sink, Source, SourceError};

/// 2027-01-15 plus the time that has passed in this runtime.
pub(crate) fn clock() -> Clock {
    let began = Instant::now();
    Arc::new(move || start() + began.elapsed())
}

pub(crate) fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Seconds since [`start`].
pub(crate) fn second(time: SystemTime) -> f64 {
    time.duration_since(start()).unwrap().as_secs_f64()
}

pub(crate) fn away() -> SourceError {
    failed(Cause::Timeout)
}

pub(crate) fn failed(cause: Cause) -> SourceError {
    StoreError { store: "main".to_owned(), cause }.into()
}

/// Answers of a script; each call is written down.
pub(crate) struct Scripted<F> {
    pub(crate) script: F,
    pub(crate) notes: Notes,
    pub(crate) clock: Clock,
    pub(crate) superseded: Arc<AtomicBool>,
}

/// What happened, in order, with the time since [`start`] in seconds.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<(f64, Note)>>>);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Note {
    Asked,
    Published(u64),
    Confirmed,
    Failed,
    Retired,
    Closed,
}

impl Notes {
    pub(crate) fn add(&self, now: SystemTime, note: Note) {
        self.0.lock().unwrap().push((second(now), note));
    }

    pub(crate) fn all(&self) -> Vec<(f64, Note)> {
        self.0.lock().unwrap().clone()
    }

    /// When this happened.
    pub(crate) fn times(&self, note: Note) -> Vec<f64> {
        self.all().iter().filter(|(_, one)| *one == note).map(|(at, _)| *at).collect()
    }

    pub(crate) fn published(&self) -> Vec<u64> {
        let value = |(_, note)| match note {
            Note::Published(value) => Some(value),
            _ => None,
        };
        self.all().into_iter().filter_map(value).collect()
    }
}

impl<F> Source for Scripted<F>
where
    F: FnMut(usize, SystemTime) -> Result<Obtained<u64>, SourceError> + Send,
{
    type Material = u64;

    async fn obtain(&mut self, _held: Option<&Life>, now: SystemTime) -> Result<Obtained<u64>, SourceError> {
        self.notes.add(now, Note::Asked);
        let call = self.notes.times(Note::Asked).len();
        (self.script)(call, now)
    }

    fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    async fn retire(&mut self) {
        self.notes.add((self.clock)(), Note::Retired);
    }

    async fn close(&mut self) {
        self.notes.add((self.clock)(), Note::Closed);
    }
}

/// A sink that writes down; `in_use` says whether the former material is.
pub(crate) struct Recorder<U = fn() -> bool> {
    pub(crate) notes: Notes,
    pub(crate) clock: Clock,
    pub(crate) in_use: U,
}

impl<U: Fn() -> bool + Send> Sink<u64> for Recorder<U> {
    fn publish(&mut self, material: u64, _life: &Life) {
        self.notes.add((self.clock)(), Note::Published(material));
    }

    fn confirmed(&mut self, _life: &Life) {
        self.notes.add((self.clock)(), Note::Confirmed);
    }

    fn failed(&mut self, _error: &SourceError, next: SystemTime) {
        assert!(next > (self.clock)());
        self.notes.add((self.clock)(), Note::Failed);
    }

    fn is_former_in_use(&self) -> bool {
        (self.in_use)()
    }
}
