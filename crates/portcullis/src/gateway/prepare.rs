//! Between reading a configuration and publishing it: stores are asked for what the configuration needs.

use crate::config::Span;

/// What is wrong, and the entry that is to blame.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) span: Span,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(span: Span, reason: impl std::fmt::Display) -> Self {
        Self { span, reason: reason.to_string() }
    }
}
