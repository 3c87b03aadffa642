//! From what each policy said to one verdict.

use std::sync::Arc;

use crate::decide::DenialReason;
use crate::source::{Effect, PolicyId, Rule};

/// What the candidate policies said, by their numbers. A policy that is in neither list did not apply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Findings {
    pub(crate) satisfied: Vec<u32>,
    pub(crate) erred: Vec<u32>,
}

/// A decision before it has an id and a lease. Cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Result<(), DenialReason>,
    /// The policies that decided, in the order of their ids.
    pub(crate) policies: Arc<[PolicyId]>,
    /// None if there are none: every clone would count on what hardly anybody reads.
    shadows: Option<Arc<[Shadow]>>,
}

/// What a `@shadow` policy would have done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Shadow {
    /// The policy's number.
    pub(crate) policy: u32,
    pub(crate) has_erred: bool,
    pub(crate) would_change: bool,
}

impl Verdict {
    /// A denial that no policy decided.
    pub(crate) fn denied(reason: DenialReason) -> Self {
        Self { outcome: Err(reason), policies: Arc::new([]), shadows: None }
    }

    /// What the `@shadow` policies would have done.
    pub(crate) fn shadows(&self) -> &[Shadow] {
        self.shadows.as_deref().unwrap_or_default()
    }

    /// One forbid denies; else one error denies, where Cedar alone would skip the erring policy; else one permit
    /// allows. Shadows have no say.
    pub(crate) fn new(rules: &[Rule], findings: &Findings) -> Self {
        let Some(satisfied) = resolve(rules, &findings.satisfied) else {
            return Self::denied(DenialReason::PolicyError);
        };
        let Some(erred) = resolve(rules, &findings.erred) else {
            return Self::denied(DenialReason::PolicyError);
        };
        let enforced = |of: &[(u32, &Rule)], is_wanted: &dyn Fn(&Rule) -> bool| {
            let mut ids: Vec<PolicyId> = of
                .iter()
                .filter(|(_, rule)| !rule.is_shadow && is_wanted(rule))
                .map(|(_, rule)| rule.id.clone())
                .collect();
            ids.sort();
            ids
        };
        let forbids = enforced(&satisfied, &|rule| rule.effect == Effect::Forbid);
        let errors = enforced(&erred, &|_| true);
        let permits = enforced(&satisfied, &|rule| rule.effect == Effect::Permit);
        let (outcome, policies) = if !forbids.is_empty() {
            (Err(DenialReason::Forbidden), forbids)
        } else if !errors.is_empty() {
            (Err(DenialReason::PolicyError), errors)
        } else if !permits.is_empty() {
            (Ok(()), permits)
        } else {
            (Err(DenialReason::NoPermit), Vec::new())
        };
        let mut shadows: Vec<Shadow> = satisfied
            .iter()
            .map(|entry| (entry, false))
            .chain(erred.iter().map(|entry| (entry, true)))
            .filter(|((_, rule), _)| rule.is_shadow)
            .map(|((policy, rule), has_erred)| Shadow {
                policy: *policy,
                has_erred,
                would_change: would_change(outcome, rule.effect, has_erred),
            })
            .collect();
        shadows.sort_by_key(|shadow| shadow.policy);
        let shadows = (!shadows.is_empty()).then(|| shadows.into());
        Self { outcome, policies: policies.into(), shadows }
    }
}

/// Whether a policy that applied or erred would turn `outcome` if it alone were enforced as well.
fn would_change(outcome: Result<(), DenialReason>, effect: Effect, has_erred: bool) -> bool {
    match (outcome, effect) {
        (Ok(()), Effect::Forbid) => true,
        (Ok(()), Effect::Permit) => has_erred,
        (Err(DenialReason::NoPermit), Effect::Permit) => !has_erred,
        (Err(_), _) => false,
    }
}

fn resolve<'a>(rules: &'a [Rule], numbers: &[u32]) -> Option<Vec<(u32, &'a Rule)>> {
    numbers.iter().map(|number| Some((*number, rules.get(usize::try_from(*number).ok()?)?))).collect()
}
