//! What a reader or check found, before the file's name, line and field are added to it.

use std::sync::Arc;

use super::problem::{Place, Problem, Severity, Source, Span};
use super::tree::Node;

/// A problem of the file that is being read; see [`Problem`] for what the parts mean.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) expected: Option<String>,
    pub(super) suggestion: Option<String>,
    pub(super) related: Option<(Span, String)>,
}

impl Finding {
    /// Something that stops the configuration.
    pub(super) fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            span,
            message: message.into(),
            expected: None,
            suggestion: None,
            related: None,
        }
    }

    /// Something that is allowed and probably not meant.
    pub(super) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    pub(super) fn expecting(self, expected: impl Into<String>) -> Self {
        Self { expected: Some(expected.into()), ..self }
    }

    pub(super) fn suggesting(self, suggestion: Option<String>) -> Self {
        Self { suggestion, ..self }
    }

    pub(super) fn related(self, span: Span, why: impl Into<String>) -> Self {
        Self { related: Some((span, why.into())), ..self }
    }

    /// With the file's name, line and field; without a tree (the file is not YAML) the field stays empty.
    pub(super) fn place(self, source: &Arc<Source>, tree: Option<&Node>) -> Problem {
        let place = |span: Span| {
            Place::new(source, span, tree.map(|tree| tree.field_at(span.start)).unwrap_or_default())
        };
        let is_hidden = |span| may_be_secret(lines(&source.text, span));
        Problem {
            severity: self.severity,
            place: place(self.span),
            message: self.message,
            expected: self.expected,
            suggestion: self.suggestion,
            hidden: is_hidden(self.span) || self.related.as_ref().is_some_and(|(span, _)| is_hidden(*span)),
            related: self.related.map(|(span, why)| (place(span), why)),
        }
    }
}

/// Text of the user as it stands in a message: in backticks, on one line, cut.
pub(super) fn quoted(text: &str) -> String {
    if may_be_secret(text) {
        return "a text that is not shown, since it may be a secret".to_owned();
    }
    let mut shown: String = text.chars().take(QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Whether a text looks like a secret, or like something that is called one: it is not shown then.
fn may_be_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let user_information = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    user_information || SECRETS.iter().any(|word| text.contains(word))
}

/// The whole lines that a span touches.
fn lines(text: &str, span: Span) -> &str {
    let before = text.get(..span.start).unwrap_or_default();
    let after = text.get(span.end..).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = span.end + after.find('\n').unwrap_or(after.len());
    text.get(start..end).unwrap_or_default()
}

/// Words that stand beside secrets, in lower case.
const SECRETS: [&str; 10] = [
    "-----begin",
    "api-key",
    "api_key",
    "apikey",
    "authorization",
    "bearer ",
    "basic ",
    "passphrase",
    "password",
    "secret",
];

/// How much of a text a message repeats.
const QUOTED: usize = 60;
