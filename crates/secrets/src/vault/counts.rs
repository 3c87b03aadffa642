//! How many requests came to what.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::answer::Operation;

/// By operation and outcome.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<(Operation, &'static str), u64>>);

impl Counts {
    pub(super) fn count(&self, operation: Operation, outcome: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((operation, outcome)).or_default() += 1;
    }

    pub(super) fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((operation, outcome), count)| (operation.word(), *outcome, *count)).collect()
    }
}
