//! Whether the cluster is asked at all: one circuit breaker, one prober's schedule, and how many ask at a time.
//!
//! A cause that says that the cluster is away (no connection, TLS, sealed, no active node) opens the breaker at once; one
//! that may be a single request's (timeout, 5xx, an answer that cannot be used) asks the prober, and opens it when the
//! prober agrees or the third comes in a row. While it is open nobody but the prober asks. Too many requests (429) halve
//! how many may ask at a time and pause everybody for as long as the cluster said.

#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Cause;

#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
    /// Wakes the prober.
    wanted: Notify,
    /// Wakes one that waits for its turn.
    turn: Notify,
    /// Counts the times that the cluster came back: from being away, a pause, a drill.
    returned: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// Why it is open, and since when.
    open: Option<(Cause, Instant)>,
    /// The last request's failure, if it failed: for `status` only.
    last: Option<(Cause, Instant)>,
    /// Failures in a row that may be a single request's.
    failures: u32,
    /// Whether the prober is to look although it is closed.
    is_suspect: bool,
    /// The end of the last pause.
    paused_until: Option<Instant>,
    /// Whether that end has not been announced yet.
    is_paused: bool,
    /// Pauses in a row.
    throttles: u32,
    cut: Option<Cut>,
    /// How many may ask at a time; a float, so that it grows by one per round.
    limit: f64,
    asking: u32,
}

/// A drill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) since: Instant,
    pub(super) until: Instant,
}

/// The right to ask; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Breaker);

/// What the prober is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Probe {
    /// Ask the nodes' health, not before this time.
    At(Instant),
    /// Nothing; look again when woken, or at this time, when a pause or a drill ends.
    Idle(Option<Instant>),
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                open: None,
                last: None,
                failures: 0,
                is_suspect: false,
                paused_until: None,
                is_paused: false,
                throttles: 0,
                cut: None,
                limit: MOST,
                asking: 0,
            }),
            wanted: Notify::new(),
            turn: Notify::new(),
            returned: watch::Sender::new(0),
        }
    }

    /// Whether a request may be made now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, now: Instant) -> Result<(), Cause> {
        self.lock().check(now)
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// As [`Breaker::check`], also while waiting.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, Cause> {
        loop {
            let freed = self.turn.notified();
            {
                let mut state = self.lock();
                if let Err(cause) = state.check(Instant::now()) {
                    self.turn.notify_one(); // Who waits behind is told as well.
                    return Err(cause);
                }
                if f64::from(state.asking) < state.limit {
                    state.asking += 1;
                    return Ok(Turn(self));
                }
            }
            freed.await;
        }
    }

    /// What a request came to; `jitter` from 0 to 1.
    pub(super) fn report(&self, cause: Option<&Cause>, now: Instant, jitter: f64) {
        let is_wanted = self.lock().report(cause, now, jitter);
        if is_wanted {
            self.wanted.notify_one();
        }
    }

    /// What the prober found; true if the breaker has closed or opened by it.
    pub(super) fn probed(&self, found: Result<(), Cause>, now: Instant) -> bool {
        let mut state = self.lock();
        state.is_suspect = false;
        let was_open = state.open.is_some();
        match found {
            Ok(()) => {
                if state.open.take().is_some() {
                    state.last = None;
                }
                // Well but for what it is asked: one more such failure is enough.
                state.failures = state.failures.min(IN_A_ROW - 1);
            }
            Err(cause) => {
                let since = state.open.take().map_or(now, |(_, since)| since);
                state.open = Some((cause, since));
            }
        }
        let is_open = state.open.is_some();
        drop(state);
        if was_open && !is_open {
            self.announce();
        }
        was_open != is_open
    }

    /// What the prober is to do, having probed at `last`; `jitter` from 0 to 1.
    pub(super) fn next_probe(&self, last: Option<Instant>, now: Instant, jitter: f64) -> Probe {
        let mut state = self.lock();
        let ended = state.end_waits(now);
        let step = match (&state.open, state.is_suspect) {
            _ if state.cut.is_some() => Probe::Idle(state.cut.map(|cut| cut.until)),
            (None, false) => Probe::Idle(state.paused_until.filter(|_| state.is_paused)),
            (open, _) => {
                let since = open.as_ref().map_or(now, |(_, since)| *since);
                Probe::At(last.map_or(now, |last| last + probe_gap(now - since, jitter)))
            }
        };
        drop(state);
        if ended {
            self.announce();
        }
        step
    }

    /// Resolves when the prober should look again.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Cuts the path, or ends the cut.
    pub(super) fn cut(&self, lasts: Duration, now: Instant) {
        self.lock().cut = Some(Cut { since: now, until: now + lasts });
        self.wanted.notify_one();
    }

    pub(super) fn cut_at(&self, now: Instant) -> Option<Cut> {
        self.lock().cut.filter(|cut| now < cut.until)
    }

    /// Why the cluster gives nothing, and since when; none if the last request was answered.
    pub(super) fn failure(&self, now: Instant) -> Option<(Cause, Instant)> {
        let state = self.lock();
        let cut = state.cut.filter(|cut| now < cut.until).map(|cut| (Cause::Drill, cut.since));
        cut.or_else(|| state.open.clone()).or_else(|| state.last.clone())
    }

    /// Why nobody is asking.
    pub(super) fn away(&self) -> Option<Cause> {
        self.lock().open.as_ref().map(|(cause, _)| cause.clone())
    }

    /// Counts the times that the cluster came back.
    pub(super) fn returned(&self) -> watch::Receiver<u64> {
        self.returned.subscribe()
    }

    fn announce(&self) {
        self.returned.send_modify(|count| *count += 1);
        self.turn.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self, now: Instant) -> Result<(), Cause> {
        if self.cut.is_some_and(|cut| now < cut.until) {
            return Err(Cause::Drill);
        }
        if let Some((cause, _)) = &self.open {
            return Err(Cause::Away(Box::new(cause.clone())));
        }
        match self.paused_until {
            Some(until) if now < until => Err(Cause::Throttled { retry_after: Some(until - now) }),
            _ => Ok(()),
        }
    }

    /// Takes note of an outcome; true if the prober should look.
    fn report(&mut self, cause: Option<&Cause>, now: Instant, jitter: f64) -> bool {
        let since = self.last.take().map_or(now, |(_, since)| since);
        let Some(cause) = cause.filter(|cause| !cause.is_configuration()) else {
            self.failures = 0;
            self.limit = (self.limit + 1.0 / self.limit).min(MOST);
            return false;
        };
        self.last = Some((cause.clone(), since));
        match cause {
            Cause::Throttled { retry_after } => {
                let is_another = self.paused_until.is_some_and(|until| now < until + CALM);
                self.throttles = if is_another { self.throttles + 1 } else { 1 };
                self.limit = (self.limit / 2.0).max(1.0);
                let pause = retry_after
                    .map_or_else(|| unasked_pause(self.throttles, jitter), |asked| asked.min(LONGEST_PAUSE));
                self.paused_until = self.paused_until.max(Some(now + pause));
                self.is_paused = true;
                true
            }
            Cause::Timeout | Cause::Server { .. } | Cause::Answer(_) => {
                self.failures += 1;
                self.is_suspect = true;
                self.open_if(self.failures >= IN_A_ROW, cause, now)
            }
            Cause::Inconsistent | Cause::LeaseLost => false,
            _ => self.open_if(true, cause, now),
        }
    }

    fn open_if(&mut self, holds: bool, cause: &Cause, now: Instant) -> bool {
        if holds && self.open.is_none() {
            self.open = Some((cause.clone(), now));
        }
        true
    }

    /// Forgets a pause or a drill that is over; true if there was one.
    fn end_waits(&mut self, now: Instant) -> bool {
        let pause = self.is_paused && self.paused_until.is_none_or(|until| until <= now);
        self.is_paused &= !pause;
        let cut = self.cut.take_if(|cut| cut.until <= now).is_some();
        pause || cut
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.asking = state.asking.saturating_sub(1);
        drop(state);
        self.0.turn.notify_one();
    }
}

/// From the start of one probe to the next: 1 to 2 s in the first minute, then 1.5 to 2.5 s. rotation.md has 15 s there; with the
/// stagger of the jobs (2 s at most) the store's return counts within five seconds.
fn probe_gap(away: Duration, jitter: f64) -> Duration {
    let base = if away < Duration::from_secs(60) { 1.0 } else { 1.5 };
    Duration::from_secs_f64(base + jitter)
}

/// A pause that the cluster did not ask for: 1 s at first, doubling, with full jitter in its upper half; never so long that
/// recovery takes more than 5 s.
fn unasked_pause(throttles: u32, jitter: f64) -> Duration {
    let most = f64::from(1_u32 << throttles.clamp(1, 3)) / 2.0;
    Duration::from_secs_f64(most * (0.5 + jitter / 2.0))
}

/// How many may ask at a time.
const MOST: f64 = 16.0;
/// So many failures in a row, each of which may be a single request's, are the cluster's.
const IN_A_ROW: u32 = 3;
/// Two pauses are in a row when less than this is between them.
const CALM: Duration = Duration::from_secs(5);
/// The longest pause that a cluster can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
