//! The policies beside the configuration: read, compiled against it, and reported with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use identity::jwt::ClaimKind;
use identity::sha256;
use policy::{ClaimSchema, ClaimType, Compiler, Engine, PolicySource, RouteFacts};

use super::Placing;
use super::finding::Finding;
use super::model::{Config, FileReference};
use super::problem::{Place, Problem, Severity, Source, Span};
use super::rules;

/// The `*.cedar` files of a directory, in the order of their names.
///
/// # Errors
/// A directory or file that cannot be read, in words.
pub fn read(directory: &Path) -> Result<Vec<PolicySource>, String> {
    let failed = |path: &Path, error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| failed(directory, error))? {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            paths.push(path);
        }
    }
    paths.sort();
    let source = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(text) => Ok(PolicySource { path, text }),
        Err(error) => Err(failed(&path, error)),
    };
    paths.into_iter().map(source).collect()
}

/// Stands for a configuration with its policies and the core rule set in `rules`: the same for the same texts.
#[must_use]
pub fn fingerprint(text: &str, sources: &[PolicySource], rules: Option<&Path>) -> [u8; 32] {
    let mut all = sha256(text.as_bytes()).to_vec();
    all.extend(rules.map(rules::stamp).unwrap_or_default());
    for source in sources {
        all.extend(sha256(source.path.as_os_str().as_encoded_bytes()));
        all.extend(sha256(source.text.as_bytes()));
    }
    sha256(&all)
}

/// The claims that policies may read: those that any issuer maps. Each has one type: the check refuses a second one.
#[must_use]
pub fn claims(config: &Config) -> ClaimSchema {
    let mapped = config.jwt.values().flat_map(|issuer| &issuer.claims);
    let kind = |kind| match kind {
        ClaimKind::String => ClaimType::String,
        ClaimKind::Bool => ClaimType::Bool,
        ClaimKind::Long => ClaimType::Long,
        ClaimKind::Strings => ClaimType::Strings,
    };
    mapped.map(|claim| (claim.name.clone(), kind(claim.kind))).collect()
}

/// The routes as policies see them, in the order of the configuration.
#[must_use]
pub fn routes(config: &Config) -> Vec<RouteFacts> {
    let facts = |route: &super::model::Route| RouteFacts {
        name: route.name.to_string(),
        labels: route.labels.clone(),
    };
    config.routes.iter().map(facts).collect()
}

/// The scopes that minted tokens may carry, each once.
#[must_use]
pub fn scopes(config: &Config) -> Vec<String> {
    let all: BTreeSet<&String> = config.tokens.values().flat_map(|tokens| &tokens.scopes).collect();
    all.into_iter().cloned().collect()
}

/// Policies that are fit to decide.
pub(super) struct Compiled {
    pub(super) engine: Engine,
    pub(super) compiler: Compiler,
    pub(super) sources: Vec<PolicySource>,
}

/// The engine for a configuration, unless its policies have problems; those are added to the others.
pub(super) fn compile(config: &Config, place: &mut Placing) -> Option<Compiled> {
    let sources = match config.policies.as_ref().map(|reference| (reference, read(&reference.path))) {
        None => Vec::new(),
        Some((_, Ok(sources))) => sources,
        Some((FileReference { span, .. }, Err(reason))) => {
            place.add(vec![Finding::error(*span, reason).expecting("a directory with `*.cedar` files")]);
            return None;
        }
    };
    match Engine::compile_granting(&sources, &claims(config), routes(config), &scopes(config)) {
        Ok((engine, compiler)) => {
            place.problems.extend(problems(engine.warnings(), &sources, Severity::Warning));
            Some(Compiled { engine, compiler, sources })
        }
        Err(found) => {
            place.problems.extend(problems(&found, &sources, Severity::Error));
            None
        }
    }
}

/// Cedar's problems with their source, so that they are shown like all others.
#[must_use]
pub fn problems(found: &[policy::Problem], sources: &[PolicySource], severity: Severity) -> Vec<Problem> {
    let shown = |path: &Path, text: &str| {
        Arc::new(Source { name: path.display().to_string(), text: text.to_owned() })
    };
    let texts: BTreeMap<&Path, Arc<Source>> =
        sources.iter().map(|source| (source.path.as_path(), shown(&source.path, &source.text))).collect();
    let problem = |found: &policy::Problem| {
        let source = texts.get(found.path.as_path()).cloned().unwrap_or_else(|| shown(&found.path, ""));
        let (line, column) = (found.line as usize, found.column as usize);
        let span = byte(&source.text, line, column);
        Problem {
            severity,
            place: Place { source, span, line, column, field: String::new() },
            message: match &found.help {
                Some(help) => format!("{}; {help}", found.message),
                None => found.message.clone(),
            },
            expected: None,
            suggestion: None,
            related: None,
            hidden: false,
        }
    };
    found.iter().map(problem).collect()
}

fn byte(text: &str, line: usize, column: usize) -> Span {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(before..).unwrap_or_default();
    let inside = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
    Span { start: before + inside, end: before + inside }
}
