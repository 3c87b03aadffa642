//! One generation of policies over one list of routes.

use crate::explain::Explanation;
use crate::facts::{Facts, RouteFacts, RouteIndex};
use crate::schema::ClaimSchema;
use crate::shadow::ShadowCount;
use crate::source::{PolicySource, Problem};
use crate::subject::Subject;

/// One generation of policies, immutable and shared by all cores. Put it in an `Arc`.
#[derive(Debug)]
pub struct Engine {
    routes: Vec<RouteFacts>,
}

/// The half of an [`Engine`] that evaluates partially, off the traffic cores.
#[derive(Debug)]
pub struct Compiler {}

impl Engine {
    /// An engine that decides over `routes` by the policies in `sources`. No policies is valid: it denies everything.
    ///
    /// # Errors
    /// Every problem of every file: syntax, templates, types and names that the schema does not know, double ids.
    pub fn compile(
        _sources: &[PolicySource],
        _claims: &ClaimSchema,
        routes: Vec<RouteFacts>,
    ) -> Result<(Self, Compiler), Vec<Problem>> {
        Ok((Self { routes }, Compiler {}))
    }

    /// The handle of the route called `name`.
    #[must_use]
    pub fn route(&self, name: &str) -> Option<RouteIndex> {
        let position = self.routes.iter().position(|route| route.name == name)?;
        u32::try_from(position).ok().map(RouteIndex)
    }

    /// What policy problems are worth a word in the log though nothing is wrong: Cedar's warnings, and policies
    /// that no scope narrows down when they are many.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &[]
    }

    /// How many policies are enforced, and how many are `@shadow`.
    #[must_use]
    pub fn policy_count(&self) -> (usize, usize) {
        (0, 0)
    }

    /// What the `@shadow` policies would have done so far.
    #[must_use]
    pub fn shadow_counters(&self) -> Vec<ShadowCount> {
        Vec::new()
    }

    /// Why `subject` may or may not do this: plain Cedar over all policies, for people and not for traffic.
    #[must_use]
    pub fn explain(&self, _subject: &Subject, _route: RouteIndex, _facts: &Facts<'_>) -> Explanation {
        Explanation {
            decision: Err(crate::DenialReason::NoPermit),
            policies: Vec::new(),
            errors: Vec::new(),
            shadows: Vec::new(),
        }
    }
}

impl Compiler {
    /// Serves the engine's deciders until the engine is dropped. Give it a thread of its own.
    pub fn run(self) {}
}
