//! Why a request is allowed or denied, or a scope granted or not, found by plain Cedar over all policies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cedar_policy::{AuthorizationError, Authorizer};

use crate::decide::DenialReason;
use crate::engine::{Engine, Generation, Slot};
use crate::facts::{Facts, RouteIndex, ScopeIndex};
use crate::index::Groups;
use crate::reads::Reads;
use crate::source::{Effect, PolicyId, Rule};
use crate::subject::Subject;
use crate::verdict::{Findings, Verdict};

/// A decision with all that led to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// `Ok` if the request is allowed, else why it is not.
    pub decision: Result<(), DenialReason>,
    /// The policies that decided; none if nothing permits.
    pub policies: Vec<PolicyNote>,
    /// The policies that erred, enforced ones only.
    pub errors: Vec<PolicyFault>,
    /// What each `@shadow` policy that applied or erred would have done.
    pub shadows: Vec<ShadowNote>,
}

/// A policy and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyNote {
    /// Its id.
    pub id: PolicyId,
    /// What it does.
    pub effect: Effect,
    /// Its file.
    pub path: PathBuf,
    /// The line it starts on, counted from 1.
    pub line: u32,
    /// The column it starts at, counted from 1.
    pub column: u32,
    /// All its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A policy that erred, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyFault {
    /// The policy.
    pub policy: PolicyNote,
    /// Cedar's message.
    pub message: String,
}

/// A `@shadow` policy that applied or erred.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShadowNote {
    /// The policy.
    pub policy: PolicyNote,
    /// Whether it would have turned the decision.
    pub would_change: bool,
    /// Its error, if it erred.
    pub error: Option<String>,
}

impl Explanation {
    /// Whether the request is allowed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.decision.is_ok()
    }

    fn denied(reason: DenialReason) -> Self {
        Self { decision: Err(reason), policies: Vec::new(), errors: Vec::new(), shadows: Vec::new() }
    }
}

impl Engine {
    /// Why `subject` may or may not do this: plain Cedar over all policies, for people and not for traffic.
    #[must_use]
    pub fn explain(&self, subject: &Subject, route: RouteIndex, facts: &Facts<'_>) -> Explanation {
        self.explain_slot(self.generation().slot(route, subject, facts), subject, facts)
    }

    /// Why a token that is minted for this request may or may not carry `scope`.
    #[must_use]
    pub fn explain_grant(&self, subject: &Subject, scope: ScopeIndex, facts: &Facts<'_>) -> Explanation {
        self.explain_slot(self.generation().grant_slot(scope, subject), subject, facts)
    }

    fn explain_slot(&self, slot: Option<Slot>, subject: &Subject, facts: &Facts<'_>) -> Explanation {
        let generation = self.generation();
        match slot {
            Some(slot) if subject.conforms_to(&generation.claims) => {
                explain(generation, slot, subject, facts)
                    .unwrap_or_else(|| Explanation::denied(DenialReason::PolicyError))
            }
            _ => Explanation::denied(DenialReason::Stale),
        }
    }
}

/// `None` if the request cannot be put to Cedar.
fn explain(generation: &Generation, slot: Slot, subject: &Subject, facts: &Facts<'_>) -> Option<Explanation> {
    let request = generation.cedar_request(slot, subject, facts, Reads::EVERYTHING)?;
    let entities = generation.entities(slot, subject)?;
    let mut everything = Groups::default();
    for rule in &generation.rules {
        everything.add(rule, rule.policy.clone())?;
    }
    let mut findings = Findings::default();
    let mut messages = BTreeMap::new();
    for set in everything.sets() {
        let response = Authorizer::new().is_authorized(&request, set, &entities);
        for id in response.diagnostics().reason() {
            findings.satisfied.push(generation.index.number(id)?);
        }
        for AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
            let number = generation.index.number(error.policy_id())?;
            findings.erred.push(number);
            messages.insert(number, error.inner().to_string());
        }
    }
    let verdict = Verdict::new(&generation.rules, &findings);
    let rule = |number: u32| generation.rules.get(usize::try_from(number).ok()?);
    Some(Explanation {
        decision: verdict.outcome,
        policies: generation
            .rules
            .iter()
            .filter(|rule| verdict.policies.contains(&rule.id))
            .map(note)
            .collect(),
        errors: messages
            .iter()
            .filter_map(|(number, message)| Some((rule(*number)?, message)))
            .filter(|(rule, _)| !rule.is_shadow)
            .map(|(rule, message)| PolicyFault { policy: note(rule), message: message.clone() })
            .collect(),
        shadows: verdict
            .shadows()
            .iter()
            .filter_map(|shadow| {
                Some(ShadowNote {
                    policy: note(rule(shadow.policy)?),
                    would_change: shadow.would_change,
                    error: messages.get(&shadow.policy).cloned(),
                })
            })
            .collect(),
    })
}

fn note(rule: &Rule) -> PolicyNote {
    PolicyNote {
        id: rule.id.clone(),
        effect: rule.effect,
        path: rule.place.path.clone(),
        line: rule.place.line,
        column: rule.place.column,
        annotations: rule.annotations.clone(),
    }
}
