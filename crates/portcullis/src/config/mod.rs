//! The configuration file: one YAML file, read whole, checked whole, reported whole.
//!
//! **Passes:** a file in which every key is known, every value has its type, every name resolves, and every file that it
//! names loads. **Refused:** everything else, with all problems at once; nothing starts or changes then. [`load`] is the
//! one function that `check`, `run` and every reload use, so that they agree on every input.

mod check;
mod finding;
pub mod model;
mod problem;
mod raw;
mod reader;
mod render;
mod seam;
mod tree;
mod values;

use std::path::Path;
use std::sync::Arc;

pub use self::problem::{Place, Problem, Problems, Severity, Source, Span, Spanned};

use self::model::Config;

/// What a text says, without a look at the files that it names; warnings and errors come with it.
///
/// `name` is what messages call the text, `directory` is where the files lie that it names. The configuration is there
/// if and only if no problem is an error.
#[must_use]
pub fn read(name: &str, text: String, directory: &Path) -> (Option<Config>, Problems) {
    let source = Arc::new(Source { name: name.to_owned(), text });
    let mut findings = Vec::new();
    let tree = match tree::parse(&source.text, &mut findings) {
        Ok(tree) => Some(tree),
        Err(finding) => {
            findings.push(*finding);
            None
        }
    };
    let file = tree.as_ref().and_then(|tree| reader::read(tree, &mut findings));
    let config = file.and_then(|file| check::check(file, directory, &mut findings));
    let placed = findings.into_iter().map(|finding| finding.place(&source, tree.as_ref())).collect();
    let problems = Problems::new(placed);
    (config.filter(|_| problems.errors() == 0), problems)
}

#[cfg(test)]
mod tests;
