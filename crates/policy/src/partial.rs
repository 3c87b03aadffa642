//! What remains of the policies for one (principal type, action, resource), before any request is known.

use std::sync::atomic::{AtomicUsize, Ordering};

use cedar_policy::{
    Entities, PartialEntities, PartialEntityUid, PartialRequest, Policy, PolicySet, Schema, TpeResponse,
};

use crate::action::Action;
use crate::index::{ByPrincipal, Index, principal_key};
use crate::names::EntityType;
use crate::reads::Reads;
use crate::resource::Resource;
use crate::source::Rule;
use crate::verdict::{Findings, Verdict};

/// The outcome of a partial evaluation.
#[derive(Debug)]
pub(crate) enum Partial {
    /// Nothing remains: every request of this kind gets this verdict.
    Constant(Verdict),
    /// Something remains.
    Residual(Residual),
    /// Too much would remain, or Cedar cannot evaluate partially: the policies stay whole and are found by their
    /// scope. They read this.
    Whole(Reads),
}

/// Policies that still depend on the principal or the context, beside what is known of the others.
#[derive(Debug)]
pub(crate) struct Residual {
    /// INVARIANT: carries every policy that is already satisfied or already errs; those that are false say nothing.
    pub(crate) known: Findings,
    count: usize,
    /// What reads nothing but the principal: evaluated once per subject.
    pub(crate) of_principal: Part,
    /// What reads the request: evaluated each time.
    pub(crate) of_request: Part,
}

/// Remains of policies, and what they read.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) by_principal: ByPrincipal,
    pub(crate) reads: Reads,
}

/// Up to this many residuals stand in one group: finding a principal's own costs about as much as evaluating one.
const FEW: usize = 2;

/// A residual takes some kilobytes for each kind of request that it remains for, where a whole policy is there once.
/// So more candidates than this stay whole ...
const LARGE: usize = 256;

/// ... and all, once so many residuals are there: about 150 MB.
const MOST: usize = 32_768;

/// How many residuals a generation holds.
#[derive(Debug, Default)]
pub(crate) struct Stock(AtomicUsize);

impl Stock {
    #[cfg(test)]
    pub(crate) fn use_up(&self) {
        self.0.store(MOST, Ordering::Relaxed);
    }
}

/// Evaluates the candidates partially.
pub(crate) fn evaluate(
    rules: &[Rule],
    index: &Index,
    schema: &Schema,
    stock: &Stock,
    resource: &Resource,
    kind: EntityType,
    action: Action,
) -> Partial {
    let candidates: Vec<_> = index.candidates(rules, &resource.keys, kind, action).collect();
    let reads = candidates.iter().fold(Reads::NOTHING, |reads, (_, rule)| reads | rule.reads);
    if candidates.len() > LARGE || stock.0.load(Ordering::Relaxed) + candidates.len() > MOST {
        return Partial::Whole(reads);
    }
    let evaluated = try_evaluate(rules, index, schema, &candidates, resource, kind, action);
    if let Some(Partial::Residual(residual)) = &evaluated {
        stock.0.fetch_add(residual.count, Ordering::Relaxed);
    }
    evaluated.unwrap_or(Partial::Whole(reads))
}

fn try_evaluate(
    rules: &[Rule],
    index: &Index,
    schema: &Schema,
    candidates: &[(u32, &Rule)],
    resource: &Resource,
    kind: EntityType,
    action: Action,
) -> Option<Partial> {
    if candidates.is_empty() {
        return Some(Partial::Constant(Verdict::new(rules, &Findings::default())));
    }
    let set = PolicySet::from_policies(candidates.iter().map(|(_, rule)| rule.policy.clone())).ok()?;
    let principal = PartialEntityUid::new(kind.name(), None);
    let uid = PartialEntityUid::from_concrete(resource.uid.clone());
    let request = PartialRequest::new(principal, action.uid(), uid, None, schema).ok()?;
    let entities = Entities::from_entities([resource.entity.clone()], None).ok()?;
    let entities = PartialEntities::from_concrete(entities, schema).ok()?;
    let response = set.tpe(&request, &entities, schema).ok()?;
    collect(rules, index, &response, candidates.len())
}

/// Carries over everything: `residual_policies` alone would lose a forbid that is already satisfied.
fn collect(rules: &[Rule], index: &Index, response: &TpeResponse<'_>, expected: usize) -> Option<Partial> {
    let satisfied: Option<Vec<u32>> =
        response.true_permits().chain(response.true_forbids()).map(|id| index.number(id)).collect();
    let erred: Option<Vec<u32>> =
        response.error_permits().chain(response.error_forbids()).map(|id| index.number(id)).collect();
    let known = Findings { satisfied: satisfied?, erred: erred? };
    let residuals: Vec<_> = response.residual_policies().collect();
    let unsatisfied = response.false_permits().chain(response.false_forbids()).count();
    if known.satisfied.len() + known.erred.len() + unsatisfied + residuals.len() != expected {
        return None;
    }
    if residuals.is_empty() {
        return Some(Partial::Constant(Verdict::new(rules, &known)));
    }
    let count = residuals.len();
    let (of_principal, of_request) =
        residuals.into_iter().partition(|policy| Reads::of(policy).is_free_of_context());
    Some(Partial::Residual(Residual {
        known,
        count,
        of_principal: Part::new(rules, index, of_principal)?,
        of_request: Part::new(rules, index, of_request)?,
    }))
}

impl Part {
    fn new(rules: &[Rule], index: &Index, residuals: Vec<Policy>) -> Option<Self> {
        let is_many = residuals.len() > FEW;
        let mut part = Self::default();
        for residual in residuals {
            let rule = rules.get(usize::try_from(index.number(residual.id())?).ok()?)?;
            let key = if is_many { principal_key(&rule.policy) } else { None };
            part.reads = part.reads | Reads::of(&residual);
            part.by_principal.entry(key).or_default().add(rule, residual)?;
        }
        Some(part)
    }
}
