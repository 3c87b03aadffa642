//! Policy cases: expectations as data beside the policies, run by `portcullis policy test` and in CI.

use crate::facts::RouteFacts;
use crate::schema::ClaimSchema;
use crate::source::{PolicySource, Problem};

/// A file of cases.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The cases, in order.
    pub cases: Vec<Case>,
}

/// One request and what policy must say to it.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case says, as a sentence.
    pub name: String,
}

/// What became of a case.
#[derive(Clone, Debug)]
pub struct CaseOutcome {
    /// The case's name.
    pub name: String,
    /// Why it failed; `None` if policy said what was expected.
    pub failure: Option<String>,
}

/// Runs `cases` over the policies in `sources`. `routes` are the configured ones, for cases that only name one.
///
/// # Errors
/// The problems of the policies, as [`Engine::compile`](crate::Engine::compile) finds them.
pub fn run_cases(
    _sources: &[PolicySource],
    _claims: &ClaimSchema,
    _routes: &[RouteFacts],
    _cases: &[Case],
) -> Result<Vec<CaseOutcome>, Vec<Problem>> {
    Ok(Vec::new())
}
