//! Policy files: their names, their text, and what is wrong with them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// One `.cedar` file.
#[derive(Clone, Debug)]
pub struct PolicySource {
    /// Where it was read from; its file name is part of the ids of policies without `@id`.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Something wrong in a policy file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
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

/// A policy's `@id("…")`, or its file's name and its number in that file: `orders.cedar#3`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PolicyId(pub(crate) Arc<str>);

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
