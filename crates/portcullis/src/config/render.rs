//! How problems are shown: with source lines on a terminal, as JSON for machines. (One line each is their `Display`.)

use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};
use serde_json::{Value, json};

use super::problem::{Place, Problem, Problems, Severity, Source, Span};

/// Every problem with its source line and labels.
pub(super) fn fancy(problems: &Problems) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode()).with_context_lines(1);
    let mut text = String::new();
    for problem in problems {
        if handler.render_report(&mut text, &Shown::new(problem)).is_err() {
            text.push_str(&problem.to_string());
        }
        text.push('\n');
    }
    text
}

/// Every problem as an object: `severity file line column field message expected suggestion`.
pub(super) fn json(problems: &Problems) -> Value {
    problems
        .iter()
        .map(|problem| {
            let place = &problem.place;
            json!({
                "severity": problem.severity,
                "file": place.source.name,
                "line": place.line,
                "column": place.column,
                "field": place.field,
                "message": problem.message,
                "expected": problem.expected,
                "suggestion": problem.suggestion,
                "related": problem.related.as_ref().map(|(place, why)| json!({
                    "why": why, "file": place.source.name, "line": place.line, "column": place.column,
                })),
            })
        })
        .collect()
}

#[derive(Debug)]
struct Shown {
    message: String,
    help: Option<String>,
    warning: bool,
    labels: Vec<LabeledSpan>,
    source: Option<WholeLines>,
}

impl Shown {
    fn new(problem: &Problem) -> Self {
        let place = &problem.place;
        let mut labels = vec![label(place.span.start, place.span.end, "here")];
        let mut help: Vec<String> = Vec::new();
        help.extend(problem.expected.as_ref().map(|expected| format!("expected {expected}")));
        help.extend(problem.suggestion.as_ref().map(|word| format!("did you mean `{word}`?")));
        if let Some((other, why)) = &problem.related {
            labels.push(label(other.span.start, other.span.end, why));
        }
        let field = if place.field.is_empty() { String::new() } else { format!("`{}`: ", place.field) };
        let source = (!problem.hidden).then(|| WholeLines(Arc::clone(&place.source)));
        let at = if problem.hidden { format!("{place}: ") } else { String::new() };
        Self {
            message: format!("{at}{field}{}", problem.message),
            help: (!help.is_empty()).then(|| help.join("; ")),
            warning: problem.severity == Severity::Warning,
            labels,
            source,
        }
    }
}

fn label(start: usize, end: usize, text: &str) -> LabeledSpan {
    LabeledSpan::new(Some(text.to_owned()), start, end.saturating_sub(start))
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn severity(&self) -> Option<miette::Severity> {
        Some(if self.warning { miette::Severity::Warning } else { miette::Severity::Error })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }
}

/// A text of which the lines of labels are shown whole, and no others: a line nearby may hold a secret.
#[derive(Debug)]
struct WholeLines(Arc<Source>);

impl SourceCode for WholeLines {
    /// Without context the very span, which miette asks for to say where it is; with any, the lines of the span.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let text = &self.0.text;
        let (mut start, mut end) = (span.offset(), span.offset() + span.len());
        if (before, after) != (0, 0) {
            let rest = text.get(end..).ok_or(MietteError::OutOfBounds)?;
            end += rest.find('\n').unwrap_or(rest.len());
            start = text.get(..start).and_then(|head| head.rfind('\n')).map_or(0, |at| at + 1);
        }
        let data = text.get(start..end).ok_or(MietteError::OutOfBounds)?;
        let place = Place::new(&self.0, Span { start, end }, String::new());
        let (line, column, lines) = (place.line - 1, place.column - 1, data.matches('\n').count());
        let name = self.0.name.clone();
        let span = (start, end - start).into();
        Ok(Box::new(MietteSpanContents::new_named(name, data.as_bytes(), span, line, column, lines)))
    }
}
