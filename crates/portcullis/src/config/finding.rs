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
    /// What was not understood and may be a secret: no line is shown with it.
    pub(super) concealed: Option<Span>,
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
            concealed: None,
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

    pub(super) fn concealing(self, concealed: Span) -> Self {
        Self { concealed: Some(concealed), ..self }
    }

    /// With the file's name, line and field; without a tree (the file is not YAML) the field stays empty.
    pub(super) fn place(self, source: &Arc<Source>, tree: Option<&Node>) -> Problem {
        let place = |span: Span| {
            Place::new(source, span, tree.map(|tree| tree.field_at(span.start)).unwrap_or_default())
        };
        let is_hidden = |span| {
            let lines = lines(&source.text, span);
            may_be_secret(lines) || (tree.is_none() && stands_beside_secrets(lines))
        };
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

/// The text with something else in these places, and every byte and column where it was.
pub(super) fn conceal(text: String, places: impl IntoIterator<Item = Span>) -> String {
    places.into_iter().fold(text, |text, Span { start, end }| {
        match (text.get(..start), text.get(start..end), text.get(end..)) {
            (Some(before), Some(within), Some(after)) => {
                let within: String = within.chars().map(stand_in).collect();
                [before, &within, after].concat()
            }
            _ => text,
        }
    })
}

/// A character of the same length.
fn stand_in(character: char) -> char {
    match (character, character.len_utf8()) {
        ('\n' | '\r', _) => character,
        (_, 1) => '*',
        (_, 2) => '·',
        (_, 3) => '•',
        _ => '𐄁',
    }
}

/// Text of the user as it stands in a message: in backticks, on one line, cut.
pub(super) fn quoted(text: &str) -> String {
    if may_be_secret(text) {
        return UNSHOWN.to_owned();
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

/// Whether a line that is no YAML may hold a secret: nobody knows which of its words is a key.
fn stands_beside_secrets(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    KEYS_OF_SECRETS.iter().any(|word| text.contains(word))
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

/// Keys of the configuration that references stand behind, and that [`SECRETS`] does not know.
const KEYS_OF_SECRETS: [&str; 7] = ["token", "role_id", "bearer", "basic", "credentials", "key:", "value:"];

/// What a message calls a text that it does not repeat.
pub(super) const UNSHOWN: &str = "a text that is not shown, since it may be a secret";

/// How much of a text a message repeats.
const QUOTED: usize = 60;
