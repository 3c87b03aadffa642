//! What `@shadow` policies would have done.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::source::{Effect, PolicyId, Rule};
use crate::verdict::Shadow;

/// How often a `@shadow` policy applied since its generation was compiled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShadowCount {
    /// The policy.
    pub policy: PolicyId,
    /// Whether it would permit or forbid.
    pub effect: Effect,
    /// Decisions in which it applied.
    pub applied: u64,
    /// Decisions that it would have turned: denied for want of a permit, allowed without this forbid, or allowed
    /// although this policy erred.
    pub would_change: u64,
    /// Decisions in which it erred.
    pub erred: u64,
}

/// A counter for each policy that is a shadow.
#[derive(Debug)]
pub(crate) struct Counters(Vec<Option<Box<Counter>>>);

#[derive(Debug, Default)]
struct Counter {
    applied: AtomicU64,
    would_change: AtomicU64,
    erred: AtomicU64,
}

impl Counters {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        Self(rules.iter().map(|rule| rule.is_shadow.then(Box::default)).collect())
    }

    pub(crate) fn add(&self, shadows: &[Shadow]) {
        for shadow in shadows {
            let Some(counter) =
                usize::try_from(shadow.policy).ok().and_then(|number| self.0.get(number)?.as_ref())
            else {
                continue;
            };
            let counted = if shadow.has_erred { &counter.erred } else { &counter.applied };
            counted.fetch_add(1, Ordering::Relaxed);
            counter.would_change.fetch_add(shadow.would_change.into(), Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self, rules: &[Rule]) -> Vec<ShadowCount> {
        self.0
            .iter()
            .zip(rules)
            .filter_map(|(counter, rule)| {
                let counter = counter.as_ref()?;
                Some(ShadowCount {
                    policy: rule.id.clone(),
                    effect: rule.effect,
                    applied: counter.applied.load(Ordering::Relaxed),
                    would_change: counter.would_change.load(Ordering::Relaxed),
                    erred: counter.erred.load(Ordering::Relaxed),
                })
            })
            .collect()
    }
}
