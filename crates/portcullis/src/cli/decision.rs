//! A decision of the policies as commands show it.

use policy::{Effect, Explanation, PolicyNote};
use serde::Serialize;

use super::out::{self, Rows, paint, printable};

/// What policies decided, and which of them.
#[derive(Debug, Serialize)]
pub(super) struct Decision {
    pub(super) allowed: bool,
    /// The stable code of a denial.
    reason: Option<&'static str>,
    explanation: Option<String>,
    policies: Vec<PolicyLine>,
    errors: Vec<PolicyLine>,
    shadows: Vec<PolicyLine>,
}

/// A policy, where it stands, and what happened to it.
#[derive(Debug, Serialize)]
struct PolicyLine {
    id: String,
    effect: &'static str,
    file: String,
    line: u32,
    column: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_change: Option<bool>,
}

impl Decision {
    pub(super) fn new(explanation: &Explanation) -> Self {
        let reason = explanation.decision.err();
        Self {
            allowed: explanation.is_allowed(),
            reason: reason.map(policy::DenialReason::code),
            explanation: reason.map(|reason| reason.to_string()),
            policies: explanation.policies.iter().map(PolicyLine::new).collect(),
            errors: explanation
                .errors
                .iter()
                .map(|fault| PolicyLine {
                    error: Some(fault.message.clone()),
                    ..PolicyLine::new(&fault.policy)
                })
                .collect(),
            shadows: explanation
                .shadows
                .iter()
                .map(|shadow| PolicyLine {
                    error: shadow.error.clone(),
                    would_change: Some(shadow.would_change),
                    ..PolicyLine::new(&shadow.policy)
                })
                .collect(),
        }
    }

    pub(super) fn add_to(&self, rows: &mut Rows) {
        rows.add(
            "decision",
            match (&self.reason, &self.explanation) {
                (Some(code), Some(explanation)) => format!("{}: {explanation}", paint(out::ERROR, code)),
                _ => paint(out::GOOD, "allowed"),
            },
        );
        rows.list("by", self.policies.iter().map(PolicyLine::text));
        rows.list("errors", self.errors.iter().map(PolicyLine::text));
        rows.list("in shadow", self.shadows.iter().map(PolicyLine::text));
    }
}

impl PolicyLine {
    fn new(note: &PolicyNote) -> Self {
        Self {
            id: note.id.to_string(),
            effect: match note.effect {
                Effect::Permit => "permit",
                Effect::Forbid => "forbid",
            },
            file: note.path.display().to_string(),
            line: note.line,
            column: note.column,
            error: None,
            would_change: None,
        }
    }

    fn text(&self) -> String {
        let Self { id, effect, file, line, column, error, would_change } = self;
        let change = match would_change {
            Some(true) => paint(out::WARNING, " would change the decision"),
            Some(false) => " would change nothing".to_owned(),
            None => String::new(),
        };
        let error = error.as_ref().map(|error| format!(": {}", printable(error))).unwrap_or_default();
        format!("{effect} `{}` ({file}:{line}:{column}){change}{error}", printable(id))
    }
}
