//! The configuration file: one YAML file, read whole, checked whole, reported whole.
//!
//! **Passes:** a file in which every key is known, every value has its type, every name resolves, and every file that it
//! names loads. **Refused:** everything else, with all problems at once; nothing starts or changes then. [`load`] is the
//! one function that `check`, `run` and every reload use, so that they agree on every input.

mod check;
pub mod denied;
mod doors;
mod finding;
pub mod material;
pub mod model;
pub mod policies;
mod problem;
mod raw;
mod reader;
mod references;
mod render;
mod routes;
pub mod rules;
pub mod schema;
mod secrets;
mod tree;
mod upstreams;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::policy::{Compiler, Engine};

pub use self::problem::{Place, Problem, Problems, Severity, Source, Span, Spanned};
pub use self::references::references;

use self::finding::Finding;
use self::material::Material;
use self::model::Config;
use self::policies::Compiled;
use self::tree::{Node, Value};
use self::values::Word as _;
use self::values::quantity::Timespan;

/// A configuration that can be published: it and every file that it names are as they should be.
#[derive(Debug)]
pub struct Checked {
    /// What the file says.
    pub config: Config,
    /// What the files that it names hold.
    pub material: Material,
    /// Decides by the policies.
    pub engine: Engine,
    /// The core rule set, if it is asked for.
    pub rules: Option<Arc<waf::Rules>>,
    /// Evaluates them partially for the engine, on a thread of its own.
    pub compiler: Compiler,
    /// Of the texts that this was made from; see [`policies::fingerprint`].
    pub fingerprint: [u8; 32],
    /// What is allowed and probably not meant.
    pub warnings: Problems,
    places: Placing,
}

impl Checked {
    /// Problems that show only when stores are asked: what is wrong, and the entry that is to blame.
    #[must_use]
    pub fn problems(&self, found: Vec<(Span, String)>) -> Problems {
        let Placing { source, tree, .. } = &self.places;
        let findings = found.into_iter().map(|(span, message)| Finding::error(span, message));
        Problems::new(findings.map(|finding| finding.place(source, tree.as_ref())).collect())
    }
}

/// Reads and checks a configuration with everything that it names, as of `now`.
///
/// # Errors
///
/// All problems of the file and of what it names, warnings among them; at least one of them is an error.
pub fn load(path: &Path, now: SystemTime) -> Result<Checked, Problems> {
    let name = path.display().to_string();
    let text = match read_file(path) {
        Ok(text) => text,
        Err(reason) => return Err(unreadable(name, reason)),
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    let (source, tree, config, findings) = parse(&name, text, directory);
    let mut place = Placing { source, tree, problems: Vec::new() };
    place.add(findings);
    let Some(config) = config else { return Err(Problems::new(place.problems)) };
    let (material, mut findings) = Material::load(&config, now);
    let rules = rules::load(&config, &mut findings);
    place.add(findings);
    let compiled = policies::compile(&config, &mut place);
    let problems = Problems::new(std::mem::take(&mut place.problems));
    match compiled {
        Some(Compiled { engine, compiler, sources }) if problems.errors() == 0 => {
            let fingerprint = policies::fingerprint(&place.source.text, &sources, rules_path(&config));
            Ok(Checked {
                config,
                material,
                engine,
                rules,
                compiler,
                fingerprint,
                warnings: problems,
                places: place,
            })
        }
        _ => Err(problems),
    }
}

/// What a text says, without a look at the files that it names; warnings and errors come with it.
///
/// `name` is what messages call the text, `directory` is where the files lie that it names. The configuration is there
/// if and only if no problem is an error.
#[must_use]
pub fn read(name: &str, text: String, directory: &Path) -> (Option<Config>, Problems) {
    let (source, tree, config, findings) = parse(name, text, directory);
    let mut place = Placing { source, tree, problems: Vec::new() };
    place.add(findings);
    let problems = Problems::new(place.problems);
    (config.filter(|_| problems.errors() == 0), problems)
}

/// A time as the configuration writes it: `90s`, `5m`, `24h`.
///
/// # Errors
/// What was expected.
pub fn time(text: &str) -> Result<Duration, &'static str> {
    Timespan::parse(text).map(|time| time.0).map_err(|_| Timespan::EXPECTED)
}

/// The control socket that a text names, if it is YAML; nothing else in it need be right.
#[must_use]
pub fn control_socket(text: &str, directory: &Path) -> Option<PathBuf> {
    let tree = tree::parse(text, &mut Vec::new()).ok()?;
    match &tree.member("admin")?.member("socket")?.value {
        Value::Scalar(path) => Some(directory.join(path)),
        _ => None,
    }
}

/// Turns findings into problems: with the file, and the field in it.
#[derive(Debug)]
struct Placing {
    source: Arc<Source>,
    tree: Option<Node>,
    problems: Vec<Problem>,
}

impl Placing {
    fn add(&mut self, findings: Vec<Finding>) {
        let placed = findings.into_iter().map(|finding| finding.place(&self.source, self.tree.as_ref()));
        self.problems.extend(placed);
    }
}

fn parse(
    name: &str,
    text: String,
    directory: &Path,
) -> (Arc<Source>, Option<Node>, Option<Config>, Vec<Finding>) {
    let mut findings = Vec::new();
    let tree = match tree::parse(&text, &mut findings) {
        Ok(tree) => Some(tree),
        Err(finding) => {
            findings.push(*finding);
            None
        }
    };
    let file = tree.as_ref().and_then(|tree| reader::read(tree, &mut findings));
    let config = file.and_then(|file| check::check(file, directory, &mut findings));
    let text = finding::conceal(text, findings.iter().filter_map(|finding| finding.concealed));
    (Arc::new(Source { name: name.to_owned(), text }), tree, config, findings)
}

fn rules_path(config: &Config) -> Option<&Path> {
    config.waf.as_ref().map(|waf| waf.rules.path.as_path())
}

fn read_file(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > LARGEST {
        return Err(format!("too large: {size} bytes, at most {LARGEST} are read"));
    }
    fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

fn unreadable(name: String, reason: String) -> Problems {
    let source = Arc::new(Source { name, text: String::new() });
    Problems::new(vec![Finding::error(Span::default(), reason).place(&source, None)])
}

/// Ten thousand routes take about 3 MiB.
const LARGEST: u64 = 16 << 20;

#[cfg(test)]
mod tests;
