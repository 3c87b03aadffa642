//! What `@shadow` policies would have done.

use crate::source::{Effect, PolicyId};

/// How often a `@shadow` policy applied since its generation was compiled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShadowCount {
    /// The policy.
    pub policy: PolicyId,
    /// Whether it would permit or forbid.
    pub effect: Effect,
    /// Decisions in which it applied.
    pub applied: u64,
    /// Decisions that it would have turned: denied for want of a permit, or allowed without this forbid.
    pub would_change: u64,
    /// Decisions in which it erred.
    pub erred: u64,
}
