//! The decision, and the only place that makes a [`Permit`].

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::Engine;
use crate::facts::{Facts, RouteIndex};
use crate::source::PolicyId;
use crate::subject::Subject;

/// Proof that policy allowed one request. Nothing else makes one, and it cannot be copied.
#[derive(Debug)]
#[must_use = "a permit is there to be handed to the upstream with its request"]
pub struct Permit {
    decision: DecisionId,
    policies: Arc<[PolicyId]>,
    ends: Option<SystemTime>,
}

impl Permit {
    /// The policies that allowed it, in the order of their ids.
    #[must_use]
    pub fn policies(&self) -> &[PolicyId] {
        &self.policies
    }

    /// The earliest end of the proofs that it rests on: the request's lease.
    #[must_use]
    pub const fn ends(&self) -> Option<SystemTime> {
        self.ends
    }

    /// The decision's id in the logs.
    #[must_use]
    pub const fn decision_id(&self) -> DecisionId {
        self.decision
    }
}

/// A request that policy does not allow.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Denial {
    /// Why.
    pub reason: DenialReason,
    /// The policies that forbid it, or that erred, in the order of their ids.
    pub policies: Arc<[PolicyId]>,
    /// The decision's id in the logs.
    pub decision_id: DecisionId,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum DenialReason {
    /// No policy permits it.
    #[error("no policy permits the request")]
    NoPermit,
    /// A policy forbids it.
    #[error("a policy forbids the request")]
    Forbidden,
    /// A policy erred, and none forbids it by name.
    #[error("a policy could not be evaluated")]
    PolicyError,
    /// The principal's claims or the route are not those that this generation was compiled for.
    #[error("the principal or the route belongs to another generation of the configuration")]
    Stale,
}

impl DenialReason {
    /// The stable code for clients and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoPermit => "POLICY_NO_PERMIT",
            Self::Forbidden => "POLICY_FORBIDDEN",
            Self::PolicyError => "POLICY_ERROR",
            Self::Stale => "POLICY_STALE",
        }
    }
}

/// A decision's id: in the log record, and in the answer to the client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct DecisionId(u64);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Decides; one per core. Its memory is bounded and belongs to one generation.
#[derive(Debug, Default)]
pub struct Decider {
    next: u64,
}

impl Decider {
    /// A decider that remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// May `subject` do this on `route`?
    ///
    /// # Errors
    /// A [`Denial`] that says why not.
    pub fn decide(
        &mut self,
        _engine: &Arc<Engine>,
        _subject: &Arc<Subject>,
        _route: RouteIndex,
        facts: &Facts<'_>,
    ) -> Result<Permit, Denial> {
        self.next = self.next.wrapping_add(1);
        let decision = DecisionId(self.next);
        if false {
            return Ok(Permit { decision, policies: Arc::new([]), ends: facts.ends });
        }
        Err(Denial { reason: DenialReason::NoPermit, policies: Arc::new([]), decision_id: decision })
    }
}
