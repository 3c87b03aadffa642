//! Strict validation of all policies against the schema.

use std::num::NonZero;
use std::thread;

use cedar_policy::{PolicySet, Schema, ValidationMode, ValidationWarning, Validator};
use miette::Diagnostic;

use crate::source::{self, PolicySource, Problem, Rule};

/// More policies than this without a resource and a principal in their scope are worth a warning.
const MANY: usize = 100;

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
