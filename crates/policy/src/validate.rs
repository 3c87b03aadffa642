//! Strict validation of all policies against the schema.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::thread;

use cedar_policy::{PolicySet, ResourceConstraint, Schema, ValidationMode, ValidationWarning, Validator};
use miette::Diagnostic;

use crate::facts::RouteFacts;
use crate::source::{self, PolicySource, Problem, Rule};

/// More policies than this without a resource and a principal in their scope are worth a warning.
const MANY: usize = 100;

/// So many routes are named in a warning.
const SHOWN: usize = 10;

/// The problems and the warnings that Cedar finds. A policy that can never apply is a problem: a forbid that protects
/// nothing looks like one that does.
pub(crate) fn validate(
    sources: &[PolicySource],
    rules: &[(usize, Rule)],
    schema: &Schema,
) -> (Vec<Problem>, Vec<Problem>) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = rules.len().div_ceil(threads).max(1);
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    thread::scope(|scope| {
        let shares: Vec<_> = rules
            .chunks(share)
            .map(|rules| (rules, scope.spawn(move || validate_share(sources, rules, schema))))
            .collect();
        for (rules, share) in shares {
            match share.join() {
                Ok((found, warned)) => {
                    problems.extend(found);
                    warnings.extend(warned);
                }
                Err(_) => problems.extend(
                    rules
                        .iter()
                        .map(|(_, rule)| rule.place.problem("the policy could not be validated", None)),
                ),
            }
        }
    });
    warnings.sort();
    (problems, warnings)
}

/// A warning if `count` policies name neither a resource nor a principal and that is many.
pub(crate) fn unscoped(rules: &[Rule], count: usize) -> Option<Problem> {
    let rule = rules.first()?;
    (count > MANY).then(|| {
        rule.place.problem(
            format!(
                "{count} policies name neither a principal nor a resource, so each request meets all of them"
            ),
            Some("name a route, a label, a role or a principal between the parentheses".to_owned()),
        )
    })
}

/// Warnings for policies that name a route which is not among `routes`; none if no routes are known.
pub(crate) fn unknown_routes(rules: &[Rule], routes: &[RouteFacts]) -> Vec<Problem> {
    let names: BTreeSet<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let warn = |rule: &Rule| {
        let named = rule.policy.entity_literals().into_iter();
        let named: BTreeSet<String> = named
            .filter(|uid| uid.type_name().basename() == "Route")
            .map(|uid| uid.id().unescaped().to_owned())
            .collect();
        let unknown = named.into_iter().filter(|name| !names.contains(name.as_str()));
        let warning = |name| {
            let known: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
            let more = if names.len() > SHOWN { ", …" } else { "" };
            rule.place.problem(
                format!("for policy `{}`, there is no route `{name}`", rule.id.as_str()),
                Some(format!("the routes are {}{more}", known.join(", "))),
            )
        };
        unknown.map(warning).collect::<Vec<_>>()
    };
    rules.iter().flat_map(warn).collect()
}

/// Warnings for policies about a scope that no minted token may carry; none if no scopes are known.
pub(crate) fn unknown_scopes(rules: &[Rule], scopes: &[String]) -> Vec<Problem> {
    let warn = |rule: &Rule| {
        let ResourceConstraint::Eq(uid) = rule.policy.resource_constraint() else { return None };
        let name = uid.id().unescaped();
        let is_known = uid.type_name().basename() != "Scope" || scopes.iter().any(|scope| scope == name);
        (!is_known).then(|| {
            rule.place.problem(
                format!("for policy `{}`, no minted token has a scope `{name}`", rule.id.as_str()),
                Some(format!("the scopes are `{}`", scopes.join("`, `"))),
            )
        })
    };
    if scopes.is_empty() { Vec::new() } else { rules.iter().filter_map(warn).collect() }
}

/// Takes out of a message for which action Cedar noticed: it says the same of each that the policy applies to.
fn forget_action(message: &mut String) {
    const BEFORE: &str = " in context for Action::\"";
    let Some(start) = message.find(BEFORE) else { return };
    let name = start + BEFORE.len();
    let Some(length) = message.get(name..).and_then(|rest| rest.find('"')) else { return };
    message.replace_range(start..=name + length, " in context");
}

fn validate_share(
    sources: &[PolicySource],
    rules: &[(usize, Rule)],
    schema: &Schema,
) -> (Vec<Problem>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let validator = Validator::new(schema.clone());
    for (source, rule) in rules {
        let Some(source) = sources.get(*source) else { continue };
        let report = |diagnostic: &dyn Diagnostic| source::problem(source, Some(&rule.place), diagnostic);
        let Ok(set) = PolicySet::from_policies([rule.policy.clone()]) else {
            problems.push(rule.place.problem("the policy could not be validated", None));
            continue;
        };
        let result = validator.validate(&set, ValidationMode::Strict);
        let mut errors: Vec<Problem> = result.validation_errors().map(|error| report(error)).collect();
        // One mistake shows up once for each kind of request that the policy can apply to.
        errors.iter_mut().for_each(|error| forget_action(&mut error.message));
        errors.sort();
        errors.dedup();
        let has_errors = !errors.is_empty();
        problems.append(&mut errors);
        for warning in result.validation_warnings() {
            match warning {
                ValidationWarning::ImpossiblePolicy(_) if has_errors => {}
                ValidationWarning::ImpossiblePolicy(_) => problems.push(report(warning)),
                warning => warnings.push(report(warning)),
            }
        }
    }
    (problems, warnings)
}
