//! Handles to the series of one route, listener, upstream, limit or minter of tokens.
//!
//! A snapshot keeps the handles, so that a request looks nothing up. As long as anybody holds a handle its series
//! exists; the same name gives the same handle, so that counters survive a reload; when the last holder is gone,
//! the next scrape forgets the series.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::per_core::{Counter, Level, PerCore, Words, raise};

/// What a route answered, and how long it took.
#[derive(Debug)]
pub struct RouteSeries {
    answers: AnswerSeries,
    pub(crate) tunnels: Level,
}

/// The answers of a route; clones are the same. Who has one beside the handle of its series finds its counters one step sooner.
#[derive(Clone, Debug)]
pub struct AnswerSeries(PerCore<Answers>);

/// What every answer counts lies side by side.
#[derive(Debug, Default)]
#[repr(C)]
struct Answers {
    nanoseconds: AtomicU64,
    by_class: [AtomicU64; CLASSES.len()],
    by_duration: [AtomicU64; BOUNDS.len() + 1],
}

impl AnswerSeries {
    /// Counts an answered request: its status, and the time from its head to the end of its answer.
    pub fn record(&self, core: usize, status: u16, duration: Duration) {
        let Some(answers) = self.0.on(core) else { return };
        let class = usize::from(status / 100).wrapping_sub(1).min(CLASSES.len() - 1);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        for (counter, by) in [
            (answers.by_class.get(class), 1),
            (answers.by_duration.get(bucket), 1),
            (Some(&answers.nanoseconds), nanoseconds),
        ] {
            if let Some(counter) = counter {
                raise(counter, by, self.0.is_own(core));
            }
        }
    }
}

impl RouteSeries {
    pub(crate) fn new(cores: usize) -> Self {
        Self { answers: AnswerSeries(PerCore::new(cores)), tunnels: Level::new(cores) }
    }

    /// Its answers.
    #[must_use]
    pub const fn answers(&self) -> &AnswerSeries {
        &self.answers
    }

    /// Counts a tunnel that was opened, open until the guard is dropped.
    #[must_use]
    pub fn tunnel(self: &Arc<Self>, core: usize) -> OpenTunnel {
        self.tunnels.change(core, 1);
        OpenTunnel { route: Arc::clone(self), core }
    }

    /// Status classes with their counts.
    pub(crate) fn classes(&self) -> [(&'static str, u64); CLASSES.len()] {
        let mut sums = CLASSES.map(|class| (class, 0));
        for answers in self.answers.0.iter() {
            for ((_, sum), count) in sums.iter_mut().zip(&answers.by_class) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        sums
    }

    /// The sum of all durations, and the buckets by their upper bound, both in seconds.
    pub(crate) fn durations(&self) -> (f64, Vec<(f64, u64)>) {
        let bounds = BOUNDS.iter().map(|bound| Duration::from_nanos(*bound).as_secs_f64());
        let mut buckets: Vec<_> = bounds.chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
        let mut sum = 0.0;
        for answers in self.answers.0.iter() {
            sum += Duration::from_nanos(answers.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
            for ((_, total), count) in buckets.iter_mut().zip(&answers.by_duration) {
                *total += count.load(Ordering::Relaxed);
            }
        }
        (sum, buckets)
    }
}

/// A tunnel that counts as open until this is dropped.
#[derive(Debug)]
pub struct OpenTunnel {
    route: Arc<RouteSeries>,
    core: usize,
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.route.tunnels.change(self.core, -1);
    }
}

/// The connections of a listener.
#[derive(Debug)]
pub struct ListenerSeries {
    pub(crate) accepted: Counter,
    pub(crate) open: Level,
    pub(crate) handshake_failures: Words,
    pub(crate) floods: Words,
    pub(crate) validations: Words,
    by_core: Level,
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    listener: Arc<ListenerSeries>,
    core: usize,
}

impl ListenerSeries {
    pub(crate) fn new(cores: usize, by_core: Level) -> Self {
        Self {
            accepted: Counter::new(cores),
            open: Level::new(cores),
            handshake_failures: Words::new(cores),
            floods: Words::new(cores),
            validations: Words::new(cores),
            by_core,
        }
    }

    /// Counts an accepted connection, open until the guard is dropped.
    #[must_use]
    pub fn accepted(self: &Arc<Self>, core: usize) -> OpenConnection {
        self.accepted.add(core);
        self.open.change(core, 1);
        self.by_core.change(core, 1);
        OpenConnection { listener: Arc::clone(self), core }
    }

    /// Counts a handshake that failed, by a word for its cause (`timeout`, `no_certificate`, `proxy_header`, …).
    pub fn handshake_failed(&self, core: usize, cause: &'static str) {
        self.handshake_failures.add(core, cause);
    }

    /// Counts a question of another proxy, by the verdict (`permitted`, `refused`).
    pub fn validated(&self, core: usize, verdict: &'static str) {
        self.validations.add(core, verdict);
    }

    /// Counts a connection that was closed for a flood of HTTP/2 frames, by the kind of frame that was one too many.
    pub fn flooded(&self, core: usize, frames: &'static str) {
        self.floods.add(core, frames);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.listener.open.change(self.core, -1);
        self.listener.by_core.change(self.core, -1);
    }
}

/// What became of copies of a route's requests.
#[derive(Debug)]
pub struct MirrorSeries(pub(crate) Words);

impl MirrorSeries {
    pub(crate) fn new(cores: usize) -> Self {
        Self(Words::new(cores))
    }

    /// Counts a copy that was sent (`answered`, `failed`, `timeout`) or not (`full`, `too_large`, `incomplete`, `unavailable`).
    pub fn counted(&self, core: usize, result: &'static str) {
        self.0.add(core, result);
    }
}

/// What was known of a route's requests with an idempotency key.
#[derive(Debug)]
pub struct IdempotencySeries(pub(crate) Words);

impl IdempotencySeries {
    pub(crate) fn new(cores: usize) -> Self {
        Self(Words::new(cores))
    }

    /// Counts a request that was done (`first`), answered again (`replayed`) or refused (`busy`, `conflict`, `not_kept`, `full`), and
    /// an answer that was forgotten before its time (`evicted`).
    pub fn counted(&self, core: usize, result: &'static str) {
        self.0.add(core, result);
    }
}

/// What became of a route's answers that could be compressed.
#[derive(Debug)]
pub struct CompressionSeries {
    pub(crate) results: Words,
    pub(crate) taken: Counter,
    pub(crate) given: Counter,
}

impl CompressionSeries {
    pub(crate) fn new(cores: usize) -> Self {
        Self { results: Words::new(cores), taken: Counter::new(cores), given: Counter::new(cores) }
    }

    /// Counts an answer that is compressed, by its coding (`br`, `gzip`), or for which there was no place (`busy`).
    pub fn counted(&self, core: usize, result: &'static str) {
        self.results.add(core, result);
    }

    /// Counts bytes of an answer before they were compressed.
    pub fn took(&self, core: usize, bytes: usize) {
        self.taken.add_all(core, bytes as u64);
    }

    /// Counts bytes that came out.
    pub fn gave(&self, core: usize, bytes: usize) {
        self.given.add_all(core, bytes as u64);
    }
}

/// What the core rule set said of a route's requests.
#[derive(Debug)]
pub struct InspectionSeries(pub(crate) Words);

impl InspectionSeries {
    pub(crate) fn new(cores: usize) -> Self {
        Self(Words::new(cores))
    }

    /// Counts a request that passed (`passed`), looked like an attack (`detected`, `blocked`), or could not be judged (`busy`, `timeout`,
    /// `failed`), and a body that was too large to be looked at (`too_large`).
    pub fn counted(&self, core: usize, result: &'static str) {
        self.0.add(core, result);
    }
}

/// Where minted tokens came from.
#[derive(Debug)]
pub struct TokenSeries(pub(crate) Words);

impl TokenSeries {
    pub(crate) fn new(cores: usize) -> Self {
        Self(Words::new(cores))
    }

    /// Counts a token that was made (`minted`), handed out again (`cached`), or could not be had (`unavailable`).
    pub fn counted(&self, core: usize, result: &'static str) {
        self.0.add(core, result);
    }
}

/// What a limit refused, and how full its table is.
#[derive(Debug)]
pub struct LimitSeries {
    pub(crate) rejections: Counter,
    pub(crate) keys: AtomicU64,
    pub(crate) evictions: AtomicU64,
}

impl LimitSeries {
    pub(crate) fn new(cores: usize) -> Self {
        Self { rejections: Counter::new(cores), keys: AtomicU64::new(0), evictions: AtomicU64::new(0) }
    }

    /// Counts a refusal.
    pub fn rejected(&self, core: usize) {
        self.rejections.add(core);
    }

    /// Takes over what the limit's table says of itself; for a tick of the control runtime.
    pub fn table(&self, keys: usize, evictions: u64) {
        self.keys.store(keys as u64, Ordering::Relaxed);
        self.evictions.store(evictions, Ordering::Relaxed);
    }
}

/// Status classes; what is none of the first four counts as the last.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Upper bounds of the duration buckets, in nanoseconds: 500 µs to 30 s.
const BOUNDS: [u64; 15] = {
    const MILLISECOND: u64 = 1_000_000;
    [
        MILLISECOND / 2,
        MILLISECOND,
        MILLISECOND * 5 / 2,
        MILLISECOND * 5,
        MILLISECOND * 10,
        MILLISECOND * 25,
        MILLISECOND * 50,
        MILLISECOND * 100,
        MILLISECOND * 250,
        MILLISECOND * 500,
        MILLISECOND * 1_000,
        MILLISECOND * 2_500,
        MILLISECOND * 5_000,
        MILLISECOND * 10_000,
        MILLISECOND * 30_000,
    ]
};
