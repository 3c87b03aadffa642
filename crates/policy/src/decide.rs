//! The decision, and the only place that makes a [`Permit`].

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::SystemTime;

use cedar_policy::Entities;

use crate::engine::{Engine, Generation, Slot};
use crate::facts::{Facts, RouteIndex, ScopeIndex};
use crate::partial::Partial;
use crate::recent::Recent;
use crate::source::PolicyId;
use crate::subject::Subject;
use crate::verdict::{Findings, Verdict};

/// Proof that policy allowed one request. Nothing else makes one, and it cannot be copied.
#[derive(Debug)]
#[must_use = "a permit is there to be handed to the upstream with its request"]
pub struct Permit {
    decision: DecisionId,
    policies: Arc<[PolicyId]>,
    ends: Option<SystemTime>,
}

impl Permit {
    /// The permit of a copy of the same request, which tells another service of it.
    pub fn of_copy(&self) -> Self {
        Self { decision: self.decision, policies: self.policies.clone(), ends: self.ends }
    }

    /// The policies that allowed it, in the order of their ids.
    #[must_use]
    pub fn policies(&self) -> &[PolicyId] {
        &self.policies
    }

    /// The same, shared, for a record that outlives the permit.
    #[must_use]
    pub fn shared_policies(&self) -> Arc<[PolicyId]> {
        self.policies.clone()
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

/// Decides; one per core. What it remembers is bounded and belongs to one generation.
#[derive(Debug)]
pub struct Decider {
    next: u64,
    generation: u64,
    remembered: Recent<(u64, Slot), Remembered>,
}

/// What is the same for a subject on one route by one action, whatever else the request says.
#[derive(Clone, Debug)]
enum Remembered {
    /// All of it.
    Verdict(Verdict),
    /// What the policies say that do not read the request.
    Findings(Arc<Findings>),
    /// What there is to evaluate whole policies with.
    Entities(Arc<Entities>),
}

impl Default for Decider {
    fn default() -> Self {
        Self::new()
    }
}

impl Decider {
    /// A decider that remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            // A start of its own for each, so that ids of different cores and runs do not meet.
            next: RandomState::new().hash_one(()),
            generation: 0,
            remembered: Recent::new(REMEMBERED),
        }
    }

    /// May `subject` do this on `route`?
    ///
    /// # Errors
    /// A [`Denial`] that says why not.
    pub fn decide(
        &mut self,
        engine: &Arc<Engine>,
        subject: &Arc<Subject>,
        route: RouteIndex,
        facts: &Facts<'_>,
    ) -> Result<Permit, Denial> {
        self.next = self.next.wrapping_add(1);
        let decision = DecisionId(self.next);
        let slot = engine.generation().slot(route, subject, facts);
        let verdict = self.verdict(engine, subject, slot, facts);
        engine.generation().count(&verdict);
        match verdict.outcome {
            Ok(()) => Ok(Permit { decision, policies: verdict.policies, ends: facts.ends }),
            Err(reason) => Err(Denial { reason, policies: verdict.policies, decision_id: decision }),
        }
    }

    /// May a token that is minted for this request of `subject` carry `scope`? Whatever is wrong, it may not.
    pub fn grants(
        &mut self,
        engine: &Engine,
        subject: &Subject,
        scope: ScopeIndex,
        facts: &Facts<'_>,
    ) -> bool {
        let slot = engine.generation().grant_slot(scope, subject);
        let verdict = self.verdict(engine, subject, slot, facts);
        engine.generation().count(&verdict);
        verdict.outcome.is_ok()
    }

    fn verdict(
        &mut self,
        engine: &Engine,
        subject: &Subject,
        slot: Option<Slot>,
        facts: &Facts<'_>,
    ) -> Verdict {
        let generation = engine.generation();
        let Some(slot) = slot else {
            return Verdict::denied(DenialReason::Stale);
        };
        if !subject.conforms_to(&generation.claims) {
            return Verdict::denied(DenialReason::Stale);
        }
        // First: where there are thousands of routes, what this core remembers is nearer than what all share.
        let (remembers, key) = (self.remembers(generation, subject), (subject.serial(), slot));
        let remembered = if remembers { self.remembered.find(&key) } else { None };
        if let Some(Remembered::Verdict(verdict)) = remembered {
            return verdict;
        }
        let partial = match generation.partial(slot) {
            Some(Partial::Constant(verdict)) => return verdict.clone(),
            Some(partial) => partial,
            None => {
                engine.request(slot);
                return generation.verdict(generation.find_plainly(slot, subject, facts));
            }
        };
        let remembered = remembered.unwrap_or_else(|| {
            let found = Remembered::new(generation, partial, slot, subject, facts);
            if remembers {
                self.remembered.insert(key, found.clone());
            }
            found
        });
        let findings = match (partial, remembered) {
            (_, Remembered::Verdict(verdict)) => return verdict,
            (Partial::Residual(residual), Remembered::Findings(findings)) => {
                generation.find_in(&residual.of_request, slot, subject, facts, Findings::clone(&findings))
            }
            (Partial::Whole(reads), Remembered::Entities(entities)) => {
                generation.find_whole(slot, subject, facts, *reads, &entities)
            }
            _ => None,
        };
        generation.verdict(findings)
    }

    /// How many decisions are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.remembered.len()
    }

    /// Whether there is memory for this request; ask once. One that still holds an older generation than the last one seen is decided
    /// without, so that two generations never share it; so is a subject that comes for the first time, for most come once.
    fn remembers(&mut self, generation: &Generation, subject: &Subject) -> bool {
        if generation.serial > self.generation {
            self.remembered.clear();
            self.generation = generation.serial;
        }
        generation.serial == self.generation && subject.is_known()
    }
}

impl Remembered {
    fn new(
        generation: &Generation,
        partial: &Partial,
        slot: Slot,
        subject: &Subject,
        facts: &Facts<'_>,
    ) -> Self {
        let findings = match partial {
            Partial::Constant(verdict) => return Self::Verdict(verdict.clone()),
            Partial::Residual(residual) => {
                let part = &residual.of_principal;
                match generation.find_in(part, slot, subject, facts, residual.known.clone()) {
                    Some(findings) if !residual.of_request.by_principal.is_empty() => {
                        return Self::Findings(Arc::new(findings));
                    }
                    findings => findings,
                }
            }
            Partial::Whole(reads) => match generation.entities(slot, subject) {
                Some(entities) if !reads.is_free_of_context() => return Self::Entities(Arc::new(entities)),
                Some(entities) => generation.find_whole(slot, subject, facts, *reads, &entities),
                None => None,
            },
        };
        Self::Verdict(generation.verdict(findings))
    }
}

/// Remembered decisions per core: half of what is kept at most. An entry takes about 100 bytes, one with entities 1 KB.
const REMEMBERED: usize = 16_384;
