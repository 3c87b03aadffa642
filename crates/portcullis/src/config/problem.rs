//! What is wrong with a configuration, and where.
//!
//! A [`Problem`] names the place (file, line, column, field), what was found, what was expected and, where a word is
//! close to a known one, what may have been meant. Text that may be a secret is never quoted: such a problem is
//! [`Problem::hidden`] and is shown without its source line.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::render;

/// A range of bytes in the file that is being read.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// Whether a problem stops the configuration.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing starts or changes.
    Error,
    /// Allowed, and probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A text that positions refer to: the configuration, or a policy file beside it.
#[derive(Debug)]
pub struct Source {
    /// The file's name as the user wrote it.
    pub name: String,
    /// What stands in it; what was not understood and may be a secret is replaced.
    pub text: String,
}

/// A place in a [`Source`]. Lines and columns start at 1, columns count characters.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The bytes.
    pub span: Span,
    /// The line of the first byte.
    pub line: usize,
    /// The column of the first byte.
    pub column: usize,
    /// The field, such as `listeners.edge.bind`; empty for the file as a whole.
    pub field: String,
}

impl Place {
    /// The place of `span` in `source`; a span beyond the end is the end.
    #[must_use]
    pub fn new(source: &Arc<Source>, span: Span, field: String) -> Self {
        let before = source.text.get(..span.start).unwrap_or(&source.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { source: Arc::clone(source), span, line, column, field }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.name, self.line, self.column)
    }
}

/// One thing that is wrong, or looks wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Whether it stops the configuration.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What was found.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// The known word that is closest to the one found.
    pub suggestion: Option<String>,
    /// Another place that belongs to it, and why.
    pub related: Option<(Place, String)>,
    /// The text at the place may be a secret: it is not shown.
    pub hidden: bool,
}

impl fmt::Display for Problem {
    /// One line: `file:line:column: error: message (expected …; did you mean …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.place, self.severity)?;
        if !self.place.field.is_empty() {
            write!(f, "`{}`: ", self.place.field)?;
        }
        f.write_str(&self.message)?;
        let hints: Vec<String> = [
            self.expected.as_ref().map(|expected| format!("expected {expected}")),
            self.suggestion.as_ref().map(|word| format!("did you mean `{word}`?")),
            self.related.as_ref().map(|(place, why)| format!("{why} {}:{}", place.line, place.column)),
        ]
        .into_iter()
        .flatten()
        .collect();
        if hints.is_empty() { Ok(()) } else { write!(f, " ({})", hints.join("; ")) }
    }
}

/// Everything that is wrong with a configuration, in the order of the file; errors and warnings.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems, sorted by file, place and severity.
    #[must_use]
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| {
            let key = |problem: &Problem| (problem.place.span.start, problem.severity);
            a.place.source.name.cmp(&b.place.source.name).then_with(|| key(a).cmp(&key(b)))
        });
        Self(problems)
    }

    /// The problems in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Whether there is nothing to report.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of the problems stop the configuration.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// How many are warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.0.len() - self.errors()
    }

    /// With source lines and labels, for a terminal.
    #[must_use]
    pub fn fancy(&self) -> String {
        render::fancy(self)
    }

    /// As JSON, for machines.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        render::json(self)
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    /// One line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

impl std::error::Error for Problems {}

/// The word among `known` that is close enough to `word` to be what was meant.
#[must_use]
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > CLOSE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Below this, a suggestion is noise (`upstream` and `limits` are 0.43 alike, `lisen` and `listeners` 0.93).
const CLOSE: f64 = 0.8;
