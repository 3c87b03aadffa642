//! Whether the gateway is ready: what it still waits for, and what does not work as it should.
//!
//! Ready means that nothing is pending and no shutdown has begun. What is degraded still serves, so it is told and
//! does not make the gateway unready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state behind `/readyz`; clones are the same state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Names with how many guards of each are held.
    pending: BTreeMap<String, usize>,
    degraded: BTreeMap<String, String>,
    draining: bool,
}

/// Something that must be done before the gateway is ready; dropping it says that it is done.
#[derive(Debug)]
#[must_use = "the task counts as done as soon as this is dropped"]
pub struct Pending {
    readiness: Readiness,
    task: String,
}

/// What `/readyz` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Whether new requests are welcome.
    pub ready: bool,
    /// Whether the gateway is shutting down.
    pub draining: bool,
    /// What it still waits for.
    pub pending: Vec<String>,
    /// What does not work as it should, with the reason.
    pub degraded: BTreeMap<String, String>,
}

impl Readiness {
    /// Ready, as long as no task is named.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names something to wait for.
    pub fn task(&self, name: impl Into<String>) -> Pending {
        let task = name.into();
        *self.state().pending.entry(task.clone()).or_default() += 1;
        Pending { readiness: self.clone(), task }
    }

    /// Says that a shutdown has begun; there is no way back.
    pub fn set_draining(&self) {
        self.state().draining = true;
    }

    /// Says that something does not work as it should, and why; once for each name.
    pub fn degraded(&self, name: impl Into<String>, reason: impl Into<String>) {
        self.state().degraded.insert(name.into(), reason.into());
    }

    /// Says that something works again.
    pub fn recovered(&self, name: &str) {
        self.state().degraded.remove(name);
    }

    /// What there is to say.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = self.state();
        Report {
            ready: state.pending.is_empty() && !state.draining,
            draining: state.draining,
            pending: state.pending.keys().cloned().collect(),
            degraded: state.degraded.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut state = self.readiness.state();
        if let Some(held) = state.pending.get_mut(&self.task) {
            *held -= 1;
            if *held == 0 {
                state.pending.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_the_last_task_is_done() {
        let readiness = Readiness::new();
        let first = readiness.task("listeners");
        let second = readiness.task("listeners");
        drop(first);
        assert_eq!(readiness.report().pending, ["listeners"]);
        assert!(!readiness.report().ready);
        drop(second);
        assert!(readiness.report().ready);
    }

    #[test]
    fn draining_is_never_ready_again() {
        let readiness = Readiness::new();
        readiness.set_draining();
        drop(readiness.task("listeners"));
        assert!(!readiness.report().ready);
    }

    #[test]
    fn degraded_is_told_and_stays_ready() {
        let readiness = Readiness::new();
        readiness.degraded("jwks staff", "fetch timed out");
        assert!(readiness.report().ready);
        assert_eq!(readiness.report().degraded["jwks staff"], "fetch timed out");
        readiness.recovered("jwks staff");
        assert!(readiness.report().degraded.is_empty());
    }
}
