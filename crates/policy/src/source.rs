//! Policy files: their names, their text, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use cedar_policy::{Policy, PolicySet};
use miette::Diagnostic;
use smol_str::SmolStr;

use crate::reads::Reads;

/// One `.cedar` file.
#[derive(Clone, Debug)]
pub struct PolicySource {
    /// Where it was read from; its file name is part of the ids of policies without `@id`.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Something wrong in a policy file.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", path.display())]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What would help.
    pub help: Option<String>,
}

/// A policy's `@id("…")`, or its file's name and its number in that file: `orders.cedar#3`. Short ones are kept in place: a log record
/// needs not look elsewhere for them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PolicyId(SmolStr);

impl PolicyId {
    /// The id as it stands in logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a policy does where it applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It permits.
    Permit,
    /// It forbids, whatever else permits.
    Forbid,
}

/// A policy, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: PolicyId,
    pub(crate) effect: Effect,
    /// Evaluated and counted, never enforced.
    pub(crate) is_shadow: bool,
    pub(crate) place: Place,
    pub(crate) annotations: BTreeMap<String, String>,
    /// What its conditions read.
    pub(crate) reads: Reads,
    /// Under `id`.
    pub(crate) policy: Policy,
}

/// A place in a file; line and column count from 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    /// The place of the byte at `offset` of `source`.
    pub(crate) fn new(source: &PolicySource, offset: usize) -> Self {
        Lines::new(source).place(offset)
    }

    /// A problem at this place.
    pub(crate) fn problem(&self, message: impl Into<String>, help: Option<String>) -> Problem {
        Problem {
            path: self.path.clone(),
            line: self.line,
            column: self.column,
            message: message.into(),
            help,
        }
    }
}

/// Where the lines of a file start, so that finding many places does not read it many times.
struct Lines<'a> {
    source: &'a PolicySource,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(source: &'a PolicySource) -> Self {
        let ends = source.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { source, starts: std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect() }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|line| self.starts.get(line)).copied().unwrap_or_default();
        let text = &self.source.text;
        let before = text.get(start..offset).or_else(|| text.get(start..)).unwrap_or_default();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place {
            path: self.source.path.clone(),
            line: number(line),
            column: number(before.chars().count()).saturating_add(1),
        }
    }
}

/// All policies of all readable files in order, with the number of the file that each came from; and all problems.
pub(crate) fn read(sources: &[PolicySource]) -> (Vec<(usize, Rule)>, Vec<Problem>) {
    let mut rules: Vec<(usize, Rule)> = Vec::new();
    let mut problems = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        match read_one(source) {
            Ok(read) => rules.extend(read.into_iter().map(|rule| (number, rule))),
            Err(found) => problems.extend(found),
        }
    }
    let mut first: BTreeMap<&PolicyId, &Place> = BTreeMap::new();
    for (_, rule) in &rules {
        if let Some(place) = first.insert(&rule.id, &rule.place) {
            let help =
                format!("the other one is at {}:{}:{}", place.path.display(), place.line, place.column);
            problems
                .push(rule.place.problem(format!("there are two policies called `{}`", rule.id), Some(help)));
        }
    }
    (rules, problems)
}

/// A problem from one of Cedar's diagnostics, at its first label or else at `place`.
pub(crate) fn problem(source: &PolicySource, place: Option<&Place>, diagnostic: &dyn Diagnostic) -> Problem {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let place = match (&label, place) {
        (None, Some(place)) => place.clone(),
        (label, _) => Place::new(source, label.as_ref().map_or(0, miette::LabeledSpan::offset)),
    };
    let hints = [
        diagnostic.help().map(|help| help.to_string()),
        label.and_then(|label| label.label().map(str::to_owned)),
    ];
    let help = hints.into_iter().flatten().collect::<Vec<_>>().join("; ");
    place.problem(diagnostic.to_string(), (!help.is_empty()).then_some(help))
}

fn read_one(source: &PolicySource) -> Result<Vec<Rule>, Vec<Problem>> {
    let set: PolicySet = source.text.parse().map_err(|errors: cedar_policy::ParseErrors| {
        errors.iter().map(|error| problem(source, None, error)).collect::<Vec<_>>()
    })?;
    let mut problems: Vec<Problem> = set
        .templates()
        .map(|template| {
            let offset = template.as_ref().loc().map_or(0, |loc| loc.start());
            Place::new(source, offset).problem(
                "policy templates are not supported",
                Some(
                    "name the principal and the resource instead of `?principal` and `?resource`".to_owned(),
                ),
            )
        })
        .collect();
    let mut policies: Vec<(usize, &Policy)> =
        set.policies().map(|policy| (policy.as_ref().loc().map_or(0, |loc| loc.start()), policy)).collect();
    policies.sort_by_key(|(offset, _)| *offset);
    let lines = Lines::new(source);
    let mut rules = Vec::with_capacity(policies.len());
    for (number, (offset, policy)) in (1..).zip(policies) {
        let place = lines.place(offset);
        problems.extend(misspelt_annotation(policy, &place));
        rules.push(rule(policy, place, number));
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn rule(policy: &Policy, place: Place, number: usize) -> Rule {
    let file = place.path.file_name().unwrap_or(place.path.as_os_str());
    let id = match policy.annotation("id") {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("{}#{number}", Path::new(file).display()),
    };
    Rule {
        reads: Reads::of(policy),
        policy: policy.new_id(cedar_policy::PolicyId::new(&id)),
        id: PolicyId(id.into()),
        effect: match policy.effect() {
            cedar_policy::Effect::Permit => Effect::Permit,
            cedar_policy::Effect::Forbid => Effect::Forbid,
        },
        is_shadow: policy.annotation("shadow").is_some(),
        annotations: policy.annotations().map(|(name, text)| (name.to_owned(), text.to_owned())).collect(),
        place,
    }
}

/// `@shadow` misspelt would put a policy into force that is there to be tried out.
fn misspelt_annotation(policy: &Policy, place: &Place) -> Option<Problem> {
    let (name, _) = policy
        .annotations()
        .find(|(name, _)| *name != "shadow" && strsim::osa_distance(&name.to_lowercase(), "shadow") <= 2)?;
    Some(place.problem(
        format!("unknown annotation `@{name}`"),
        Some("did you mean `@shadow`? without it the policy would be enforced".to_owned()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> PolicySource {
        PolicySource { path: "policies/orders.cedar".into(), text: text.to_owned() }
    }

    fn problems(text: &str) -> Vec<String> {
        read(&[source(text)]).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_policy_without_an_id_is_called_by_its_file_and_number() {
        let text = "// one\npermit(principal, action, resource);\n@id(\"two\") forbid(principal, action, resource);\n permit(principal, action, resource);";
        let (rules, problems) = read(&[source(text)]);
        assert_eq!(problems, []);
        let ids: Vec<_> =
            rules.iter().map(|(_, rule)| (rule.id.as_str(), rule.place.line, rule.place.column)).collect();
        assert_eq!(ids, [("orders.cedar#1", 2, 1), ("two", 3, 1), ("orders.cedar#3", 4, 2)]);
    }

    #[test]
    fn two_policies_of_one_id_are_a_problem() {
        let text = "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);";
        assert_eq!(problems(text), ["policies/orders.cedar:2:1: there are two policies called `a`"]);
    }

    #[test]
    fn every_syntax_error_has_its_place() {
        let found = problems("permit(principal, action, resource);\npermit(principal, akshun, resource);");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("policies/orders.cedar:2:"), "{found:?}");
    }

    #[test]
    fn a_template_is_a_problem() {
        let found = problems("permit(principal == ?principal, action, resource);");
        assert_eq!(found, ["policies/orders.cedar:1:1: policy templates are not supported"]);
    }

    #[test]
    fn a_misspelt_shadow_is_a_problem() {
        let found = problems("@shaddow(\"try\") permit(principal, action, resource);");
        assert_eq!(found, ["policies/orders.cedar:1:1: unknown annotation `@shaddow`"]);
        assert_eq!(problems("@Shadow permit(principal, action, resource);").len(), 1);
    }

    #[test]
    fn columns_count_characters() {
        let place = Place::new(&source("äö\nüxy"), 7);
        assert_eq!((place.line, place.column), (2, 2));
        let end = Place::new(&source("a"), 99);
        assert_eq!((end.line, end.column), (1, 2));
    }
}
