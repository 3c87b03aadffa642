//! Policies by their scope, so that a request meets only those that can apply to it.
//!
//! A scope that does not match can neither apply nor err (Cedar evaluates it first, and it cannot fail), so leaving
//! such policies out changes nothing.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Authorizer, EntityUid, Policy, PolicySet, PrincipalConstraint, Request,
    ResourceConstraint,
};

use crate::action::Action;
use crate::names::EntityType;
use crate::source::{Effect, Rule};
use crate::verdict::Findings;

/// What a scope names: an entity that the request's must be or be in, or none.
pub(crate) type Key = Option<EntityUid>;

/// Policies in groups within which Cedar reports every policy that matters here. Permits and forbids that are
/// enforced share a group; shadows do not, or a forbid would hide the permits beside it.
#[derive(Debug, Default)]
pub(crate) struct Groups(Vec<(Group, PolicySet)>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Group {
    Enforced,
    Shadow(Effect),
}

impl Groups {
    /// Adds what remains of `rule`, or all of it, as `policy`. Policies that share an id are refused.
    pub(crate) fn add(&mut self, rule: &Rule, policy: Policy) -> Option<()> {
        let group = if rule.is_shadow { Group::Shadow(rule.effect) } else { Group::Enforced };
        let set = match self.0.iter_mut().position(|(of, _)| *of == group) {
            Some(position) => &mut self.0.get_mut(position)?.1,
            None => {
                self.0.push((group, PolicySet::new()));
                &mut self.0.last_mut()?.1
            }
        };
        set.add(policy).ok()
    }

    /// The policies of each group.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &PolicySet> {
        self.0.iter().map(|(_, set)| set)
    }
}

/// Policies by what their principal scope names.
pub(crate) type ByPrincipal = HashMap<Key, Groups>;

/// All policies by what their scopes name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_scope: HashMap<Key, ByPrincipal>,
    by_resource: HashMap<Key, Vec<u32>>,
    number: HashMap<cedar_policy::PolicyId, u32>,
}

impl Index {
    /// An index over `rules`, whose places are their numbers.
    pub(crate) fn new(rules: &[Rule]) -> Option<Self> {
        let mut index = Self::default();
        for (number, rule) in (0..).zip(rules) {
            let resource = resource_key(&rule.policy);
            let by_principal = index.by_scope.entry(resource.clone()).or_default();
            by_principal.entry(principal_key(&rule.policy)).or_default().add(rule, rule.policy.clone())?;
            index.by_resource.entry(resource).or_default().push(number);
            index.number.insert(rule.policy.id().clone(), number);
        }
        Some(index)
    }

    /// The number of the policy that Cedar calls `id`.
    pub(crate) fn number(&self, id: &cedar_policy::PolicyId) -> Option<u32> {
        self.number.get(id).copied()
    }

    /// The policies whose resource scope can match what `resources` names, by their principal scope.
    pub(crate) fn by_principal<'a>(&'a self, resources: &'a [Key]) -> impl Iterator<Item = &'a ByPrincipal> {
        resources.iter().filter_map(|key| self.by_scope.get(key))
    }

    /// The numbers of the policies that can apply to a principal of this type, by this action, on a resource that
    /// `resources` names.
    pub(crate) fn candidates<'a>(
        &'a self,
        rules: &'a [Rule],
        resources: &'a [Key],
        kind: EntityType,
        action: Action,
    ) -> impl Iterator<Item = (u32, &'a Rule)> {
        resources
            .iter()
            .filter_map(|key| self.by_resource.get(key))
            .flatten()
            .filter_map(|number| Some((*number, rules.get(usize::try_from(*number).ok()?)?)))
            .filter(move |(_, rule)| may_be_by(&rule.policy, kind) && may_do(&rule.policy, action))
    }

    /// How many policies name neither a resource nor a principal: each of them meets every request.
    pub(crate) fn unscoped(&self) -> usize {
        let groups = self.by_scope.get(&None).and_then(|by_principal| by_principal.get(&None));
        groups.map_or(0, |groups| groups.sets().map(PolicySet::num_of_policies).sum())
    }

    /// Asks Cedar, group by group. `None` if Cedar names a policy that nobody gave it.
    pub(crate) fn evaluate<'a>(
        &self,
        groups: impl Iterator<Item = &'a Groups>,
        request: &Request,
        entities: &cedar_policy::Entities,
        findings: &mut Findings,
    ) -> Option<()> {
        let authorizer = Authorizer::new();
        for set in groups.flat_map(Groups::sets) {
            let response = authorizer.is_authorized(request, set, entities);
            for id in response.diagnostics().reason() {
                findings.satisfied.push(self.number(id)?);
            }
            for error in response.diagnostics().errors() {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
                findings.erred.push(self.number(error.policy_id())?);
            }
        }
        Some(())
    }
}

/// The groups whose principal scope can match what `principals` names.
pub(crate) fn meet<'a>(
    by_principal: &'a ByPrincipal,
    principals: &'a [Key],
) -> impl Iterator<Item = &'a Groups> {
    principals.iter().filter_map(|key| by_principal.get(key))
}

/// What the principal scope of `policy` names.
pub(crate) fn principal_key(policy: &Policy) -> Key {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(uid)
        }
    }
}

fn resource_key(policy: &Policy) -> Key {
    match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
            Some(uid)
        }
    }
}

fn may_be_by(policy: &Policy, kind: EntityType) -> bool {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
        PrincipalConstraint::Is(of) | PrincipalConstraint::IsIn(of, _) => of == kind.name(),
        PrincipalConstraint::Eq(uid) => *uid.type_name() == kind.name(),
    }
}

fn may_do(policy: &Policy, action: Action) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => action.is_in(&uid),
        ActionConstraint::In(uids) => uids.iter().any(|uid| action.is_in(uid)),
    }
}
